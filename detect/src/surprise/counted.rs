//! What rates are made of, as sums that several runs add up in any order.
//!
//! Minutes and hours are counted in millionths: sums of integers are the same in any order, those of
//! floating-point numbers aren't.

use std::collections::BTreeMap;

use hedgerow_event::{Deed, Workload};
use hedgerow_features::ItemKey;
use serde::{Deserialize, Serialize};

use super::rates::{CELLS_MAX, Count, Counts, PROGRAMS_MAX, ProgramKey, Rates, WORKLOADS_MAX};
use crate::parts;

const PARTS: f64 = 1e6;

/// Minutes of a workload, and of its programs.
type Minutes = (u64, BTreeMap<ProgramKey, u64>);

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    hours: u64,
    hours_frozen: u64,
    kinds: BTreeMap<Deed, BTreeMap<Workload, Minutes>>,
    refused: u64,
}

fn parts_of(number: f64) -> u64 {
    (number * PARTS).round() as u64
}

fn number(parts: u64) -> f64 {
    parts as f64 / PARTS
}

impl Counted {
    pub fn of(rates: &Rates) -> Self {
        let minutes = |counts: &Counts| {
            let own = counts.programs.iter().map(|(key, count)| (*key, parts_of(count.minutes)));
            (parts_of(counts.all.minutes), own.collect())
        };
        let kind = |workloads: &BTreeMap<Workload, Counts>| {
            workloads.iter().map(|(name, counts)| (name.clone(), minutes(counts))).collect()
        };
        Self {
            hours: parts_of(rates.hours),
            hours_frozen: parts_of(rates.hours_frozen),
            kinds: rates.kinds.iter().map(|(deed, workloads)| (*deed, kind(workloads))).collect(),
            refused: rates.refused.min(1),
        }
    }

    /// Adds what another run counted. What overflows keeps what has the least hashes.
    pub fn absorb(&mut self, other: Self, key: ItemKey) {
        self.hours += other.hours;
        self.hours_frozen += other.hours_frozen;
        let mut over = false;
        for (deed, workloads) in other.kinds {
            let own = self.kinds.entry(deed).or_default();
            for (workload, (all, programs)) in workloads {
                let sums = own.entry(workload).or_default();
                sums.0 += all;
                for (program, minutes) in programs {
                    *sums.1.entry(program).or_default() += minutes;
                }
                parts::keep(&mut sums.1, PROGRAMS_MAX);
            }
            over |= parts::keep_least(own, WORKLOADS_MAX, |one| key.workload(one));
        }
        self.keep_cells();
        self.refused = self.refused.max(other.refused).max(u64::from(over));
    }

    /// By the same order as within a workload, or what one limit takes would hang on who met the other
    /// one first.
    fn keep_cells(&mut self) {
        let cells = |kinds: &BTreeMap<Deed, BTreeMap<Workload, Minutes>>| -> Vec<ProgramKey> {
            let all = kinds.values().flat_map(BTreeMap::values);
            all.flat_map(|(_, programs)| programs.keys().copied()).collect()
        };
        let mut keys = cells(&self.kinds);
        if keys.len() <= CELLS_MAX {
            return;
        }
        keys.sort_unstable();
        let least_gone = keys[CELLS_MAX];
        for (_, programs) in self.kinds.values_mut().flat_map(BTreeMap::values_mut) {
            drop(programs.split_off(&least_gone));
        }
    }

    pub fn rates(&self) -> Rates {
        let counts = |(all, programs): &Minutes| Counts {
            all: Count::of(number(*all)),
            programs: programs
                .iter()
                .map(|(key, minutes)| (*key, Count::of(number(*minutes))))
                .collect(),
        };
        let kind = |workloads: &BTreeMap<Workload, Minutes>| {
            workloads.iter().map(|(name, sums)| (name.clone(), counts(sums))).collect()
        };
        Rates {
            hours: number(self.hours),
            hours_frozen: number(self.hours_frozen),
            kinds: self.kinds.iter().map(|(deed, workloads)| (*deed, kind(workloads))).collect(),
            programs: BTreeMap::new(),
            refused: self.refused,
            cells: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    /// A run with nearly as many programs as are told apart.
    fn run(id: u64) -> Counted {
        let mut rng = SmallRng::seed_from_u64(id);
        let mut counted = Counted { hours: 1_500_000, hours_frozen: 500_000, ..Counted::default() };
        for _ in 0..9_000 {
            let deed = [Deed::NewPeer, Deed::NewProgram, Deed::Secret][rng.gen_range(0..3)];
            let workload = Workload::new(format!("w{}", rng.gen_range(0..8)));
            let sums = counted.kinds.entry(deed).or_default().entry(workload).or_default();
            sums.0 += 1_000_000;
            *sums.1.entry(rng.gen_range(0..20_000)).or_default() += 1_000_000;
        }
        counted
    }

    fn joined(order: &[u64]) -> Counted {
        let mut all = Counted::default();
        order.iter().for_each(|id| all.absorb(run(*id), ItemKey(7)));
        all
    }

    #[test]
    fn what_overflows_hangs_on_no_order() {
        let all = joined(&[1, 2, 3]);
        let cells = all.kinds.values().flat_map(BTreeMap::values).map(|sums| sums.1.len());
        assert!((CELLS_MAX / 2..=CELLS_MAX).contains(&cells.sum()));
        let mut pairs = joined(&[3, 1]);
        pairs.absorb(joined(&[2]), ItemKey(7));
        assert_eq!(all, pairs);
        let rates = all.rates();
        assert_eq!((rates.hours(), Counted::of(&rates)), (4.5, all));
    }
}
