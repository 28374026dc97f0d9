//! Windows of events as Arrow batches, and batches as matrices.
//!
//! [`WindowBuilder`] adds up events by subject and epoch; [`WindowBuilder::close`] turns them into
//! [`Window`]s, whose columns are defined once, in [`COLUMNS`], with name, meaning and formula.
//! [`Baseline`] remembers what was seen while learning. [`to_batch`] and [`from_batch`] carry
//! windows through Arrow, [`matrix()`] hands them to the model. Nothing here does IO or reads a
//! clock.

mod accumulate;
mod baseline;
mod batch;
mod beacon;
mod builder;
mod column;
mod columns;
mod docs;
mod error;
pub mod fair;
mod families;
mod imagined;
mod item;
mod matrix;
mod offline;
mod part;
mod places;
mod read;
mod records;
mod sketch;
mod window;

pub use baseline::{
    Baseline, DISTRUSTED_LIMIT, Incidence, Known, PENDING_LIMIT, Phase, Set, WORKLOADS_LIMIT,
    is_shell, keep_least, parent_of,
};
pub use batch::{SCHEMA_VERSION, from_batch, schema, schema_hash, to_batch};
pub use builder::{OPEN_EPOCHS_LIMIT, ROWS_FACTOR, WindowBuilder};
pub use column::{COUNT_MAX, Column, Kind, Sensors, Source};
pub use columns::{COLUMNS, MATRIX_COLUMNS, column_index};
pub use docs::columns_markdown;
pub use error::Error;
pub use imagined::Imagined;
pub use item::{EPHEMERAL_PORT_FIRST, ItemKey};
pub use matrix::{matrix, matrix_families, matrix_names};
pub use offline::{Checker, Counted, Counter, Cut, Extractor, GramsAt, THREADS_LIMIT};
pub use places::{Place, is_place_directory, is_sensitive, place_of, process_file};
pub use records::{
    EarlyLook, RECORDS_VERSION, Record, records_from_batch, records_markdown, records_schema,
    records_schema_least, records_to_batch,
};
pub use sketch::SKETCH_LIMIT;
pub use window::{Config, EPOCH_NS, SUSPEND_LIMIT_NS, Window, WindowTime};
