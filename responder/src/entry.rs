//! The life of an entry: installed for a while, extended while it is hit, released otherwise. Pure.

use std::sync::Arc;

use hedgerow_event::{Action, Level, Mode, Remediation, Rule, Subject, Target, Workload};

use crate::Now;

const NS_PER_S: u64 = 1_000_000_000;

/// An entry never lives longer than this without a new decision, in seconds.
pub const PERIOD_MAX_S: u32 = 3600;
/// How long an automatic entry lives at first, in seconds.
pub const PERIOD_FIRST_S: u32 = 60;
/// An entry is extended this long before it would expire, so that no gap opens, in ns.
const MARGIN_MAX_NS: u64 = 2 * NS_PER_S;

/// One live entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Key of the entry in the kernel.
    pub id: u64,
    pub uid: String,
    pub finding_uid: Option<String>,
    pub target: Target,
    pub subject: Option<Arc<Subject>>,
    pub rule: Rule,
    pub mode: Mode,
    /// The highest mode that it may act in, whatever its workload's is.
    pub ceiling: Mode,
    pub reason: String,
    pub expiry_boot_ns: u64,
    pub expires_wall_ns: i64,
    pub period_s: u32,
    pub hits: u64,
    /// Hits when the running period began.
    pub hits_before: u64,
    pub sockets_destroyed: u32,
    /// A program's exec is refused; otherwise the new image is killed.
    pub exec_prevents: bool,
}

/// What is due for an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    Nothing,
    /// It was hit in this period: it lives for the next, longer one.
    Extend,
    /// A period passed without a hit.
    Release,
}

impl Entry {
    /// Starts the first period.
    pub fn begin(&mut self, now: Now, seconds: u32) {
        self.period_s = seconds.clamp(1, PERIOD_MAX_S);
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
        } else if self.hits > self.hits_before {
            Due::Extend
        } else if now_boot_ns < self.expiry_boot_ns {
            Due::Nothing
        } else {
            Due::Release
        }
    }

    /// Doubles the period, at most to [`PERIOD_MAX_S`].
    pub fn extend(&mut self, now: Now) {
        self.begin(now, self.period_s.saturating_mul(2));
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
        match (self.mode, &self.target) {
            (Mode::Observe | Mode::Monitor, _) => Level::Counts,
            (Mode::Enforce, Target::Program { .. }) if !self.exec_prevents => {
                Level::KillsBeforeFirstInstruction
            }
            (Mode::Enforce, _) => Level::Prevents,
        }
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
mod tests {
    use super::*;

    fn entry() -> Entry {
        let mut entry = Entry {
            id: 1,
            uid: "u".into(),
            finding_uid: None,
            target: Target::TaskTree { tgid: 2, start_boot_ns: 3 },
            subject: None,
            rule: Rule::ExecUntrusted,
            mode: Mode::Enforce,
            ceiling: Mode::Enforce,
            reason: String::new(),
            expiry_boot_ns: 0,
            expires_wall_ns: 0,
            period_s: 0,
            hits: 0,
            hits_before: 0,
            sockets_destroyed: 0,
            exec_prevents: false,
        };
        entry.begin(Now { boot_ns: 0, wall_ns: 0 }, PERIOD_FIRST_S);
        entry
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
    fn an_entry_that_is_hit_is_extended_before_it_expires_and_doubles_up_to_an_hour() {
        let mut entry = entry();
        let mut now = 0;
        let mut periods = Vec::new();
        for hits in 1..10 {
            now += u64::from(entry.period_s) - 1;
            assert_eq!(entry.due(at(now).boot_ns, hits), Due::Extend);
            entry.extend(at(now));
            periods.push(entry.period_s);
        }
        assert_eq!(periods, [120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]);
        // Old hits don't count again.
        assert_eq!(entry.due(entry.expiry_boot_ns, 9), Due::Release);
    }

    #[test]
    fn no_entry_is_permanent() {
        let mut entry = entry();
        entry.begin(at(0), u32::MAX);
        assert_eq!(entry.period_s, PERIOD_MAX_S);
        entry.begin(at(0), 0);
        assert_eq!(entry.period_s, 1);
    }
}
