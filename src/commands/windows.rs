//! Closed windows of a replay as Parquet, like the stream of a capture.

use std::path::Path;

use hedgerow_features::{Window, to_batch};
use hedgerow_sink::parquet::{ParquetConfig, ParquetSink};

use crate::{daemon::WINDOWS, exit::Failure};

/// Writes the windows of one closed epoch after the other.
pub struct Windows {
    sink: ParquetSink,
}

impl Windows {
    pub fn open(directory: &Path, host: &str) -> anyhow::Result<Self> {
        let sink = ParquetSink::open(ParquetConfig::new(directory, host)).map_err(Failure::file)?;
        Ok(Self { sink })
    }

    /// Early rows are left out: they are taken as they were captured.
    pub fn add(&mut self, mut windows: Vec<Window>) -> anyhow::Result<()> {
        windows.retain(|window| window.early.is_none());
        let Some(last) = windows.last() else { return Ok(()) };
        let time_ns = last.time.realtime_offset_ns.saturating_add_unsigned(last.time.end_boot_ns);
        let batch = to_batch(&windows)?;
        self.sink.write(WINDOWS, &batch, time_ns).map_err(|why| Failure::file(why).into())
    }

    pub fn finish(mut self) -> anyhow::Result<()> {
        self.sink.finish().map(drop).map_err(|why| Failure::file(why).into())
    }
}
