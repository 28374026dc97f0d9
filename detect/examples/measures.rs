//! Which detector is to measure windows? Seeded lives, the same for each: an hour of windows to fit
//! on, six held back by program, a day of plain life, then amounts of many kinds, each so many
//! times its usual. Told is what the measure class would notify of with a fifth of one alert a day.
//!
//! `cargo run -p hedgerow-detect --example measures`: the table of docs/detection.md
#![allow(clippy::unwrap_used)]

#[path = "../../features/tests/common/mod.rs"]
mod common;
#[path = "../tests/seeded/host.rs"]
#[allow(dead_code)]
mod host;
#[path = "../tests/stats/mod.rs"]
mod stats;

use std::sync::Arc;

use common::{flow, outbound, peer, row, rows};
use hedgerow_detect::{Phase, surprise::tails::Tails};
use hedgerow_event::{FlowDirection, FlowPhase, Origin, Scale, Subject, calls::Class};
use hedgerow_model::{IsolationForest, NearestNeighborEnsemble};
use host::{HOUR, Host};
use linfa::{Dataset, prelude::*};
use ndarray::{Array1, Array2, Axis, concatenate};
use rand::{SeedableRng, rngs::SmallRng};
use stats::share_interval;

const SEEDS: u64 = 4;
/// Notifications of measures a day, of the one that is asked for.
const PER_DAY: f64 = 0.2;
const TIMES: [u32; 4] = [2, 4, 10, 30];
/// Between two acts.
const PAUSE: u32 = 5;

/// What is tried.
const DETECTORS: [&str; 4] = [
    "forest and neighbours, added (what stands)",
    "forest alone",
    "neighbours alone",
    "Fisher's statistic of the conformal p of both",
];

/// All of it, fitted on the same rows.
struct Detectors {
    forest: IsolationForest,
    neighbors: NearestNeighborEnsemble,
    /// Measures of the rows fitted on, in ascending order.
    fitted: [Vec<f64>; 2],
}

/// Rows with one more for each column, a unit beyond the largest: as the product fits its own.
fn guarded(rows: &Array2<f32>) -> Array2<f32> {
    let mut beyond = Array2::zeros((rows.ncols(), rows.ncols()));
    for column in 0..rows.ncols() {
        beyond[(column, column)] = rows.column(column).iter().copied().fold(0.0, f32::max) + 1.0;
    }
    concatenate![Axis(0), *rows, beyond]
}

fn odds(score: f64) -> f64 {
    (score / (1.0 - score).max(f64::EPSILON)).ln()
}

impl Detectors {
    fn fit(rows: &Array2<f32>, seed: u64) -> Self {
        let rng = || SmallRng::seed_from_u64(seed);
        let data = Dataset::from(guarded(rows));
        let forest = IsolationForest::params_with_rng(rng()).fit(&data).unwrap();
        let neighbors = NearestNeighborEnsemble::params_with_rng(rng()).least_deviation(0.25);
        let neighbors = neighbors.fit(&data).unwrap();
        let mut fitted = Self { forest, neighbors, fitted: Default::default() };
        fitted.fitted = fitted.both(rows).map(|measures| {
            let mut measures = measures.to_vec();
            measures.sort_by(f64::total_cmp);
            measures
        });
        fitted
    }

    /// The forest's log-odds and the neighbours' distance.
    fn both(&self, rows: &Array2<f32>) -> [Array1<f64>; 2] {
        let lengths = self.forest.mean_path_lengths(rows.view());
        let forest = lengths.mapv(|length| odds(self.forest.score_of_path_length(length)));
        [forest, self.neighbors.mean_distances(rows.view()) / 0.5]
    }

    /// -2 ln of the product of both conformal p-values (Fisher 1932).
    fn fisher(&self, measures: [f64; 2]) -> f64 {
        let ln_p = |(fitted, measure): (&Vec<f64>, f64)| {
            let at_least = fitted.len() - fitted.partition_point(|known| *known < measure);
            ((at_least + 1) as f64 / (fitted.len() + 1) as f64).ln()
        };
        -2.0 * self.fitted.iter().zip(measures).map(ln_p).sum::<f64>()
    }

    /// What each detector makes of each row.
    fn measures(&self, rows: &Array2<f32>) -> Vec<[f64; DETECTORS.len()]> {
        let [forest, near] = self.both(rows);
        forest.iter().zip(&near).map(|(&f, &n)| [f + n, f, n, self.fisher([f, n])]).collect()
    }
}

/// The windows of an epoch's programs, as rows.
fn epoch(host: &mut Host) -> (Vec<Arc<Subject>>, Array2<f32>) {
    host.live();
    let windows = std::mem::take(&mut host.windows);
    let of = |scale| windows.iter().filter(move |window| window.time.scale == scale);
    let subjects = of(Scale::Seconds5).map(|window| Arc::clone(&window.subject)).collect();
    let (_, rows) = host.engine.forest_rows(Scale::Seconds5, &windows).unwrap();
    (subjects, rows)
}

/// A kind of amount, and what brings so many times the usual of it.
type Act = (&'static str, fn(u32) -> Vec<Origin>);

/// What a program does so many times as much of as ever, in one epoch.
const ACTS: [Act; 10] = [
    ("calls", |n| vec![rows(&[(3, 800 * n), (4, 400 * n)])]),
    ("a call never made", |n| vec![rows(&[(Class::Sync.index(), 20 * n)])]),
    ("opens", |n| vec![rows(&[(Class::Open.index(), 20 * n)])]),
    ("renames", |n| vec![rows(&[(Class::Rename.index(), 20 * n)])]),
    ("forks", |n| vec![rows(&[(Class::Clone.index(), 20 * n)])]),
    ("errors", |n| {
        let mut row = row(&[(3, 50 * n)]);
        row.errors = u64::from(50 * n);
        vec![Origin::Row(Box::new(row))]
    }),
    ("bytes to its peer", |n| {
        vec![outbound(FlowPhase::Start, "10.0.0.2", 443, 800 * u64::from(n))]
    }),
    ("flows", |n| vec![outbound(FlowPhase::Start, "10.0.0.2", 443, 100); 2 * n as usize]),
    ("failed flows", |n| {
        let to = peer("10.0.0.2", 443);
        let failed = flow(FlowPhase::Failed, FlowDirection::Outbound, to, 0);
        vec![Origin::Flow(Box::new(failed)); 2 * n as usize]
    }),
    ("a little of everything", |n| {
        let classes = [Class::Open, Class::Rename, Class::Clone, Class::Unlink, Class::Connect];
        let calls: Vec<(usize, u32)> = classes.iter().map(|class| (class.index(), 4 * n)).collect();
        vec![rows(&calls), outbound(FlowPhase::Start, "10.0.0.2", 443, 200 * u64::from(n))]
    }),
];

#[derive(Default)]
struct Row {
    told: [u32; TIMES.len()],
    tried: u32,
    false_alerts: u32,
}

/// A life: each detector's tails, and what is told by each.
fn live(seed: u64, table: &mut [Row; DETECTORS.len()], days: &mut f64) {
    let mut host = Host::new(HOUR, 1.0, seed);
    host.activity = 0.5;
    host.live_until(Phase::Scoring);
    let fitted: Vec<Array2<f32>> = (0..HOUR).map(|_| epoch(&mut host).1).collect();
    let views: Vec<_> = fitted.iter().map(Array2::view).collect();
    let detectors = Detectors::fit(&ndarray::concatenate(Axis(0), &views).unwrap(), seed);
    let mut tails: [Tails; DETECTORS.len()] = Default::default();
    let judge = |host: &mut Host, tails: &mut [Tails; DETECTORS.len()], hold_back: bool| {
        let at = host.epoch;
        let (subjects, rows) = epoch(host);
        let mut highest = [0.0f64; DETECTORS.len()];
        for (subject, measures) in subjects.iter().zip(detectors.measures(&rows)) {
            for (detector, measure) in measures.into_iter().enumerate() {
                let nats = tails[detector].surprise(subject, measure).unwrap_or(0.0);
                highest[detector] = highest[detector].max(nats);
                if hold_back {
                    tails[detector].hold_back((subject, &subject.text()), measure, at, false);
                }
            }
        }
        highest
    };
    for _ in 0..6 * HOUR {
        judge(&mut host, &mut tails, true);
    }
    let floor = (tails[0].programs() as f64 * 24.0 / PER_DAY).ln();
    for _ in 0..24 {
        let mut hour = [false; DETECTORS.len()];
        for _ in 0..HOUR {
            let highest = judge(&mut host, &mut tails, true);
            highest.iter().zip(&mut hour).for_each(|(nats, told)| *told |= *nats >= floor);
        }
        table.iter_mut().zip(hour).for_each(|(row, told)| row.false_alerts += u32::from(told));
    }
    *days += 1.0;
    for (_, act) in ACTS {
        for (at, times) in TIMES.into_iter().enumerate() {
            for _ in 0..PAUSE {
                judge(&mut host, &mut tails, true);
            }
            let (who, tid) = host.resident(0);
            act(times).into_iter().for_each(|origin| host.observe(&who, tid, origin));
            let highest = judge(&mut host, &mut tails, false);
            for (row, nats) in table.iter_mut().zip(highest) {
                row.told[at] += u32::from(nats >= floor);
                row.tried += u32::from(at == 0);
            }
        }
    }
}

fn main() {
    let (mut table, mut days): ([Row; DETECTORS.len()], f64) = Default::default();
    (0..SEEDS).for_each(|seed| live(seed, &mut table, &mut days));
    let times: Vec<String> = TIMES.iter().map(|times| format!("{times} times")).collect();
    println!("| measured by | {} | all | false in {days:.0} days |", times.join(" | "));
    println!("|---|{}---|---|", "---|".repeat(TIMES.len()));
    for (name, row) in DETECTORS.iter().zip(&table) {
        let share = |told: u32, of: u32| {
            let (low, high) = share_interval(told, of);
            format!("{:.2} ({low:.2} to {high:.2})", f64::from(told) / f64::from(of))
        };
        let cells: Vec<String> = row.told.iter().map(|told| share(*told, row.tried)).collect();
        let all = share(row.told.iter().sum(), row.tried * TIMES.len() as u32);
        println!("| {name} | {} | {all} | {} |", cells.join(" | "), row.false_alerts);
    }
    println!("\n{:.1} of them were asked for.", days * PER_DAY);
}
