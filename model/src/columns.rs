//! What is usual in each column, from a bounded sample of the training rows.

use linfa::Float;
use ndarray::ArrayView2;
use rand::Rng;

use crate::rows::to_f32;

/// Rows that summarise a training set, however large it is.
const SUMMARY_ROWS: usize = 16_384;

/// Usual values of one column; 0 of a column without any value.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ColumnSummary {
    /// Median, as an order statistic (nearest rank).
    pub median: f32,
    /// Standard deviation (of the population).
    pub deviation: f32,
}

/// Summarises each column over at most [`SUMMARY_ROWS`] rows drawn by `rng`. Infinite values count
/// as the largest f32, missing ones not at all.
pub(crate) fn summarise_columns<F: Float>(
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
    values.retain(|value| !value.is_nan());
    if values.is_empty() {
        return ColumnSummary::default();
    }
    values.sort_unstable_by(f32::total_cmp);
    let n = values.len() as f64;
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / n;
    let variance = values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / n;
    ColumnSummary {
        median: values[((0.5 * n).ceil() as usize).clamp(1, values.len()) - 1],
        deviation: variance.sqrt() as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
    use rand::{SeedableRng, rngs::SmallRng};

    #[test]
    fn summaries_leave_missing_values_out_and_bound_infinite_ones() {
        let mut rows = Array2::from_shape_fn((101, 3), |(i, _)| i as f64);
        rows[(50, 0)] = f64::INFINITY;
        rows[(7, 1)] = f64::NAN;
        rows.column_mut(2).fill(f64::NAN);
        let usual = summarise_columns(rows.view(), &mut SmallRng::seed_from_u64(1));
        assert_eq!(usual[0].median, 51.0);
        assert!(usual[0].deviation > 1e36 && usual[0].deviation.is_finite());
        assert_eq!(usual[1].median, 50.0);
        // Of 0..=100 without the 7: sqrt(mean of squares - square of the mean).
        assert!((usual[1].deviation - 28.98).abs() < 0.01, "{}", usual[1].deviation);
        assert_eq!((usual[2].median, usual[2].deviation), (0.0, 0.0));
    }
}
