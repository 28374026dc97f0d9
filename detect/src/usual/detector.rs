//! One scale's detectors: forest and nearest neighbours over deviation rows.

use std::{borrow::Borrow, sync::Arc};

use hedgerow_event::{Family, Share, Subject};
use hedgerow_features::{COLUMNS, Window};
use hedgerow_model::{IsolationForest, NearestNeighborEnsemble};
use linfa::{Dataset, prelude::*};
use ndarray::{Array2, ArrayView1, ArrayView2, Axis};
use rand::{SeedableRng, rngs::SmallRng};
use serde::{Deserialize, Serialize};

use crate::{
    reference::{DEVIATIONS, Deviation, FAMILIES, Reference},
    said::finding::{FOREST, NATS},
    sequence::Sequence,
};

const TREES: usize = 100;
const SAMPLE_MAX: usize = 256;
/// Trees that make room for new ones each day.
const REPLACED: f64 = 0.2;
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
    /// Its subject's text, by which all that is known of it is looked up.
    pub text: String,
    /// The isolation forest's, in (0, 1] (Liu 2008).
    pub forest: f64,
    /// The forest's log-odds, plus the mean distance to the nearest neighbours in half units: a
    /// forest alone can't tell far from farther, since beyond its outermost split all rows score the
    /// same.
    pub amounts: f64,
    /// The same, plus how strange its calls are in order and mix, where that is known.
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

    /// Replaces a fifth of the forest's trees, the oldest, by ones grown on recent rows, where the new
    /// forest is no worse: on every fourth row, which it doesn't learn from, it finds what lies beyond
    /// all of them no later than the old one does, and the rows themselves are no more unusual to
    /// it. False where the old one stays.
    pub fn learn_on(&mut self, recent: ArrayView2<'_, f32>, seed: u64) -> crate::Result<bool> {
        let held = |at: &usize| at % 4 == 3;
        let rows = |kept: bool| {
            let at: Vec<usize> = (0..recent.nrows()).filter(|at| held(at) == kept).collect();
            recent.select(Axis(0), &at)
        };
        let (learn, judge) = (guarded(&rows(false)), rows(true));
        if learn.nrows() < self.forest.sample_size() as usize {
            return Ok(false);
        }
        let challenger = IsolationForest::params_with_rng(SmallRng::seed_from_u64(seed))
            .n_trees(TREES)
            .replaced_share(REPLACED)
            .fit_with(Some(self.forest.clone()), &Dataset::from(learn))?;
        let beyond = guarded(&judge).slice_move(ndarray::s![judge.nrows().., ..]);
        let mean = |forest: &IsolationForest, rows: &Array2<f32>| {
            forest.mean_path_lengths(rows.view()).mean().unwrap_or_default()
        };
        let apart = |forest: &IsolationForest| mean(forest, &judge) - mean(forest, &beyond);
        let better = mean(&challenger, &judge) >= mean(&self.forest, &judge)
            && apart(&challenger) >= apart(&self.forest);
        if better {
            self.forest = challenger;
        }
        Ok(better)
    }

    /// Scores windows, in order.
    pub fn score(&self, reference: &Reference, windows: &[impl Borrow<Window>]) -> Vec<Scored> {
        if windows.is_empty() {
            return Vec::new();
        }
        let compare = |window: &Window| {
            let text = window.subject.text();
            let (deviation, sequence) = reference.compare(window, &text);
            (text, deviation, sequence)
        };
        let compared: Vec<_> = windows.iter().map(|window| compare(window.borrow())).collect();
        let measures = self.measures(&rows(compared.iter().map(|(_, deviation, _)| deviation)));
        let scored = compared.into_iter().zip(measures);
        scored
            .map(|((text, deviation, sequence), (forest, amounts))| {
                let measure = amounts + sequence.map_or(0.0, Sequence::measure);
                Scored { text, forest, amounts, measure, nats: None, deviation }
            })
            .collect()
    }

    /// The amounts of what a window does to others, all else being as usual.
    pub fn outward(&self, reference: &Reference, window: &Window) -> f64 {
        let measures = self.measures(&rows([&reference.outward(window)].into_iter()));
        measures.first().map_or(0.0, |(_, amounts)| *amounts)
    }

    /// The forest's score and the amounts of rows of as many columns as it was fitted on.
    pub fn measures(&self, rows: &Array2<f32>) -> Vec<(f64, f64)> {
        let lengths = self.forest.mean_path_lengths(rows.view());
        let distances = self.neighbors.mean_distances(rows.view());
        let measured = lengths.iter().zip(&distances).map(|(length, distance)| {
            let forest = self.forest.score_of_path_length(*length);
            (forest, self.odds(*length) + distance / DISTANCE_UNIT)
        });
        measured.collect()
    }

    pub fn forest(&self) -> &IsolationForest {
        &self.forest
    }

    pub fn put_forest(&mut self, forest: IsolationForest) {
        self.forest = forest;
    }

    /// What made a window's surprise, largest share first, told as the column behind each
    /// deviation. The amounts are a sum: each column's part of the distance to the nearest
    /// neighbours, and its part of the forest's log-odds beyond those of its own training rows, by
    /// exact Shapley values of the path. What speaks for the window is left out; the shares add up
    /// to 1, and so, times the surprise, to the finding's nats.
    pub fn attribution(
        &self,
        reference: &Reference,
        window: &Window,
        scored: &Scored,
    ) -> Vec<Share> {
        let row = measured(&scored.deviation);
        let distances = self.neighbors.distance_by_column(ArrayView1::from(&row));
        let shap = self.forest.shap_values(ArrayView1::from(&row));
        let length: f64 = shap.baseline + shap.values.sum();
        let gained = self.odds(length) - self.odds(shap.baseline);
        let per_length = if shap.values.sum() == 0.0 { 0.0 } else { gained / shap.values.sum() };
        let parts = distances
            .iter()
            .zip(&shap.values)
            .map(|(distance, path)| (distance / DISTANCE_UNIT + path * per_length).max(0.0));
        let parts: Vec<f64> = parts.collect();
        by_column(reference, window, scored, &parts, NATS)
    }

    /// By which columns the forest found a window: exact Shapley values of its path length (TreeSHAP),
    /// whose shares add up to 1; a negative one speaks for the window.
    pub fn explanation(
        &self,
        reference: &Reference,
        window: &Window,
        scored: &Scored,
    ) -> Vec<Share> {
        let row = measured(&scored.deviation);
        let shap = self.forest.shap_values(ArrayView1::from(&row));
        by_column(reference, window, scored, shap.values.as_slice().unwrap_or_default(), FOREST)
    }

    fn odds(&self, length: f64) -> f64 {
        let score = self.forest.score_of_path_length(length);
        (score / (1.0 - score).max(f64::EPSILON)).ln()
    }
}

/// Parts of a whole by deviation as shares by column, largest first.
fn by_column(
    reference: &Reference,
    window: &Window,
    scored: &Scored,
    parts: &[f64],
    of: &str,
) -> Vec<Share> {
    let told = || parts.iter().zip(&scored.deviation.column).filter(|(part, _)| **part != 0.0);
    let whole: f64 = told().filter(|(_, column)| column.is_some()).map(|(part, _)| part).sum();
    let mut shares: Vec<Share> = Vec::new();
    for (part, column) in told() {
        let Some(column) = column.map(usize::from) else { continue };
        let part = part / whole;
        let name = &COLUMNS[column].name;
        if let Some(share) = shares.iter_mut().find(|share| *share.feature == **name) {
            share.share += part;
        } else {
            let value = window.values[column];
            shares.push(share(reference, &window.subject, column, value, part, of));
        }
    }
    shares.sort_by(|a, b| b.share.total_cmp(&a.share));
    shares
}

fn share(
    reference: &Reference,
    subject: &Subject,
    column: usize,
    value: f64,
    part: f64,
    of: &str,
) -> Share {
    let beside = reference.beside(subject, column, value);
    Share {
        feature: Arc::from(&*COLUMNS[column].name),
        value,
        usual_low: beside.low,
        usual_high: beside.high,
        direction: beside.direction,
        share: part,
        of: of.into(),
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
pub fn measured(deviation: &Deviation) -> [f32; DEVIATIONS] {
    let mut row = deviation.row.map(|value| if value.is_nan() { 0.0 } else { value });
    for (at, family) in FAMILIES.iter().enumerate() {
        if *family == Family::Novelty {
            row[2 * at..2 * at + 2].fill(0.0);
        }
    }
    row
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rand::Rng;

    use super::*;

    /// Rows around a centre, a few families of them.
    fn life(rows: usize, centre: f32, spread: f32, seed: u64) -> Array2<f32> {
        let mut rng = SmallRng::seed_from_u64(seed);
        Array2::from_shape_fn((rows, DEVIATIONS), |(_, column)| {
            let noise: f32 = (0..4).map(|_| rng.gen_range(-0.5..0.5f32)).sum();
            if column < 6 { (centre + spread * noise).max(0.0) } else { (0.1 * noise).max(0.0) }
        })
    }

    fn score(detector: &Detector, rows: &Array2<f32>) -> f64 {
        let lengths = detector.forest.mean_path_lengths(rows.view());
        lengths.iter().map(|length| detector.forest.score_of_path_length(*length)).sum::<f64>()
            / rows.nrows() as f64
    }

    #[test]
    fn a_forest_learns_on_what_life_became_and_still_finds_what_is_beyond() {
        let mut detector = Detector::fit(&life(2_000, 0.5, 0.3, 1), 7).unwrap();
        let (became, beyond) = (life(3_000, 1.2, 0.3, 2), life(200, 4.0, 0.3, 3));
        let before = score(&detector, &became);
        let learned = (0..5).filter(|_| detector.learn_on(became.view(), 7).unwrap()).count();
        assert!(learned > 0);
        let after = score(&detector, &became);
        assert!(after < before - 0.02, "{after} after {before}");
        assert!(score(&detector, &beyond) > after + 0.05, "{}", score(&detector, &beyond));
    }

    #[test]
    fn a_challenger_that_is_worse_is_not_taken() {
        let before = Detector::fit(&life(2_000, 0.5, 0.3, 1), 7).unwrap();
        let mut detector = before.clone();
        // Mostly life as it was, to which trees grown on a mess of everything fit worse.
        let (mess, same) = (life(2_300, 6.0, 5.0, 4), life(766, 0.5, 0.3, 5));
        let recent = Array2::from_shape_fn((3_064, DEVIATIONS), |(row, column)| {
            let from = if row % 4 == 3 { &same } else { &mess };
            from[(if row % 4 == 3 { row / 4 } else { row / 4 * 3 + row % 4 }, column)]
        });
        assert!(!detector.learn_on(recent.view(), 7).unwrap());
        assert_eq!(score(&detector, &same), score(&before, &same));
        assert!(!detector.learn_on(same.slice(ndarray::s![..100, ..]), 7).unwrap(), "too few");
    }
}
