//! Captures: RecordBatches by stream name as zstd Parquet, written and read back.
//!
//! A finished file is `DIR/STREAM/host=H/date=YYYY-MM-DD/part-START-NUMBER.parquet`, where START is
//! the wall time of its first batch in nanoseconds: names sort in the order of writing. A file that
//! is being written has a hidden name that ends in `.tmp`, and is renamed when its footer is on
//! disk, so that what ends in `.parquet` is whole, whatever happened to the writer.

mod read;
mod write;

pub use read::{ParquetFile, ParquetReader};
pub use write::{ParquetConfig, ParquetSink, ParquetStatus};

#[cfg(test)]
mod tests;
