//! First-seen sets of one workload, bounded, with how often each item came.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hedgerow_event::{CLASSES, Object, Subject};
use serde::{Deserialize, Serialize};

use crate::item::ItemKey;

/// Kinds of items that a workload remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Set {
    Programs,
    /// (parent, child) programs.
    Children,
    /// Outbound peer addresses.
    Peers,
    /// Outbound (protocol, port); ephemeral ports are one.
    Ports,
    /// Outbound /24 and /64 prefixes.
    Prefixes,
    /// Inbound peer addresses.
    Sources,
    /// Inbound (protocol, local port).
    Listens,
    /// First two components of paths.
    Paths,
    /// (program, user id before, after).
    Privileges,
    /// Programs that may run from memory or a writable place, because an operator said so.
    Accepted,
}

impl Set {
    pub const ALL: [Self; 10] = [
        Self::Programs,
        Self::Children,
        Self::Peers,
        Self::Ports,
        Self::Prefixes,
        Self::Sources,
        Self::Listens,
        Self::Paths,
        Self::Privileges,
        Self::Accepted,
    ];

    /// A denial may rest on a new one: how many of them are still to come tells whether enough was
    /// learned. Clients and paths come as others please, and are no part of it.
    fn decides(self) -> bool {
        matches!(self, Self::Programs | Self::Peers)
    }

    /// Items that a set holds. Where a full one gets another, those make room that were seen longest ago:
    /// they are new again, which is counted. So nobody ends a kind of deed by what he adds to it.
    pub fn limit(self) -> usize {
        match self {
            Self::Programs | Self::Ports | Self::Listens | Self::Accepted => 1_024,
            Self::Children => 2_048,
            Self::Peers | Self::Prefixes | Self::Sources | Self::Paths => 4_096,
            Self::Privileges => 256,
        }
    }
}

/// Programs and peers first seen after the freeze that are remembered of a workload; further ones are counted without being told apart.
pub const PENDING_LIMIT: usize = 4_096;
/// Programs whose mix of call classes is kept; a program past them has no distance.
pub const MIXES_LIMIT: usize = 1_024;
/// Programs that are known to accept connections; past them none is added.
const LISTENERS_LIMIT: usize = 1_024;

/// How often an item was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    text: String,
    last_unit: u32,
    /// Units in which it was seen.
    units: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Items {
    entries: BTreeMap<u64, Entry>,
    /// Items that had to go for others; where an older version wrote it, that came when it was full.
    refused: u64,
}

/// Counts of call classes; the vector is empty or has [`CLASSES`] sums.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Mix(Vec<u64>);

impl Mix {
    fn add(&mut self, classes: &[u32; CLASSES]) {
        self.0.resize(CLASSES, 0);
        for (sum, count) in self.0.iter_mut().zip(classes) {
            *sum += u64::from(*count);
        }
    }

    fn absorb(&mut self, other: &Self) {
        if !other.0.is_empty() {
            self.0.resize(CLASSES, 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(sum, count)| *sum += count);
    }

    pub(super) fn count(&self, class: usize) -> u64 {
        self.0.get(class).copied().unwrap_or(0)
    }

    pub(super) fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// Incidence of a workload's programs and peers, by units of time.
///
/// Good-Turing by incidence: the expected number of never-seen items in the next unit is about
/// `once / units_learned` (Good 1953, with units as samples; Chao and Lee 1992).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incidence {
    /// Units of the fill.
    pub units_learned: u32,
    /// Items seen in exactly one unit of the fill (f1).
    pub once: u64,
    /// Items learned.
    pub items: u64,
    /// Items that had to go for others, of all sets.
    pub refused: u64,
    /// Units since the freeze, the running one included.
    pub units_frozen: u32,
    /// Items first seen since the freeze.
    pub first_seen: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Seen {
    sets: BTreeMap<Set, Items>,
    pub(super) mix: Mix,
    pub(super) mixes: BTreeMap<u64, Mix>,
    /// Programs that fill must not learn.
    distrusted: BTreeSet<u64>,
    /// Programs that accepted a flow, and who started whom: only during fill, to find shells under
    /// listeners whichever came first.
    listeners: BTreeSet<u64>,
    pairs: BTreeMap<u64, (Arc<Subject>, Arc<Subject>)>,
    /// First seen since the freeze.
    pending: BTreeSet<(Set, u64)>,
    pending_dropped: u64,
    /// It came after fill: its sets hold what was learned since, beside the host's.
    #[serde(default)]
    pub(super) late: bool,
    /// The last unit in which it did something, where it is late.
    #[serde(default)]
    pub(super) last_unit: u32,
}

impl Seen {
    /// Of a workload that came after fill.
    pub(super) fn late(unit: u32) -> Self {
        Self { late: true, last_unit: unit, ..Self::default() }
    }

    pub(super) fn contains(&self, set: Set, hash: u64) -> bool {
        self.sets.get(&set).is_some_and(|items| items.entries.contains_key(&hash))
    }

    pub(super) fn learn(&mut self, set: Set, hash: u64, text: &dyn Fn() -> String, unit: u32) {
        if set == Set::Programs && self.distrusted.contains(&hash) {
            return;
        }
        let items = self.sets.entry(set).or_default();
        if let Some(entry) = items.entries.get_mut(&hash) {
            if entry.last_unit != unit {
                entry.last_unit = unit;
                entry.units += 1;
            }
        } else {
            if items.entries.len() >= set.limit() {
                items.make_room(set.limit());
            }
            items.entries.insert(hash, Entry { text: text(), last_unit: unit, units: 1 });
        }
    }

    /// Counts an item of frozen life, without learning it.
    pub(super) fn note(&mut self, set: Set, hash: u64, unit: u32) {
        if self.late {
            self.last_unit = unit;
        }
        if let Some(entry) = self.sets.get_mut(&set).and_then(|items| items.entries.get_mut(&hash))
        {
            entry.last_unit = unit;
            return;
        }
        if self.late || !set.decides() || self.pending.contains(&(set, hash)) {
            return;
        }
        if self.pending.len() < PENDING_LIMIT {
            self.pending.insert((set, hash));
        } else {
            self.pending_dropped += 1;
        }
    }

    /// Learns an item at an operator's word, also one that was distrusted.
    pub(super) fn accept(&mut self, set: Set, hash: u64, text: &str, unit: u32) {
        if set == Set::Accepted {
            self.distrusted.remove(&hash);
        }
        self.pending.remove(&(set, hash));
        self.learn(set, hash, &|| text.to_owned(), unit);
    }

    pub(super) fn forget(&mut self, set: Set, hash: u64) {
        if let Some(items) = self.sets.get_mut(&set) {
            items.entries.remove(&hash);
        }
    }

    /// Marks a program as not to be learned; `false` where it was already.
    pub(super) fn distrust(&mut self, program: u64) -> bool {
        self.forget(Set::Programs, program);
        self.mixes.remove(&program);
        self.distrusted.len() < Set::Programs.limit() && self.distrusted.insert(program)
    }

    pub(super) fn add_mix(&mut self, program: u64, classes: &[u32; CLASSES]) {
        if self.distrusted.contains(&program) {
            return;
        }
        self.mix.add(classes);
        if self.mixes.len() < MIXES_LIMIT || self.mixes.contains_key(&program) {
            self.mixes.entry(program).or_default().add(classes);
        }
    }

    pub(super) fn add_listener(&mut self, program: u64) {
        if self.listeners.len() < LISTENERS_LIMIT {
            self.listeners.insert(program);
        }
    }

    pub(super) fn add_pair(&mut self, hash: u64, parent: &Arc<Subject>, child: &Arc<Subject>) {
        if self.pairs.len() < Set::Children.limit() {
            self.pairs.entry(hash).or_insert_with(|| (parent.clone(), child.clone()));
        }
    }

    /// Ends fill. Returns the pairs that must not stay learned, now removed: a shell under a
    /// listening program, or a child that is distrusted itself.
    pub(super) fn end_learning(&mut self, key: ItemKey) -> Vec<(u64, Object)> {
        let listeners = std::mem::take(&mut self.listeners);
        let mut removed = Vec::new();
        for (hash, (parent, child)) in std::mem::take(&mut self.pairs) {
            let shell = super::is_shell(&child.program.path)
                && listeners.contains(&key.program(&parent.program));
            if shell || self.distrusted.contains(&key.program(&child.program)) {
                self.forget(Set::Children, hash);
                removed.push((hash, Object::NewChild { parent, child }));
            }
        }
        removed
    }

    pub(super) fn incidence(&self, units_learned: u32, units: u32) -> Incidence {
        let mut incidence = Incidence {
            units_learned,
            units_frozen: units - units_learned,
            // What was saved before held the other sets' as well.
            first_seen: self.pending.iter().filter(|(set, _)| set.decides()).count() as u64
                + self.pending_dropped,
            ..Incidence::default()
        };
        for (set, items) in &self.sets {
            incidence.refused += items.refused;
            if !set.decides() {
                continue;
            }
            incidence.items += items.entries.len() as u64;
            for entry in items.entries.values() {
                incidence.once += u64::from(entry.units == 1);
            }
        }
        incidence
    }

    /// Items that had to go for others.
    pub(super) fn refused(&self) -> u64 {
        self.sets.values().map(|items| items.refused).sum()
    }

    pub(super) fn learned(&self) -> impl Iterator<Item = (Set, &str, u32)> {
        self.sets.iter().flat_map(|(set, items)| {
            items.entries.values().map(|entry| (*set, entry.text.as_str(), entry.units))
        })
    }
}

impl Items {
    /// An eighth makes room at once, so that a flood pays for each look through it: what was seen longest
    /// ago, of that by hash, which nobody chooses.
    fn make_room(&mut self, limit: usize) {
        let mut seen: Vec<(u32, u64)> =
            self.entries.iter().map(|(hash, entry)| (entry.last_unit, *hash)).collect();
        seen.sort_unstable();
        for (_, hash) in seen.iter().take(limit.div_ceil(8)) {
            self.entries.remove(hash);
            self.refused += 1;
        }
    }

    fn absorb(&mut self, other: Self, limit: usize) {
        for (hash, entry) in other.entries {
            let Entry { text, units, .. } = entry;
            let own = self.entries.entry(hash).or_insert(Entry {
                text: text.clone(),
                last_unit: 0,
                units: 0,
            });
            own.units += units;
            // A prefix is told by an address of it, the least where runs saw different ones.
            own.text = std::mem::take(&mut own.text).min(text);
        }
        let over = self.entries.len() > limit;
        keep(&mut self.entries, limit);
        self.refused = self.refused.max(other.refused).min(1).max(u64::from(over));
    }
}

fn keep<K: Ord, V>(map: &mut BTreeMap<K, V>, most: usize) {
    while map.len() > most {
        map.pop_last();
    }
}

impl Seen {
    /// Adds what another one learned, see [`super::Baseline::absorb`].
    pub(super) fn absorb(&mut self, other: Self) {
        for (set, items) in other.sets {
            self.sets.entry(set).or_default().absorb(items, set.limit());
        }
        self.mix.absorb(&other.mix);
        for (program, mix) in other.mixes {
            self.mixes.entry(program).or_default().absorb(&mix);
        }
        keep(&mut self.mixes, MIXES_LIMIT);
        self.distrusted.extend(other.distrusted);
        while self.distrusted.len() > Set::Programs.limit() {
            self.distrusted.pop_last();
        }
        self.pending.extend(other.pending);
        let over = self.pending.len() > PENDING_LIMIT;
        while self.pending.len() > PENDING_LIMIT {
            self.pending.pop_last();
        }
        self.pending_dropped =
            self.pending_dropped.max(other.pending_dropped).min(1).max(u64::from(over));
    }

    /// Ends absorbing.
    pub(super) fn settle(&mut self) {
        for program in &self.distrusted {
            self.sets.entry(Set::Programs).or_default().entries.remove(program);
            self.mixes.remove(program);
        }
        let sets = &self.sets;
        let known = |(set, hash): &(Set, u64)| {
            sets.get(set).is_some_and(|items| items.entries.contains_key(hash))
        };
        self.pending.retain(|item| !known(item));
    }
}
