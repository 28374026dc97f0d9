//! Reports of one case: a process tree, or the amounts of one workload, with gaps of at most five
//! minutes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hedgerow_event::{Class, Finding, Subject, Workload};
use hedgerow_features::fair;

use crate::{
    HOUR_NS,
    surprise::{notices::GRAVER_NATS, trees::QUIET_NS},
};

/// Open episodes; past it those reported longest ago of the owner of workloads that has most are closed.
const OPEN_MAX: usize = 1024;

/// What an episode is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Case {
    /// A process tree, by number.
    Tree(u64),
    /// What several trees did, by the last one's number.
    Campaign(u64),
    /// Amounts of a workload's programs, or of the kernel's own counters.
    Amounts(Workload, bool),
}

/// An episode that can still grow.
#[derive(Debug, Clone)]
pub struct Episode {
    pub uid: String,
    /// Whose it was when it began.
    workload: Workload,
    pub class: Class,
    pub subjects: BTreeSet<Arc<Subject>>,
    begun_boot_ns: u64,
    pub last_boot_ns: u64,
    pub sequence: u32,
    /// A person was told; until then its reports are listed.
    pub notified: bool,
    /// Columns that were told of.
    pub columns: BTreeSet<Arc<str>>,
    /// What was last reported, repeated when the episode closes.
    pub reported: Option<Box<Finding>>,
}

/// Open episodes by their case.
#[derive(Debug, Default)]
pub struct Episodes {
    open: BTreeMap<Case, Episode>,
    over: Vec<Episode>,
    /// Those that had to go for others.
    forgotten: u64,
}

impl Episode {
    /// Whether so much is more than what was reported of it.
    pub fn is_graver(&self, nats: f64) -> bool {
        self.reported.as_ref().is_some_and(|last| nats >= last.surprise + GRAVER_NATS)
    }
}

impl Episodes {
    /// The episode of a case of a workload, opened with a uid where there is none.
    pub fn of(
        &mut self,
        case: Case,
        class: Class,
        now_boot_ns: u64,
        (workload, uid): (&Workload, String),
    ) -> &mut Episode {
        if self.open.len() >= OPEN_MAX && !self.open.contains_key(&case) {
            self.make_room();
        }
        let episode = self.open.entry(case).or_insert_with(|| Episode {
            uid,
            workload: workload.clone(),
            class,
            subjects: BTreeSet::new(),
            begun_boot_ns: now_boot_ns,
            last_boot_ns: now_boot_ns,
            sequence: 0,
            notified: false,
            columns: BTreeSet::new(),
            reported: None,
        });
        episode.last_boot_ns = now_boot_ns;
        episode.class = episode.class.max(class);
        episode
    }

    fn make_room(&mut self) {
        let all = self
            .open
            .iter()
            .map(|(case, episode)| (episode.workload.owner(), episode.last_boot_ns, case.clone()));
        for case in fair::make_room(all, fair::room(OPEN_MAX)) {
            self.over.extend(self.open.remove(&case));
            self.forgotten += 1;
        }
    }

    /// Ends an episode that began an hour ago: whoever goes on keeps nothing that comes later in his case.
    pub fn end_old(&mut self, case: &Case, now_boot_ns: u64) {
        let is_old = |one: &Episode| one.begun_boot_ns.saturating_add(HOUR_NS) <= now_boot_ns;
        if self.open.get(case).is_some_and(is_old) {
            self.end(case);
        }
    }

    /// Ends an episode: what comes is another one.
    pub fn end(&mut self, case: &Case) {
        self.over.extend(self.open.remove(case));
    }

    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    pub fn get_mut(&mut self, case: &Case) -> Option<&mut Episode> {
        self.open.get_mut(case)
    }

    pub fn get(&self, case: &Case) -> Option<&Episode> {
        self.open.get(case)
    }

    /// The case of a tree that a subject is part of and that was told, where that accounts for so much.
    pub fn tree_of(&self, subject: &Subject, nats: f64) -> Option<Case> {
        let mut trees = self.open.iter().filter(|(case, episode)| {
            matches!(case, Case::Tree(_))
                && episode.notified
                && episode.subjects.contains(subject)
                && !episode.is_graver(nats)
        });
        trees.next().map(|(case, _)| case.clone())
    }

    /// A case that a subject is part of.
    pub fn case_of(&self, subject: &Subject) -> Option<Case> {
        let mut open = self.open.iter();
        open.find(|(_, episode)| episode.subjects.contains(subject)).map(|(case, _)| case.clone())
    }

    /// A subject of an open episode: what it does isn't learned.
    pub fn involves(&self, subject: &Subject) -> bool {
        self.open.values().any(|episode| episode.subjects.contains(subject))
    }

    /// Takes out the episodes that are over at a time, and those that found no room any more.
    pub fn expire(&mut self, now_boot_ns: u64) -> Vec<Episode> {
        let over: Vec<Case> = self
            .open
            .iter()
            .filter(|(_, episode)| episode.last_boot_ns.saturating_add(QUIET_NS) < now_boot_ns)
            .map(|(case, _)| case.clone())
            .collect();
        let mut found = std::mem::take(&mut self.over);
        found.extend(over.iter().filter_map(|case| self.open.remove(case)));
        found
    }

    /// Takes out all of them, at the end.
    pub fn drain(&mut self) -> Vec<Episode> {
        let mut found = std::mem::take(&mut self.over);
        found.extend(std::mem::take(&mut self.open).into_values());
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_ends_after_five_quiet_minutes_and_one_that_finds_no_room_ends_too() {
        let mut episodes = Episodes::default();
        let (web, job) = (Workload::new("web.service"), Workload::new("job.service"));
        let of = |workload| (workload, "a".to_owned());
        episodes.of(Case::Tree(1), Class::Novelty, 1, of(&job)).sequence = 3;
        assert_eq!(episodes.of(Case::Tree(1), Class::Intrinsic, QUIET_NS, of(&job)).sequence, 3);
        assert!(episodes.expire(2 * QUIET_NS).is_empty());
        let over = episodes.expire(2 * QUIET_NS + 1);
        assert_eq!((over.len(), over[0].class), (1, Class::Intrinsic));
        // Who has many cases ends his own, in however many units of his they are.
        episodes.of(Case::Tree(0), Class::Measure, 0, of(&web));
        for at in 1..=OPEN_MAX as u64 {
            let unit = Workload::new(format!("user@1000.service/{at}.service"));
            episodes.of(Case::Tree(at), Class::Measure, at, (&unit, "a".to_owned()));
        }
        let refused = episodes.expire(0);
        assert_eq!(refused.len() as u64, episodes.forgotten());
        assert_eq!((refused.len(), refused[0].last_boot_ns), (fair::room(OPEN_MAX), 1));
        assert!(episodes.get(&Case::Tree(0)).is_some());
    }
}
