use linfa::Float;
use linfa::ParamGuard;
use linfa::dataset::DatasetBase;
use linfa::traits::{Fit, PredictInplace};
use ndarray::{Array1, ArrayBase, ArrayView2, Data, Ix2};
use rand::Rng;

use super::errors::IsolationForestError;
use super::grow::Grower;
use super::hyperparams::{IsolationForestParams, IsolationForestValidParams};
use crate::engine::{BLOCK_ROWS, Engine, FixedLength, Instructions, Scratch, mean_length};
use crate::parallel::for_each_part;
use crate::path_length::score_of;
use crate::rows::{copy_rows, predict_into, training_shape};
use crate::tree::Tree;

/// Most trees that are counted as grown: a million updates of 100 trees.
#[cfg(feature = "serde")]
const MAX_TREES_GROWN: u64 = 100_000_000;

/// Rows with missing values that are scored together, whichever blocks they come from.
const WAITING_ROWS: usize = 256;

/// Fewest rows that are worth a thread of their own.
const ROWS_PER_THREAD: usize = 1024;

/// A fitted isolation forest.
///
/// `predict` takes an (n rows, `n_features`) matrix of f32 or f64 and gives n anomaly scores in
/// (0, 1\], higher for rows that are isolated sooner. Missing values are NaN (see the
/// [module](super) for the rule).
///
/// ```
/// use hedgerow_model::IsolationForest;
/// use linfa::prelude::*;
/// use ndarray::{Array2, array};
///
/// let rows = Array2::from_shape_fn((500, 2), |(i, j)| ((i * (j + 3)) as f64 * 0.7).sin());
/// let forest = IsolationForest::params().n_trees(50).fit(&Dataset::from(rows))?;
/// let scores = forest.predict(&array![[0.0, 0.0], [9.0, -9.0]]);
/// assert!(scores[1] > scores[0]);
/// # Ok::<(), hedgerow_model::IsolationForestError>(())
/// ```
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "StoredForest", into = "StoredForest"))]
pub struct IsolationForest {
    n_features: usize,
    sample_size: u32,
    n_threads: usize,
    trees: Vec<Tree>,
    /// Trees grown so far, replaced ones included: how far the seeds are used up.
    trees_grown: u64,
    engine: Engine,
}

impl PartialEq for IsolationForest {
    /// Forests are equal when they score every row alike; threads don't matter.
    fn eq(&self, other: &Self) -> bool {
        self.n_features == other.n_features
            && self.sample_size == other.sample_size
            && self.trees == other.trees
    }
}

impl IsolationForest {
    /// Hyper-parameters: 100 trees of 256 rows, seed 42.
    pub fn params() -> IsolationForestParams<rand_xoshiro::Xoshiro256PlusPlus> {
        IsolationForestParams::new()
    }

    /// Hyper-parameters with randomness from `rng`.
    pub fn params_with_rng<R: Rng + Clone>(rng: R) -> IsolationForestParams<R> {
        IsolationForestParams::new_fixed_rng(rng)
    }

    /// A forest of `trees` grown elsewhere, whose samples had `sample_size` rows (psi, which scales
    /// the score).
    ///
    /// # Errors
    /// If there are no columns or no trees, or a tree is malformed (see [`Tree::check`]).
    pub fn from_trees(
        sample_size: u32,
        n_features: usize,
        trees: Vec<Tree>,
    ) -> Result<Self, IsolationForestError> {
        if n_features == 0 {
            return Err(IsolationForestError::NoColumns);
        }
        let n_trees = trees.len();
        IsolationForestParams::new().n_trees(n_trees).sample_size(sample_size as usize).check()?;
        for (index, tree) in trees.iter().enumerate() {
            (tree.check(n_features))
                .map_err(|source| IsolationForestError::Tree { index, source })?;
        }
        Self::assemble(sample_size, n_features, 1, trees)
    }

    /// Packs checked trees into an engine.
    fn assemble(
        sample_size: u32,
        n_features: usize,
        n_threads: usize,
        trees: Vec<Tree>,
    ) -> Result<Self, IsolationForestError> {
        let engine = Engine::new(&trees, n_features)
            .map_err(|(index, source)| IsolationForestError::Tree { index, source })?;
        let trees_grown = trees.len() as u64;
        Ok(IsolationForest { n_features, sample_size, n_threads, trees, trees_grown, engine })
    }

    /// Columns that the forest was fitted on.
    #[must_use]
    pub fn n_features(&self) -> usize {
        self.n_features
    }

    /// Rows of each tree's sample (psi), at most the rows of the training set.
    #[must_use]
    pub fn sample_size(&self) -> u32 {
        self.sample_size
    }

    /// The trees, the oldest first.
    #[must_use]
    pub fn trees(&self) -> &[Tree] {
        &self.trees
    }

    /// Trees grown so far, those that updates replaced included.
    pub(super) fn trees_grown(&self) -> u64 {
        self.trees_grown
    }

    /// Drops the trees at the positions in `leaving` and appends others.
    pub(super) fn replace_trees(
        self,
        leaving: &[usize],
        grown: Vec<Tree>,
    ) -> Result<Self, IsolationForestError> {
        let IsolationForest { n_features, sample_size, n_threads, trees, trees_grown, engine } =
            self;
        let trees_grown = trees_grown + grown.len() as u64;
        let mut index = 0..trees.len();
        let mut trees = trees;
        trees.retain(|_| !index.next().is_some_and(|index| leaving.contains(&index)));
        trees.extend(grown);
        let mut forest = Self::assemble(sample_size, n_features, n_threads, trees)?;
        forest.engine.set_instructions(engine.instructions());
        Ok(IsolationForest { trees_grown, ..forest })
    }

    /// Threads that score.
    #[must_use]
    pub fn n_threads(&self) -> usize {
        self.n_threads
    }

    /// Sets the threads that score; at least one.
    #[must_use]
    pub fn with_threads(mut self, n_threads: usize) -> Self {
        self.n_threads = n_threads.max(1);
        self
    }

    /// Sets the instructions that score (default: the fastest that the processor has).
    #[must_use]
    pub fn with_instructions(mut self, instructions: Instructions) -> Self {
        self.engine.set_instructions(instructions);
        self
    }

    /// Mean path length E\[h(x)\] of each row over the trees.
    ///
    /// # Panics
    /// If `records` has other than [`Self::n_features`] columns.
    #[must_use]
    pub fn mean_path_lengths<F: Float>(&self, records: ArrayView2<'_, F>) -> Array1<f64> {
        let mut lengths = vec![0.0; records.nrows()];
        self.map_path_lengths(records, &mut lengths, |length| length);
        Array1::from(lengths)
    }

    /// The anomaly score of a row with mean path length `mean_path_length`.
    #[must_use]
    pub fn score_of_path_length(&self, mean_path_length: f64) -> f64 {
        score_of(mean_path_length, self.sample_size)
    }

    /// Bytes that the trees and the engine hold on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let nodes = (self.trees.iter())
            .map(|tree| size_of::<Tree>() + size_of_val(tree.nodes()))
            .sum::<usize>();
        nodes + self.engine.heap_bytes()
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
            self.n_features,
            "the forest was fitted on another number of columns"
        );
        let n_trees = self.trees.len();
        for_each_part(out, self.n_threads, BLOCK_ROWS, ROWS_PER_THREAD, |start, part| {
            let capacity = BLOCK_ROWS.min(part.len());
            let width = self.n_features;
            let mut block = vec![0.0_f32; capacity * width];
            let mut slots = [0; BLOCK_ROWS];
            let mut sums = Vec::with_capacity(capacity);
            let mut scratch = Scratch::default();
            let mut waiting = Waiting::default();
            for first in (0..part.len()).step_by(BLOCK_ROWS) {
                let n = BLOCK_ROWS.min(part.len() - first);
                let (block, slots) = (&mut block[..n * width], &mut slots[..n]);
                let n_complete = copy_rows(&records, start + first, block, slots);
                let (complete, missing) = block.split_at(n_complete * width);
                sums.clear();
                sums.resize(n_complete, 0 as FixedLength);
                self.engine.add_complete(&self.trees, complete, &mut sums, &mut scratch);
                for (index, &slot) in slots.iter().enumerate() {
                    if let Some(row) = slot.checked_sub(n_complete) {
                        waiting.rows.extend(&missing[row * width..(row + 1) * width]);
                        waiting.places.push(first + index);
                    } else {
                        part[first + index] = value(mean_length(sums[slot], n_trees));
                    }
                }
                let all_read = first + n == part.len();
                if waiting.places.len() >= WAITING_ROWS || (all_read && !waiting.places.is_empty())
                {
                    sums.clear();
                    sums.resize(waiting.places.len(), 0);
                    self.engine.add_missing(&self.trees, &waiting.rows, &mut sums, &mut scratch);
                    for (&place, &sum) in waiting.places.iter().zip(&sums) {
                        part[place] = value(mean_length(sum, n_trees));
                    }
                    waiting.rows.clear();
                    waiting.places.clear();
                }
            }
        });
    }
}

/// Rows with missing values that wait for enough others to be scored together.
#[derive(Debug, Default)]
struct Waiting {
    rows: Vec<f32>,
    /// Where each row's result goes.
    places: Vec<usize>,
}

impl<F, D, R, T> Fit<ArrayBase<D, Ix2>, T, IsolationForestError> for IsolationForestValidParams<R>
where
    F: Float,
    D: Data<Elem = F>,
    R: Rng + Clone,
{
    type Object = IsolationForest;

    /// Fits a forest on the records; targets are ignored.
    ///
    /// # Errors
    /// If there are no rows or no columns, or the forest is too large to number its rows or pack
    /// its nodes in 32 bits.
    fn fit(
        &self,
        dataset: &DatasetBase<ArrayBase<D, Ix2>, T>,
    ) -> Result<Self::Object, IsolationForestError> {
        let records = dataset.records().view();
        let mut rng = self.rng().clone();
        let sample_size = checked_sample_size(&records, self.sample_size())?;
        let seeds: Vec<u64> = (0..self.n_trees()).map(|_| rng.r#gen()).collect();
        let trees = grow_trees(records, sample_size, &seeds, self.n_threads());
        let n_features = records.ncols();
        IsolationForest::assemble(sample_size as u32, n_features, self.n_threads(), trees)
    }
}

/// Psi for these records: as asked, but no more than there are rows.
pub(super) fn checked_sample_size<F>(
    records: &ArrayView2<'_, F>,
    asked: usize,
) -> Result<usize, IsolationForestError> {
    let (no_rows, no_columns) = (IsolationForestError::NoRows, IsolationForestError::NoColumns);
    let (n_rows, _) = training_shape(records, no_rows, no_columns)?;
    if u32::try_from(n_rows).is_err() {
        return Err(IsolationForestError::TooManyRows(n_rows));
    }
    Ok(asked.min(n_rows))
}

/// Grows one tree for each seed.
pub(super) fn grow_trees<F: Float>(
    records: ArrayView2<'_, F>,
    sample_size: usize,
    seeds: &[u64],
    n_threads: usize,
) -> Vec<Tree> {
    let mut trees: Vec<Option<Tree>> = vec![None; seeds.len()];
    for_each_part(&mut trees, n_threads, 1, 8, |start, part| {
        let mut grower = Grower::new(records);
        for (offset, tree) in part.iter_mut().enumerate() {
            *tree = Some(grower.grow(sample_size, seeds[start + offset]));
        }
    });
    trees.into_iter().flatten().collect()
}

impl<F, D> PredictInplace<ArrayBase<D, Ix2>, Array1<F>> for IsolationForest
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

/// What is stored of a forest; the engine is rebuilt and every tree is checked on the way in.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
struct StoredForest {
    n_features: usize,
    sample_size: u32,
    /// At least the trees there are; forests from elsewhere leave it out.
    #[serde(default)]
    trees_grown: u64,
    trees: Vec<Tree>,
}

#[cfg(feature = "serde")]
impl From<IsolationForest> for StoredForest {
    fn from(forest: IsolationForest) -> Self {
        StoredForest {
            n_features: forest.n_features,
            sample_size: forest.sample_size,
            trees_grown: forest.trees_grown,
            trees: forest.trees,
        }
    }
}

#[cfg(feature = "serde")]
impl TryFrom<StoredForest> for IsolationForest {
    type Error = IsolationForestError;

    fn try_from(stored: StoredForest) -> Result<Self, Self::Error> {
        let StoredForest { n_features, sample_size, trees_grown, trees } = stored;
        let mut forest = IsolationForest::from_trees(sample_size, n_features, trees)?;
        // A hostile count would have updates skip seeds for ever.
        forest.trees_grown = trees_grown.clamp(forest.trees_grown, MAX_TREES_GROWN);
        Ok(forest)
    }
}
