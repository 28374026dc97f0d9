//! Orders of people that hold for a while: maintenance, muted findings, allowances with an end or
//! for one workload; and which findings were seen. Kept over restarts in one file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use anyhow::Context;
use hedgerow_event::{Activity, Class, Disposition, Finding, Object, Subject, Workload};
use hedgerow_responder::{By, Now};
use serde::{Deserialize, Serialize};

use crate::{
    control::{Allowance, Maintenance},
    exit::Failure,
    text,
};

/// Name of the file in the state directory.
pub const ORDERS: &str = "orders.json";
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
        let fresh = self.path.with_extension("new");
        let failed = || format!("can't write {}", self.path.display());
        let mut options = OpenOptions::new();
        let options = options.create(true).write(true).truncate(true).mode(0o600);
        let mut file = options.open(&fresh).with_context(failed)?;
        file.write_all(&serde_json::to_vec(self)?).with_context(failed)?;
        file.sync_all().with_context(failed)?;
        fs::rename(&fresh, &self.path).with_context(failed)
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const BY: By = By { uid: 0, pid: 1, login_uid: Some(1000) };

    #[test]
    fn maintenance_is_of_a_workload_or_of_all_and_ends_by_itself_and_outlives_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let mut orders = Orders::load(directory.path()).unwrap();
        let (web, other) = (Workload::new("web.service"), Workload::new("other.service"));
        orders.maintain(Some(web.clone()), Some(100), BY);
        assert!(orders.maintained(&web).is_some_and(|why| why.contains("web.service")));
        assert_eq!(orders.maintained(&other), None);
        orders.save().unwrap();
        let mut orders = Orders::load(directory.path()).unwrap();
        assert_eq!(orders.expire(99), None);
        assert!(orders.maintained(&web).is_some());
        assert_eq!(orders.expire(100), Some(Vec::new()));
        assert_eq!(orders.maintained(&web), None);
        orders.maintain(None, Some(200), BY);
        assert!(orders.maintained(&other).is_some());
        assert!(orders.maintain(None, None, BY), "it was in maintenance");
        assert!(!orders.maintain(None, None, BY));
        assert_eq!(orders.maintained(&other), None);
    }

    #[test]
    fn what_was_an_attack_is_remembered_longer_than_what_was_only_seen() {
        let mut orders = Orders::default();
        orders.ack("attack", 1, BY, true);
        (0..SEEN_MAX as i64).for_each(|at| orders.ack(&at.to_string(), 2 + at, BY, false));
        assert_eq!(orders.seen.len(), SEEN_MAX);
        assert_eq!(orders.attacks().collect::<Vec<_>>(), ["attack"]);
        assert!(!orders.seen.contains_key("0") && orders.seen.contains_key("1"));
    }

    #[test]
    fn a_clock_that_is_set_prolongs_and_ends_nothing() {
        const HOUR: i64 = 3600 * STEP_MIN_NS;
        let directory = tempfile::tempdir().unwrap();
        let peer = "192.0.2.0/24".parse().unwrap();
        for step in [-20 * HOUR, 50 * 366 * 24 * HOUR] {
            let mut orders = Orders::load(directory.path()).unwrap();
            let at = |hours: i64, step| Now {
                wall_ns: 100 * HOUR + hours * HOUR + step,
                boot_ns: (hours * HOUR) as u64,
            };
            assert!(!orders.follow(at(0, 0)));
            orders.maintain(None, Some(at(2, 0).wall_ns), BY);
            orders.mute(&super::super::example_finding("w", "r", 1), at(2, 0).wall_ns, BY).unwrap();
            let until_ns = Some(at(2, 0).wall_ns);
            orders.allow(Allowance { peer, workload: None, until_ns }).unwrap();
            assert!(orders.follow(at(1, step)));
            assert_eq!(orders.expire(at(1, step).wall_ns), None, "not over before its time");
            assert!(!orders.follow(at(2, step)));
            let over = orders.expire(at(2, step).wall_ns).unwrap();
            assert_eq!(over.len(), 1, "over at its time");
            assert!(orders.maintenance.is_empty() && orders.muted.is_empty());
            // What a disciplined clock gains within a second is no step.
            let mut now = at(3, step);
            assert!(!orders.follow(now));
            now.wall_ns += STEP_MIN_NS / 2;
            assert!(!orders.follow(now));
        }
    }

    #[test]
    fn a_machine_that_starts_without_the_time_ends_old_orders_when_they_said() {
        const HOUR: i64 = 3600 * STEP_MIN_NS;
        let directory = tempfile::tempdir().unwrap();
        let mut orders = Orders::load(directory.path()).unwrap();
        let saved_ns = hedgerow_responder::now().wall_ns;
        orders.maintain(None, Some(saved_ns + 2 * HOUR), BY);
        orders.save().unwrap();
        let mut orders = Orders::load(directory.path()).unwrap();
        let at = |wall_ns, boot: i64| Now { wall_ns, boot_ns: (boot * HOUR) as u64 };
        assert!(!orders.follow(at(0, 0)));
        let workload = Workload::new("w");
        orders.maintain(Some(workload.clone()), Some(3 * HOUR), BY);
        // It is an hour later by the right clock, too.
        assert!(orders.follow(at(saved_ns + HOUR, 1)));
        let ends: Vec<i64> = orders.maintenance.iter().map(|one| one.until_ns).collect();
        assert_eq!(ends, [saved_ns + 2 * HOUR, saved_ns + 3 * HOUR]);
    }

    #[test]
    fn a_mute_covers_the_same_again_with_other_numbers_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let mut orders = Orders::load(directory.path()).unwrap();
        let plain = super::super::example_finding("w", "r", 1);
        let peer = |address: &str, port| Object::NewPeer {
            subject: Arc::clone(&plain.subject),
            peer: hedgerow_event::Peer { address: address.parse().unwrap(), port },
            protocol: None,
        };
        let source = |what: &str| Object::Did {
            subject: Arc::clone(&plain.subject),
            deed: hedgerow_event::Deed::OneSource,
            what: what.into(),
            contact: None,
        };
        let found =
            |uid: &str, objects: Vec<Object>| Finding { uid: uid.into(), objects, ..plain.clone() };
        let first = vec![peer("192.0.2.9", 4444), source("101 connections from 192.0.2.9")];
        orders.mute(&found("u1", first), 50, BY).unwrap();
        let memory = Object::ExecMemory { subject: Arc::clone(&plain.subject) };
        let grown = found("u1", vec![peer("192.0.2.9", 4444), memory]);
        assert_eq!(orders.muted_until(&grown), None, "the same case goes on to something else");
        let muted = |objects| orders.muted_until(&found("u2", objects)) == Some(50);
        assert!(muted(vec![peer("192.0.2.9", 4445), source("7 connections from 192.0.2.9")]));
        assert!(muted(vec![peer("192.0.2.9", 4444)]), "less of it");
        assert!(!muted(vec![peer("192.0.2.10", 4444)]), "another peer");
        assert!(!muted(vec![source("7 connections from 192.0.2.10")]));
        assert!(
            !muted(vec![
                peer("192.0.2.9", 4444),
                Object::ExecMemory { subject: Arc::clone(&plain.subject) }
            ]),
            "more than that"
        );
        let measure = |uid: &str, workload: &str, column: &str| {
            let mut one = super::super::example_finding(workload, "r", 1);
            let share = hedgerow_event::Share {
                feature: column.into(),
                value: 1.0,
                usual_low: None,
                usual_high: None,
                direction: hedgerow_event::Direction::Above,
                share: 1.0,
                of: "nats".into(),
            };
            (one.uid, one.class, one.attribution) = (uid.into(), Class::Measure, vec![share]);
            one
        };
        orders.mute(&measure("m1", "w", "reads"), 50, BY).unwrap();
        assert_eq!(orders.muted_until(&measure("m2", "w", "reads")), Some(50));
        assert_eq!(orders.muted_until(&measure("m2", "w", "bytes out")), None, "another column");
        assert_eq!(orders.muted_until(&measure("m1", "v", "reads")), None, "another program");
        // As a version before has left them.
        let mut old = |objects: Vec<String>| {
            orders.muted.retain(|one| one.uid != "m0");
            orders.mute(&measure("m0", "w", "reads"), 40, BY).unwrap();
            orders.muted.last_mut().unwrap().objects = objects;
            let count = |column: &str| {
                let mut one = measure("m2", "w", "bytes out");
                one.objects.push(Object::Count {
                    subject: Arc::clone(&one.subject),
                    column: column.into(),
                    value: 2,
                    largest: 1,
                });
                one
            };
            let none = measure("m2", "w", "bytes out");
            [count("writes"), count("opens"), none].map(|one| orders.muted_until(&one) == Some(40))
        };
        assert_eq!(old(vec!["writes".into()]), [true, false, false]);
        assert_eq!(old(Vec::new()), [false, false, true]);
        assert_eq!(
            unnumbered("listens: port 45235/tcp, 3.5 MiB of /srv/1"),
            "listens: port #/tcp, # MiB of /srv/1"
        );
    }

    #[test]
    fn an_attack_stays_one_over_a_restart_and_whatever_else_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let mut orders = Orders::load(directory.path()).unwrap();
        orders.ack("a", 1, BY, false);
        orders.ack("b", 2, BY, true);
        orders.ack("b", 3, BY, false);
        orders.save().unwrap();
        let orders = Orders::load(directory.path()).unwrap();
        assert_eq!(orders.attacks().collect::<Vec<_>>(), ["b"]);
        // As the version before wrote it.
        let by = serde_json::to_value(BY).unwrap();
        let old = serde_json::json!({"seen": {"c": {"time_ns": 1, "by": by}}});
        fs::write(directory.path().join(ORDERS), old.to_string()).unwrap();
        assert!(!Orders::load(directory.path()).unwrap().seen["c"].attack);
    }

    #[test]
    fn what_is_told_when_a_mute_has_ended_alerts_for_the_first_time() {
        let directory = tempfile::tempdir().unwrap();
        let mut orders = Orders::load(directory.path()).unwrap();
        let first = super::super::example_finding("w", "r", 1);
        orders.mute(&first, 50, BY).unwrap();
        let mut told = |expired_ns, activity, first_alert| {
            orders.expire(expired_ns);
            let first_alert = Some(first_alert);
            let mut report = Finding { activity, first_alert, ..first.clone() };
            orders.silence(&mut report);
            (report.disposition.is_alert(), report.is_first_alert())
        };
        assert_eq!(told(1, Activity::Create, true), (false, false));
        assert_eq!(told(2, Activity::Update, false), (false, false));
        assert_eq!(told(50, Activity::Update, false), (true, true));
        assert_eq!(told(51, Activity::Update, false), (true, false));
        assert_eq!(told(52, Activity::Close, false), (true, false));
    }

    #[test]
    fn an_allowance_that_ends_is_given_back_once_and_the_seen_are_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let mut orders = Orders::load(directory.path()).unwrap();
        let peer = "192.0.2.0/24".parse().unwrap();
        let timed = Allowance { peer, workload: None, until_ns: Some(50) };
        orders.allow(timed.clone()).unwrap();
        orders.allow(Allowance { peer, workload: None, until_ns: None }).unwrap();
        assert!(orders.allowed.is_empty(), "without an end it is the responder's");
        orders.allow(timed.clone()).unwrap();
        assert_eq!(orders.expire(50), Some(vec![timed]));
        for time in 0..=SEEN_MAX {
            orders.ack(&format!("{time:06}"), i64::try_from(time).unwrap(), BY, false);
        }
        assert_eq!(orders.seen.len(), SEEN_MAX);
        assert!(!orders.seen.contains_key("000000"), "the oldest went");
        fs::write(directory.path().join(ORDERS), b"{").unwrap();
        assert!(Orders::load(directory.path()).is_err());
    }
}
