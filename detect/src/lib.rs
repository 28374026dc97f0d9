//! From events to findings: the same steps for the live stream and for captured Parquet. Reads no
//! clock and does no IO; what is to be done outside comes back as [`Outcome`]s.
//!
//! Learning has three parts in time order: *fill* (60 %: n-grams, first-seen sets and ranges are
//! collected, nothing is judged), *fit* (20 %: the detectors) and *calibrate* (20 %: scores are
//! held back). What fill learned is frozen before fit begins; the epoch between the two, in which
//! the kernel gets to know it, is used for neither.

pub mod budget;
#[allow(dead_code)]
mod deeds;
mod detector;
mod early;
mod episodes;
mod error;
pub mod file;
mod finding;
mod grams;
pub mod maturity;
mod objects;
mod persist;
mod probation;
mod reference;
mod scale;
mod schedule;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    budget::{Budget, BudgetParams, Scored as HeldBack},
    file::Profile,
    maturity::MaturityRule,
};
use hedgerow_event::{
    EpochClose, Event, Evidence, Finding, GramReport, Maturity, Origin, Program, Scale, Subject,
    Workload,
};
use hedgerow_features::{Baseline, Config, ItemKey, Window, WindowBuilder};

use self::{
    detector::{FIT_ROWS_LEAST, Scored},
    episodes::Episodes,
    grams::GramLearner,
    objects::{FirstSeen, Objects},
    probation::Probation,
    scale::{Counts, Learned, Learning},
};
pub use self::{
    error::{Error, Result, chain},
    grams::{digests, known},
    persist::SavedModel,
    schedule::{Phase, Schedule, Settings},
};

/// Length of an epoch.
pub const EPOCH_SECONDS: u64 = 5;
/// First-seen incidence is counted by hours, in a short trial by parts of it.
const INCIDENCE_UNITS: u64 = 24;
const HOUR_NS: u64 = 3_600_000_000_000;
/// With fewer held-back windows calibration goes on.
const HELD_BACK_LEAST: usize = 5;
/// Held-back scores that the budget's floor is solved from.
const HELD_BACK_MAX: usize = 1 << 20;

/// How one window, or early row, was judged.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowScore {
    pub subject: Arc<Subject>,
    pub scale: Scale,
    pub epoch: u32,
    pub early: Option<u32>,
    /// Wall time since the Unix epoch.
    pub window_start_ns: i64,
    pub window_end_ns: i64,
    /// In (0, 1].
    pub score: f64,
    /// Share of held-back windows that score as high; `None` before any was held back.
    pub p_value: Option<f64>,
    /// The score that an alert must exceed; `None` where nothing was held back.
    pub threshold: Option<f64>,
    /// The finding that the window is part of.
    pub finding_uid: Option<String>,
}

/// What is to be done outside.
#[derive(Debug)]
pub enum Outcome {
    /// The kernel is to take the profile's grams for known.
    Arm(Profile),
    /// A program's file was replaced; it relearns on probation for so many of its windows.
    Replaced {
        subject: Arc<Subject>,
        windows: u64,
    },
    /// They have, and are judged as before.
    Relearned {
        subjects: Vec<Arc<Subject>>,
    },
    Phase(Phase),
    /// Closed windows and early rows, for capture.
    Windows(Vec<Window>),
    /// How a window was judged.
    Scored(WindowScore),
    /// A report; with evidence where the responder may be asked.
    Finding(Box<Finding>, Option<Box<Evidence>>),
}

/// The pipeline's state.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    builder: WindowBuilder,
    baseline: Baseline,
    grams: GramLearner,
    profile: Option<Profile>,
    probation: Probation,
    phase: Phase,
    /// Epochs closed in this phase.
    closed: u32,
    /// The first epoch of fit, in which the kernel gets to know the profile.
    transition: Option<u32>,
    learning: BTreeMap<Scale, Learning>,
    learned: BTreeMap<Scale, Learned>,
    counts: BTreeMap<Scale, Counts>,
    held_back: Vec<HeldBack>,
    first_seen: FirstSeen,
    budget: Budget,
    objects: Objects,
    episodes: Episodes,
    /// Subjects to look at early in the open epoch, with the processes that made them so.
    hard: BTreeMap<Arc<Subject>, BTreeSet<u32>>,
    /// Highest early score of a subject in the open epoch.
    early: BTreeMap<Arc<Subject>, (f64, Scored)>,
    realtime_offset_ns: i64,
    model_id: String,
}

impl Engine {
    /// An engine that learns.
    pub fn learning(settings: Settings) -> Result<Self> {
        let key = ItemKey(settings.seed ^ 0x6974_656d_6b65_7921);
        let learn_ns = u64::from(settings.schedule.epochs()) * EPOCH_SECONDS * 1_000_000_000;
        let unit_ns = (learn_ns / INCIDENCE_UNITS).clamp(1, HOUR_NS);
        let scales = [Scale::Seconds5, Scale::Minute];
        Ok(Self {
            builder: builder(&settings, key),
            baseline: Baseline::new(key, unit_ns),
            grams: GramLearner::new(),
            profile: None,
            probation: Probation::default(),
            phase: Phase::Fill,
            closed: 0,
            transition: None,
            learning: scales.iter().map(|s| (*s, Learning::new(settings.seed))).collect(),
            learned: BTreeMap::new(),
            counts: BTreeMap::new(),
            held_back: Vec::new(),
            first_seen: FirstSeen::default(),
            budget: budget(settings.budget_per_day)?,
            objects: Objects::default(),
            episodes: Episodes::default(),
            hard: BTreeMap::new(),
            early: BTreeMap::new(),
            realtime_offset_ns: settings.realtime_offset_ns,
            model_id: String::new(),
            settings,
        })
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Epochs until scoring starts; 0 once it has.
    pub fn epochs_left(&self) -> u32 {
        let Schedule { fill, fit, calibrate } = self.settings.schedule;
        match self.phase {
            Phase::Fill => (fill + fit + calibrate).saturating_sub(self.closed),
            Phase::Fit => (fit + calibrate).saturating_sub(self.closed),
            Phase::Calibrate => calibrate.saturating_sub(self.closed),
            Phase::Scoring => 0,
        }
    }

    /// Programs being profiled, with (windows seen, grams seen in one window only, grams known).
    pub fn programs(&self) -> Vec<(String, u64, u64, u64)> {
        self.grams
            .programs()
            .map(|(subject, profile)| {
                let known = profile.six_grams.known.iter().map(|word| u64::from(word.count_ones()));
                let once =
                    profile.six_grams.in_one_window.iter().map(|w| u64::from(w.count_ones()));
                (subject.to_string(), profile.windows, once.sum(), known.sum())
            })
            .collect()
    }

    /// Reports of programs that found no room for a profile.
    pub fn programs_refused(&self) -> u64 {
        self.grams.refused()
    }

    /// Of the forest and of the n-gram hash.
    pub fn seed(&self) -> u64 {
        self.settings.seed
    }

    pub fn model_id(&self) -> &str {
        &self.model_id
    }

    pub fn baseline(&self) -> &Baseline {
        &self.baseline
    }

    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The state of the host as a whole: mature once the held-back windows support the budget.
    pub fn state(&self) -> Maturity {
        match self.phase {
            Phase::Scoring if self.budget.support().supported => Maturity::Mature,
            Phase::Scoring => Maturity::Provisional,
            _ => Maturity::Learning,
        }
    }

    /// How sure the learning of a workload is, by which a program never seen in it is judged.
    pub fn state_of_workload(&self, workload: &Workload) -> Maturity {
        self.state_of(&Subject::new(workload.clone(), Program::new("")))
    }

    /// How sure the learning of one subject is: its program's n-grams and, where they were counted
    /// by hours, its workload's first-seen things must have little novelty left to bring.
    fn state_of(&self, subject: &Subject) -> Maturity {
        let by_hours = self.baseline.unit_ns() >= HOUR_NS;
        let first_seen =
            by_hours.then(|| objects::incidence(&self.baseline.incidence(&subject.workload)));
        let learned = maturity::Learned {
            frozen: self.phase == Phase::Scoring,
            level_supported: self.budget.support().supported,
            grams: self.profile.as_ref().and_then(|profile| grams::incidence(profile, subject)),
            first_seen,
        };
        match maturity::maturity(&learned, &MaturityRule::for_budget(self.settings.budget_per_day))
        {
            maturity::Maturity::Learning => Maturity::Learning,
            maturity::Maturity::Mature if !self.is_on_probation(subject) => Maturity::Mature,
            maturity::Maturity::Provisional | maturity::Maturity::Mature => Maturity::Provisional,
        }
    }

    /// Takes one event.
    pub fn observe(&mut self, event: &Event) {
        self.builder.observe(event);
        let new = self.objects.observe(event, &self.baseline);
        if new || matches!(event.origin, Origin::Signal(_)) {
            self.watch_early(event);
        }
        self.baseline.observe(event);
        self.grams.note_digest(event, self.phase == Phase::Scoring);
    }

    /// Takes one program's grams of one window.
    pub fn grams(&mut self, report: &GramReport) {
        match self.phase {
            Phase::Fill => self.grams.add(report),
            _ => self.probation.note(report),
        }
    }

    /// Closes an epoch.
    pub fn close(&mut self, close: &EpochClose) -> Result<Vec<Outcome>> {
        self.realtime_offset_ns = close.realtime_offset_ns;
        let windows = self.builder.close(close, &self.baseline);
        let mut outcomes = Vec::new();
        match self.phase {
            Phase::Fill => self.learn(&windows),
            // The kernel got to know the profile somewhere inside the first epoch of fit.
            Phase::Fit if self.closed == 0 => self.transition = Some(close.epoch.0),
            Phase::Fit => {
                self.learn(&windows);
                self.count_first_seen();
            }
            Phase::Calibrate => {
                self.hold_back(&windows);
                self.count_first_seen();
            }
            Phase::Scoring => self.judge_closed(&windows, close, &mut outcomes),
        }
        self.begin_probation(close.epoch, &mut outcomes);
        self.probation.end_epoch();
        outcomes.insert(0, Outcome::Windows(windows));
        self.closed += 1;
        self.advance(&mut outcomes)?;
        self.objects.close(close.epoch);
        self.hard.clear();
        self.early.clear();
        Ok(outcomes)
    }

    fn learn(&mut self, windows: &[Window]) {
        for window in windows {
            if !window.time.is_valid() || self.in_transition(window) {
                continue;
            }
            if let Some(learning) = self.learning.get_mut(&window.time.scale) {
                learning.add(window);
            }
            self.counts.entry(window.time.scale).or_default().add(window);
        }
    }

    /// A longer window that holds the epoch of the transition is used no more than that itself.
    fn in_transition(&self, window: &Window) -> bool {
        let first = window.time.epoch.0;
        let end = first.saturating_add(window.time.scale.epochs());
        self.transition.is_some_and(|epoch| (first..end).contains(&epoch))
    }

    fn count_first_seen(&mut self) {
        let subjects: Vec<_> = self.objects.subjects().cloned().collect();
        for subject in subjects {
            for object in objects::distinct(self.objects.of(&subject).iter()) {
                self.first_seen.count(&object);
            }
        }
    }

    /// Scores windows, as they stood at their highest.
    fn scored(&self, scale: Scale, windows: &[Window]) -> Vec<Scored> {
        let Some(learned) = self.learned.get(&scale) else { return Vec::new() };
        let mut scored = learned.detector.score(&learned.reference, windows);
        if scale == Scale::Seconds5 {
            for (scored, window) in scored.iter_mut().zip(windows) {
                if let Some((score, early)) = self.early.get(&window.subject)
                    && *score > scored.score
                {
                    *scored = early.clone();
                }
            }
        }
        scored
    }

    fn hold_back(&mut self, windows: &[Window]) {
        for scale in [Scale::Seconds5, Scale::Minute] {
            let mut part: Vec<Window> = valid(windows, scale);
            part.retain(|window| !self.in_transition(window));
            let scored = self.scored(scale, &part);
            for (window, scored) in part.iter().zip(&scored) {
                if let Some(learned) = self.learned.get_mut(&scale) {
                    learned.hold_back(window, scored);
                    learned.counts.add(window);
                }
                if scale == Scale::Seconds5 && self.held_back.len() < HELD_BACK_MAX {
                    self.held_back.push(HeldBack {
                        time_s: self.unix_s(window.time.end_boot_ns),
                        key: finding::subject_key(&window.subject),
                        score: scored.score,
                    });
                }
            }
        }
    }

    /// Closes an epoch that was judged elsewhere: what reaches beyond it is kept up, nothing is
    /// judged.
    pub fn pass(&mut self, close: &EpochClose) {
        self.realtime_offset_ns = close.realtime_offset_ns;
        self.builder.close(close, &self.baseline);
        self.probation.end_epoch();
        self.objects.close(close.epoch);
        self.hard.clear();
        self.early.clear();
    }

    /// Goes on to the next part of learning when this one has had its epochs.
    fn advance(&mut self, outcomes: &mut Vec<Outcome>) -> Result<()> {
        let schedule = self.settings.schedule;
        let seed = self.settings.seed;
        match self.phase {
            Phase::Fill if self.closed >= schedule.fill => {
                let profile = self.grams.profile(seed);
                self.profile = Some(profile.clone());
                outcomes.push(Outcome::Arm(profile));
                self.enter(Phase::Fit, outcomes);
            }
            Phase::Fit if self.closed == 1 => {
                self.baseline.freeze();
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
                if self.closed >= schedule.calibrate && self.held_back.len() >= HELD_BACK_LEAST =>
            {
                self.budget.calibrate(&self.held_back);
                self.model_id = self.name_model();
                self.enter(Phase::Scoring, outcomes);
            }
            _ => {}
        }
        Ok(())
    }

    /// A host so quiet that its part of the schedule brought too few windows for a forest goes on
    /// with it: what never learned would never find anything.
    fn fit_suffices(&self) -> bool {
        self.learning.get(&Scale::Seconds5).is_none_or(|learning| learning.rows() >= FIT_ROWS_LEAST)
    }

    fn enter(&mut self, phase: Phase, outcomes: &mut Vec<Outcome>) {
        self.phase = phase;
        self.closed = 0;
        outcomes.push(Outcome::Phase(phase));
    }

    fn unix_s(&self, boot_ns: u64) -> u64 {
        u64::try_from(self.unix_ns(boot_ns) / 1_000_000_000).unwrap_or(0)
    }

    fn unix_ns(&self, boot_ns: u64) -> i64 {
        i64::try_from(boot_ns).unwrap_or(i64::MAX).saturating_add(self.realtime_offset_ns)
    }

    /// Learns what an operator says is normal.
    pub fn accept(&mut self, finding: &Finding) {
        for object in &finding.objects {
            self.baseline.accept(object);
            self.probation.accept(object);
        }
    }

    /// Ends the stream: what is open closes.
    pub fn finish(&mut self, now_boot_ns: u64) -> Vec<Outcome> {
        let over = self.episodes.drain();
        over.into_iter().filter_map(|episode| self.closing(episode, now_boot_ns)).collect()
    }
}

fn valid(windows: &[Window], scale: Scale) -> Vec<Window> {
    windows
        .iter()
        .filter(|window| window.time.scale == scale && window.time.is_valid())
        .cloned()
        .collect()
}

fn builder(settings: &Settings, key: ItemKey) -> WindowBuilder {
    let mut config = Config::new(Arc::clone(&settings.host_id));
    config.sensors = settings.sensors;
    config.realtime_offset_ns = settings.realtime_offset_ns;
    WindowBuilder::new(config, key)
}

fn budget(per_day: f64) -> Result<Budget> {
    Ok(Budget::new(BudgetParams { episodes_per_day: per_day, ..BudgetParams::default() })?)
}
