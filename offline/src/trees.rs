//! Which processes labels mean by `tree`: whom they name by a process id, and who descends from that one.

use std::collections::{BTreeSet, HashMap};

use hedgerow_event::{Event, Finding, Origin};

use crate::labels::Label;

/// A process for good: its id, and when it started.
pub(crate) type ProcessKey = (u32, u64);

/// Descendants that are remembered; a later one is of no tree.
const PROCESSES_MAX: usize = 1 << 18;

/// The trees that labels name on one host.
#[derive(Debug, Default)]
pub(crate) struct Trees {
    named: BTreeSet<u32>,
    /// Who descends from whom of the named ones. Who has ended stays: what he did may be told later.
    below: HashMap<ProcessKey, Vec<u32>>,
}

impl Trees {
    pub fn of(host: &str, labels: &[Label]) -> Self {
        let named = labels.iter().filter(|label| label.host == host).filter_map(|label| label.tree);
        Self { named: named.collect(), below: HashMap::new() }
    }

    /// Sees who is whose child.
    pub fn observe(&mut self, event: &Event) {
        let Origin::Fork(fork) = &event.origin else { return };
        if fork.thread || self.named.is_empty() || self.below.len() >= PROCESSES_MAX {
            return;
        }
        let above = self.around((event.actor.tgid, event.actor.start_boot_ns));
        if !above.is_empty() {
            self.below.insert((fork.child_tgid, fork.child_start_boot_ns), above);
        }
    }

    /// The named processes that one is, or descends from.
    pub fn around(&self, process: ProcessKey) -> Vec<u32> {
        let above = self.below.get(&process).into_iter().flatten().copied();
        above.chain(self.named.get(&process.0).copied()).collect()
    }

    /// The same of whom a finding is about.
    pub fn around_finding(&self, finding: &Finding) -> Vec<u32> {
        let process = finding.process.as_ref();
        process.map_or_else(Vec::new, |of| self.around((of.pid, of.start_boot_ns)))
    }
}
