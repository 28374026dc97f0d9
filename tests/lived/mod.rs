//! A daemon that learned the life of a lab, found an attack in it and captured all of it; and what
//! two sides of such a life are compared by.

#![allow(clippy::unwrap_used, dead_code)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use hedgerow_detect::file::ModelFile;
use hedgerow_event::{Activity, Event, Finding};
use hedgerow_features::{Record, Window, from_batch, records_from_batch};
use hedgerow_lab::{Attack, Daemon, Lab, Line, Load, Running, Site, Started, User, Via};
use hedgerow_responder::ledger::{Decision, Ledger};
use hedgerow_sink::parquet::ParquetReader;
use tempfile::TempDir;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_hedgerow");
const LEARNING: Duration = Duration::from_secs(300);
const ATTACK: Duration = Duration::from_secs(10);
const FINDING: Duration = Duration::from_secs(60);

/// Two scripts of one interpreter, which do different things, again and again.
const JOBS: [(&str, &str); 2] = [
    ("count.sh", "for n in 1 2 3; do : >count.$n; done; read line </etc/hostname; kill -0 $$\n"),
    ("tidy.sh", "cd /; umask 077; ulimit -n >/dev/null; [ -e /etc/passwd ] && true; wait\n"),
];

fn jobs(lab: &Lab) -> Running {
    for (name, text) in JOBS {
        fs::write(lab.directory().join(name), text).unwrap();
    }
    let mut command = lab.command(Site::Service, "jobs", &User::ROOT, "/bin/sh").unwrap();
    command.args(["-c", "while :; do bash count.sh; bash tidy.sh; ls / >ls.out; sleep 0.3; done"]);
    Running::start(command, &lab.directory().join("jobs.log")).unwrap()
}

/// What a daemon left behind that learned, found an attack and was stopped; in which it captured.
pub struct Lived {
    directory: TempDir,
    /// Records that found no room on the way to the disk.
    pub not_captured: u64,
}

impl Lived {
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// With one attack.
    pub fn live(more: &[&str]) -> Self {
        Self::live_through(more, |lab, daemon, _| {
            Attack::ReverseShell.run(lab, Via::Child, ATTACK).unwrap();
            let finds =
                |line: &Line| matches!(line, Line::Finding(finding) if is_of_attack(finding));
            daemon.wait_for("finding of the attack", FINDING, finds).unwrap();
        })
    }

    /// The lab is a life of its own, so that it matters little what else runs on the host.
    pub fn live_through(more: &[&str], attack: impl FnOnce(&Lab, &Daemon, &Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let lab = Lab::up().unwrap();
        let _loads: Vec<Started> =
            [Load::Web, Load::App].iter().map(|load| load.start(&lab).unwrap()).collect();
        let _jobs = jobs(&lab);
        let [state, capture] =
            ["state", "capture"].map(|name| directory.path().join(name).display().to_string());
        let always = ["--learn", "60s", "--seed", "7", "--state", &state, "--capture", &capture];
        let log = directory.path().join("log");
        let daemon = Daemon::start(Path::new(PROGRAM), &[&always, more].concat(), &log).unwrap();
        let scores = |line: &Line| matches!(line, Line::Status(told) if told["phase"] == "scoring");
        daemon.wait_for("scoring", LEARNING, scores).unwrap();
        attack(&lab, &daemon, directory.path());
        let said = daemon.interrupt().unwrap();
        let not_captured = said.iter().find_map(|line| match line {
            Line::Status(told) => told["capture_lost"].as_u64(),
            _ => None,
        });
        Self { directory, not_captured: not_captured.unwrap() }
    }

    /// Trains and scores from the capture; what this went by is left in `windows`.
    pub fn replay(&self, more: &[&str]) {
        let [capture, model, scores, before, after] =
            ["capture", "model", "scores", "windows/before", "windows/after"]
                .map(|name| self.text(name));
        run(&[&["train", &capture, "--model", &model, "--windows", &before], more].concat());
        let score = ["score", &capture, "--model", &model, "--out", &scores, "--windows", &after];
        run(&[&score, more].concat());
    }

    /// Asserts that what was learned and found in the replay is what was live.
    pub fn assert_replayed(&self) {
        assert_same_model(&self.path("state/model.hedgerow"), &self.path("model"));
        let live = findings(&self.path("state/findings.jsonl"));
        assert!(live.iter().any(is_of_attack), "the attack is among the findings");
        assert_eq!(live, findings(&self.path("scores/findings.jsonl")));
        assert_scores(&self.path("scores/scores"), &live);
    }

    /// Asserts that a back-test under the captured orders makes the entries that the daemon made.
    pub fn assert_backtested(&self) {
        let [capture, model] = ["capture", "model"].map(|name| self.text(name));
        let told = run(&["--json", "backtest", &capture, "--model", &model]);
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let told = &told["backtest"]["entries"];
        let offline: Vec<_> = told.as_array().unwrap().iter().map(entry).collect();
        let (lines, broken) = Ledger::read(&self.path("state/ledger.jsonl")).unwrap();
        assert_eq!(broken, 0);
        let live = lines.into_iter().filter_map(|line| match line.decision {
            Decision::Block { entry, .. } => Some(serde_json::to_value(entry).unwrap()),
            Decision::Hold { hold } => {
                let mut held = serde_json::to_value(&hold).unwrap();
                held["mode"] = held["ceiling"].take();
                Some(held)
            }
            _ => None,
        });
        let live: Vec<_> = live.map(|made| entry(&made)).collect();
        assert!(live.iter().any(|made| made[3] == "enforce"), "something was refused");
        assert_eq!(offline, live);
    }

    /// The closed windows below a directory, by what they are of.
    pub fn windows(&self, name: &str) -> Vec<Window> {
        let mut windows = Vec::new();
        for batch in ParquetReader::open(&self.path(name), None).unwrap() {
            windows.extend(from_batch(&batch.unwrap()).unwrap());
        }
        let key = |window: &Window| {
            let time = &window.time;
            (time.epoch, time.scale.epochs(), window.subject.clone())
        };
        windows.sort_by_key(key);
        assert!(windows.windows(2).all(|pair| key(&pair[0]) != key(&pair[1])), "each window once");
        windows
    }
}

/// The events of a file, or of all below a directory.
pub fn events(path: &Path) -> Vec<Event> {
    let batches = ParquetReader::open(path, None).unwrap();
    let records = batches.flat_map(|batch| records_from_batch(&batch.unwrap()).unwrap());
    let event = |record| match record {
        Record::Event(event) => Some(event),
        _ => None,
    };
    records.filter_map(event).collect()
}

pub fn is_of_attack(finding: &Finding) -> bool {
    finding.subject.workload.as_str() == Lab::workload("app")
}

/// Of which finding an entry is, whom it refuses, by which rule and how far.
fn entry(made: &serde_json::Value) -> [serde_json::Value; 4] {
    ["finding_uid", "target", "rule", "mode"].map(|name| made[name].clone())
}

pub fn run(arguments: &[&str]) -> String {
    let output = Command::new(PROGRAM).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "hedgerow {}: {errors}", arguments.join(" "));
    assert!(!errors.contains('\r') && !errors.contains('\x1b'), "no progress bar in a pipe");
    String::from_utf8(output.stdout).unwrap()
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
        // Each side saves what it learned by itself, at a time of its own.
        finding.model_digest = None;
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
    for key in ["model_id", "forest", "neighbors", "reference"] {
        let [mut a, mut b] = [Vec::new(), Vec::new()];
        below(&live, key, &mut a);
        below(&trained, key, &mut b);
        assert!(!a.is_empty(), "`{key}` is in the model");
        assert!(a == b, "`{key}` differs");
    }
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
