use thiserror::Error;

use crate::{ExtendedIsolationForestError, IsolationForestError, NearestNeighborEnsembleError};

/// Why scores can't calibrate a combiner.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CombinerError {
    /// No rows or no detectors.
    #[error("a combiner needs at least one row and one detector")]
    Empty,
    /// More rows than the combiner keeps.
    #[error("{0} calibration rows, more than 2^20")]
    TooManyRows(usize),
    /// A score is NaN or infinite.
    #[error("the score of row {row} by detector {detector} is not finite")]
    NotFinite {
        /// The row.
        row: usize,
        /// The detector.
        detector: usize,
    },
    /// Stored tables are not sorted or differ in length.
    #[error("the stored combiner is malformed")]
    Malformed,
}

/// A hyper-parameter out of its range.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum CombinedDetectorParamsError {
    /// `n_folds` must be in 2..=100.
    #[error("the number of folds must be between 2 and 100, not {0}")]
    Folds(usize),
    /// `calibration_rows` must be in 1..=2^20.
    #[error("the calibration rows must be between 1 and 2^20, not {0}")]
    CalibrationRows(usize),
}

/// Why a combined detector can't be fitted.
#[derive(Debug, Error)]
pub enum CombinedDetectorError {
    /// The hyper-parameters are out of range.
    #[error(transparent)]
    Params(#[from] CombinedDetectorParamsError),
    /// The isolation forest failed.
    #[error(transparent)]
    Forest(#[from] IsolationForestError),
    /// The extended isolation forest failed.
    #[error(transparent)]
    Extended(#[from] ExtendedIsolationForestError),
    /// The nearest-neighbour ensemble failed.
    #[error(transparent)]
    Neighbors(#[from] NearestNeighborEnsembleError),
    /// The calibration failed.
    #[error(transparent)]
    Combiner(#[from] CombinerError),
    /// The detectors have different columns.
    #[error("the detectors were fitted on different numbers of columns")]
    ColumnMismatch,
    /// An error of linfa's data structures.
    #[error(transparent)]
    Linfa(#[from] linfa::Error),
}
