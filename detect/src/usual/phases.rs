//! Learning in time order: fill, fit, calibrate.

use std::{collections::BTreeMap, sync::Arc};

use hedgerow_event::Scale;
use hedgerow_features::Window;

use super::detector;
use crate::{Engine, Outcome, Phase, Result};

/// With fewer held-back windows calibration goes on.
const HELD_BACK_LEAST: u64 = 5;

impl Engine {
    pub(crate) fn learn(&mut self, windows: &[Window]) {
        let taken = windows.iter().filter(|window| {
            self.learns_of(window) && window.time.is_valid() && !self.in_transition(window)
        });
        let mut by_scale: BTreeMap<Scale, Vec<&Window>> = BTreeMap::new();
        for window in taken {
            by_scale.entry(window.time.scale).or_default().push(window);
        }
        for (scale, windows) in by_scale {
            if let Some(learning) = self.learning.get_mut(&scale) {
                learning.add(&windows);
            }
            if let Some(gathering) = &mut self.gathering {
                gathering.learn(scale, &windows, self.phase);
            }
            let counts = self.counts.entry(scale).or_default();
            windows.iter().for_each(|window| counts.add(window));
        }
    }

    /// A longer window that holds the epoch of the transition is used no more than that itself.
    pub(crate) fn in_transition(&self, window: &Window) -> bool {
        let first = window.time.epoch.0;
        let end = first.saturating_add(window.time.scale.epochs());
        self.transition.is_some_and(|epoch| (first..end).contains(&epoch))
    }

    /// Goes on to the next part of learning when this one has had its epochs.
    pub(crate) fn advance(&mut self, outcomes: &mut Vec<Outcome>) -> Result<()> {
        let schedule = self.settings.schedule;
        let seed = self.settings.seed;
        match self.phase {
            Phase::Fill if self.closed >= schedule.fill => {
                let profile = self.grams.end(seed);
                self.daily.follow(&profile);
                self.profile = Some(Arc::clone(&profile));
                outcomes.push(Outcome::Arm(profile));
                self.enter(Phase::Fit, outcomes);
            }
            Phase::Fit if self.closed == 1 => {
                self.baseline.freeze();
                self.know_programs();
                let learning = std::mem::take(&mut self.learning);
                self.learning =
                    learning.into_iter().map(|(scale, l)| (scale, l.end_fill(seed))).collect();
            }
            Phase::Fit if self.closed >= schedule.fit && self.fit_suffices() => {
                for (scale, learning) in std::mem::take(&mut self.learning) {
                    let counts = self.counts.remove(&scale).unwrap_or_default();
                    if let Some(learned) = learning.end_fit(seed, counts)? {
                        self.learned.insert(scale, learned);
                    }
                }
                self.enter(Phase::Calibrate, outcomes);
            }
            Phase::Calibrate
                if self.closed >= schedule.calibrate && self.held_back >= HELD_BACK_LEAST =>
            {
                self.end_calibrate();
                self.model_id = self.name_model();
                self.learned_ns = self.unix_ns(self.now_boot_ns);
                self.enter(Phase::Scoring, outcomes);
            }
            _ => {}
        }
        Ok(())
    }

    /// A host so quiet that its part of the schedule brought too few windows for a forest goes on
    /// with it: what never learned would never find anything.
    fn fit_suffices(&self) -> bool {
        self.learning
            .get(&Scale::Seconds5)
            .is_none_or(|learning| learning.rows() >= detector::FIT_ROWS_LEAST)
    }

    fn enter(&mut self, phase: Phase, outcomes: &mut Vec<Outcome>) {
        self.phase = phase;
        self.closed = 0;
        outcomes.push(Outcome::Phase(phase));
    }
}
