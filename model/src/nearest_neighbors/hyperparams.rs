use linfa::ParamGuard;
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::errors::NearestNeighborEnsembleParamsError;

/// Checked hyper-parameters of an
/// [`NearestNeighborEnsemble`](super::NearestNeighborEnsemble).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NearestNeighborEnsembleValidParams<R> {
    n_draws: usize,
    sample_size: usize,
    least_deviation: f32,
    n_threads: usize,
    rng: R,
}

impl<R> NearestNeighborEnsembleValidParams<R> {
    /// Number of draws.
    pub fn n_draws(&self) -> usize {
        self.n_draws
    }

    /// Rows of a draw (psi); a smaller training set is used whole.
    pub fn sample_size(&self) -> usize {
        self.sample_size
    }

    /// Standard deviation that a column is held to have at least.
    pub fn least_deviation(&self) -> f32 {
        self.least_deviation
    }

    /// Threads that score.
    pub fn n_threads(&self) -> usize {
        self.n_threads
    }

    /// Source of the ensemble's randomness.
    pub fn rng(&self) -> &R {
        &self.rng
    }
}

/// Hyper-parameters of an [`NearestNeighborEnsemble`](super::NearestNeighborEnsemble), to be
/// checked by [`ParamGuard`].
#[derive(Debug, Clone, PartialEq)]
pub struct NearestNeighborEnsembleParams<R>(NearestNeighborEnsembleValidParams<R>);

impl NearestNeighborEnsembleParams<Xoshiro256PlusPlus> {
    /// 50 draws of 16 rows, one thread, seed 42.
    pub fn new() -> Self {
        Self::new_fixed_rng(Xoshiro256PlusPlus::seed_from_u64(42))
    }
}

impl Default for NearestNeighborEnsembleParams<Xoshiro256PlusPlus> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> NearestNeighborEnsembleParams<R> {
    /// 50 draws of 16 rows, one thread, randomness from `rng`.
    pub fn new_fixed_rng(rng: R) -> Self {
        Self(NearestNeighborEnsembleValidParams {
            n_draws: 50,
            sample_size: 16,
            least_deviation: 0.0,
            n_threads: 1,
            rng,
        })
    }

    /// Sets the number of draws (default 50).
    pub fn n_draws(mut self, n_draws: usize) -> Self {
        self.0.n_draws = n_draws;
        self
    }

    /// Sets the rows of a draw, without replacement (default 16). More rows make the score
    /// more local: better where the training rows are clean, worse where they hold anomalies.
    pub fn sample_size(mut self, sample_size: usize) -> Self {
        self.0.sample_size = sample_size;
        self
    }

    /// Sets the standard deviation that a column is held to have at least (default 0). Where rows
    /// hardly ever differ in a column, the next small difference is else as far as the training
    /// set is large. Of 0, a constant column is left out.
    pub fn least_deviation(mut self, least_deviation: f32) -> Self {
        self.0.least_deviation = least_deviation;
        self
    }

    /// Sets the number of threads for scoring (default 1). Scores don't depend on it.
    pub fn n_threads(mut self, n_threads: usize) -> Self {
        self.0.n_threads = n_threads;
        self
    }
}

impl<R> ParamGuard for NearestNeighborEnsembleParams<R> {
    type Checked = NearestNeighborEnsembleValidParams<R>;
    type Error = NearestNeighborEnsembleParamsError;

    fn check_ref(&self) -> Result<&Self::Checked, Self::Error> {
        let params = &self.0;
        if !(1..=1 << 16).contains(&params.n_draws) {
            return Err(NearestNeighborEnsembleParamsError::Draws(params.n_draws));
        }
        if !(1..=1 << 16).contains(&params.sample_size) {
            return Err(NearestNeighborEnsembleParamsError::SampleSize(params.sample_size));
        }
        if !(params.least_deviation >= 0.0 && params.least_deviation.is_finite()) {
            return Err(NearestNeighborEnsembleParamsError::LeastDeviation(params.least_deviation));
        }
        if !(1..=1024).contains(&params.n_threads) {
            return Err(NearestNeighborEnsembleParamsError::Threads(params.n_threads));
        }
        Ok(params)
    }

    fn check(self) -> Result<Self::Checked, Self::Error> {
        self.check_ref()?;
        Ok(self.0)
    }
}
