//! Closed windows of a replay as Parquet, like the stream of a capture.

use std::path::Path;

use hedgerow_features::{Window, to_batch};
use hedgerow_sink::parquet::{ParquetConfig, ParquetSink};

use crate::{Error, Result, keys::WINDOWS};

/// Writes the windows of one closed epoch after the other.
#[derive(Debug)]
pub struct Windows {
    sink: ParquetSink,
}

impl Windows {
    pub fn open(directory: &Path, host: &str) -> Result<Self> {
        let sink = ParquetSink::open(ParquetConfig::whole(directory, host)).map_err(Error::file)?;
        Ok(Self { sink })
    }

    /// Early rows are left out: they are taken as they were captured.
    pub fn add(&mut self, mut windows: Vec<Window>) -> Result<()> {
        windows.retain(|window| window.early.is_none());
        let Some(last) = windows.last() else { return Ok(()) };
        let time_ns = last.time.realtime_offset_ns.saturating_add_unsigned(last.time.end_boot_ns);
        let batch = to_batch(&windows)?;
        self.sink.write(WINDOWS, &batch, time_ns).map_err(Error::file)
    }

    pub fn finish(mut self) -> Result<()> {
        self.sink.finish().map(drop).map_err(Error::file)
    }
}
