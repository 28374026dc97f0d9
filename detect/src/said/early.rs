//! Subjects with a hard signal are judged before their window closes, by what their processes have
//! done so far.

use std::sync::Arc;

use hedgerow_event::{Event, Scale};
use hedgerow_features::Window;

use crate::{Engine, Outcome, Phase, detector::Scored};

/// Subjects that are looked at before their window closes, in one epoch.
const EARLY_SUBJECTS_MAX: usize = 64;
/// Processes of one of them whose rows are read out; the window holds the rest when it closes.
const EARLY_PROCESSES_MAX: usize = 64;

impl Engine {
    /// Marks the subject of an event that is a hard signal. A process that belongs to a subject
    /// already watched may bring more.
    pub(crate) fn watch_early(&mut self, event: &Event) {
        let subject = &event.actor.subject;
        self.builder.mark_hard(subject, event.epoch);
        if self.hard.len() < EARLY_SUBJECTS_MAX || self.hard.contains_key(subject) {
            let processes = self.hard.entry(Arc::clone(subject)).or_default();
            if processes.len() < EARLY_PROCESSES_MAX {
                processes.insert(event.actor.tgid);
            }
        }
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
        let mut hard: Vec<_> = self.hard.iter().map(|(s, p)| (Arc::clone(s), p.clone())).collect();
        // Who began comes first, so that what it started joins its episode.
        hard.sort_by_key(|(subject, _)| self.first_of(subject));
        for (subject, processes) in hard {
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
