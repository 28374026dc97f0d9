//! One scale's detectors: forest and nearest neighbours over deviation rows.

use std::{borrow::Borrow, sync::Arc};

use hedgerow_event::{Family, Share, Subject};
use hedgerow_features::{COLUMNS, Window};
use hedgerow_model::{IsolationForest, NearestNeighborEnsemble};
use linfa::{Dataset, prelude::*};
use ndarray::{Array2, ArrayView1, Axis};
use rand::{SeedableRng, rngs::SmallRng};
use serde::{Deserialize, Serialize};

use crate::reference::{DEVIATIONS, Deviation, FAMILIES, Reference};

const TREES: usize = 100;
const SAMPLE_MAX: usize = 256;
/// Draws of the nearest-neighbour ensemble, and rows of each.
const DRAWS: usize = 50;
const NEIGHBORS_MAX: usize = 16;
/// A deviation of about a third of a unit is never large, however seldom it was.
const DEVIATION_LEAST: f32 = 0.25;
/// Windows of *fit* kept for the forest: a uniform sample of more.
pub const FIT_ROWS_MAX: usize = 20_000;
/// Distance that weighs as much as one unit of the forest's log-odds.
const DISTANCE_UNIT: f64 = 0.5;
/// Fewer rows than this make no forest.
pub const FIT_ROWS_LEAST: usize = 8;

/// Fitted detectors of one scale.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Detector {
    forest: IsolationForest,
    neighbors: NearestNeighborEnsemble,
}

/// A scored window.
#[derive(Debug, Clone)]
pub struct Scored {
    /// The isolation forest's, in (0, 1] (Liu 2008).
    pub forest: f64,
    /// The forest's log-odds, plus the mean distance to the nearest neighbours in half units: a
    /// forest alone can't tell far from farther, since beyond its outermost split all rows score the
    /// same.
    pub measure: f64,
    /// How surprising the measure is, in nats; `None` while nothing was held back of its kind.
    pub nats: Option<f64>,
    pub deviation: Deviation,
}

impl Detector {
    /// Fits forest and neighbours on rows of *fit*; the same rows and seed give the same detector.
    pub fn fit(rows: &Array2<f32>, seed: u64) -> crate::Result<Self> {
        let rows = &guarded(rows);
        let dataset = Dataset::from(rows.clone());
        let forest = IsolationForest::params_with_rng(SmallRng::seed_from_u64(seed))
            .n_trees(TREES)
            .sample_size(SAMPLE_MAX.min(rows.nrows()))
            .fit(&dataset)?;
        let filled = dataset;
        let neighbors = NearestNeighborEnsemble::params_with_rng(SmallRng::seed_from_u64(seed ^ 1))
            .n_draws(DRAWS)
            .sample_size(NEIGHBORS_MAX.min(rows.nrows()))
            .least_deviation(DEVIATION_LEAST)
            .fit(&filled)?;
        Ok(Self { forest, neighbors })
    }

    /// Scores windows, in order.
    pub fn score(&self, reference: &Reference, windows: &[impl Borrow<Window>]) -> Vec<Scored> {
        if windows.is_empty() {
            return Vec::new();
        }
        let deviations: Vec<Deviation> =
            windows.iter().map(|window| reference.deviation(window.borrow())).collect();
        let rows = rows(deviations.iter());
        let lengths = self.forest.mean_path_lengths(rows.view());
        let distances = self.neighbors.mean_distances(rows.view());
        deviations
            .into_iter()
            .zip(lengths.iter().zip(&distances))
            .map(|(deviation, (length, distance))| {
                let forest = self.forest.score_of_path_length(*length);
                let odds = (forest / (1.0 - forest).max(f64::EPSILON)).ln();
                let measure = odds + distance / DISTANCE_UNIT;
                Scored { forest, measure, nats: None, deviation }
            })
            .collect()
    }

    pub fn forest(&self) -> &IsolationForest {
        &self.forest
    }

    /// What made a window's score, largest share first: the distance to its nearest neighbours by
    /// deviation, told as the column behind it. The shares add up to 1.
    pub fn attribution(
        &self,
        reference: &Reference,
        window: &Window,
        scored: &Scored,
    ) -> Vec<Share> {
        let row = measured(&scored.deviation);
        let distances = self.neighbors.distance_by_column(ArrayView1::from(&row));
        let whole: f64 = distances.sum();
        let mut shares: Vec<Share> = Vec::new();
        for (at, distance) in distances.iter().enumerate() {
            let part = distance / whole;
            let Some(column) = scored.deviation.column[at].filter(|_| part > 0.0) else { continue };
            let name = &COLUMNS[column].name;
            if let Some(share) = shares.iter_mut().find(|share| *share.feature == **name) {
                share.share += part;
            } else {
                shares.push(share(reference, &window.subject, column, window.values[column], part));
            }
        }
        shares.sort_by(|a, b| b.share.total_cmp(&a.share));
        shares
    }
}

fn share(reference: &Reference, subject: &Subject, column: usize, value: f64, part: f64) -> Share {
    let beside = reference.beside(subject, column, value);
    Share {
        feature: Arc::from(&*COLUMNS[column].name),
        value,
        usual_low: beside.low,
        usual_high: beside.high,
        direction: beside.direction,
        share: part,
        of: "distance to the nearest learned windows".into(),
    }
}

/// Rows with one more for each column, a unit beyond the largest fitted value: a direction in
/// which normal life never deviated is still a direction, though no tree could split it and no
/// distance scale it.
fn guarded(rows: &Array2<f32>) -> Array2<f32> {
    let mut guarded = Array2::zeros((rows.nrows() + rows.ncols(), rows.ncols()));
    guarded.slice_mut(ndarray::s![..rows.nrows(), ..]).assign(rows);
    for column in 0..rows.ncols() {
        let largest = rows.column(column).iter().copied().fold(0.0, f32::max);
        guarded[(rows.nrows() + column, column)] = largest + 1.0;
    }
    guarded
}

/// Deviation rows as a matrix.
pub fn rows<'a>(deviations: impl ExactSizeIterator<Item = &'a Deviation>) -> Array2<f32> {
    let mut rows = Array2::zeros((deviations.len(), DEVIATIONS));
    for (mut row, deviation) in rows.axis_iter_mut(Axis(0)).zip(deviations) {
        row.assign(&ArrayView1::from(&measured(deviation)));
    }
    rows
}

/// What is measured of a deviation: unavailable columns don't deviate, so that every row goes through
/// the forest's block engine, and what was never seen is a deed, no amount.
fn measured(deviation: &Deviation) -> [f32; DEVIATIONS] {
    let mut row = deviation.row.map(|value| if value.is_nan() { 0.0 } else { value });
    for (at, family) in FAMILIES.iter().enumerate() {
        if *family == Family::Novelty {
            row[2 * at..2 * at + 2].fill(0.0);
        }
    }
    row
}
