//! What an operator tries on a daemon that has learned: `hedgerow test` shows an incident from end
//! to end, and a program that is replaced relearns on probation once that was accepted.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use hedgerow_event::Object;
use hedgerow_lab::{Daemon, Lab, Line, Load, Running, Site, Started, User, executable};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hedgerow");
const LEARN: &str = "60s";
/// Learning, and what a loaded machine adds to it.
const LEARN_LIMIT: Duration = Duration::from_secs(180);
const REPLACED_LIMIT: Duration = Duration::from_secs(20);
/// The eight windows of fill over again, and what a loaded machine adds to them.
const RELEARN_LIMIT: Duration = Duration::from_secs(120);

/// A program of the lab's own, run again and again.
struct Tool {
    path: PathBuf,
    _runs: Running,
}

impl Tool {
    fn start(lab: &Lab) -> Self {
        let path = lab.directory().join("tool");
        executable(&path, &fs::read("/bin/ls").unwrap()).unwrap();
        let mut command = lab.command(Site::Service, "tool", &User::ROOT, "/bin/sh").unwrap();
        command.args(["-c", "while :; do ./tool / >/dev/null; sleep 0.3; done"]);
        let runs = Running::start(command, &lab.directory().join("tool.log")).unwrap();
        Self { path, _runs: runs }
    }

    /// Puts another file in its place, as an upgrade does.
    fn replace(&self) {
        let mut content = fs::read(&self.path).unwrap();
        content.extend_from_slice(b"another");
        let fresh = self.path.with_extension("new");
        executable(&fresh, &content).unwrap();
        fs::rename(&fresh, &self.path).unwrap();
    }

    fn is_in(&self, subject: &Value) -> bool {
        subject["program"]["path"] == self.path.to_str().unwrap()
    }
}

fn hedgerow(state: &str, arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).args(["--state", state]).output().unwrap()
}

/// The lab's life, learned by a daemon that may act.
struct Learned {
    daemon: Daemon,
    state: String,
    tool: Tool,
    _loads: Vec<Started>,
    _lab: Lab,
}

impl Learned {
    fn new() -> Self {
        let lab = Lab::up().unwrap();
        let loads = [Load::Web, Load::App].iter().map(|load| load.start(&lab).unwrap()).collect();
        let tool = Tool::start(&lab);
        let state = lab.directory().join("state").display().to_string();
        let arguments = [
            ["--learn", LEARN].as_slice(),
            &["--mode", "enforce", "--enforce-provisional", "--state", &state],
        ]
        .concat();
        let log = lab.directory().join("daemon.log");
        let daemon = Daemon::start(Path::new(PROGRAM), &arguments, &log).unwrap();
        let scores = |line: &Line| matches!(line, Line::Status(told) if told["phase"] == "scoring");
        daemon.wait_for("scoring", LEARN_LIMIT, scores).unwrap();
        Self { daemon, state, tool, _loads: loads, _lab: lab }
    }

    fn shows_an_incident(&self) {
        let output = hedgerow(&self.state, &["test", "--json"]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(told["found"], true);
        let objects = told["finding"]["objects"].to_string();
        assert!(objects.contains("exec_memory"), "{objects}");
        let entry = &told["decision"]["entry"];
        assert_eq!(entry["mode"], "enforce", "{told}");
        assert_eq!(told["effect"]["cut"], true, "{}", told["effect"]);
        assert_eq!(told["effect"]["bytes_after"], 0, "{}", told["effect"]);
        assert_eq!(told["release"]["uid"], entry["uid"], "{}", told["release"]);
    }

    /// The same again in maintenance is found, and nothing is denied.
    fn denies_nothing_in_maintenance(&self) {
        assert!(hedgerow(&self.state, &["maintenance", "10m"]).status.success());
        let output = hedgerow(&self.state, &["test", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(told["decision"]["decision"], "report", "{told}");
        let reason = told["decision"]["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("in maintenance until"), "{told}");
        assert_eq!(told["effect"]["cut"], false, "{}", told["effect"]);
        assert!(hedgerow(&self.state, &["maintenance", "--end"]).status.success());
    }

    /// The replacement is told, its finding, if it is one, is accepted, and its windows are learned.
    fn relearns(&self) {
        self.tool.replace();
        let mut windows = None;
        let mut until = Instant::now() + REPLACED_LIMIT;
        loop {
            let line = self.daemon.next(until).unwrap();
            match line.unwrap_or_else(|| panic!("never relearned; begun with {windows:?}")) {
                Line::Status(told) if self.tool.is_in(&told["replaced"]) => {
                    windows = told["windows"].as_u64();
                    until = Instant::now() + RELEARN_LIMIT;
                }
                Line::Status(told) if self.tool.is_in(&told["relearned"]) => break,
                Line::Finding(finding)
                    if finding.objects.iter().any(|o| matches!(o, Object::Replaced { .. })) =>
                {
                    let accepted = hedgerow(&self.state, &["findings", "accept", &finding.uid]);
                    let errors = String::from_utf8_lossy(&accepted.stderr);
                    assert!(accepted.status.success(), "{errors}");
                }
                _ => {}
            }
        }
        assert!(windows.is_some_and(|windows| windows > 0), "{windows:?}");
    }
}

#[test]
fn an_incident_is_shown_end_to_end_and_a_replaced_program_relearns() {
    let learned = Learned::new();
    learned.shows_an_incident();
    learned.denies_nothing_in_maintenance();
    learned.relearns();
    learned.daemon.interrupt().unwrap();
}
