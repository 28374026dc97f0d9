//! Streams of a capture as Arrow.

use std::{path::PathBuf, sync::Arc};

use arrow::{
    array::{RecordBatch, RecordBatchReader},
    datatypes::{Schema, SchemaRef},
    error::ArrowError,
};
use arrow_pyarrow::IntoPyArrow;
use hedgerow_event::gate;
use hedgerow_sink::{
    SinkError,
    parquet::{Damaged, ParquetReader},
};
use pyo3::{exceptions::PyKeyError, prelude::*};

use crate::{Error, error};

/// One stream, a batch at a time; what can't be read is passed over and warned of.
struct Stream {
    reader: ParquetReader,
    schema: SchemaRef,
    /// Damaged files that were warned of.
    told: usize,
}

impl Stream {
    fn tell(&mut self) -> Result<(), ArrowError> {
        let damaged = &self.reader.damaged()[self.told..];
        self.told += damaged.len();
        if damaged.is_empty() {
            return Ok(());
        }
        Python::attach(|py| damaged.iter().try_for_each(|file| warn(py, file)))
            .map_err(|why| ArrowError::ExternalError(why.to_string().into()))
    }
}

fn warn(py: Python<'_>, file: &Damaged) -> PyResult<()> {
    let lost = match file.rows_lost {
        Some(rows) => format!("{rows} of its rows are lost"),
        None => format!("its {} bytes are lost", file.bytes),
    };
    let text = format!("{}: {}; {lost}", file.path.display(), file.reason);
    py.import("warnings")?.call_method1("warn", (gate::shown(&text),)).map(drop)
}

impl Iterator for Stream {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.reader.next();
        if let Err(why) = self.tell() {
            return Some(Err(why));
        }
        // Files of different versions have metadata of their own; a stream has one schema.
        let batch =
            next?.map_err(|why| ArrowError::ExternalError(hedgerow_detect::chain(&why).into()));
        Some(batch.and_then(|batch| {
            let fields = self.schema.fields().iter();
            let columns = fields.map(|field| {
                batch.column_by_name(field.name()).cloned().ok_or_else(|| {
                    ArrowError::SchemaError(format!("a file has no column {}", field.name()))
                })
            });
            RecordBatch::try_new(
                self.schema.clone(),
                columns.collect::<Result<Vec<_>, ArrowError>>()?,
            )
        }))
    }
}

impl RecordBatchReader for Stream {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

/// Where a stream lies: below what is named, or what is named is of it.
fn place(path: PathBuf, stream: &str) -> PyResult<PathBuf> {
    let within = path.join(stream);
    if within.is_dir() {
        return Ok(within);
    }
    let whole = path
        .canonicalize()
        .map_err(|why| error(SinkError::Io { path: path.clone(), source: why }))?;
    if whole.is_file() || whole.components().any(|part| part.as_os_str() == stream) {
        return Ok(path);
    }
    let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
    let mut there: Vec<String> = entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    there.sort();
    let (path, there) = (path.display(), there.join(", "));
    Err(Error::new_err(format!("no stream `{stream}` in {path}; there are {there}")))
}

/// Opens a stream of a capture, or any directory or file of one, as a `pyarrow.RecordBatchReader`.
#[pyfunction]
pub fn read_capture<'py>(
    py: Python<'py>,
    path: PathBuf,
    stream: &str,
    columns: Option<Vec<String>>,
) -> PyResult<Bound<'py, PyAny>> {
    let path = place(path, stream)?;
    let mut reader = ParquetReader::open_remains(&path, None).map_err(error)?;
    // It refuses to open without any file.
    let mut schema = reader.files()[0].schema.clone();
    if let Some(columns) = columns {
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        let fields = names.iter().map(|name| {
            let field = schema.fields().iter().find(|field| field.name() == name);
            field
                .cloned()
                .ok_or_else(|| PyKeyError::new_err(format!("{stream} have no column {name}")))
        });
        let fields = fields.collect::<PyResult<Vec<_>>>()?;
        schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        reader = reader.with_columns(&names);
    }
    let mut stream = Stream { reader, schema, told: 0 };
    stream.tell().map_err(error)?;
    let reader: Box<dyn RecordBatchReader + Send> = Box::new(stream);
    reader.into_pyarrow(py)
}
