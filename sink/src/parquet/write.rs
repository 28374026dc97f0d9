//! The writer.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fmt::Write as _,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{Read, Write as _},
    mem::MaybeUninit,
    os::{
        fd::AsRawFd,
        unix::{
            ffi::OsStrExt,
            fs::{DirBuilderExt, OpenOptionsExt},
        },
    },
    path::{Path, PathBuf},
};

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use chrono::DateTime;

use super::{read::finished_files, writing::Writing};
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
    /// this; with segments, what came after the last checkpoint.
    pub file_seconds: u32,
    /// All finished files together; beyond, the oldest are deleted. Default 4 GiB.
    pub limit_bytes: u64,
    /// With less space free on the file system, open files are finished and batches refused.
    /// Default 256 MiB.
    pub free_bytes_least: u64,
    /// Rows of a row group, the unit of statistics and of memory. Default 65,536.
    pub row_group_rows: usize,
    /// The rows of each open file go into segments as well, which [`ParquetSink::checkpoint`]
    /// finishes and a crash leaves behind: for what happens only once. Default false.
    pub segments: bool,
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
            segments: false,
        }
    }

    /// Without a limit: what is asked for once is kept.
    pub fn whole(directory: impl Into<PathBuf>, host_id: impl Into<String>) -> Self {
        Self { limit_bytes: u64::MAX, ..Self::new(directory, host_id) }
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
    /// Unfinished files of a crashed run, and segments whose file was finished, deleted at the start.
    pub leftovers: u64,
}

/// See the module. Not a thread: `write` costs what the disk costs, so that it belongs on a thread
/// that may wait.
#[derive(Debug)]
pub struct ParquetSink {
    config: ParquetConfig,
    /// Nobody else writes to the directory for as long as the sink lives.
    _lock: File,
    metadata: BTreeMap<String, String>,
    open: BTreeMap<String, Open>,
    /// Finished files by name (start time first), with their size.
    finished: BTreeMap<(String, PathBuf), u64>,
    next_number: u64,
    status: ParquetStatus,
}

/// A file in the making, with the segments that hold its rows until it is finished.
#[derive(Debug)]
struct Open {
    file: Writing,
    start_ns: i64,
    /// The rows since the last checkpoint once more.
    segment: Option<Writing>,
    segments: Vec<PathBuf>,
    /// Segments begun, by which they are numbered.
    begun: u32,
    /// Rows since the last checkpoint.
    unsaved: u64,
}

impl ParquetSink {
    /// Creates the directory (0700), deletes what a crash left unfinished, and takes stock.
    ///
    /// # Errors
    /// Also where somebody else writes to the directory.
    pub fn open(config: ParquetConfig) -> Result<Self, SinkError> {
        create_directory(&config.directory)?;
        let mut sink = Self {
            _lock: lock(&config.directory)?,
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
    /// When the disk is full or fails. What can't be kept is counted as lost, the sink stays usable,
    /// and files and segments that are finished stay whole.
    pub fn write(
        &mut self,
        stream: &str,
        batch: &RecordBatch,
        time_ns: i64,
    ) -> Result<(), SinkError> {
        let rows = batch.num_rows() as u64;
        self.status.rows += rows;
        let open = match self.place(stream, batch, time_ns) {
            Ok(open) => open,
            Err(error) => {
                self.lose(rows);
                return Err(error);
            }
        };
        // The segment first: it is what remains where the file fails.
        if let Some(segment) = &mut open.segment {
            if let Err(error) = segment.append(batch) {
                self.lose(rows);
                self.save_by_file(stream);
                return Err(error);
            }
            open.unsaved += rows;
        }
        if let Err(error) = open.file.append(batch) {
            if open.segment.is_none() {
                self.lose(rows);
            }
            self.save_by_segments(stream);
            return Err(error);
        }
        self.rotate_stream(stream, time_ns, None)
    }

    /// The open file that a batch goes to.
    fn place(
        &mut self,
        stream: &str,
        batch: &RecordBatch,
        time_ns: i64,
    ) -> Result<&mut Open, SinkError> {
        self.check_space()?;
        self.rotate_stream(stream, time_ns, Some(&batch.schema()))?;
        let open = match self.open.remove(stream) {
            Some(open) => open,
            None => self.begin(stream, batch.schema(), time_ns)?,
        };
        let open = self.open.entry(stream.to_owned()).or_insert(open);
        if self.config.segments && open.segment.is_none() {
            open.begin_segment(self.config.row_group_rows)?;
        }
        Ok(open)
    }

    /// Finishes the segments: a crash loses nothing of what was written until here.
    ///
    /// # Errors
    /// When the disk is full or fails. The open file is finished then, where that is possible.
    pub fn checkpoint(&mut self) -> Result<(), SinkError> {
        let streams: Vec<String> = self.open.keys().cloned().collect();
        let mut first = Ok(());
        for stream in streams {
            let Some(open) = self.open.get_mut(&stream) else { continue };
            let Some(segment) = open.segment.take() else { continue };
            match segment.finish(&self.metadata) {
                Ok(path) => {
                    open.segments.push(path);
                    open.unsaved = 0;
                }
                Err(error) => {
                    self.save_by_file(&stream);
                    first = first.and(Err(error));
                }
            }
        }
        first
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
        let bytes = open.file.bytes();
        let due = age_ns >= i64::from(self.config.file_seconds) * 1_000_000_000
            || bytes >= self.config.file_bytes
            || date(time_ns) != date(open.start_ns)
            || schema.is_some_and(|schema| *schema != open.file.schema);
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
        let file = Writing::begin(directory.join(name), schema, self.config.row_group_rows)?;
        Ok(Open {
            file,
            start_ns: time_ns,
            segment: None,
            segments: Vec::new(),
            begun: 0,
            unsaved: 0,
        })
    }

    fn finish_stream(&mut self, stream: &str) -> Result<(), SinkError> {
        let Some(Open { file, segment, segments, unsaved, .. }) = self.open.remove(stream) else {
            return Ok(());
        };
        let rows = if self.config.segments { unsaved } else { file.rows };
        match file.finish(&self.metadata) {
            Ok(path) => {
                self.status.files += 1;
                self.account(path)?;
                // Whoever reads meanwhile takes the file for them.
                segment.into_iter().for_each(Writing::discard);
                segments
                    .iter()
                    .try_for_each(|path| fs::remove_file(path).map_err(SinkError::io(path)))?;
                self.make_room()
            }
            Err(error) => {
                self.keep(segment, segments, rows);
                Err(error)
            }
        }
    }

    /// Gives up a file that can't be written any more: what remains are its segments.
    fn save_by_segments(&mut self, stream: &str) {
        if let Some(Open { file, segment, segments, unsaved, .. }) = self.open.remove(stream) {
            let rows = if self.config.segments { unsaved } else { file.rows };
            // It makes room for the segment.
            file.discard();
            self.keep(segment, segments, rows);
        }
    }

    /// Gives up a segment that can't be written any more: the file is to be whole.
    fn save_by_file(&mut self, stream: &str) {
        if let Some(open) = self.open.get_mut(stream) {
            open.segment.take().into_iter().for_each(Writing::discard);
            // The error that led here is the one to report.
            drop(self.finish_stream(stream));
        }
    }

    /// Keeps the segments of a file that is lost, and with it so many rows that no finished segment
    /// holds.
    fn keep(&mut self, segment: Option<Writing>, mut segments: Vec<PathBuf>, rows: u64) {
        match segment.map(|segment| segment.finish(&self.metadata)) {
            Some(Ok(path)) => segments.push(path),
            Some(Err(_)) | None => self.lose(rows),
        }
        self.status.files += segments.len() as u64;
        for path in segments {
            // What can't be looked at any more is no longer counted.
            drop(self.account(path));
        }
    }

    fn lose(&mut self, rows: u64) {
        self.status.rows = self.status.rows.saturating_sub(rows);
        self.status.rows_lost += rows;
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

impl Open {
    fn begin_segment(&mut self, row_group_rows: usize) -> Result<(), SinkError> {
        let path = self.file.path.with_extension(format!("s{:06}.parquet", self.begun));
        self.begun += 1;
        self.segment = Some(Writing::begin(path, self.file.schema.clone(), row_group_rows)?);
        Ok(())
    }
}

#[cfg(test)]
impl ParquetSink {
    /// As after kill -9: the lock goes with the process, and no destructor runs.
    #[allow(clippy::unwrap_used)]
    pub(super) fn crash(mut self) {
        self._lock = File::open("/dev/null").unwrap();
        std::mem::forget(self);
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

/// Locks the directory, and says in the lock who has it, for the one that is refused.
fn lock(directory: &Path) -> Result<File, SinkError> {
    let path = directory.join(".lock");
    let mut options = OpenOptions::new();
    options.create(true).read(true).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut lock = options.open(&path).map_err(SinkError::io(&path))?;
    // SAFETY: a system call on an open descriptor; the lock goes with its last copy.
    if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        let mut holder = String::new();
        // Who it is helps; that it is suffices.
        drop((&mut lock).take(32).read_to_string(&mut holder));
        let holder = holder.trim().to_owned();
        return Err(SinkError::CaptureBusy { path: directory.to_owned(), holder });
    }
    // On a full disk it is not told the number.
    drop(lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())));
    Ok(lock)
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
