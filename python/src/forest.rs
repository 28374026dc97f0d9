//! The isolation forest, which the estimator in `hedgerow/forest.py` holds.

use hedgerow_model::{IsolationForest, IsolationForestError};
use linfa::{DatasetBase, Float, prelude::*};
use ndarray::{Array2, ArrayView2, Axis};
use pyo3::{exceptions::PyValueError, prelude::*, types::PyBytes};
use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};

use crate::rows::{Rows, fill, view};

/// A fitted forest.
#[pyclass(frozen, module = "hedgerow._hedgerow")]
pub struct Forest(IsolationForest);

fn invalid(why: impl std::error::Error) -> PyErr {
    PyValueError::new_err(hedgerow_detect::chain(&why))
}

/// How a forest is fitted.
#[derive(Clone, Copy)]
struct How {
    trees: usize,
    sample: usize,
    threads: usize,
    seed: u64,
}

fn fit<F: Float>(
    rows: ArrayView2<'_, F>,
    how: How,
) -> Result<IsolationForest, IsolationForestError> {
    let rng = Xoshiro256PlusPlus::seed_from_u64(how.seed);
    IsolationForest::params_with_rng(rng)
        .n_trees(how.trees)
        .sample_size(how.sample)
        .n_threads(how.threads)
        .fit(&DatasetBase::from(rows))
}

impl Forest {
    fn scores_of<F: Float>(&self, rows: ArrayView2<'_, F>) -> Vec<f64> {
        let lengths = self.0.mean_path_lengths(rows);
        lengths.iter().map(|length| self.0.score_of_path_length(*length)).collect()
    }

    /// Shapley values of rows, and what they start from.
    fn shap_of<F: Float>(&self, rows: ArrayView2<'_, F>) -> (Array2<f64>, f64) {
        let mut values = Array2::zeros(rows.dim());
        let mut baseline = 0.0;
        for (row, mut out) in rows.axis_iter(Axis(0)).zip(values.axis_iter_mut(Axis(0))) {
            let shap = self.0.shap_values(row);
            baseline = shap.baseline;
            out.assign(&shap.values);
        }
        (values, baseline)
    }

    fn check(&self, rows: &Rows) -> PyResult<()> {
        let columns = match rows {
            Rows::F32(buffer) => buffer.shape()[1],
            Rows::F64(buffer) => buffer.shape()[1],
        };
        if columns == self.0.n_features() {
            return Ok(());
        }
        let wanted = self.0.n_features();
        Err(PyValueError::new_err(format!("rows have {columns} columns, the forest {wanted}")))
    }
}

#[pymethods]
impl Forest {
    /// Fits a forest on rows, read where they lie.
    #[staticmethod]
    fn fit(
        py: Python<'_>,
        rows: &Bound<'_, PyAny>,
        trees: usize,
        sample: usize,
        threads: usize,
        seed: u64,
    ) -> PyResult<Self> {
        let (rows, how) = (Rows::of(rows)?, How { trees, sample, threads, seed });
        let forest = match &rows {
            Rows::F32(buffer) => py.detach(|| fit(view(buffer), how)),
            Rows::F64(buffer) => py.detach(|| fit(view(buffer), how)),
        };
        forest.map(Self).map_err(invalid)
    }

    /// Scores rows (Liu 2008: above .5 is isolated sooner than most) into a float64 array.
    fn score(
        &self,
        py: Python<'_>,
        rows: &Bound<'_, PyAny>,
        out: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let rows = Rows::of(rows)?;
        self.check(&rows)?;
        let scores = match &rows {
            Rows::F32(buffer) => py.detach(|| self.scores_of(view(buffer))),
            Rows::F64(buffer) => py.detach(|| self.scores_of(view(buffer))),
        };
        fill(out, &scores)
    }

    /// Exact Shapley values of the mean path length into a float64 array like the rows; gives that of
    /// no known column, to which they add.
    fn shap(
        &self,
        py: Python<'_>,
        rows: &Bound<'_, PyAny>,
        out: &Bound<'_, PyAny>,
    ) -> PyResult<f64> {
        let rows = Rows::of(rows)?;
        self.check(&rows)?;
        let (values, baseline) = match &rows {
            Rows::F32(buffer) => py.detach(|| self.shap_of(view(buffer))),
            Rows::F64(buffer) => py.detach(|| self.shap_of(view(buffer))),
        };
        fill(out, values.as_slice().unwrap_or_default())?;
        Ok(baseline)
    }

    #[getter]
    fn sample_size(&self) -> u32 {
        self.0.sample_size()
    }

    /// With another number of threads; forest and scores don't depend on it.
    fn with_threads(&self, threads: usize) -> Self {
        Self(self.0.clone().with_threads(threads))
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        postcard::to_stdvec(&self.0).map(|bytes| PyBytes::new(py, &bytes)).map_err(invalid)
    }

    /// Every tree is checked on the way in.
    #[staticmethod]
    fn from_bytes(bytes: &[u8], threads: usize) -> PyResult<Self> {
        let forest: IsolationForest = postcard::from_bytes(bytes).map_err(invalid)?;
        Ok(Self(forest.with_threads(threads)))
    }
}
