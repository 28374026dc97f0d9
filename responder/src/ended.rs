//! Entries that have ended, for who calls one of them wrong while its ledger lines wait. Pure.

use std::collections::VecDeque;

use hedgerow_event::{Mode, Rule, Workload};

use crate::entry::Entry;

/// Ended entries that are remembered. The oldest go first: the ledger has them.
const ENDED_MAX: usize = 1024;

/// What is asked of an entry that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    pub uid: String,
    pub workload: Workload,
    pub automatic: bool,
    /// It refused, and did not only count.
    pub refused: bool,
}

impl End {
    pub fn of(uid: &str, workload: Option<&Workload>, rule: Rule, mode: Mode) -> Self {
        Self {
            uid: uid.to_owned(),
            workload: workload.cloned().unwrap_or_else(Workload::host),
            automatic: rule != Rule::Operator,
            refused: mode == Mode::Enforce,
        }
    }
}

impl From<&Entry> for End {
    fn from(entry: &Entry) -> Self {
        Self::of(&entry.uid, entry.workload(), entry.rule, entry.mode)
    }
}

/// The last ones.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    recent: VecDeque<End>,
}

impl Ended {
    pub fn add(&mut self, entry: &Entry) {
        self.remember(entry.into());
    }

    fn remember(&mut self, end: End) {
        if self.recent.len() >= ENDED_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(end);
    }

    pub fn find(&self, uid: &str) -> Option<&End> {
        self.recent.iter().rev().find(|end| end.uid == uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_found_and_the_oldest_go_first() {
        let mut ended = Ended::default();
        let end = |number: usize| {
            let workload = Workload::new("web");
            End::of(&number.to_string(), Some(&workload), Rule::ExecUntrusted, Mode::Enforce)
        };
        (0..=ENDED_MAX).for_each(|number| ended.remember(end(number)));
        assert_eq!(ended.recent.len(), ENDED_MAX);
        assert_eq!(ended.find("0"), None);
        assert_eq!(ended.find("1024"), Some(&end(1024)));
    }
}
