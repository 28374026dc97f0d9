use linfa::Float;
use linfa::ParamGuard;
use linfa::dataset::DatasetBase;
use linfa::traits::{Fit, PredictInplace};
use ndarray::{Array1, ArrayBase, ArrayView1, ArrayView2, Data, Ix2};
use rand::Rng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::errors::NearestNeighborEnsembleError;
use super::hyperparams::{NearestNeighborEnsembleParams, NearestNeighborEnsembleValidParams};
use super::kernel::{LARGEST, PANEL, flat_columns, nearest, nearest_of_each};
use crate::columns::{ColumnSummary, medians, present, summarise_columns};
use crate::parallel::for_each_part;
use crate::rows::{predict_into, training_shape};

/// Rows that are held against the references at a time: these are more than the nearest cache takes.
const ROWS_ABREAST: usize = 16;

/// A fitted nearest-neighbour ensemble.
///
/// `predict` takes an (n rows, `n_features`) matrix of f32 or f64 and gives n mean distances in
/// \[0, ∞), higher for rows that are far from the training rows.
///
/// ```
/// use hedgerow_model::NearestNeighborEnsemble;
/// use linfa::prelude::*;
/// use ndarray::{Array2, array};
///
/// let rows = Array2::from_shape_fn((500, 2), |(i, j)| ((i * (j + 3)) as f64 * 0.7).sin());
/// let ensemble = NearestNeighborEnsemble::params().fit(&Dataset::from(rows))?;
/// let scores = ensemble.predict(&array![[0.0, 0.0], [9.0, -9.0]]);
/// assert!(scores[1] > scores[0]);
/// # Ok::<(), hedgerow_model::NearestNeighborEnsembleError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "StoredEnsemble", into = "StoredEnsemble"))]
pub struct NearestNeighborEnsemble {
    /// What a missing value counts as, for each column.
    fill: Vec<f32>,
    /// Reciprocal standard deviation of each column, 0 for a constant one.
    scale: Vec<f32>,
    n_draws: usize,
    sample_size: usize,
    /// Scaled reference rows in panels, draw after draw (see the kernel).
    panels: Vec<f32>,
    /// Columns in which they don't differ (see the kernel).
    flat: Vec<u64>,
    n_threads: usize,
}

impl NearestNeighborEnsemble {
    /// Hyper-parameters: 50 draws of 16 rows, seed 42.
    pub fn params() -> NearestNeighborEnsembleParams<Xoshiro256PlusPlus> {
        NearestNeighborEnsembleParams::new()
    }

    /// Hyper-parameters with randomness from `rng`.
    pub fn params_with_rng<R: Rng + Clone>(rng: R) -> NearestNeighborEnsembleParams<R> {
        NearestNeighborEnsembleParams::new_fixed_rng(rng)
    }

    /// Columns that the ensemble was fitted on.
    #[must_use]
    pub fn n_features(&self) -> usize {
        self.fill.len()
    }

    /// Number of draws.
    #[must_use]
    pub fn n_draws(&self) -> usize {
        self.n_draws
    }

    /// Rows of a draw (psi), at most the rows of the training set.
    #[must_use]
    pub fn sample_size(&self) -> usize {
        self.sample_size
    }

    /// Sets the threads that score; at least one.
    #[must_use]
    pub fn with_threads(mut self, n_threads: usize) -> Self {
        self.n_threads = n_threads.max(1);
        self
    }

    /// Mean distance of each row to the nearest row of a draw.
    ///
    /// # Panics
    /// If `records` has other than [`Self::n_features`] columns.
    #[must_use]
    pub fn mean_distances<F: Float>(&self, records: ArrayView2<'_, F>) -> Array1<f64> {
        let mut distances = vec![0.0; records.nrows()];
        self.map_distances(records, &mut distances, |distance| distance);
        Array1::from(distances)
    }

    /// Fills `out` with what `value` makes of each row's mean distance, in parallel.
    fn map_distances<F: Float, T: Send>(
        &self,
        records: ArrayView2<'_, F>,
        out: &mut [T],
        value: impl Fn(f64) -> T + Sync,
    ) {
        assert_eq!(
            records.ncols(),
            self.n_features(),
            "the ensemble was fitted on another number of columns"
        );
        for_each_part(out, self.n_threads, 1, 256, |start, part| {
            let (width, n_draws) = (self.n_features(), self.n_draws);
            let mut rows = vec![0.0_f32; ROWS_ABREAST * width];
            let mut squares = vec![0.0_f32; ROWS_ABREAST * n_draws];
            for (block, out) in part.chunks_mut(ROWS_ABREAST).enumerate() {
                let start = start + block * ROWS_ABREAST;
                let rows = &mut rows[..out.len() * width];
                for (offset, row) in rows.chunks_exact_mut(width).enumerate() {
                    self.scale_row(records.row(start + offset), row);
                }
                let squares = &mut squares[..out.len() * n_draws];
                let panels = (&*self.panels, &*self.flat);
                nearest_of_each(rows, width, panels, self.sample_size, squares);
                for (out, squares) in out.iter_mut().zip(squares.chunks_exact(n_draws)) {
                    let sum: f64 = squares.iter().map(|square| f64::from(*square).sqrt()).sum();
                    *out = value(sum / n_draws as f64);
                }
            }
        });
    }

    /// What each column adds to a row's score: the mean over the draws of gap² / distance, where
    /// gap is the column's scaled difference to the draw's nearest row. The shares sum to the
    /// score (to rounding); columns in which the row equals its neighbours have none.
    ///
    /// # Panics
    /// If `row` has other than [`Self::n_features`] values.
    #[must_use]
    pub fn distance_by_column<F: Float>(&self, row: ArrayView1<'_, F>) -> Array1<f64> {
        let n_columns = self.n_features();
        assert_eq!(row.len(), n_columns, "the ensemble was fitted on another number of columns");
        let mut scaled = vec![0.0_f32; n_columns];
        self.scale_row(row, &mut scaled);
        let mut shares = Array1::zeros(n_columns);
        for panels in self.draws() {
            let (reference, square) = nearest(&scaled, panels, self.sample_size);
            if square == 0.0 {
                continue;
            }
            let distance = f64::from(square).sqrt();
            let start = reference / PANEL * n_columns * PANEL + reference % PANEL;
            for (column, share) in shares.iter_mut().enumerate() {
                let gap = f64::from(scaled[column]) - f64::from(panels[start + column * PANEL]);
                *share += gap * gap / distance / self.n_draws as f64;
            }
        }
        shares
    }

    /// Panels of each draw.
    fn draws(&self) -> impl Iterator<Item = &[f32]> {
        self.panels.chunks_exact(panel_len(self.sample_size, self.n_features()))
    }

    fn scale_row<F: Float>(&self, values: ArrayView1<'_, F>, row: &mut [f32]) {
        let columns = self.fill.iter().zip(&self.scale);
        for ((slot, &value), (&fill, &scale)) in row.iter_mut().zip(values).zip(columns) {
            let value = present(value, fill);
            // Centred before it is scaled, so that a column far from zero keeps its digits; in f64,
            // so that the difference can't overflow.
            let scaled = (f64::from(value) - f64::from(fill)) * f64::from(scale);
            *slot = (scaled as f32).clamp(-LARGEST, LARGEST);
        }
    }

    /// Draws the reference rows.
    fn draw<F: Float>(&mut self, records: ArrayView2<'_, F>, rng: &mut impl Rng) {
        let n_columns = self.n_features();
        let len = panel_len(self.sample_size, n_columns);
        let mut panels = vec![0.0_f32; len * self.n_draws];
        let mut row = vec![0.0_f32; n_columns];
        for draw in panels.chunks_exact_mut(len) {
            let drawn = rand::seq::index::sample(rng, records.nrows(), self.sample_size);
            for (reference, index) in drawn.iter().enumerate() {
                self.scale_row(records.row(index), &mut row);
                let start = reference / PANEL * n_columns * PANEL + reference % PANEL;
                for (column, &value) in row.iter().enumerate() {
                    draw[start + column * PANEL] = value;
                }
            }
        }
        self.flat = flat_columns(&panels, n_columns);
        self.panels = panels;
    }
}

/// Length of a draw's panels.
fn panel_len(sample_size: usize, n_columns: usize) -> usize {
    sample_size.div_ceil(PANEL) * PANEL * n_columns
}

/// Reciprocal of the column's deviation, 0 if it is constant.
fn reciprocal(column: &ColumnSummary, least: f32) -> f32 {
    let deviation = column.deviation.max(least);
    if deviation > 0.0 { (1.0 / deviation).min(f32::MAX) } else { 0.0 }
}

impl<F, D, R, T> Fit<ArrayBase<D, Ix2>, T, NearestNeighborEnsembleError>
    for NearestNeighborEnsembleValidParams<R>
where
    F: Float,
    D: Data<Elem = F>,
    R: Rng + Clone,
{
    type Object = NearestNeighborEnsemble;

    /// Draws reference rows from the records; targets are ignored.
    ///
    /// # Errors
    /// If there are no rows or no columns.
    fn fit(
        &self,
        dataset: &DatasetBase<ArrayBase<D, Ix2>, T>,
    ) -> Result<Self::Object, NearestNeighborEnsembleError> {
        let records = dataset.records().view();
        type Error = NearestNeighborEnsembleError;
        let (n_rows, _) = training_shape(&records, Error::NoRows, Error::NoColumns)?;
        let mut rng = self.rng().clone();
        let summaries = summarise_columns(records, &mut rng);
        let least = self.least_deviation();
        let mut ensemble = NearestNeighborEnsemble {
            fill: medians(&summaries),
            scale: summaries.iter().map(|column| reciprocal(column, least)).collect(),
            n_draws: self.n_draws(),
            sample_size: self.sample_size().min(n_rows),
            panels: Vec::new(),
            flat: Vec::new(),
            n_threads: self.n_threads(),
        };
        ensemble.draw(records, &mut rng);
        Ok(ensemble)
    }
}

impl<F, D> PredictInplace<ArrayBase<D, Ix2>, Array1<F>> for NearestNeighborEnsemble
where
    F: Float,
    D: Data<Elem = F>,
{
    fn predict_inplace<'a>(&'a self, x: &'a ArrayBase<D, Ix2>, y: &mut Array1<F>) {
        predict_into(x.view(), y, |rows, scores| self.map_distances(rows, scores, F::cast));
    }

    fn default_target(&self, x: &ArrayBase<D, Ix2>) -> Array1<F> {
        Array1::zeros(x.nrows())
    }
}

/// What is stored of an ensemble.
#[derive(Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct StoredEnsemble {
    fill: Vec<f32>,
    scale: Vec<f32>,
    n_draws: usize,
    sample_size: usize,
    panels: Vec<f32>,
}

impl From<NearestNeighborEnsemble> for StoredEnsemble {
    fn from(ensemble: NearestNeighborEnsemble) -> Self {
        let NearestNeighborEnsemble { fill, scale, n_draws, sample_size, panels, .. } = ensemble;
        StoredEnsemble { fill, scale, n_draws, sample_size, panels }
    }
}

impl TryFrom<StoredEnsemble> for NearestNeighborEnsemble {
    type Error = NearestNeighborEnsembleError;

    fn try_from(stored: StoredEnsemble) -> Result<Self, Self::Error> {
        let StoredEnsemble { fill, scale, n_draws, sample_size, panels } = stored;
        NearestNeighborEnsembleParams::new().n_draws(n_draws).sample_size(sample_size).check()?;
        let n_columns = fill.len();
        let len = (n_columns.checked_mul(sample_size.div_ceil(PANEL) * PANEL))
            .and_then(|len| len.checked_mul(n_draws));
        let error = NearestNeighborEnsembleError::Malformed;
        if n_columns == 0 || scale.len() != n_columns || len != Some(panels.len()) {
            return Err(error("its sizes disagree"));
        }
        let in_range = |&value: &f32| value.abs() <= LARGEST;
        if !panels.iter().all(in_range) {
            return Err(error("a reference is out of range"));
        }
        if !fill.iter().chain(&scale).all(|value| value.is_finite()) {
            return Err(error("a scale is not finite"));
        }
        let flat = flat_columns(&panels, n_columns);
        let n_threads = 1;
        Ok(NearestNeighborEnsemble { fill, scale, n_draws, sample_size, panels, flat, n_threads })
    }
}
