//! The writer.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fmt::Write as _,
    fs::{self, DirBuilder, File, OpenOptions},
    mem::MaybeUninit,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use chrono::DateTime;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties},
    },
};

use super::read::finished_files;
use crate::SinkError;

/// Where captures go and how large they get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParquetConfig {
    pub directory: PathBuf,
    /// Names the `host=` partition.
    pub host_id: String,
    /// A file is finished when it reaches this size (default 64 MiB) ...
    pub file_bytes: u64,
    /// ... or this age by the time of its batches (default 300 s). What a crash loses is at most
    /// this.
    pub file_seconds: u32,
    /// All finished files together; beyond, the oldest are deleted. Default 4 GiB.
    pub limit_bytes: u64,
    /// With less space free on the file system, open files are finished and batches refused.
    /// Default 256 MiB.
    pub free_bytes_least: u64,
    /// Rows of a row group, the unit of statistics and of memory. Default 65,536.
    pub row_group_rows: usize,
}

impl ParquetConfig {
    pub fn new(directory: impl Into<PathBuf>, host_id: impl Into<String>) -> Self {
        Self {
            directory: directory.into(),
            host_id: host_id.into(),
            file_bytes: 64 << 20,
            file_seconds: 300,
            limit_bytes: 4 << 30,
            free_bytes_least: 256 << 20,
            row_group_rows: 1 << 16,
        }
    }
}

/// What was written and what was not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ParquetStatus {
    pub rows: u64,
    pub files: u64,
    /// Bytes of all finished files that are there, earlier runs included.
    pub bytes: u64,
    /// Finished files deleted to stay below the limit.
    pub files_removed: u64,
    /// Rows refused, or lost with a file that could not be finished.
    pub rows_lost: u64,
    /// Unfinished files of a crashed run, deleted at the start.
    pub leftovers: u64,
}

/// See the module. Not a thread: `write` costs what the disk costs, so that it belongs on a thread
/// that may wait.
#[derive(Debug)]
pub struct ParquetSink {
    config: ParquetConfig,
    metadata: BTreeMap<String, String>,
    open: BTreeMap<String, Open>,
    /// Finished files by name (start time first), with their size.
    finished: BTreeMap<(String, PathBuf), u64>,
    next_number: u64,
    status: ParquetStatus,
}

#[derive(Debug)]
struct Open {
    writer: ArrowWriter<File>,
    schema: SchemaRef,
    temporary: PathBuf,
    path: PathBuf,
    start_ns: i64,
    rows: u64,
}

impl ParquetSink {
    /// Creates the directory (0700), deletes what a crash left unfinished, and takes stock.
    pub fn open(config: ParquetConfig) -> Result<Self, SinkError> {
        create_directory(&config.directory)?;
        let mut sink = Self {
            config,
            metadata: BTreeMap::new(),
            open: BTreeMap::new(),
            finished: BTreeMap::new(),
            next_number: 0,
            status: ParquetStatus::default(),
        };
        let mut leftovers = Vec::new();
        for path in finished_files(&sink.config.directory, &mut leftovers)? {
            sink.account(path)?;
        }
        for path in leftovers {
            fs::remove_file(&path).map_err(SinkError::io(&path))?;
            sink.status.leftovers += 1;
        }
        Ok(sink)
    }

    /// Sets a key of the metadata that every file finished from now on carries, such as the epoch
    /// length, the hash key or the edges of the learning phases.
    pub fn set_metadata(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.metadata.insert(key.into(), value.into());
    }

    pub fn status(&self) -> ParquetStatus {
        self.status
    }

    /// Appends a batch to `stream` (letters, digits, `_`, `-`); `time_ns` is its wall time since the
    /// Unix epoch. A batch of another schema begins a new file.
    ///
    /// # Errors
    /// When the disk is full or fails. The rows are counted as lost, the sink stays usable, and
    /// files that are finished stay whole.
    pub fn write(
        &mut self,
        stream: &str,
        batch: &RecordBatch,
        time_ns: i64,
    ) -> Result<(), SinkError> {
        let rows = batch.num_rows() as u64;
        let result = self.try_write(stream, batch, time_ns);
        match result {
            Ok(()) => self.status.rows += rows,
            Err(_) => self.status.rows_lost += rows,
        }
        result
    }

    fn try_write(
        &mut self,
        stream: &str,
        batch: &RecordBatch,
        time_ns: i64,
    ) -> Result<(), SinkError> {
        self.check_space()?;
        self.rotate_stream(stream, time_ns, Some(&batch.schema()))?;
        if !self.open.contains_key(stream) {
            let open = self.begin(stream, batch.schema(), time_ns)?;
            self.open.insert(stream.to_owned(), open);
        }
        let Some(open) = self.open.get_mut(stream) else { return Ok(()) };
        if let Err(error) = open.writer.write(batch) {
            return Err(self.abandon(stream, &error));
        }
        open.rows += batch.num_rows() as u64;
        self.rotate_stream(stream, time_ns, None)
    }

    /// Finishes the files whose time is up, so that a quiet stream becomes readable too.
    pub fn rotate(&mut self, time_ns: i64) -> Result<(), SinkError> {
        let streams: Vec<String> = self.open.keys().cloned().collect();
        streams.iter().try_for_each(|stream| self.rotate_stream(stream, time_ns, None))
    }

    /// Finishes every open file. The first error is returned, the other files are finished all the
    /// same.
    pub fn finish(&mut self) -> Result<ParquetStatus, SinkError> {
        let streams: Vec<String> = self.open.keys().cloned().collect();
        let mut first = Ok(());
        for stream in streams {
            let result = self.finish_stream(&stream);
            first = first.and(result);
        }
        first.map(|()| self.status)
    }

    fn rotate_stream(
        &mut self,
        stream: &str,
        time_ns: i64,
        schema: Option<&SchemaRef>,
    ) -> Result<(), SinkError> {
        let Some(open) = self.open.get(stream) else { return Ok(()) };
        let age_ns = time_ns.saturating_sub(open.start_ns);
        let bytes = open.writer.bytes_written() + open.writer.in_progress_size();
        let due = age_ns >= i64::from(self.config.file_seconds) * 1_000_000_000
            || bytes as u64 >= self.config.file_bytes
            || date(time_ns) != date(open.start_ns)
            || schema.is_some_and(|schema| *schema != open.schema);
        if due { self.finish_stream(stream) } else { Ok(()) }
    }

    fn begin(&mut self, stream: &str, schema: SchemaRef, time_ns: i64) -> Result<Open, SinkError> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if stream.is_empty() || !stream.bytes().all(legal) {
            return Err(SinkError::Parquet {
                path: self.config.directory.clone(),
                reason: format!("{stream:?} is no stream name: letters, digits, '_', '-'"),
            });
        }
        let directory = self
            .config
            .directory
            .join(stream)
            .join(format!("host={}", escape(&self.config.host_id)))
            .join(format!("date={}", date(time_ns)));
        create_directory(&directory)?;
        let name = format!("part-{:020}-{:06}.parquet", time_ns.max(0), self.next_number);
        self.next_number += 1;
        let temporary = directory.join(format!(".{name}.tmp"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(SinkError::io(&temporary))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_max_row_group_row_count(Some(self.config.row_group_rows))
            .set_created_by(concat!("hedgerow ", env!("CARGO_PKG_VERSION")).into())
            .build();
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties))
            .map_err(|error| failure(&temporary, &error))?;
        let path = directory.join(name);
        Ok(Open { writer, schema, temporary, path, start_ns: time_ns, rows: 0 })
    }

    fn finish_stream(&mut self, stream: &str) -> Result<(), SinkError> {
        let Some(mut open) = self.open.remove(stream) else { return Ok(()) };
        for (key, value) in &self.metadata {
            open.writer.append_key_value_metadata(KeyValue::new(key.clone(), value.clone()));
        }
        let Open { mut writer, temporary, path, rows, .. } = open;
        let written = writer
            .finish()
            .map_err(|error| failure(&temporary, &error))
            .and_then(|_| writer.inner().sync_all().map_err(SinkError::io(&temporary)))
            .and_then(|()| fs::rename(&temporary, &path).map_err(SinkError::io(&path)));
        if let Err(error) = written {
            self.lose(&temporary, rows);
            return Err(error);
        }
        self.status.files += 1;
        self.account(path)?;
        self.make_room()
    }

    /// Gives up a file that can't be written any more.
    fn abandon(&mut self, stream: &str, error: &parquet::errors::ParquetError) -> SinkError {
        match self.open.remove(stream) {
            Some(open) => {
                let error = failure(&open.temporary, error);
                self.lose(&open.temporary, open.rows);
                error
            }
            None => failure(&self.config.directory, error),
        }
    }

    fn lose(&mut self, temporary: &Path, rows: u64) {
        self.status.rows = self.status.rows.saturating_sub(rows);
        self.status.rows_lost += rows;
        // The error that led here is the one to report.
        let _ = fs::remove_file(temporary);
    }

    fn account(&mut self, path: PathBuf) -> Result<(), SinkError> {
        let bytes = fs::metadata(&path).map_err(SinkError::io(&path))?.len();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.status.bytes += bytes;
        self.finished.insert((name, path), bytes);
        Ok(())
    }

    fn make_room(&mut self) -> Result<(), SinkError> {
        while self.status.bytes > self.config.limit_bytes
            && let Some(((_, path), bytes)) = self.finished.pop_first()
        {
            fs::remove_file(&path).map_err(SinkError::io(&path))?;
            self.status.bytes -= bytes;
            self.status.files_removed += 1;
        }
        Ok(())
    }

    /// Stops while there is still room for the footers.
    fn check_space(&mut self) -> Result<(), SinkError> {
        let free = free_bytes(&self.config.directory)?;
        if free >= self.config.free_bytes_least {
            return Ok(());
        }
        self.finish()?;
        Err(SinkError::CaptureFull {
            path: self.config.directory.clone(),
            free,
            least: self.config.free_bytes_least,
        })
    }
}

impl Drop for ParquetSink {
    fn drop(&mut self) {
        // `finish` is the way to learn of errors; here nobody is left to tell.
        let _ = self.finish();
    }
}

fn create_directory(path: &Path) -> Result<(), SinkError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(SinkError::io(path))
}

fn date(time_ns: i64) -> String {
    DateTime::from_timestamp_nanos(time_ns).format("%Y-%m-%d").to_string()
}

/// Percent-encodes what would not be a plain partition value.
fn escape(value: &str) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            out.push(byte.into());
        } else {
            // Writing to a String can't fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Keeps the operating system's error, which the library wraps.
fn failure(path: &Path, error: &parquet::errors::ParquetError) -> SinkError {
    SinkError::Parquet { path: path.to_owned(), reason: error.to_string() }
}

/// Bytes that an unprivileged writer may still use.
fn free_bytes(path: &Path) -> Result<u64, SinkError> {
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|error| SinkError::io(path)(error.into()))?;
    let mut stat = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `name` is a C string and `stat` has room for the structure that the call fills.
    if unsafe { libc::statvfs(name.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return Err(SinkError::io(path)(std::io::Error::last_os_error()));
    }
    // SAFETY: the call succeeded, so that it filled the structure.
    let stat = unsafe { stat.assume_init() };
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
