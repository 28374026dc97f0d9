//! Fisher's statistic over conformal p-values, recalibrated.

use ndarray::{ArrayView1, ArrayView2};

use super::errors::CombinerError;

/// Most calibration rows that are kept.
const MAX_ROWS: usize = 1 << 20;

/// Joins the scores of several detectors, each higher for more anomalous rows.
///
/// With n calibration rows, detector k's conformal p-value of a score s is
/// p_k = (1 + #{calibration scores >= s}) / (n + 1), the statistic T = -Σ ln p_k, and the joint
/// p-value (1 + #{T of calibration rows >= T}) / (n + 1). A calibration row's own T ranks it among
/// all of them, which is what ranking it among the others and itself means. For exchangeable rows
/// P(p <= α) <= α + O(1/n), however dependent the detectors are.
///
/// ```
/// use hedgerow_model::combiner::FisherCombiner;
/// use ndarray::{Array2, array};
///
/// // Two detectors that agree entirely: T is far from chi-squared, the joint p-value is not off.
/// let scores = Array2::from_shape_fn((99, 2), |(row, _)| row as f64);
/// let combiner = FisherCombiner::new(scores.view())?;
/// assert_eq!(combiner.p_value(array![98.5, 98.5].view()), 0.01);
/// assert_eq!(combiner.p_value(array![49.5, 49.5].view()), 0.5);
/// # Ok::<(), hedgerow_model::combiner::CombinerError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "StoredCombiner", into = "StoredCombiner"))]
pub struct FisherCombiner {
    /// Sorted calibration scores of each detector.
    scores: Vec<Vec<f64>>,
    /// Sorted statistics of the calibration rows.
    statistics: Vec<f64>,
}

impl FisherCombiner {
    /// Calibrates on scores of rows that the detectors were not fitted on: (n rows, k detectors).
    ///
    /// # Errors
    /// If there are no scores, more than 2^20 rows, or a score is not finite.
    pub fn new(scores: ArrayView2<'_, f64>) -> Result<Self, CombinerError> {
        if scores.is_empty() {
            return Err(CombinerError::Empty);
        }
        if scores.nrows() > MAX_ROWS {
            return Err(CombinerError::TooManyRows(scores.nrows()));
        }
        if let Some(((row, detector), _)) = scores.indexed_iter().find(|(_, s)| !s.is_finite()) {
            return Err(CombinerError::NotFinite { row, detector });
        }
        let sorted = scores.columns().into_iter().map(|column| {
            let mut column = column.to_vec();
            column.sort_unstable_by(f64::total_cmp);
            column
        });
        let mut combiner = FisherCombiner { scores: sorted.collect(), statistics: Vec::new() };
        let n = scores.nrows() as f64;
        let statistic_of = |row: ArrayView1<'_, f64>| -> f64 {
            let p_values = row.iter().zip(&combiner.scores).map(|(&s, c)| at_least(c, s) / n);
            -p_values.map(f64::ln).sum::<f64>()
        };
        let mut statistics: Vec<f64> = scores.rows().into_iter().map(statistic_of).collect();
        statistics.sort_unstable_by(f64::total_cmp);
        combiner.statistics = statistics;
        Ok(combiner)
    }

    /// Detectors that are joined.
    #[must_use]
    pub fn n_detectors(&self) -> usize {
        self.scores.len()
    }

    /// Calibration rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.statistics.len()
    }

    /// The joint conformal p-value of a row's scores, in \[1 / (n + 1), 1\].
    ///
    /// # Panics
    /// If there is not one score for each detector.
    #[must_use]
    pub fn p_value(&self, scores: ArrayView1<'_, f64>) -> f64 {
        assert_eq!(scores.len(), self.n_detectors(), "one score for each detector");
        let total = self.n_rows() as f64 + 1.0;
        let p_values =
            scores.iter().zip(&self.scores).map(|(&s, c)| (at_least(c, s) + 1.0) / total);
        let statistic = -p_values.map(f64::ln).sum::<f64>();
        (at_least(&self.statistics, statistic) + 1.0) / total
    }

    /// The statistic as a smooth score for ordering rows, in \[0, ∞): p-values are interpolated
    /// between calibration scores, and beyond the greatest they go on falling exponentially, so
    /// that rows beyond all calibration rows still have an order.
    ///
    /// # Panics
    /// If there is not one score for each detector.
    #[must_use]
    pub fn statistic(&self, scores: ArrayView1<'_, f64>) -> f64 {
        assert_eq!(scores.len(), self.n_detectors(), "one score for each detector");
        scores.iter().zip(&self.scores).map(|(&s, calibration)| surprisal(calibration, s)).sum()
    }
}

/// How many of the sorted scores are at least `score`; NaN counts as the greatest.
fn at_least(sorted: &[f64], score: f64) -> f64 {
    (sorted.len() - sorted.partition_point(|&other| other < score)) as f64
}

/// Negative logarithm of a smooth p-value of `score` among the sorted calibration scores.
fn surprisal(sorted: &[f64], score: f64) -> f64 {
    let n = sorted.len();
    let (first, last) = (sorted[0], sorted[n - 1]);
    let total = (n + 1) as f64;
    if score > last {
        let median = sorted[n / 2];
        let scale = (last - median) / (total / 2.0).ln().max(1.0);
        let beyond = if scale > 0.0 { (score - last) / scale } else { 1.0 };
        return total.ln() + beyond.min(f64::MAX);
    }
    if score <= first {
        return 0.0;
    }
    // The run of scores that equal the next one up counts once, at its middle.
    let above = sorted.partition_point(|&other| other < score);
    let (lower, upper) = (sorted[above - 1], sorted[above]);
    let rank_of = |value: f64| {
        let start = sorted.partition_point(|&other| other < value);
        let end = sorted.partition_point(|&other| other <= value);
        (start + end + 1) as f64 / 2.0
    };
    let (low_rank, high_rank) = (rank_of(lower), rank_of(upper));
    let rank = low_rank + (high_rank - low_rank) * ((score - lower) / (upper - lower));
    -((total - rank) / total).ln()
}

/// What is stored of a combiner.
#[derive(Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct StoredCombiner {
    scores: Vec<Vec<f64>>,
    statistics: Vec<f64>,
}

impl From<FisherCombiner> for StoredCombiner {
    fn from(combiner: FisherCombiner) -> Self {
        let FisherCombiner { scores, statistics } = combiner;
        StoredCombiner { scores, statistics }
    }
}

impl TryFrom<StoredCombiner> for FisherCombiner {
    type Error = CombinerError;

    fn try_from(stored: StoredCombiner) -> Result<Self, Self::Error> {
        let StoredCombiner { scores, statistics } = stored;
        let n = statistics.len();
        if scores.is_empty() || n == 0 {
            return Err(CombinerError::Empty);
        }
        let sound = |table: &Vec<f64>| {
            table.len() == n && table.is_sorted() && table.iter().all(|value| value.is_finite())
        };
        if !scores.iter().all(sound) || !sound(&statistics) {
            return Err(CombinerError::Malformed);
        }
        Ok(FisherCombiner { scores, statistics })
    }
}
