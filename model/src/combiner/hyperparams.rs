use linfa::ParamGuard;
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::errors::CombinedDetectorParamsError;

/// Checked hyper-parameters of a [`CombinedDetector`](super::CombinedDetector).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CombinedDetectorValidParams<R> {
    n_trees: usize,
    sample_size: usize,
    n_draws: usize,
    draw_size: usize,
    n_folds: usize,
    calibration_rows: usize,
    n_threads: usize,
    rng: R,
}

impl<R> CombinedDetectorValidParams<R> {
    /// Trees of each of the two forests.
    pub fn n_trees(&self) -> usize {
        self.n_trees
    }

    /// Rows drawn for each tree.
    pub fn sample_size(&self) -> usize {
        self.sample_size
    }

    /// Draws of the nearest-neighbour ensemble.
    pub fn n_draws(&self) -> usize {
        self.n_draws
    }

    /// Rows of each draw.
    pub fn draw_size(&self) -> usize {
        self.draw_size
    }

    /// Folds of the cross-calibration.
    pub fn n_folds(&self) -> usize {
        self.n_folds
    }

    /// Most rows that calibrate.
    pub fn calibration_rows(&self) -> usize {
        self.calibration_rows
    }

    /// Threads that fit and score.
    pub fn n_threads(&self) -> usize {
        self.n_threads
    }

    /// Source of the detectors' randomness.
    pub fn rng(&self) -> &R {
        &self.rng
    }
}

/// Hyper-parameters of a [`CombinedDetector`](super::CombinedDetector), to be checked by
/// [`ParamGuard`].
#[derive(Debug, Clone, PartialEq)]
pub struct CombinedDetectorParams<R>(CombinedDetectorValidParams<R>);

impl CombinedDetectorParams<Xoshiro256PlusPlus> {
    /// The detectors' own defaults, 5 folds, 10,000 calibration rows, one thread, seed 42.
    pub fn new() -> Self {
        Self::new_fixed_rng(Xoshiro256PlusPlus::seed_from_u64(42))
    }
}

impl Default for CombinedDetectorParams<Xoshiro256PlusPlus> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> CombinedDetectorParams<R> {
    /// The detectors' own defaults, 5 folds, 10,000 calibration rows, one thread, randomness from
    /// `rng`.
    pub fn new_fixed_rng(rng: R) -> Self {
        Self(CombinedDetectorValidParams {
            n_trees: 100,
            sample_size: 256,
            n_draws: 50,
            draw_size: 16,
            n_folds: 5,
            calibration_rows: 10_000,
            n_threads: 1,
            rng,
        })
    }

    /// Sets the trees of each of the two forests (default 100).
    pub fn n_trees(mut self, n_trees: usize) -> Self {
        self.0.n_trees = n_trees;
        self
    }

    /// Sets the rows drawn for each tree (default 256).
    pub fn sample_size(mut self, sample_size: usize) -> Self {
        self.0.sample_size = sample_size;
        self
    }

    /// Sets the draws of the nearest-neighbour ensemble (default 50).
    pub fn n_draws(mut self, n_draws: usize) -> Self {
        self.0.n_draws = n_draws;
        self
    }

    /// Sets the rows of each draw (default 16).
    pub fn draw_size(mut self, draw_size: usize) -> Self {
        self.0.draw_size = draw_size;
        self
    }

    /// Sets the folds of the cross-calibration (default 5).
    pub fn n_folds(mut self, n_folds: usize) -> Self {
        self.0.n_folds = n_folds;
        self
    }

    /// Sets the most rows that calibrate (default 10,000).
    pub fn calibration_rows(mut self, calibration_rows: usize) -> Self {
        self.0.calibration_rows = calibration_rows;
        self
    }

    /// Sets the number of threads for fitting and scoring (default 1). Scores don't depend on it.
    pub fn n_threads(mut self, n_threads: usize) -> Self {
        self.0.n_threads = n_threads;
        self
    }
}

impl<R> ParamGuard for CombinedDetectorParams<R> {
    type Checked = CombinedDetectorValidParams<R>;
    type Error = CombinedDetectorParamsError;

    /// Checks what is the combiner's own; the detectors check theirs when they are fitted.
    fn check_ref(&self) -> Result<&Self::Checked, Self::Error> {
        let params = &self.0;
        if !(2..=100).contains(&params.n_folds) {
            return Err(CombinedDetectorParamsError::Folds(params.n_folds));
        }
        if !(1..=1 << 20).contains(&params.calibration_rows) {
            return Err(CombinedDetectorParamsError::CalibrationRows(params.calibration_rows));
        }
        Ok(params)
    }

    fn check(self) -> Result<Self::Checked, Self::Error> {
        self.check_ref()?;
        Ok(self.0)
    }
}
