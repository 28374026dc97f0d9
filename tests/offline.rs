//! Offline = online: what a daemon learned and found live, `train` and `score` learn and find again
//! from what it captured.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use hedgerow_event::{Activity, Finding};
use hedgerow_model::file::ModelFile;
use hedgerow_sink::parquet::ParquetReader;
use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hedgerow");
const LEARNING: Duration = Duration::from_secs(300);
const FINDING: Duration = Duration::from_secs(20);
/// What waits for the disk is written first, on a busy machine for minutes.
const STOPPING: Duration = Duration::from_secs(240);

/// `hedgerow run`, killed if the test ends before it.
struct Daemon {
    child: Child,
    lines: Receiver<Value>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // So that a failed test leaves no deny program pinned.
            // SAFETY: the child is ours and was not waited for.
            unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGINT) };
            let deadline = Instant::now() + STOPPING;
            while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
                thread::sleep(Duration::from_millis(20));
            }
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Daemon {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["run", "--json"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                drop(sender.send(serde_json::from_str(&line).unwrap()));
            }
        });
        Self { child, lines }
    }

    /// Reads what the daemon says until a line fits; tells whether one did in time.
    fn wait_for(&self, limit: Duration, fits: impl Fn(&Value) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if fits(&line) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }

    /// Ctrl-C; gives the records that were not captured.
    fn stop(mut self) -> u64 {
        // SAFETY: the child is ours and was not waited for.
        assert_eq!(unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGINT) }, 0);
        let mut not_captured = None;
        let deadline = Instant::now() + STOPPING;
        while let Ok(line) =
            self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            not_captured = line["status"]["capture_lost"].as_u64().or(not_captured);
        }
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the daemon doesn't end");
            thread::sleep(Duration::from_millis(20));
        };
        assert!(status.success(), "{status}");
        not_captured.unwrap()
    }
}

/// Programs, files and connections over loopback, the same in every second.
fn ordinary_life(stop: &AtomicBool) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    while !stop.load(Ordering::Relaxed) {
        for program in ["true", "ls"] {
            let status = Command::new(program).current_dir("/").stdout(Stdio::null()).status();
            assert!(status.unwrap().success());
        }
        drop((TcpStream::connect(address).unwrap(), listener.accept().unwrap()));
        fs::write(directory.path().join("file"), [7; 4096]).unwrap();
        thread::sleep(Duration::from_millis(200));
    }
}

/// A program never seen, in a writable place, that calls somebody and makes calls that none of the
/// load makes.
fn strange_deed(directory: &Path, name: &str) {
    let program = directory.join(name);
    fs::copy("/bin/bash", &program).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{port}; for n in {{1..4000}}; do umask 077; : >$0.$n; done; read -t 2"
    );
    let mut child =
        Command::new(&program).arg("-c").arg(script).arg(&program).stdin(Stdio::piped()).spawn();
    drop(listener.accept().unwrap());
    child.as_mut().unwrap().wait().unwrap();
}

fn run(arguments: &[&str]) {
    let output = Command::new(PROGRAM).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "hedgerow {}: {errors}", arguments.join(" "));
    assert!(!errors.contains('\r') && !errors.contains('\x1b'), "no progress bar in a pipe");
}

/// Findings as both sides can tell them: what `/proc` said of a live process is not in a capture,
/// and an episode that the end cuts short closes when its side ends.
fn findings(log: &Path) -> Vec<Finding> {
    let text = fs::read_to_string(log).unwrap();
    let all = text.lines().map(|line| serde_json::from_str::<Finding>(line).unwrap());
    all.map(|mut finding| {
        if let Some(process) = &mut finding.process {
            let (pid, start_boot_ns) = (process.pid, process.start_boot_ns);
            *process = hedgerow_event::Process { pid, start_boot_ns, ..Default::default() };
        }
        if finding.activity == Activity::Close {
            finding.time_ns = 0;
        }
        finding
    })
    .collect()
}

/// The learned section of a model file, whose format is the binary's own.
fn learned(model: &ModelFile) -> ciborium::Value {
    let (name, version) =
        model.other_sections().find(|(name, _)| *name == "hedgerow.learned").unwrap();
    let bytes: Vec<u8> = model.attached(name, version).unwrap().unwrap();
    ciborium::from_reader(bytes.as_slice()).unwrap()
}

/// Everything below a key, wherever it is.
fn below<'a>(value: &'a ciborium::Value, key: &str, found: &mut Vec<&'a ciborium::Value>) {
    if let Some(map) = value.as_map() {
        for (name, inner) in map {
            if name.as_text() == Some(key) {
                found.push(inner);
            } else {
                below(inner, key, found);
            }
        }
    }
}

/// Asserts that two models learned the same: what goes on changing while it scores (calibration,
/// budget and what was seen) aside.
fn assert_same_model(live: &Path, trained: &Path) {
    let [live, trained] = [live, trained].map(|path| ModelFile::load(path).unwrap());
    assert!(live.profile == trained.profile, "the profiles differ");
    assert_eq!(live.schema, trained.schema);
    let [live, trained] = [&live, &trained].map(learned);
    for key in ["model_id", "forest", "neighbors", "distance_median", "reference"] {
        let [mut a, mut b] = [Vec::new(), Vec::new()];
        below(&live, key, &mut a);
        below(&trained, key, &mut b);
        assert!(!a.is_empty(), "`{key}` is in the model");
        assert!(a == b, "`{key}` differs");
    }
}

/// A daemon that learned, found a strange deed and was stopped; in which it captured.
struct Lived {
    directory: TempDir,
    /// Records that found no room on the way to the disk.
    not_captured: u64,
}

impl Lived {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn live() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let [state, capture] =
            ["state", "capture"].map(|name| directory.path().join(name).display().to_string());
        let stop = Arc::new(AtomicBool::new(false));
        let life = thread::spawn({
            let stop = Arc::clone(&stop);
            move || ordinary_life(&stop)
        });
        let always = ["--learn", "60s", "--seed", "7", "--state", &state, "--capture", &capture];
        let daemon = Daemon::start(&always);
        let scoring = daemon.wait_for(LEARNING, |line| line["status"]["phase"] == "scoring");
        assert!(scoring, "it never began to score");
        // What else goes on here may have looked as strange while it was learned: then it takes
        // more than one, and where none is found live, none may be found in the capture either.
        ["strange", "stranger", "strangest"].iter().any(|name| {
            strange_deed(directory.path(), name);
            daemon.wait_for(FINDING, |line| line.get("finding").is_some())
        });
        let not_captured = daemon.stop();
        stop.store(true, Ordering::Relaxed);
        life.join().unwrap();
        Self { directory, not_captured }
    }

    /// Trains and scores from the capture, and asserts that both give what was live.
    fn assert_replayed(&self) {
        let [capture, model, scores] =
            ["capture", "model", "scores"].map(|name| self.path(name).display().to_string());
        run(&["train", &capture, "--model", &model]);
        assert_same_model(&self.path("state/model.hedgerow"), model.as_ref());
        run(&["score", &capture, "--model", &model, "--out", &scores]);
        let live = findings(&self.path("state/findings.jsonl"));
        assert_eq!(live, findings(&self.path("scores/findings.jsonl")));
        assert_scores(&self.path("scores/scores"), &live);
    }
}

#[test]
fn a_capture_gives_the_model_and_the_findings_that_the_daemon_had() {
    let lived = Lived::live();
    assert_eq!(lived.not_captured, 0);
    lived.assert_replayed();
}

/// One row a window, in range, with the findings that windows are part of.
fn assert_scores(stream: &Path, live: &[Finding]) {
    use arrow::array::{AsArray, types::Float64Type};
    let mut uids = Vec::new();
    let mut rows = 0;
    for batch in ParquetReader::open(stream, None).unwrap() {
        let batch = batch.unwrap();
        rows += batch.num_rows();
        let scores = batch.column_by_name("score").unwrap().as_primitive::<Float64Type>();
        assert!(scores.iter().all(|score| score.is_some_and(|score| score > 0.0 && score <= 1.0)));
        let column = batch.column_by_name("finding_uid").unwrap().as_string::<i32>();
        uids.extend(column.iter().flatten().map(str::to_owned));
    }
    assert!(rows > 0);
    for finding in live.iter().filter(|finding| finding.activity == Activity::Create) {
        assert!(uids.contains(&finding.uid), "{} has no scored window", finding.uid);
    }
}
