//! The most that learning saw of an amount.

use std::collections::BTreeMap;

use hedgerow_event::{Deed, Subject};
use hedgerow_features::ItemKey;
use serde::{Deserialize, Serialize};

use crate::parts;

/// Programs (once in each workload, once over all of them) whose most is kept, for each kind. Past
/// them a program is judged by the largest of those of its workload that found no room.
pub const MOST_MAX: usize = 4_096;
/// Workloads with such; in a further one whoever found no room is judged as if he had done nothing.
const LOST_MAX: usize = 1_024;
/// So many times the most is a deed.
const FACTOR: u64 = 4;

/// Whose amounts: a program's in its workload, and, where that was never learned, anywhere.
#[derive(Debug, Clone, Copy)]
pub struct By {
    pub own: u64,
    any: u64,
    /// Whose room they take.
    pub workload: u64,
}

impl By {
    pub fn program(items: ItemKey, subject: &Subject) -> Self {
        let workload = items.workload(&subject.workload);
        Self { own: items.subject(subject), any: items.program(&subject.program), workload }
    }

    /// All programs of a workload together.
    pub fn workload(items: ItemKey, subject: &Subject) -> Self {
        let own = items.workload(&subject.workload);
        Self { own, any: own, workload: own }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Table {
    entries: BTreeMap<u64, u64>,
    largest: u64,
    refused: u64,
    /// The largest that found no room, by workload.
    #[serde(default)]
    lost: BTreeMap<u64, u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Most(BTreeMap<Deed, Table>);

impl Most {
    /// Adds the most of another run; past the limit keys of least hash stay.
    pub fn absorb(&mut self, other: Self) {
        for (deed, table) in other.0 {
            let own = self.0.entry(deed).or_default();
            own.largest = own.largest.max(table.largest);
            for (key, amount) in table.entries {
                let most = own.entries.entry(key).or_default();
                *most = (*most).max(amount);
            }
            let over = own.entries.len() > MOST_MAX;
            parts::keep(&mut own.entries, MOST_MAX);
            for (workload, amount) in table.lost {
                let most = own.lost.entry(workload).or_default();
                *most = (*most).max(amount);
            }
            parts::keep(&mut own.lost, LOST_MAX);
            own.refused = own.refused.max(table.refused).min(1).max(u64::from(over));
        }
    }

    pub fn learn(&mut self, deed: Deed, by: By, amount: u64) {
        self.raise(deed, by.own, by.workload, amount);
        if by.any != by.own {
            self.raise(deed, by.any, by.workload, amount);
        }
    }

    /// For one workload alone.
    pub fn accept(&mut self, deed: Deed, by: By, amount: u64) {
        self.raise(deed, by.own, by.workload, amount);
    }

    /// For one workload alone.
    pub fn forget(&mut self, deed: Deed, by: By) {
        if let Some(table) = self.0.get_mut(&deed) {
            table.entries.remove(&by.own);
        }
    }

    fn raise(&mut self, deed: Deed, key: u64, workload: u64, amount: u64) {
        let table = self.0.entry(deed).or_default();
        table.largest = table.largest.max(amount);
        if table.entries.len() < MOST_MAX || table.entries.contains_key(&key) {
            let most = table.entries.entry(key).or_default();
            *most = (*most).max(amount);
        } else {
            table.refused += 1;
            if table.lost.len() < LOST_MAX || table.lost.contains_key(&workload) {
                let most = table.lost.entry(workload).or_default();
                *most = (*most).max(amount);
            }
        }
    }

    /// Above it an amount is a deed: never less than `floor`.
    pub fn limit(&self, deed: Deed, by: By, floor: u64) -> u64 {
        let Some(table) = self.0.get(&deed) else { return floor };
        let known = table.entries.get(&by.own).or_else(|| table.entries.get(&by.any));
        let most = match known {
            Some(most) => *most,
            // An older version, and several runs together, don't know whose it was.
            None if table.refused > 0 && table.lost.is_empty() => table.largest,
            None => table.lost.get(&by.workload).copied().unwrap_or(0),
        };
        floor.max(most.saturating_mul(FACTOR))
    }

    pub fn refused(&self) -> u64 {
        self.0.values().map(|table| table.refused).sum()
    }
}
