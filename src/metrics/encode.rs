//! From rows and what they read to the text that Prometheus takes (OpenMetrics 1.0).

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text::encode as encode_text},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use super::{
    Board,
    histogram::Read,
    table::{Kind, ROWS, Row, Source},
};

/// What every name begins with.
pub const PREFIX: &str = "hedgerow";
/// Series that one row may have; more are left out. Rows have far fewer: labels are of closed sets.
pub const SERIES_MAX: usize = 128;
/// As the text says of itself.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Count(u64),
    /// A count in seconds, say.
    Sum(f64),
    Gauge(f64),
    Histogram(Read),
}

/// One series of a row: the values of its labels, in the order of [`Row::labels`].
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub labels: Vec<String>,
    pub value: Value,
}

/// What a row reads.
#[derive(Debug, Default)]
pub struct Samples(pub Vec<Sample>);

impl Samples {
    fn put(&mut self, labels: &[&str], value: Value) {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        self.0.push(Sample { labels, value });
    }
    pub fn count(&mut self, labels: &[&str], count: u64) {
        self.put(labels, Value::Count(count));
    }
    pub fn sum(&mut self, labels: &[&str], sum: f64) {
        self.put(labels, Value::Sum(sum));
    }
    pub fn gauge(&mut self, labels: &[&str], value: impl Into<f64>) {
        self.put(labels, Value::Gauge(value.into()));
    }
    pub fn number(&mut self, labels: &[&str], value: u64) {
        self.put(labels, Value::Gauge(value as f64));
    }
    /// One for each of a closed set: 1 for the one that holds, 0 for the others.
    pub fn one_of<'a>(&mut self, all: impl IntoIterator<Item = &'a str>, holds: &str) {
        for name in all {
            self.gauge(&[name], f64::from(u8::from(name == holds)));
        }
    }
    pub fn histogram(&mut self, labels: &[&str], read: Read) {
        self.put(labels, Value::Histogram(read));
    }
}

/// All rows as text.
pub fn text(board: Arc<Board>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Table(board)));
    let mut text = String::new();
    encode_text(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Table(Arc<Board>);

impl Collector for Table {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let source = Source::of(&self.0);
        for row in ROWS {
            encode_row(row, &source, &mut encoder)?;
        }
        Ok(())
    }
}

fn encode_row(
    row: &Row,
    source: &Source<'_>,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), fmt::Error> {
    let mut samples = Samples::default();
    (row.read)(source, &mut samples);
    if samples.0.is_empty() {
        return Ok(());
    }
    let unit = row.unit.map(|unit| Unit::Other(unit.to_owned()));
    let kind = match row.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
        Kind::Info => MetricType::Info,
    };
    let mut metric = encoder.encode_descriptor(row.name, row.help, unit.as_ref(), kind)?;
    for sample in samples.0.iter().take(SERIES_MAX) {
        let values = sample.labels.iter().map(String::as_str);
        let labels: Vec<(&str, &str)> = row.labels.iter().copied().zip(values).collect();
        let mut series = metric.encode_family(&labels)?;
        match (row.kind, labels.is_empty()) {
            (Kind::Info, _) => metric.encode_info(&labels)?,
            (_, true) => encode_value(&mut metric, &sample.value)?,
            (_, false) => encode_value(&mut series, &sample.value)?,
        }
    }
    Ok(())
}

fn encode_value(metric: &mut MetricEncoder<'_>, value: &Value) -> Result<(), fmt::Error> {
    match value {
        Value::Count(count) => metric.encode_counter::<NoLabelSet, _, u64>(count, None),
        Value::Sum(sum) => metric.encode_counter::<NoLabelSet, _, u64>(sum, None),
        Value::Gauge(value) => metric.encode_gauge(value),
        Value::Histogram(read) => {
            metric.encode_histogram::<NoLabelSet>(read.sum, read.count, &read.buckets, None)
        }
    }
}
