//! What the desks of `examples/kafka` say of records, both the same.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../../examples/kafka/consume.rs"]
mod consume;

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use consume::Desk;
use hedgerow_event::{Action, Activity, Finding, Level, Mode};
use hedgerow_sink::{
    kafka::Topics,
    ocsf::{finding_to_ocsf, remediation_to_ocsf},
};
use serde_json::{Value, json};

/// A record: its topic, and what a producer made of it.
type Record<'a> = (&'a str, Vec<u8>);

const HEALTH: &str = "hedgerow.health";

/// Hands over records of stdin, one a line, and tells what a desk says.
const PYTHON: &str = "
import sys, time, consume
desk = consume.Desk('hedgerow')
for line in sys.stdin.buffer.read().splitlines():
    topic, value = line.split(b'\\t', 1)
    line = desk.take(topic.decode(), value, 'here')
    if line is not None:
        print(line)
for line in desk.silent(int(time.time() * 1000)):
    print(line.split(' for ')[0])
";

fn in_python(records: &[Record]) -> Vec<String> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/kafka");
    let mut python = Command::new("python3")
        .args(["-B", "-c", PYTHON])
        .env("PYTHONPATH", examples)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = python.stdin.take().unwrap();
    for (topic, value) in records {
        stdin.write_all(&[topic.as_bytes(), b"\t", value, b"\n"].concat()).unwrap();
    }
    drop(stdin);
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn in_rust(records: &[Record]) -> Vec<String> {
    let (mut desk, topics) = (Desk::default(), Topics::default());
    let said = records.iter().filter_map(|(topic, value)| desk.take(&topics, topic, value, "here"));
    let mut said: Vec<String> = said.collect();
    let silent = desk.silent(consume::now_ms());
    said.extend(silent.iter().map(|line| line.split(" for ").next().unwrap().to_owned()));
    said
}

/// What both say.
fn said(records: &[Record]) -> Vec<String> {
    let said = in_rust(records);
    assert_eq!(in_python(records), said, "Python, Rust");
    said
}

fn beat(host: &str, sequence: u64) -> Value {
    json!({
        "schema": "hedgerow:heartbeat:1", "uid": format!("{host}:{sequence}"), "host_id": host,
        "host": host, "boot_id": "boot", "version": "0.1.0", "time": consume::now_ms(),
        "sequence": sequence, "interval_seconds": 60, "phase": "scoring", "state": "mature",
        "model_id": "m", "mode": null, "armed": null, "events": 0, "events_lost": 0, "alerts": 0,
        "entries": 0, "stands_still": [],
    })
}

fn health(beat: &Value) -> Record<'static> {
    (HEALTH, beat.to_string().into_bytes())
}

#[test]
fn no_record_ends_a_desk() {
    let numbers = AtomicU64::new(0);
    let with = |key: &str, value: Value| {
        let mut wrong = beat("wrong", numbers.fetch_add(1, Relaxed));
        wrong[key] = value;
        health(&wrong)
    };
    let infinite = with("time", json!("TIME")).1;
    let infinite = String::from_utf8(infinite).unwrap().replace("\"TIME\"", "1e999").into_bytes();
    let records = [
        health(&beat("a", 0)),
        (HEALTH, infinite),
        (HEALTH, "[".repeat(100_000).into_bytes()),
        (HEALTH, b"\xff\xfe not text".to_vec()),
        (HEALTH, Vec::new()),
        ("hedgerow.findings", b"{}".to_vec()),
        ("hedgerow.remediations", b"[1]".to_vec()),
        with("host_id", json!(7)),
        with("phase", json!(["scoring"])),
        with("time", json!(1.5)),
        with("time", json!("1790000000000")),
        with("interval_seconds", json!(-1)),
        with("interval_seconds", json!(true)),
        // As long as a whole number can be, a host is waited for a day at most.
        with("interval_seconds", json!(i64::MAX)),
        with("interval_seconds", json!(u64::MAX)),
        with("time", json!(i64::MIN)),
        health(&beat("b", 0)),
    ];
    let mut last = beat("long", 0);
    last["interval_seconds"] = json!(u64::MAX);
    last["time"] = json!(consume::now_ms() - 4 * 86_400_000);
    let records = [&records[..], &[health(&last)]].concat();
    let told = ["HOST    a scoring", "HOST    wrong scoring", "HOST    b scoring"];
    let told = [&told[..], &["HOST    long scoring", "SILENT  long", "SILENT  wrong"]].concat();
    assert_eq!(said(&records), told);
}

fn finding(number: u32, activity: Activity, sequence: u32) -> Record<'static> {
    let finding = Finding { activity, sequence, ..common::finding(number) };
    let event = serde_json::to_vec(&finding_to_ocsf(&finding)).unwrap();
    ("hedgerow.findings", event)
}

/// The entry `uid` for finding 1, or an operator's, reported at this second.
fn remediation(uid: &str, found: bool, second: i64, action: Action, mode: Mode) -> Record<'static> {
    let mut told = common::remediation(common::targets()[0].clone(), action);
    told.uid = uid.into();
    told.finding_uid = found.then(|| common::finding(1).uid);
    told.time_ns += second * 1_000_000_000;
    told.mode = mode;
    told.level = if mode == Mode::Enforce { Level::Prevents } else { Level::Counts };
    ("hedgerow.remediations", serde_json::to_vec(&remediation_to_ocsf(&told)).unwrap())
}

/// The line without its host and message, which the library makes.
fn brief(line: &str) -> &str {
    let word = ["WOULD REFUSE", "REFUSED", "LIFTED", "OPEN", "UPDATE", "CLOSED"]
        .into_iter()
        .find(|word| line.starts_with(word));
    word.unwrap_or(line)
}

#[test]
fn only_what_the_kernel_refuses_is_refused_and_an_entry_that_goes_on_is_no_news() {
    use Action::{Block, Unblock};
    let records = [
        finding(1, Activity::Create, 0),
        remediation("counts", true, 0, Block, Mode::Monitor),
        remediation("counts", true, 30, Block, Mode::Monitor),
        finding(1, Activity::Update, 1),
        remediation("counts", true, 60, Block, Mode::Enforce),
        remediation("counts", true, 90, Block, Mode::Enforce),
        remediation("other", true, 90, Block, Mode::Monitor),
        remediation("operator", false, 91, Block, Mode::Enforce),
        remediation("operator", false, 92, Block, Mode::Enforce),
        finding(1, Activity::Update, 2),
        remediation("counts", true, 120, Unblock, Mode::Enforce),
        remediation("counts", true, 121, Block, Mode::Enforce),
        finding(1, Activity::Close, 3),
    ];
    let said = said(&records);
    let words: Vec<&str> = said.iter().map(|line| brief(line)).collect();
    let told = ["OPEN", "WOULD REFUSE", "UPDATE", "REFUSED", "WOULD REFUSE", "REFUSED", "UPDATE"];
    assert_eq!(words, [&told[..], &["LIFTED", "CLOSED"]].concat());
    let counted = |line: usize| said[line].split(" | ").last().unwrap();
    assert!(!said[2].contains("refused for it"), "{}", said[2]);
    assert_eq!((counted(6), counted(8)), ("1 refused for it", "1 refused for it"));
    assert!(said[1].ends_with(&format!("for the open incident {}", common::finding(1).uid)));
    assert!(said[5].ends_with("by an operator"));
}

#[test]
fn heartbeats_push_no_report_out_and_nothing_reopens_what_is_closed() {
    let reports = [
        finding(1, Activity::Create, 0),
        finding(1, Activity::Close, 1),
        finding(2, Activity::Create, 0),
        remediation("a", true, 0, Action::Block, Mode::Enforce),
    ];
    let mut records = reports.to_vec();
    // As many as ids are remembered.
    records.extend((0..100_000).map(|sequence| health(&beat("a", sequence))));
    records.extend(reports);
    // Not a repeat by its id.
    records.push(finding(1, Activity::Update, 2));
    let said = said(&records);
    let words: Vec<&str> = said.iter().map(|line| brief(line)).collect();
    assert_eq!(words, ["OPEN", "CLOSED", "OPEN", "REFUSED", "HOST    a scoring"]);
}

#[test]
fn a_heartbeat_again_sets_no_host_back_and_a_restart_is_none() {
    let before = |host: &str, seconds: i64, sequence: u64, boot: &str| {
        let mut beat = beat(host, sequence);
        beat["time"] = json!(consume::now_ms() - seconds * 1000);
        beat["boot_id"] = json!(boot);
        health(&beat)
    };
    let old = before("again", 600, 7, "boot");
    let records = [
        old.clone(),
        before("again", 0, 8, "boot"),
        old,
        before("restarted", 600, 7, "boot"),
        before("restarted", 0, 0, "boot"),
        before("rebooted", 600, 7, "boot"),
        before("rebooted", 0, 0, "later"),
        // It was wrong by an hour before.
        before("set-back", -3600, 7, "boot"),
        before("set-back", 600, 8, "boot"),
    ];
    let hosts = ["again", "restarted", "rebooted", "set-back"]
        .map(|host| format!("HOST    {host} scoring"));
    assert_eq!(said(&records), [&hosts[..], &["SILENT  set-back".to_owned()]].concat());
}
