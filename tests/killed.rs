//! What a daemon leaves when it is killed, what the next one does with it, and how all of it is
//! taken away: the binary itself, live, steered by its own commands.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    net::TcpStream,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use hedgerow_event::{Activity, Finding};
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
        let path = fs::canonicalize(self.path()).unwrap();
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
    let deadline = Instant::now() + STARTED;
    while !done() {
        assert!(Instant::now() < deadline, "not within {STARTED:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn entries_outlive_a_killed_daemon_the_next_one_adopts_them_and_a_clean_stop_lifts_them() {
    let state = State::new();
    let daemon = state.daemon();
    state.said(&["deny", "add", "--peer", DENIED, "--for", "10m", "--force"]);
    state.said(&["deny", "add", "--peer", OTHER, "--for", "20s", "--force"]);
    assert!(is_refused(DENIED) && is_refused(OTHER));
    assert!(state.is_pinned());
    state.said(&["mode", "monitor"]);
    state.said(&["mode", "enforce", "--workload", "host"]);
    daemon.kill();
    assert!(is_refused(DENIED));
    eventually("the short entry expires with nobody there", || !is_refused(OTHER));
    assert!(is_refused(DENIED));
    let why = state.said(&["why", "--all"]);
    assert!(why.contains("denied peer 127.71.0.1/32 for 600 s by rule operator"), "{why}");

    let next = state.daemon();
    assert!(is_refused(DENIED), "taken over without a gap");
    let entries = state.json(&["deny", "list"]);
    let live = entries["live"].as_array().unwrap();
    assert_eq!(live.len(), 1, "{entries}");
    assert_eq!(live[0]["target"]["address"], DENIED);
    assert!(live[0]["hits"].as_u64().unwrap() >= 2, "hits survive: {entries}");
    let why = state.said(&["why", "--all"]);
    assert!(why.contains("expired unattended"), "{why}");
    // Modes were kept, too; enforce waits for what is missing.
    let modes = state.said(&["mode"]);
    assert!(modes.starts_with("monitor\n"), "{modes}");
    assert!(modes.contains("host: enforce, held at monitor"), "{modes}");
    assert!(modes.contains("0 of 7 days") && modes.contains("168 hours"), "{modes}");
    next.interrupt().unwrap();
    assert!(!is_refused(DENIED), "a clean stop lifts");
    assert!(!state.is_pinned(), "and detaches");
}

#[test]
fn a_service_managers_stop_keeps_entries_to_their_expiry_and_leaves_nothing_without_any() {
    let state = State::new();
    let daemon = state.daemon();
    state.said(&["deny", "add", "--peer", KEPT, "--for", "10m", "--force"]);
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
    state.said(&["mode", "enforce", "--workload", "host"]);
    daemon.interrupt().unwrap();
    // Somebody else's directory is where the pins go.
    fs::create_dir_all(state.pins().join("foreign")).unwrap();
    let daemon = state.daemon();
    let tells = |line: &Line| match line {
        Line::Finding(finding) => finding.reason.contains("enforce is ordered"),
        _ => false,
    };
    let told = daemon.wait_for("the finding", STARTED, tells).unwrap();
    let Line::Finding(told) = told else { unreachable!() };
    // It is shown before it is logged.
    eventually("it is in the log", || {
        let log = fs::read_to_string(state.path().join("findings.jsonl"));
        log.is_ok_and(|log| log.lines().any(|line| line.contains(&*told.uid)))
    });
    daemon.kill();
    fs::remove_dir(state.pins().join("foreign")).unwrap();
    // Who was killed closes nothing; the next daemon does, once.
    for _ in 0..2 {
        state.daemon().interrupt().unwrap();
        let log = fs::read_to_string(state.path().join("findings.jsonl")).unwrap();
        let reports = log.lines().map(|line| serde_json::from_str::<Finding>(line).unwrap());
        let of_it: Vec<Activity> =
            reports.filter(|report| report.uid == told.uid).map(|report| report.activity).collect();
        assert_eq!(of_it, [Activity::Create, Activity::Close]);
    }
}

#[test]
fn disarm_works_beside_a_daemon_and_after_it_and_remove_takes_everything_away() {
    let state = State::new();
    let daemon = state.daemon();
    let uid = state.json(&["deny", "add", "--peer", DISARMED, "--force"])["entries"][0]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    let output = state.hedgerow(&["disarm", "--remove"]);
    assert_eq!(output.status.code(), Some(USAGE), "a daemon runs");
    assert!(is_refused(DISARMED));
    state.said(&["disarm"]);
    assert!(!is_refused(DISARMED));
    state.said(&["mode", "observe"]);
    assert!(!is_refused(DISARMED), "a mode ends no disarm");
    state.said(&["arm"]);
    assert!(is_refused(DISARMED), "the operator's own entry acts again");
    daemon.kill();
    let said = state.said(&["disarm", "--remove"]);
    assert!(said.contains("took away"), "{said}");
    assert!(!is_refused(DISARMED));
    assert!(!state.is_pinned());
    // What starts next starts disarmed, and has nothing to take over.
    let next = state.daemon();
    assert_eq!(state.json(&["mode"])["armed"], false);
    let refused = state.refused(&["deny", "add", "--peer", DISARMED, "--force"]);
    assert!(refused.contains("disarmed"), "{refused}");
    assert_eq!(state.json(&["deny", "list"])["live"].as_array().unwrap().len(), 0);
    let refused = state.refused(&["deny", "remove", &uid]);
    assert!(refused.contains("no uid of an entry begins with"), "{refused}");
    state.said(&["arm"]);
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
    // Later than whatever the daemon has read of those who run something.
    let mut sleeper = Command::new("sleep").arg("300").uid(54_243).spawn().unwrap();
    for (prefix, why) in [
        ("0.0.0.0/0", "wider than /24"),
        ("203.0.113.0/23", "wider than /24"),
        ("::/0", "wider than /64"),
        ("2001:db8::/63", "wider than /64"),
    ] {
        // Not even by force.
        let refused = state.refused(&["deny", "add", "--peer", prefix, "--force"]);
        assert!(refused.contains(why), "{prefix}: {refused}");
    }
    for (prefix, why) in
        [("127.0.0.1", "loopback"), ("::1", "loopback"), ("169.254.169.254", "metadata")]
    {
        let refused = state.refused(&["deny", "add", "--peer", prefix]);
        assert!(refused.contains("protected") && refused.contains(why), "{prefix}: {refused}");
    }
    for (user, why) in
        [("root", "root"), ("nobody", "nobody"), ("1", "the system"), ("0x1", "/etc/passwd")]
    {
        let refused = state.refused(&["deny", "add", "--user", user, "--force"]);
        assert!(refused.contains(why), "{user}: {refused}");
    }
    let said = state.said(&["deny", "add", "--user", "54242", "--dry-run"]);
    assert!(said.contains("Would deny user 54242"), "{said}");
    let his = ["deny", "add", "--user", "54243", "--dry-run"];
    if fs::read_to_string("/proc/self/loginuid").is_ok_and(|login| login != u32::MAX.to_string()) {
        println!("not tried: it is known whose login orders this");
    } else {
        let refused = state.refused(&his);
        assert!(refused.contains("whose login orders this is not known"), "{refused}");
    }
    let said = state.said(&[&his[..], &["--force"]].concat());
    assert!(said.contains("Would deny user 54243"), "{said}");
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert_eq!(state.json(&["deny", "list"])["live"].as_array().unwrap().len(), 0);
    let own = state.json(&["deny", "add", "--peer", "203.0.113.0/24"])["entries"][0]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    let refused = state.refused(&["deny", "add", "--peer", "203.0.113.77/24"]);
    assert!(refused.contains("already stops it"), "{refused}");
    let refused = state.refused(&["deny", "remove", "--wrong", &own]);
    assert!(refused.contains("operator's own"), "{refused}");
    daemon.interrupt().unwrap();
    let why = state.said(&["why", "--all"]);
    for told in ["no entry against peer 0.0.0.0/0", "wider than /24", "Hedgerow stopped"] {
        assert!(why.contains(told), "no `{told}` in: {why}");
    }
}

#[test]
fn an_operators_word_is_checked_explained_and_says_whose_it_is() {
    let state = State::new();
    let daemon = state.daemon();
    // Names: the nearest is told, and what was misspelt did nothing.
    let refused = state.refused(&["mode", "enforce", "--workload", "hots"]);
    assert!(refused.contains("did you mean `host`"), "{refused}");
    let refused = state.refused(&["maintenance", "5m", "--workload", "hots"]);
    assert!(refused.contains("did you mean `host`"), "{refused}");
    // A dry run installs nothing.
    let add = ["deny", "add", "--peer", "203.0.113.8", "--for", "10m"];
    let said = state.said(&[&add[..], &["--dry-run"]].concat());
    assert!(said.contains("Would deny peer 203.0.113.8/32"), "{said}");
    assert_eq!(state.json(&["deny", "list"])["live"].as_array().unwrap().len(), 0);
    // The reason is kept without its secret, and with who said so.
    let reason = ["--reason", "seen by curl --token hunter2\u{1b}[2J"];
    let uid =
        state.json(&[&add[..], &reason].concat())["entries"][0]["uid"].as_str().unwrap().to_owned();
    let other = ["deny", "add", "--peer", "203.0.113.9", "--for", "10m"];
    state.said(&other);
    for what in ["203.0.113.8", &uid, &uid[..uid.len() - 1]] {
        let why = state.said(&["why", what]);
        let by = format!("by uid {}", own_uid());
        assert!(why.contains("--token ***") && why.contains(&by), "{what}: {why}");
        assert!(!why.contains("203.0.113.9") && !why.contains('\u{1b}'), "{what}: {why}");
    }
    let ledger = fs::read_to_string(state.path().join("ledger.jsonl")).unwrap();
    assert!(!ledger.contains("hunter2"));
    // Beginnings that fit several are refused; --all lifts what is left.
    let common = state.refused(&["deny", "remove", ""]);
    assert!(common.contains("beginning"), "{common}");
    let own = uid.rsplit('-').next().unwrap();
    state.said(&["deny", "remove", &own[..own.len() - 1]]);
    let removed = state.json(&["deny", "remove", "--all"]);
    assert_eq!(removed["lifted"].as_array().unwrap().len(), 1, "{removed}");
    // Allowances: to all for a while, and taken back.
    state.said(&["allow", "add", "203.0.113.9", "--for", "1h"]);
    assert!(state.said(&["allow", "list"]).contains("203.0.113.9/32 to all until 2"));
    state.said(&["allow", "remove", "203.0.113.9"]);
    assert!(state.refused(&["allow", "remove", "203.0.113.9"]).contains("not allowed"));
    // What would meet others than the workload that was named is refused.
    let refused = state.refused(&["allow", "add", "203.0.113.9", "--workload", "host"]);
    assert!(refused.contains("all workloads are"), "{refused}");
    // A program that ran can be named, one that didn't is told so.
    let named = ["deny", "add", "--peer", "203.0.113.11", "--dry-run", "--program"];
    eventually("a program that ran is known", || {
        assert!(Command::new("/usr/bin/true").status().unwrap().success());
        let output = state.hedgerow(&[&named[..], &["/usr/bin/true"]].concat());
        String::from_utf8_lossy(&output.stdout).contains("Would deny peer 203.0.113.11/32")
    });
    let refused = state.refused(&[&named[..], &["/usr/bin/no-such-program"]].concat());
    assert!(refused.contains("not seen since the daemon began"), "{refused}");
    // So does what the host stands on, which takes force, whoever means it.
    eventually("a package manager that ran is protected", || {
        assert!(Command::new("/usr/bin/dpkg").arg("--version").output().unwrap().status.success());
        let output = state.hedgerow(&["deny", "add", "--dry-run", "--program", "/usr/bin/dpkg"]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        told.contains("it meets a package manager") && told.contains("--force")
    });
    // The kill switch has a line with whose order it was, however soon it is ended.
    state.said(&other);
    state.said(&["disarm"]);
    let listed = state.hedgerow(&["deny", "list"]);
    assert!(String::from_utf8_lossy(&listed.stderr).contains("until `hedgerow arm`"));
    state.said(&["arm"]);
    let why = state.said(&["why"]);
    for order in ["disarmed: nothing is refused (by uid", "an operator ended disarm (by uid"] {
        assert!(why.contains(order), "{why}");
    }
    state.said(&["deny", "remove", "--all"]);
    state.said(&["allow", "add", "203.0.113.10", "--for", "1s"]);
    eventually("the allowance ends by itself", || {
        state.json(&["allow", "list"])["allowed"].as_array().unwrap().is_empty()
    });
    // Maintenance shows in the status, outlives a killed daemon and ends by itself or by order.
    state.said(&["maintenance", "30m"]);
    assert!(state.said(&["status"]).contains("maintenance: the whole host until"));
    daemon.kill();
    let next = state.daemon();
    let told = state.json(&["status"]);
    assert!(told["maintenance"][0]["by"]["pid"].is_u64(), "{told}");
    state.said(&["maintenance", "--end"]);
    state.said(&["maintenance", "1s", "--workload", "host"]);
    eventually("maintenance ends by itself", || {
        state.json(&["status"])["maintenance"].as_array().unwrap().is_empty()
    });
    assert!(state.refused(&["maintenance", "--end"]).contains("no such maintenance"));
    next.interrupt().unwrap();
}

/// Of this process, as of the commands that it starts.
fn own_uid() -> u32 {
    // SAFETY: it only reads.
    unsafe { libc::geteuid() }
}
