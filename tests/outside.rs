//! What is outside of the daemon can't stop it: files of others, closed pipes, signals, a full disk.
//! The binary itself, live.

#![allow(clippy::unwrap_used)]

use std::{
    path::Path,
    process::{Command, Output},
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
    eventually("what is not read is told", || state.log().contains("addresses: a file of mount"));
    let unread = |line: &Line| match line {
        Line::Status(told) => told["unread"].as_array().is_some_and(|unread| unread.len() == 1),
        _ => false,
    };
    daemon.wait_for("a status that names who is not read", LIMIT, unread).unwrap();
    let answered = state.hedgerow(&["deny", "list", "--json"]);
    assert!(answered.status.success(), "{answered:?}");
    daemon.interrupt().unwrap();
    drop(traps);
}
