//! Extended isolation forest (Hariri, Kind, Brunner, "Extended Isolation Forest", IEEE TKDE 2021).
//!
//! Splits are hyperplanes instead of axis-parallel cuts: a node draws `extension level + 1` columns
//! among those that vary in it, a normal vector with one standard normal coefficient for each, and
//! a threshold on the projections. Level 0 cuts one column, like the isolation forest; the highest
//! level, columns - 1, uses all, which is the default up to 2,048 columns. Path lengths and scores
//! are those of the [isolation forest](crate::isolation_forest).
//!
//! Two choices differ from the paper's reference code, so that level 0 *is* the isolation forest:
//! coefficients are divided by the column's standard deviation in the node, which makes scores
//! independent of the columns' units, and the threshold is drawn evenly between the least and the
//! greatest projection in the node, which leaves no branch empty.
//!
//! A missing value (NaN) counts as the column's median over a sample of the training rows; an
//! infinite one as the largest f32.

mod algorithm;
mod errors;
mod grow;
mod hyperparams;

pub use algorithm::{ExtendedIsolationForest, ExtendedNode, ExtendedTree};
pub use errors::{ExtendedIsolationForestError, ExtendedIsolationForestParamsError};
pub use hyperparams::{ExtendedIsolationForestParams, ExtendedIsolationForestValidParams};
