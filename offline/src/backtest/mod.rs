//! What a model and a policy would have done to a captured past: every finding, every entry that
//! would have stood, whom it would have cut and for how long.
//!
//! The decision is the daemon's own ([`hedgerow_responder::policy`]), and so are the lives of entries.
//! What the capture doesn't hold is named in [`Backtest::unavailable`].

mod difference;
mod missing;
mod policy;
mod show;
mod simulate;
#[cfg(test)]
mod tests;

use std::{cell::RefCell, collections::BTreeSet, path::PathBuf, rc::Rc};

use hedgerow_detect::{Engine, Outcome, SavedModel, Schedule};
use hedgerow_event::{Finding, Level, Mode, Rule, Target, Workload};
use serde::Serialize;

pub use self::{difference::Difference, missing::Missing, policy::Policy};
use self::{missing::unavailable, simulate::Simulation};
use crate::{
    Error, Result,
    capture::Capture,
    holes,
    labels::Label,
    past,
    player::{Only, Play, Player, Progress, Rows},
    source::{Run, Source},
    time::Span,
};

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    pub model: PathBuf,
    pub policy: Policy,
    /// What the capture's daemon had without it.
    pub budget_per_day: Option<f64>,
    pub only: Only,
}

/// A finding, and what the policy said to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decided {
    pub finding: Finding,
    /// The entry that it led to.
    pub entry: Option<usize>,
    /// Why it led to none.
    pub reason: Option<String>,
    /// Of the labels that explain it, the first one's class.
    pub label: Option<String>,
    /// An entry would have cut its process before: it might not have come to this.
    pub counterfactual: bool,
    /// What is not available, and would make it another one, or come earlier.
    pub hangs_on: Vec<Missing>,
}

/// Somebody whom an entry would have cut.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cut {
    pub subject: String,
    pub tgid: u32,
    /// Connections, datagram flows or execs that it would have met.
    pub hits: u64,
    pub first_ns: i64,
    pub last_ns: i64,
    /// Hits that no label explains.
    pub benign_by_labels: Option<u64>,
    /// The same program used the same peer, or ran, before the entry stood.
    pub benign_by_past: bool,
}

/// An entry that would have stood.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stood {
    pub host: String,
    pub finding_uid: String,
    pub target: Target,
    /// Its name for a person.
    pub name: String,
    pub subject: String,
    pub rule: Rule,
    /// What was ordered, held at monitor where something was missing.
    pub mode: Mode,
    pub level: Level,
    pub reason: String,
    pub from_ns: i64,
    pub to_ns: i64,
    pub seconds: f64,
    pub hits: u64,
    /// It was asked for by widening, and would have been held for a minute before.
    pub wide: bool,
    /// Its finding is.
    pub counterfactual: bool,
    pub cuts: Vec<Cut>,
}

/// The whole answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Backtest {
    pub model: String,
    pub policy: Policy,
    pub days: f64,
    pub findings: Vec<Decided>,
    pub entries: Vec<Stood>,
    /// What could not be known, and what hangs on it.
    pub unavailable: Vec<String>,
    /// Somebody was captured who is asked for.
    #[serde(skip)]
    taken: bool,
    /// Workloads with a mode of their own in the policy that were there.
    #[serde(skip)]
    met: BTreeSet<Workload>,
}

/// Replays runs, each by itself.
///
/// # Errors
/// As [`run`]; nobody who is asked for was captured.
pub fn all(
    source: Source,
    span: Span,
    ask: &Ask,
    labels: Option<&[Label]>,
    progress: &mut Progress<'_>,
) -> Result<Backtest> {
    let unavailable = holes::lines(&source.damaged, &[]);
    let mut told = Backtest { unavailable, ..Backtest::default() };
    for one in source.runs {
        run(one, span, ask, labels, &mut told, progress)?;
    }
    ask.only.found(told.taken)?;
    let absent = ask.policy.modes.keys().filter(|name| !told.met.contains(*name));
    let absent =
        absent.map(|name| format!("workload `{name}` of the policy's modes: it was not there"));
    told.unavailable.extend(absent.collect::<Vec<_>>());
    Ok(told)
}

/// Replays one run; entries and findings are added to `answer`.
///
/// # Errors
/// A file can't be read; the model doesn't fit; the policy holds what is no prefix.
pub fn run(
    run: Run,
    span: Span,
    ask: &Ask,
    labels: Option<&[Label]>,
    answer: &mut Backtest,
    progress: &mut Progress<'_>,
) -> Result<()> {
    let grounds = past::read(run.policy.clone())?;
    let capture = Capture::open(run, span)?;
    let saved = SavedModel::load(&ask.model)?;
    let seed = saved.seed();
    let own = capture.is_of(&saved);
    let rows = match own {
        true => Rows::Recorded,
        false => Rows::choose(false, &capture).unwrap_or(Rows::Unordered),
    };
    for missing in unavailable(&capture, own, rows, !grounds.is_empty()) {
        if !answer.unavailable.contains(&missing) {
            answer.unavailable.push(missing);
        }
    }
    let judge_after = capture.scoring_after.filter(|_| own && capture.schedule.is_some());
    let mut settings = capture.settings(Schedule::of(0), seed);
    settings.budget_per_day = capture.budget(ask.budget_per_day)?;
    let mut engine = Engine::scoring(settings, saved)?;
    engine.model_id().clone_into(&mut answer.model);
    answer.policy = ask.policy.clone();
    let host = capture.host.clone();
    let mut simulation = Simulation::new(&ask.policy, &host, labels).map_err(Error::Usage)?;
    simulation.rest_on(grounds);
    simulation.misses(Missing::of(own, rows));
    let simulation = Rc::new(RefCell::new(simulation));
    let play = Play { rows, own, judge_after, only: ask.only.clone() };
    let mut player = Player::new(capture, &engine, play);
    let watching = Rc::clone(&simulation);
    let mut watch = move |event: &_, judged| watching.borrow_mut().observe(event, judged);
    player.watched(
        &mut engine,
        &mut watch,
        &mut |_, outcome| {
            match outcome {
                Outcome::Finding(finding, evidence) | Outcome::Again(finding, evidence) => {
                    simulation.borrow_mut().found(*finding, &evidence);
                }
                Outcome::Windows(windows) => simulation.borrow_mut().closed(&windows),
                _ => {}
            }
            Ok(true)
        },
        progress,
    )?;
    let mut simulation = simulation.borrow_mut();
    for last in engine.finish(player.last_boot_ns()) {
        if let Outcome::Finding(finding, evidence) = last {
            simulation.found(*finding, &evidence);
        }
    }
    simulation.end(answer);
    answer.taken |= player.taken;
    let (damaged, gaps): (Vec<_>, Vec<_>) =
        (player.damaged().cloned().collect(), player.gaps().collect());
    answer.unavailable.extend(holes::lines(&damaged, &gaps));
    Ok(())
}
