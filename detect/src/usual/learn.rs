//! Learning on: what is held back, counted and learned while life goes on.

use std::collections::{BTreeMap, BTreeSet};

use hedgerow_event::{Class, EpochClose, Object, Scale, Subject, Workload};
use hedgerow_features::{Set, Window, fair};

use crate::{
    EPOCH_SECONDS, Engine, HOUR_NS, Outcome, Phase, Result, SOLVE_EPOCHS,
    detector::Scored,
    surprise::{floors::Measured, tails::Tails, tree::Tree},
    valid,
};

/// What nobody suspected is learned once a day.
const DAY_EPOCHS: u32 = 17_280;
/// Objects that wait for the end of their day. Past it those of the workload that has most stay
/// unlearned, and are told again.
pub const UNSUSPECTED_MAX: usize = 4096;

impl Engine {
    pub(crate) fn hold_back(&mut self, windows: &[Window]) {
        for scale in [Scale::Seconds5, Scale::Minute] {
            let mut part = valid(windows, scale);
            part.retain(|window| !self.in_transition(window) && self.learns_of(window));
            let scored = self.scored(scale, &part);
            for (window, scored) in part.iter().zip(&scored) {
                self.held_back += 1;
                if let Some(learned) = self.learned.get_mut(&scale) {
                    learned.hold_back(window, scored, false);
                    learned.counts.add(window);
                }
                if let Some(gathering) = &mut self.gathering {
                    gathering.hold_back(window, scored);
                }
            }
        }
    }

    /// Adds an epoch to what was watched, and takes in the trees that are over.
    pub(crate) fn keep_time(
        &mut self,
        close: &EpochClose,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<()> {
        // Time in suspend is none in which something could happen.
        let hours = EPOCH_SECONDS as f64 / 3600.0;
        // What the rates count of deeds is told also while things are shed.
        self.watched += hours;
        if self.phase != Phase::Fill {
            self.floors.watch(close.end_boot_ns / HOUR_NS, hours, close.shed);
        }
        for learned in self.learned.values_mut().filter(|_| !close.shed) {
            learned.tails.watch(hours);
            learned.sequences.watch(hours);
        }
        for (_, tree) in self.trees.over(close.end_boot_ns) {
            self.take_in(tree);
        }
        if self.phase == Phase::Scoring {
            self.day += 1;
            let day_ends = self.day >= DAY_EPOCHS;
            if day_ends {
                self.day = 0;
                self.learn_day(outcomes)?;
            }
            if day_ends || self.closed.is_multiple_of(SOLVE_EPOCHS) {
                self.solve();
            }
        } else {
            self.watch();
        }
        Ok(())
    }

    /// Adds what was watched to the rates. In service they move on with the floors only: between
    /// two of them a deed would grow more surprising than the floor that was solved to hold it.
    fn watch(&mut self) {
        let hours = std::mem::take(&mut self.watched);
        self.rates.watch(hours, self.phase != Phase::Fill);
    }

    /// A tree that is over is held back, whatever it was, but for maintenance; what nobody suspected is
    /// counted, too. The responder suspects what it may deny, wherever the floors are: what was refused
    /// once is refused again.
    pub(crate) fn take_in(&mut self, tree: Tree) {
        if tree.is_maintenance {
            return;
        }
        let grave = self.phase == Phase::Scoring && tree.is_grave();
        let counted = !grave && !tree.is_suspected();
        if self.phase != Phase::Fill && !tree.is_attack {
            let highest = tree.nats().into_values().fold(0.0, f64::max);
            self.floors.hold_back(highest, tree.told(counted));
        }
        if !counted {
            return;
        }
        for (deed, context, minutes) in tree.counts() {
            self.rates.count_all(deed, context, minutes);
        }
        for object in tree.objects() {
            if object.deed().class() != Class::Intrinsic {
                self.wait(object);
            }
        }
    }

    /// Has an object wait for the end of the day.
    pub(crate) fn wait(&mut self, object: Object) {
        if self.unsuspected.len() >= UNSUSPECTED_MAX && !self.unsuspected.contains(&object) {
            let key = self.baseline.key();
            // By a keyed hash, so that no name is made to stay.
            let rank = |object: &Object| key.path(&object.to_string());
            let waiting = self.unsuspected.iter();
            let all =
                waiting.map(|object| (object.subject().workload.owner(), rank(object), object));
            let gone = fair::make_room(all, fair::room(UNSUSPECTED_MAX));
            self.unlearned += gone.len() as u64;
            for object in gone.into_iter().cloned().collect::<Vec<_>>() {
                self.unsuspected.remove(&object);
            }
        }
        self.unsuspected.insert(object);
    }

    /// Cases, by their uids, were attacks: their trees are no part of the life that floors are solved
    /// over. Gives how many trees that was.
    pub fn confirm<'a>(&mut self, uids: impl IntoIterator<Item = &'a str>) -> usize {
        let cases: BTreeSet<&str> = uids.into_iter().collect();
        let trees = self.trees.confirm(&cases) + self.floors.confirm(&cases, &self.rates);
        if trees > 0 && self.phase == Phase::Scoring {
            self.solve();
        }
        trees
    }

    /// Learns what was new a day ago and what nobody suspected: a rate counts it once, not every
    /// hour. What is grave by itself is learned at an operator's word only.
    fn learn_day(&mut self, outcomes: &mut Vec<Outcome>) -> Result<()> {
        for object in std::mem::take(&mut self.unsuspected) {
            self.baseline.accept(&object);
            self.deeds.learn(&object);
        }
        self.know_programs();
        self.learn_grams(outcomes);
        let seed = self.settings.forest_seed();
        for learned in self.learned.values_mut() {
            learned.learn_on(seed)?;
        }
        Ok(())
    }

    /// Keeps the row of a window that nobody suspects for the forest to learn on from.
    pub(crate) fn keep_row(&mut self, window: &Window, scored: &Scored) {
        let seed = self.settings.forest_seed();
        if let Some(learned) = self.learned.get_mut(&window.time.scale) {
            learned.keep(scored, seed);
        }
    }

    /// What the rates share out among: programs by workload.
    pub(crate) fn know_programs(&mut self) {
        let programs = |workload: &Workload| {
            let learned = self.baseline.learned(workload);
            learned.filter(|(set, _, _)| *set == Set::Programs).count() as u32
        };
        let known: BTreeMap<Workload, u32> = self
            .baseline
            .learned_workloads()
            .map(|workload| (workload.clone(), programs(workload)))
            .collect();
        self.rates.know(known);
    }

    /// Learning ends: what is open of it is taken in, and the floors are solved.
    pub(crate) fn end_calibrate(&mut self) {
        for (_, tree) in self.trees.drain() {
            self.take_in(tree);
        }
        self.solve();
    }

    pub(crate) fn solve(&mut self) {
        self.watch();
        let measured = self.tails().map(Tails::measured).sum::<f64>().ceil() as usize;
        let programs = if measured == 0 { self.rates.programs().max(1) } else { measured };
        let hours = self.tails().map(Tails::hours).fold(0.0, f64::max);
        self.floors.rescore(&self.rates);
        self.floors.solve(&self.rates, Measured { programs, hours });
    }

    fn tails(&self) -> impl Iterator<Item = &Tails> {
        self.learned.values().map(|learned| &learned.tails)
    }

    /// Hours since a subject was first measured.
    pub(crate) fn hours_of(&self, subject: &Subject) -> f64 {
        self.tails().map(|tails| tails.hours_of(subject)).fold(0.0, f64::max)
    }
}
