//! Isolation forests in linfa's conventions.

pub mod budget;
pub mod calibration;
#[cfg(feature = "serde")]
pub mod file;
pub mod isolation_forest;
pub mod maturity;
pub mod tree;
pub mod vectoriser;

mod engine;
mod parallel;
mod path_length;
mod rows;

pub use engine::Instructions;
pub use isolation_forest::{
    IsolationForest, IsolationForestError, IsolationForestParams, IsolationForestParamsError,
    IsolationForestValidParams, Replacement,
};
pub use path_length::average_path_length;
pub use tree::{Node, Tree, TreeError};
