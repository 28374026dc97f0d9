//! From events to findings: the same steps for the live stream and for captured Parquet. Reads no
//! clock and does no IO but for the model file; what is to be done outside comes back as
//! [`Outcome`]s.
//!
//! - **What is usual** (`usual/`): ranges, n-grams, first-seen sets, learned in time order.
//!   *Fill* (60 %) collects them and judges nothing; they are frozen before *fit* (20 %: the
//!   detectors) and *calibrate* (20 %: windows are held back). The epoch between fill and fit, in
//!   which the kernel gets to know what fill learned, is used for neither.
//! - **What was done**: deeds, with their witnesses, by process tree (`deeds/`).
//! - **How surprising** that is: [`surprise`], which has the whole rule on one screen.
//! - **What is said** (`said/`): episodes, findings, attribution, and evidence for the responder.

#[cfg(test)]
#[path = "../../features/tests/common/mod.rs"]
mod common;
mod deeds;
mod error;
pub mod file;
mod overview;
pub mod parts;
mod pause;
mod persist;
pub mod power;
mod said;
mod state;
pub mod surprise;
#[cfg(test)]
mod tests;
mod text;
mod usual;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hedgerow_event::{
    Digest, EpochClose, Event, Evidence, Finding, GramReport, Object, Origin, Scale, Subject,
    Workload,
};
use hedgerow_features::{Baseline, Config, ItemKey, Window, WindowBuilder};
use hedgerow_model::IsolationForest;
use ndarray::Array2;

use self::parts::Gathering;
pub use self::pause::Paused;
use self::{
    deeds::{
        Deeds,
        lineage::{self, Lineage},
        objects::{self, Witness},
    },
    said::{
        accepted::Accepted,
        early::Waiting,
        episodes::{self, Episodes},
    },
    surprise::{
        campaign::Campaign,
        floors::Floors,
        notices::Notices,
        rates::{Context, Rates},
        trees::Trees,
    },
    usual::{
        daily::Daily,
        detector::{self, Scored},
        drift::Drift,
        grams::{self, GramLearner},
        probation::{self, Probation},
        reference,
        scale::{self, Counts, Learned, Learning},
        sequence,
    },
};
pub use self::{
    deeds::{
        files::SCRIPT_EXTENSIONS,
        trades::{has_trade, is_program_directory},
    },
    error::{Error, Result, chain},
    overview::{DeedOverview, Overview, ProgramOverview, WorkloadOverview},
    persist::{Judged, SavedModel},
    said::finding::{FOREST, NATS},
    state::Forgotten,
    usual::{
        detector::Detector,
        grams::{digests, known},
        maturity,
        reference::{DEVIATIONS, deviation_columns},
        schedule::{Phase, Schedule, Settings},
    },
};
use crate::file::Profile;

/// Length of an epoch.
pub const EPOCH_SECONDS: u64 = 5;
/// First-seen incidence is counted by hours, in a short trial by parts of it.
const INCIDENCE_UNITS: u64 = 24;
const HOUR_NS: u64 = 3_600_000_000_000;
/// Floors are solved anew this often, in epochs.
const SOLVE_EPOCHS: u32 = 12;

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
    /// The isolation forest's (Liu 2008), in (0, 1].
    pub score: f64,
    /// What the forest read: see [`deviation_columns`].
    pub row: [f32; DEVIATIONS],
    /// How surprising the window's measure is, in nats; `None` before any was held back.
    pub surprise: Option<f64>,
    /// The surprise from which a measure notifies.
    pub floor: f64,
    /// The finding that the window is part of.
    pub finding_uid: Option<String>,
}

/// What is to be done outside.
#[derive(Debug)]
pub enum Outcome {
    /// The kernel is to take the profile's grams for known.
    Arm(Arc<Profile>),
    /// A program's file was replaced; it relearns on probation for so many of its windows.
    Replaced {
        subject: Arc<Subject>,
        windows: u64,
    },
    /// They have, and are judged as before.
    Relearned {
        subjects: Vec<Arc<Subject>>,
    },
    /// What a workload does is no longer what was learned of it: it should be learned anew.
    Drifted(Workload),
    Phase(Phase),
    /// Closed windows and early rows, for capture.
    Windows(Vec<Window>),
    /// How a window was judged.
    Scored(WindowScore),
    /// A report; with evidence of each process that the responder may be asked about, the gravest first.
    Finding(Box<Finding>, Vec<Evidence>),
    /// The responder may be asked once more: there is nothing to add to what was last reported of a case,
    /// but who it is about does again what may have been denied for a while, or calls another peer.
    Again(Box<Finding>, Vec<Evidence>),
}

/// The pipeline's state.
#[derive(Debug)]
pub struct Engine {
    paused: Paused,
    /// What models of several runs are made of, where it is asked for.
    gathering: Option<Box<Gathering>>,
    settings: Settings,
    builder: WindowBuilder,
    baseline: Baseline,
    grams: GramLearner,
    profile: Option<Arc<Profile>>,
    probation: Probation,
    daily: Daily,
    accepted: Accepted,
    phase: Phase,
    /// Epochs closed in this phase.
    closed: u32,
    /// The first epoch of fit, in which the kernel gets to know the profile.
    transition: Option<u32>,
    learning: BTreeMap<Scale, Learning>,
    learned: BTreeMap<Scale, Learned>,
    counts: BTreeMap<Scale, Counts>,
    /// Windows held back.
    held_back: u64,
    lineage: Lineage,
    deeds: Deeds,
    rates: Rates,
    floors: Floors,
    notices: Notices,
    trees: Trees,
    campaign: Campaign,
    episodes: Episodes,
    /// When a subject first did something in the open epoch.
    first: BTreeMap<Arc<Subject>, u64>,
    drift: Drift,
    /// Programs whose file was replaced in the open epoch.
    replaced: BTreeSet<Arc<Subject>>,
    /// What nobody suspected lately, to be learned at the end of the day.
    unsuspected: BTreeSet<Object>,
    /// Of it, what found no room.
    unlearned: u64,
    /// Epochs for which first uses are still learned: the model was of an older version.
    relearning: u32,
    /// Hours that the rates don't know of yet.
    watched: f64,
    /// Epochs judged since the day began.
    day: u32,
    /// Subjects to look at early in the open epoch, with the processes that made them so.
    hard: BTreeMap<Arc<Subject>, Waiting>,
    /// Highest early score of a subject in the open epoch.
    early: BTreeMap<Arc<Subject>, Scored>,
    now_boot_ns: u64,
    realtime_offset_ns: i64,
    model_id: String,
    /// Of what was last saved or loaded.
    model_digest: Option<Digest>,
    /// Wall time at which its learning ended; 0 where an older version wrote the model.
    learned_ns: i64,
    /// Other models by whose profile calls were counted as by this one's.
    profile_of: Vec<String>,
}

impl Engine {
    /// An engine that learns.
    pub fn learning(settings: Settings) -> Result<Self> {
        let key = ItemKey(settings.seed ^ 0x6974_656d_6b65_7921);
        let learn_ns = u64::from(settings.schedule.epochs()) * EPOCH_SECONDS * 1_000_000_000;
        let unit_ns = (learn_ns / INCIDENCE_UNITS).clamp(1, HOUR_NS);
        let seed = settings.forest_seed();
        let mut engine = Self::empty(settings, Baseline::new(key, unit_ns));
        engine.notices.begin_boot(&engine.settings.boot_id);
        engine.learning =
            [Scale::Seconds5, Scale::Minute].iter().map(|s| (*s, Learning::new(seed))).collect();
        Ok(engine)
    }

    /// An engine that knows nothing.
    fn empty(settings: Settings, baseline: Baseline) -> Self {
        Self {
            gathering: None,
            builder: builder(&settings, baseline.key()),
            grams: GramLearner::new(baseline.key()),
            baseline,
            profile: None,
            probation: Probation::default(),
            daily: Daily::default(),
            accepted: Accepted::default(),
            phase: Phase::Fill,
            closed: 0,
            transition: None,
            learning: BTreeMap::new(),
            learned: BTreeMap::new(),
            counts: BTreeMap::new(),
            held_back: 0,
            lineage: Lineage::default(),
            deeds: Deeds::default(),
            rates: Rates::default(),
            floors: Floors::new(settings.budget_per_day),
            notices: Notices::default(),
            trees: Trees::default(),
            campaign: Campaign::default(),
            episodes: Episodes::default(),
            first: BTreeMap::new(),
            drift: Drift::default(),
            replaced: BTreeSet::new(),
            paused: Paused::default(),
            unsuspected: BTreeSet::new(),
            unlearned: 0,
            relearning: 0,
            watched: 0.0,
            day: 0,
            hard: BTreeMap::new(),
            early: BTreeMap::new(),
            now_boot_ns: 0,
            realtime_offset_ns: settings.realtime_offset_ns,
            model_id: String::new(),
            model_digest: None,
            learned_ns: 0,
            profile_of: Vec::new(),
            settings,
        }
    }

    /// Takes one event.
    pub fn observe(&mut self, event: &Event) {
        self.builder.observe(event);
        self.lineage.observe(event);
        self.note_file(event);
        let fill = self.phase == Phase::Fill;
        let paused = self.paused.concerns(&event.actor.subject);
        let learning = fill && !paused || self.relearning > 0;
        let objects = objects::objects(event, &self.baseline, &mut self.deeds, fill, learning);
        if !objects.is_empty() || matches!(event.origin, Origin::Signal(_)) {
            self.watch_early(event);
        }
        for object in objects {
            self.done(event, object);
        }
        if !paused {
            self.baseline.observe(event);
        }
        self.grams.note_digest(event, self.phase == Phase::Scoring);
    }

    /// Puts a deed into its tree.
    fn done(&mut self, event: &Event, object: Object) {
        let subject = &event.actor.subject;
        if matches!(object, Object::Replaced { .. }) {
            self.replaced.insert(Arc::clone(subject));
        }
        self.first.entry(Arc::clone(subject)).or_insert(event.time_boot_ns);
        let (witness, context, nats) = self.weighed(event, object, &self.lineage);
        let id = self.trees.add(&self.lineage, witness, context, nats);
        if let Some(tree) = self.trees.get_mut(id) {
            tree.is_maintenance |= self.paused.concerns(subject);
        }
    }

    /// A deed with who did it, in which context and how surprising it is.
    fn weighed(&self, event: &Event, object: Object, lineage: &Lineage) -> (Witness, Context, f64) {
        let (context, nats) = self.weigh(&object);
        (Witness::new(event, object, lineage), context, nats)
    }

    fn weigh(&self, object: &Object) -> (Context, f64) {
        let context = self.context(object.subject());
        let nats = self.rates.surprise(object.deed(), &context, 0.0);
        (context, nats)
    }

    fn context(&self, subject: &Subject) -> Context {
        Context::new(subject, self.baseline.key().program(&subject.program))
    }

    /// Takes one program's grams of one window.
    pub fn grams(&mut self, report: &GramReport) {
        match self.phase {
            _ if self.paused.concerns(&report.subject) => {}
            Phase::Fill => self.grams.add(report),
            _ if self.is_on_probation(&report.subject) => self.probation.note(report),
            _ => self.daily.note(report),
        }
    }

    /// Closes an epoch.
    pub fn close(&mut self, close: &EpochClose) -> Result<Vec<Outcome>> {
        self.realtime_offset_ns = close.realtime_offset_ns;
        self.now_boot_ns = close.end_boot_ns;
        let windows = self.builder.close(close, &self.baseline);
        if let Some(gathering) = &mut self.gathering {
            gathering.close(close, self.phase);
        }
        self.count_floods(close);
        let mut outcomes = vec![Outcome::Windows(Vec::new())];
        match self.phase {
            Phase::Fill => self.learn(&windows),
            // The kernel got to know the profile somewhere inside the first epoch of fit.
            Phase::Fit if self.closed == 0 => self.transition = Some(close.epoch.0),
            Phase::Fit => self.learn(&windows),
            Phase::Calibrate => self.hold_back(&windows),
            Phase::Scoring => self.judge_closed(&windows, close, &mut outcomes),
        }
        self.keep_time(close, &mut outcomes)?;
        self.begin_probation(&mut outcomes);
        self.end_epoch(close);
        outcomes[0] = Outcome::Windows(windows);
        // Of what was shed nothing is learned: that time comes once more.
        self.closed += u32::from(!close.shed || self.phase == Phase::Scoring);
        self.advance(&mut outcomes)?;
        Ok(outcomes)
    }

    /// Puts what the kernel counted of floods and scans into a tree of its own.
    fn count_floods(&mut self, close: &EpochClose) {
        let learning = self.phase == Phase::Fill || self.relearning > 0;
        let key = self.baseline.key();
        let Some(object) = self.deeds.observe_counters(&close.host, key, learning) else { return };
        let (context, nats) = self.weigh(&object);
        let witness = Witness::of_kernel(object, close.end_boot_ns);
        self.trees.add(&self.lineage, witness, context, nats);
    }

    /// Forgets what belonged to the epoch; subjects that did something after its end are looked at
    /// early in the next one.
    fn end_epoch(&mut self, close: &EpochClose) {
        self.probation.end_epoch();
        self.daily.end_epoch();
        let learning = self.phase == Phase::Fill || self.relearning > 0;
        self.deeds.close(close.end_boot_ns, learning);
        self.relearning = self.relearning.saturating_sub(1);
        self.first.retain(|_, first| *first >= close.end_boot_ns);
        let first = &self.first;
        self.hard.retain(|subject, _| first.contains_key(subject));
        self.early.clear();
    }

    /// Scores windows, as they stood at their highest.
    fn scored(&self, scale: Scale, windows: &[&Window]) -> Vec<Scored> {
        let Some(learned) = self.learned.get(&scale) else { return Vec::new() };
        let mut scored = learned.detector.score(&learned.reference, windows);
        if scale == Scale::Seconds5 {
            for (scored, window) in scored.iter_mut().zip(windows) {
                if let Some(early) = self.early.get(&window.subject)
                    && early.amounts > scored.amounts
                {
                    // What it did besides is not undone by how fast it began.
                    let measure = scored.measure.max(early.measure);
                    *scored = Scored { measure, ..early.clone() };
                }
            }
        }
        scored
    }

    /// The forest of a scale, and the rows that it scores of windows: the most of the work.
    pub fn forest_rows(
        &self,
        scale: Scale,
        windows: &[Window],
    ) -> Option<(&IsolationForest, Array2<f32>)> {
        let Learned { detector, reference, .. } = self.learned.get(&scale)?;
        let part = valid(windows, scale);
        let deviations: Vec<_> = part.iter().map(|window| reference.deviation(window)).collect();
        (!part.is_empty()).then(|| (detector.forest(), detector::rows(deviations.iter())))
    }

    /// Closes an epoch that was judged elsewhere: what reaches beyond it is kept up, nothing is
    /// judged.
    pub fn pass(&mut self, close: &EpochClose) {
        self.realtime_offset_ns = close.realtime_offset_ns;
        self.now_boot_ns = close.end_boot_ns;
        self.builder.close(close, &self.baseline);
        self.replaced.clear();
        // What was done before judging begins was taken in where it was judged or learned.
        drop(self.trees.drain());
        self.campaign = Campaign::default();
        self.end_epoch(close);
    }

    fn unix_ns(&self, boot_ns: u64) -> i64 {
        i64::try_from(boot_ns).unwrap_or(i64::MAX).saturating_add(self.realtime_offset_ns)
    }

    /// Ends the stream: what is open closes.
    pub fn finish(&mut self, now_boot_ns: u64) -> Vec<Outcome> {
        let over = self.episodes.drain();
        over.into_iter().filter_map(|episode| self.closing(episode, now_boot_ns)).collect()
    }
}

fn valid(windows: &[Window], scale: Scale) -> Vec<&Window> {
    windows.iter().filter(|window| window.time.scale == scale && window.time.is_valid()).collect()
}

fn builder(settings: &Settings, key: ItemKey) -> WindowBuilder {
    let mut config = Config::new(Arc::clone(&settings.host_id));
    config.sensors = settings.sensors;
    config.realtime_offset_ns = settings.realtime_offset_ns;
    WindowBuilder::new(config, key)
}
