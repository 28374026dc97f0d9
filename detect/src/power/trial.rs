//! What the rule would say of events that never were: the same functions on copies of what deeds
//! leave behind, so that nothing imagined is learned or counted.

use std::{collections::BTreeMap, sync::Arc};

use hedgerow_event::{
    Class, Deed, Epoch, Event, HostCounters, Loss, Object, Program, Provenance, Scale, Subject,
    Workload,
};
use hedgerow_features::{EPOCH_NS, Imagined, WindowTime};

use super::{Why, acts::Stage};
use crate::{
    Engine,
    deeds::{Deeds, processes::Facts, trades},
    lineage::Lineage,
    objects::{self, Witness},
    surprise::{tree::Tree, trees::Trees},
};

/// Events of one process tree, as they would be judged.
#[derive(Debug, Default)]
pub struct Judged {
    pub objects: Vec<Object>,
    /// The tree's surprise by class.
    pub nats: BTreeMap<Class, f64>,
    /// The gravest class that is above its floor.
    pub above: Option<(Class, f64)>,
    /// What somebody would be told as; `None` also where the hour's notification is spent.
    pub told: Option<(Class, f64)>,
}

/// An engine to try things on.
#[derive(Debug)]
pub struct Trial<'a> {
    pub engine: &'a Engine,
    deeds: Deeds,
    /// Time since boot at which it is tried; without one nothing was told yet in its hour.
    now_boot_ns: Option<u64>,
}

impl<'a> Trial<'a> {
    pub fn new(engine: &'a Engine, now_boot_ns: Option<u64>) -> Self {
        Self { engine, deeds: engine.deeds.clone(), now_boot_ns }
    }

    pub fn now_boot_ns(&self) -> u64 {
        self.now_boot_ns.unwrap_or(self.engine.now_boot_ns)
    }

    /// Judges what one process does. `pauses` are places among the events at which five minutes
    /// are over.
    pub fn judge(&mut self, stage: &Stage, events: &[Event], pauses: &[usize]) -> Judged {
        self.deeds.forget_running();
        let learning = self.engine.relearning > 0;
        let (mut lineage, mut trees) = (Lineage::default(), Trees::default());
        let mut judged = Judged::default();
        let mut tree = None;
        let birth = stage.birth();
        for (at, event) in std::iter::once(&birth).chain(events).enumerate() {
            lineage.observe(event);
            let baseline = &self.engine.baseline;
            let found = objects::objects(event, baseline, &mut self.deeds, false, learning);
            // That it is there is no deed of its own.
            for object in found.into_iter().filter(|_| at > 0) {
                let (witness, context, nats) = self.engine.weighed(event, object.clone(), &lineage);
                tree = Some(trees.add(&lineage, witness, context, nats));
                judged.objects.push(object);
            }
            if pauses.contains(&at) {
                self.deeds.next_minutes();
            }
        }
        if let Some(tree) = tree.and_then(|tree| trees.get(tree)) {
            self.judge_tree(tree, &stage.subject.workload, &mut judged);
        }
        judged
    }

    /// Judges what the kernel counts in an epoch.
    pub fn judge_counters(&mut self, counters: &HostCounters) -> Judged {
        self.deeds.forget_running();
        let engine = self.engine;
        let (key, learning) = (engine.baseline.key(), engine.relearning > 0);
        let mut judged = Judged::default();
        let Some(object) = self.deeds.observe_counters(counters, key, learning) else {
            return judged;
        };
        let (context, nats) = engine.weigh(&object);
        let witness = Witness::of_kernel(object.clone(), self.now_boot_ns());
        let mut trees = Trees::default();
        let tree = trees.add(&Lineage::default(), witness, context, nats);
        judged.objects.push(object);
        if let Some(tree) = trees.get(tree) {
            self.judge_tree(tree, &Workload::host(), &mut judged);
        }
        judged
    }

    fn judge_tree(&self, tree: &Tree, workload: &Workload, judged: &mut Judged) {
        judged.nats = tree.nats();
        judged.above = self.engine.above(tree);
        judged.told = judged.above.filter(|(class, nats)| self.is_free(*class, workload, *nats));
    }

    /// Whether a notification is left to a workload in this hour.
    pub fn is_free(&self, class: Class, workload: &Workload, nats: f64) -> bool {
        let Some(now) = self.now_boot_ns else { return true };
        let per_hour = self.engine.floors.per_hour(class);
        self.engine.notices.clone().admit((class, workload), per_hour, now, nats)
    }

    /// A subject's usual window.
    pub fn usual(&self, subject: &Arc<Subject>, scale: Scale) -> Imagined {
        let reference = self.engine.learned.get(&scale).map(|learned| &learned.reference);
        let usual = |at| reference.and_then(|reference| reference.usual(subject, at));
        Imagined::new(subject, self.engine.baseline.key(), usual)
    }

    /// How surprising the measure of an imagined window is; `None` where nothing judges it.
    pub fn measure(&self, imagined: &Imagined, scale: Scale) -> Option<f64> {
        let learned = self.engine.learned.get(&scale)?;
        let time = WindowTime {
            scale,
            epoch: Epoch(0),
            parts: scale.epochs(),
            start_boot_ns: 0,
            end_boot_ns: u64::from(scale.epochs()) * EPOCH_NS,
            realtime_offset_ns: 0,
            suspended_ns: 0,
            unattributed: Loss::default(),
            shed: false,
        };
        let window = imagined.window(self.engine.builder.config(), time, &self.engine.baseline);
        let scored = learned.detector.score(&learned.reference, std::slice::from_ref(&window));
        learned.surprise(&window, scored.first()?)
    }

    /// Whether an imagined window of a subject would be told.
    pub fn tells(&self, subject: &Subject, imagined: &Imagined, scale: Scale) -> bool {
        let measures = Class::Measure;
        // Measures of all workloads share one place.
        self.engine.floors.tells(measures, self.engine.hours_of(subject))
            && self
                .above(subject, imagined, scale)
                .is_some_and(|nats| self.is_free(measures, &Workload::host(), nats))
    }

    /// How surprising an imagined window is, where it would be listed at least.
    pub fn above(&self, subject: &Subject, imagined: &Imagined, scale: Scale) -> Option<f64> {
        let floor = self.engine.floors.floor_for(Class::Measure, &subject.workload);
        self.measure(imagined, scale).filter(|nats| *nats >= floor)
    }

    /// Why a deed is not told.
    pub fn why(&self, by: Option<&Program>, deed: Deed, judged: &Judged) -> Why {
        let Some(object) = judged.objects.iter().find(|object| object.deed() == deed) else {
            let facts = Facts { provenance: Provenance::Package, uid: 0, ..Facts::default() };
            return if self.engine.relearning > 0 {
                Why::Relearning
            } else if by.is_some_and(|program| trades::is_excused(deed, program, &facts)) {
                Why::Trade
            } else {
                Why::Learned
            };
        };
        if judged.above.is_some() {
            return Why::Spent;
        }
        let context = self.engine.context(object.subject());
        if self.engine.rates.has_done(deed, &context) { Why::Rate } else { Why::Floor }
    }
}
