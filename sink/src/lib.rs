//! Where findings and windows go: Kafka (with a spool between), JSON lines, the journal, and Parquet.

#[cfg(feature = "kafka")]
pub mod ecs;
mod error;
pub mod heartbeat;
#[cfg(feature = "kafka")]
pub mod journald;
#[cfg(feature = "kafka")]
mod jsonl;
#[cfg(feature = "kafka")]
pub mod kafka;
mod lines;
#[cfg(feature = "kafka")]
mod message;
#[cfg(feature = "kafka")]
pub mod ocsf;
pub mod parquet;
#[cfg(feature = "kafka")]
mod sink;
#[cfg(feature = "kafka")]
pub mod spool;

#[cfg(feature = "kafka")]
pub use ecs::Format;
pub use error::SinkError;
#[cfg(feature = "kafka")]
pub use jsonl::{JsonlConfig, JsonlSink};
pub use lines::{LineFile, PatientLines, Rotation, rotated};
#[cfg(feature = "kafka")]
pub use message::{Message, RECORD_BYTES_LIMIT, Topic};
#[cfg(feature = "kafka")]
pub use sink::{Report, Sink, SinkHealth};
