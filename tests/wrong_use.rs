//! Wrong use ends with one clear line, the documented exit code, and nothing left in the kernel.

#![allow(clippy::unwrap_used)]

mod busy;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    os::{fd::AsRawFd, unix::process::CommandExt},
    path::Path,
    process::{Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use busy::Busy;
use tempfile::{TempDir, tempdir};

const PROGRAM: &str = env!("CARGO_BIN_EXE_hedgerow");
const NOBODY: u32 = 65_534;
/// The kernel frees programs a little after their last holder is gone.
const FREED: Duration = Duration::from_secs(20);
const STARTED: Duration = Duration::from_secs(120);

/// Exit codes of `hedgerow --help`.
const USAGE: i32 = 2;
const HOST: i32 = 3;
const FILE: i32 = 4;
const NO_DAEMON: i32 = 5;

/// One test at a time loads programs, so that what is left is its own.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Programs in the kernel.
fn loaded() -> BTreeSet<u32> {
    let of_ours = |name: &str| name.starts_with("on_") || name.starts_with("deny_");
    libbpf_rs::query::ProgInfoIter::default()
        .filter(|program| program.name.to_str().is_some_and(of_ours))
        .map(|program| program.id)
        .collect()
}

/// Those that no living process holds: pinned or attached for good.
fn orphans() -> BTreeSet<u32> {
    let mut found = loaded();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(files) = fs::read_dir(process.path().join("fdinfo")) else { continue };
        for file in files.flatten() {
            let text = fs::read_to_string(file.path()).unwrap_or_default();
            let held = text.lines().find_map(|line| line.strip_prefix("prog_id:"));
            if let Some(id) = held.and_then(|id| id.trim().parse().ok()) {
                found.remove(&id);
            }
        }
    }
    found
}

/// Runs what must leave nothing behind.
fn leaving_nothing<T>(run: impl FnOnce() -> T) -> T {
    let _alone = alone();
    let before = loaded();
    let done = run();
    let deadline = Instant::now() + FREED;
    loop {
        let left: Vec<u32> = orphans().difference(&before).copied().collect();
        if left.is_empty() {
            return done;
        }
        assert!(Instant::now() < deadline, "programs {left:?} are still in the kernel");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Asserts a refusal: the code, and one line that holds every word.
fn assert_refused(output: &Output, code: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "not one line: {said}");
    assert!(said.starts_with("hedgerow: "), "{said}");
    for word in words {
        assert!(said.contains(word), "no `{word}` in: {said}");
    }
}

fn hedgerow(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn who_is_not_root_is_told_so() {
    // Another user may be unable to reach the build directory, but not an open file.
    let program = File::open(PROGRAM).unwrap();
    let descriptor = program.as_raw_fd();
    // SAFETY: plain numbers; the descriptor is open.
    assert_eq!(unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) }, 0);
    for arguments in [&["run", "--state", "/nonexistent"][..], &["capture", "/nonexistent"]] {
        let output = leaving_nothing(|| {
            let mut command = Command::new(format!("/proc/self/fd/{descriptor}"));
            command.args(arguments).uid(NOBODY).gid(NOBODY).output().unwrap()
        });
        assert_refused(&output, HOST, &["root"]);
    }
}

/// Runs with a mount namespace of its own, after `prepare`.
fn run_without(prepare: &str) -> Output {
    let state = tempdir().unwrap();
    leaving_nothing(|| {
        let script = format!("{prepare} && exec \"$0\" run --state \"$1\"");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", &script, PROGRAM, text(state.path())]);
        command.output().unwrap()
    })
}

#[test]
fn a_kernel_without_type_information_is_refused_by_name() {
    let output = run_without("mount -t tmpfs none /sys/kernel/btf");
    assert_refused(&output, HOST, &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"]);
}

#[test]
fn a_host_without_cgroup_v2_is_refused_by_name() {
    let output = run_without(
        "awk '$0 ~ / - cgroup2 / { print $5 }' /proc/self/mountinfo | xargs -n1 umount -l",
    );
    assert_refused(&output, HOST, &["cgroup v2", "mount"]);
}

#[test]
fn an_unknown_key_is_named() {
    let directory = tempdir().unwrap();
    let config = directory.path().join("config.toml");
    fs::write(&config, "learn = \"2m\"\nlern = \"2m\"\n").unwrap();
    let output = leaving_nothing(|| hedgerow(&["run", "--config", text(&config)]));
    assert_refused(&output, USAGE, &["config.toml", "line 2", "lern"]);
}

#[test]
fn a_corrupt_model_is_named_and_nothing_starts() {
    let state = tempdir().unwrap();
    let model = state.path().join("model.hedgerow");
    fs::write(&model, b"not a model, however long it may be").unwrap();
    let output = leaving_nothing(|| hedgerow(&["run", "--state", text(state.path())]));
    assert_refused(&output, FILE, &["model.hedgerow"]);
}

#[test]
fn orders_that_are_corrupt_are_named_and_nothing_starts() {
    let state = tempdir().unwrap();
    fs::write(state.path().join("responder.json"), b"{").unwrap();
    let output = leaving_nothing(|| hedgerow(&["run", "--state", text(state.path())]));
    assert_refused(&output, FILE, &["responder.json", "hedgerow mode"]);
}

/// A capture's directory with one file, as given.
fn capture(name: &str, contents: &[u8]) -> TempDir {
    let directory = tempdir().unwrap();
    fs::create_dir(directory.path().join("records")).unwrap();
    fs::write(directory.path().join("records").join(name), contents).unwrap();
    directory
}

#[test]
fn a_file_that_is_no_capture_is_named_with_what_is_wrong() {
    let empty = tempdir().unwrap();
    assert_refused(&hedgerow(&["train", text(empty.path())]), FILE, &["records", "capture"]);
    let output = hedgerow(&["train", "/nonexistent"]);
    assert_refused(&output, FILE, &["/nonexistent", "No such file"]);
    let corrupt = capture("part-1.parquet", b"PAR1 but no footer at all PAR1");
    let output = hedgerow(&["train", text(corrupt.path())]);
    assert_refused(&output, FILE, &["part-1.parquet", "unreadable"]);
    let foreign = capture("part-1.parquet", &foreign_parquet());
    let output = hedgerow(&["train", text(foreign.path())]);
    assert_refused(&output, FILE, &["part-1.parquet", "metadata", "hedgerow capture"]);
    let model = tempdir().unwrap();
    let model = model.path().join("m");
    let output = hedgerow(&["score", text(corrupt.path()), "--model", text(&model)]);
    assert_refused(&output, FILE, &["part-1.parquet"]);
}

/// Parquet that somebody else wrote.
fn foreign_parquet() -> Vec<u8> {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    let column = std::sync::Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("a", column)]).unwrap();
    let mut bytes = Vec::new();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn a_command_without_a_daemon_says_how_to_start_one() {
    let state = tempdir().unwrap();
    for arguments in [
        &["mode"][..],
        &["deny", "list"],
        &["test"],
        &["findings", "accept", "x"],
        &["status"],
        &["arm"],
        &["maintenance", "5m"],
    ] {
        let arguments = [arguments, &["--state", text(state.path())]].concat();
        assert_refused(&hedgerow(&arguments), NO_DAEMON, &["control.sock", "hedgerow run"]);
    }
}

#[test]
fn what_is_asked_of_a_state_directory_that_is_not_there_says_that_no_daemon_answers() {
    let state = tempdir().unwrap().path().join("none");
    for arguments in [
        &["findings", "list"][..],
        &["findings", "show", "x"],
        &["why"],
        &["why", "x"],
        &["status"],
    ] {
        let arguments = [arguments, &["--state", text(&state)]].concat();
        assert_refused(&hedgerow(&arguments), NO_DAEMON, &["none/control.sock", "hedgerow run"]);
    }
}

#[test]
fn an_unreachable_broker_is_a_warning_and_the_daemon_goes_on() {
    let state = tempdir().unwrap();
    let said = leaving_nothing(|| {
        let mut child = Command::new(PROGRAM)
            .args(["run", "--json", "--kafka", "127.0.0.1:1", "--state", text(state.path())])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let id = child.id().cast_signed();
        // Past its start it tells a status for each epoch.
        let output = BufReader::new(child.stdout.take().unwrap());
        let started = Instant::now();
        let goes_on = output
            .lines()
            .map_while(Result::ok)
            .any(|line| line.contains("seconds_left") || started.elapsed() > STARTED);
        // SAFETY: the child is ours and was not waited for.
        assert_eq!(unsafe { libc::kill(id, libc::SIGINT) }, 0);
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(child.wait().unwrap().success(), "{said}");
        assert!(goes_on && started.elapsed() < STARTED, "{said}");
        said
    });
    let notes: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let warnings = notes.iter().filter(|note| note["level"] == "warning");
    let mut warnings = warnings.filter_map(|note| note["message"].as_str());
    let warning = warnings.find(|warning| warning.contains("127.0.0.1:1")).expect(&said);
    assert!(warning.contains("can't be reached") && warning.contains("disk"), "{warning}");
    assert!(state.path().join("kafka").is_dir(), "there is a spool");
}

#[test]
fn a_capture_ends_by_itself_and_leaves_nothing() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("capture");
    let output = leaving_nothing(|| {
        let _busy = Busy::start();
        hedgerow(&["capture", text(&path), "--seconds", "6", "--full", "--json"])
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        told["records"].as_u64().unwrap() > 0 && told["files"].as_u64().unwrap() >= 2,
        "{told}"
    );
    // Six seconds are too few to learn from; it says how many are missing.
    let output = hedgerow(&["train", text(&path), "--model", text(&directory.path().join("m"))]);
    assert_refused(&output, FILE, &["too short", "epochs"]);
}
