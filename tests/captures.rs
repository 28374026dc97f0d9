//! Captures that last: killed, on a full disk, read in place by somebody else. The binary itself.

#![allow(clippy::unwrap_used)]

mod busy;
#[path = "../offline/tests/life/mod.rs"]
mod life;

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use arrow::array::{AsArray, types::UInt64Type};
use busy::Busy;
use hedgerow_sink::parquet::{ParquetReader, remains};
use life::{Life, files, wall_ns};

const PROGRAM: &str = env!("CARGO_BIN_EXE_hedgerow");
/// Exit code of a file that can't be read or written.
const FILE: i32 = 4;
const NOBODY: u32 = 65_534;
const STARTED: Duration = Duration::from_secs(60);
/// A small disk is full by then.
const FULL: Duration = Duration::from_secs(180);
/// What a kill may lose.
const LOST_MAX: Duration = Duration::from_secs(5);

fn assert_root() {
    // SAFETY: geteuid has no preconditions.
    assert_eq!(unsafe { libc::geteuid() }, 0, "needs root");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Before others: every call of a loaded machine is written, and what finds no room ends a capture.
fn capture(directory: &Path) -> Child {
    let mut command = Command::new("nice");
    command.args(["-n", "-10", PROGRAM, "capture", "--full", text(directory)]);
    command.stderr(Stdio::piped()).spawn().unwrap()
}

/// One capture of the host at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait_for(what: &str, mut found: impl FnMut() -> bool) {
    let deadline = Instant::now() + STARTED;
    while !found() {
        assert!(Instant::now() < deadline, "{what} never came");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn rows(directory: &Path) -> u64 {
    remains(directory).map_or(0, |(files, _)| files.iter().map(|file| file.rows).sum())
}

/// Newest time of any record, since the Unix epoch.
fn newest(directory: &Path) -> Duration {
    let reader = ParquetReader::open(directory, None).unwrap();
    let offset: i64 = reader.metadata()["hedgerow.realtime_offset_ns"].parse().unwrap();
    let newest = reader
        .filter_map(|batch| {
            let batch = batch.unwrap();
            let times = batch.column_by_name("time_boot_ns").unwrap().as_primitive::<UInt64Type>();
            arrow::compute::max(times)
        })
        .max();
    let wall = offset.checked_add_unsigned(newest.unwrap()).unwrap();
    Duration::from_nanos(u64::try_from(wall).unwrap())
}

#[test]
fn a_killed_capture_loses_seconds_and_nobody_else_writes_beside_a_live_one() {
    assert_root();
    let _alone = alone();
    let _busy = Busy::start();
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("capture");
    let records = directory.join("records");
    let mut child = capture(&directory);
    wait_for("first segment", || records.is_dir() && rows(&records) > 0);
    let second = capture(&directory).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(FILE), "{said}");
    assert!(said.contains(&format!("process {} writes to it", child.id())), "{said}");
    // Long enough that what was written at the start would not pass for the newest.
    std::thread::sleep(LOST_MAX + Duration::from_secs(3));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let lost = now.saturating_sub(newest(&records));
    assert!(lost < LOST_MAX, "{lost:?} are lost");
    let (_, damaged) = remains(&records).unwrap();
    assert!(damaged.is_empty(), "{damaged:?}");
    // The lock went with it.
    let mut third = capture(&directory);
    let before = rows(&records);
    wait_for("a capture after the killed one", || rows(&records) > before);
    // SAFETY: the child is ours, and not waited for yet.
    unsafe { libc::kill(i32::try_from(third.id()).unwrap(), libc::SIGINT) };
    assert!(third.wait().unwrap().success());
}

/// A tmpfs of its own; unmounted when dropped.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(size: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(home.path());
        assert!(mount.status().unwrap().success(), "mount");
        Self(home)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_ends_a_capture_loudly_and_what_is_written_is_whole() {
    assert_root();
    let _alone = alone();
    let _busy = Busy::start();
    // Little more than what is kept free.
    let disk = Tmpfs::mount("257m");
    let directory = disk.0.path().join("capture");
    let mut child = capture(&directory);
    let until = Instant::now() + FULL;
    while child.try_wait().unwrap().is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    // One that goes on has no exit code.
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(FILE), "{said}");
    assert!(said.contains("are free") && said.contains(text(&directory)), "{said}");
    let (files, damaged) = remains(&directory.join("records")).unwrap();
    assert!(damaged.is_empty() && !files.is_empty(), "{damaged:?}");
    let read: u64 = ParquetReader::open(&directory.join("records"), None)
        .unwrap()
        .map(|batch| batch.unwrap().num_rows() as u64)
        .sum();
    assert_eq!(read, files.iter().map(|file| file.rows).sum::<u64>());
}

/// Runs a verb without rights, in a directory of its own, beside which the program lies.
fn as_nobody(home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(home.with_file_name("hedgerow"));
    command.args(arguments).current_dir(home).uid(NOBODY).gid(NOBODY);
    command.output().unwrap()
}

fn readable(path: &Path) {
    let mode = if path.is_dir() { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| readable(&entry.unwrap().path()));
    }
}

#[test]
fn nobody_does_all_that_is_done_with_files_and_changes_nothing() {
    assert_root();
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let capture = home.path().join("capture");
    let life = Life { segments: true, epochs: 100, ..Life::default() };
    std::mem::forget(life.remains(&capture));
    readable(&capture);
    let before = files(&capture);
    let own = home.path().join("nobody");
    fs::create_dir(&own).unwrap();
    std::os::unix::fs::chown(&own, Some(NOBODY), Some(NOBODY)).unwrap();
    // Where this was built may be nobody's to enter. Another process copies, so that no thread's child
    // holds the program open for writing.
    let copied = Command::new("cp").arg(PROGRAM).arg(own.with_file_name("hedgerow")).status();
    assert!(copied.unwrap().success());
    let capture = text(&capture);
    let said = |arguments: &[&str]| -> String {
        let output = as_nobody(&own, arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    said(&["train", capture, "--report", "report.html"]);
    said(&["score", capture, "--out", "scores"]);
    let time = |epoch: u32| chrono::DateTime::from_timestamp_nanos(wall_ns(epoch)).to_rfc3339();
    let labels = format!("start,end,host\n{},{},a\n", time(50), time(52));
    fs::write(own.join("labels.csv"), labels).unwrap();
    let labels = ["--labels", "labels.csv"];
    let told = said(&[&["eval", capture, "--json"][..], &labels].concat());
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert!(told["evaluation"]["positive_windows"].as_u64().unwrap() > 0, "{told}");
    assert!(told["evaluation"]["auroc"]["value"].as_f64().is_some(), "{told}");
    let told = said(&["backtest", capture]);
    assert!(told.contains("not available:"), "{told}");
    said(&["model", "export", "forest.onnx"]);
    said(&["model", "import", "forest.onnx", "--out", "imported", "--hold-back", capture]);
    said(&["train", capture, "--part", "--model", "part"]);
    said(&["model", "merge", "part", "-o", "merged"]);
    said(&["capture", "share", capture, "shared", "--owner", &NOBODY.to_string()]);
    said(&["score", "shared", "--model", "merged"]);
    assert!(fs::metadata(own.join("report.html")).unwrap().len() < 2 << 20);
    let report = fs::read_to_string(own.join("report.json")).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&report).unwrap()["model"].is_string());
    assert_eq!(files(Path::new(capture)), before, "nothing was changed");
    // A truncated file is told by name, and the rest is learned from.
    let cut: &PathBuf = &before[before.len() / 2];
    let whole = fs::read(cut).unwrap();
    fs::write(cut, &whole[..whole.len() / 2]).unwrap();
    let output = as_nobody(&own, &["train", capture]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(errors.contains(text(cut)) && errors.contains("of 1 epochs"), "{errors}");
    let other = as_nobody(&own, &["train", capture, "--host", "b"]);
    assert_eq!(other.status.code(), Some(2), "wrong usage");
}
