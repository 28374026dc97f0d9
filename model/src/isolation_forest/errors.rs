use thiserror::Error;

use crate::tree::TreeError;

/// A hyper-parameter out of its range.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum IsolationForestParamsError {
    /// `n_trees` must be in 1..=65536.
    #[error("the number of trees must be between 1 and 65536, not {0}")]
    Trees(usize),
    /// `sample_size` must be at least one.
    #[error("the sample size must be between 1 and 2^31, not {0}")]
    SampleSize(usize),
    /// `n_threads` must be in 1..=1024.
    #[error("the number of threads must be between 1 and 1024, not {0}")]
    Threads(usize),
    /// `replaced_share` must be in (0, 1].
    #[error("the replaced share of trees must be in (0, 1], not {0}")]
    ReplacedShare(f64),
}

/// Why a forest can't be fitted or built.
#[derive(Debug, Error)]
pub enum IsolationForestError {
    /// The hyper-parameters are out of range.
    #[error(transparent)]
    Params(#[from] IsolationForestParamsError),
    /// The training matrix has no rows.
    #[error("the training matrix has no rows")]
    NoRows,
    /// The training matrix has no columns, or a forest claims none.
    #[error("the training matrix has no columns")]
    NoColumns,
    /// More rows than can be numbered in 32 bits.
    #[error("{0} rows, more than 2^32 - 1")]
    TooManyRows(usize),
    /// An update needs at least psi rows.
    #[error("{found} rows can't replace trees of {needed}")]
    TooFewRows {
        /// Psi of the model.
        needed: usize,
        /// Rows of the update.
        found: usize,
    },
    /// The rows don't have the columns that the model was fitted on.
    #[error("the model has {expected} columns, the rows have {found}")]
    ColumnMismatch {
        /// Columns of the model.
        expected: usize,
        /// Columns of the rows.
        found: usize,
    },
    /// A tree handed in from outside is malformed.
    #[error("tree {index}: {source}")]
    Tree {
        /// Position of the tree in the forest.
        index: usize,
        /// What is wrong with it.
        source: TreeError,
    },
    /// An error of linfa's data structures.
    #[error(transparent)]
    Linfa(#[from] linfa::Error),
}
