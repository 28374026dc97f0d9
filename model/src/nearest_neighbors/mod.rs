//! Nearest-neighbour ensemble: the mean, over many draws, of a row's distance to the nearest of a
//! few random training rows.
//!
//! Sugiyama and Borgwardt ("Rapid Distance-Based Outlier Detection via Sampling", NIPS 2013) score
//! a row by its distance to the nearest of psi rows drawn once; averaging over independent draws
//! takes out the luck of the draw, as in the nearest-neighbour ensembles of Bandaragoda et al.
//! (iNNE, Computational Intelligence 2018), without their local normalisation. With `n_draws`
//! draws S_1.. of psi rows
//!
//! score(x) = (1 / n_draws) Σ_k min_{y in S_k} ‖(x - y) / s‖,
//!
//! a distance in \[0, ∞), higher for rows that are far from all others. Each column is divided by
//! its standard deviation s over a sample of the training rows; a constant column takes no part.
//! Where an isolation forest looks at one column at a time, this sees rows whose columns are usual
//! one by one, but not together.
//!
//! A missing value (NaN), in training and in scoring, counts as the column's median.

mod algorithm;
mod errors;
mod hyperparams;
mod kernel;

pub use algorithm::NearestNeighborEnsemble;
pub use errors::{NearestNeighborEnsembleError, NearestNeighborEnsembleParamsError};
pub use hyperparams::{NearestNeighborEnsembleParams, NearestNeighborEnsembleValidParams};
