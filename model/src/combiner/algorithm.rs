use linfa::Float;
use linfa::dataset::DatasetBase;
use linfa::traits::{Fit, PredictInplace};
use ndarray::{Array1, Array2, ArrayBase, ArrayView2, Axis, Data, Ix2, concatenate};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::errors::CombinedDetectorError;
use super::fisher::FisherCombiner;
use super::hyperparams::{CombinedDetectorParams, CombinedDetectorValidParams};
use crate::parallel::for_each_part;
use crate::rows::predict_into;
use crate::{ExtendedIsolationForest, IsolationForest, NearestNeighborEnsemble};

/// The three detectors, fitted on the same rows.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Detectors {
    forest: IsolationForest,
    extended: ExtendedIsolationForest,
    neighbors: NearestNeighborEnsemble,
}

/// An isolation forest, an extended isolation forest and a nearest-neighbour ensemble, joined by
/// a [`FisherCombiner`].
///
/// `predict` takes an (n rows, columns) matrix of f32 or f64 and gives n statistics in \[0, ∞),
/// higher for more anomalous rows; [`Self::p_values`] gives their joint conformal p-values.
///
/// Fitting cross-calibrates (Vovk, "Cross-conformal predictors", 2015): a sample of the training
/// rows is dealt into folds, each fold is scored by detectors fitted on all rows outside of it, and
/// those scores calibrate detectors fitted on everything. So no row is lost to calibration, and
/// none is scored by a tree that saw it. Where rows are held back anyway,
/// [`Self::recalibrate`] on them makes it a split-conformal detector with its exact guarantee.
///
/// ```
/// use hedgerow_model::CombinedDetector;
/// use linfa::prelude::*;
/// use ndarray::{Array2, array};
///
/// let rows = Array2::from_shape_fn((500, 2), |(i, j)| ((i * (j + 3)) as f64 * 0.7).sin());
/// let detector = CombinedDetector::params().fit(&Dataset::from(rows))?;
/// let probes = array![[0.0, 0.0], [9.0, -9.0]];
/// let p_values = detector.p_values(probes.view());
/// assert!(p_values[0] > 0.05 && p_values[1] < 0.01);
/// let scores = detector.predict(&probes);
/// assert!(scores[1] > scores[0]);
/// # Ok::<(), hedgerow_model::combiner::CombinedDetectorError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "StoredDetector", into = "StoredDetector"))]
pub struct CombinedDetector {
    detectors: Detectors,
    combiner: FisherCombiner,
}

impl CombinedDetector {
    /// Hyper-parameters: the detectors' own defaults, seed 42.
    pub fn params() -> CombinedDetectorParams<Xoshiro256PlusPlus> {
        CombinedDetectorParams::new()
    }

    /// Hyper-parameters with randomness from `rng`.
    pub fn params_with_rng<R: Rng + Clone>(rng: R) -> CombinedDetectorParams<R> {
        CombinedDetectorParams::new_fixed_rng(rng)
    }

    /// The isolation forest.
    #[must_use]
    pub fn forest(&self) -> &IsolationForest {
        &self.detectors.forest
    }

    /// The extended isolation forest.
    #[must_use]
    pub fn extended(&self) -> &ExtendedIsolationForest {
        &self.detectors.extended
    }

    /// The nearest-neighbour ensemble.
    #[must_use]
    pub fn neighbors(&self) -> &NearestNeighborEnsemble {
        &self.detectors.neighbors
    }

    /// The combiner.
    #[must_use]
    pub fn combiner(&self) -> &FisherCombiner {
        &self.combiner
    }

    /// Sets the threads that score; at least one.
    #[must_use]
    pub fn with_threads(mut self, n_threads: usize) -> Self {
        let Detectors { forest, extended, neighbors } = self.detectors;
        self.detectors = Detectors {
            forest: forest.with_threads(n_threads),
            extended: extended.with_threads(n_threads),
            neighbors: neighbors.with_threads(n_threads),
        };
        self
    }

    /// Calibrates on other rows, which must not have been used for fitting.
    ///
    /// # Errors
    /// If there are no rows or too many.
    pub fn recalibrate<F: Float>(
        &mut self,
        records: ArrayView2<'_, F>,
    ) -> Result<(), CombinedDetectorError> {
        self.combiner = FisherCombiner::new(self.detectors.scores(records).view())?;
        Ok(())
    }

    /// Joint conformal p-value of each row, in (0, 1\], lower for more anomalous rows.
    ///
    /// # Panics
    /// If `records` has another number of columns than the training rows.
    #[must_use]
    pub fn p_values<F: Float>(&self, records: ArrayView2<'_, F>) -> Array1<f64> {
        let scores = self.detectors.scores(records);
        scores.rows().into_iter().map(|row| self.combiner.p_value(row)).collect()
    }

    /// Scores by detector, (n rows, 3): isolation forest, extended forest, nearest neighbours.
    ///
    /// # Panics
    /// If `records` has another number of columns than the training rows.
    #[must_use]
    pub fn detector_scores<F: Float>(&self, records: ArrayView2<'_, F>) -> Array2<f64> {
        self.detectors.scores(records)
    }
}

impl Detectors {
    fn fit<F: Float, R>(
        records: ArrayView2<'_, F>,
        params: &CombinedDetectorValidParams<R>,
        rng: &mut Xoshiro256PlusPlus,
    ) -> Result<Self, CombinedDetectorError> {
        let dataset = DatasetBase::from(records);
        let mut next_rng = || Xoshiro256PlusPlus::seed_from_u64(rng.r#gen());
        Ok(Detectors {
            forest: IsolationForest::params_with_rng(next_rng())
                .n_trees(params.n_trees())
                .sample_size(params.sample_size())
                .n_threads(params.n_threads())
                .fit(&dataset)?,
            extended: ExtendedIsolationForest::params_with_rng(next_rng())
                .n_trees(params.n_trees())
                .sample_size(params.sample_size())
                .n_threads(params.n_threads())
                .fit(&dataset)?,
            neighbors: NearestNeighborEnsemble::params_with_rng(next_rng())
                .n_draws(params.n_draws())
                .sample_size(params.draw_size())
                .n_threads(params.n_threads())
                .fit(&dataset)?,
        })
    }

    /// Scores by detector, each higher for more anomalous rows.
    fn scores<F: Float>(&self, records: ArrayView2<'_, F>) -> Array2<f64> {
        let mut scores = Array2::zeros((records.nrows(), 3));
        let of_length = |length: f64| -length;
        scores.column_mut(0).assign(&self.forest.mean_path_lengths(records).mapv(of_length));
        scores.column_mut(1).assign(&self.extended.mean_path_lengths(records).mapv(of_length));
        scores.column_mut(2).assign(&self.neighbors.mean_distances(records));
        scores
    }
}

/// Scores of a sample of the records by detectors that were fitted without them.
fn cross_scores<F: Float, R>(
    records: ArrayView2<'_, F>,
    params: &CombinedDetectorValidParams<R>,
    rng: &mut Xoshiro256PlusPlus,
) -> Result<Array2<f64>, CombinedDetectorError> {
    let mut order: Vec<usize> = (0..records.nrows()).collect();
    order.shuffle(rng);
    let n_calibrating = params.calibration_rows().min(order.len());
    let per_fold = n_calibrating.div_ceil(params.n_folds());
    let mut scores = Array2::zeros((0, 3));
    for start in (0..n_calibrating).step_by(per_fold) {
        let end = (start + per_fold).min(n_calibrating);
        let outside: Vec<usize> = order[..start].iter().chain(&order[end..]).copied().collect();
        let training = records.select(Axis(0), &outside);
        let detectors = Detectors::fit(training.view(), params, rng)?;
        let fold = records.select(Axis(0), &order[start..end]);
        scores = concatenate![Axis(0), scores, detectors.scores(fold.view())];
    }
    Ok(scores)
}

impl<F, D, R, T> Fit<ArrayBase<D, Ix2>, T, CombinedDetectorError> for CombinedDetectorValidParams<R>
where
    F: Float,
    D: Data<Elem = F>,
    R: Rng + Clone,
{
    type Object = CombinedDetector;

    /// Fits and cross-calibrates the detectors on the records; targets are ignored. Fewer rows than
    /// folds are too few to hold any out: they calibrate the detectors that were fitted on them.
    ///
    /// # Errors
    /// If a detector can't be fitted.
    fn fit(
        &self,
        dataset: &DatasetBase<ArrayBase<D, Ix2>, T>,
    ) -> Result<Self::Object, CombinedDetectorError> {
        let records = dataset.records().view();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(self.rng().clone().r#gen());
        let detectors = Detectors::fit(records, self, &mut rng)?;
        let scores = if records.nrows() < self.n_folds() {
            detectors.scores(records)
        } else {
            cross_scores(records, self, &mut rng)?
        };
        Ok(CombinedDetector { detectors, combiner: FisherCombiner::new(scores.view())? })
    }
}

impl<F, D> PredictInplace<ArrayBase<D, Ix2>, Array1<F>> for CombinedDetector
where
    F: Float,
    D: Data<Elem = F>,
{
    fn predict_inplace<'a>(&'a self, x: &'a ArrayBase<D, Ix2>, y: &mut Array1<F>) {
        predict_into(x.view(), y, |rows, statistics| {
            let scores = self.detectors.scores(rows);
            let n_threads = self.detectors.forest.n_threads();
            for_each_part(statistics, n_threads, 1, 1024, |start, part| {
                for (offset, statistic) in part.iter_mut().enumerate() {
                    *statistic = F::cast(self.combiner.statistic(scores.row(start + offset)));
                }
            });
        });
    }

    fn default_target(&self, x: &ArrayBase<D, Ix2>) -> Array1<F> {
        Array1::zeros(x.nrows())
    }
}

/// What is stored of a detector.
#[derive(Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct StoredDetector {
    detectors: Detectors,
    combiner: FisherCombiner,
}

impl From<CombinedDetector> for StoredDetector {
    fn from(detector: CombinedDetector) -> Self {
        StoredDetector { detectors: detector.detectors, combiner: detector.combiner }
    }
}

impl TryFrom<StoredDetector> for CombinedDetector {
    type Error = CombinedDetectorError;

    fn try_from(stored: StoredDetector) -> Result<Self, Self::Error> {
        let StoredDetector { detectors, combiner } = stored;
        let n_columns = detectors.forest.n_features();
        if detectors.extended.n_features() != n_columns
            || detectors.neighbors.n_features() != n_columns
        {
            return Err(CombinedDetectorError::ColumnMismatch);
        }
        if combiner.n_detectors() != 3 {
            return Err(super::CombinerError::Malformed.into());
        }
        Ok(CombinedDetector { detectors, combiner })
    }
}
