//! Baselines of several runs as one: what each of them saw, whichever comes first.
//!
//! Sets that overflow keep the items of least hash, so that the order in which runs are put together
//! decides nothing; that something was refused is told as 1, since how often can't be said of a union.

use std::collections::BTreeMap;

use super::{Baseline, Clock, DISTRUSTED_LIMIT, Phase, WORKLOADS_LIMIT};

impl Baseline {
    /// What it learned, as it is added to that of others: frozen, and without what belongs to one run's
    /// clock.
    pub fn part(&self) -> Self {
        let mut part = Self::new(self.key, self.unit_ns);
        part.phase = Phase::Frozen;
        part.absorb(self.clone());
        part
    }

    /// Adds what another baseline of the same key learned. Both are frozen. Units are counted
    /// together, as the shortest of them.
    pub fn absorb(&mut self, other: Self) {
        self.unit_ns = self.unit_ns.min(other.unit_ns);
        // What came after fill is no part of what fill taught.
        for (workload, seen) in other.workloads.into_iter().filter(|(_, seen)| !seen.late) {
            self.workloads.entry(workload).or_default().absorb(seen);
        }
        self.host.absorb(other.host);
        self.clock = Clock {
            last: None,
            units: self.clock.units + other.clock.units,
            learned: self.clock.learned + other.clock.learned,
        };
        let key = self.key;
        let over = keep_least(&mut self.workloads, WORKLOADS_LIMIT, |one| key.workload(one));
        self.workloads_refused =
            self.workloads_refused.max(other.workloads_refused).min(1).max(u64::from(over));
        self.distrusted.extend(other.distrusted);
        self.distrusted.sort();
        self.distrusted.dedup();
        let over = self.distrusted.len() > DISTRUSTED_LIMIT;
        self.distrusted.truncate(DISTRUSTED_LIMIT);
        self.distrusted_dropped =
            self.distrusted_dropped.max(other.distrusted_dropped).min(1).max(u64::from(over));
    }

    /// Ends absorbing: what one run distrusted is not known by another's word, and what one learned
    /// is no longer new to another.
    pub fn settle(&mut self) {
        for object in &self.distrusted.clone() {
            for (workload, set, hash, _) in self.members(object) {
                let own = self.workloads.get_mut(&workload);
                own.into_iter().chain([&mut self.host]).for_each(|seen| seen.forget(set, hash));
            }
        }
        self.workloads.values_mut().chain([&mut self.host]).for_each(super::Seen::settle);
    }
}

/// Leaves the entries whose keys have the least hashes, so that the order in which they came decides
/// nothing; whether one had to go.
pub fn keep_least<K: Ord, V>(
    map: &mut BTreeMap<K, V>,
    most: usize,
    hash: impl Fn(&K) -> u64,
) -> bool {
    if map.len() <= most {
        return false;
    }
    let mut hashes: Vec<u64> = map.keys().map(&hash).collect();
    hashes.sort_unstable();
    map.retain(|key, _| hash(key) < hashes[most]);
    true
}
