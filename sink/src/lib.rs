//! Where findings and windows go: Kafka, JSON lines and Parquet, with a spool between.

mod error;
mod jsonl;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "kafka")]
mod message;
#[cfg(feature = "kafka")]
pub mod ocsf;
pub mod parquet;
#[cfg(feature = "kafka")]
pub mod spool;

pub use error::SinkError;
pub use jsonl::{JsonLinesSink, Rotation};
#[cfg(feature = "kafka")]
pub use message::{Message, RECORD_BYTES_LIMIT, Topic};
