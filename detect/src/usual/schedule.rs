//! When each part of learning ends, and what an engine is told of its host.

use std::sync::Arc;

use hedgerow_features::Sensors;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::EPOCH_SECONDS;

/// Where learning stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Fill,
    Fit,
    Calibrate,
    Scoring,
}

/// Epochs of each part of learning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    pub fill: u32,
    /// The first of them is the transition.
    pub fit: u32,
    pub calibrate: u32,
}

impl Schedule {
    /// Divides a learning time: 60 %, 20 %, 20 %, each part of three epochs at least.
    pub fn of(seconds: u64) -> Self {
        let epochs = u32::try_from(seconds / EPOCH_SECONDS).unwrap_or(u32::MAX);
        let fifth = (epochs / 5).max(3);
        Self { fill: epochs.saturating_sub(2 * fifth).max(3), fit: fifth, calibrate: fifth }
    }
    pub fn epochs(self) -> u32 {
        self.fill + self.fit + self.calibrate
    }
}

/// What an engine needs to know of its host and its operator's wishes.
#[derive(Debug, Clone)]
pub struct Settings {
    pub host_id: Arc<str>,
    pub boot_id: String,
    pub schedule: Schedule,
    pub budget_per_day: f64,
    /// The key of the n-gram hash, a secret; the forest has a seed derived from it.
    pub seed: u64,
    pub sensors: Sensors,
    /// Wall time less time since boot until the first epoch closes, which tells it anew.
    pub realtime_offset_ns: i64,
}

impl Settings {
    /// The seed of the forest, which findings tell. No way leads back from it to the key, by which n-grams
    /// could be found that pass for known ones.
    pub(crate) fn forest_seed(&self) -> u64 {
        let mut hasher = Sha256::new();
        hasher.update(b"hedgerow forest seed 1\0");
        hasher.update(self.seed.to_le_bytes());
        hasher.finalize().iter().take(8).fold(0, |seed, byte| (seed << 8) | u64::from(*byte))
    }
}
