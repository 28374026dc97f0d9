//! A process that delivers as the daemon does is killed while findings and decisions flow: whatever the
//! terminal, the findings' file or the ledger showed arrives at a real Apache Kafka 4.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use hedgerow_event::{Action, Remediation};
use hedgerow_lab::Broker;
use hedgerow_responder::ledger::{Decision, Ledger, Line};
use hedgerow_sink::Rotation;

use super::*;
use crate::{cli, findings, host::LEDGER};

#[path = "../../../sink/tests/common/mod.rs"]
pub mod common;

/// Of the child: its configuration file, the number of its first finding, and how many it delivers.
const CHILD: &str = "HEDGEROW_TEST_OUTLETS";
/// How many findings flow: `make faults` sets more.
const FINDINGS: &str = "HEDGEROW_FAULTS_FINDINGS";
const FINDINGS_DEFAULT: usize = 4000;
const ROUNDS: usize = 8;
/// A decision comes with each of so many findings.
const DECISIONS: u32 = 10;
const PATIENCE: Duration = Duration::from_secs(120);

/// A decision's line in the ledger and its report.
pub fn decided(number: u32) -> (Line, Remediation) {
    let mut entry = common::remediation(common::targets()[0].clone(), Action::Block);
    entry.uid = format!("entry-{number:09}");
    let decision = Decision::Block { entry: entry.clone(), period_s: 60 };
    (Line { time_ns: entry.time_ns, boot_id: "boot".into(), by: None, decision }, entry)
}

#[test]
#[ignore = "it is started, and killed, by another test"]
fn the_daemon_that_is_killed() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let [file, first, count] = told.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let (first, count): (u32, u32) = (first.parse().unwrap(), count.parse().unwrap());
    let run = cli::Run { config: Some(file.into()), ..cli::Run::default() };
    let config = Config::load(&run, true).unwrap();
    let lines = PatientLines::new(&findings::path(&config.state), Rotation::default());
    let sinks = config.sinks.iter().map(|sink| sink.start().unwrap()).collect();
    let host = Host::read().unwrap();
    let outlets =
        Outlets::start(&config, &host, false, lines, sinks, Arc::default(), None).unwrap();
    let ledger = Ledger::open(&config.state.join(LEDGER), 1 << 30).unwrap();
    for number in first..first + count {
        // What finds no room is told as lost; here nothing shall be.
        while outlets.queues().iter().any(|queue| queue.waiting > queue.most / 2)
            || ledger.written().waiting > OUT_MAX
        {
            thread::sleep(Duration::from_millis(1));
        }
        outlets.finding(&common::finding(number), false);
        if number.is_multiple_of(DECISIONS) {
            let (line, report) = decided(number);
            ledger.append(&line);
            outlets.remediation(&report);
        }
    }
    assert_eq!(outlets.health().untold, 0);
}

fn start(config: &Path, first: u32, count: usize) -> Child {
    let name = concat!(module_path!(), "::the_daemon_that_is_killed");
    let name = name.split_once("::").unwrap().1;
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--ignored"])
        .env(CHILD, format!("{} {first} {count}", config.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The uid of a report by that of its finding or entry, in a line that shows one.
fn shown(line: &str) -> Option<String> {
    let uid = |begin: &str, length: usize| {
        let at = line.find(begin)? + begin.len();
        line.get(at..at + length)
    };
    let entry = uid(r#""uid":"entry-"#, 9).map(|digits| digits.parse().unwrap());
    let finding = || uid(r#""uid":"5f2c"#, 12).map(|hex| u32::from_str_radix(hex, 16).unwrap());
    match entry {
        Some(number) => Some(decided(number).1.report_uid()),
        None => finding().map(|number| common::finding(number).report_uid()),
    }
}

fn is_empty(spool: &Path) -> bool {
    let files = fs::read_dir(spool).unwrap().flatten();
    !files.into_iter().any(|file| file.path().extension().is_some_and(|end| end == "spool"))
}

#[test]
fn whatever_was_shown_arrives_although_the_daemon_is_killed_again_and_again() {
    let all = std::env::var(FINDINGS).map_or(FINDINGS_DEFAULT, |count| count.parse().unwrap());
    let broker = Broker::start("killed").unwrap();
    let home = tempfile::tempdir().unwrap();
    let (config, state) = (home.path().join("hedgerow.toml"), home.path().join("state"));
    fs::create_dir(&state).unwrap();
    let text = format!(
        "state = {state:?}\n[kafka]\nbrokers = \"{}\"\nspool_bytes_limit = 1_000_000_000\n",
        broker.address()
    );
    fs::write(&config, text).unwrap();

    let mut seen = BTreeSet::new();
    let mut rounds = 0;
    while seen.len() < all {
        let first = rounds * 10_000_000;
        let mut child = start(&config, first, all);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut lines = lines.filter_map(|line| shown(&line));
        let count = rand::random::<usize>() % (2 * all / ROUNDS) + 1;
        seen.extend(lines.by_ref().take(count));
        thread::sleep(Duration::from_micros(rand::random::<u64>() % 50_000));
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had written to the pipe before it died was shown, too.
        seen.extend(lines);
        rounds += 1;
    }
    let (ledger, _) = Ledger::read(&state.join(LEDGER)).unwrap();
    let in_ledger = ledger.iter().filter_map(|line| match &line.decision {
        Decision::Block { entry, .. } => Some(entry.report_uid()),
        _ => None,
    });
    let on_terminal = seen.len();
    seen.extend(in_ledger);
    for name in ["findings.jsonl", "findings.jsonl.1", "findings.jsonl.2"] {
        if let Ok(file) = fs::File::open(state.join(name)) {
            seen.extend(BufReader::new(file).lines().filter_map(|line| shown(&line.unwrap())));
        }
    }
    // The next one sends what was left, as long as it takes.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = start(&config, u32::MAX, 0).wait().unwrap();
        assert!(status.success() && Instant::now() < deadline, "{status}");
        if is_empty(&state.join("kafka")) {
            break;
        }
    }
    // A consumer that comes late on a loaded machine reads nothing.
    let mut arrived = BTreeSet::new();
    let deadline = Instant::now() + PATIENCE;
    while !seen.is_subset(&arrived) && Instant::now() < deadline {
        for topic in ["hedgerow.findings", "hedgerow.remediations"] {
            arrived.extend(broker.consume(topic).unwrap().lines().filter_map(arrival));
        }
    }
    let lost: Vec<&String> = seen.difference(&arrived).collect();
    eprintln!(
        "killed {rounds} times: {on_terminal} reports on the terminal, {} with file and ledger, {} \
         arrived, {} lost",
        seen.len(),
        arrived.len(),
        lost.len()
    );
    assert!(lost.is_empty(), "{} never arrived: {:?}", lost.len(), &lost[..lost.len().min(9)]);
}

/// The uid of a report as a consumer finds it.
fn arrival(line: &str) -> Option<String> {
    let event: serde_json::Value = serde_json::from_str(&line[line.find('{')?..]).ok()?;
    Some(event["metadata"]["uid"].as_str()?.to_owned())
}
