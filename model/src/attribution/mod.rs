//! Which columns made a row anomalous.
//!
//! Three decompositions, each of a quantity of its own ([`Quantity`]), each additive:
//!
//! - [path surprise](IsolationForest::path_surprise): cheap enough for every alert;
//! - [TreeSHAP](IsolationForest::shap_values): exact Shapley values of the path length, on request;
//! - [distance by column](crate::NearestNeighborEnsemble::distance_by_column).
//!
//! [`Explanation`] puts a decomposition into a reader's terms: value, usual range, direction, share.
//!
//! ```
//! use hedgerow_model::IsolationForest;
//! use hedgerow_model::attribution::{Explanation, Quantity};
//! use hedgerow_model::columns::summarise_columns;
//! use linfa::prelude::*;
//! use ndarray::{Array2, array};
//! use rand::SeedableRng;
//!
//! let rows = Array2::from_shape_fn((500, 3), |(i, j)| ((i * (j + 3)) as f64 * 0.7).sin());
//! let mut rng = rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(1);
//! let usual = summarise_columns(rows.view(), &mut rng);
//! let forest = IsolationForest::params().fit(&Dataset::from(rows))?;
//! let row = array![0.1, 7.0, -0.2];
//! let surprise = forest.path_surprise(row.view());
//! let explanation = Explanation::new(Quantity::SurpriseBits, &surprise, row.view(), &usual);
//! assert_eq!(explanation.columns[0].column, 1);
//! assert!(explanation.columns[0].value > explanation.columns[0].usual_high);
//! # Ok::<(), hedgerow_model::IsolationForestError>(())
//! ```

mod explanation;
mod surprise;
mod tree_shap;

pub use explanation::{ColumnShare, Direction, Explanation, Quantity};
pub use tree_shap::ShapValues;

#[cfg(doc)]
use crate::IsolationForest;
