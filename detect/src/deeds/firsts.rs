//! Which deeds were done before, by whom, and to what: sets of their own beside the baseline's.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use hedgerow_event::{Deed, Subject, Workload};
use hedgerow_features::{EPHEMERAL_PORT_FIRST, ItemKey, WORKLOADS_LIMIT, fair, place_of};
use serde::{Deserialize, Serialize};

use super::files::CLAIMED;
use crate::parts;

/// Different deeds of one kind that a workload remembers. Past it those make room that were done longest
/// ago: they are told again, and their rate tells whether they are common.
pub const FIRSTS_MAX: usize = 2_048;

/// One workload's, or the host's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Sets {
    /// It was watched while learning, so that absence means something.
    learned: bool,
    done: BTreeMap<Deed, Done>,
    /// Of each kind, deeds that had to go for others.
    refused: BTreeMap<Deed, u64>,
    /// When something was last learned of it.
    #[serde(default)]
    used: u64,
}

/// Deeds of one kind, and when each was done last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Saved")]
struct Done(BTreeMap<u64, u64>);

/// An older version wrote no times.
#[derive(Deserialize)]
#[serde(untagged)]
enum Saved {
    Dated(BTreeMap<u64, u64>),
    Bare(BTreeSet<u64>),
}

impl From<Saved> for Done {
    fn from(saved: Saved) -> Self {
        match saved {
            Saved::Dated(done) => Self(done),
            Saved::Bare(done) => Self(done.into_iter().map(|key| (key, 0)).collect()),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firsts {
    host: Sets,
    /// As many as [`WORKLOADS_LIMIT`] that were watched while learning, and as many that were not.
    workloads: BTreeMap<Workload, Sets>,
    /// Workloads that had to go for others, and what those did that found no room while learning.
    workloads_refused: u64,
    /// What was learned or done again so far: the clock by which deeds are old.
    #[serde(default)]
    uses: u64,
}

impl Sets {
    fn insert(&mut self, deed: Deed, key: u64, now: u64) {
        let Done(done) = self.done.entry(deed).or_default();
        if done.len() >= FIRSTS_MAX && !done.contains_key(&key) {
            let all = done.iter().map(|(key, used)| ((), *used, *key));
            let gone = fair::make_room(all, fair::room(FIRSTS_MAX));
            *self.refused.entry(deed).or_default() += gone.len() as u64;
            for key in gone {
                done.remove(&key);
            }
        }
        done.insert(key, now);
        self.used = now;
    }

    fn knows(&self, deed: Deed, key: u64) -> bool {
        self.done.get(&deed).is_some_and(|done| done.0.contains_key(&key))
    }

    /// Notes that a deed that it knows was done again.
    fn again(&mut self, deed: Deed, key: u64, now: u64) -> bool {
        let known = self.done.get_mut(&deed).and_then(|done| done.0.get_mut(&key));
        known.map(|used| *used = now).is_some()
    }

    fn absorb(&mut self, other: Self) {
        self.learned |= other.learned;
        for (deed, refused) in other.refused {
            let own = self.refused.entry(deed).or_default();
            *own = (*own).max(refused);
        }
        for (deed, done) in other.done {
            let Done(own) = self.done.entry(deed).or_default();
            // Each run has a clock of its own.
            own.extend(done.0.into_keys().map(|key| (key, 0)));
            if own.len() > FIRSTS_MAX {
                self.refused.insert(deed, 1);
            }
            parts::keep(own, FIRSTS_MAX);
        }
        self.refused.values_mut().for_each(|refused| *refused = 1);
    }
}

impl Firsts {
    /// Adds what another run taught. What overflows keeps what has the least hashes, so that the order
    /// of runs decides nothing; that something was refused is told as 1.
    pub fn absorb(&mut self, other: Self, items: ItemKey) {
        self.host.absorb(other.host);
        for (workload, sets) in other.workloads {
            self.workloads.entry(workload).or_default().absorb(sets);
        }
        let over =
            parts::keep_least(&mut self.workloads, WORKLOADS_LIMIT, |one| items.workload(one));
        self.workloads_refused =
            self.workloads_refused.max(other.workloads_refused).min(1).max(u64::from(over));
    }

    /// Whether it was never learned. A workload that was not watched while learning is judged by
    /// what any of the host's did.
    pub fn is_first(&self, items: ItemKey, subject: &Subject, deed: Deed, what: &str) -> bool {
        let key = key(items, subject, deed, what);
        match self.workloads.get(&subject.workload) {
            Some(own) if own.learned => !own.knows(deed, key),
            own => !own.is_some_and(|own| own.knows(deed, key)) && !self.host.knows(deed, key),
        }
    }

    /// Notes that a deed that is none of those was done again.
    pub fn again(&mut self, items: ItemKey, subject: &Subject, deed: Deed, what: &str) {
        let key = key(items, subject, deed, what);
        self.uses += 1;
        let own = self.workloads.get_mut(&subject.workload);
        if !own.is_some_and(|own| own.again(deed, key, self.uses)) {
            self.host.again(deed, key, self.uses);
        }
    }

    /// Notes that a workload is watched while learning.
    pub fn watch(&mut self, workload: &Workload) {
        if self.workloads.get(workload).is_some_and(|own| own.learned) {
            return;
        }
        if self.workloads.values().filter(|own| own.learned).count() >= WORKLOADS_LIMIT {
            self.workloads_refused += 1;
            return;
        }
        self.sets(workload).learned = true;
    }

    /// Learns what was done while learning: the host does, too.
    pub fn learn(&mut self, items: ItemKey, subject: &Subject, deed: Deed, what: &str) {
        self.host.insert(deed, key(items, subject, deed, what), self.uses);
        self.accept(items, subject, deed, what);
    }

    /// Learns a deed for its workload alone.
    pub fn accept(&mut self, items: ItemKey, subject: &Subject, deed: Deed, what: &str) {
        let key = key(items, subject, deed, what);
        self.uses += 1;
        let now = self.uses;
        self.sets(&subject.workload).insert(deed, key, now);
    }

    /// Takes back what was accepted.
    pub fn forget(&mut self, items: ItemKey, subject: &Subject, deed: Deed, what: &str) {
        let key = key(items, subject, deed, what);
        let own = self.workloads.get_mut(&subject.workload);
        let by_host = own.as_ref().is_none_or(|own| !own.learned);
        // Where it is judged by the host's, too, it would go on being known.
        let host = by_host.then_some(&mut self.host);
        for done in own.into_iter().chain(host).filter_map(|sets| sets.done.get_mut(&deed)) {
            done.0.remove(&key);
        }
    }

    /// A workload's, made where there are none: of those that were not watched while learning, and of who has
    /// most of them, those make room of which something was learned longest ago.
    fn sets(&mut self, workload: &Workload) -> &mut Sets {
        let late = || self.workloads.iter().filter(|(_, own)| !own.learned);
        if !self.workloads.contains_key(workload) && late().count() >= WORKLOADS_LIMIT {
            let all = late().map(|(name, own)| (name.owner(), own.used, name.clone()));
            for name in fair::make_room(all, fair::room(WORKLOADS_LIMIT)) {
                self.workloads.remove(&name);
                self.workloads_refused += 1;
            }
        }
        self.workloads.entry(workload.clone()).or_default()
    }

    /// Deeds that had to go for others.
    pub fn refused(&self) -> u64 {
        let sets = self.workloads.values().chain([&self.host]);
        sets.flat_map(|sets| sets.refused.values()).sum::<u64>() + self.workloads_refused
    }
}

/// By what a deed is known. It is made of what its object says, so that an object is learned by
/// the same key that it was missed by.
fn key(items: ItemKey, subject: &Subject, deed: Deed, what: &str) -> u64 {
    let group = group(deed, what);
    // Ports and addresses are the workload's; an ephemeral port says nothing but who opened it.
    let by_program = match deed {
        Deed::NewListener => group.len() != what.len(),
        Deed::NewSource => false,
        _ => true,
    };
    let program = if by_program { items.program(&subject.program) } else { 0 };
    items.deed(program, deed, &group)
}

/// Within a program, what makes two deeds of a kind different ones.
fn group(deed: Deed, what: &str) -> Cow<'_, str> {
    let first_word = || what.split(' ').next().unwrap_or_default();
    match deed {
        Deed::SetIdBit | Deed::Namespace | Deed::Kernel | Deed::Beacon => first_word().into(),
        Deed::Persistence | Deed::Secret => {
            let path = what.strip_suffix(CLAIMED).unwrap_or(what);
            place_of(path).map_or(path, |place| place.name).into()
        }
        Deed::WroteCode => directory(what).into(),
        Deed::UnderListener | Deed::NewSource => what.into(),
        Deed::NewListener => listener(what).into(),
        _ => "".into(),
    }
}

/// The directory of a path. Names that count or hash, as caches have them, are all one, or each of
/// their directories would be new.
fn directory(path: &str) -> String {
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let parts = directory.split('/').map(|part| {
        let counts = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        if counts { "#" } else { part }
    });
    parts.collect::<Vec<_>>().join("/")
}

/// `port 80/tcp` as it is; all ephemeral ports are the same one.
fn listener(what: &str) -> &str {
    let port =
        what.trim_start_matches("port ").split('/').next().and_then(|port| port.parse().ok());
    match port {
        Some(EPHEMERAL_PORT_FIRST..=u16::MAX) => what.rsplit('/').next().unwrap_or(what),
        _ => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_a_cache_are_one() {
        assert_eq!(directory("/srv/cache/ab/0f3/x.php"), directory("/srv/cache/12/9e/y.php"));
        assert_ne!(directory("/srv/cache/ab/x.php"), directory("/srv/www/ab/x.php"));
    }

    #[test]
    fn ephemeral_ports_are_one_and_others_are_themselves() {
        assert_eq!(listener("port 40000/tcp"), listener("port 50000/tcp"));
        assert_ne!(listener("port 40000/tcp"), listener("port 40000/udp"));
        assert_eq!(listener("port 4444/tcp"), "port 4444/tcp");
    }
}
