//! What a model was trained on, and for which columns.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// When, where and on what a model was trained.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingSummary {
    /// Version of the program that wrote the model.
    pub written_by: String,
    /// Name of the host that was learned.
    pub host: String,
    /// Start of learning, Unix seconds.
    pub started_unix_s: u64,
    /// End of learning, Unix seconds.
    pub ended_unix_s: u64,
    /// Seconds observed in each part (`fill`, `fit`, `calibrate`).
    pub part_s: BTreeMap<String, u64>,
    /// Counts by name: windows, programs, lost records, ...
    pub counts: BTreeMap<String, u64>,
    /// Measures by name: mean score, fill of the largest profile, ...
    pub measures: BTreeMap<String, f64>,
    /// What learning saw and is about to trust, one line each, as it was shown to the operator.
    pub notices: Vec<String>,
}

/// Identity of the feature columns that the model reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaId {
    /// Version of the feature schema.
    pub version: u32,
    /// Hash over names, order and formulas of the columns.
    pub hash: [u8; 32],
    /// Names of the columns, in order.
    pub columns: Vec<String>,
}
