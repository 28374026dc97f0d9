//! Addresses that life taught, and learning never saw. That little went to one for a day is no reason why more
//! should: for a month it stays a newcomer, of whom the amounts of an hour are told.

use std::collections::BTreeMap;

use hedgerow_event::{Deed, Object};
use hedgerow_features::{ItemKey, fair};
use serde::{Deserialize, Serialize};

/// Days for which an address stays a newcomer.
pub const YOUNG_DAYS: u32 = 30;
/// Addresses that are remembered. Past them those make room that were met first, of the workload that has most.
const MET_MAX: usize = 8_192;

/// A workload, an address, and whether the workload called it.
pub type Key = (u64, u64, bool);

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Met {
    /// Days of life so far.
    days: u32,
    /// The day on which each was learned.
    since: BTreeMap<Key, u32>,
    evicted: u64,
}

impl Met {
    /// What an object says is new to its workload.
    pub fn key(items: ItemKey, object: &Object) -> Option<Key> {
        let (subject, address, outbound) = match object {
            Object::NewPeer { subject, peer, .. } => (subject, peer.address, true),
            Object::Did { subject, deed: Deed::NewSource, what, .. } => {
                (subject, what.parse().ok()?, false)
            }
            _ => return None,
        };
        Some((items.workload(&subject.workload), items.address(address), outbound))
    }

    pub fn add(&mut self, key: Key) {
        if self.since.len() >= MET_MAX && !self.since.contains_key(&key) {
            let all = self.since.iter().map(|(key, day)| (key.0, *day, *key));
            for gone in fair::make_room(all, fair::room(MET_MAX)) {
                self.since.remove(&gone);
                self.evicted += 1;
            }
        }
        self.since.entry(key).or_insert(self.days);
    }

    pub fn remove(&mut self, key: Key) {
        self.since.remove(&key);
    }

    pub fn has(&self, key: Key) -> bool {
        self.since.contains_key(&key)
    }

    pub fn end_day(&mut self) {
        self.days += 1;
        let days = self.days;
        self.since.retain(|_, since| days - *since <= YOUNG_DAYS);
    }

    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_meets_many_takes_no_room_of_others() {
        let mut met = Met::default();
        met.add((1, 7, true));
        for at in 0..3 * MET_MAX as u64 {
            met.add((2, at, at % 2 == 0));
        }
        assert!(met.has((1, 7, true)) && met.since.len() <= MET_MAX);
        assert_eq!(met.evicted() as usize, 3 * MET_MAX + 1 - met.since.len());
    }
}
