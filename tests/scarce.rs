//! A host that has nothing left to give: no thread, and no room on the disk. The binary itself, live.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use hedgerow_lab::{Daemon, Disk, Line, Still};

const PROGRAM: &str = env!("CARGO_BIN_EXE_hedgerow");
const STARTED: Duration = Duration::from_secs(60);
/// Windows of a loaded machine.
const WINDOW: Duration = Duration::from_secs(30);
/// A loopback address of this test's own.
const PEER: &str = "127.72.0.1";

/// A state directory whose pins go with it.
struct State(tempfile::TempDir);

impl State {
    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }
    /// A daemon that learns, started with this state.
    fn daemon(&self) -> Daemon {
        self.start(&self.0.path().join("daemon.log"), &[])
    }
    fn start(&self, log: &Path, more: &[&str]) -> Daemon {
        let arguments = [&["--no-syscalls", "--state", self.path()], more].concat();
        let daemon = Daemon::start(Path::new(PROGRAM), &arguments, log).unwrap();
        let started = |line: &Line| matches!(line, Line::Status(told) if !told["proved"].is_null());
        daemon.wait_for("start", STARTED, started).unwrap();
        daemon
    }
    fn hedgerow(&self, arguments: &[&str]) -> String {
        let output =
            Command::new(PROGRAM).args(arguments).args(["--state", self.path()]).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let mut remove = Command::new(PROGRAM);
        let _ = remove.args(["disarm", "--remove", "--state", self.path()]).output();
    }
}

/// A cgroup that bounds how many threads there may be in it.
struct Tasks(PathBuf);

impl Tasks {
    fn new() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let of = |line: &str, kind: &str| {
            let (fields, rest) = line.split_once(" - ")?;
            let is_it = rest.starts_with(kind) && (kind == "cgroup2 " || rest.ends_with("pids"));
            is_it.then(|| PathBuf::from(fields.split(' ').nth(4).unwrap()))
        };
        let v1 = mounts.lines().find_map(|line| of(line, "cgroup "));
        let root = v1.unwrap_or_else(|| {
            let root = mounts.lines().find_map(|line| of(line, "cgroup2 ")).unwrap();
            fs::write(root.join("cgroup.subtree_control"), "+pids").unwrap();
            root
        });
        let path = root.join(format!("hedgerow-scarce-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
    /// No thread any more.
    fn take(&self, process: u32) {
        fs::write(self.0.join("cgroup.procs"), process.to_string()).unwrap();
        fs::write(self.0.join("pids.max"), "1").unwrap();
    }
    /// Threads that were refused.
    fn refused(&self) -> u64 {
        let events = fs::read_to_string(self.0.join("pids.events")).unwrap();
        events.trim().strip_prefix("max ").unwrap().parse().unwrap()
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::remove_dir(&self.0).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Waits until so many have closed from now on.
fn windows(daemon: &Daemon, count: usize) {
    for _ in 0..count {
        let closed = |line: &Line| matches!(line, Line::Status(_));
        daemon.wait_for("a window", WINDOW, closed).unwrap();
    }
}

#[test]
fn without_a_thread_to_be_had_windows_close_entries_refuse_and_a_stop_lifts_them() {
    let state = State(tempfile::tempdir().unwrap());
    let tasks = Tasks::new();
    let daemon = state.daemon();
    tasks.take(daemon.id());
    windows(&daemon, 3);
    let listener = TcpListener::bind((PEER, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let _standing = TcpStream::connect(address).unwrap();
    state.hedgerow(&["deny", "add", "--peer", PEER, "--for", "10m", "--force"]);
    assert!(TcpStream::connect(address).is_err());
    let why = state.hedgerow(&["why", "--all"]);
    assert!(tasks.refused() > 0, "it could have had a thread: {why}");
    daemon.interrupt().unwrap();
    TcpStream::connect(address).unwrap();
}

#[test]
fn a_disk_that_stands_still_holds_up_no_window() {
    let state = State(tempfile::tempdir().unwrap());
    let daemon = state.daemon();
    let still = Still::at(state.0.path()).unwrap();
    let begun = Instant::now();
    state.hedgerow(&["maintenance", "30m"]);
    assert!(begun.elapsed() < WINDOW, "{:?}", begun.elapsed());
    windows(&daemon, 2);
    // So that it doesn't wait for that at its end.
    drop(still);
    daemon.interrupt().unwrap();
    assert!(state.0.path().join("orders.json").exists());
}

#[test]
fn without_an_inode_to_be_had_at_its_start_a_daemon_watches_all_the_same() {
    let state = State(tempfile::tempdir().unwrap());
    let disk = Disk::over(state.0.path(), "mode=700,nr_inodes=64").unwrap();
    state.daemon().interrupt().unwrap();
    // A neighbour's.
    let fillers = disk.take_files();
    let daemon = state.daemon();
    windows(&daemon, 2);
    let log = disk.path().join("daemon.log");
    let told = fs::read_to_string(&log).unwrap();
    assert!(told.contains("nobody can steer") && told.contains("a restart forgets it"), "{told}");
    fillers.iter().for_each(|filler| fs::remove_file(filler).unwrap());
    eventually_told(&log, "can be steered");
    daemon.interrupt().unwrap();
}

#[test]
fn a_first_start_in_enforce_without_an_inode_is_told_and_writes_once_there_is_one() {
    let state = State(tempfile::tempdir().unwrap());
    let disk = Disk::over(state.0.path(), "mode=700,nr_inodes=64").unwrap();
    let fillers = disk.take_files();
    let elsewhere = tempfile::tempdir().unwrap();
    let (log, config) = (elsewhere.path().join("log"), elsewhere.path().join("hedgerow.toml"));
    // Nothing listens on the discard port of loopback.
    fs::write(&config, "[kafka]\nbrokers = \"127.0.0.1:9\"\n").unwrap();
    let daemon = state.start(&log, &["--mode", "enforce", "--config", config.to_str().unwrap()]);
    windows(&daemon, 2);
    let untold = [
        "identity.key",
        "can't open the ledger",
        "or not, can't be noted",
        "waits in memory alone",
    ];
    untold.iter().for_each(|told| eventually_told(&log, told));
    fillers.iter().for_each(|filler| fs::remove_file(filler).unwrap());
    let mended =
        ["is written by now", "the ledger is written again", "is noted again", "on disk again"];
    mended.iter().for_each(|told| eventually_told(&log, told));
    eventually_told(&log, "can be steered");
    state.hedgerow(&["deny", "add", "--peer", PEER, "--for", "10m", "--force"]);
    let (ledger, mark) = (disk.path().join("ledger.jsonl"), disk.path().join("reported"));
    let until = Instant::now() + WINDOW;
    while fs::metadata(&ledger).unwrap().len() == 0
        || fs::read_to_string(&mark).unwrap().trim().is_empty()
    {
        assert!(Instant::now() < until, "what was decided is not written");
        std::thread::sleep(Duration::from_millis(200));
    }
    daemon.interrupt().unwrap();
}

fn eventually_told(log: &Path, what: &str) {
    let until = Instant::now() + WINDOW;
    loop {
        let told = fs::read_to_string(log).unwrap();
        if told.contains(what) {
            return;
        }
        assert!(Instant::now() < until, "not told: {what}: {told}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
