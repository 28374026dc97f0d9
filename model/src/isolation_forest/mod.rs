//! Isolation forest with axis-parallel splits (Liu, Ting, Zhou, "Isolation Forest", ICDM 2008).
//!
//! Each of `n_trees` trees draws psi rows without replacement and splits them at random: a column
//! chosen evenly among those that are not constant in the node, a threshold drawn evenly between
//! the column's least and greatest value there. A node becomes a leaf when it holds one row, when
//! every column is constant, or at depth ceil(log2 psi). The path length h(x) of a row is its
//! leaf's depth + c(rows in the leaf); the score is 2^(-E\[h(x)\] / c(psi)), in (0, 1\], higher for
//! rows that are isolated sooner.
//!
//! # Numbers
//! Rows and thresholds are compared as f32, whatever the records' type; a value beyond f32 counts
//! as the largest f32. Path lengths are summed in fixed point of 2^-24, so a score does not depend
//! on the order of summation: every engine and any number of threads give the same bits.
//!
//! # Missing values
//! NaN is a missing value. In fitting, a row that misses the chosen column joins a side at random,
//! in proportion to the rows present on each. In scoring, a row that misses a split's column goes
//! both ways, weighted by the training rows of each child: its path length is the expectation over
//! what the value could have been, so a missing value alone makes no row anomalous. Such rows
//! are scored in blocks of their own, whichever values they miss.

mod algorithm;
mod errors;
mod grow;
mod hyperparams;
mod update;

pub use algorithm::IsolationForest;
pub use errors::{IsolationForestError, IsolationForestParamsError};
pub use hyperparams::{IsolationForestParams, IsolationForestValidParams, Replacement};
