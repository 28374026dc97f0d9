//! Subjects with a hard signal are judged before their window closes, by what their processes have
//! done so far.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hedgerow_event::{Event, Scale, Subject};
use hedgerow_features::{Window, fair};

use crate::{Engine, Outcome, Phase, detector::Scored};

/// Subjects that wait to be looked at before their window closes, in one epoch.
const WAITING_MAX: usize = 1024;
/// Subjects that are looked at at a time.
const EARLY_SUBJECTS_MAX: usize = 64;
/// Processes of one of them whose rows are read out; the window holds the rest when it closes.
const EARLY_PROCESSES_MAX: usize = 64;

/// A subject that waits.
#[derive(Debug, Default)]
pub struct Waiting {
    processes: BTreeSet<u32>,
    /// How often it was looked at.
    looks: u32,
}

/// Lowest for who is looked at first.
fn rank(urgent: &BTreeMap<&Subject, bool>, subject: &Subject) -> u8 {
    urgent.get(subject).map_or(2, |grave| u8::from(!grave))
}

impl Engine {
    /// Marks the subject of an event that is a hard signal. A process that belongs to a subject
    /// already watched may bring more.
    pub(crate) fn watch_early(&mut self, event: &Event) {
        let subject = &event.actor.subject;
        self.builder.mark_hard(subject, event.epoch);
        if self.hard.len() >= WAITING_MAX && !self.hard.contains_key(subject) {
            self.make_room();
        }
        let processes = &mut self.hard.entry(Arc::clone(subject)).or_default().processes;
        if processes.len() < EARLY_PROCESSES_MAX {
            processes.insert(event.actor.tgid);
        }
    }

    /// Those that matter least make room, of the owner of workloads that has most of them, who began last.
    fn make_room(&mut self) {
        let urgent = self.urgent();
        let mut gone = Vec::new();
        for least in [2, 1, 0] {
            let all = self.hard.keys().filter(|subject| rank(&urgent, subject) == least);
            let all = all.map(|subject| {
                let began = Reverse(self.first_of(subject));
                (subject.workload.owner(), began, Arc::clone(subject))
            });
            gone.extend(fair::make_room(all, fair::room(WAITING_MAX) - gone.len()));
        }
        gone.iter().for_each(|subject| drop(self.hard.remove(subject)));
    }

    /// Whose deeds nobody judged yet, and whether a denial could rest on them.
    fn urgent(&self) -> BTreeMap<&Subject, bool> {
        let mut urgent: BTreeMap<&Subject, bool> = BTreeMap::new();
        for tree in self.trees.unjudged() {
            for done in &tree.done {
                *urgent.entry(&done.witness.subject).or_default() |= tree.is_grave();
            }
        }
        urgent
    }

    /// Whom to look at now: first what a denial could rest on and nobody judged yet, then what else was done
    /// since the last look, and of that as much of each owner's as of another's. What is left of these waits
    /// for the next look. Behind them is who was judged, and who has a signal and no deed: who was looked at
    /// least goes first.
    fn next_early(&mut self) -> Vec<(Arc<Subject>, BTreeSet<u32>)> {
        let urgent = self.urgent();
        let rank = |subject: &Subject, looks| match rank(&urgent, subject) {
            2 => (2, looks),
            rank => (rank, 0),
        };
        let mut waiting: Vec<_> =
            self.hard.iter().map(|one| (rank(one.0, one.1.looks), 0, one.0)).collect();
        waiting.sort_by_key(|(rank, _, subject)| (*rank, self.first_of(subject)));
        let mut of: BTreeMap<_, usize> = BTreeMap::new();
        for (rank, turn, subject) in &mut waiting {
            let count = of.entry((*rank, subject.workload.owner())).or_default();
            *turn = *count;
            *count += 1;
        }
        waiting.sort_by_key(|(rank, turn, _)| (*rank, *turn));
        let next = waiting.into_iter().take(EARLY_SUBJECTS_MAX);
        let mut next: Vec<Arc<Subject>> = next.map(|(.., subject)| Arc::clone(subject)).collect();
        // Who began comes first, so that what it started joins its episode.
        next.sort_by_key(|subject| self.first_of(subject));
        let mut looked = Vec::new();
        for subject in next {
            let Some(waiting) = self.hard.get_mut(&subject) else { continue };
            waiting.looks += 1;
            looked.push((subject, waiting.processes.clone()));
        }
        looked
    }

    /// Looks at the subjects with a hard signal before their window closes. `rows_of` reads the
    /// rows of a process out of the kernel without taking them.
    pub fn look_early(
        &mut self,
        now_boot_ns: u64,
        mut rows_of: impl FnMut(u32) -> Vec<Event>,
    ) -> Vec<Outcome> {
        if !matches!(self.phase, Phase::Calibrate | Phase::Scoring) {
            return Vec::new();
        }
        let mut outcomes = Vec::new();
        for (subject, processes) in self.next_early() {
            let live: Vec<Event> = processes.iter().flat_map(|tgid| rows_of(*tgid)).collect();
            let Some(window) = self.builder.early(&subject, now_boot_ns, &live, &self.baseline)
            else {
                continue;
            };
            self.judge_early(window, &mut outcomes);
        }
        outcomes
    }

    /// Judges one early row, live or captured, and what the trees did that its subject is part of.
    pub fn judge_early(&mut self, window: Window, outcomes: &mut Vec<Outcome>) {
        let now_boot_ns = window.time.end_boot_ns;
        self.now_boot_ns = now_boot_ns;
        if self.phase == Phase::Scoring {
            self.judge_trees_of(&window, now_boot_ns, outcomes);
        }
        if let Some(scored) = self.scored_early(&window) {
            if self.phase == Phase::Scoring {
                let found = self
                    .judge_window(&window, &scored, now_boot_ns, outcomes)
                    .or_else(|| self.episodes.case_of(&window.subject));
                outcomes.push(Outcome::Scored(self.window_score(&window, &scored, found)));
            }
            let highest = self.early.get(&window.subject);
            if highest.is_none_or(|highest| scored.amounts > highest.amounts) {
                self.early.insert(Arc::clone(&window.subject), scored);
            }
        }
        outcomes.push(Outcome::Windows(vec![window]));
    }

    fn scored_early(&self, window: &Window) -> Option<Scored> {
        let learned = self.learned.get(&Scale::Seconds5)?;
        let mut scored =
            learned.detector.score(&learned.reference, std::slice::from_ref(window)).pop()?;
        scored.nats = learned.surprise(window, &scored);
        Some(scored)
    }
}
