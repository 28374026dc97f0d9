//! The reader: a directory of finished files as RecordBatches in order.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    datatypes::{Schema, SchemaRef},
    record_batch::RecordBatch,
};
use parquet::arrow::{
    ProjectionMask,
    arrow_reader::{
        ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
    },
};

use super::bounds;
use crate::SinkError;

/// A finished file, as its footer tells.
#[derive(Debug, Clone, PartialEq)]
pub struct ParquetFile {
    pub path: PathBuf,
    pub rows: u64,
    pub schema: SchemaRef,
    /// What the writer's caller noted, such as the hash key.
    pub metadata: BTreeMap<String, String>,
}

/// A file that can't be read, or not to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    pub path: PathBuf,
    pub reason: String,
    pub bytes: u64,
    /// Rows of it that were not read; `None` where the file can't even say how many it had.
    pub rows_lost: Option<u64>,
}

/// Reads the files one after the other; the footers were all read when it was opened, so that a
/// damaged or foreign file is refused before the first batch.
#[derive(Debug)]
pub struct ParquetReader {
    files: Vec<ParquetFile>,
    /// Files to come, with their rows.
    queue: VecDeque<(PathBuf, u64)>,
    current: Option<Current>,
    /// Columns that are read, by name; all where there is none.
    columns: Vec<String>,
    /// What is damaged is passed over and noted here.
    damaged: Option<Vec<Damaged>>,
}

/// The file that is being read, with its schema: batches come without its metadata, which says what
/// version they are of.
#[derive(Debug)]
struct Current {
    path: PathBuf,
    schema: SchemaRef,
    reader: ParquetRecordBatchReader,
    rows: u64,
    read: u64,
    /// Rows of the last batch.
    last: u64,
    /// Rows before the end of each row group.
    groups: Vec<u64>,
    /// What is wrong with what comes after the row groups that are read.
    then: Option<String>,
}

impl ParquetReader {
    /// Opens one file, or all finished files under a directory in the order of writing (by file
    /// name, whatever the partition). Every file must have the columns of `expected` by name and
    /// type; without it, those of the first file.
    ///
    /// # Errors
    /// Names the file, and the field where one doesn't fit; also when there is no file at all.
    pub fn open(path: &Path, expected: Option<&Schema>) -> Result<Self, SinkError> {
        let files = paths(path)?.iter().map(|path| footer(path)).collect::<Result<Vec<_>, _>>()?;
        Self::over(files, expected).map_err(|error| error.unwrap_or_else(|| nothing(path)))
    }

    /// Opens what is left after an accident: files that can't be read are passed over, and told by
    /// [`Self::damaged`].
    ///
    /// # Errors
    /// No file can be read, or one has other columns.
    pub fn open_remains(path: &Path, expected: Option<&Schema>) -> Result<Self, SinkError> {
        let (files, damaged) = remains(path)?;
        let first = damaged.first().cloned();
        let mut reader = Self::over(files, expected).map_err(|error| match (error, first) {
            (Some(error), _) => error,
            (None, Some(Damaged { path, reason, .. })) => SinkError::Parquet { path, reason },
            (None, None) => nothing(path),
        })?;
        reader.damaged = Some(damaged);
        Ok(reader)
    }

    /// Reads these files in the order given; `None` for an error where there are none.
    fn over(files: Vec<ParquetFile>, expected: Option<&Schema>) -> Result<Self, Option<SinkError>> {
        let first = files.first().ok_or(None)?.schema.clone();
        let expected = expected.unwrap_or(&first);
        files.iter().try_for_each(|file| check(file, expected))?;
        let queue = files.iter().map(|file| (file.path.clone(), file.rows)).collect();
        Ok(Self { files, queue, current: None, columns: Vec::new(), damaged: None })
    }

    /// Reads these files in the order given. What is damaged in them is passed over and told by
    /// [`Self::damaged`].
    ///
    /// # Errors
    /// Names the file and the field that doesn't fit.
    pub fn of(files: Vec<ParquetFile>, expected: &Schema) -> Result<Self, SinkError> {
        let mut reader = Self::over(files, Some(expected))
            .map_err(|error| error.unwrap_or_else(|| nothing(Path::new(""))))?;
        reader.damaged = Some(Vec::new());
        Ok(reader)
    }

    /// Reads these columns only.
    #[must_use]
    pub fn with_columns(mut self, columns: &[&str]) -> Self {
        self.columns = columns.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// What was passed over so far.
    pub fn damaged(&self) -> &[Damaged] {
        self.damaged.as_deref().unwrap_or_default()
    }

    pub fn files(&self) -> &[ParquetFile] {
        &self.files
    }

    pub fn rows(&self) -> u64 {
        self.files.iter().fold(0, |rows, file| rows.saturating_add(file.rows))
    }

    /// The metadata of all files; where they differ, the latest tells.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        self.files.iter().flat_map(|file| file.metadata.clone()).collect()
    }

    /// The file that the last batch came from.
    pub fn path(&self) -> Option<&Path> {
        self.current.as_ref().map(|current| current.path.as_path())
    }

    /// Rows of the file before those of the last batch.
    pub fn before(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| current.read - current.last)
    }

    /// The row group that a row of the last batch's file is in, counted from 0.
    pub fn row_group(&self, row: u64) -> usize {
        let groups = self.current.as_ref().map_or(&[][..], |current| &current.groups);
        groups.partition_point(|end| *end <= row)
    }

    fn try_next(&mut self) -> Result<Option<RecordBatch>, SinkError> {
        loop {
            let Some(current) = &mut self.current else {
                let Some((path, rows)) = self.queue.pop_front() else { return Ok(None) };
                match Current::open(path.clone(), rows, &self.columns) {
                    Ok(current) => self.current = Some(current),
                    Err(error) => self.pass_over(path, error, rows)?,
                }
                continue;
            };
            match current.next() {
                Some(Ok(batch)) => return Ok(Some(batch)),
                Some(Err(error)) => {
                    let (path, rows) = (current.path.clone(), current.rows - current.read);
                    self.current = None;
                    self.pass_over(path, error, rows)?;
                }
                None => self.current = None,
            }
        }
    }

    fn pass_over(&mut self, path: PathBuf, error: SinkError, rows: u64) -> Result<(), SinkError> {
        let Some(damaged) = &mut self.damaged else { return Err(error) };
        damaged.push(Damaged { rows_lost: Some(rows), ..Damaged::new(path, error) });
        Ok(())
    }
}

impl Current {
    fn open(path: PathBuf, rows: u64, columns: &[String]) -> Result<Self, SinkError> {
        let (file, footer) = open(&path)?;
        let mut schema = Arc::clone(footer.schema());
        let mut mask = ProjectionMask::all();
        if !columns.is_empty() {
            let names = columns.iter().map(String::as_str);
            mask = ProjectionMask::columns(footer.parquet_schema(), names);
            let fields = schema.fields().iter().filter(|field| columns.contains(field.name()));
            let fields: Vec<_> = fields.cloned().collect();
            schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        }
        let groups = footer.metadata().row_groups().iter().scan(0, |rows, group| {
            *rows = u64::saturating_add(*rows, u64::try_from(group.num_rows()).unwrap_or_default());
            Some(*rows)
        });
        let groups = groups.collect();
        let reader = guarded(&path, || {
            let plan = bounds::plan(&file, footer.metadata(), &mask);
            let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer)
                .with_batch_size(plan.rows)
                .with_projection(mask)
                .with_row_groups(plan.groups)
                .build();
            reader.map(|reader| (reader, plan.then)).map_err(|error| unreadable(&path, &error))
        });
        let (reader, then) = reader.and_then(|reader| reader)?;
        Ok(Self { path, schema, reader, rows, read: 0, last: 0, groups, then })
    }

    fn next(&mut self) -> Option<Result<RecordBatch, SinkError>> {
        let batch = match guarded(&self.path, || self.reader.next()) {
            Ok(None) => return Some(Err(refused(&self.path, self.then.take()?))),
            Ok(Some(batch)) => batch.and_then(|batch| batch.with_schema(self.schema.clone())),
            Err(error) => return Some(Err(error)),
        };
        let batch = batch.map_err(|error| unreadable(&self.path, &error));
        if let Ok(batch) = &batch {
            self.last = (batch.num_rows() as u64).min(self.rows - self.read);
            self.read += self.last;
        }
        Some(batch)
    }
}

impl Damaged {
    fn new(path: PathBuf, error: SinkError) -> Self {
        let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let reason = match error {
            SinkError::Parquet { reason, .. } => reason,
            SinkError::Io { source, .. } => source.to_string(),
            error => error.to_string(),
        };
        Self { path, reason, bytes, rows_lost: None }
    }
}

impl Iterator for ParquetReader {
    type Item = Result<RecordBatch, SinkError>;

    /// After an error the iterator is at its end.
    fn next(&mut self) -> Option<Self::Item> {
        let next = self.try_next();
        if next.is_err() {
            self.current = None;
            self.queue.clear();
        }
        next.transpose()
    }
}

fn unreadable(path: &Path, error: &dyn std::error::Error) -> SinkError {
    refused(path, format!("unreadable: {error}"))
}

fn nothing(path: &Path) -> SinkError {
    SinkError::Parquet {
        path: path.to_owned(),
        reason: "no finished Parquet file in this directory".into(),
    }
}

/// The file, or all finished files under a directory, in the order of writing.
fn paths(path: &Path) -> Result<Vec<PathBuf>, SinkError> {
    if fs::metadata(path).map_err(SinkError::io(path))?.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    finished_files(path, &mut Vec::new())
}

/// The files at or below a path whose footers can be read, in the order of writing, and the others.
///
/// # Errors
/// A directory can't be read.
pub fn remains(path: &Path) -> Result<(Vec<ParquetFile>, Vec<Damaged>), SinkError> {
    let (mut files, mut damaged) = (Vec::new(), Vec::new());
    for path in paths(path)? {
        match footer(&path) {
            Ok(mut file) => {
                // A thousand files have one schema.
                if let Some(last) =
                    files.last().filter(|last: &&ParquetFile| last.schema == file.schema)
                {
                    file.schema = Arc::clone(&last.schema);
                }
                files.push(file);
            }
            Err(error) => damaged.push(Damaged::new(path, error)),
        }
    }
    Ok((files, damaged))
}

/// A file and its footer, which asks for no more than it may.
fn open(path: &Path) -> Result<(File, ArrowReaderMetadata), SinkError> {
    // A FIFO would wait for a writer.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(SinkError::io(path))?;
    if !file.metadata().map_err(SinkError::io(path))?.is_file() {
        return Err(refused(path, "no regular file".into()));
    }
    let footer = guarded(path, || bounds::footer(&file))?;
    footer.map(|footer| (file, footer)).map_err(|reason| refused(path, reason))
}

fn refused(path: &Path, reason: String) -> SinkError {
    SinkError::Parquet { path: path.to_owned(), reason }
}

/// Where the library panics over a file, it is the file that is told.
fn guarded<T>(path: &Path, read: impl FnOnce() -> T) -> Result<T, SinkError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read))
        .map_err(|_| refused(path, "unreadable: its parts contradict each other".into()))
}

fn footer(path: &Path) -> Result<ParquetFile, SinkError> {
    let (_, footer) = open(path)?;
    let of_file = footer.metadata().file_metadata();
    let metadata = of_file
        .key_value_metadata()
        .into_iter()
        .flatten()
        .filter(|pair| pair.key != "ARROW:schema")
        .map(|pair| (pair.key.clone(), pair.value.clone().unwrap_or_default()))
        .collect();
    Ok(ParquetFile {
        path: path.to_owned(),
        rows: u64::try_from(of_file.num_rows()).unwrap_or_default(),
        schema: footer.schema().clone(),
        metadata,
    })
}

fn check(file: &ParquetFile, expected: &Schema) -> Result<(), SinkError> {
    let fail = |field: &str, reason: String| {
        Err(SinkError::Field { path: file.path.clone(), field: field.to_owned(), reason })
    };
    for field in expected.fields() {
        match file.schema.field_with_name(field.name()) {
            Err(_) => return fail(field.name(), "is missing".into()),
            Ok(found) if found.data_type() != field.data_type() => {
                let (found, wanted) = (found.data_type(), field.data_type());
                return fail(field.name(), format!("is {found}, expected {wanted}"));
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Whether it is a segment whose file is finished.
pub fn is_spent(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let file = name.strip_suffix(".parquet").and_then(|name| name.rsplit_once(".s"));
    file.is_some_and(|(part, _)| path.with_file_name(format!("{part}.parquet")).exists())
}

/// Finished files below `directory`, sorted by file name. Unfinished ones, and segments whose file is
/// finished, go to `leftovers`.
pub(super) fn finished_files(
    directory: &Path,
    leftovers: &mut Vec<PathBuf>,
) -> Result<Vec<PathBuf>, SinkError> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).map_err(SinkError::io(&directory))? {
            let entry = entry.map_err(SinkError::io(&directory))?;
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().map_err(SinkError::io(&path))?.is_dir() {
                pending.push(path);
            } else if name.starts_with(".part-") && name.ends_with(".parquet.tmp") {
                leftovers.push(path);
            } else if name.ends_with(".parquet") && !name.starts_with('.') {
                found.push(path);
            }
        }
    }
    let (spent, mut found): (Vec<PathBuf>, Vec<PathBuf>) =
        found.into_iter().partition(|path| is_spent(path));
    leftovers.extend(spent);
    found.sort_unstable_by(|a, b| (a.file_name(), a).cmp(&(b.file_name(), b)));
    Ok(found)
}
