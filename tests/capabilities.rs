//! Once it has started, each thread of the daemon holds what the table of capabilities says and no more,
//! and all goes on that needs any: a socket in another network namespace, of another user, is cut,
//! programs are measured, a stop lifts what was refused, and it starts anew.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use hedgerow_lab::{Daemon, Lab, Line, Site, User};
use hedgerow_probe::support::capabilities::{CAPABILITIES, Held};

const PROGRAM: &str = env!("CARGO_BIN_EXE_hedgerow");
const PATIENCE: Duration = Duration::from_secs(120);

const SERVER: &str = "
import socket, sys
server, held = socket.create_server((sys.argv[1], 9999)), []
print('listens', flush=True)
while True:
    held.append(server.accept())
";
/// Holds a connection until it is cut, then says whether another one is refused.
const CLIENT: &str = "
import socket, sys
connection = socket.create_connection((sys.argv[1], 9999))
print('connected', flush=True)
try:
    connection.recv(1)
except ConnectionError:
    print('cut')
try:
    socket.create_connection((sys.argv[1], 9999))
except PermissionError:
    print('refused')
";

struct Killed(Child);

impl Killed {
    fn start(mut command: Command) -> (Self, BufReader<ChildStdout>) {
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        (Self(child), said)
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        drop((self.0.kill(), self.0.wait()));
    }
}

fn python(lab: &Lab, site: Site, unit: &str, script: &str) -> Command {
    let user = User::named("nobody").unwrap();
    let mut command = lab.command(site, unit, &user, "/usr/bin/python3").unwrap();
    let service = Site::Service.ipv4().to_string();
    command.args(["-c", script, &service]).current_dir("/").stdout(Stdio::piped());
    command
}

fn mask(of: impl Fn(Held) -> bool) -> u64 {
    let rows = CAPABILITIES.iter().filter(|row| of(row.held));
    rows.map(|row| row.capability.bitmask()).sum()
}

/// What each thread of a process holds, by its name: permitted, in effect, bounding, all others.
fn held(process: u32) -> Vec<(String, [u64; 5], String)> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    let texts = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    let one = |text: String| {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().to_owned()
        };
        let set = |name| u64::from_str_radix(&field(name), 16).unwrap();
        let sets = ["CapPrm:", "CapEff:", "CapBnd:", "CapInh:", "CapAmb:"].map(set);
        (field("Name:"), sets, field("NoNewPrivs:"))
    };
    texts.map(one).collect()
}

const LOOKS: usize = 5;

/// Each thread holds what the table says.
fn as_said(daemon: &Daemon) {
    let kept = mask(|held| matches!(held, Held::Always | Held::InUse));
    let always = mask(|held| held == Held::Always);
    let said = ([kept, always, kept, 0, 0], "1");
    let mut more = String::new();
    // One may have raised what it needs for a step just now; what is kept is kept at every look.
    for _ in 0..LOOKS {
        let threads = held(daemon.id());
        assert!(threads.len() > 12, "{threads:?}");
        match threads.iter().find(|thread| (thread.1, &*thread.2) != said) {
            None => return,
            Some(thread) => more = format!("{thread:?} of {threads:?}"),
        }
        thread::sleep(Duration::from_millis(200));
    }
    panic!("not {said:?}: {more}");
}

fn hedgerow(words: &[&str], state: &str) -> Option<serde_json::Value> {
    let output = Command::new(PROGRAM).args(words).args(["--json", "--state", state]).output();
    let output = output.unwrap();
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

fn line(told: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    told.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(200));
    }
}

fn is_status(line: &Line) -> bool {
    matches!(line, Line::Status(_))
}

#[test]
fn no_thread_keeps_more_than_the_table_says_and_all_goes_on() {
    let lab = Lab::up().unwrap();
    let state = lab.directory().join("state").display().to_string();
    let config = lab.directory().join("hedgerow.toml");
    // Every thread that a daemon can have: a sink of each kind, a scraper, a capture.
    let journal = std::os::unix::net::UnixDatagram::bind(lab.directory().join("journal")).unwrap();
    let sinks = format!(
        "[kafka]\nbrokers = \"127.0.0.1:9\"\n[jsonl]\npath = \"{0}/events.jsonl\"\n\
         [journald]\nsocket = \"{0}/journal\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n",
        lab.directory().display()
    );
    fs::write(&config, sinks).unwrap();
    let capture = lab.directory().join("capture").display().to_string();
    let arguments = ["--config", config.to_str().unwrap(), "--state", &state, "--mode", "enforce"];
    let with_capture = [arguments.as_slice(), &["--capture", &capture]].concat();
    let log = lab.directory().join("log");
    let daemon = Daemon::start(Path::new(PROGRAM), &with_capture, &log).unwrap();
    daemon.wait_for("a window", PATIENCE, is_status).unwrap();
    as_said(&daemon);

    let (_server, mut told) = Killed::start(python(&lab, Site::Service, "server", SERVER));
    assert_eq!(line(&mut told), "listens");
    let (_client, mut told) = Killed::start(python(&lab, Site::Clients, "client", CLIENT));
    assert_eq!(line(&mut told), "connected");
    let unit = Lab::workload("client");
    let words = ["deny", "add", "--workload", &unit, "--for", "1h"];
    let denied = until("an entry", || hedgerow(&words, &state));
    let cut = denied["entries"][0]["sockets_destroyed"].as_u64();
    assert_eq!(cut, Some(1), "{denied}");
    assert_eq!([line(&mut told), line(&mut told)], ["cut", "refused"]);
    // What that took was for a step only.
    as_said(&daemon);

    daemon.interrupt().unwrap();
    let (_client, mut told) = Killed::start(python(&lab, Site::Clients, "client", CLIENT));
    assert_eq!(line(&mut told), "connected", "the entry was lifted");
    let daemon = Daemon::start(Path::new(PROGRAM), &arguments, &log).unwrap();
    daemon.wait_for("a window of the next start", PATIENCE, is_status).unwrap();
    as_said(&daemon);
    daemon.interrupt().unwrap();
    drop(journal);
}
