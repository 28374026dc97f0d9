//! Against a real Apache Kafka 4, and the mock cluster for the errors that only it can be told to
//! make.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../../examples/kafka/consume.rs"]
mod consume;

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    time::{Duration, Instant},
};

use hedgerow_event::Action;
use hedgerow_lab::Broker;
use hedgerow_sink::{
    Message, SinkError,
    kafka::{Connection, KafkaConfig, KafkaSink, Mechanism, Sasl, Secret, Tls, Topics},
};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::Headers,
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use serde_json::Value;

/// No single step takes longer, even on a machine that builds at the same time.
const PATIENCE: Duration = Duration::from_secs(90);

struct Received {
    key: String,
    headers: HashMap<String, String>,
    event: Value,
}

impl Received {
    fn uid(&self) -> String {
        self.event["metadata"]["uid"].as_str().unwrap().to_owned()
    }
}

/// Everything that a topic holds, partition after partition.
fn read_all(brokers: &str, topic: &str) -> Vec<Received> {
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

fn config(brokers: &str, home: &Path, topic: &str) -> KafkaConfig {
    let mut config = KafkaConfig::new(brokers, home);
    config.topics = Topics {
        findings: format!("{topic}.findings"),
        remediations: format!("{topic}.remediations"),
    };
    config
}

fn send(sink: &KafkaSink, numbers: std::ops::Range<u32>) {
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

fn spool_files(home: &Path) -> usize {
    let is_spool = |name: &str| name.ends_with(".spool");
    std::fs::read_dir(home)
        .unwrap()
        .filter(|entry| is_spool(&entry.as_ref().unwrap().file_name().to_string_lossy()))
        .count()
}

/// Every number at least once; repeats only of the same content.
fn assert_all_arrived(received: &[Received], numbers: std::ops::Range<u32>) {
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
fn assert_in_order(received: &[Received]) {
    let mut seen = std::collections::HashSet::new();
    let first: Vec<String> =
        received.iter().map(Received::uid).filter(|uid| seen.insert(uid.clone())).collect();
    assert!(first.is_sorted(), "out of order");
}

#[test]
fn a_real_broker() {
    let broker = Broker::start("sink").unwrap();
    let begun = Instant::now();
    let step = |name: &str| eprintln!("{:5.1} s: {name}", begun.elapsed().as_secs_f64());
    step("records arrive with key and headers");
    records_arrive_with_key_and_headers(&broker);
    step("the example prints each finding once");
    the_example_prints_each_finding_once(&broker);
    step("tls and sasl let the right password in");
    tls_and_sasl_let_the_right_password_in(&broker);
    step("a full disk does not silence a working broker");
    a_full_disk_does_not_silence_a_working_broker(&broker);
    step("a broker killed in mid stream costs no record");
    a_broker_killed_in_mid_stream_costs_no_record(&broker);
    step("a broker down at the start is one warning");
    a_broker_down_at_the_start_is_one_warning(&broker);
    step("done");
}

fn records_arrive_with_key_and_headers(broker: &Broker) {
    let home = tempfile::tempdir().unwrap();
    let sink = KafkaSink::start(config(broker.address(), home.path(), "arrive")).unwrap();
    assert_eq!(sink.wait_connected(PATIENCE).connection, Connection::Up);
    send(&sink, 0..50);
    for target in common::targets() {
        let block = common::remediation(target, Action::Block);
        sink.send(Message::remediation(&block).unwrap()).unwrap();
    }
    let status = sink.stop(PATIENCE);
    assert_eq!((status.delivered, status.waiting, status.overflow), (54, 0, 0), "{status:?}");
    assert_eq!(spool_files(home.path()), 0);

    let findings = read_all(broker.address(), "arrive.findings");
    assert_all_arrived(&findings, 0..50);
    assert_in_order(&findings);
    for record in &findings {
        assert_eq!(record.key, "host-a");
        assert_eq!(record.headers["content-type"], "application/json");
        assert_eq!(record.headers["ocsf-version"], "1.8.0");
        assert_eq!(record.headers["model-id"], "model-1");
        assert_eq!(record.headers["schema-id"], "ocsf:1.8.0:detection_finding");
        assert_eq!(record.event["type_uid"], 200_401);
    }
    let remediations = read_all(broker.address(), "arrive.remediations");
    let schemas: Vec<&str> =
        remediations.iter().map(|record| record.headers["schema-id"].as_str()).collect();
    assert_eq!(schemas.len(), 4);
    assert_eq!(schemas[0], "ocsf:1.8.0:network_remediation_activity");
    assert_eq!(schemas[1], "ocsf:1.8.0:process_remediation_activity");
}

fn the_example_prints_each_finding_once(broker: &Broker) {
    let home = tempfile::tempdir().unwrap();
    let sink = KafkaSink::start(config(broker.address(), home.path(), "example")).unwrap();
    send(&sink, 0..20);
    send(&sink, 0..20);
    send(&sink, 20..21);
    assert_eq!(sink.stop(PATIENCE).waiting, 0);
    let mut out = Vec::new();
    let printed =
        consume::run(broker.address(), "example.findings", "example", 21, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!((printed, text.lines().count()), (21, 21), "{text}");
    let first = text.lines().next().unwrap();
    assert!(first.contains("ALERT High     Create"), "{first}");
    assert!(first.contains("order_unseen6_share = 0.75 (75 %)"), "{first}");
}

fn tls_and_sasl_let_the_right_password_in(broker: &Broker) {
    let secure = broker.secure().unwrap();
    let [address, certificate, username, password]: [String; 4] =
        secure.split_whitespace().map(str::to_owned).collect::<Vec<_>>().try_into().unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut config = config(&address, home.path(), "secure");
    let sasl = |password: &str| {
        Some(Sasl {
            mechanism: Mechanism::Plain,
            username: username.clone(),
            password: Some(Secret(password.to_owned())),
            password_file: None,
        })
    };
    config.tls = Some(Tls { ca_file: Some(certificate.into()), ..Tls::default() });
    config.sasl = sasl("wrong");
    let sink = KafkaSink::start(config.clone()).unwrap();
    send(&sink, 0..5);
    let status =
        sink.wait(PATIENCE, |status| status.connection == Connection::Down && status.waiting == 5);
    let line = status.to_string();
    assert!(line.contains("unreachable") && line.contains("uthentication failed"), "{line}");
    assert_eq!(sink.stop(Duration::ZERO).waiting, 5);

    config.sasl = sasl(&password);
    let sink = KafkaSink::start(config.clone()).unwrap();
    let status = sink.stop(PATIENCE);
    assert_eq!((status.delivered, status.waiting), (5, 0), "{status:?}");
    assert_all_arrived(&read_all(broker.address(), "secure.findings"), 0..5);

    // A certificate that nobody we trust has signed.
    config.tls = Some(Tls::default());
    let sink = KafkaSink::start(config).unwrap();
    let line = sink.wait_connected(PATIENCE).to_string();
    assert!(line.contains("unreachable") && line.contains("certificate"), "{line}");
}

fn a_full_disk_does_not_silence_a_working_broker(broker: &Broker) {
    let home = tempfile::tempdir().unwrap();
    let mut config = config(broker.address(), home.path(), "full");
    // Smaller than one finding: no record can be spooled.
    config.spool_bytes_limit = 4096;
    let sink = KafkaSink::start(config).unwrap();
    send(&sink, 0..30);
    let status = sink.stop(PATIENCE);
    assert_eq!((status.delivered, status.unspooled, status.overflow), (30, 30, 0), "{status:?}");
    assert!(status.last_error.unwrap().contains("spool holds 0 of 4096 bytes"));
    assert_all_arrived(&read_all(broker.address(), "full.findings"), 0..30);
}

fn a_broker_killed_in_mid_stream_costs_no_record(broker: &Broker) {
    const RECORDS: u32 = 6000;
    let home = tempfile::tempdir().unwrap();
    let sink = KafkaSink::start(config(broker.address(), home.path(), "kill")).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| send(&sink, 0..RECORDS));
        let before = sink.wait(PATIENCE, |status| status.delivered > 500);
        broker.kill().unwrap();
        assert!(before.delivered > 500, "{before:?}");
    });
    let everything = u64::from(RECORDS);
    let down = sink.wait(PATIENCE, |status| {
        status.connection == Connection::Down && status.waiting + status.delivered == everything
    });
    assert_eq!(down.connection, Connection::Down, "{down:?}");
    assert!(down.waiting > 0 && down.delivered < everything, "not in mid-stream: {down:?}");
    broker.start_again().unwrap();
    let after = sink.wait(PATIENCE, |status| status.waiting == 0 && status.delivered > 0);
    assert_eq!(after.waiting, 0, "{after}");
    let status = sink.stop(PATIENCE);
    // What the queue refused while the thread appended was sent again, so that overflow says nothing.
    assert_eq!(
        (status.delivered, status.rejected, status.waiting),
        (everything, 0, 0),
        "{status:?}"
    );
    assert_eq!(spool_files(home.path()), 0);
    let received = read_all(broker.address(), "kill.findings");
    assert_all_arrived(&received, 0..RECORDS);
    assert_in_order(&received);
}

fn a_broker_down_at_the_start_is_one_warning(broker: &Broker) {
    broker.stop().unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut config = config(broker.address(), home.path(), "down");
    config.in_flight_limit = 16;
    let sink = KafkaSink::start(config.clone()).unwrap();
    let status = sink.wait_connected(PATIENCE);
    assert_eq!(status.connection, Connection::Down);
    let line = status.to_string();
    assert!(line.contains("unreachable") && line.contains("refused"), "{line}");
    assert_eq!(line.lines().count(), 1);
    // More than the client holds: the rest waits on disk.
    send(&sink, 0..100);
    let status = sink.wait(PATIENCE, |status| status.waiting == 100);
    assert_eq!((status.waiting, status.delivered, status.overflow), (100, 0, 0));
    let begun = Instant::now();
    let status = sink.stop(Duration::from_millis(200));
    assert!(begun.elapsed() < Duration::from_secs(20), "stop waits for no broker");
    assert_eq!(status.waiting, 100);

    let sink = KafkaSink::start(config).unwrap();
    assert_eq!(sink.status().recovered.records, 100);
    send(&sink, 100..150);
    broker.start_again().unwrap();
    let status = sink.wait(PATIENCE, |status| status.delivered == 150);
    assert_eq!((status.delivered, status.waiting), (150, 0), "{status:?}");
    assert_eq!(status.connection, Connection::Up);
    drop(sink);
    let received = read_all(broker.address(), "down.findings");
    assert_all_arrived(&received, 0..150);
    assert_in_order(&received);
}

#[test]
fn what_fits_nowhere_is_counted() {
    let home = tempfile::tempdir().unwrap();
    // Nothing listens on the discard port of loopback.
    let mut config = config("127.0.0.1:9", home.path(), "overflow");
    config.spool_bytes_limit = 64 * 1024;
    config.in_flight_limit = 4;
    let sink = KafkaSink::start(config).unwrap();
    send(&sink, 0..200);
    let all = |status: &hedgerow_sink::kafka::KafkaStatus| status.waiting + status.overflow == 200;
    let status = sink.wait(PATIENCE, all);
    assert!(all(&status), "{status:?}");
    assert!(status.overflow > 0 && status.waiting >= 4, "{status:?}");
    assert!(status.spool_bytes <= 64 * 1024);
    assert!(status.to_string().contains("lost to overflow"), "{status}");
}

#[test]
fn a_fatal_error_recreates_the_producer_and_sends_again() {
    let home = tempfile::tempdir().unwrap();
    let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    let (cluster, sink) = failing_once(home.path(), "fatal", error);
    send(&sink, 10..60);
    let status = sink.wait(PATIENCE, |status| status.delivered >= 60);
    assert_eq!((status.delivered, status.waiting), (60, 0), "{status:?}");
    assert!(status.recreated >= 1, "{status:?}");
    sink.stop(PATIENCE);
    assert_all_arrived(&read_all(&cluster.bootstrap_servers(), "fatal.findings"), 0..60);
}

/// A sink on a mock cluster that has taken ten records and answers the next request with `error`.
fn failing_once(
    home: &Path,
    topic: &str,
    error: RDKafkaRespErr,
) -> (MockCluster<'static, DefaultProducerContext>, KafkaSink) {
    let cluster = MockCluster::new(1).unwrap();
    let sink = KafkaSink::start(config(&cluster.bootstrap_servers(), home, topic)).unwrap();
    send(&sink, 0..10);
    let status = sink.wait(PATIENCE, |status| status.delivered == 10);
    assert_eq!(status.delivered, 10, "{status:?}");
    cluster.request_errors(RDKafkaApiKey::Produce, &[error]);
    (cluster, sink)
}

#[test]
fn what_the_broker_refuses_for_good_is_counted_and_holds_no_other() {
    let home = tempfile::tempdir().unwrap();
    let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    let (cluster, sink) = failing_once(home.path(), "rejected", error);
    send(&sink, 10..11);
    let status = sink.wait(PATIENCE, |status| status.rejected == 1);
    assert_eq!((status.rejected, status.delivered), (1, 10), "{status:?}");
    send(&sink, 11..20);
    let status = sink.stop(PATIENCE);
    assert_eq!((status.delivered, status.waiting), (19, 0), "{status:?}");
    assert_eq!(read_all(&cluster.bootstrap_servers(), "rejected.findings").len(), 19);
}

#[test]
fn what_the_broker_refuses_for_now_is_sent_again_in_order() {
    let home = tempfile::tempdir().unwrap();
    let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    let (cluster, sink) = failing_once(home.path(), "again", error);
    send(&sink, 10..60);
    let status = sink.wait(PATIENCE, |status| status.delivered >= 60);
    assert_eq!((status.delivered, status.waiting, status.rejected), (60, 0, 0), "{status:?}");
    assert!(status.resent > 0, "{status:?}");
    sink.stop(PATIENCE);
    let received = read_all(&cluster.bootstrap_servers(), "again.findings");
    assert_all_arrived(&received, 0..60);
    assert_in_order(&received);
}
