//! The one list of sinks. A sink is a file in `sink/`, a row here and a table in `config.rs`; the
//! terminal and the findings' own file, which commands read, are no sinks: they can't be left out.

use std::time::Duration;

use hedgerow_sink::{
    JsonlSink, Sink, SinkError,
    journald::JournaldSink,
    kafka::{Connection, KafkaSink},
};

use crate::{config::Config, exit::Failure};

/// A broker is waited for so long at the start.
const BROKER: Duration = Duration::from_secs(5);

/// A sink that takes reports, or why it can't.
type Opened = anyhow::Result<Box<dyn Sink>>;

/// A row of the list.
pub struct Row {
    /// Of its table in the configuration, and of its metrics.
    #[cfg_attr(not(test), expect(dead_code))]
    pub name: &'static str,
    /// What becomes of a report that finds no room; docs/configuration.md has it word for word.
    #[cfg_attr(not(test), expect(dead_code))]
    pub when_full: &'static str,
    /// Nothing where its table isn't there.
    pub open: fn(&Config) -> Option<Opened>,
}

pub const SINKS: &[Row] = &[
    Row {
        name: KafkaSink::NAME,
        when_full: "waits in a spool on disk (64 MiB); past it the newest are lost and counted",
        open: |config| {
            config.kafka.clone().map(|kafka| opened(KafkaSink::start(kafka), open_kafka))
        },
    },
    Row {
        name: JsonlSink::NAME,
        when_full: "2048, 16 MiB at most, wait in memory while the disk takes none; past them the newest are lost and counted",
        open: |config| config.jsonl.as_ref().map(|jsonl| opened(JsonlSink::start(jsonl), boxed)),
    },
    Row {
        name: JournaldSink::NAME,
        when_full: "lost and counted at once: the journal keeps what it reads in time",
        open: |config| config.journald.as_ref().map(|own| opened(JournaldSink::start(own), boxed)),
    },
];

/// Opens what is configured.
pub fn open(config: &Config) -> anyhow::Result<Vec<Box<dyn Sink>>> {
    SINKS.iter().filter_map(|row| (row.open)(config)).collect()
}

fn opened<T>(sink: Result<T, SinkError>, boxed: fn(T) -> Box<dyn Sink>) -> Opened {
    sink.map(boxed).map_err(|why| match why {
        SinkError::Table { .. } => Failure::Usage(why.to_string()).into(),
        _ => Failure::file(why).into(),
    })
}

/// A broker that doesn't answer in time is told as of any sink.
fn open_kafka(kafka: KafkaSink) -> Box<dyn Sink> {
    kafka.wait(BROKER, |status| match status.connection {
        Connection::Pending => false,
        Connection::Up => status.topics_checked,
        Connection::Down => true,
    });
    Box::new(kafka)
}

fn boxed(sink: impl Sink + 'static) -> Box<dyn Sink> {
    Box::new(sink)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sink_has_its_policy_in_the_documentation() {
        let text = include_str!("../../../docs/configuration.md");
        for row in SINKS {
            let line = format!("| `[{}]` | {} |", row.name, row.when_full);
            assert!(text.contains(&line), "docs/configuration.md lacks: {line}");
        }
    }
}
