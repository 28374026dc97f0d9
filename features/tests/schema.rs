//! The schema: what is written is read, what can't be read says which column is wrong.
#![allow(clippy::unwrap_used)]

mod common;

use std::{collections::HashSet, path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray, UInt64Array},
    compute::cast,
    datatypes::{DataType, Field, Schema},
};
use common::*;
use hedgerow_event::Family;
use hedgerow_features::{
    Baseline, COLUMNS, Config, Error, ItemKey, SCHEMA_VERSION, Window, WindowBuilder,
    columns_markdown, from_batch, matrix, matrix_families, matrix_names, records_markdown,
    schema_hash, to_batch,
};

fn windows() -> Vec<Window> {
    let mut builder = WindowBuilder::new(Config::new("host-1"), ItemKey(1));
    let a = subject("a.service", "/bin/a");
    builder.observe(&event(&a, 1, 4, rows(&[(4, 70), (24, 30)])));
    builder.close(&close(1), &Baseline::new(ItemKey(1), 1))
}

/// The batch with one column replaced, or left out.
fn edited(batch: &RecordBatch, name: &str, column: Option<ArrayRef>) -> RecordBatch {
    let schema = batch.schema();
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (field, old) in schema.fields().iter().zip(batch.columns()) {
        if field.name() != name {
            fields.push(field.as_ref().clone());
            columns.push(old.clone());
        } else if let Some(new) = &column {
            fields.push(Field::new(name, new.data_type().clone(), true));
            columns.push(new.clone());
        }
    }
    let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

#[test]
fn the_schema_of_this_version_never_changes() {
    // A new hash needs a new version and a note on what changed.
    assert_eq!(
        (SCHEMA_VERSION, schema_hash().as_str()),
        (1, "0f9b54e6913df1fd2289f98e1d5a69fe68bef31ae198cfa588ae162172f8ef5c")
    );
}

#[test]
fn columns_are_named_after_their_family_and_unit() {
    let units = ["count", "share", "bits", "rate", "bytes", "packets"];
    let mut names = HashSet::new();
    for column in COLUMNS.iter() {
        let name = &*column.name;
        assert!(name.starts_with(&format!("{}_", column.family)), "{name}");
        assert!(units.contains(&name.rsplit('_').next().unwrap()), "{name}");
        assert!(names.insert(name), "{name} twice");
        assert!(!column.doc.is_empty() && !column.doc.contains('|'), "{name}");
    }
    for family in [
        Family::Volume,
        Family::Errors,
        Family::Classes,
        Family::Shape,
        Family::Order,
        Family::Processes,
        Family::Files,
        Family::Flows,
        Family::Novelty,
        Family::Host,
    ] {
        assert!(matrix_families().contains(&family), "{family}");
    }
}

#[test]
fn the_documentation_is_that_of_the_columns() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    for (name, text) in [("columns.md", columns_markdown()), ("records.md", records_markdown())] {
        let path = docs.join(name);
        if std::env::var_os("HEDGEROW_UPDATE_DOCS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == text,
            "docs/{name} is out of date: HEDGEROW_UPDATE_DOCS=1 cargo test -p hedgerow-features"
        );
    }
}

#[test]
fn a_batch_that_another_program_rewrote_is_read() {
    let windows = windows();
    let batch = to_batch(&windows).unwrap();
    let mut rewritten = batch.clone();
    for (name, to) in [
        ("host", DataType::LargeUtf8),
        ("program", DataType::Utf8View),
        ("workload", DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))),
        ("epoch", DataType::Int64),
        ("volume_calls_count", DataType::Int64),
        ("errors_calls_share", DataType::Float32),
    ] {
        let column = cast(batch.column_by_name(name).unwrap(), &to).unwrap();
        rewritten = edited(&rewritten, name, Some(column));
    }
    // Metadata is lost on the way, and a partition column came in.
    let schema = rewritten.schema();
    let mut fields: Vec<Field> =
        schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new("date", DataType::Utf8, true));
    let mut columns = rewritten.columns().to_vec();
    columns.push(Arc::new(StringArray::from(vec!["2026-01-01"; windows.len()])));
    let rewritten = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    assert_eq!(from_batch(&rewritten).unwrap(), windows);
}

#[test]
fn what_is_wrong_is_named() {
    let batch = to_batch(&windows()).unwrap();
    let rows = batch.num_rows();
    let text = |value: &str| -> ArrayRef { Arc::new(StringArray::from(vec![value; rows])) };
    let check = |name, column, wanted: &str| {
        let error = from_batch(&edited(&batch, name, column)).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(wanted), "{error}");
    };
    check("flows_out_bytes", None, "missing");
    check("scale", Some(text("2w")), "none of 5s, 1m, 1h");
    check("volume_calls_count", Some(text("many")), "can't be read as");
    check("epoch", Some(Arc::new(UInt64Array::from(vec![1 << 40; rows]))), "can't be read as");
    check("records", Some(Arc::new(UInt64Array::from(vec![None; rows]))), "is empty in row 0");
    check("end_boot_ns", Some(Arc::new(UInt64Array::from(vec![0; rows]))), "before");
}

#[test]
fn another_version_is_refused() {
    let batch = to_batch(&windows()).unwrap();
    let with = |key: &str, value: &str| {
        let schema = batch.schema();
        let mut metadata = schema.metadata().clone();
        metadata.insert(key.to_owned(), value.to_owned());
        let schema = Schema::new_with_metadata(schema.fields().clone(), metadata);
        RecordBatch::try_new(Arc::new(schema), batch.columns().to_vec()).unwrap()
    };
    let error = from_batch(&with("hedgerow.schema_version", "7")).unwrap_err();
    assert!(matches!(error, Error::Version { .. }), "{error}");
    let error = from_batch(&with("hedgerow.schema_hash", "00")).unwrap_err();
    assert!(matches!(error, Error::Hash { .. }), "{error}");
}

#[test]
fn the_matrix_follows_the_schema_and_keeps_what_is_unavailable() {
    let windows = windows();
    let values = matrix(&windows);
    let names = matrix_names();
    assert_eq!(values.dim(), (windows.len(), names.len()));
    assert_eq!(names.len(), matrix_families().len());
    for (row, window) in windows.iter().enumerate() {
        for (column, name) in names.iter().enumerate() {
            let value = values[(row, column)];
            match window.value(name) {
                Some(wanted) => assert_eq!(value, wanted as f32, "{name}"),
                None => assert!(value.is_nan(), "{name}"),
            }
        }
    }
}
