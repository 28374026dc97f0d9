use linfa::ParamGuard;
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::errors::ExtendedIsolationForestParamsError;

/// Most columns that a hyperplane takes unless more are asked for: a tree keeps one coefficient for
/// each column and split, which in a very wide matrix is more memory than it is worth.
pub(super) const MAX_DEFAULT_COLUMNS: usize = 2048;

/// Checked hyper-parameters of an
/// [`ExtendedIsolationForest`](super::ExtendedIsolationForest).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ExtendedIsolationForestValidParams<R> {
    n_trees: usize,
    sample_size: usize,
    extension_level: Option<usize>,
    n_threads: usize,
    rng: R,
}

impl<R> ExtendedIsolationForestValidParams<R> {
    /// Number of trees.
    pub fn n_trees(&self) -> usize {
        self.n_trees
    }

    /// Rows drawn for each tree (psi); a smaller training set is used whole.
    pub fn sample_size(&self) -> usize {
        self.sample_size
    }

    /// Columns of a hyperplane, less one; `None` is all columns, at most 2,048.
    pub fn extension_level(&self) -> Option<usize> {
        self.extension_level
    }

    /// Threads that fit and score.
    pub fn n_threads(&self) -> usize {
        self.n_threads
    }

    /// Source of the forest's randomness.
    pub fn rng(&self) -> &R {
        &self.rng
    }
}

/// Hyper-parameters of an [`ExtendedIsolationForest`](super::ExtendedIsolationForest), to be
/// checked by [`ParamGuard`].
#[derive(Debug, Clone, PartialEq)]
pub struct ExtendedIsolationForestParams<R>(ExtendedIsolationForestValidParams<R>);

impl ExtendedIsolationForestParams<Xoshiro256PlusPlus> {
    /// 100 trees of 256 rows, hyperplanes over all columns, one thread, seed 42.
    pub fn new() -> Self {
        Self::new_fixed_rng(Xoshiro256PlusPlus::seed_from_u64(42))
    }
}

impl Default for ExtendedIsolationForestParams<Xoshiro256PlusPlus> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> ExtendedIsolationForestParams<R> {
    /// 100 trees of 256 rows, hyperplanes over all columns, one thread, randomness from `rng`.
    pub fn new_fixed_rng(rng: R) -> Self {
        Self(ExtendedIsolationForestValidParams {
            n_trees: 100,
            sample_size: 256,
            extension_level: None,
            n_threads: 1,
            rng,
        })
    }

    /// Sets the number of trees (default 100).
    pub fn n_trees(mut self, n_trees: usize) -> Self {
        self.0.n_trees = n_trees;
        self
    }

    /// Sets the rows drawn for each tree, without replacement (default 256).
    pub fn sample_size(mut self, sample_size: usize) -> Self {
        self.0.sample_size = sample_size;
        self
    }

    /// Sets the extension level: hyperplanes take this many columns and one more (default: all, at
    /// most 2,048).
    pub fn extension_level(mut self, extension_level: usize) -> Self {
        self.0.extension_level = Some(extension_level);
        self
    }

    /// Sets the number of threads for fitting and scoring (default 1). The forest and its scores
    /// don't depend on it.
    pub fn n_threads(mut self, n_threads: usize) -> Self {
        self.0.n_threads = n_threads;
        self
    }
}

impl<R> ParamGuard for ExtendedIsolationForestParams<R> {
    type Checked = ExtendedIsolationForestValidParams<R>;
    type Error = ExtendedIsolationForestParamsError;

    fn check_ref(&self) -> Result<&Self::Checked, Self::Error> {
        let params = &self.0;
        if !(1..=1 << 16).contains(&params.n_trees) {
            return Err(ExtendedIsolationForestParamsError::Trees(params.n_trees));
        }
        if !(1..=1 << 24).contains(&params.sample_size) {
            return Err(ExtendedIsolationForestParamsError::SampleSize(params.sample_size));
        }
        if !(1..=1024).contains(&params.n_threads) {
            return Err(ExtendedIsolationForestParamsError::Threads(params.n_threads));
        }
        Ok(params)
    }

    fn check(self) -> Result<Self::Checked, Self::Error> {
        self.check_ref()?;
        Ok(self.0)
    }
}
