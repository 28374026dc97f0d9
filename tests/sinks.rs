//! A live daemon's reports reach each sink that is configured, and a sink that takes nothing holds up
//! no other.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, symlink},
        net::UnixDatagram,
    },
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use hedgerow_lab::{Broker, Daemon, Line};
use hedgerow_sink::heartbeat::{Heartbeat, INTERVAL_SECONDS};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hedgerow");
const STARTED: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(30);
/// An address of loopback of this test's own; nothing listens there.
const DENIED: &str = "127.71.0.7";

#[test]
fn a_block_reaches_every_sink() {
    let home = tempfile::tempdir().unwrap();
    let (state, lines) = (home.path().join("state"), home.path().join("reports.jsonl"));
    let (config, journal) = (home.path().join("hedgerow.toml"), home.path().join("journal"));
    // Nothing listens on the discard port: the broker is away.
    let text = format!(
        "state = {state:?}\n[kafka]\nbrokers = \"127.0.0.1:9\"\n[jsonl]\npath = {lines:?}\n\
         [journald]\nsocket = {journal:?}\n"
    );
    fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let arguments = ["--config", config, "--no-syscalls"];
    // Neither file can be made yet, no journal listens, and the host is watched all the same.
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    let (log, findings) = (home.path().join("log"), state.join("findings.jsonl"));
    fs::create_dir(&findings).unwrap();
    symlink("/nowhere", &lines).unwrap();
    let daemon = Daemon::start(Path::new(PROGRAM), &arguments, &log).unwrap();
    let started = |line: &Line| matches!(line, Line::Status(told) if !told["proved"].is_null());
    daemon.wait_for("start", STARTED, started).unwrap();
    let said = fs::read_to_string(&log).unwrap();
    for told in [
        "findings wait in memory: ",
        "jsonl takes no reports: ",
        "journald takes no reports: nobody listens on /",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    let journald = UnixDatagram::bind(&journal).unwrap();
    journald.set_read_timeout(Some(PATIENCE)).unwrap();
    fs::remove_file(&lines).unwrap();
    fs::remove_dir(&findings).unwrap();
    let deny = ["deny", "add", "--peer", DENIED, "--force", "--for", "1m", "--config", config];
    let denied = Command::new(PROGRAM).args(deny).output().unwrap();
    assert!(denied.status.success(), "{}", String::from_utf8_lossy(&denied.stderr));
    let told = |line: &Line| matches!(line, Line::Remediation(_));
    let Line::Remediation(block) = daemon.wait_for("the block", STARTED, told).unwrap() else {
        unreachable!("it is a remediation")
    };

    let mut bytes = vec![0; 1 << 20];
    let entry = loop {
        let length = journald.recv(&mut bytes).unwrap();
        let entry = String::from_utf8_lossy(&bytes[..length]).into_owned();
        if entry.contains(&block.report_uid()) {
            break entry;
        }
    };
    assert!(entry.contains("HEDGEROW_KIND") && entry.contains("remediation"), "{entry}");
    assert!(entry.contains(DENIED), "{entry}");
    let until = Instant::now() + PATIENCE;
    let event: Value = loop {
        let text = fs::read_to_string(&lines).unwrap_or_default();
        if let Some(line) = text.lines().find(|line| line.contains(&block.report_uid())) {
            break serde_json::from_str(line).unwrap();
        }
        assert!(Instant::now() < until, "not in the file: {text}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(event["class_uid"], 7004);
    assert_eq!(event["metadata"]["uid"], block.report_uid().as_str());
    daemon.interrupt().unwrap();
    assert!(findings.is_file());
    // The broker's copy waits for it.
    let spool = fs::read_dir(state.join("kafka")).unwrap().flatten();
    let held: u64 = spool.map(|file| file.metadata().unwrap().len()).sum();
    assert!(held > 0);
    let _ = Command::new(PROGRAM).args(["disarm", "--remove", "--config", config]).output();
}

/// What the daemon says of its sinks.
fn sinks(state: &str) -> Value {
    let asked = ["status", "--json", "--state", state];
    let output = Command::new(PROGRAM).args(asked).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["sinks"].clone()
}

fn wait(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < until, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Signs of life that came, in order.
fn heartbeats(broker: &Broker) -> Vec<Heartbeat> {
    let told = broker.consume("hedgerow.health").unwrap();
    let values = told.lines().filter_map(|line| Some(&line[line.find('{')?..]));
    values.map(|value| serde_json::from_str(value).unwrap()).collect()
}

#[test]
fn a_broker_that_goes_away_is_told_once_and_so_is_its_return_and_signs_of_life_go_on() {
    let broker = Broker::start("outlets").unwrap();
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("log");
    let state = home.path().join("state").to_str().unwrap().to_owned();
    let arguments = ["--kafka", broker.address(), "--no-syscalls", "--state", &state];
    let daemon = Daemon::start(Path::new(PROGRAM), &arguments, &log).unwrap();
    let started = |line: &Line| matches!(line, Line::Status(told) if !told["proved"].is_null());
    daemon.wait_for("start", STARTED, started).unwrap();
    wait("the first sign of life", STARTED, || sinks(&state)[0]["delivered"].as_u64() >= Some(1));
    wait("its topics", STARTED, || sinks(&state)[0]["up"] == true);

    let (gone, back) = ("kafka takes no reports: the broker", "kafka takes reports again");
    let told = |what: &str| fs::read_to_string(&log).unwrap().matches(what).count();
    broker.stop().unwrap();
    wait("that it went away", STARTED, || told(gone) > 0);
    let down = &sinks(&state)[0];
    assert!(down["up"] == false, "{down}");
    assert!(down["trouble"].as_str().unwrap().contains(broker.address()), "{down}");
    broker.start_again().unwrap();
    wait("that it came back", STARTED, || told(back) > 0);

    let limit = Duration::from_secs(2 * INTERVAL_SECONDS) + PATIENCE;
    let mut beats = Vec::new();
    wait("another sign of life", limit, || {
        beats = heartbeats(&broker);
        beats.len() >= 2
    });
    let [first, next, ..] = beats.as_slice() else { panic!("{beats:?}") };
    assert_eq!(first.sequence, 0);
    assert!(next.sequence > 0 && next.host_id == first.host_id && next.uid != first.uid);
    let due = u64::try_from(next.time - first.time).unwrap() / next.sequence;
    let interval = INTERVAL_SECONDS * 1000;
    assert!((interval - 100..interval + 15_000).contains(&due), "{due} ms: {beats:?}");
    daemon.interrupt().unwrap();
    assert_eq!((told(gone), told(back)), (1, 1), "{}", fs::read_to_string(&log).unwrap());
    let _ = Command::new(PROGRAM).args(["disarm", "--remove", "--state", &state]).output();
}

#[test]
fn a_wrong_table_is_told_by_field() {
    let home = tempfile::tempdir().unwrap();
    for (table, says) in [
        ("[jsonl]\npath = \"relative\"\n", "jsonl.path: write the whole path"),
        ("[jsonl]\npath = \"/tmp/x\"\nkep = 1\n", "kep"),
        ("[kafka]\nbrokers = \"u:hunter2@h:1\"\n", "kafka.brokers: "),
        (
            "[kafka]\nbrokers = \"h:1\"\n[kafka.tls]\nca_file = \"/nowhere\"\n",
            "kafka.tls.ca_file: can't read /nowhere",
        ),
        (
            "[kafka]\nbrokers = \"h:1\"\n[kafka.properties]\nfoo = \"hunter2\"\n",
            "kafka.properties: foo: ",
        ),
        ("mode = \"hunter2\"\n", "unknown variant, expected"),
    ] {
        let config = home.path().join("hedgerow.toml");
        fs::write(&config, format!("state = {:?}\n{table}", home.path().join("state"))).unwrap();
        // What the check calls right is what a daemon starts with.
        for command in [&["run", "--config"][..], &["config", "check", "--config"]] {
            let output = Command::new(PROGRAM).args(command).arg(&config).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.code() == Some(2) && said.contains(says), "{table}: {said}");
            assert!(!said.contains("hunter2"), "{table}: {said}");
        }
    }
    // A daemon tries these again and again.
    let config = home.path().join("hedgerow.toml");
    for (table, says) in [
        (
            "[jsonl]\npath = \"/nowhere/reports.jsonl\"\n",
            "jsonl.path: /nowhere/reports.jsonl: make the directory /nowhere first",
        ),
        (
            "[journald]\nsocket = \"/nowhere/socket\"\n",
            "journald.socket: nobody listens on /nowhere/socket",
        ),
    ] {
        fs::write(&config, table).unwrap();
        let check = ["config", "check", "--config"];
        let output = Command::new(PROGRAM).args(check).arg(&config).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(says), "{table}: {said}");
    }
}

#[test]
fn what_lies_beside_the_drop_ins_and_a_link_to_nothing_are_told() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("hedgerow.toml");
    fs::write(&config, "").unwrap();
    fs::create_dir(home.path().join("conf.d")).unwrap();
    for name in ["10-kafka.conf", "20-own.toml", "20-own.toml.dpkg-old", ".swp", "README"] {
        fs::write(home.path().join("conf.d").join(name), "").unwrap();
    }
    let check = || {
        let command = ["config", "check", "--config"];
        Command::new(PROGRAM).args(command).arg(&config).output().unwrap()
    };
    let output = check();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("10-kafka.conf"), "{said}");
    assert!(!said.contains("20-own") && !said.contains("README"), "{said}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("20-own.toml\n"));
    fs::remove_file(&config).unwrap();
    symlink("/nowhere", &config).unwrap();
    assert!(!check().status.success());
}
