//! Where findings and windows go: Kafka (with a spool between), JSON lines, the journal, and Parquet.

#[cfg(feature = "kafka")]
pub mod ecs;
mod error;
pub mod heartbeat;
#[cfg(feature = "kafka")]
pub mod journald;
mod jsonl;
#[cfg(feature = "kafka")]
pub mod kafka;
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
pub use jsonl::{JsonLinesSink, PatientLines, Rotation, WAITING_MAX, rotated};
#[cfg(feature = "kafka")]
pub use jsonl::{JsonlConfig, JsonlSink};
#[cfg(feature = "kafka")]
pub use message::{Message, RECORD_BYTES_LIMIT, Topic};
#[cfg(feature = "kafka")]
pub use sink::{Report, Sink, SinkHealth};
