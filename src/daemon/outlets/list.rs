//! The one list of sinks. A sink is a file in `sink/` and a row here; the terminal and the findings'
//! own file, which commands read, are no sinks: they can't be left out.

use std::time::Duration;

use hedgerow_sink::{
    JsonlSink, Sink, SinkError,
    journald::JournaldSink,
    kafka::{Connection, KafkaSink},
};

use crate::{config::Config, exit::Failure};

/// A broker is waited for so long at the start.
const BROKER: Duration = Duration::from_secs(5);

/// A sink that takes reports, and what its operator should know at once.
pub struct Opened {
    pub sink: Box<dyn Sink>,
    pub warnings: Vec<String>,
}

impl Opened {
    fn new(sink: impl Sink + 'static) -> Self {
        Self { sink: Box::new(sink), warnings: Vec::new() }
    }
}

/// A row of the list.
pub struct Row {
    /// Of its table in the configuration, and of its metrics.
    #[cfg_attr(not(test), expect(dead_code))]
    pub name: &'static str,
    /// What becomes of a report that finds no room; docs/configuration.md has it word for word.
    #[cfg_attr(not(test), expect(dead_code))]
    pub when_full: &'static str,
    /// Nothing where its table isn't there.
    pub open: fn(&Config) -> Option<anyhow::Result<Opened>>,
}

pub const SINKS: &[Row] = &[
    Row {
        name: KafkaSink::NAME,
        when_full: "waits in a spool on disk (64 MiB); past it the newest are lost and counted",
        open: |config| config.kafka.clone().map(|kafka| open_kafka(KafkaSink::start(kafka))),
    },
    Row {
        name: JsonlSink::NAME,
        when_full: "2048 wait in memory while the disk takes none; past them the newest are lost and counted",
        open: |config| config.jsonl.as_ref().map(|jsonl| opened(JsonlSink::start(jsonl))),
    },
    Row {
        name: JournaldSink::NAME,
        when_full: "lost and counted at once: the journal keeps what it reads in time",
        open: |config| config.journald.as_ref().map(|own| opened(JournaldSink::start(own))),
    },
];

/// Opens what is configured.
pub fn open(config: &Config) -> anyhow::Result<Vec<Opened>> {
    SINKS.iter().filter_map(|row| (row.open)(config)).collect()
}

fn opened(sink: Result<impl Sink + 'static, SinkError>) -> anyhow::Result<Opened> {
    sink.map(Opened::new).map_err(|why| match why {
        SinkError::Table { .. } => Failure::Usage(why.to_string()).into(),
        _ => Failure::file(why).into(),
    })
}

fn open_kafka(kafka: Result<KafkaSink, SinkError>) -> anyhow::Result<Opened> {
    let kafka = kafka.map_err(|why| Failure::Broker(why.to_string()))?;
    let status = kafka.wait(BROKER, |status| match status.connection {
        Connection::Pending => false,
        Connection::Up => status.topics_checked,
        Connection::Down => true,
    });
    let mut opened = Opened::new(kafka);
    opened.warnings.extend(status.topics_wrong);
    if status.connection != Connection::Up {
        opened.warnings.push(format!(
            "the broker {} can't be reached ({}); findings wait on disk until it can",
            status.brokers,
            status.last_error.as_deref().unwrap_or("no answer within 5 s")
        ));
    }
    Ok(opened)
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
