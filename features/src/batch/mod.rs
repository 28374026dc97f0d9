//! Windows and events as Arrow batches, and back.
//!
//! One definition serves both ways: a schema's fields, in order, each written from a row and read
//! by its name. Readers take a column in any Arrow type that casts to the schema's (polars and
//! DuckDB rewrite strings and integers as they like), ignore columns that they don't know, and name
//! the column that is wrong.

mod read;
mod windows;

pub use windows::{SCHEMA_VERSION, from_batch, schema, schema_hash, to_batch};
