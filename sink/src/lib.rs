//! Where findings and windows go: Kafka, JSON lines and Parquet, with a spool between

pub mod ocsf;
