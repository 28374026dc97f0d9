//! Isolation forests in linfa's conventions: true to the papers, fast, explained, exchangeable.
//!
//! ```
//! use hedgerow_model::IsolationForest;
//! use linfa::prelude::*;
//! use ndarray::{Array2, array};
//!
//! let rows = Array2::from_shape_fn((1000, 2), |(i, j)| ((i * (j + 3)) as f64 * 0.7).sin());
//! let forest = IsolationForest::params().n_trees(100).sample_size(256).fit(&Dataset::from(rows))?;
//! let scores = forest.predict(&array![[0.0, 0.0], [5.0, -5.0]]);
//! assert!(scores[1] > scores[0]);
//! # Ok::<(), hedgerow_model::IsolationForestError>(())
//! ```
//!
//! # Detectors
//! Both take (n rows, d columns) of f32 or f64 and give n scores, higher for more anomalous rows.
//!
//! | estimator | score of a row x | range |
//! |---|---|---|
//! | [`IsolationForest`] (Liu, Ting, Zhou 2008) | 2^(-E\[h(x)\] / c(psi)) | (0, 1\] |
//! | [`NearestNeighborEnsemble`] (Sugiyama, Borgwardt 2013) | mean distance to the nearest of psi random rows | \[0, ∞) |
//!
//! h(x) is the depth of x's leaf + [c](average_path_length)(rows in it); the mean is over the trees.
//! Each module states its formulas, its rule for missing values and where it departs from its paper.
//!
//! # Beyond scores
//! Which columns made a row anomalous say [`IsolationForest::shap_values`], exactly, and
//! [`NearestNeighborEnsemble::distance_by_column`]. [`drift`] and [`reservoir`] keep a model current.
//!
//! # Numbers
//! Models are made of f32: thresholds and reference rows. Records may be f32 or f64;
//! each value is rounded to the nearest f32 on the way in, in fitting as in scoring, as
//! scikit-learn does, so f64 records that differ by less are one value. Subtract a large offset
//! (say, of times) first. Path lengths and distances are worked out in f64; only
//! `predict` rounds them to the records' type.
//!
//! # Features
//! None is on by default: `serde` stores models, `onnx` exchanges isolation forests.
//!
//! # Determinism
//! A model depends on its rows and its seed, not on threads, memory order or processor; an isolation
//! forest's scores are the same bits from every engine ([`Instructions`]).

pub mod drift;
pub mod isolation_forest;
pub mod nearest_neighbors;
#[cfg(feature = "onnx")]
pub mod onnx;
pub mod reservoir;
pub mod tree;

mod columns;
mod engine;
mod parallel;
mod path_length;
mod rows;
mod tree_shap;

pub use engine::Instructions;
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
pub use tree_shap::ShapValues;
