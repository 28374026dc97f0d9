//! What is usual: each column's ranges, n-grams, detectors, how sure it is, and learning on.

pub mod daily;
pub mod detector;
pub mod drift;
pub mod grams;
pub mod learn;
pub mod maturity;
mod phases;
pub mod probation;
pub mod reference;
pub mod scale;
pub mod schedule;
pub mod sequence;
