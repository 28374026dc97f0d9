//! How many entries there may be, and how fast they may come. Pure.

use std::collections::{HashMap, HashSet, VecDeque};

use hedgerow_event::Workload;

use crate::Refusal;

const NS_PER_MINUTE: u64 = 60_000_000_000;

/// Limits of the responder. When one is reached the new entry is refused; nothing is evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Live automatic entries.
    pub automatic: usize,
    /// Further places that only an operator may take.
    pub reserve: usize,
    /// New automatic entries of one workload a minute; one more trips its breaker.
    pub per_minute: usize,
    /// Wide automatic entries wait for so long before they are installed, in seconds.
    pub hold_s: u32,
    /// Wrong entries in 90 days that are acceptable; one more stops automatic entries.
    pub wrong: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { automatic: 256, reserve: 64, per_minute: 20, hold_s: 60, wrong: 1 }
    }
}

/// Counts new automatic entries. A tripped workload gets no more until an operator resets it.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    recent: HashMap<Workload, VecDeque<u64>>,
    tripped: HashSet<Workload>,
}

impl Breaker {
    /// Takes one place of the minute, or refuses; the caller trips it then.
    pub fn admit(
        &mut self,
        workload: &Workload,
        now_boot_ns: u64,
        per_minute: usize,
    ) -> Result<(), Refusal> {
        if self.tripped.contains(workload) {
            return Err(Refusal::BreakerOpen { workload: workload.to_string() });
        }
        self.recent.retain(|_, times| {
            while times.front().is_some_and(|time| time + NS_PER_MINUTE <= now_boot_ns) {
                times.pop_front();
            }
            !times.is_empty()
        });
        let times = self.recent.entry(workload.clone()).or_default();
        if times.len() >= per_minute {
            return Err(Refusal::BreakerTripped { workload: workload.to_string(), per_minute });
        }
        times.push_back(now_boot_ns);
        Ok(())
    }

    /// Holds new entries of the workload until [`Self::reset`]; false where it did so already.
    pub fn trip(&mut self, workload: &Workload) -> bool {
        self.tripped.insert(workload.clone())
    }

    pub fn reset(&mut self, workload: &Workload) {
        self.tripped.remove(workload);
        self.recent.remove(workload);
    }

    pub fn reset_all(&mut self) {
        *self = Self::default();
    }

    pub fn tripped(&self) -> impl Iterator<Item = &Workload> {
        self.tripped.iter()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_breaker_trips_once_for_one_workload_and_stays_until_reset() {
        let (web, db) = (Workload::new("web"), Workload::new("db"));
        let mut breaker = Breaker::default();
        for time in 0..3 {
            breaker.admit(&web, time, 3).unwrap();
        }
        assert!(matches!(breaker.admit(&web, 4, 3), Err(Refusal::BreakerTripped { .. })));
        assert!(breaker.trip(&web) && !breaker.trip(&web));
        assert!(matches!(breaker.admit(&web, 5, 3), Err(Refusal::BreakerOpen { .. })));
        assert!(matches!(
            breaker.admit(&web, 10 * NS_PER_MINUTE, 3),
            Err(Refusal::BreakerOpen { .. })
        ));
        breaker.admit(&db, 5, 3).unwrap();
        breaker.reset(&web);
        breaker.admit(&web, 6, 3).unwrap();
    }

    #[test]
    fn a_slow_stream_never_trips_it() {
        let web = Workload::new("web");
        let mut breaker = Breaker::default();
        for minute in 0..100 {
            for _ in 0..3 {
                breaker.admit(&web, minute * NS_PER_MINUTE, 3).unwrap();
            }
        }
    }
}
