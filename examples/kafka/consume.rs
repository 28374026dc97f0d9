//! Reads findings from Kafka and prints one line for each, once.
//!
//! ```sh
//! cargo run -p hedgerow-sink --example consume -- 127.0.0.1:9092
//! ```
//!
//! Delivery is at least once, so that a report can come twice: it is known by `metadata.uid`.

use std::{
    collections::{HashSet, VecDeque},
    error::Error,
    io::{self, Write},
    time::Duration,
};

use hedgerow_sink::ocsf::DetectionFinding;
use rdkafka::{
    ClientConfig, Message,
    consumer::{BaseConsumer, CommitMode, Consumer},
};

/// Ids remembered; a repeat comes soon after its original, never a hundred thousand reports later.
const REMEMBERED: usize = 100_000;

/// The most recent ids, oldest first.
#[derive(Default)]
struct Seen {
    known: HashSet<String>,
    order: VecDeque<String>,
}

impl Seen {
    /// True when the id is new.
    fn insert(&mut self, uid: &str) -> bool {
        if !self.known.insert(uid.to_owned()) {
            return false;
        }
        self.order.push_back(uid.to_owned());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

fn line(event: &DetectionFinding) -> String {
    let finding = &event.unmapped.finding;
    let alert = if event.is_alert { "ALERT" } else { "     " };
    let top = finding.attribution.first().map_or(String::new(), |share| {
        format!(" | {} = {} ({:.0} %)", share.feature, share.value, share.share * 100.0)
    });
    format!(
        "{} {alert} {:<8} {:<6} {} | score {:.2} ({}){top}",
        event.base.time,
        event.base.severity,
        event.base.activity_name,
        event.base.message,
        finding.score,
        finding.state,
    )
}

/// Reads `topic` as a member of `group` until `limit` different reports were printed.
pub fn run(
    brokers: &str,
    topic: &str,
    group: &str,
    limit: usize,
    out: &mut impl Write,
) -> Result<usize, Box<dyn Error>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("session.timeout.ms", "6000")
        .create()?;
    consumer.subscribe(&[topic])?;
    let mut seen = Seen::default();
    let mut printed = 0;
    while printed < limit {
        let Some(record) = consumer.poll(Duration::from_secs(1)) else { continue };
        let record = record?;
        match serde_json::from_slice::<DetectionFinding>(record.payload().unwrap_or_default()) {
            Ok(event) if seen.insert(&event.base.metadata.uid) => {
                writeln!(out, "{}", line(&event))?;
                printed += 1;
            }
            Ok(_) => {}
            Err(error) => {
                let (partition, offset) = (record.partition(), record.offset());
                eprintln!("{topic}/{partition}@{offset} is no finding: {error}");
            }
        }
        // Only what was printed is committed: a crash repeats a line, it never skips one.
        consumer.commit_message(&record, CommitMode::Async)?;
    }
    consumer.commit_consumer_state(CommitMode::Sync).or_else(|error| {
        match error.rdkafka_error_code() {
            Some(rdkafka::types::RDKafkaErrorCode::NoOffset) => Ok(()),
            _ => Err(error),
        }
    })?;
    Ok(printed)
}

#[allow(dead_code)]
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let Some(brokers) = arguments.next() else {
        return Err("usage: consume BROKERS [TOPIC] [GROUP]".into());
    };
    let topic = arguments.next().unwrap_or_else(|| "hedgerow.findings".into());
    let group = arguments.next().unwrap_or_else(|| "hedgerow-example".into());
    run(&brokers, &topic, &group, usize::MAX, &mut io::stdout().lock())?;
    Ok(())
}
