//! System calls, from rows.

use hedgerow_event::{Actor, CLASSES, Row};

use crate::{item::ItemKey, sketch::Sketch};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallCounts {
    pub classes: [u64; CLASSES],
    pub calls: u64,
    pub errors: u64,
    pub checked: u64,
    pub unseen2: u64,
    pub unseen3: u64,
    pub unseen6: u64,
    /// The largest `unseen6` of one row: a thread's share of a window.
    pub unseen6_max: u64,
    pub collapsed: u64,
    /// The largest `calls` of one row.
    pub calls_max: u64,
    pub threads: Sketch,
    pub processes: Sketch,
}

impl Default for CallCounts {
    fn default() -> Self {
        Self {
            classes: [0; CLASSES],
            calls: 0,
            errors: 0,
            checked: 0,
            unseen2: 0,
            unseen3: 0,
            unseen6: 0,
            unseen6_max: 0,
            collapsed: 0,
            calls_max: 0,
            threads: Sketch::default(),
            processes: Sketch::default(),
        }
    }
}

impl CallCounts {
    pub fn observe(&mut self, actor: &Actor, row: &Row, key: ItemKey) {
        for (sum, count) in self.classes.iter_mut().zip(&row.classes) {
            *sum += u64::from(*count);
        }
        self.calls += row.calls;
        self.errors += row.errors;
        self.checked += row.checked;
        self.unseen2 += row.unseen2;
        self.unseen3 += row.unseen3;
        self.unseen6 += row.unseen6;
        self.collapsed += row.collapsed;
        // A spilled row (tgid 0) is the sum of many threads.
        if actor.tgid != 0 && row.calls > 0 {
            self.unseen6_max = self.unseen6_max.max(row.unseen6);
            self.calls_max = self.calls_max.max(row.calls);
            self.threads.add(key.task(actor.tgid, actor.tid, actor.start_boot_ns), 1);
            self.processes.add(key.task(actor.tgid, 0, actor.start_boot_ns), 1);
        }
    }

    /// Calls of the classes in a bit set of indices.
    pub fn sum(&self, classes: u64) -> u64 {
        let (mut rest, mut sum) = (classes, 0);
        while rest != 0 {
            sum += self.classes[rest.trailing_zeros() as usize % CLASSES];
            rest &= rest - 1;
        }
        sum
    }

    pub fn merge(&mut self, other: &Self) {
        for (sum, count) in self.classes.iter_mut().zip(&other.classes) {
            *sum += count;
        }
        self.calls += other.calls;
        self.errors += other.errors;
        self.checked += other.checked;
        self.unseen2 += other.unseen2;
        self.unseen3 += other.unseen3;
        self.unseen6 += other.unseen6;
        self.unseen6_max = self.unseen6_max.max(other.unseen6_max);
        self.collapsed += other.collapsed;
        self.calls_max = self.calls_max.max(other.calls_max);
        self.threads.merge(&other.threads);
        self.processes.merge(&other.processes);
    }
}
