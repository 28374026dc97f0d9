//! Windows as Arrow batches, and back: keys, what is missing, then a column for each feature.
//!
//! One definition serves both ways: a schema's fields, in order, each written from a row and read
//! by its name. Readers take a column in any Arrow type that casts to the schema's (polars and
//! DuckDB rewrite strings and integers as they like), ignore columns that they don't know, and name
//! the column that is wrong.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use arrow::{
    array::{
        ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
        TimestampNanosecondArray, UInt32Array, UInt64Array,
    },
    datatypes::{
        DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit, UInt32Type,
        UInt64Type,
    },
};
use hedgerow_event::{Digest, Epoch, Loss, Program, Scale, Subject, Workload};
use sha2::{Digest as _, Sha256};

use crate::{
    Error,
    column::Kind,
    columns::COLUMNS,
    read::{Flags, Numbers, Texts},
    window::{Window, WindowTime},
};

/// Version of the windows' schema; a change of names, types or order makes a new one.
pub const SCHEMA_VERSION: u32 = 1;
/// Metadata keys that carry version and hash in every batch.
const VERSION_KEY: &str = "hedgerow.schema_version";
const HASH_KEY: &str = "hedgerow.schema_hash";

/// A key column: how it is called, typed and written.
struct Key {
    name: &'static str,
    data_type: fn() -> DataType,
    nullable: bool,
    doc: &'static str,
    write: fn(&[Window]) -> ArrayRef,
}

fn wall_time() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

fn wall(windows: &[Window], boot_ns: fn(&WindowTime) -> u64) -> ArrayRef {
    let times = windows.iter().map(|window| {
        window.time.realtime_offset_ns.saturating_add_unsigned(boot_ns(&window.time))
    });
    Arc::new(TimestampNanosecondArray::from_iter_values(times).with_timezone("UTC"))
}

fn texts<'a>(windows: &'a [Window], value: fn(&'a Window) -> Option<&'a str>) -> ArrayRef {
    Arc::new(windows.iter().map(value).collect::<StringArray>())
}

fn numbers(windows: &[Window], value: fn(&Window) -> u64) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(windows.iter().map(value)))
}

fn smalls(windows: &[Window], value: fn(&Window) -> Option<u32>) -> ArrayRef {
    Arc::new(windows.iter().map(value).collect::<UInt32Array>())
}

fn flags(windows: &[Window], value: fn(&Window) -> bool) -> ArrayRef {
    Arc::new(windows.iter().map(|window| Some(value(window))).collect::<BooleanArray>())
}

macro_rules! key {
    ($name:literal, $type:expr, $doc:literal, $write:expr) => {
        Key { name: $name, data_type: || $type, nullable: false, doc: $doc, write: $write }
    };
    ($name:literal, null $type:expr, $doc:literal, $write:expr) => {
        Key { name: $name, data_type: || $type, nullable: true, doc: $doc, write: $write }
    };
}

/// The columns before the features, in order.
const KEYS: &[Key] = &[
    key!("host", DataType::Utf8, "the host's id", |w| texts(w, |w| Some(&w.host))),
    key!("workload", DataType::Utf8, "unit, container or pod, or `host`", |w| {
        texts(w, |w| Some(w.subject.workload.as_str()))
    }),
    key!(
        "program",
        DataType::Utf8,
        "path; `(other)` for merged subjects, `(kernel)` for the host",
        |w| { texts(w, |w| Some(&w.subject.program.path)) }
    ),
    key!("script", null DataType::Utf8, "script of an interpreter", |w| {
        texts(w, |w| w.subject.program.script.as_deref())
    }),
    key!("scale", DataType::Utf8, "length of the window: 5s, 1m, 1h", |w| {
        texts(w, |w| Some(scale_name(w.time.scale)))
    }),
    key!("epoch", DataType::UInt32, "the kernel's number of the window's first 5 s", |w| {
        smalls(w, |w| Some(w.time.epoch.0))
    }),
    key!("early", null DataType::UInt32, "index of a row made before the window closed", |w| {
        smalls(w, |w| w.early)
    }),
    key!("start", wall_time(), "wall time", |w| wall(w, |time| time.start_boot_ns)),
    key!("end", wall_time(), "wall time", |w| wall(w, |time| time.end_boot_ns)),
    key!("start_boot_ns", DataType::UInt64, "`CLOCK_BOOTTIME`", |w| {
        numbers(w, |w| w.time.start_boot_ns)
    }),
    key!("end_boot_ns", DataType::UInt64, "`CLOCK_BOOTTIME`", |w| {
        numbers(w, |w| w.time.end_boot_ns)
    }),
    key!(
        "realtime_offset_ns",
        DataType::Int64,
        "`CLOCK_REALTIME - CLOCK_BOOTTIME` at the end",
        |w| { Arc::new(Int64Array::from_iter_values(w.iter().map(|w| w.time.realtime_offset_ns))) }
    ),
    key!(
        "suspended_ns",
        DataType::UInt64,
        "time suspended; above 100 ms there are no rates",
        |w| { numbers(w, |w| w.time.suspended_ns) }
    ),
    key!("parts", DataType::UInt32, "epochs watched without a suspend", |w| {
        smalls(w, |w| Some(w.time.parts))
    }),
    key!("valid", DataType::Boolean, "`parts` is at least 10/12 of the window", |w| {
        flags(w, |w| w.time.is_valid())
    }),
    key!("hard", DataType::Boolean, "a hard signal was seen; the subject was not merged", |w| {
        flags(w, |w| w.hard)
    }),
    key!("programs", DataType::UInt64, "distinct programs in the row", |w| {
        numbers(w, |w| w.programs)
    }),
    key!("records", DataType::UInt64, "events counted in the row", |w| numbers(w, |w| w.records)),
    key!("lost", DataType::UInt64, "records of the row's threads that found a full ring", |w| {
        numbers(w, |w| w.loss.lost)
    }),
    key!("late", DataType::UInt64, "records in the row that belong to another window", |w| {
        numbers(w, |w| w.loss.late)
    }),
    key!("limited", DataType::UInt64, "records that a token bucket held back by design", |w| {
        numbers(w, |w| w.loss.limited)
    }),
    key!(
        "unattributed_lost",
        DataType::UInt64,
        "lost records of the host, charged to no thread",
        |w| { numbers(w, |w| w.time.unattributed.lost) }
    ),
    key!("unattributed_late", DataType::UInt64, "the same, late", |w| {
        numbers(w, |w| w.time.unattributed.late)
    }),
    key!("unattributed_limited", DataType::UInt64, "the same, limited", |w| {
        numbers(w, |w| w.time.unattributed.limited)
    }),
];

/// Name, type and meaning of the key columns.
pub(crate) fn key_docs() -> impl Iterator<Item = (&'static str, String, &'static str)> {
    KEYS.iter().map(|key| (key.name, (key.data_type)().to_string(), key.doc))
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let keys = KEYS.iter().map(|key| Field::new(key.name, (key.data_type)(), key.nullable));
    let features = COLUMNS.iter().map(|column| {
        let data_type = match column.kind {
            Kind::Count => DataType::UInt64,
            Kind::Measure => DataType::Float64,
        };
        Field::new(column.name.clone(), data_type, true)
    });
    let fields: Vec<Field> = keys.chain(features).collect();
    let hash = fields_hash(&fields);
    let metadata = HashMap::from([
        (VERSION_KEY.to_owned(), SCHEMA_VERSION.to_string()),
        (HASH_KEY.to_owned(), hash),
    ]);
    Arc::new(Schema::new_with_metadata(fields, metadata))
});

/// The schema of windows, with its version and hash as metadata.
pub fn schema() -> SchemaRef {
    SCHEMA.clone()
}

/// SHA-256 (hexadecimal) over names, types and nullability of all columns in order.
pub fn schema_hash() -> String {
    SCHEMA.metadata().get(HASH_KEY).cloned().unwrap_or_default()
}

fn fields_hash(fields: &[Field]) -> String {
    let mut hash = Sha256::new();
    for field in fields {
        let line = format!("{}:{}:{}\n", field.name(), field.data_type(), field.is_nullable());
        hash.update(line.as_bytes());
    }
    Digest(hash.finalize().into()).to_string()
}

/// Name of a scale in the `scale` column.
pub fn scale_name(scale: Scale) -> &'static str {
    match scale {
        Scale::Seconds5 => "5s",
        Scale::Minute => "1m",
        Scale::Hour => "1h",
    }
}

/// Windows as a batch of [`schema`].
///
/// # Errors
/// [`Error::Arrow`] where a window's number of values is not the schema's.
pub fn to_batch(windows: &[Window]) -> Result<RecordBatch, Error> {
    let keys = KEYS.iter().map(|key| (key.write)(windows));
    let features = COLUMNS.iter().enumerate().map(|(at, column)| -> ArrayRef {
        let values = windows
            .iter()
            .map(|window| window.values.get(at).copied().filter(|value| !value.is_nan()));
        match column.kind {
            Kind::Count => Arc::new(
                values.map(|value| value.map(|value| value as u64)).collect::<UInt64Array>(),
            ),
            Kind::Measure => Arc::new(values.collect::<Float64Array>()),
        }
    });
    Ok(RecordBatch::try_new(schema(), keys.chain(features).collect())?)
}

/// Windows out of a batch that [`to_batch`] made, also after another program rewrote it.
///
/// # Errors
/// The version or a hash in the metadata is another one; a column is missing, has a type that does
/// not cast, an empty key, or a value that can't be: the message names it.
pub fn from_batch(batch: &RecordBatch) -> Result<Vec<Window>, Error> {
    check_version(batch)?;
    let columns = Keys::open(batch)?;
    let mut windows =
        (0..batch.num_rows()).map(|row| columns.window(row)).collect::<Result<Vec<_>, _>>()?;
    for (at, column) in COLUMNS.iter().enumerate() {
        match column.kind {
            Kind::Count => {
                let numbers = Numbers::<UInt64Type>::open(batch, &column.name)?;
                for (row, window) in windows.iter_mut().enumerate() {
                    window.values[at] = numbers.maybe(row).map_or(f64::NAN, |value| value as f64);
                }
            }
            Kind::Measure => {
                let numbers = Numbers::<Float64Type>::open(batch, &column.name)?;
                for (row, window) in windows.iter_mut().enumerate() {
                    let value = numbers.maybe(row).unwrap_or(f64::NAN);
                    if value.is_infinite() {
                        return Err(numbers.bad(row, "no number that was measured"));
                    }
                    window.values[at] = value;
                }
            }
        }
    }
    Ok(windows)
}

/// Metadata may be gone (other writers drop it); where it is there it must be ours.
fn check_version(batch: &RecordBatch) -> Result<(), Error> {
    let schema = batch.schema();
    if let Some(found) = schema.metadata().get(VERSION_KEY)
        && *found != SCHEMA_VERSION.to_string()
    {
        return Err(Error::Version { found: found.clone(), wanted: SCHEMA_VERSION });
    }
    let wanted = schema_hash();
    match schema.metadata().get(HASH_KEY) {
        Some(found) if *found != wanted => {
            Err(Error::Hash { version: SCHEMA_VERSION, found: found.clone(), wanted })
        }
        _ => Ok(()),
    }
}

/// The key columns of a batch, opened for reading.
struct Keys {
    texts: [Texts; 4],
    scale: Texts,
    epoch: Numbers<UInt32Type>,
    early: Numbers<UInt32Type>,
    parts: Numbers<UInt32Type>,
    offset: Numbers<Int64Type>,
    hard: Flags,
    start: Numbers<UInt64Type>,
    end: Numbers<UInt64Type>,
    suspended: Numbers<UInt64Type>,
    programs: Numbers<UInt64Type>,
    records: Numbers<UInt64Type>,
    own: [Numbers<UInt64Type>; 3],
    unattributed: [Numbers<UInt64Type>; 3],
}

impl Keys {
    fn open(batch: &RecordBatch) -> Result<Self, Error> {
        let text = |name| Texts::open(batch, name);
        let number = |name| Numbers::open(batch, name);
        Ok(Self {
            texts: [text("host")?, text("workload")?, text("program")?, text("script")?],
            scale: text("scale")?,
            epoch: Numbers::open(batch, "epoch")?,
            early: Numbers::open(batch, "early")?,
            parts: Numbers::open(batch, "parts")?,
            offset: Numbers::open(batch, "realtime_offset_ns")?,
            hard: Flags::open(batch, "hard")?,
            start: number("start_boot_ns")?,
            end: number("end_boot_ns")?,
            suspended: number("suspended_ns")?,
            programs: number("programs")?,
            records: number("records")?,
            own: [number("lost")?, number("late")?, number("limited")?],
            unattributed: [
                number("unattributed_lost")?,
                number("unattributed_late")?,
                number("unattributed_limited")?,
            ],
        })
    }

    fn window(&self, row: usize) -> Result<Window, Error> {
        let [host, workload, program, script] = &self.texts;
        let subject = Subject {
            workload: Workload::new(workload.get(row)?),
            program: Program {
                path: program.get(row)?.into(),
                script: script.maybe(row).map(Into::into),
            },
        };
        let loss = |[lost, late, limited]: &[Numbers<UInt64Type>; 3]| {
            Ok::<_, Error>(Loss {
                lost: lost.get(row)?,
                late: late.get(row)?,
                limited: limited.get(row)?,
            })
        };
        let scale = match self.scale.get(row)? {
            "5s" => Scale::Seconds5,
            "1m" => Scale::Minute,
            "1h" => Scale::Hour,
            _ => return Err(self.scale.bad(row, "none of 5s, 1m, 1h")),
        };
        let (start_boot_ns, end_boot_ns) = (self.start.get(row)?, self.end.get(row)?);
        if end_boot_ns < start_boot_ns {
            return Err(self.end.bad(row, "before the window's start"));
        }
        Ok(Window {
            host: host.get(row)?.into(),
            subject: Arc::new(subject),
            time: WindowTime {
                scale,
                epoch: Epoch(self.epoch.get(row)?),
                parts: self.parts.get(row)?,
                start_boot_ns,
                end_boot_ns,
                realtime_offset_ns: self.offset.get(row)?,
                suspended_ns: self.suspended.get(row)?,
                unattributed: loss(&self.unattributed)?,
                shed: false,
            },
            early: self.early.maybe(row),
            hard: self.hard.get(row)?,
            programs: self.programs.get(row)?,
            records: self.records.get(row)?,
            loss: loss(&self.own)?,
            values: vec![f64::NAN; COLUMNS.len()].into(),
        })
    }
}
