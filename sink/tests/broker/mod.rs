//! What tests of Kafka share: configuration, sending, and reading all of a topic.
#![allow(dead_code, clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    time::{Duration, Instant},
};

use hedgerow_sink::{
    Message, SinkError,
    heartbeat::{self, Heartbeat},
    kafka::{Connection, KafkaConfig, KafkaSink, KafkaStatus, Topics},
};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::Headers,
};
use serde_json::Value;

use super::common;

/// No single step takes longer, even on a machine that builds at the same time.
pub const PATIENCE: Duration = Duration::from_secs(90);

pub struct Received {
    pub key: String,
    pub headers: HashMap<String, String>,
    pub event: Value,
}

impl Received {
    pub fn uid(&self) -> String {
        self.event["metadata"]["uid"].as_str().unwrap().to_owned()
    }
}

/// Everything that a topic holds, partition after partition.
pub fn read_all(brokers: &str, topic: &str) -> Vec<Received> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "read-all")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
    let mut received = Vec::new();
    for partition in metadata.topics()[0].partitions() {
        let (low, high) = consumer.fetch_watermarks(topic, partition.id(), PATIENCE).unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition.id(), Offset::Offset(low)).unwrap();
        consumer.assign(&list).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut next = low;
        while next < high {
            assert!(Instant::now() < deadline, "{topic}: stuck at {next} of {high}");
            let Some(record) = consumer.poll(Duration::from_millis(100)) else { continue };
            let record = record.unwrap();
            next = record.offset() + 1;
            let headers = record.headers().unwrap();
            received.push(Received {
                key: String::from_utf8(record.key().unwrap().to_vec()).unwrap(),
                headers: headers
                    .iter()
                    .map(|header| {
                        let value = String::from_utf8(header.value.unwrap().to_vec()).unwrap();
                        (header.key.to_owned(), value)
                    })
                    .collect(),
                event: serde_json::from_slice(record.payload().unwrap()).unwrap(),
            });
        }
    }
    received
}

pub fn config(brokers: &str, home: &Path, topic: &str) -> KafkaConfig {
    let mut config = KafkaConfig::new(brokers, home);
    config.topics = Topics {
        findings: format!("{topic}.findings"),
        remediations: format!("{topic}.remediations"),
        health: format!("{topic}.health"),
    };
    config
}

pub fn heartbeat(host: &str, sequence: u64, age_s: i64) -> Heartbeat {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Heartbeat {
        schema: heartbeat::SCHEMA.into(),
        uid: format!("{host}:boot:1:{sequence}"),
        host_id: host.into(),
        host: host.into(),
        boot_id: "boot".into(),
        version: "0.1.0".into(),
        time: now.as_millis() as i64 - age_s * 1000,
        sequence,
        interval_seconds: heartbeat::INTERVAL_SECONDS,
        phase: "scoring".into(),
        state: "mature".into(),
        model_id: "model-1".into(),
        mode: Some("monitor".into()),
        armed: Some(true),
        events: 1,
        events_lost: 0,
        alerts: 0,
        entries: 0,
        stands_still: Vec::new(),
    }
}

/// Waits until it is known whether a broker answers.
pub fn wait_connected(sink: &KafkaSink) -> KafkaStatus {
    sink.wait(PATIENCE, |status| status.connection != Connection::Pending)
}

pub fn send(sink: &KafkaSink, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let message = Message::finding(&common::finding(number)).unwrap();
        let deadline = Instant::now() + PATIENCE;
        // The queue refuses while the thread appends; a daemon would count, a test tries again.
        while let Err(error) = sink.send(message.clone()) {
            assert!(matches!(error, SinkError::QueueFull { .. }), "{error}");
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

pub fn spool_files(home: &Path) -> usize {
    let is_spool = |name: &str| name.ends_with(".spool");
    std::fs::read_dir(home)
        .unwrap()
        .filter(|entry| is_spool(&entry.as_ref().unwrap().file_name().to_string_lossy()))
        .count()
}

/// Every number at least once; repeats only of the same content.
pub fn assert_all_arrived(received: &[Received], numbers: std::ops::Range<u32>) {
    let mut by_uid: BTreeMap<String, &Value> = BTreeMap::new();
    for record in received {
        if let Some(earlier) = by_uid.insert(record.uid(), &record.event) {
            assert_eq!(earlier, &record.event);
        }
    }
    let expected: Vec<String> =
        numbers.map(|number| common::finding(number).report_uid()).collect();
    assert_eq!(by_uid.into_keys().collect::<Vec<_>>(), expected);
}

/// First arrivals are in the order of sending, since one host is one key is one partition.
pub fn assert_in_order(received: &[Received]) {
    let mut seen = std::collections::HashSet::new();
    let first: Vec<String> =
        received.iter().map(Received::uid).filter(|uid| seen.insert(uid.clone())).collect();
    assert!(first.is_sorted(), "out of order");
}
