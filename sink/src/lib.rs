//! Where findings and windows go: Kafka, JSON lines and Parquet, with a spool between.

mod error;
mod jsonl;
pub mod kafka;
mod message;
pub mod ocsf;
pub mod parquet;
pub mod spool;

pub use error::SinkError;
pub use jsonl::{JsonLinesSink, Rotation};
pub use message::{Message, RECORD_BYTES_LIMIT, Topic};
