//! A minute of stress-ng and of a connect storm: the daemon stays up, its memory stays where it was,
//! and what it lost it says.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::ErrorKind,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use hedgerow_lab::{Daemon, Line};

const STRESS: Duration = Duration::from_secs(60);
/// By then the flight recorder holds as much as it ever does: half a minute, or all that it may.
const SETTLED: Duration = Duration::from_secs(35);

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon is gone");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn stress() -> Child {
    Command::new("stress-ng")
        .args(["--fork", "1", "--switch", "1", "--pipe", "1", "--timeout", "60s", "--quiet"])
        .stdin(Stdio::null())
        .spawn()
        .expect("stress-ng is installed by `make test`")
}

/// Connects to loopback and closes until told to stop; counts the connections.
fn storm(stop: &AtomicBool) -> u64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut connections = 0;
    while !stop.load(Ordering::Relaxed) {
        let out = match TcpStream::connect(address) {
            // A fast machine has used each port within the second that they rest.
            Err(why) if why.kind() == ErrorKind::AddrNotAvailable => {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            out => out.unwrap(),
        };
        drop((out, listener.accept().unwrap()));
        connections += 1;
    }
    connections
}

#[test]
fn a_minute_of_stress_neither_ends_nor_grows_the_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state").display().to_string();
    let log = directory.path().join("log");
    let program = Path::new(env!("CARGO_BIN_EXE_hedgerow"));
    let daemon = Daemon::start(program, &["--learn", "1h", "--state", &state], &log).unwrap();
    let mut status = serde_json::Value::Null;
    let first = daemon.next(Instant::now() + Duration::from_secs(120)).unwrap();
    assert!(matches!(first, Some(Line::Status(_))), "{first:?}");

    let stop = Arc::new(AtomicBool::new(false));
    let storming = thread::spawn({
        let stop = Arc::clone(&stop);
        move || storm(&stop)
    });
    let mut stress = stress();
    let begun = Instant::now();
    let mut settled = None;
    while begun.elapsed() < STRESS {
        let until = Instant::now() + Duration::from_millis(500);
        if let Some(Line::Status(line)) = daemon.next(until).unwrap()
            && line["records"].is_u64()
        {
            status = line;
        }
        if settled.is_none() && begun.elapsed() >= SETTLED {
            settled = Some(resident_kib(daemon.id()));
        }
    }
    let last = resident_kib(daemon.id());
    stop.store(true, Ordering::Relaxed);
    assert!(storming.join().unwrap() > 1000, "no storm");
    stress.wait().unwrap();
    let settled = settled.unwrap();
    // A loaded machine is not settled by then; what each connection left would be far more.
    assert!(
        last * 10 <= settled * 13,
        "resident {settled} KiB once settled, {last} KiB at the end"
    );
    let number =
        |name: &str| status[name].as_u64().unwrap_or_else(|| panic!("no {name}: {status}"));
    assert!(number("records") > 1000, "{status}");
    // What was written to the rings came out of them; what found no room is told beside it.
    assert!(number("sent") >= number("records"), "{status}");
    assert!(status["lost"].is_u64(), "{status}");
}
