//! Where an engine stands: how far it has learned, how sure that is, and what found no room.

use hedgerow_event::{Class, Maturity, Program, Subject, Workload};
use hedgerow_features::Baseline;

use crate::{
    Engine, HOUR_NS,
    deeds::objects,
    file::ProgramProfile,
    surprise::{floors::Promise, notices::Listed},
    usual::{
        grams,
        maturity::{self, MaturityRule},
        schedule::{Phase, Schedule},
    },
};

/// What found no room any more, since the start: of the workload that has most of it, the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forgotten {
    /// Process trees, and with them what adds up with what they would do next.
    pub trees: u64,
    /// Cases: what they would do next is another one.
    pub cases: u64,
    /// Processes that live, and with them what they were started from.
    pub processes: u64,
}

impl Engine {
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
        let told = |name: String, profile: &ProgramProfile| {
            let (once, known) = (&profile.six_grams.in_one_window, &profile.six_grams.known);
            (name, profile.windows, once.ones(), known.ones())
        };
        match &self.profile {
            Some(profile) => {
                let programs = profile.programs.iter();
                programs.map(|program| told(grams::subject(program).to_string(), program)).collect()
            }
            None => {
                let programs = self.grams.programs();
                programs.map(|(subject, program)| told(subject.to_string(), program)).collect()
            }
        }
    }

    /// Reports of programs that found no room for a profile.
    pub fn programs_refused(&self) -> u64 {
        self.grams.refused()
    }

    /// What found no room in the bounded tables of deeds and rates: judged without them.
    pub fn deeds_refused(&self) -> u64 {
        let tails = self.learned.values().flat_map(|learned| [&learned.tails, &learned.sequences]);
        let tails: u64 = tails.map(|tails| tails.forgotten()).sum();
        let learned = self.baseline.refused() + self.deeds.refused() + self.rates.refused();
        learned + tails + self.unlearned
    }

    /// What had to go for others while it could still have told something.
    pub fn forgotten(&self) -> Forgotten {
        Forgotten {
            trees: self.trees.forgotten(),
            cases: self.episodes.forgotten(),
            processes: self.lineage.forgotten(),
        }
    }

    /// The key of the n-gram hash.
    pub fn seed(&self) -> u64 {
        self.settings.seed
    }

    /// The seed of the forest, as findings tell it.
    pub fn model_seed(&self) -> String {
        format!("{:016x}", self.settings.forest_seed())
    }

    pub fn model_id(&self) -> &str {
        &self.model_id
    }

    /// What is learned is learned from what was counted by the profile of this model.
    pub fn count_by(&mut self, model_id: &str) {
        self.profile_of = vec![model_id.to_owned()];
    }

    /// Wall time, Unix nanoseconds, at which the model's learning ended; `None` while it goes on, and
    /// of a model of an older version, which doesn't hold it.
    pub fn learned_ns(&self) -> Option<i64> {
        (self.learned_ns != 0).then_some(self.learned_ns)
    }

    pub fn baseline(&self) -> &Baseline {
        &self.baseline
    }

    /// Asks for another budget from now on.
    pub fn set_budget(&mut self, per_day: f64) {
        self.settings.budget_per_day = per_day;
        self.floors.ask(per_day);
        // Before that floors are solved when learning ends.
        if self.phase == Phase::Scoring {
            self.solve();
        }
    }

    /// What the budget asks for and what is expected.
    pub fn promise(&self) -> Promise {
        self.floors.promise()
    }

    /// Notifications within the last day.
    pub fn told_today(&self) -> usize {
        self.notices.of_day(self.now_boot_ns)
    }

    /// For so many epochs more first uses are learned and not told: the model is of an older version,
    /// which doesn't hold them.
    pub fn relearning_epochs(&self) -> u32 {
        self.relearning
    }

    /// Cases that were listed, not told, since the last call.
    pub fn take_listed(&mut self) -> Listed {
        self.notices.take_listed()
    }

    /// The state of the host as a whole: mature once the held-back hours support the budget.
    pub fn state(&self) -> Maturity {
        match self.phase {
            Phase::Scoring if Class::ALL.into_iter().all(|class| self.floors.supports(class)) => {
                Maturity::Mature
            }
            Phase::Scoring => Maturity::Provisional,
            _ => Maturity::Learning,
        }
    }

    /// Workloads that do something else than what was learned of them.
    pub fn drifted(&self) -> impl Iterator<Item = &Workload> {
        self.drift.drifted()
    }

    /// How sure the learning of a workload is, by which a program never seen in it is judged.
    pub fn state_of_workload(&self, workload: &Workload) -> Maturity {
        self.state_of(&Subject::new(workload.clone(), Program::new("")))
    }

    /// How sure the learning of one subject is: its program's n-grams and, where they were counted
    /// by hours, its workload's programs and peers must have little novelty left to bring.
    pub(crate) fn state_of(&self, subject: &Subject) -> Maturity {
        let by_hours = self.baseline.unit_ns() >= HOUR_NS;
        let first_seen =
            by_hours.then(|| objects::incidence(&self.baseline.incidence(&subject.workload)));
        let learned = maturity::Learned {
            frozen: self.phase == Phase::Scoring,
            grams: self.profile.as_ref().and_then(|profile| grams::incidence(profile, subject)),
            first_seen,
        };
        match maturity::maturity(&learned, &MaturityRule::default()) {
            maturity::Maturity::Learning => Maturity::Learning,
            maturity::Maturity::Mature
                if !self.is_on_probation(subject) && !self.drift.has(&subject.workload) =>
            {
                Maturity::Mature
            }
            maturity::Maturity::Provisional | maturity::Maturity::Mature => Maturity::Provisional,
        }
    }
}
