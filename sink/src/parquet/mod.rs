//! Captures: RecordBatches by stream name as zstd Parquet, written and read back.
//!
//! A finished file is `DIR/STREAM/host=H/date=YYYY-MM-DD/part-START-NUMBER.parquet`, where START is
//! the wall time of its first batch in nanoseconds: names sort in the order of writing. A file that
//! is being written has a hidden name that ends in `.tmp`, and is renamed when its footer is on
//! disk, so that what ends in `.parquet` is whole, whatever happened to the writer.
//!
//! What happens only once is written twice: beside its file, also into segments of a few seconds,
//! `part-START-NUMBER.sSEGMENT.parquet`, which are whole Parquet as well and are deleted when their
//! file is finished. After a crash, or where a full disk left the file unfinished, readers take the
//! segments in its place.

mod bounds;
mod read;
mod thrift;
mod write;
mod writing;

pub use read::{Damaged, ParquetFile, ParquetReader, is_spent, remains};
pub use write::{ParquetConfig, ParquetSink, ParquetStatus};

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
