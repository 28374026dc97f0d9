//! Orders of people that hold for a while: maintenance, muted findings, allowances with an end or
//! for one workload; and which findings were seen. Kept over restarts in one file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use hedgerow_event::{Activity, Class, Disposition, Finding, Object, Subject, Workload};
use hedgerow_responder::{By, Now};
use serde::{Deserialize, Serialize};

use super::used::replace;
use crate::{
    control::{Allowance, Maintenance},
    exit::Failure,
    host::ORDERS,
    text,
};

/// Findings that were seen are remembered up to this many; the oldest go first, those that were attacks last.
const SEEN_MAX: usize = 10_000;
/// Mutes and allowances, each; one more is refused.
const EACH_MAX: usize = 1024;
/// The wall clock is set by so much or more where it is set; less is a clock that is disciplined.
const STEP_MIN_NS: i64 = 1_000_000_000;

/// What is like a finding is not told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mute {
    pub uid: String,
    subject: Arc<Subject>,
    /// What it was found by, without amounts.
    objects: Vec<String>,
    pub until_ns: i64,
    by: By,
}

impl Mute {
    fn covers(&self, finding: &Finding) -> bool {
        // A case that does more than it did is another one.
        let has = |objects: &[String]| {
            objects.iter().all(|name| self.objects.contains(name))
                && objects.is_empty() == self.objects.is_empty()
        };
        (self.uid == finding.uid || self.subject == finding.subject)
            && (has(&names(finding)) || counts(finding).is_some_and(|counts| has(&counts)))
    }
}

/// Of amounts what versions before 28 November 2026 named: the mutes that they left hold until they end.
fn counts(finding: &Finding) -> Option<Vec<String>> {
    let column = |object: &Object| match object {
        Object::Count { column, .. } => Some(column.to_string()),
        _ => None,
    };
    let counts = || finding.objects.iter().filter_map(column).collect();
    (finding.class == Class::Measure).then(counts)
}

/// What it was found by: of amounts that program's first column, else objects by what they name: amounts and
/// ports differ each time.
fn names(finding: &Finding) -> Vec<String> {
    if finding.class == Class::Measure {
        let column = finding.attribution.first().map_or("", |share| &*share.feature);
        return vec![format!("{column} of {}", finding.subject)];
    }
    let name = |object: &Object| match object {
        Object::NewPeer { subject, peer, .. } => format!("peer {} of {subject}", peer.address),
        object => unnumbered(&object.to_string()),
    };
    finding.objects.iter().map(name).collect()
}

/// Words that are numbers, as of `4444/tcp` the first part, are all the same.
fn unnumbered(text: &str) -> String {
    let word = |word: &str| {
        let number = word.split('/').next().filter(|number| number.parse::<f64>().is_ok());
        number.map_or_else(|| word.to_owned(), |number| word.replacen(number, "#", 1))
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// A finding that somebody has seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ack {
    pub time_ns: i64,
    pub by: By,
    /// It was an attack. Left out where not: versions before it don't know the field.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attack: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Orders {
    pub maintenance: Vec<Maintenance>,
    pub muted: Vec<Mute>,
    pub allowed: Vec<Allowance>,
    pub seen: BTreeMap<String, Ack>,
    /// Open cases that would be alerted but for a mute; the engine opens only so many.
    #[serde(skip)]
    silenced: BTreeSet<String>,
    /// Both clocks when they were last looked at.
    #[serde(skip)]
    clocks: Option<Now>,
    /// When the file that was read was written, by the wall clock.
    #[serde(skip)]
    saved_ns: i64,
    #[serde(skip)]
    path: PathBuf,
}

impl Orders {
    /// Reads what holds for the daemon with this state directory.
    ///
    /// # Errors
    /// The file can't be read, or isn't what [`Self::save`] writes: an order is not guessed.
    pub fn load(state: &Path) -> anyhow::Result<Self> {
        let path = state.join(ORDERS);
        let orders = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|why| {
                let path = path.display();
                Failure::File(format!("{path} can't be read ({why}); take it away to start"))
            })?,
            Err(why) if why.kind() == ErrorKind::NotFound => Self::default(),
            Err(why) => {
                let why =
                    anyhow::Error::from(why).context(format!("can't read {}", path.display()));
                return Err(Failure::file(why).into());
            }
        };
        let written = fs::metadata(&path).and_then(|file| file.modified()).ok();
        let written = written.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let saved_ns = written.map_or(0, |at| i64::try_from(at.as_nanos()).unwrap_or(i64::MAX));
        Ok(Self { path, saved_ns, ..orders })
    }

    /// Replaces the file at once: a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// The disk is full, or the directory can't be written; the orders hold in this run.
    pub fn save(&self) -> anyhow::Result<()> {
        replace(&self.path, &serde_json::to_vec(self)?)
    }

    /// Lets the ends of all that holds for a while go with a wall clock that is set: how long it holds is
    /// counted by the clock that nobody sets. What an earlier run left ends when it said: a clock that lies
    /// before its file isn't set yet, and only what was ordered by that clock goes with it. To be called before
    /// an end is reckoned from `now`. True where the clock was set.
    pub fn follow(&mut self, now: Now) -> bool {
        let Some(was) = self.clocks.replace(now) else { return false };
        let passed = i64::try_from(now.boot_ns.saturating_sub(was.boot_ns)).unwrap_or(i64::MAX);
        let step = now.wall_ns.saturating_sub(was.wall_ns).saturating_sub(passed);
        if step.saturating_abs() < STEP_MIN_NS {
            return false;
        }
        let maintenance = self.maintenance.iter_mut().map(|one| &mut one.until_ns);
        let muted = self.muted.iter_mut().map(|one| &mut one.until_ns);
        let allowed = self.allowed.iter_mut().filter_map(|one| one.until_ns.as_mut());
        let all = maintenance.chain(muted).chain(allowed);
        let early = was.wall_ns < self.saved_ns;
        for until_ns in all.filter(|until_ns| !early || **until_ns < self.saved_ns) {
            *until_ns = until_ns.saturating_add(step);
        }
        true
    }

    /// Takes out what is over; the allowances among it are given back.
    pub fn expire(&mut self, now_ns: i64) -> Option<Vec<Allowance>> {
        let before = self.maintenance.len() + self.muted.len() + self.allowed.len();
        self.maintenance.retain(|one| one.until_ns > now_ns);
        self.muted.retain(|one| one.until_ns > now_ns);
        let (over, kept) = std::mem::take(&mut self.allowed)
            .into_iter()
            .partition(|one| one.until_ns.is_some_and(|until| until <= now_ns));
        self.allowed = kept;
        let after = self.maintenance.len() + self.muted.len() + self.allowed.len();
        (after < before).then_some(over)
    }

    /// Begins, prolongs or ends the maintenance of a workload, or of the host.
    pub fn maintain(&mut self, workload: Option<Workload>, until_ns: Option<i64>, by: By) -> bool {
        let before = self.maintenance.len();
        self.maintenance.retain(|one| one.workload != workload);
        let was = self.maintenance.len() < before;
        if let Some(until_ns) = until_ns {
            self.maintenance.push(Maintenance { workload, until_ns, by: Some(by) });
        }
        was
    }

    /// Why nothing of the workload is denied automatically at present.
    pub fn maintained(&self, workload: &Workload) -> Option<String> {
        let concerns = |one: &&Maintenance| one.workload.as_ref().is_none_or(|own| own == workload);
        let one = self.maintenance.iter().filter(concerns).max_by_key(|one| one.until_ns)?;
        let whose = if one.workload.is_some() { workload.as_str() } else { "the host" };
        Some(format!("{whose} is in maintenance until {}", text::time(one.until_ns)))
    }

    /// Mutes what is like the finding.
    ///
    /// # Errors
    /// Too much is muted already.
    pub fn mute(&mut self, finding: &Finding, until_ns: i64, by: By) -> Result<(), String> {
        self.muted.retain(|one| one.uid != finding.uid);
        if self.muted.len() >= EACH_MAX {
            return Err(format!("{EACH_MAX} findings are muted already; no more can be"));
        }
        let (uid, subject) = (finding.uid.clone(), Arc::clone(&finding.subject));
        let objects = names(finding);
        self.muted.push(Mute { uid, subject, objects, until_ns, by });
        Ok(())
    }

    /// Until when the finding is not to be told.
    pub fn muted_until(&self, finding: &Finding) -> Option<i64> {
        self.muted.iter().filter(|one| one.covers(finding)).map(|one| one.until_ns).max()
    }

    /// Keeps a muted finding from being told. Where the mute ends first, what comes then alerts for the
    /// first time.
    pub fn silence(&mut self, finding: &mut Finding) {
        if finding.activity == Activity::Close {
            if self.silenced.remove(&finding.uid) {
                finding.disposition = Disposition::Suppressed;
            }
            return;
        }
        if let Some(until_ns) = self.muted_until(finding) {
            if finding.is_first_alert() {
                self.silenced.insert(finding.uid.clone());
            }
            finding.first_alert = Some(false);
            finding.disposition = Disposition::Suppressed;
            finding.reason += &format!("; muted until {}", text::time(until_ns));
        } else if self.silenced.remove(&finding.uid) {
            finding.first_alert = Some(true);
        }
    }

    /// Notes that a finding was seen, or was an attack, which it stays whatever else is said of it.
    pub fn ack(&mut self, uid: &str, time_ns: i64, by: By, attack: bool) {
        let attack = attack || self.seen.get(uid).is_some_and(|ack| ack.attack);
        self.seen.insert(uid.to_owned(), Ack { time_ns, by, attack });
        while self.seen.len() > SEEN_MAX {
            let others = self.seen.iter().filter(|(known, _)| **known != *uid);
            let oldest = others.min_by_key(|(_, ack)| (ack.attack, ack.time_ns));
            let Some(oldest) = oldest.map(|(uid, _)| uid.clone()) else { return };
            self.seen.remove(&oldest);
        }
    }

    /// Findings that were attacks.
    pub fn attacks(&self) -> impl Iterator<Item = &str> {
        self.seen.iter().filter(|(_, ack)| ack.attack).map(|(uid, _)| uid.as_str())
    }

    /// Notes an allowance that ends, or is for one workload; a plain one is the responder's.
    ///
    /// # Errors
    /// There are too many already.
    pub fn allow(&mut self, allowance: Allowance) -> Result<(), String> {
        self.disallow(&allowance);
        if allowance.workload.is_none() && allowance.until_ns.is_none() {
            return Ok(());
        }
        if self.allowed.len() >= EACH_MAX {
            return Err(format!("there are {EACH_MAX} allowances already; no more can be made"));
        }
        self.allowed.push(allowance);
        Ok(())
    }

    /// Whether there was one.
    pub fn disallow(&mut self, allowance: &Allowance) -> bool {
        let before = self.allowed.len();
        self.allowed.retain(|one| one.peer != allowance.peer || one.workload != allowance.workload);
        self.allowed.len() < before
    }
}

#[cfg(test)]
mod tests;
