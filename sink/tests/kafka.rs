//! Against a real Apache Kafka 4, and the mock cluster for the errors that only it can be told to
//! make.
#![allow(clippy::unwrap_used)]

mod broker;
mod common;
#[path = "../../examples/kafka/consume.rs"]
mod consume;
#[path = "broker/topics.rs"]
mod topics;

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use broker::{
    PATIENCE, Received, assert_all_arrived, assert_in_order, config, heartbeat, read_all, send,
    spool_files, wait_connected,
};

use hedgerow_event::{Action, Activity, Disposition, Finding};
use hedgerow_lab::{Broker, Disk};
use hedgerow_sink::{
    Message, RECORD_BYTES_LIMIT, Report, Sink,
    kafka::{Connection, KafkaSink, Mechanism, QUEUE_BYTES, Sasl, Secret, Tls},
};
use rdkafka::{
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
#[test]
fn a_real_broker() {
    let broker = Broker::start("sink").unwrap();
    let begun = Instant::now();
    let step = |name: &str| eprintln!("{:5.1} s: {name}", begun.elapsed().as_secs_f64());
    step("records arrive with key and headers");
    records_arrive_with_key_and_headers(&broker);
    step("the examples keep incidents, entries and silent hosts");
    the_examples_keep_incidents_entries_and_silent_hosts(&broker);
    the_python_example_says_the_same(&broker);
    step("a missing topic is told with the way out");
    topics::a_missing_topic_is_told_with_the_way_out(&broker);
    step("one missing topic holds up no other");
    topics::one_missing_topic_holds_up_no_other(&broker);
    topics::however_much_waits_for_a_missing_topic_others_are_delivered(&broker);
    step("a killed process loses nothing that it showed");
    a_process_killed_while_findings_flow_loses_nothing_that_it_showed(&broker);
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
    assert_eq!(wait_connected(&sink).connection, Connection::Up);
    send(&sink, 0..50);
    let targets = common::targets().len();
    for target in common::targets() {
        let block = common::remediation(target, Action::Block);
        sink.send(Message::remediation(&block).unwrap()).unwrap();
    }
    let status = sink.stop(PATIENCE);
    let all = 50 + targets as u64;
    assert_eq!((status.delivered, status.waiting, status.overflow), (all, 0, 0), "{status:?}");
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
    assert_eq!(schemas.len(), targets);
    assert_eq!(schemas[0], "ocsf:1.8.0:network_remediation_activity");
    assert_eq!(schemas[1], "ocsf:1.8.0:process_remediation_activity");
}

/// Three hosts, one silent for an hour, one with all its heartbeats of that hour; three incidents, one
/// closed, one with a block and its end; each report twice.
fn fill_the_desk(broker: &Broker, prefix: &str) {
    let home = tempfile::tempdir().unwrap();
    let mut sink = KafkaSink::start(config(broker.address(), home.path(), prefix)).unwrap();
    assert_eq!(wait_connected(&sink).connection, Connection::Up);
    let mut closed = common::finding(2);
    closed.activity = Activity::Close;
    closed.sequence = 1;
    let of = |action| {
        let mut remediation = common::remediation(common::targets()[0].clone(), action);
        remediation.finding_uid = Some(common::finding(1).uid);
        remediation
    };
    let mut reports: Vec<Report> =
        (0..3).map(|number| Report::finding(&common::finding(number)).unwrap()).collect();
    reports.push(Report::finding(&closed).unwrap());
    reports.push(Report::remediation(&of(Action::Block)).unwrap());
    reports.push(Report::remediation(&of(Action::Unblock)).unwrap());
    reports.push(Report::heartbeat(&heartbeat("host-a", 0, 0)).unwrap());
    reports.push(Report::heartbeat(&heartbeat("host-b\x1b[2J", 0, 3600)).unwrap());
    let backlog = (0..=60).map(|minute| heartbeat("host-d", minute, 3600 - 60 * minute as i64));
    reports.extend(backlog.map(|beat| Report::heartbeat(&beat).unwrap()));
    for report in reports.iter().chain(&reports) {
        assert!(sink.wants(report.topic()));
        sink.take(report).unwrap();
    }
    let status = sink.stop(PATIENCE);
    assert_eq!((status.delivered, status.waiting), (138, 0), "{status:?}");
}

/// What a desk says of [`fill_the_desk`], in whatever order.
fn assert_desk(text: &str) {
    let count = |word: &str| text.lines().filter(|line| line.starts_with(word)).count();
    let words = ["OPEN", "UPDATE", "CLOSED", "REFUSED", "LIFTED", "HOST", "SILENT", "BACK"];
    assert_eq!(words.map(count), [3, 0, 1, 1, 1, 3, 1, 0], "{text}");
    assert!(!text.contains('\x1b') && text.contains("SILENT  host-b\\"), "{text}");
    assert!(text.contains("OPEN    ALERT High     host-a "), "{text}");
    assert!(text.contains("order_unseen6_share = 0.75 (75 %)"), "{text}");
    assert!(text.contains(&common::finding(1).uid), "a block names its incident: {text}");
}

fn the_examples_keep_incidents_entries_and_silent_hosts(broker: &Broker) {
    fill_the_desk(broker, "desk");
    let topics = config(broker.address(), Path::new("/x"), "desk").topics;
    let idle = Duration::from_secs(10);
    let mut out = Vec::new();
    let desk = consume::run(broker.address(), &topics, "example", Some(idle), &mut out).unwrap();
    assert_desk(&String::from_utf8(out).unwrap());
    let open = |number| desk.incidents[&common::finding(number).uid].open;
    assert_eq!([0, 1, 2].map(open), [Some(true), Some(true), Some(false)]);
    assert_eq!(desk.incidents[&common::finding(1).uid].refused.len(), 1);
    // A second member of the group that comes later finds all of it committed.
    let again = std::thread::scope(|scope| {
        let read = scope.spawn(|| {
            let mut out = Vec::new();
            let read = consume::run(broker.address(), &topics, "example", Some(idle), &mut out);
            read.map(|_| String::from_utf8(out).unwrap()).map_err(|why| why.to_string())
        });
        std::thread::sleep(Duration::from_secs(1));
        let home = tempfile::tempdir().unwrap();
        let mut sink = KafkaSink::start(config(broker.address(), home.path(), "desk")).unwrap();
        assert_eq!(wait_connected(&sink).connection, Connection::Up);
        sink.take(&Report::heartbeat(&heartbeat("host-c", 0, 0)).unwrap()).unwrap();
        assert_eq!(sink.stop(PATIENCE).delivered, 1);
        read.join().unwrap().unwrap()
    });
    assert_eq!(again.lines().collect::<Vec<_>>(), ["HOST    host-c scoring"]);
}

fn the_python_example_says_the_same(broker: &Broker) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let done = |command: &mut std::process::Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let python = done(std::process::Command::new(root.join("scripts/kafka")).arg("python"));
    fill_the_desk(broker, "pydesk");
    let text = done(
        std::process::Command::new(python.trim())
            .arg(root.join("examples/kafka/consume.py"))
            .args([broker.address(), "--prefix", "pydesk", "--idle", "10"]),
    );
    assert_desk(&text);
}

/// Of the child that is killed: where its spool is, and which broker.
const CHILD: &str = "HEDGEROW_TEST_KILLED";

/// What a killed process showed is delivered by the next one.
fn a_process_killed_while_findings_flow_loses_nothing_that_it_showed(broker: &Broker) {
    use std::io::{BufRead, BufReader};
    const ROUNDS: usize = 5;
    let home = tempfile::tempdir().unwrap();
    let mut shown = BTreeSet::new();
    for round in 0..ROUNDS {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_child_that_is_killed", "--nocapture", "--ignored"])
            .env(CHILD, format!("{} {} {round}", broker.address(), home.path().display()))
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut uids = lines.filter_map(|line| line.strip_prefix("shown ").map(str::to_owned));
        shown.extend(uids.by_ref().take(300 * (round + 1)));
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had written to the pipe before it died was shown, too.
        shown.extend(uids);
    }
    assert!(shown.len() >= 300 * ROUNDS, "{} were shown", shown.len());
    let sink = KafkaSink::start(config(broker.address(), home.path(), "killed")).unwrap();
    let status = sink.stop(PATIENCE);
    assert_eq!((status.waiting, status.rejected), (0, 0), "{status:?}");
    let received = read_all(broker.address(), "killed.findings");
    let arrived: BTreeSet<String> = received.iter().map(Received::uid).collect();
    let lost: Vec<&String> = shown.difference(&arrived).collect();
    assert!(lost.is_empty(), "{} of {} never arrived: {lost:?}", lost.len(), shown.len());
}

#[test]
#[ignore = "it is started, and killed, by another test"]
fn the_child_that_is_killed() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let [brokers, home, round] = told.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let mut sink = KafkaSink::start(config(brokers, Path::new(home), "killed")).unwrap();
    let round: u32 = round.parse().unwrap();
    for number in 0..1_000_000 {
        let finding = common::finding(round * 1_000_000 + number);
        if sink.take(&Report::finding(&finding).unwrap()).is_ok() {
            sink.settle();
            println!("shown {}", finding.report_uid());
        }
    }
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
    let line = status.trouble().unwrap();
    assert!(line.contains("can't be reached") && line.contains("uthentication failed"), "{line}");
    assert_eq!(sink.stop(Duration::ZERO).waiting, 5);

    config.sasl = sasl(&password);
    let sink = KafkaSink::start(config.clone()).unwrap();
    let status = sink.stop(PATIENCE);
    assert_eq!((status.delivered, status.waiting), (5, 0), "{status:?}");
    assert_all_arrived(&read_all(broker.address(), "secure.findings"), 0..5);

    // A certificate that nobody we trust has signed.
    config.tls = Some(Tls::default());
    let sink = KafkaSink::start(config).unwrap();
    let line = wait_connected(&sink).trouble().unwrap();
    assert!(line.contains("can't be reached") && line.contains("certificate"), "{line}");
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
        scope.spawn(|| send(&sink, 0..RECORDS / 2));
        let before = sink.wait(PATIENCE, |status| status.delivered > 500);
        broker.kill().unwrap();
        assert!(before.delivered > 500, "{before:?}");
    });
    // However fast the others were.
    send(&sink, RECORDS / 2..RECORDS);
    let everything = u64::from(RECORDS);
    let down = sink.wait(PATIENCE, |status| {
        status.connection == Connection::Down && status.waiting + status.delivered == everything
    });
    assert_eq!(down.connection, Connection::Down, "{down:?}");
    assert!(down.waiting > 0 && down.delivered < everything, "not in mid-stream: {down:?}");
    broker.start_again().unwrap();
    let after = sink.wait(PATIENCE, |status| status.waiting == 0 && status.delivered > 0);
    assert_eq!(after.waiting, 0, "{after:?}");
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
    let status = wait_connected(&sink);
    assert_eq!(status.connection, Connection::Down);
    let line = status.trouble().unwrap();
    assert!(line.contains("can't be reached") && line.contains("refused"), "{line}");
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
}

#[test]
fn who_is_listed_without_end_leaves_room_to_alerts_and_blocks() {
    let home = tempfile::tempdir().unwrap();
    let mut config = config("127.0.0.1:9", home.path(), "kept");
    config.spool_bytes_limit = 128 * 1024;
    config.in_flight_limit = 4;
    let mut sink = KafkaSink::start(config).unwrap();
    // That nobody answers is told before anything else.
    wait_connected(&sink);
    let (mut given, mut lost) = (0, 0);
    let mut give = |report: Report| {
        sink.take(&report).unwrap();
        given += 1;
        sink.wait(PATIENCE, |status| status.waiting + status.overflow == given).overflow
    };
    for number in 0..50 {
        let listed = Disposition::Suppressed;
        let listed = Finding { disposition: listed, ..common::finding(number) };
        lost = give(Report::finding(&listed).unwrap());
    }
    assert!((25..45).contains(&lost), "{lost}");
    assert_eq!(give(Report::finding(&common::finding(100)).unwrap()), lost);
    let close = Finding { activity: Activity::Close, ..common::finding(100) };
    assert_eq!(give(Report::finding(&close).unwrap()), lost);
    let block = common::remediation(common::targets()[0].clone(), Action::Block);
    assert_eq!(give(Report::remediation(&block).unwrap()), lost);
    let why = sink.status().last_error.unwrap();
    assert!(why.contains("the last quarter is kept"), "{why}");
}

#[test]
fn what_waits_in_memory_is_bounded_by_its_bytes() {
    let home = tempfile::tempdir().unwrap();
    let mut config = config("127.0.0.1:9", home.path(), "large");
    config.spool_bytes_limit = 4096;
    let sink = KafkaSink::start(config).unwrap();
    let mut large = Message::finding(&common::finding(0)).unwrap();
    large.value = vec![b'1'; RECORD_BYTES_LIMIT];
    for number in 1..=40 {
        sink.send(large.clone()).unwrap();
        sink.wait(PATIENCE, |status| status.taken == number);
    }
    let status = sink.wait(PATIENCE, |status| status.waiting + status.overflow == 40);
    // What other topics may need is left to them.
    let fit = ((QUEUE_BYTES + RECORD_BYTES_LIMIT) / (2 * RECORD_BYTES_LIMIT)) as u64;
    assert_eq!((status.unspooled, status.overflow), (fit, 40 - fit), "{status:?}");
    assert_eq!(Sink::health(&sink).unspooled, fit);
}

#[test]
fn without_an_inode_for_its_spool_a_sink_sends_from_memory_and_has_a_spool_later() {
    // The directory itself is one.
    let disk = Disk::mount("mode=700,nr_inodes=1").unwrap();
    let cluster = MockCluster::new(1).unwrap();
    let sink =
        KafkaSink::start(config(&cluster.bootstrap_servers(), disk.path(), "later")).unwrap();
    let why = Sink::health(&sink).memory_only.unwrap();
    assert!(why.contains("lock"), "{why}");
    send(&sink, 0..10);
    let status = sink.wait(PATIENCE, |status| status.delivered == 10);
    assert_eq!((status.delivered, status.unspooled, status.overflow), (10, 10, 0), "{status:?}");
    disk.remount("nr_inodes=64").unwrap();
    let status = sink.wait(PATIENCE, |status| status.memory_only.is_none());
    assert_eq!(status.memory_only, None);
    send(&sink, 10..20);
    let status = sink.stop(PATIENCE);
    assert_eq!((status.delivered, status.unspooled, status.waiting), (20, 10, 0), "{status:?}");
    assert_all_arrived(&read_all(&cluster.bootstrap_servers(), "later.findings"), 0..20);
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
    // As a broker does it refuses all that is on the way, in however many requests that is.
    cluster.request_errors(RDKafkaApiKey::Produce, &[error; 3]);
    send(&sink, 10..60);
    let status = sink.wait(PATIENCE, |status| status.delivered >= 60);
    assert_eq!((status.delivered, status.waiting, status.rejected), (60, 0, 0), "{status:?}");
    assert!(status.resent > 0, "{status:?}");
    sink.stop(PATIENCE);
    let received = read_all(&cluster.bootstrap_servers(), "again.findings");
    assert_all_arrived(&received, 0..60);
    assert_in_order(&received);
}
