//! The reader: a directory of finished files as RecordBatches in order.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    datatypes::{Schema, SchemaRef},
    record_batch::RecordBatch,
};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use crate::SinkError;

/// Rows of one batch.
const BATCH_ROWS: usize = 8192;

/// A finished file, as its footer tells.
#[derive(Debug, Clone, PartialEq)]
pub struct ParquetFile {
    pub path: PathBuf,
    pub rows: u64,
    pub schema: SchemaRef,
    /// What the writer's caller noted, such as the hash key.
    pub metadata: BTreeMap<String, String>,
}

/// Reads the files one after the other; the footers were all read when it was opened, so that a
/// damaged or foreign file is refused before the first batch.
#[derive(Debug)]
pub struct ParquetReader {
    files: Vec<ParquetFile>,
    queue: VecDeque<PathBuf>,
    current: Option<Current>,
}

/// The file that is being read, with its schema: batches come without its metadata, which says what
/// version they are of.
#[derive(Debug)]
struct Current {
    path: PathBuf,
    schema: SchemaRef,
    reader: ParquetRecordBatchReader,
}

impl ParquetReader {
    /// Opens one file, or all finished files under a directory in the order of writing (by file
    /// name, whatever the partition). Every file must have the columns of `expected` by name and
    /// type; without it, those of the first file.
    ///
    /// # Errors
    /// Names the file, and the field where one doesn't fit; also when there is no file at all.
    pub fn open(path: &Path, expected: Option<&Schema>) -> Result<Self, SinkError> {
        let paths = if fs::metadata(path).map_err(SinkError::io(path))?.is_file() {
            vec![path.to_owned()]
        } else {
            finished_files(path, &mut Vec::new())?
        };
        let files = paths.iter().map(|path| footer(path)).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = files.first() else {
            return Err(SinkError::Parquet {
                path: path.to_owned(),
                reason: "no finished Parquet file in this directory".into(),
            });
        };
        let first = first.schema.clone();
        let expected = expected.unwrap_or(&first);
        files.iter().try_for_each(|file| check(file, expected))?;
        Ok(Self { files, queue: paths.into(), current: None })
    }

    pub fn files(&self) -> &[ParquetFile] {
        &self.files
    }

    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    /// The metadata of all files; where they differ, the latest tells.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        self.files.iter().flat_map(|file| file.metadata.clone()).collect()
    }

    /// The file that the last batch came from.
    pub fn path(&self) -> Option<&Path> {
        self.current.as_ref().map(|current| current.path.as_path())
    }

    fn try_next(&mut self) -> Result<Option<RecordBatch>, SinkError> {
        loop {
            if let Some(Current { path, schema, reader }) = &mut self.current {
                match reader.next() {
                    Some(Ok(batch)) => {
                        let batch = batch.with_schema(Arc::clone(schema));
                        return batch.map(Some).map_err(|error| unreadable(path, &error));
                    }
                    Some(Err(error)) => return Err(unreadable(path, &error)),
                    None => self.current = None,
                }
            }
            let Some(path) = self.queue.pop_front() else { return Ok(None) };
            let builder = builder(&path)?.with_batch_size(BATCH_ROWS);
            let schema = Arc::clone(builder.schema());
            let reader = builder.build().map_err(|error| unreadable(&path, &error))?;
            self.current = Some(Current { path, schema, reader });
        }
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
    SinkError::Parquet { path: path.to_owned(), reason: format!("unreadable: {error}") }
}

fn builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, SinkError> {
    let file = File::open(path).map_err(SinkError::io(path))?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| unreadable(path, &error))
}

fn footer(path: &Path) -> Result<ParquetFile, SinkError> {
    let builder = builder(path)?;
    let footer = builder.metadata().file_metadata();
    let metadata = footer
        .key_value_metadata()
        .into_iter()
        .flatten()
        .filter(|pair| pair.key != "ARROW:schema")
        .map(|pair| (pair.key.clone(), pair.value.clone().unwrap_or_default()))
        .collect();
    Ok(ParquetFile {
        path: path.to_owned(),
        rows: u64::try_from(footer.num_rows()).unwrap_or_default(),
        schema: builder.schema().clone(),
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

/// Finished files below `directory`, sorted by file name; unfinished ones go to `leftovers`.
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
    found.sort_unstable_by(|a, b| (a.file_name(), a).cmp(&(b.file_name(), b)));
    Ok(found)
}
