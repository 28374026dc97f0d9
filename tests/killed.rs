//! What a daemon leaves when it is killed, what the next one does with it, and how all of it is
//! taken away: the binary itself, live, steered by its own commands.

#![allow(clippy::unwrap_used)]

use std::{
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use hedgerow_lab::{Daemon, Line};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hedgerow");
const STARTED: Duration = Duration::from_secs(60);
/// Loopback addresses of these tests' own; nothing listens there.
const DENIED: &str = "127.71.0.1";
const OTHER: &str = "127.71.0.2";
const KEPT: &str = "127.71.0.4";
const DISARMED: &str = "127.71.0.3";
/// Exit codes of `hedgerow --help`.
const USAGE: i32 = 2;

/// A state directory whose pins go with it.
struct State(TempDir);

impl State {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn path(&self) -> &Path {
        self.0.path()
    }
    /// A daemon that learns, started with this state.
    fn daemon(&self) -> Daemon {
        let arguments = ["--no-syscalls", "--state", text(self.path())];
        let log = self.path().join("daemon.log");
        let daemon = Daemon::start(Path::new(PROGRAM), &arguments, &log).unwrap();
        let started = |line: &Line| matches!(line, Line::Status(told) if !told["proved"].is_null());
        daemon.wait_for("start", STARTED, started).unwrap();
        daemon
    }
    /// Where its daemon pins: named by a digest of the path.
    fn is_pinned(&self) -> bool {
        self.pins().exists()
    }
    fn pins(&self) -> PathBuf {
        let path = std::fs::canonicalize(self.path()).unwrap();
        let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
        let name: String = digest[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("/sys/fs/bpf/hedgerow-{name}").into()
    }
    fn hedgerow(&self, arguments: &[&str]) -> Output {
        Command::new(PROGRAM).args(arguments).args(["--state", text(self.path())]).output().unwrap()
    }
    /// Runs a command that must succeed.
    fn said(&self, arguments: &[&str]) -> String {
        let output = self.hedgerow(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
    /// Runs a command that must be refused; what it says.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.hedgerow(arguments);
        assert!(!output.status.success(), "{arguments:?} was done");
        String::from_utf8(output.stderr).unwrap()
    }
    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.said(&[arguments, &["--json"]].concat())).unwrap()
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = self.hedgerow(&["disarm", "--remove"]);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn is_refused(address: &str) -> bool {
    let error = TcpStream::connect((address, 9)).unwrap_err();
    error.raw_os_error() == Some(libc::EPERM)
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn entries_outlive_a_killed_daemon_the_next_one_adopts_them_and_a_clean_stop_lifts_them() {
    let state = State::new();
    let daemon = state.daemon();
    state.said(&["deny", "add", DENIED, "--for", "10m", "--force"]);
    state.said(&["deny", "add", OTHER, "--for", "3s", "--force"]);
    assert!(is_refused(DENIED) && is_refused(OTHER));
    assert!(state.is_pinned());
    state.said(&["mode", "monitor"]);
    state.said(&["mode", "enforce", "--workload", "web.service"]);
    daemon.kill();
    assert!(is_refused(DENIED));
    eventually("the short entry expires with nobody there", || !is_refused(OTHER));
    assert!(is_refused(DENIED));
    let why = state.said(&["deny", "list", "--why"]);
    assert!(why.contains("denied peer 127.71.0.1/32 for 600 s by rule operator"), "{why}");

    let next = state.daemon();
    assert!(is_refused(DENIED), "taken over without a gap");
    let entries = state.json(&["deny", "list"]);
    let live = entries["live"].as_array().unwrap();
    assert_eq!(live.len(), 1, "{entries}");
    assert_eq!(live[0]["target"]["address"], DENIED);
    assert!(live[0]["hits"].as_u64().unwrap() >= 2, "hits survive: {entries}");
    let why = state.said(&["deny", "list", "--why"]);
    assert!(why.contains("expired unattended"), "{why}");
    // Modes were kept, too; enforce waits for what is missing.
    let modes = state.said(&["mode"]);
    assert!(modes.starts_with("monitor\n"), "{modes}");
    assert!(modes.contains("web.service: enforce, held at monitor"), "{modes}");
    assert!(modes.contains("0 of 7 days") && modes.contains("168 hours"), "{modes}");
    next.interrupt().unwrap();
    assert!(!is_refused(DENIED), "a clean stop lifts");
    assert!(!state.is_pinned(), "and detaches");
}

#[test]
fn a_service_managers_stop_keeps_entries_to_their_expiry_and_leaves_nothing_without_any() {
    let state = State::new();
    let daemon = state.daemon();
    state.said(&["deny", "add", KEPT, "--for", "10m", "--force"]);
    daemon.terminate().unwrap();
    assert!(is_refused(KEPT), "a restart is no pardon");
    let next = state.daemon();
    let entries = state.json(&["deny", "list"]);
    let uid = entries["live"][0]["uid"].as_str().unwrap().to_owned();
    state.said(&["deny", "remove", &uid]);
    next.terminate().unwrap();
    assert!(!is_refused(KEPT) && !state.is_pinned());
}

#[test]
fn enforce_that_was_ordered_and_can_not_be_is_a_finding() {
    let state = State::new();
    let daemon = state.daemon();
    state.said(&["mode", "enforce", "--workload", "web.service"]);
    daemon.interrupt().unwrap();
    // Somebody else's directory is where the pins go.
    std::fs::create_dir_all(state.pins().join("foreign")).unwrap();
    let daemon = state.daemon();
    let tells = |line: &Line| match line {
        Line::Finding(finding) => finding.reason.contains("enforce is ordered"),
        _ => false,
    };
    daemon.wait_for("the finding", STARTED, tells).unwrap();
    daemon.interrupt().unwrap();
    std::fs::remove_dir(state.pins().join("foreign")).unwrap();
}

#[test]
fn disarm_works_beside_a_daemon_and_after_it_and_remove_takes_everything_away() {
    let state = State::new();
    let daemon = state.daemon();
    let uid = state.json(&["deny", "add", DISARMED, "--force"])["uid"].as_str().unwrap().to_owned();
    let output = state.hedgerow(&["disarm", "--remove"]);
    assert_eq!(output.status.code(), Some(USAGE), "a daemon runs");
    assert!(is_refused(DISARMED));
    state.said(&["disarm"]);
    assert!(!is_refused(DISARMED));
    state.said(&["mode", "observe"]);
    assert!(is_refused(DISARMED), "the operator's own entry acts again");
    daemon.kill();
    let said = state.said(&["disarm", "--remove"]);
    assert!(said.contains("took away"), "{said}");
    assert!(!is_refused(DISARMED));
    assert!(!state.is_pinned());
    // What starts next starts disarmed, and has nothing to take over.
    let next = state.daemon();
    assert_eq!(state.json(&["mode"])["armed"], false);
    let refused = state.refused(&["deny", "add", DISARMED, "--force"]);
    assert!(refused.contains("disarmed"), "{refused}");
    assert_eq!(state.json(&["deny", "list"])["live"].as_array().unwrap().len(), 0);
    let refused = state.refused(&["deny", "remove", &uid]);
    assert!(refused.contains("no live entry"), "{refused}");
    state.said(&["mode", "observe"]);
    assert_eq!(state.json(&["mode"])["armed"], true);
    next.interrupt().unwrap();
    assert!(!state.is_pinned());
    let said = state.said(&["disarm", "--remove"]);
    assert!(said.contains("Nothing is pinned"), "{said}");
}

#[test]
fn an_operators_entry_is_refused_where_it_is_too_wide_or_the_host_itself_needs_it() {
    let state = State::new();
    let daemon = state.daemon();
    for (prefix, why) in [
        ("0.0.0.0/0", "wider than /24"),
        ("203.0.113.0/23", "wider than /24"),
        ("::/0", "wider than /64"),
        ("2001:db8::/63", "wider than /64"),
    ] {
        // Not even by force.
        let refused = state.refused(&["deny", "add", prefix, "--force"]);
        assert!(refused.contains(why), "{prefix}: {refused}");
    }
    for (prefix, why) in
        [("127.0.0.1", "loopback"), ("::1", "loopback"), ("169.254.169.254", "metadata")]
    {
        let refused = state.refused(&["deny", "add", prefix]);
        assert!(refused.contains("protected") && refused.contains(why), "{prefix}: {refused}");
    }
    assert_eq!(state.json(&["deny", "list"])["live"].as_array().unwrap().len(), 0);
    let own = state.json(&["deny", "add", "203.0.113.0/24"])["uid"].as_str().unwrap().to_owned();
    let refused = state.refused(&["deny", "add", "203.0.113.77/24"]);
    assert!(refused.contains("already stops it"), "{refused}");
    let refused = state.refused(&["deny", "remove", "--wrong", &own]);
    assert!(refused.contains("operator's own"), "{refused}");
    daemon.interrupt().unwrap();
    let why = state.said(&["deny", "list", "--why"]);
    for told in ["no entry against peer 0.0.0.0/0", "wider than /24", "Hedgerow stopped"] {
        assert!(why.contains(told), "no `{told}` in: {why}");
    }
}
