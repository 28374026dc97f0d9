//! Isolation forests in linfa's conventions.

pub mod attribution;
pub mod budget;
pub mod calibration;
pub mod columns;
pub mod combiner;
pub mod drift;
pub mod extended_isolation_forest;
#[cfg(feature = "serde")]
pub mod file;
pub mod isolation_forest;
pub mod maturity;
pub mod nearest_neighbors;
#[cfg(feature = "onnx")]
pub mod onnx;
pub mod reservoir;
pub mod tree;
pub mod vectoriser;

mod engine;
mod parallel;
mod path_length;
mod rows;

pub use combiner::CombinedDetector;
pub use engine::Instructions;
pub use extended_isolation_forest::{
    ExtendedIsolationForest, ExtendedIsolationForestError, ExtendedIsolationForestParams,
    ExtendedIsolationForestParamsError, ExtendedIsolationForestValidParams,
};
pub use isolation_forest::{
    IsolationForest, IsolationForestError, IsolationForestParams, IsolationForestParamsError,
    IsolationForestValidParams, Replacement,
};
pub use nearest_neighbors::{
    NearestNeighborEnsemble, NearestNeighborEnsembleError, NearestNeighborEnsembleParams,
    NearestNeighborEnsembleParamsError, NearestNeighborEnsembleValidParams,
};
pub use path_length::average_path_length;
pub use tree::{Node, Tree, TreeError};
