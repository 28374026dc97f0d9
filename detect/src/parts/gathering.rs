//! One run's part, gathered while an engine learns from it.

use std::{collections::BTreeMap, sync::Arc};

use hedgerow_event::{EpochClose, Scale};
use hedgerow_features::{ItemKey, Window};
use sha2::{Digest, Sha256};

use super::{Digests, Parts, Programs, Run, draw, scale::ScalePart};
use crate::{
    Engine, Phase, Settings,
    detector::Scored,
    grams,
    surprise::{counted::Counted, floors::HOURS_MAX},
};

#[derive(Debug)]
pub struct Gathering {
    key: ItemKey,
    /// A number of its own, once its first epoch has closed.
    id: Option<u64>,
    run: Run,
    scales: BTreeMap<Scale, ScalePart>,
}

impl Gathering {
    fn new(key: ItemKey, settings: &Settings) -> Self {
        let run = Run {
            host: settings.host_id.to_string(),
            boot: settings.boot_id.clone(),
            from_ns: 0,
            to_ns: 0,
            epochs: [0; 3],
        };
        Self { key, id: None, run, scales: BTreeMap::new() }
    }

    /// Takes note of an epoch before its windows.
    pub fn close(&mut self, close: &EpochClose, phase: Phase) {
        let wall = |boot_ns: u64| close.realtime_offset_ns.saturating_add_unsigned(boot_ns);
        let run = &mut self.run;
        run.to_ns = wall(close.end_boot_ns);
        if self.id.is_none() {
            run.from_ns = wall(close.start_boot_ns);
            let mut hasher = Sha256::new();
            for text in [&run.host, &run.boot] {
                hasher.update((text.len() as u64).to_le_bytes());
                hasher.update(text);
            }
            hasher.update(run.from_ns.to_le_bytes());
            let word =
                hasher.finalize().iter().take(8).fold(0, |id, byte| (id << 8) | u64::from(*byte));
            self.id = Some(draw(&[self.key.0, word]));
        }
        let at = match phase {
            Phase::Fill => 0,
            Phase::Fit => 1,
            Phase::Calibrate => 2,
            Phase::Scoring => return,
        };
        run.epochs[at] += 1;
    }

    /// Windows of *fill* or of *fit*.
    pub fn learn(&mut self, scale: Scale, windows: &[&Window], phase: Phase) {
        let Some(id) = self.id else { return };
        let part = self.scales.entry(scale).or_default();
        for window in windows {
            match phase {
                Phase::Fill => part.add_fill(self.key, id, window),
                _ => part.add_fit(self.key, id, window),
            }
        }
    }

    /// A window of *calibrate*.
    pub fn hold_back(&mut self, window: &Window, scored: &Scored) {
        let Some(id) = self.id else { return };
        let part = self.scales.entry(window.time.scale).or_default();
        part.hold_back(self.key, id, window, scored);
    }
}

impl Engine {
    /// Has an engine that learns gather what models of several runs are made of.
    pub fn gather(&mut self) {
        self.gathering = Some(Box::new(Gathering::new(self.baseline.key(), &self.settings)));
    }

    /// What the run taught that is over, however far it came; `None` where it wasn't gathered, or no
    /// epoch of it was closed. Nothing more is learned from it.
    pub fn take_part(&mut self) -> Option<Parts> {
        let Gathering { key, id, run, mut scales } = *self.gathering.take()?;
        let id = id?;
        if self.phase != Phase::Scoring {
            for (_, tree) in self.trees.drain() {
                self.take_in(tree);
            }
            self.baseline.freeze();
        }
        for (scale, learning) in std::mem::take(&mut self.learning) {
            let counts = self.counts.remove(&scale).unwrap_or_default();
            scales.entry(scale).or_default().end(key, &learning.into_reference(), counts);
        }
        for (scale, learned) in &self.learned {
            let counts = learned.counts.clone();
            scales.entry(*scale).or_default().end(key, &learned.reference, counts);
        }
        let (programs, digests) = self.part_of_programs(key);
        let hours = self.floors.hours().zip(0..);
        let drawn = |at: u32| (draw(&[id, u64::from(at)]), id, at);
        let mut hours: BTreeMap<_, _> = hours.map(|(hour, at)| (drawn(at), hour)).collect();
        super::keep(&mut hours, HOURS_MAX);
        Some(Parts {
            seed: self.settings.seed,
            budget_per_day: self.settings.budget_per_day,
            runs: BTreeMap::from([(id, run)]),
            programs,
            digests,
            baseline: self.baseline.part(),
            deeds: self.deeds.part(),
            counted: Counted::of(&self.rates),
            unsuspected: self.unsuspected.clone(),
            hours,
            scales,
            held_back: self.held_back,
        })
    }

    fn part_of_programs(&self, key: ItemKey) -> (Programs, Digests) {
        let made = || self.grams.profile(self.settings.seed);
        let mut profile = self.profile.clone().unwrap_or_else(made);
        self.grams.put_digests(&mut profile);
        let (mut programs, mut digests) = (Programs::new(), Digests::new());
        for mut program in Arc::unwrap_or_clone(profile).programs {
            let subject = Arc::new(grams::subject(&program));
            if let Some(digest) = program.digest.take() {
                digests.insert(Arc::clone(&subject), Some(digest));
            }
            programs.insert((key.subject(&subject), subject), program);
        }
        (programs, digests)
    }
}
