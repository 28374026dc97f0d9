//! The most that learning saw of an amount.

use std::collections::BTreeMap;

use hedgerow_event::{Deed, Subject};
use hedgerow_features::ItemKey;
use serde::{Deserialize, Serialize};

use crate::parts;

/// Programs (once in each workload, once over all of them) whose most is kept, for each kind. Past
/// them a program is judged by the largest of all.
pub const MOST_MAX: usize = 4_096;
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
            own.refused = own.refused.max(table.refused).min(1).max(u64::from(over));
        }
    }

    pub fn learn(&mut self, deed: Deed, by: By, amount: u64) {
        self.raise(deed, by.own, amount);
        if by.any != by.own {
            self.raise(deed, by.any, amount);
        }
    }

    /// For one workload alone.
    pub fn accept(&mut self, deed: Deed, by: By, amount: u64) {
        self.raise(deed, by.own, amount);
    }

    /// For one workload alone.
    pub fn forget(&mut self, deed: Deed, by: By) {
        if let Some(table) = self.0.get_mut(&deed) {
            table.entries.remove(&by.own);
        }
    }

    fn raise(&mut self, deed: Deed, key: u64, amount: u64) {
        let table = self.0.entry(deed).or_default();
        table.largest = table.largest.max(amount);
        if table.entries.len() < MOST_MAX || table.entries.contains_key(&key) {
            let most = table.entries.entry(key).or_default();
            *most = (*most).max(amount);
        } else {
            table.refused += 1;
        }
    }

    /// Above it an amount is a deed: never less than `floor`.
    pub fn limit(&self, deed: Deed, by: By, floor: u64) -> u64 {
        let Some(table) = self.0.get(&deed) else { return floor };
        let known = table.entries.get(&by.own).or_else(|| table.entries.get(&by.any));
        let most = match known {
            Some(most) => *most,
            None if table.refused > 0 => table.largest,
            None => 0,
        };
        floor.max(most.saturating_mul(FACTOR))
    }

    pub fn refused(&self) -> u64 {
        self.0.values().map(|table| table.refused).sum()
    }
}
