//! Scores of windows as Parquet.

use std::{path::Path, sync::Arc};

use arrow::{
    array::{
        ArrayRef, Float32Array, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray,
        UInt32Array,
    },
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};
use hedgerow_sink::parquet::{ParquetConfig, ParquetSink};

use hedgerow_detect::{DEVIATIONS, WindowScore, deviation_columns};

use crate::{Error, Result};

/// Name of the stream below the directory.
pub(crate) const SCORES: &str = "scores";
/// Rows of one batch.
const BATCH: usize = 8192;

/// Writes one row for each judged window and early row.
#[derive(Debug)]
pub struct Scores {
    sink: ParquetSink,
    host: String,
    waiting: Vec<WindowScore>,
}

fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

/// A column: its name, type, whether it may be empty, and what it means.
type Column = (&'static str, fn() -> DataType, bool, &'static str);

const COLUMNS: &[Column] = &[
    ("host", || DataType::Utf8, false, "the host's id"),
    ("workload", || DataType::Utf8, false, "as in windows"),
    ("program", || DataType::Utf8, false, "as in windows"),
    ("script", || DataType::Utf8, true, "as in windows"),
    ("scale_epochs", || DataType::UInt32, false, "length of the window, in epochs of 5 s"),
    ("epoch", || DataType::UInt32, false, "the kernel's number of the window's first 5 s"),
    ("early", || DataType::UInt32, true, "index of a row judged before the window closed"),
    ("window_start", utc, false, "wall time"),
    ("window_end", utc, false, "wall time"),
    ("score", || DataType::Float64, false, "the isolation forest's, in (0, 1] (Liu 2008)"),
    (
        "surprise_nats",
        || DataType::Float64,
        true,
        "-ln of the probability of such a measure within an hour; empty before any was held back",
    ),
    ("floor_nats", || DataType::Float64, false, "the surprise from which a measure notifies"),
    ("finding_uid", || DataType::Utf8, true, "the finding that the window is part of"),
];
/// The schema of scores; behind what was scored comes what the forest read of it.
pub fn scores_schema() -> SchemaRef {
    let own =
        COLUMNS.iter().map(|(name, data_type, empty, _)| Field::new(*name, data_type(), *empty));
    let read = deviation_columns().into_iter();
    let read = read.map(|name| Field::new(name, DataType::Float32, false));
    Arc::new(Schema::new(own.chain(read).collect::<Vec<_>>()))
}

/// Name, type and meaning of each column.
pub(crate) fn docs() -> impl Iterator<Item = (String, String, &'static str)> {
    let own = COLUMNS
        .iter()
        .map(|(name, data_type, _, doc)| ((*name).to_owned(), data_type().to_string(), *doc));
    let read = deviation_columns().into_iter().map(|name| {
        let doc = match name.ends_with("excess") {
            true => "how far beyond all values that were seen",
            false => "how far from the subject's usual values",
        };
        (name, DataType::Float32.to_string(), doc)
    });
    own.chain(read)
}

impl Scores {
    pub fn open(directory: &Path, host: &str) -> Result<Self> {
        let sink = ParquetSink::open(ParquetConfig::whole(directory, host)).map_err(Error::file)?;
        Ok(Self { sink, host: host.to_owned(), waiting: Vec::new() })
    }

    pub fn add(&mut self, score: WindowScore) -> Result<()> {
        self.waiting.push(score);
        if self.waiting.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    pub fn finish(mut self) -> Result<()> {
        self.flush()?;
        self.sink.finish().map(drop).map_err(Error::file)
    }

    fn flush(&mut self) -> Result<()> {
        let Some(first) = self.waiting.first() else { return Ok(()) };
        let time_ns = first.window_end_ns;
        let batch = batch(&self.host, &self.waiting)?;
        self.waiting.clear();
        self.sink.write(SCORES, &batch, time_ns).map_err(Error::file)
    }
}

fn batch(host: &str, scores: &[WindowScore]) -> Result<RecordBatch> {
    let text = |of: fn(&WindowScore) -> Option<&str>| -> ArrayRef {
        Arc::new(scores.iter().map(of).collect::<StringArray>())
    };
    let number = |of: fn(&WindowScore) -> Option<f64>| -> ArrayRef {
        Arc::new(scores.iter().map(of).collect::<Float64Array>())
    };
    let count = |of: fn(&WindowScore) -> Option<u32>| -> ArrayRef {
        Arc::new(scores.iter().map(of).collect::<UInt32Array>())
    };
    let time = |of: fn(&WindowScore) -> i64| -> ArrayRef {
        let times: TimestampNanosecondArray = scores.iter().map(|score| Some(of(score))).collect();
        Arc::new(times.with_timezone("UTC"))
    };
    let hosts = StringArray::from_iter_values(scores.iter().map(|_| host));
    let mut columns = vec![
        Arc::new(hosts) as ArrayRef,
        text(|score| Some(score.subject.workload.as_str())),
        text(|score| Some(&*score.subject.program.path)),
        text(|score| score.subject.program.script.as_deref()),
        count(|score| Some(score.scale.epochs())),
        count(|score| Some(score.epoch)),
        count(|score| score.early),
        time(|score| score.window_start_ns),
        time(|score| score.window_end_ns),
        number(|score| Some(score.score)),
        number(|score| score.surprise),
        number(|score| Some(score.floor)),
        text(|score| score.finding_uid.as_deref()),
    ];
    columns.extend((0..DEVIATIONS).map(|at| {
        let values = scores.iter().map(|score| score.row[at]);
        Arc::new(Float32Array::from_iter_values(values)) as ArrayRef
    }));
    Ok(RecordBatch::try_new(scores_schema(), columns)?)
}
