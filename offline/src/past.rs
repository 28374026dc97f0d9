//! What the responder's decisions rested on while a capture was made: a stream beside its records, one
//! row whenever something of it changed, at the end of an epoch.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, RecordBatch, StringArray, UInt64Array},
    datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type},
};
use hedgerow_responder::grounds::Grounds;
use hedgerow_sink::parquet::{ParquetFile, ParquetReader};

use crate::{Error, Result};

const TIME: &str = "time_boot_ns";
const GROUNDS: &str = "grounds";
/// Bytes of one row; no responder writes more.
const BYTES_MAX: usize = 64 << 20;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(TIME, DataType::UInt64, false),
        Field::new(GROUNDS, DataType::Utf8, false),
    ]))
}

/// A row that says what held from a time since boot on.
///
/// # Errors
/// It can't be encoded.
pub fn batch(time_boot_ns: u64, grounds: &Grounds) -> Result<RecordBatch> {
    let text = serde_json::to_string(grounds)?;
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(UInt64Array::from(vec![time_boot_ns])),
        Arc::new(StringArray::from(vec![text])),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

/// What held from which time since boot on, in order; nothing where a capture doesn't say.
pub(crate) fn read(files: Vec<ParquetFile>) -> Result<Vec<(u64, Grounds)>> {
    let mut found = Vec::new();
    if files.is_empty() {
        return Ok(found);
    }
    let mut reader = ParquetReader::of(files, &schema()).map_err(Error::file)?;
    while let Some(batch) = reader.next() {
        let batch = batch.map_err(Error::file)?;
        let path = reader.path().unwrap_or_else(|| std::path::Path::new("")).to_owned();
        let (Some(times), Some(texts)) =
            (batch.column_by_name(TIME), batch.column_by_name(GROUNDS))
        else {
            continue;
        };
        let (times, texts) = (times.as_primitive::<UInt64Type>(), texts.as_string::<i32>());
        for row in 0..batch.num_rows() {
            if times.is_null(row) || texts.is_null(row) || texts.value(row).len() > BYTES_MAX {
                let why = format!("column `{GROUNDS}` is empty, or too long, in row {row}");
                return Err(Error::at(&path, why));
            }
            let grounds = Grounds::read(texts.value(row))
                .map_err(|why| Error::at(&path, format!("column `{GROUNDS}`, row {row}: {why}")))?;
            found.push((times.value(row), grounds));
        }
    }
    found.sort_by_key(|(time, _)| *time);
    Ok(found)
}
