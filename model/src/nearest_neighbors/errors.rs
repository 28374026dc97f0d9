use thiserror::Error;

/// A hyper-parameter out of its range.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum NearestNeighborEnsembleParamsError {
    /// `n_draws` must be in 1..=65536.
    #[error("the number of draws must be between 1 and 65536, not {0}")]
    Draws(usize),
    /// `sample_size` must be in 1..=65536.
    #[error("the sample size must be between 1 and 65536, not {0}")]
    SampleSize(usize),
    /// `least_deviation` must be finite and no less than 0.
    #[error("the least deviation must be finite and no less than 0, not {0}")]
    LeastDeviation(f32),
    /// `n_threads` must be in 1..=1024.
    #[error("the number of threads must be between 1 and 1024, not {0}")]
    Threads(usize),
}

/// Why an ensemble can't be fitted or read.
#[derive(Debug, Error)]
pub enum NearestNeighborEnsembleError {
    /// The hyper-parameters are out of range.
    #[error(transparent)]
    Params(#[from] NearestNeighborEnsembleParamsError),
    /// The training matrix has no rows.
    #[error("the training matrix has no rows")]
    NoRows,
    /// The training matrix has no columns.
    #[error("the training matrix has no columns")]
    NoColumns,
    /// A stored ensemble contradicts itself.
    #[error("the stored ensemble is malformed: {0}")]
    Malformed(&'static str),
    /// An error of linfa's data structures.
    #[error(transparent)]
    Linfa(#[from] linfa::Error),
}
