//! Where findings and windows go: Kafka (with a spool between), JSON lines, the journal, and Parquet.

#[cfg(feature = "reports")]
pub mod ecs;
mod error;
pub mod heartbeat;
#[cfg(feature = "reports")]
pub mod journald;
#[cfg(feature = "reports")]
mod jsonl;
#[cfg(feature = "kafka")]
pub mod kafka;
mod lines;
#[cfg(feature = "reports")]
// How one lies in the spool, Kafka alone asks.
#[cfg_attr(not(feature = "kafka"), allow(dead_code))]
mod message;
#[cfg(feature = "reports")]
pub mod ocsf;
#[cfg(feature = "parquet")]
pub mod parquet;
#[cfg(feature = "reports")]
mod sink;
#[cfg(feature = "reports")]
pub mod spool;

#[cfg(feature = "reports")]
pub use ecs::Format;
pub use error::SinkError;
#[cfg(feature = "reports")]
pub use jsonl::{JsonlConfig, JsonlSink};
pub use lines::{LineFile, PatientLines, Rotation, rotated};
#[cfg(feature = "reports")]
pub use message::{Message, RECORD_BYTES_LIMIT, Topic};
#[cfg(feature = "reports")]
pub use sink::{Report, Sink, SinkConfig, SinkHealth};
