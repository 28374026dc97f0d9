use thiserror::Error;

use crate::tree::TreeError;

/// A hyper-parameter out of its range.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ExtendedIsolationForestParamsError {
    /// `n_trees` must be in 1..=65536.
    #[error("the number of trees must be between 1 and 65536, not {0}")]
    Trees(usize),
    /// `sample_size` must be in 1..=2^24.
    #[error("the sample size must be between 1 and 2^24, not {0}")]
    SampleSize(usize),
    /// `n_threads` must be in 1..=1024.
    #[error("the number of threads must be between 1 and 1024, not {0}")]
    Threads(usize),
}

/// Why a forest can't be fitted or read.
#[derive(Debug, Error)]
pub enum ExtendedIsolationForestError {
    /// The hyper-parameters are out of range.
    #[error(transparent)]
    Params(#[from] ExtendedIsolationForestParamsError),
    /// The training matrix has no rows.
    #[error("the training matrix has no rows")]
    NoRows,
    /// The training matrix has no columns.
    #[error("the training matrix has no columns")]
    NoColumns,
    /// The extension level must be below the number of columns.
    #[error("extension level {level} with {columns} columns")]
    ExtensionLevel {
        /// The level asked for.
        level: usize,
        /// Columns of the training matrix.
        columns: usize,
    },
    /// A stored tree's structure is malformed.
    #[error("tree {index}: {source}")]
    Tree {
        /// Position of the tree in the forest.
        index: usize,
        /// What is wrong with it.
        source: TreeError,
    },
    /// A stored tree's hyperplanes don't fit its splits or the columns.
    #[error("tree {0}: its hyperplanes are malformed")]
    Hyperplanes(usize),
    /// An error of linfa's data structures.
    #[error(transparent)]
    Linfa(#[from] linfa::Error),
}
