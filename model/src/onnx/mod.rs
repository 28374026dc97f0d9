//! Exchange of axis-parallel isolation forests as ONNX.
//!
//! [`export`] writes a graph of three nodes: one `TreeEnsembleRegressor` over all trees, whose
//! leaves weigh `depth + c(samples)` and are summed, a `Mul` by `-1 / (trees c(psi))` and a `Pow`
//! with base 2. Input `X` is (rows, columns) f32, output `scores` is (rows, 1) f32: the anomaly
//! score in (0, 1\], higher for rows that are isolated sooner.
//!
//! [`import`] reads that graph, and what skl2onnx writes for scikit-learn's `IsolationForest`: one
//! `TreeEnsembleRegressor` a tree with leaf numbers, and `c` computed in the graph by thousands of
//! nodes. Its output `scores` is scikit-learn's `decision_function`, our score `s` is
//! `-score_samples`: `decision_function = -s - offset`.
//!
//! Rows go to the true child where `x <= threshold`, both in f32 (`BRANCH_LEQ`). Thresholds of f64
//! are rounded *down* to f32: a row in f32 then compares alike with either. Missing values have
//! no equal in ONNX: our rule for NaN (both ways, weighed) is not exported.
//!
//! Hostile files end in an error, in memory bounded by a small multiple of the file.

mod ensemble;
mod error;
mod export;
mod import;
mod proto;
mod skl2onnx;

pub use error::OnnxError;
pub use export::export;
pub use import::import;

/// Largest ONNX file that is read, bytes.
pub const MAX_ONNX_BYTES: usize = 128 << 20;

#[cfg(test)]
mod tests;
