//! One file while it is written.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties},
    },
};

use crate::SinkError;

/// A file under its hidden name, until it is finished.
#[derive(Debug)]
pub(super) struct Writing {
    writer: ArrowWriter<File>,
    temporary: PathBuf,
    pub(super) path: PathBuf,
    pub(super) schema: SchemaRef,
    pub(super) rows: u64,
}

impl Writing {
    /// Begins what will be `path`.
    pub(super) fn begin(
        path: PathBuf,
        schema: SchemaRef,
        row_group_rows: usize,
    ) -> Result<Self, SinkError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.tmp"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(SinkError::io(&temporary))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_max_row_group_row_count(Some(row_group_rows))
            .set_created_by(concat!("hedgerow ", env!("CARGO_PKG_VERSION")).into())
            .build();
        match ArrowWriter::try_new(file, schema.clone(), Some(properties)) {
            Ok(writer) => Ok(Self { writer, temporary, path, schema, rows: 0 }),
            Err(error) => {
                let error = failure(&temporary, &error);
                drop(fs::remove_file(&temporary));
                Err(error)
            }
        }
    }

    /// Bytes written, and those that wait for the end of their row group.
    pub(super) fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    pub(super) fn append(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        self.writer.write(batch).map_err(|error| failure(&self.temporary, &error))?;
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Writes the footer, brings all of it to the disk and gives the file its name. Nothing is left
    /// of one that can't be finished.
    pub(super) fn finish(
        mut self,
        metadata: &BTreeMap<String, String>,
    ) -> Result<PathBuf, SinkError> {
        for (key, value) in metadata {
            self.writer.append_key_value_metadata(KeyValue::new(key.clone(), value.clone()));
        }
        let Self { mut writer, temporary, path, .. } = self;
        let finished = writer
            .finish()
            .map_err(|error| failure(&temporary, &error))
            .and_then(|_| writer.inner().sync_all().map_err(SinkError::io(&temporary)))
            .and_then(|()| fs::rename(&temporary, &path).map_err(SinkError::io(&path)));
        match finished {
            Ok(()) => Ok(path),
            Err(error) => {
                // The error that led here is the one to report.
                drop(fs::remove_file(&temporary));
                Err(error)
            }
        }
    }

    /// Gives it up.
    pub(super) fn discard(self) {
        // What stays behind goes with the next run.
        drop(fs::remove_file(&self.temporary));
    }
}

/// Keeps the operating system's error, which the library wraps.
fn failure(path: &Path, error: &parquet::errors::ParquetError) -> SinkError {
    SinkError::Parquet { path: path.to_owned(), reason: error.to_string() }
}
