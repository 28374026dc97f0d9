use linfa::ParamGuard;
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::errors::IsolationForestParamsError;

/// Checked hyper-parameters of an [`IsolationForest`](super::IsolationForest).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct IsolationForestValidParams<R> {
    n_trees: usize,
    sample_size: usize,
    n_threads: usize,
    replacement: Replacement,
    replaced_share: f64,
    rng: R,
}

/// Which trees [`FitWith`](linfa::traits::FitWith) replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Replacement {
    /// Those that were grown longest ago.
    #[default]
    Oldest,
    /// Those that isolate the new rows soonest, that is, whose picture of what is normal fits
    /// today's rows worst. Ties go to the older tree.
    Worst,
}

impl<R> IsolationForestValidParams<R> {
    /// Number of trees.
    pub fn n_trees(&self) -> usize {
        self.n_trees
    }

    /// Rows drawn for each tree (psi); a smaller training set is used whole.
    pub fn sample_size(&self) -> usize {
        self.sample_size
    }

    /// Threads that fit and score.
    pub fn n_threads(&self) -> usize {
        self.n_threads
    }

    /// Which trees `FitWith` replaces.
    pub fn replacement(&self) -> Replacement {
        self.replacement
    }

    /// Share of trees that `FitWith` replaces.
    pub fn replaced_share(&self) -> f64 {
        self.replaced_share
    }

    /// Source of the forest's randomness.
    pub fn rng(&self) -> &R {
        &self.rng
    }
}

/// Hyper-parameters of an [`IsolationForest`](super::IsolationForest), to be checked by
/// [`ParamGuard`].
#[derive(Debug, Clone, PartialEq)]
pub struct IsolationForestParams<R>(IsolationForestValidParams<R>);

impl IsolationForestParams<Xoshiro256PlusPlus> {
    /// 100 trees of 256 rows, one thread, seed 42.
    pub fn new() -> Self {
        Self::new_fixed_rng(Xoshiro256PlusPlus::seed_from_u64(42))
    }
}

impl Default for IsolationForestParams<Xoshiro256PlusPlus> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> IsolationForestParams<R> {
    /// 100 trees of 256 rows, one thread, randomness from `rng`.
    pub fn new_fixed_rng(rng: R) -> Self {
        Self(IsolationForestValidParams {
            n_trees: 100,
            sample_size: 256,
            n_threads: 1,
            replacement: Replacement::default(),
            replaced_share: 0.2,
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

    /// Sets the number of threads for fitting and scoring (default 1). The forest and its scores
    /// don't depend on it.
    pub fn n_threads(mut self, n_threads: usize) -> Self {
        self.0.n_threads = n_threads;
        self
    }

    /// Sets which trees `FitWith` replaces (default: the oldest).
    pub fn replacement(mut self, replacement: Replacement) -> Self {
        self.0.replacement = replacement;
        self
    }

    /// Sets the share of trees that `FitWith` replaces, rounded up (default 0.2).
    pub fn replaced_share(mut self, replaced_share: f64) -> Self {
        self.0.replaced_share = replaced_share;
        self
    }

    /// Replaces the source of randomness.
    pub fn with_rng<R2>(self, rng: R2) -> IsolationForestParams<R2> {
        IsolationForestParams(IsolationForestValidParams {
            n_trees: self.0.n_trees,
            sample_size: self.0.sample_size,
            n_threads: self.0.n_threads,
            replacement: self.0.replacement,
            replaced_share: self.0.replaced_share,
            rng,
        })
    }
}

impl<R> ParamGuard for IsolationForestParams<R> {
    type Checked = IsolationForestValidParams<R>;
    type Error = IsolationForestParamsError;

    fn check_ref(&self) -> Result<&Self::Checked, Self::Error> {
        let params = &self.0;
        if !(1..=1 << 16).contains(&params.n_trees) {
            return Err(IsolationForestParamsError::Trees(params.n_trees));
        }
        if !(1..=1 << 31).contains(&params.sample_size) {
            return Err(IsolationForestParamsError::SampleSize(params.sample_size));
        }
        if !(1..=1024).contains(&params.n_threads) {
            return Err(IsolationForestParamsError::Threads(params.n_threads));
        }
        if !(params.replaced_share > 0.0 && params.replaced_share <= 1.0) {
            return Err(IsolationForestParamsError::ReplacedShare(params.replaced_share));
        }
        Ok(params)
    }

    fn check(self) -> Result<Self::Checked, Self::Error> {
        self.check_ref()?;
        Ok(self.0)
    }
}
