//! How many entries there may be, and how fast they may come. Pure.

use std::collections::{BTreeSet, HashMap, VecDeque};

use hedgerow_event::Workload;

const NS_PER_MINUTE: u64 = 60_000_000_000;

/// Limits of the responder. When one is reached the new entry is refused; nothing is evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Live automatic entries, those that wait included. A workload may take as many of them as it
    /// leaves free for the others.
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

impl Limits {
    /// Room for one more of an owner whose workloads have `own` of the `taken` places.
    pub fn has_share(&self, own: usize, taken: usize) -> bool {
        own < self.automatic.saturating_sub(taken)
    }
}

/// Workloads whose trip is remembered. Past it every workload counts as tripped.
pub(crate) const TRIPPED_MAX: usize = 1024;

/// Counts new automatic entries, of a workload's owner. A tripped one gets no more wide ones until an operator resets
/// it; narrow ones go on, or loud decoys would shield who comes after them.
#[derive(Debug, Default)]
pub struct Breaker {
    /// At most as many as there are places for automatic entries in a minute.
    recent: HashMap<Workload, VecDeque<u64>>,
    tripped: BTreeSet<Workload>,
}

impl Breaker {
    /// What an earlier responder left tripped stays so.
    pub fn remembering(tripped: BTreeSet<Workload>) -> Self {
        Self { tripped, ..Self::default() }
    }

    /// Counts a new entry; false where there are more than `per_minute` by now.
    pub fn count(&mut self, workload: &Workload, now_boot_ns: u64, per_minute: usize) -> bool {
        self.recent.retain(|_, times| {
            while times.front().is_some_and(|time| time + NS_PER_MINUTE <= now_boot_ns) {
                times.pop_front();
            }
            !times.is_empty()
        });
        let times = self.recent.entry(owned(workload)).or_default();
        if times.len() > per_minute {
            return false;
        }
        times.push_back(now_boot_ns);
        times.len() <= per_minute
    }

    /// Holds new wide entries of the workload until [`Self::reset`]; false where it did so already.
    pub fn trip(&mut self, workload: &Workload) -> bool {
        self.tripped.len() < TRIPPED_MAX && self.tripped.insert(owned(workload))
    }

    pub fn is_tripped(&self, workload: &Workload) -> bool {
        self.tripped.len() >= TRIPPED_MAX || self.tripped.contains(&owned(workload))
    }

    pub fn reset(&mut self, workload: &Workload) {
        let owner = owned(workload);
        self.tripped.remove(&owner);
        self.recent.remove(&owner);
    }

    pub fn reset_all(&mut self) {
        *self = Self::default();
    }

    /// The owners of those that are tripped.
    pub fn tripped(&self) -> &BTreeSet<Workload> {
        &self.tripped
    }
}

fn owned(workload: &Workload) -> Workload {
    Workload::new(workload.owner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_breaker_trips_once_for_one_workload_and_stays_until_reset() {
        let (web, db) = (Workload::new("web"), Workload::new("db"));
        let mut breaker = Breaker::default();
        assert!((0..3).all(|time| breaker.count(&web, time, 3)));
        assert!((4..40).all(|time| !breaker.count(&web, time, 3)));
        assert!(breaker.trip(&web) && !breaker.trip(&web));
        assert!(breaker.count(&db, 5, 3), "another workload's minute");
        assert!(breaker.count(&web, 10 * NS_PER_MINUTE, 3));
        assert!(breaker.is_tripped(&web) && !breaker.is_tripped(&db));
        let mut breaker = Breaker::remembering(breaker.tripped().clone());
        assert!(breaker.is_tripped(&web));
        breaker.reset(&web);
        assert!(!breaker.is_tripped(&web));
    }

    #[test]
    fn further_names_below_ones_own_cgroup_are_no_further_minutes() {
        let mut breaker = Breaker::default();
        let name = |number| Workload::new(format!("user@1000.service/{number}.service"));
        assert!((0..3).all(|number| breaker.count(&name(number), 1, 3)));
        assert!(!breaker.count(&name(3), 1, 3));
        assert!(breaker.trip(&name(3)) && !breaker.trip(&name(4)));
        assert_eq!(breaker.tripped().len(), 1);
        breaker.reset(&name(5));
        assert!(!breaker.is_tripped(&name(3)));
    }

    #[test]
    fn more_trips_than_are_remembered_trip_everybody() {
        let mut breaker = Breaker::default();
        for number in 0..2 * TRIPPED_MAX {
            breaker.trip(&Workload::new(format!("made-up-{number}.scope")));
        }
        assert_eq!(breaker.tripped().len(), TRIPPED_MAX);
        assert!(breaker.is_tripped(&Workload::new("web")));
    }

    #[test]
    fn a_slow_stream_never_trips_it() {
        let web = Workload::new("web");
        let mut breaker = Breaker::default();
        for minute in 0..100 {
            for _ in 0..3 {
                assert!(breaker.count(&web, minute * NS_PER_MINUTE, 3));
            }
        }
    }

    #[test]
    fn no_workload_takes_more_than_it_leaves_to_the_others() {
        let limits = Limits::default();
        let fill = |mine: &mut usize, others: usize| {
            while limits.has_share(*mine, *mine + others) {
                *mine += 1;
            }
        };
        let (mut first, mut second, mut third) = (0, 0, 0);
        fill(&mut first, 0);
        assert_eq!(first, limits.automatic / 2);
        fill(&mut second, first);
        fill(&mut third, first + second);
        assert_eq!((second, third), (64, 32), "there is room for who comes next");
        assert!(limits.has_share(0, first + second + third));
    }
}
