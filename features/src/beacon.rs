//! How regularly a subject opens flows to the same peer.
//!
//! Implants call home by timer. For each peer the times of its flow starts are kept, the gaps
//! between them sorted by time, and the regularity is 1 - CV, where CV is the gaps' coefficient of
//! variation: 1 for a clock, about 0 for a Poisson process.

use std::collections::{BTreeMap, btree_map::Entry};

/// Peers whose start times are kept: those with the smallest hashes, so that the choice depends
/// neither on order nor on merging.
pub const BEACON_PEERS_LIMIT: usize = 64;
/// Start times kept for one peer. A peer with more is too busy to be a beacon at this scale, and
/// only its being busy is remembered; a shorter scale sees it.
pub const BEACON_STARTS_LIMIT: usize = 64;
/// Starts that a peer needs before its gaps say anything.
pub const BEACON_STARTS_MIN: usize = 4;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beacons {
    /// Start times (boot ns) by peer; empty once there were too many.
    peers: BTreeMap<u64, Vec<u64>>,
}

impl Beacons {
    pub fn add(&mut self, peer: u64, start_boot_ns: u64) {
        match self.peers.get_mut(&peer) {
            Some(starts) if starts.is_empty() => {}
            Some(starts) if starts.len() == BEACON_STARTS_LIMIT => *starts = Vec::new(),
            Some(starts) => starts.push(start_boot_ns),
            None => {
                self.peers.insert(peer, vec![start_boot_ns]);
                self.shrink();
            }
        }
    }

    pub fn merge(&mut self, other: &Self) {
        for (&peer, starts) in &other.peers {
            match self.peers.entry(peer) {
                Entry::Vacant(entry) => {
                    entry.insert(starts.clone());
                }
                Entry::Occupied(mut entry) => {
                    let mine = entry.get_mut();
                    let busy = mine.is_empty() || starts.is_empty();
                    if busy || mine.len() + starts.len() > BEACON_STARTS_LIMIT {
                        *mine = Vec::new();
                    } else {
                        mine.extend_from_slice(starts);
                    }
                }
            }
        }
        self.shrink();
    }

    /// The most regular peer's 1 - CV, clamped to 0; `None` where no peer has enough starts.
    pub fn regularity(&self) -> Option<f64> {
        self.peers
            .values()
            .filter(|starts| starts.len() >= BEACON_STARTS_MIN)
            .map(|starts| regularity(starts))
            .reduce(f64::max)
    }

    fn shrink(&mut self) {
        while self.peers.len() > BEACON_PEERS_LIMIT {
            self.peers.pop_last();
        }
    }
}

fn regularity(starts: &[u64]) -> f64 {
    let mut sorted = starts.to_vec();
    sorted.sort_unstable();
    let gaps: Vec<f64> = sorted.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
    let count = gaps.len() as f64;
    let mean = gaps.iter().sum::<f64>() / count;
    if mean == 0.0 {
        // All at once: a burst, not a beacon.
        return 0.0;
    }
    let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count;
    (1.0 - variance.sqrt() / mean).max(0.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_clock_is_regular_and_a_burst_is_not() {
        let mut clock = Beacons::default();
        (0..12).for_each(|i| clock.add(1, 5_000_000_000 * i));
        assert!(clock.regularity().unwrap() > 0.999);
        let mut uneven = Beacons::default();
        [0, 1, 2, 3, 60, 61, 62].iter().for_each(|&at| uneven.add(1, at));
        assert!(uneven.regularity().unwrap() < 0.3);
        let mut burst = Beacons::default();
        (0..12).for_each(|_| burst.add(1, 7));
        assert_eq!(burst.regularity(), Some(0.0));
        let mut few = Beacons::default();
        (0..3).for_each(|i| few.add(1, i));
        assert_eq!(few.regularity(), None);
    }

    #[test]
    fn a_busy_peer_is_no_beacon() {
        let mut beacons = Beacons::default();
        (0..=BEACON_STARTS_LIMIT as u64).for_each(|i| beacons.add(1, i * 10));
        assert_eq!(beacons.regularity(), None);
    }

    proptest! {
        #[test]
        fn parts_merge_to_the_whole(
            starts in prop::collection::vec((0u64..80, 0u64..1_000_000), 0..600),
            cut in 0usize..600,
        ) {
            let add = |starts: &[(u64, u64)]| {
                let mut beacons = Beacons::default();
                starts.iter().for_each(|&(peer, at)| beacons.add(peer, at));
                beacons
            };
            let (left, right) = starts.split_at(cut.min(starts.len()));
            let (mut ab, mut ba) = (add(left), add(right));
            let right = ba.clone();
            ba.merge(&ab);
            ab.merge(&right);
            prop_assert_eq!(ab.regularity(), ba.regularity());
            prop_assert_eq!(ab.regularity(), add(&starts).regularity());
            prop_assert!(ab.peers.len() <= BEACON_PEERS_LIMIT);
        }
    }
}
