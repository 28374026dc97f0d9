//! Joining detectors whose scores have nothing in common but their order.
//!
//! Each detector's score becomes a conformal p-value against calibration rows, the p-values a
//! Fisher statistic, and that statistic a p-value of its own against the same rows. The last step
//! is what makes the result honest: detectors that look at the same row are dependent, so Fisher's
//! chi-squared distribution does not hold.
//!
//! [`FisherCombiner`] joins any scores; [`CombinedDetector`] is an estimator of three detectors
//! that see different things: the isolation forest single columns, the extended forest directions,
//! the nearest-neighbour ensemble distances.

mod algorithm;
mod errors;
mod fisher;
mod hyperparams;

pub use algorithm::CombinedDetector;
pub use errors::{CombinedDetectorError, CombinedDetectorParamsError, CombinerError};
pub use fisher::FisherCombiner;
pub use hyperparams::{CombinedDetectorParams, CombinedDetectorValidParams};
