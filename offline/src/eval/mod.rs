//! How good a model is on labelled captures.
//!
//! Two questions: how well *windows* of five seconds are ranked (by their surprise: that of their
//! measure, or of the case that they are part of, whichever is higher), and which *incidents* (labels)
//! were alerted on, how soon, at the budget that was asked for. Intervals are percentile bootstraps
//! that draw whole hours and whole incidents, since windows of one hour are alike.

mod collect;
pub mod curve;
mod show;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use hedgerow_detect::{Engine, Outcome};
use hedgerow_event::{Class, Family};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde::Serialize;

pub use self::collect::{Alert, Collected};
use self::curve::{Binned, Curve};
use crate::{
    Result,
    error::Error,
    keys::BUDGET,
    labels::Label,
    player::Progress,
    score::{self, Score, Scored},
    source::Run,
    time::Span,
};

/// Draws of the bootstrap.
const DRAWS: usize = 1000;
const SEED: u64 = 9;
/// An interval holds the middle of so many of all draws.
const CONFIDENCE: f64 = 0.95;
const DAY_S: f64 = 86_400.0;

/// A figure with its interval; `None` where the data doesn't give it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Figure {
    pub value: Option<f64>,
    pub low: Option<f64>,
    pub high: Option<f64>,
}

/// One incident, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Incident {
    pub class: String,
    pub host: String,
    pub start_ns: i64,
    pub end_ns: i64,
    /// Windows that it covers; with none it is unmatched.
    pub windows: u64,
    /// The first alert on it.
    pub finding_uid: Option<String>,
    pub seconds_to_detect: Option<f64>,
    /// Findings that were only listed, where there was no alert.
    pub listed: u64,
}

/// What is left when something is taken away.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ablation {
    pub without: String,
    pub recall: Option<f64>,
    pub alerts_a_day: f64,
    /// Of the windows; of families it can't be told, since a window's score is one number.
    pub auroc: Option<f64>,
    pub average_precision: Option<f64>,
}

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    pub model: String,
    pub budget_per_day: f64,
    pub hosts: BTreeSet<String>,
    pub days: f64,
    pub windows: u64,
    pub positive_windows: u64,
    pub ignored_windows: u64,
    /// Labels of class `ignore` that no window is of.
    pub ignored_unmatched: u64,
    pub auroc: Figure,
    pub average_precision: Figure,
    /// Of incidents with windows, at the budget.
    pub recall: Figure,
    /// Outside of all labels.
    pub false_alerts_a_day: Figure,
    pub alerts_a_day: f64,
    pub seconds_to_detect_median: Option<f64>,
    pub recall_by_class: BTreeMap<String, (u64, u64)>,
    pub incidents: Vec<Incident>,
    /// Alerts outside of all labels.
    pub false_alerts: Vec<String>,
    pub ablations: Vec<Ablation>,
    pub roc: Vec<(f64, f64)>,
    pub precision_recall: Vec<(f64, f64)>,
}

/// Scores runs and evaluates what is told of them by labels; with what was met on the way.
///
/// # Errors
/// As [`score::score`].
pub fn run(
    runs: Vec<Run>,
    span: Span,
    how: &Score,
    labels: &[Label],
    progress: &mut Progress<'_>,
) -> Result<(Evaluation, Scored)> {
    if how.budget_per_day.is_none() {
        one_budget(&runs)?;
    }
    let (collected, mut met) = (RefCell::new(Collected::default()), Scored::default());
    for run in runs {
        collected.borrow_mut().host(&run.host, labels);
        let mut watch = |event: &_, _| collected.borrow_mut().observe(event);
        let mut tell = |_: &Engine, outcome: Outcome| {
            collected.borrow_mut().add(&outcome);
            Ok(true)
        };
        met.add(score::watched(run, span, how, &mut watch, &mut tell, progress)?);
    }
    let collected = collected.into_inner();
    how.only.found(met.taken)?;
    let model = how.model.display().to_string();
    Ok((evaluate(&model, met.budget_per_day, &collected, labels), met))
}

/// What is told is told of one budget.
fn one_budget(runs: &[Run]) -> Result<()> {
    let of = |run: &Run| run.metadata.get(BUDGET).cloned().unwrap_or_default();
    let Some(other) = runs.iter().find(|run| of(run) != of(&runs[0])) else { return Ok(()) };
    Err(Error::Usage(format!(
        "{} was captured with a budget of {} episodes a day, {} with one of {}: say by `--budget` \
         which one is evaluated",
        runs[0].name(),
        of(&runs[0]),
        other.name(),
        of(other)
    )))
}

/// Evaluates what was collected while captures were scored.
pub fn evaluate(
    model: &str,
    budget_per_day: f64,
    collected: &Collected,
    labels: &[Label],
) -> Evaluation {
    let judged = collected.judge(labels);
    let curve = Curve::of(judged.rows.iter().map(|row| (row.surprise, row.positive)));
    let binned = Binned::of(&judged.rows);
    let days = collected.seconds() / DAY_S;
    let incidents = incidents(collected, labels, &judged.covered, &|_| true);
    let matched: Vec<&Incident> =
        incidents.iter().filter(|incident| incident.windows > 0).collect();
    let found: Vec<bool> = matched.iter().map(|i| i.finding_uid.is_some()).collect();
    let mut recall_by_class: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for incident in &matched {
        let (found, all) = recall_by_class.entry(incident.class.clone()).or_default();
        *found += u64::from(incident.finding_uid.is_some());
        *all += 1;
    }
    let false_alerts: Vec<&Alert> = collected
        .alerts
        .iter()
        .filter(|alert| alert.told && !labels.iter().any(|label| alert.is_of(label)))
        .collect();
    let told = collected.alerts.iter().filter(|alert| alert.told).count() as f64;
    let mut seconds: Vec<f64> = matched.iter().filter_map(|i| i.seconds_to_detect).collect();
    seconds.sort_by(f64::total_cmp);
    let mut rng = SmallRng::seed_from_u64(SEED);
    let hours: Vec<f64> = collected.by_hour(&false_alerts);
    Evaluation {
        model: model.to_owned(),
        budget_per_day,
        hosts: collected.hosts.iter().cloned().collect(),
        days,
        windows: judged.rows.len() as u64,
        positive_windows: judged.rows.iter().filter(|row| row.positive).count() as u64,
        ignored_windows: judged.ignored,
        ignored_unmatched: labels
            .iter()
            .zip(&judged.covered)
            .filter(|(label, windows)| label.is_ignored() && **windows == 0)
            .count() as u64,
        auroc: figure(curve.auroc(), || binned.draw(&mut rng).auroc()),
        average_precision: figure(curve.average_precision(), || {
            binned.draw(&mut rng).average_precision()
        }),
        recall: figure(mean(&found), || mean(&drawn(&found, &mut rng))),
        false_alerts_a_day: figure(per_day(&hours, days), || {
            per_day(&drawn(&hours, &mut rng), days)
        }),
        alerts_a_day: told / days.max(f64::MIN_POSITIVE),
        seconds_to_detect_median: seconds.get(seconds.len() / 2).copied(),
        recall_by_class,
        false_alerts: false_alerts.iter().map(|alert| alert.finding.uid.clone()).collect(),
        ablations: ablations(collected, labels, &judged.covered),
        incidents,
        roc: curve.roc(),
        precision_recall: curve.precision_recall(),
    }
}

/// What became of each label that isn't ignored, by the alerts that `counts` leaves.
fn incidents(
    collected: &Collected,
    labels: &[Label],
    covered: &[u64],
    counts: &dyn Fn(&Alert) -> bool,
) -> Vec<Incident> {
    let labels = labels.iter().zip(covered).filter(|(label, _)| !label.is_ignored());
    labels
        .map(|(label, windows)| {
            let of_it = || {
                let alerts = collected.alerts.iter().filter(|alert| counts(alert));
                alerts.filter(|alert| alert.is_of(label))
            };
            let first =
                of_it().filter(|alert| alert.told).min_by_key(|alert| alert.finding.time_ns);
            let seconds =
                |alert: &Alert| (alert.finding.time_ns - label.start_ns).max(0) as f64 / 1e9;
            Incident {
                class: label.class.clone(),
                host: label.host.clone(),
                start_ns: label.start_ns,
                end_ns: label.end_ns,
                windows: *windows,
                finding_uid: first.map(|alert| alert.finding.uid.clone()),
                seconds_to_detect: first.map(seconds),
                listed: if first.is_some() { 0 } else { of_it().count() as u64 },
            }
        })
        .collect()
}

/// What is found without a class, and without findings that rest on one family alone.
fn ablations(collected: &Collected, labels: &[Label], covered: &[u64]) -> Vec<Ablation> {
    let days = (collected.seconds() / DAY_S).max(f64::MIN_POSITIVE);
    let left = |without: String, counts: &dyn Fn(&Alert) -> bool, curve: Option<Curve>| {
        let incidents = incidents(collected, labels, covered, counts);
        let found: Vec<bool> = incidents
            .iter()
            .filter(|incident| incident.windows > 0)
            .map(|incident| incident.finding_uid.is_some())
            .collect();
        let told = collected.alerts.iter().filter(|alert| alert.told && counts(alert)).count();
        Ablation {
            without,
            recall: mean(&found),
            alerts_a_day: told as f64 / days,
            auroc: curve.as_ref().and_then(Curve::auroc),
            average_precision: curve.as_ref().and_then(Curve::average_precision),
        }
    };
    let classes = Class::ALL.into_iter().map(|class| {
        let judged = collected.judge_without(labels, Some(class));
        let curve = Curve::of(judged.rows.iter().map(|row| (row.surprise, row.positive)));
        left(
            format!("class {class:?}").to_lowercase(),
            &|alert| alert.finding.class != class,
            Some(curve),
        )
    });
    let families: BTreeSet<Family> =
        collected.alerts.iter().flat_map(|alert| alert.finding.families.clone()).collect();
    let families = families.into_iter().map(|family| {
        let rests =
            move |alert: &Alert| alert.finding.families.iter().any(|other| *other != family);
        left(format!("family {family}"), &rests, None)
    });
    classes.collect::<Vec<_>>().into_iter().chain(families).collect()
}

fn mean(found: &[bool]) -> Option<f64> {
    let count = found.iter().filter(|found| **found).count() as f64;
    (!found.is_empty()).then(|| count / found.len() as f64)
}

fn per_day(hours: &[f64], days: f64) -> Option<f64> {
    (days > 0.0).then(|| hours.iter().sum::<f64>() / days)
}

/// As many of them, drawn with replacement.
fn drawn<T: Copy>(all: &[T], rng: &mut SmallRng) -> Vec<T> {
    (0..all.len()).map(|_| all[rng.gen_range(0..all.len())]).collect()
}

fn figure(value: Option<f64>, mut draw: impl FnMut() -> Option<f64>) -> Figure {
    if value.is_none() {
        return Figure::default();
    }
    let mut draws: Vec<f64> = (0..DRAWS).filter_map(|_| draw()).collect();
    draws.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (share * draws.len().saturating_sub(1) as f64).round() as usize;
        draws.get(place).copied()
    };
    let tail = (1.0 - CONFIDENCE) / 2.0;
    Figure { value, low: at(tail), high: at(1.0 - tail) }
}

#[cfg(test)]
mod tests;
