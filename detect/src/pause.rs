//! What is not learned for a while: maintenance is no normal life. It is judged as always.

use std::collections::BTreeSet;

use hedgerow_event::{Subject, Workload};
use hedgerow_features::Window;

use super::Engine;

/// Workloads from which nothing is learned at present.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paused {
    pub all: bool,
    pub workloads: BTreeSet<Workload>,
}

impl Paused {
    pub fn concerns(&self, subject: &Subject) -> bool {
        self.all || self.workloads.contains(&subject.workload)
    }
}

impl Engine {
    /// Nothing is learned of a window of maintenance, nor of one of which a part was shed: what was not looked
    /// at would be learned to be rare, and everything after it be more than ever.
    pub(crate) fn learns_of(&self, window: &Window) -> bool {
        !window.time.shed && !self.paused.concerns(&window.subject)
    }

    /// From the next window on nothing is learned of these, and of all others again.
    pub fn pause(&mut self, paused: Paused) {
        self.paused = paused;
    }
}
