//! What is outside of the daemon can't stop it: files of others, closed pipes, signals, a full disk.
//! The binary itself, live.

#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader},
    os::fd::AsRawFd,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use hedgerow_lab::{Bait, Daemon, Line, Trap};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hedgerow");
/// A start on a loaded machine.
const STARTED: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(60);

/// A state directory whose pins go with it.
struct State(TempDir);

impl State {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn path(&self) -> &Path {
        self.0.path()
    }
    fn text(&self) -> &str {
        self.path().to_str().unwrap()
    }
    /// A daemon that learns, started with this state.
    fn daemon(&self) -> Daemon {
        let arguments = ["--no-syscalls", "--state", self.text()];
        let log = self.path().join("daemon.log");
        let daemon = Daemon::start(Path::new(PROGRAM), &arguments, &log).unwrap();
        let started = |line: &Line| matches!(line, Line::Status(told) if !told["proved"].is_null());
        daemon.wait_for("start", STARTED, started).unwrap();
        daemon
    }
    /// A daemon whose output goes where the test wants it.
    fn bare(&self, output: Stdio, errors: Stdio) -> Bare {
        let mut command = Command::new(PROGRAM);
        command.args(["run", "--json", "--no-syscalls", "--state", self.text()]);
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn().unwrap();
        Bare(child)
    }
    fn answers(&self) -> bool {
        self.hedgerow(&["mode"]).status.success()
    }
    fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("daemon.log")).unwrap()
    }
    fn hedgerow(&self, arguments: &[&str]) -> Output {
        Command::new(PROGRAM).args(arguments).args(["--state", self.text()]).output().unwrap()
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = self.hedgerow(&["disarm", "--remove"]);
    }
}

/// A daemon that is killed where a test fails.
struct Bare(Child);

impl Bare {
    fn signal(&self, signal: libc::c_int) {
        // SAFETY: the child is not reaped yet.
        assert_eq!(unsafe { libc::kill(self.0.id().cast_signed(), signal) }, 0);
    }
    fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the daemon ends", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn files_that_wait_for_a_reader_hold_nothing_up() {
    let baits = [Bait::Fifo, Bait::Zero, Bait::Sparse, Bait::Silent];
    let traps: Vec<Trap> = baits.into_iter().map(|bait| Trap::set(bait).unwrap()).collect();
    let state = State::new();
    let daemon = state.daemon();
    eventually("what is not read is told", || {
        state.log().contains("addresses of others: a file of mount")
    });
    let unread = |line: &Line| match line {
        Line::Status(told) => told["unread"].as_array().is_some_and(|unread| !unread.is_empty()),
        _ => false,
    };
    daemon.wait_for("a status that names who is not read", LIMIT, unread).unwrap();
    let answered = state.hedgerow(&["deny", "list", "--json"]);
    assert!(answered.status.success(), "{answered:?}");
    daemon.interrupt().unwrap();
    drop(traps);
}

#[test]
fn who_closes_standard_output_stops_the_daemon_cleanly() {
    let state = State::new();
    let mut daemon = state.bare(Stdio::piped(), Stdio::null());
    let mut output = BufReader::new(daemon.0.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert!(line.contains("proved"), "{line}");
    drop(output);
    assert_eq!(daemon.ended().code(), Some(1), "it failed, and says so");
    let said = state.hedgerow(&["disarm", "--remove"]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("Nothing is pinned"), "it cleaned up: {said}");
}

#[test]
fn a_stalled_reader_closed_errors_and_a_hangup_stop_nothing() {
    let state = State::new();
    // Room for a few lines, which nobody reads; and an end that nobody holds.
    let (stalled, output) = std::io::pipe().unwrap();
    // SAFETY: sets the size of a pipe.
    let size = unsafe { libc::fcntl(output.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) };
    assert_eq!(size, 4096);
    let (gone, errors) = std::io::pipe().unwrap();
    drop(gone);
    let mut daemon = state.bare(output.into(), errors.into());
    eventually("it answers", || state.answers());
    // A warning that nobody hears.
    daemon.signal(libc::SIGHUP);
    let is_full = || {
        let mut waiting = 0;
        assert_eq!(
            // SAFETY: the descriptor is open; the call writes how many bytes wait into one int.
            unsafe { libc::ioctl(stalled.as_raw_fd(), libc::FIONREAD, &raw mut waiting) },
            0
        );
        waiting > 1500
    };
    eventually("nobody reads", is_full);
    // Each is a line for the full pipe, and an answer of the loop's.
    for number in 0..20 {
        let address = format!("127.72.0.{number}");
        let denied = state.hedgerow(&["deny", "add", "--peer", &address, "--for", "1m", "--force"]);
        assert!(denied.status.success(), "{denied:?}");
    }
    assert!(daemon.0.try_wait().unwrap().is_none());
    daemon.signal(libc::SIGINT);
    assert!(daemon.ended().success());
    drop(stalled);
    let said = state.hedgerow(&["disarm", "--remove"]);
    assert!(String::from_utf8_lossy(&said.stdout).contains("Nothing is pinned"));
}

#[test]
fn a_hangup_is_told() {
    let state = State::new();
    let daemon = state.daemon();
    // SAFETY: the daemon runs.
    assert_eq!(unsafe { libc::kill(daemon.id().cast_signed(), libc::SIGHUP) }, 0);
    eventually("it is told", || state.log().contains("SIGHUP"));
    assert!(state.answers());
    daemon.interrupt().unwrap();
}

#[test]
fn wrong_namespaces_are_refused_by_name() {
    for (kind, arguments) in
        [("pid", &["--pid", "--fork", "--mount-proc"][..]), ("cgroup", &["--cgroup"])]
    {
        let state = State::new();
        let mut command = Command::new("unshare");
        command.args(arguments).args([PROGRAM, "run", "--no-syscalls", "--state", state.text()]);
        let told = command.output().unwrap();
        let said = String::from_utf8_lossy(&told.stderr).into_owned();
        assert_eq!(told.status.code(), Some(3), "{kind}: {said}");
        assert!(said.contains(&format!("the host's {kind} namespace")), "{said}");
    }
}

#[test]
fn two_daemons_never_share_a_state_directory() {
    let state = State::new();
    let daemon = state.daemon();
    let second = state.hedgerow(&["run", "--no-syscalls"]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains(&format!("process {}", daemon.id())), "{said}");
    daemon.interrupt().unwrap();
}
