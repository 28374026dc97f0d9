//! What can be wrong with an ONNX file.

use super::MAX_ONNX_BYTES;
use crate::{IsolationForestError, TreeError};
use thiserror::Error;

/// Why a forest was not exported or not imported.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// More bytes than are read.
    #[error("{0} bytes are more than the {MAX_ONNX_BYTES} of the largest ONNX file")]
    TooLarge(usize),
    /// Not protobuf, or not an ONNX model.
    #[error("not an ONNX model: {0}")]
    NotOnnx(String),
    /// The graph is neither of the two kinds that are read.
    #[error("not an isolation forest in a known form: {0}")]
    UnknownForm(&'static str),
    /// Arrays of a tree ensemble that do not fit together.
    #[error("malformed tree ensemble: {0}")]
    Ensemble(&'static str),
    /// A node mode other than `BRANCH_LEQ` and `LEAF`.
    #[error("tree nodes of mode {0} are not read")]
    Mode(String),
    /// A leaf's weight is not depth + c(samples) for any number of samples.
    #[error("leaf weight {weight} at depth {depth} is no path length")]
    LeafWeight {
        /// The weight.
        weight: f64,
        /// Depth of the leaf.
        depth: u32,
    },
    /// The divisor is not c(psi) for any psi.
    #[error("{0} is not an average path length c(psi)")]
    Normaliser(f64),
    /// A tree is malformed.
    #[error("tree {index}")]
    Tree {
        /// Which tree.
        index: usize,
        /// What is wrong with it.
        source: TreeError,
    },
    /// The trees do not make a forest.
    #[error("the trees do not make a forest")]
    Forest(#[from] IsolationForestError),
    /// Every row scores 1/2 in a forest of single-row samples, which the graph cannot say.
    #[error("a forest whose samples have one row cannot be exported")]
    SingleRowSamples,
}
