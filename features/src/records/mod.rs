//! Everything that the sensors delivered, as rows: what `capture` writes and the offline side reads.
//!
//! One wide schema for all kinds, so that one file keeps the order of delivery; the columns of other
//! kinds are null and cost next to nothing in Parquet. Reading takes what writing gave, also with
//! columns in another Arrow type that casts, and says which column of which row is wrong.

mod read;
mod write;

use std::{fmt::Write, sync::Arc};

use arrow::{
    array::{RecordBatch, new_null_array},
    datatypes::{Field, Schema, SchemaRef},
};
use hedgerow_event::{Epoch, EpochClose, Event, GramReport, Origin, Subject};

use crate::{Error, Window};
use read::Reader;
use write::COLUMNS;

/// Version of the records' schema; a change of names, types or order makes a new one. Older ones are
/// read; what they don't hold is unknown.
pub const RECORDS_VERSION: u32 = 5;
/// Columns that the first version didn't have, with the first that has them.
const LATER: [(&str, u32); 7] = [
    ("exec_socket_io", 2),
    ("exec_under_listener", 2),
    ("exec_provenance", 2),
    ("exec_root_tgid", 3),
    ("exec_root_start_boot_ns", 3),
    ("exec_of_host", 4),
    ("close_shed", 5),
];
const VERSION_KEY: &str = "hedgerow.records_version";

/// One row of a capture.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    Event(Event),
    /// n-grams of a program in one window that its profile did not hold.
    Grams(GramReport),
    /// An epoch was closed here: what follows of it is late.
    Close(EpochClose),
    /// A subject's window was looked at here, before its epoch closed: the row that was judged is
    /// the one at the same place in the stream of early rows.
    Early(EarlyLook),
}

/// When a subject was looked at early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlyLook {
    pub epoch: Epoch,
    pub time_boot_ns: u64,
    pub subject: Arc<Subject>,
}

impl From<&Window> for EarlyLook {
    /// The look that gave an early row.
    fn from(early: &Window) -> Self {
        Self {
            epoch: early.time.epoch,
            time_boot_ns: early.time.end_boot_ns,
            subject: early.subject.clone(),
        }
    }
}

impl From<Event> for Record {
    fn from(event: Event) -> Self {
        Self::Event(event)
    }
}

/// Kinds of records by their name in the column `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
enum Kind {
    Row = 1,
    Exec = 2,
    Fork = 4,
    Exit = 8,
    Call = 16,
    Flow = 32,
    Signal = 64,
    Raw = 128,
    Grams = 256,
    Close = 512,
    Early = 1024,
}

impl Kind {
    const ALL: [(Self, &'static str); 11] = [
        (Self::Row, "row"),
        (Self::Exec, "exec"),
        (Self::Fork, "fork"),
        (Self::Exit, "exit"),
        (Self::Call, "call"),
        (Self::Flow, "flow"),
        (Self::Signal, "signal"),
        (Self::Raw, "raw"),
        (Self::Grams, "grams"),
        (Self::Close, "close"),
        (Self::Early, "early"),
    ];

    fn of(record: &Record) -> Self {
        let event = match record {
            Record::Event(event) => event,
            Record::Grams(_) => return Self::Grams,
            Record::Close(_) => return Self::Close,
            Record::Early(_) => return Self::Early,
        };
        match event.origin {
            Origin::Row(_) => Self::Row,
            Origin::Exec(_) => Self::Exec,
            Origin::Fork(_) => Self::Fork,
            Origin::Exit(_) => Self::Exit,
            Origin::Call(_) => Self::Call,
            Origin::Flow(_) => Self::Flow,
            Origin::Signal(_) => Self::Signal,
            Origin::Raw(_) => Self::Raw,
        }
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }
}

/// The schema of records, with its version as metadata.
pub fn records_schema() -> SchemaRef {
    let fields: Vec<Field> = COLUMNS
        .iter()
        .map(|column| Field::new(column.name, (column.data_type)(), column.is_nullable()))
        .collect();
    let metadata = [(VERSION_KEY.to_owned(), RECORDS_VERSION.to_string())];
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

/// The columns that records of every version have: what a reader may ask of a file.
pub fn records_schema_least() -> SchemaRef {
    let schema = records_schema();
    let later = |field: &Field| LATER.iter().any(|(name, _)| name == field.name());
    let fields = schema.fields().iter().filter(|field| !later(field));
    Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
}

/// Records as a batch of [`records_schema`].
///
/// # Errors
/// [`Error::Arrow`] where the batch can't be built.
pub fn records_to_batch(records: &[Record]) -> Result<RecordBatch, Error> {
    let kinds = records.iter().fold(0, |kinds, record| kinds | Kind::of(record) as u16);
    let columns = COLUMNS.iter().map(|column| {
        if column.kinds & kinds == 0 && column.is_nullable() {
            new_null_array(&(column.data_type)(), records.len())
        } else {
            (column.write)(records)
        }
    });
    Ok(RecordBatch::try_new(records_schema(), columns.collect())?)
}

/// Records out of a batch.
///
/// # Errors
/// Another version in the metadata; a column is missing or has a type that does not cast; a row of
/// a kind lacks a value of that kind, or has one that can't be. The message names column and row.
pub fn records_from_batch(batch: &RecordBatch) -> Result<Vec<Record>, Error> {
    if let Some(found) = batch.schema().metadata().get(VERSION_KEY)
        && !version(batch).is_some_and(|version| (1..=RECORDS_VERSION).contains(&version))
    {
        return Err(Error::Version { found: found.clone(), wanted: RECORDS_VERSION });
    }
    let mut reader = Reader::open(batch)?;
    (0..batch.num_rows()).map(|row| reader.record(row)).collect()
}

/// The version that a batch says it has.
fn version(batch: &RecordBatch) -> Option<u32> {
    batch.schema().metadata().get(VERSION_KEY)?.parse().ok()
}

/// Markdown that lists the columns of records, in order.
pub fn records_markdown() -> String {
    let mut text = format!(
        "# Columns of a record\n\n\
         Records version {RECORDS_VERSION}: one row for each thing that the sensors delivered, in the \
         order of delivery. A column is empty in rows of other kinds. What the values mean is said at \
         the types of the crate `hedgerow-event` that carry the kinds' names. This file is generated \
         and checked like `columns.md`.\n\n\
         | column | type | kinds |\n|---|---|---|\n"
    );
    for column in COLUMNS {
        let kinds = Kind::ALL.iter().filter(|(kind, _)| column.kinds & *kind as u16 != 0);
        let names: Vec<&str> = kinds.map(|(_, name)| *name).collect();
        let kinds = if column.is_nullable() { names.join(", ") } else { "all".to_owned() };
        // Writing to a String does not fail.
        let _ = writeln!(text, "| `{}` | {} | {kinds} |", column.name, (column.data_type)());
    }
    text
}
