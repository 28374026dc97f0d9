//! The life of an entry: installed for a while, extended while it is hit, released otherwise. Pure.

use std::sync::Arc;

use hedgerow_event::{Action, Level, Mode, Remediation, Rule, Subject, Target, Workload};

use serde::{Deserialize, Serialize};

use crate::Now;

const NS_PER_S: u64 = 1_000_000_000;

/// A process: its number and when it started.
pub type Process = (u32, u64);

/// Hits alone keep an automatic entry for so long in all, from its first second: more needs a fresh
/// finding. In seconds.
pub const HITS_MAX_S: u32 = 3600;
/// The longest that an operator may ask for, in seconds: a week.
pub const OPERATOR_MAX_S: u32 = 7 * 24 * 3600;
/// How long an automatic entry lives at first, in seconds.
pub const PERIOD_FIRST_S: u32 = 60;
/// An entry is extended this long before it would expire, so that no gap opens, in ns.
const MARGIN_MAX_NS: u64 = 2 * NS_PER_S;

/// One live entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Key of the entry in the kernel.
    pub id: u64,
    pub uid: String,
    pub finding_uid: Option<String>,
    pub target: Target,
    pub subject: Option<Arc<Subject>>,
    /// Who was asked about; not known over restarts.
    #[serde(skip)]
    pub process: Option<Process>,
    pub rule: Rule,
    pub mode: Mode,
    /// The highest mode that it may act in, whatever its workload's is.
    pub ceiling: Mode,
    pub reason: String,
    pub began_boot_ns: u64,
    pub expiry_boot_ns: u64,
    pub expires_wall_ns: i64,
    pub period_s: u32,
    pub hits: u64,
    /// Hits when the running period began.
    pub hits_before: u64,
    /// Packets from outside that were dropped; they extend nothing.
    pub inbound: u64,
    pub sockets_destroyed: u32,
    /// What this kernel does for the target where the entry enforces; none is kept over restarts.
    #[serde(skip, default = "nothing")]
    pub enforced: Level,
}

fn nothing() -> Level {
    Level::Counts
}

/// What is to be stopped, for how long and why.
#[derive(Debug, Clone)]
pub struct Request {
    pub target: Target,
    pub rule: Rule,
    pub seconds: u32,
    pub finding_uid: Option<String>,
    /// Whose workload's mode and breaker apply; an operator's entry needs none.
    pub subject: Option<Arc<Subject>>,
    /// Whose deed an automatic entry answers.
    pub process: Option<Process>,
    /// An operator's mode. For an automatic entry the highest that it may ever act in, also when the
    /// workload's mode rises.
    pub mode: Option<Mode>,
    pub reason: String,
}

/// What is due for an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    Nothing,
    /// It was hit in this period: it lives for the next, longer one.
    Extend,
    /// Its time is over.
    Release,
}

impl Entry {
    /// An entry as it begins, with the mode that it acts in and its ceiling. What this kernel does for
    /// its target is for the caller to say.
    pub fn begun(
        id: u64,
        uid: String,
        request: Request,
        (mode, ceiling): (Mode, Mode),
        now: Now,
    ) -> Self {
        let mut entry = Self {
            id,
            uid,
            finding_uid: request.finding_uid,
            target: request.target,
            subject: request.subject,
            process: request.process,
            rule: request.rule,
            mode,
            ceiling,
            reason: request.reason,
            began_boot_ns: 0,
            expiry_boot_ns: 0,
            expires_wall_ns: 0,
            period_s: 0,
            hits: 0,
            hits_before: 0,
            inbound: 0,
            sockets_destroyed: 0,
            enforced: nothing(),
        };
        entry.begin(now, request.seconds);
        entry
    }

    /// Starts the first period: exactly so long for an operator, at most [`HITS_MAX_S`] otherwise.
    fn begin(&mut self, now: Now, seconds: u32) {
        self.began_boot_ns = now.boot_ns;
        let longest = if self.is_automatic() { HITS_MAX_S } else { OPERATOR_MAX_S };
        self.live(now, seconds.clamp(1, longest));
    }

    fn live(&mut self, now: Now, seconds: u32) {
        self.period_s = seconds;
        self.expiry_boot_ns = now.boot_ns + u64::from(self.period_s) * NS_PER_S;
        self.expires_wall_ns = now.wall_ns + i64::from(self.period_s) * NS_PER_S as i64;
        self.hits_before = self.hits;
    }

    /// Takes the hit count that the kernel has by now and says what is due.
    pub fn due(&mut self, now_boot_ns: u64, hits: u64) -> Due {
        self.hits = self.hits.max(hits);
        let margin_ns = MARGIN_MAX_NS.min(u64::from(self.period_s) * NS_PER_S / 4);
        if now_boot_ns.saturating_add(margin_ns) < self.expiry_boot_ns {
            Due::Nothing
        } else if self.hits > self.hits_before && self.seconds_left(now_boot_ns) > 0 {
            Due::Extend
        } else if now_boot_ns < self.expiry_boot_ns {
            Due::Nothing
        } else {
            Due::Release
        }
    }

    /// Doubles the period, at most to the end of what hits alone can keep.
    pub fn extend(&mut self, now: Now) {
        let seconds = self.period_s.saturating_mul(2).min(self.seconds_left(now.boot_ns));
        self.live(now, seconds);
    }

    /// For how long hits may keep it beyond its expiry; an operator's entry is never extended.
    fn seconds_left(&self, now_boot_ns: u64) -> u32 {
        let end = self.began_boot_ns.saturating_add(u64::from(HITS_MAX_S) * NS_PER_S);
        if !self.is_automatic() || end <= self.expiry_boot_ns {
            return 0;
        }
        u32::try_from(end.saturating_sub(now_boot_ns) / NS_PER_S).unwrap_or(u32::MAX)
    }

    /// It was hit until its last second, and only a fresh finding opens it again.
    pub fn is_spent(&self) -> bool {
        self.is_automatic() && self.hits > self.hits_before
    }

    /// Why it is released at its expiry.
    pub fn ending(&self) -> String {
        let mut why = if !self.is_automatic() {
            format!("its time is over; tries that were met: {}", self.hits)
        } else if self.is_spent() {
            let minutes = HITS_MAX_S / 60;
            format!("kept by tries for {minutes} minutes in all; a fresh finding opens it again")
        } else {
            "passed its time without a hit".to_owned()
        };
        if self.inbound > 0 {
            why += &format!("; packets from outside that were dropped: {}", self.inbound);
        }
        why
    }

    /// The workload whose mode and breaker it falls under.
    pub fn workload(&self) -> Option<&Workload> {
        self.subject.as_deref().map(|subject| &subject.workload)
    }

    pub fn is_automatic(&self) -> bool {
        self.rule != Rule::Operator
    }

    /// What the kernel does for the target.
    pub fn level(&self) -> Level {
        match self.mode {
            Mode::Observe | Mode::Monitor => Level::Counts,
            Mode::Enforce => self.enforced,
        }
    }

    /// As it stands: told of when it began, whenever one asks.
    pub fn listed(&self) -> Remediation {
        let lives_ns = self.expiry_boot_ns.saturating_sub(self.began_boot_ns);
        let wall_ns = self.expires_wall_ns.saturating_sub_unsigned(lives_ns);
        let began = Now { boot_ns: self.began_boot_ns, wall_ns };
        self.remediation(Action::Block, "", began, &self.reason)
    }

    pub fn remediation(&self, action: Action, host_id: &str, now: Now, why: &str) -> Remediation {
        Remediation {
            uid: self.uid.clone(),
            finding_uid: self.finding_uid.clone(),
            action,
            target: self.target.clone(),
            subject: self.subject.clone(),
            rule: self.rule,
            mode: self.mode,
            level: self.level(),
            host_id: host_id.to_owned(),
            time_ns: now.wall_ns,
            expires_ns: self.expires_wall_ns,
            hits: self.hits,
            sockets_destroyed: self.sockets_destroyed,
            reason: why.to_owned(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn entry() -> Entry {
        let request = Request {
            target: Target::TaskTree { tgid: 2, start_boot_ns: 3 },
            rule: Rule::ExecUntrusted,
            seconds: PERIOD_FIRST_S,
            finding_uid: None,
            subject: None,
            process: None,
            mode: None,
            reason: String::new(),
        };
        let modes = (Mode::Enforce, Mode::Enforce);
        Entry::begun(1, "u".into(), request, modes, Now { boot_ns: 0, wall_ns: 0 })
    }

    fn at(seconds: u64) -> Now {
        Now { boot_ns: seconds * NS_PER_S, wall_ns: (seconds * NS_PER_S) as i64 }
    }

    #[test]
    fn an_entry_without_hits_is_released_at_its_expiry_and_not_before() {
        let mut entry = entry();
        assert_eq!(entry.due(at(59).boot_ns, 0), Due::Nothing);
        assert_eq!(entry.due(at(60).boot_ns, 0), Due::Release);
    }

    #[test]
    fn an_entry_that_is_hit_is_extended_before_it_expires_and_doubles_up_to_an_hour_in_all() {
        let mut entry = entry();
        let mut now = 0;
        let mut periods = Vec::new();
        let mut hits = 1;
        while entry.due(at(now).boot_ns, hits) != Due::Release {
            if entry.due(at(now).boot_ns, hits) == Due::Extend {
                entry.extend(at(now));
                periods.push(entry.period_s);
            }
            now += 1;
            hits += 1; // Somebody tries every second.
        }
        assert_eq!(periods, [120, 240, 480, 960, 1750]);
        assert_eq!(now, u64::from(HITS_MAX_S), "an hour from its first second");
        assert!(entry.is_spent() && entry.ending().contains("fresh finding"), "{}", entry.ending());
    }

    #[test]
    fn it_is_listed_with_when_it_began_also_once_it_was_extended() {
        let mut entry = entry();
        let boot = |now: Now| Now { wall_ns: now.wall_ns + 1_700_000_000_000_000_000, ..now };
        entry.begin(boot(at(7)), PERIOD_FIRST_S);
        let (first, ends) = (entry.listed(), entry.expires_wall_ns);
        assert_eq!(first.time_ns, boot(at(7)).wall_ns);
        assert_eq!(entry.due(at(66).boot_ns, 5), Due::Extend);
        entry.extend(boot(at(66)));
        let later = entry.listed();
        assert_eq!((later.time_ns, later.hits), (first.time_ns, 5));
        assert!(later.expires_ns > ends);
    }

    #[test]
    fn old_hits_and_packets_from_outside_extend_nothing() {
        let mut entry = entry();
        assert_eq!(entry.due(at(59).boot_ns, 5), Due::Extend);
        entry.extend(at(59));
        entry.inbound = 1_000_000;
        assert_eq!(entry.due(entry.expiry_boot_ns, 5), Due::Release);
        assert!(!entry.is_spent());
        let ending = entry.ending();
        assert!(
            ending.contains("without a hit") && ending.contains("dropped: 1000000"),
            "{ending}"
        );
    }

    #[test]
    fn an_operators_entry_stands_exactly_as_long_as_was_asked() {
        for seconds in [5, 24 * 3600, OPERATOR_MAX_S] {
            let mut entry = Entry { rule: Rule::Operator, ..entry() };
            entry.begin(at(0), seconds);
            let end = u64::from(seconds);
            assert_eq!(entry.due(at(end - 1).boot_ns, 1), Due::Nothing);
            assert_eq!(entry.due(at(end).boot_ns, 1_000), Due::Release);
        }
    }

    #[test]
    fn no_entry_is_permanent() {
        let mut entry = entry();
        entry.begin(at(0), u32::MAX);
        assert_eq!(entry.period_s, HITS_MAX_S);
        entry.begin(at(0), 0);
        assert_eq!(entry.period_s, 1);
    }
}
