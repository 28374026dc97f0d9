#![allow(clippy::unwrap_used)]
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
};

use hedgerow_detect::{
    Phase,
    surprise::floors::{ClassPromise, Promise},
};
use hedgerow_event::{Class, Maturity, Mode};
use hedgerow_probe::{Hook, HookStatus, Proof, run_time::RunTime};
use hedgerow_sink::SinkHealth;

use super::{encode::SERIES_MAX, table::ROWS, *};
use crate::control::{Status, examples};

/// Every row has a series of it.
fn snapshot() -> Snapshot {
    let class =
        |class| ClassPromise { class, floor: Some(5.0), expected_per_day: 0.25, supported: true };
    let budget = Promise {
        asked_per_day: 1.0,
        expected_per_day: 0.5,
        hours_held_back: 2.0,
        classes: Class::ALL.map(class).to_vec(),
        campaign_floor: None,
        only_listed: Vec::new(),
        hours_missing: 0.0,
    };
    let status = Status {
        mode: Some(Mode::Monitor),
        phase: Phase::Scoring,
        state: Maturity::Provisional,
        budget,
        ..examples::status()
    };
    let hooks = Hook::ALL.map(|hook| HookStatus { hook, proof: Proof::Proved });
    let deny_hooks = hedgerow_responder::hooks::HOOKS.iter().map(|hook| (hook.name, true));
    Snapshot {
        status,
        sensor: Default::default(),
        hooks: hooks.to_vec(),
        events: [12, 1, 0, 0, 0, 0, 0, 0],
        windows: Windows::default(),
        findings: [[1, 0]; 3],
        entries: [1, 0, 0, 0, 0],
        hits: [3, 0, 0, 0, 0],
        workloads: [1, 2, 3],
        unenforced: [3, 6, 6, 0],
        halted: false,
        deny_hooks: deny_hooks.collect(),
        queues: vec![QueueLength { name: "reports", waiting: 0, most: 4096, lost: 0 }],
        sinks: vec![SinkHealth {
            name: "kafka",
            up: true,
            disk_bytes: Some((0, 1)),
            ..SinkHealth::default()
        }],
        taken_ns: 1_790_000_000_500_000_000,
        learned_ns: Some(1_790_000_000_000_000_000),
        saved_ns: Some(1_790_000_000_000_000_000),
    }
}

fn board() -> Arc<Board> {
    let board = Board::default();
    board.turn();
    let programs = vec![("on_exec".into(), RunTime { runs: 2, ns: 1_500_000 })];
    board.programs.store(Arc::new(Programs {
        sampled: Duration::from_millis(100),
        refused: 0,
        programs,
    }));
    Arc::new(board)
}

#[test]
fn every_row_is_exposed_by_its_whole_name_and_nothing_else_is() {
    let board = board();
    board.publish(snapshot());
    let text = encode::text(board).unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut exposed = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        exposed.insert(base.unwrap_or(name).to_owned());
    }
    let rows: BTreeSet<String> = ROWS.iter().map(table::Row::full_name).collect();
    assert_eq!(rows.len(), ROWS.len(), "a name stands twice");
    assert_eq!(exposed, rows);
    for line in [
        "hedgerow_events_total{kind=\"row\"} 12",
        "hedgerow_events_total{kind=\"exec\"} 1",
        "hedgerow_snapshot_timestamp_seconds 1790000000.5",
        "hedgerow_entry_hits_total{effect=\"prevents\"} 3",
        "hedgerow_bpf_program_run_seconds_total{program=\"on_exec\"} 0.0015",
        "hedgerow_phase{phase=\"scoring\"} 1.0",
        "hedgerow_phase{phase=\"fill\"} 0.0",
        "hedgerow_stage_duration_seconds_bucket{le=\"+Inf\",stage=\"engine\"} 0",
    ] {
        assert!(text.lines().any(|told| told == line), "{line} is not in\n{text}");
    }
}

#[test]
fn labels_are_bounded() {
    let board = board();
    board.publish(snapshot());
    let source = table::Source::of(&board);
    for row in ROWS {
        let mut samples = encode::Samples::default();
        (row.read)(&source, &mut samples);
        assert!(samples.0.len() <= SERIES_MAX, "{} has {} series", row.name, samples.0.len());
        let all: BTreeSet<&Vec<String>> = samples.0.iter().map(|sample| &sample.labels).collect();
        assert_eq!(all.len(), samples.0.len(), "{} has a series twice", row.name);
        assert!(samples.0.iter().all(|sample| sample.labels.len() == row.labels.len()));
    }
}

#[test]
fn names_keep_to_the_convention() {
    for row in ROWS {
        let name = row.full_name();
        assert!(
            name.bytes().all(|byte| byte.is_ascii_lowercase() || b"_0123456789".contains(&byte))
        );
        assert!(!row.name.ends_with("_total") && !row.name.ends_with("_seconds"), "{name}");
        assert!(!row.help.ends_with('.'), "{name}: the text adds the full stop");
    }
}

/// docs/metrics.md is written from the table.
#[test]
fn the_documentation_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = table::markdown();
    if std::env::var_os("HEDGEROW_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "run HEDGEROW_UPDATE_DOCS=1 cargo test --bin hedgerow documentation");
}

/// Whoever is woken by an alert finds there what to do.
#[test]
fn each_alert_has_a_row_in_the_runbook_and_points_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = std::fs::read_to_string(root.join("packaging/prometheus/hedgerow.rules.yml"));
    let rules = rules.unwrap();
    let page = std::fs::read_to_string(root.join("docs/runbook.md")).unwrap();
    let (_, rows) = page.split_once("\n## Prometheus alerts\n").unwrap();
    let (rows, _) = rows.split_once("\n## ").unwrap();
    let rows: Vec<&str> =
        rows.lines().filter_map(|row| row.strip_prefix("| `")?.split('`').next()).collect();
    let rules: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    let alerts: Vec<&str> = rules.iter().filter_map(|rule| rule.lines().next()).collect();
    assert_eq!(rows, alerts);
    for rule in rules {
        assert!(rule.contains("/runbook.md#prometheus-alerts\""), "{rule}");
    }
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    // A server that hung up early still said what it had to say.
    let _ = stream.write_all(request.as_bytes());
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text
}

fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n"))
}

#[test]
fn the_server_tells_health_readiness_and_metrics_and_refuses_what_is_too_large() {
    let board = board();
    let server = Server::start("127.0.0.1:0".parse().unwrap(), Arc::clone(&board)).unwrap();
    let address = server.address().unwrap();
    assert!(get(address, "/healthz").starts_with("HTTP/1.1 200 "));
    let early = get(address, "/readyz");
    assert!(early.starts_with("HTTP/1.1 503 ") && early.contains("no window"), "{early}");
    // Before the first window there are metrics already, of the process itself.
    assert!(get(address, "/metrics").contains("hedgerow_loop_turns_total 1"));
    board.publish(snapshot());
    let ready = get(address, "/readyz");
    assert!(
        ready.starts_with("HTTP/1.1 200 ") && ready.contains("scoring (provisional)"),
        "{ready}"
    );
    let metrics = get(address, "/metrics");
    assert!(metrics.contains(encode::CONTENT_TYPE) && metrics.ends_with("# EOF\n"), "{metrics}");
    assert!(get(address, "/other").starts_with("HTTP/1.1 404 "));
    assert!(
        ask(address, "POST /metrics HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n")
            .starts_with("HTTP/1.1 405 ")
    );
    let long = format!("GET /metrics HTTP/1.1\r\nhost: {}\r\n\r\n", "h".repeat(64 << 10));
    assert!(!ask(address, &long).starts_with("HTTP/1.1 200 "));
}

#[test]
fn who_asks_again_and_again_has_nothing_rendered_anew_within_a_second() {
    let board = board();
    let server = Server::start("127.0.0.1:0".parse().unwrap(), Arc::clone(&board)).unwrap();
    let address = server.address().unwrap();
    let turns = || {
        let text = get(address, "/metrics");
        let turns = text.lines().find_map(|line| line.strip_prefix("hedgerow_loop_turns_total "));
        turns.unwrap().parse::<u64>().unwrap()
    };
    let begun = Instant::now();
    let mut told = BTreeSet::new();
    let mut asked = 0;
    while told.len() < 3 {
        board.turn();
        told.insert(turns());
        asked += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    // The first of them was there at once.
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(2), "3 pages of {asked} in {took:?}");
    assert_eq!(board.scrapes.load(Ordering::Relaxed), asked, "each request is counted");
    assert_eq!(turns(), *told.last().unwrap(), "and told what the last one was");
}

#[test]
fn a_port_that_somebody_else_has_holds_nothing_up_and_is_taken_once_it_is_free() {
    let squatter = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = squatter.local_addr().unwrap();
    let server = Server::start(address, board()).unwrap();
    assert_eq!(server.address(), None);
    drop(squatter);
    let until = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < until, "it is never served");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(get(address, "/healthz").starts_with("HTTP/1.1 200 "));
}

#[test]
fn who_hangs_on_makes_room_for_who_asks() {
    let board = board();
    let server = Server::start("127.0.0.1:0".parse().unwrap(), Arc::clone(&board)).unwrap();
    let address = server.address().unwrap();
    let mut idle: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();
    for _ in 0..8 {
        assert!(get(address, "/healthz").starts_with("HTTP/1.1 200 "));
    }
    // The first to come was the first to go.
    assert_eq!(idle[0].read(&mut [0]).unwrap(), 0);
    let until = Instant::now() + Duration::from_secs(60);
    while board.cut_off.load(Ordering::Relaxed) == 0 {
        assert!(Instant::now() < until, "it is not counted");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_hook_that_is_gone_is_not_ready() {
    let mut snapshot = snapshot();
    snapshot.hooks[1].proof = Proof::Gone;
    assert_eq!(snapshot.readiness().unwrap_err(), "no longer attached: exec\n");
    snapshot.hooks.clear();
    assert!(snapshot.readiness().unwrap_err().contains("no hook"));
}

#[test]
fn only_loopback_is_listened_on() {
    for good in ["127.0.0.1:9469", "127.9.9.9:1", "[::1]:9469"] {
        assert_eq!(refusal(good.parse().unwrap()), None);
    }
    for bad in ["0.0.0.0:9469", "192.0.2.1:9469", "[::]:9469", "[2001:db8::1]:9469"] {
        let why = refusal(bad.parse().unwrap()).unwrap();
        assert!(why.contains(bad) && why.contains("127.0.0.1:9469"), "{why}");
    }
}
