use linfa::Float;
use linfa::ParamGuard;
use linfa::dataset::DatasetBase;
use linfa::traits::{Fit, PredictInplace};
use ndarray::{Array1, ArrayBase, ArrayView2, Data, Ix2};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::errors::ExtendedIsolationForestError;
use super::grow::grow;
use super::hyperparams::{
    ExtendedIsolationForestParams, ExtendedIsolationForestValidParams, MAX_DEFAULT_COLUMNS,
};
use crate::columns::{medians, present, summarise_columns};
use crate::parallel::for_each_part;
use crate::path_length::{average_path_length, score_of};
use crate::rows::{predict_into, training_shape};
use crate::tree::TreeError;

/// One node of an extended isolation tree.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ExtendedNode {
    /// Rows whose projection is at most `threshold` go `left`, the others `right`.
    Split {
        /// Position of the hyperplane in [`ExtendedTree::planes`].
        plane: u32,
        /// Bound on the projection.
        threshold: f64,
        /// Index of the left child.
        left: u32,
        /// Index of the right child.
        right: u32,
        /// Training rows that reached the node.
        samples: u32,
    },
    /// End of a path; its length is depth + c(samples).
    Leaf {
        /// Training rows that reached the leaf.
        samples: u32,
    },
}

/// One extended isolation tree; node 0 is the root and children lie behind their parents.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ExtendedTree {
    pub(super) nodes: Vec<ExtendedNode>,
    /// End of each hyperplane's run in `columns` and `weights`.
    pub(super) ends: Vec<u32>,
    columns: Vec<u32>,
    weights: Vec<f32>,
}

impl ExtendedTree {
    pub(super) fn with_root() -> Self {
        ExtendedTree {
            nodes: vec![ExtendedNode::Leaf { samples: 0 }],
            ends: Vec::new(),
            columns: Vec::new(),
            weights: Vec::new(),
        }
    }

    pub(super) fn push_plane(&mut self, columns: &[u32], weights: &[f32]) -> u32 {
        self.columns.extend(columns);
        self.weights.extend(weights);
        self.ends.push(self.columns.len() as u32);
        self.ends.len() as u32 - 1
    }

    /// The nodes, root first.
    #[must_use]
    pub fn nodes(&self) -> &[ExtendedNode] {
        &self.nodes
    }

    /// The hyperplanes as (columns, coefficients).
    pub fn planes(&self) -> impl Iterator<Item = (&[u32], &[f32])> + '_ {
        (0..self.ends.len() as u32).map(|plane| self.plane(plane))
    }

    fn plane(&self, plane: u32) -> (&[u32], &[f32]) {
        let plane = plane as usize;
        let start = if plane == 0 { 0 } else { self.ends[plane - 1] as usize };
        let end = self.ends[plane] as usize;
        (&self.columns[start..end], &self.weights[start..end])
    }

    /// Path length of a row of finite values.
    fn path_length(&self, row: &[f32]) -> f64 {
        let (mut at, mut depth) = (0, 0);
        loop {
            match self.nodes[at] {
                ExtendedNode::Leaf { samples } => {
                    return f64::from(depth) + average_path_length(samples);
                }
                ExtendedNode::Split { plane, threshold, left, right, .. } => {
                    let (columns, weights) = self.plane(plane);
                    let goes_left = project(columns, weights, row) <= threshold;
                    at = if goes_left { left } else { right } as usize;
                    depth += 1_u32;
                }
            }
        }
    }

    /// Checks what scoring relies on; the counterpart of [`crate::Tree::check`].
    fn check(&self, n_columns: usize) -> Result<(), Option<TreeError>> {
        let runs = self.ends.iter().try_fold(0_u32, |start, &end| (start < end).then_some(end));
        let whole = self.columns.len() == self.weights.len()
            && runs.is_some_and(|end| end as usize == self.columns.len())
            && self.columns.iter().all(|&column| (column as usize) < n_columns)
            && self.weights.iter().all(|weight| weight.is_finite());
        if !whole {
            return Err(None);
        }
        // The structure is checked as an axis-parallel tree whose column is the plane.
        let nodes = self.nodes.iter().map(|node| match *node {
            ExtendedNode::Split { plane, threshold, left, right, samples } => {
                let threshold = if threshold.is_finite() { 0.0 } else { f32::NAN };
                crate::Node::Split { feature: plane, threshold, left, right, samples }
            }
            ExtendedNode::Leaf { samples } => crate::Node::Leaf { samples },
        });
        crate::Tree::new(nodes.collect(), self.ends.len()).map(drop).map_err(Some)
    }
}

/// Projection of a row of finite values on a hyperplane's normal, in f64 so that it can't overflow.
pub(super) fn project(columns: &[u32], weights: &[f32], row: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; 8];
    if columns.len() == row.len() {
        // All columns: no indirection.
        let (row_chunks, weight_chunks) = (row.chunks_exact(8), weights.chunks_exact(8));
        let tail = row_chunks.remainder().iter().zip(weight_chunks.remainder());
        for (lane, (&value, &weight)) in lanes.iter_mut().zip(tail) {
            *lane = f64::from(value) * f64::from(weight);
        }
        for (values, weights) in row_chunks.zip(weight_chunks) {
            for lane in 0..8 {
                lanes[lane] += f64::from(values[lane]) * f64::from(weights[lane]);
            }
        }
    } else {
        for (&column, &weight) in columns.iter().zip(weights) {
            lanes[0] += f64::from(row[column as usize]) * f64::from(weight);
        }
    }
    lanes.iter().sum()
}

/// A fitted extended isolation forest.
///
/// `predict` takes an (n rows, `n_features`) matrix of f32 or f64 and gives n anomaly scores in
/// (0, 1\], higher for rows that are isolated sooner.
///
/// ```
/// use hedgerow_model::ExtendedIsolationForest;
/// use linfa::prelude::*;
/// use ndarray::{Array2, array};
///
/// // A diagonal band: (2, -2) is usual in each column, but not together.
/// let rows = Array2::from_shape_fn((600, 2), |(i, j)| {
///     let t = (i as f64 * 0.37).sin() * 3.0;
///     t + 0.2 * ((i * (j + 5)) as f64).cos()
/// });
/// let forest = ExtendedIsolationForest::params().fit(&Dataset::from(rows))?;
/// let scores = forest.predict(&array![[2.0, 2.0], [2.0, -2.0]]);
/// assert!(scores[1] > scores[0]);
/// # Ok::<(), hedgerow_model::ExtendedIsolationForestError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "StoredForest", into = "StoredForest"))]
pub struct ExtendedIsolationForest {
    sample_size: u32,
    /// What a missing value counts as, for each column.
    fill: Vec<f32>,
    trees: Vec<ExtendedTree>,
    n_threads: usize,
}

impl ExtendedIsolationForest {
    /// Hyper-parameters: 100 trees of 256 rows, hyperplanes over all columns (at most 2,048), seed 42.
    pub fn params() -> ExtendedIsolationForestParams<Xoshiro256PlusPlus> {
        ExtendedIsolationForestParams::new()
    }

    /// Hyper-parameters with randomness from `rng`.
    pub fn params_with_rng<R: Rng + Clone>(rng: R) -> ExtendedIsolationForestParams<R> {
        ExtendedIsolationForestParams::new_fixed_rng(rng)
    }

    /// Columns that the forest was fitted on.
    #[must_use]
    pub fn n_features(&self) -> usize {
        self.fill.len()
    }

    /// Rows of each tree's sample (psi), at most the rows of the training set.
    #[must_use]
    pub fn sample_size(&self) -> u32 {
        self.sample_size
    }

    /// The trees.
    #[must_use]
    pub fn trees(&self) -> &[ExtendedTree] {
        &self.trees
    }

    /// Sets the threads that score; at least one.
    #[must_use]
    pub fn with_threads(mut self, n_threads: usize) -> Self {
        self.n_threads = n_threads.max(1);
        self
    }

    /// Mean path length of each row over the trees.
    ///
    /// # Panics
    /// If `records` has other than [`Self::n_features`] columns.
    #[must_use]
    pub fn mean_path_lengths<F: Float>(&self, records: ArrayView2<'_, F>) -> Array1<f64> {
        let mut lengths = vec![0.0; records.nrows()];
        self.map_path_lengths(records, &mut lengths, |length| length);
        Array1::from(lengths)
    }

    /// Fills `out` with what `value` makes of each row's mean path length, in parallel.
    fn map_path_lengths<F: Float, T: Send>(
        &self,
        records: ArrayView2<'_, F>,
        out: &mut [T],
        value: impl Fn(f64) -> T + Sync,
    ) {
        assert_eq!(
            records.ncols(),
            self.n_features(),
            "the forest was fitted on another number of columns"
        );
        for_each_part(out, self.n_threads, 1, 64, |start, part| {
            let mut row = vec![0.0_f32; self.n_features()];
            for (offset, out) in part.iter_mut().enumerate() {
                fill_row(records, start + offset, &self.fill, &mut row);
                let sum: f64 = self.trees.iter().map(|tree| tree.path_length(&row)).sum();
                *out = value(sum / self.trees.len() as f64);
            }
        });
    }
}

/// Copies a row as finite f32, with `fill` for missing values.
pub(crate) fn fill_row<F: Float>(
    records: ArrayView2<'_, F>,
    index: usize,
    fill: &[f32],
    row: &mut [f32],
) {
    for ((slot, &value), &fill) in row.iter_mut().zip(records.row(index)).zip(fill) {
        *slot = present(value, fill);
    }
}

impl<F, D, R, T> Fit<ArrayBase<D, Ix2>, T, ExtendedIsolationForestError>
    for ExtendedIsolationForestValidParams<R>
where
    F: Float,
    D: Data<Elem = F>,
    R: Rng + Clone,
{
    type Object = ExtendedIsolationForest;

    /// Fits a forest on the records; targets are ignored.
    ///
    /// # Errors
    /// If there are no rows or no columns, or the extension level is not below the columns.
    fn fit(
        &self,
        dataset: &DatasetBase<ArrayBase<D, Ix2>, T>,
    ) -> Result<Self::Object, ExtendedIsolationForestError> {
        let records = dataset.records().view();
        type Error = ExtendedIsolationForestError;
        let (n_rows, columns) = training_shape(&records, Error::NoRows, Error::NoColumns)?;
        let level = self.extension_level().unwrap_or(columns.min(MAX_DEFAULT_COLUMNS) - 1);
        if level >= columns {
            return Err(ExtendedIsolationForestError::ExtensionLevel { level, columns });
        }
        let mut rng = self.rng().clone();
        let fill = medians(&summarise_columns(records, &mut rng));
        let sample_size = self.sample_size().min(n_rows);
        let mut seeded: Vec<(u64, ExtendedTree)> =
            (0..self.n_trees()).map(|_| (rng.r#gen(), ExtendedTree::with_root())).collect();
        for_each_part(&mut seeded, self.n_threads(), 1, 4, |_, part| {
            let mut sample = vec![0.0_f32; sample_size * columns];
            for (seed, tree) in part {
                let mut rng = Xoshiro256PlusPlus::seed_from_u64(*seed);
                let drawn = rand::seq::index::sample(&mut rng, n_rows, sample_size);
                for (index, row) in drawn.iter().zip(sample.chunks_exact_mut(columns)) {
                    fill_row(records, index, &fill, row);
                }
                *tree = grow(&sample, columns, level + 1, rng.r#gen());
            }
        });
        Ok(ExtendedIsolationForest {
            sample_size: sample_size as u32,
            fill,
            trees: seeded.into_iter().map(|(_, tree)| tree).collect(),
            n_threads: self.n_threads(),
        })
    }
}

impl<F, D> PredictInplace<ArrayBase<D, Ix2>, Array1<F>> for ExtendedIsolationForest
where
    F: Float,
    D: Data<Elem = F>,
{
    fn predict_inplace<'a>(&'a self, x: &'a ArrayBase<D, Ix2>, y: &mut Array1<F>) {
        predict_into(x.view(), y, |rows, scores| {
            let score = |length| F::cast(score_of(length, self.sample_size));
            self.map_path_lengths(rows, scores, score);
        });
    }

    fn default_target(&self, x: &ArrayBase<D, Ix2>) -> Array1<F> {
        Array1::zeros(x.nrows())
    }
}

/// What is stored of a forest; every tree is checked on the way in.
#[derive(Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct StoredForest {
    sample_size: u32,
    fill: Vec<f32>,
    trees: Vec<ExtendedTree>,
}

impl From<ExtendedIsolationForest> for StoredForest {
    fn from(forest: ExtendedIsolationForest) -> Self {
        let ExtendedIsolationForest { sample_size, fill, trees, .. } = forest;
        StoredForest { sample_size, fill, trees }
    }
}

impl TryFrom<StoredForest> for ExtendedIsolationForest {
    type Error = ExtendedIsolationForestError;

    fn try_from(stored: StoredForest) -> Result<Self, Self::Error> {
        if stored.fill.is_empty() {
            return Err(ExtendedIsolationForestError::NoColumns);
        }
        ExtendedIsolationForestParams::new()
            .n_trees(stored.trees.len())
            .sample_size(stored.sample_size as usize)
            .check()?;
        for (index, tree) in stored.trees.iter().enumerate() {
            tree.check(stored.fill.len()).map_err(|error| match error {
                Some(source) => ExtendedIsolationForestError::Tree { index, source },
                None => ExtendedIsolationForestError::Hyperplanes(index),
            })?;
        }
        let StoredForest { sample_size, fill, trees } = stored;
        Ok(ExtendedIsolationForest { sample_size, fill, trees, n_threads: 1 })
    }
}
