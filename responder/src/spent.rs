//! Entries that were tried for as long as tries alone can keep one. Pure.

use std::collections::VecDeque;

use hedgerow_event::Target;

use crate::{entry::Entry, target::same};

/// Ended entries that are remembered; the oldest go first, and could be opened once more.
const SPENT_MAX: usize = 1024;

/// What was refused for its whole hour, with the finding that had asked for it. A restart forgets
/// it: findings have other uids then.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    ended: VecDeque<(Target, Option<String>)>,
}

impl Spent {
    pub fn add(&mut self, entry: &Entry) {
        if self.ended.len() >= SPENT_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back((entry.target.clone(), entry.finding_uid.clone()));
    }

    /// The finding has had its hour with this target.
    pub fn covers(&self, target: &Target, finding_uid: Option<&str>) -> bool {
        let had = |(ended, by): &(Target, Option<String>)| {
            same(ended, target) && by.as_deref() == finding_uid
        };
        self.ended.iter().any(had)
    }
}
