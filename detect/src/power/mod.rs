//! What would be missed: for each workload, each kind of deed and each amount, whether somebody
//! would be told if it were done now, and why not.
//!
//! Deeds are made as the events that tell them and judged by the rule itself (`trial`): the same
//! sets say whether they are deeds, the same rates how surprising, the same trees and floors
//! whether that is enough, the same notices whether there is room. Amounts are put on top of a
//! subject's usual window and measured by the same detectors. Who knows the answers knows how to
//! stay unseen: they are for root, and leave the host by no sink.

mod acts;
mod amounts;
mod hidden;
mod host;
mod trial;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use hedgerow_event::{CATALOGUE, Class, Deed, Maturity, Program, Subject, Workload};
use hedgerow_features::Set;
use serde::{Deserialize, Serialize};

use self::{
    acts::{ACTS, Act, Stage},
    trial::Trial,
};
pub use self::{
    amounts::{Amount, Span},
    hidden::{BoundProgram, Hidden, HiddenDeed},
};
use crate::{Engine, Phase, deeds::is_amount, surprise::floors::Promise};

/// Programs of a workload that are tried, those that are profiled first.
const PROGRAMS_MAX: usize = 64;
/// Programs that are named for one kind of deed; the rest is counted.
const MISSES_MAX: usize = 32;

/// What an engine would tell now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Power {
    pub model_id: String,
    pub budget: Promise,
    pub workloads: Vec<WorkloadPower>,
    /// What happens to the host as a whole; empty where one workload was asked for.
    #[serde(default)]
    pub host: Vec<DeedPower>,
}

/// What would be told of one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadPower {
    pub workload: Workload,
    pub state: Maturity,
    /// Programs that were tried: those that it is known to run.
    pub programs: Vec<Program>,
    /// Programs that there was no room for.
    pub programs_left_out: usize,
    pub deeds: Vec<DeedPower>,
    pub amounts: Vec<AmountPower>,
}

/// One kind of deed, done by each of a workload's programs and by one that was never seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeedPower {
    pub deed: Deed,
    pub class: Class,
    /// It is told, whoever does it.
    pub alerts: bool,
    /// Ways of doing it, by so many programs, that were tried.
    pub tried: usize,
    pub missed: usize,
    /// Those that wouldn't be told, the least surprising first; at most 32.
    pub misses: Vec<Miss>,
}

/// A deed that nobody would be told of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Miss {
    pub program: Program,
    /// How it is done, where that makes a difference.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub how: Arc<str>,
    pub why: Why,
    /// Surprise of the gravest class that it is part of, and that class's floor.
    pub nats: f64,
    pub floor: f64,
    /// Expected of its context in an hour.
    pub per_hour: f64,
    /// Kinds that nobody would be told of either, but of both together in one process tree.
    pub with: Vec<Deed>,
}

/// Why nobody would be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// This program was learned to do so.
    Learned,
    /// It is what the program is there for.
    Trade,
    /// Its workload does such things too often.
    Rate,
    /// Never done here, and yet not rare enough by itself for the budget.
    Floor,
    /// The hour's notification of its class is spent: it would be listed.
    Spent,
    /// First uses are being learned, since the model was of an older version.
    Relearning,
}

/// The least amount that would be told, by the known program that is hardest to catch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AmountPower {
    pub amount: Amount,
    pub span: Span,
    /// `None` where no amount would.
    pub least: Option<u64>,
    /// The least that would be listed, where none is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed: Option<u64>,
    /// Hours for which the program must be known longer, until its amounts alone are told.
    #[serde(default)]
    pub hours_missing: f64,
    pub program: Program,
    /// Nothing measures the program's windows: too few were held back.
    pub unmeasured: bool,
}

/// Ways in which a kind of deed is tried, where that makes a difference; empty for a kind that no
/// program does.
pub fn ways(deed: Deed) -> impl Iterator<Item = &'static str> {
    ACTS.iter().filter(move |act| act.deed == deed).map(|act| act.how)
}

impl Why {
    /// The rest of "not told:".
    pub fn words(self) -> &'static str {
        match self {
            Self::Learned => "it was learned to do so",
            Self::Trade => "it is what the program is for",
            Self::Rate => "such happens here too often",
            Self::Floor => "not rare enough by itself for the budget",
            Self::Spent => "listed only: this hour's notification is spent",
            Self::Relearning => "first uses are being learned anew",
        }
    }
}

impl Engine {
    /// What would be told now of each workload, or of one. `now_boot_ns` is the time since boot; by
    /// a model alone, without one, each hour has its notifications left. `None` while learning.
    pub fn power(&self, of: Option<&Workload>, now_boot_ns: Option<u64>) -> Option<Power> {
        if self.phase != Phase::Scoring {
            return None;
        }
        let known = self.baseline.workloads().filter(|one| of.is_none_or(|of| of == *one));
        let known: Vec<&Workload> = known.collect();
        let next = AtomicUsize::new(0);
        let some = || {
            let of_next = || known.get(next.fetch_add(1, Ordering::Relaxed));
            let one = |workload: &&Workload| self.power_of(workload, now_boot_ns);
            std::iter::from_fn(|| of_next().map(one)).collect::<Vec<WorkloadPower>>()
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut workloads = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(some)).collect();
            let mut found = some();
            for other in others {
                match other.join() {
                    Ok(theirs) => found.extend(theirs),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            found
        });
        workloads.sort_by(|a, b| a.workload.cmp(&b.workload));
        let host = if of.is_none() { self.power_of_host(now_boot_ns) } else { Vec::new() };
        Some(Power { model_id: self.model_id.clone(), budget: self.promise(), workloads, host })
    }

    fn power_of(&self, workload: &Workload, now_boot_ns: Option<u64>) -> WorkloadPower {
        let mut trial = Trial::new(self, now_boot_ns);
        let mut known = self.programs_of(workload);
        let programs_left_out = known.len().saturating_sub(PROGRAMS_MAX);
        known.truncate(PROGRAMS_MAX);
        let subject = |program: &Program| Arc::new(Subject::new(workload.clone(), program.clone()));
        let subjects: Vec<Arc<Subject>> = known.iter().map(subject).collect();
        let stages: Vec<Stage> = subjects
            .iter()
            .chain([&subject(&acts::unseen())])
            .map(|one| Stage::new(one.clone(), &subjects, &self.baseline, trial.now_boot_ns()))
            .collect();
        let kinds = CATALOGUE.iter().map(|row| row.deed);
        let deeds = kinds.filter_map(|deed| trial.deed(deed, &stages)).collect();
        // What a program does that was never seen is measured by nothing of its own.
        let known_stages = &stages[..subjects.len()];
        let amounts = Amount::ALL
            .into_iter()
            .flat_map(|amount| Span::ALL.map(|span| (amount, span)))
            .filter_map(|(amount, span)| trial.amount(amount, span, known_stages))
            .collect();
        WorkloadPower {
            workload: workload.clone(),
            state: self.state_of_workload(workload),
            programs: known,
            programs_left_out,
            deeds,
            amounts,
        }
    }

    /// Programs that a workload is known to run, those with a profile first.
    fn programs_of(&self, workload: &Workload) -> Vec<Program> {
        let learned = self.baseline.learned(workload).filter(|(set, ..)| *set == Set::Programs);
        let mut programs: Vec<Program> = learned
            .filter_map(|(_, text, _)| acts::program_of(text, &self.baseline, workload))
            .collect();
        let profiled = |program: &Program| {
            let subject = Subject::new(workload.clone(), program.clone());
            let profile = self.profile.as_ref();
            profile.is_some_and(|profile| crate::grams::incidence(profile, &subject).is_some())
        };
        programs.sort_by_cached_key(|program| (!profiled(program), program.clone()));
        programs
    }
}

impl Trial<'_> {
    /// One kind of deed by all; `None` for a kind that no act makes.
    fn deed(&mut self, deed: Deed, stages: &[Stage]) -> Option<DeedPower> {
        let acts: Vec<&Act> = ACTS.iter().filter(|act| act.deed == deed).collect();
        if acts.is_empty() {
            return None;
        }
        let mut misses: Vec<Miss> = Vec::new();
        for stage in stages {
            misses.extend(acts.iter().filter_map(|act| self.miss(act, stage)));
        }
        misses.sort_by(|a, b| (a.nats - a.floor).total_cmp(&(b.nats - b.floor)));
        let missed = misses.len();
        misses.truncate(MISSES_MAX);
        for miss in &mut misses {
            let stage = stages.iter().find(|stage| stage.subject.program == miss.program);
            let act = acts.iter().find(|act| *act.how == *miss.how);
            if let (Some(stage), Some(act)) = (stage, act) {
                miss.with = self.with(act, stage);
            }
        }
        Some(DeedPower {
            deed,
            class: deed.class(),
            alerts: missed == 0,
            tried: acts.len() * stages.len(),
            missed,
            misses,
        })
    }

    /// An act by which nobody would be told.
    fn miss(&mut self, act: &Act, stage: &Stage) -> Option<Miss> {
        let events = act.events(stage);
        let judged = self.judge(stage, &events, &[]);
        if judged.told.is_some() || self.tells_window(&events) {
            return None;
        }
        let gravest = judged.nats.iter().next_back();
        let (class, nats) =
            gravest.map_or((act.deed.class(), 0.0), |(class, nats)| (*class, *nats));
        let object = judged.objects.iter().find(|object| object.deed() == act.deed);
        let subject = object.map_or(&stage.subject, |object| object.subject());
        let context = self.engine.context(subject);
        Some(Miss {
            program: stage.subject.program.clone(),
            how: act.how.into(),
            why: self.why(Some(&stage.subject.program), act.deed, &judged),
            nats,
            floor: self
                .engine
                .floors
                .floor_for(class, &stage.subject.workload)
                .min(crate::said::finding::NO_FLOOR),
            per_hour: self.engine.rates.per_hour(act.deed, &context, 0.0),
            with: Vec::new(),
        })
    }

    /// Kinds that are told together with an act, of which nobody would be told alone either.
    fn with(&mut self, act: &Act, stage: &Stage) -> Vec<Deed> {
        let mut with = Vec::new();
        // An amount so large is told alone, or not at all.
        for other in ACTS.iter().filter(|other| !is_amount(other.deed)) {
            let aspect = other.deed.aspect() == act.deed.aspect();
            if aspect || with.contains(&other.deed) {
                continue;
            }
            let theirs = other.events(stage);
            let mut both = theirs.clone();
            both.extend(act.events(stage));
            if self.judge(stage, &both, &[]).told.is_some()
                && self.judge(stage, &theirs, &[]).told.is_none()
            {
                with.push(other.deed);
            }
        }
        with
    }

    /// The least amount of the program that can do most.
    fn amount(&mut self, amount: Amount, span: Span, stages: &[Stage]) -> Option<AmountPower> {
        let mut hardest: Option<(&Stage, Option<u64>)> = None;
        for stage in stages {
            let least = self.least(stage, amount, span);
            let harder = hardest.is_none_or(|(_, hardest)| {
                hardest.is_some_and(|known| least.is_none_or(|least| least > known))
            });
            if harder {
                hardest = Some((stage, least));
            }
        }
        let (stage, least) = hardest?;
        let hours = self.engine.hours_of(&stage.subject);
        Some(AmountPower {
            amount,
            span,
            least,
            listed: least.is_none().then(|| self.least_listed(stage, amount, span)).flatten(),
            hours_missing: self.engine.floors.hours_missing(hours),
            program: stage.subject.program.clone(),
            unmeasured: !self.is_measured(stage),
        })
    }

    fn is_measured(&self, stage: &Stage) -> bool {
        let scale = hedgerow_event::Scale::Seconds5;
        self.measure(&self.usual(&stage.subject, scale), scale).is_some()
    }
}
