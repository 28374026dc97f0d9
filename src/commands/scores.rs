//! Scores of windows as Parquet.

use std::{path::Path, sync::Arc};

use arrow::{
    array::{
        ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array,
    },
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};
use hedgerow_sink::parquet::{ParquetConfig, ParquetSink};

use hedgerow_detect::WindowScore;

use crate::exit::Failure;

/// Name of the stream below the directory.
const STREAM: &str = "scores";
/// Rows of one batch.
const BATCH: usize = 8192;

/// Writes one row for each judged window and early row.
pub struct Scores {
    sink: ParquetSink,
    host: String,
    waiting: Vec<WindowScore>,
}

fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

fn scores_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("host", DataType::Utf8, false),
        Field::new("workload", DataType::Utf8, false),
        Field::new("program", DataType::Utf8, false),
        Field::new("script", DataType::Utf8, true),
        Field::new("scale_epochs", DataType::UInt32, false),
        Field::new("epoch", DataType::UInt32, false),
        Field::new("early", DataType::UInt32, true),
        Field::new("window_start", utc(), false),
        Field::new("window_end", utc(), false),
        Field::new("score", DataType::Float64, false),
        Field::new("surprise_nats", DataType::Float64, true),
        Field::new("floor_nats", DataType::Float64, false),
        Field::new("finding_uid", DataType::Utf8, true),
    ]))
}

impl Scores {
    pub fn open(directory: &Path, host: &str) -> anyhow::Result<Self> {
        let sink = ParquetSink::open(ParquetConfig::new(directory, host)).map_err(Failure::file)?;
        Ok(Self { sink, host: host.to_owned(), waiting: Vec::new() })
    }

    pub fn add(&mut self, score: WindowScore) -> anyhow::Result<()> {
        self.waiting.push(score);
        if self.waiting.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    pub fn finish(mut self) -> anyhow::Result<()> {
        self.flush()?;
        self.sink.finish().map(drop).map_err(|why| Failure::file(why).into())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let Some(first) = self.waiting.first() else { return Ok(()) };
        let time_ns = first.window_end_ns;
        let batch = batch(&self.host, &self.waiting)?;
        self.waiting.clear();
        self.sink.write(STREAM, &batch, time_ns).map_err(|why| Failure::file(why).into())
    }
}

fn batch(host: &str, scores: &[WindowScore]) -> anyhow::Result<RecordBatch> {
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
    let columns = vec![
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
    Ok(RecordBatch::try_new(scores_schema(), columns)?)
}
