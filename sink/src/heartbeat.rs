//! A sign of life, once a minute: a host that is silent shows by its absence.

use serde::{Deserialize, Serialize};

/// Name and version of the schema, which a header tells, too.
pub const SCHEMA: &str = "hedgerow:heartbeat:1";
/// One is sent this often.
pub const INTERVAL_SECONDS: u64 = 60;

/// What a host says of itself; docs/kafka.md describes each field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    pub schema: String,
    /// Unique: host, boot, start of the daemon and sequence.
    pub uid: String,
    pub host_id: String,
    pub host: String,
    pub boot_id: String,
    /// Of the daemon.
    pub version: String,
    /// Milliseconds since the Unix epoch.
    pub time: i64,
    /// Counts from 0 at the start of the daemon.
    pub sequence: u64,
    pub interval_seconds: u64,
    pub phase: String,
    pub state: String,
    pub model_id: String,
    /// None where the deny hooks can't be loaded.
    pub mode: Option<String>,
    pub armed: Option<bool>,
    /// Since the start of the daemon.
    pub events: u64,
    pub events_lost: u64,
    pub alerts: u64,
    pub entries: u64,
    /// Stages that have work and get nothing done.
    pub stands_still: Vec<String>,
}
