//! What is usual in each column, from a bounded sample of the training rows.

use linfa::Float;
use ndarray::ArrayView2;
use rand::Rng;

use crate::rows::to_f32;

/// Rows that summarise a training set, however large it is.
pub const SUMMARY_ROWS: usize = 16_384;

/// Usual values of one column. Of a column without any value, everything is 0.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ColumnSummary {
    /// Least value.
    pub minimum: f32,
    /// 1 % quantile.
    pub low: f32,
    /// Median.
    pub median: f32,
    /// 99 % quantile.
    pub high: f32,
    /// Greatest value.
    pub maximum: f32,
    /// Mean.
    pub mean: f32,
    /// Standard deviation (of the population).
    pub deviation: f32,
    /// Share of values that are missing, in \[0, 1\].
    pub missing_share: f32,
}

/// Summarises each column over at most [`SUMMARY_ROWS`] rows drawn by `rng`. Infinite values count
/// as the largest f32; quantiles are order statistics (nearest rank).
pub fn summarise_columns<F: Float>(
    records: ArrayView2<'_, F>,
    rng: &mut impl Rng,
) -> Vec<ColumnSummary> {
    let n_rows = records.nrows();
    let mut rows: Vec<usize> = if n_rows <= SUMMARY_ROWS {
        (0..n_rows).collect()
    } else {
        rand::seq::index::sample(rng, n_rows, SUMMARY_ROWS).into_vec()
    };
    rows.sort_unstable();
    let mut values = Vec::with_capacity(rows.len());
    (records.columns().into_iter())
        .map(|column| {
            values.clear();
            values.extend(rows.iter().map(|&row| finite(to_f32(column[row]))));
            summarise(&mut values)
        })
        .collect()
}

/// The columns' medians: what a missing value counts as where one has to be put in its place.
pub(crate) fn medians(summaries: &[ColumnSummary]) -> Vec<f32> {
    summaries.iter().map(|column| column.median).collect()
}

/// A value as finite f32, `fill` if it is missing.
#[inline]
pub(crate) fn present<F: Float>(value: F, fill: f32) -> f32 {
    let value = to_f32(value);
    if value.is_nan() { fill } else { finite(value) }
}

/// Replaces an infinity by the largest f32 of its sign.
pub(crate) fn finite(value: f32) -> f32 {
    // `clamp` keeps NaN, the missing value.
    value.clamp(f32::MIN, f32::MAX)
}

fn summarise(values: &mut Vec<f32>) -> ColumnSummary {
    let n_rows = values.len();
    values.retain(|value| !value.is_nan());
    if values.is_empty() {
        return ColumnSummary { missing_share: 1.0, ..ColumnSummary::default() };
    }
    values.sort_unstable_by(f32::total_cmp);
    let n = values.len() as f64;
    let quantile = |share: f64| values[((share * n).ceil() as usize).clamp(1, values.len()) - 1];
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / n;
    let variance = values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / n;
    ColumnSummary {
        minimum: values[0],
        low: quantile(0.01),
        median: quantile(0.5),
        high: quantile(0.99),
        maximum: values[values.len() - 1],
        mean: mean as f32,
        deviation: variance.sqrt() as f32,
        missing_share: ((n_rows - values.len()) as f64 / n_rows as f64) as f32,
    }
}
