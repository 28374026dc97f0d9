//! What an operator tries on a daemon that has learned: `hedgerow test` shows an incident from end
//! to end, `status`, `power` and `findings` say what is expected of it, and a program that is replaced relearns on probation once that was accepted.

#![allow(clippy::unwrap_used)]

mod terminal;

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use hedgerow_event::Object;
use hedgerow_lab::{Daemon, Lab, Line, Load, Running, Site, Started, User, executable};
use serde_json::{Value, json};

use self::terminal::Terminal;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hedgerow");
const LEARN: &str = "60s";
/// Learning, and what a loaded machine adds to it.
const LEARN_LIMIT: Duration = Duration::from_secs(180);
const REPLACED_LIMIT: Duration = Duration::from_secs(120);
/// The eight windows of fill over again, and what a loaded machine adds to them.
const RELEARN_LIMIT: Duration = Duration::from_secs(120);

/// Runs a command that says of itself that `daemon` logged in for it: nobody did.
const AS_DAEMON: &str = "echo 1 > /proc/self/loginuid && exec \"$0\" \"$@\"";

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
        // As `hedgerow exposure --remember` leaves it.
        fs::DirBuilder::new().mode(0o700).create(&state).unwrap();
        let known =
            json!({ "id": "CVE-2026-1", "package": "bash", "installed": "5", "as_of_ns": 0 });
        let user = json!({ "workload": "hedgerow-test.service", "program": "memfd" });
        let program = json!({ "asked": null, "user": user, "vulnerabilities": [known] });
        let whole = json!({ "version": 1, "programs": [program] });
        fs::write(Path::new(&state).join("vulnerable.json"), whole.to_string()).unwrap();
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

    /// Gives the uid of what was found.
    fn shows_an_incident(&self) -> String {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", AS_DAEMON, PROGRAM, "test", "--json", "--state", &self.state]);
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        // All of it, whatever it is that fails.
        println!("{told}");
        assert_eq!(told["found"], true);
        let objects = told["finding"]["objects"].to_string();
        assert!(objects.contains("exec_memory"), "{objects}");
        let known = &told["finding"]["vulnerabilities"];
        assert_eq!(known[0]["id"], "CVE-2026-1", "{known}");
        let process = &told["finding"]["process"];
        let who = ["user", "login_user_id", "login_user"].map(|name| &process[name]);
        assert_eq!(who, [&"root".into(), &Value::Null, &Value::Null], "{process}");
        let ancestors = process["ancestors"].as_array().unwrap();
        let is = |at: usize, ends: &str| ancestors[at].as_str().unwrap().contains(ends);
        assert!(is(0, PROGRAM) && is(ancestors.len() - 1, "(1)"), "{ancestors:?}");
        let entry = &told["decision"]["entry"];
        assert_eq!(entry["mode"], "enforce", "{told}");
        assert_eq!(told["effect"]["cut"], true, "{}", told["effect"]);
        // One may be under way while the kernel is told what was decided; uncut they are eight.
        let after = told["effect"]["bytes_after"].as_u64().unwrap();
        assert!(after <= 1, "{}", told["effect"]);
        assert_eq!(told["release"]["uid"], entry["uid"], "{}", told["release"]);
        told["finding"]["uid"].as_str().unwrap().to_owned()
    }

    /// Runs a command that succeeds; gives what it says.
    fn says(&self, arguments: &[&str]) -> String {
        let output = hedgerow(&self.state, arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn answers(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.says(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// The budget as it is asked for, expected and kept, and the floors.
    fn tells_its_budget(&self) {
        let told = self.answers(&["status"]);
        let budget = &told["budget"];
        assert_eq!(budget["asked_per_day"], 1.0);
        let expected = budget["expected_per_day"].as_f64().unwrap();
        assert!(expected > 0.0 && expected <= 1.0, "{budget}");
        assert!(told["told_today"].as_u64().unwrap() >= 1, "{told}");
        assert!(budget["campaign_floor"].as_f64().unwrap() > 0.0, "{budget}");
        let said = self.says(&["status"]);
        // Figures move on while it runs.
        for told in [
            "asked for at most 1 a day when nothing is wrong",
            " expected, ",
            " in the last day",
            "intrinsic from ",
            "a campaign from ",
        ] {
            assert!(said.contains(told), "{told} in {said}");
        }
    }

    /// What would be told now of the lab's tool: each kind of deed, and each amount.
    fn says_what_it_would_miss(&self) {
        let workload = Lab::workload("tool");
        let power = self.answers(&["power", "--workload", &workload]);
        let workloads = power["workloads"].as_array().unwrap();
        assert_eq!(workloads.len(), 1, "{power}");
        let programs = workloads[0]["programs"].to_string();
        assert!(programs.contains(self.tool.path.to_str().unwrap()), "{programs}");
        let deeds = workloads[0]["deeds"].as_array().unwrap();
        for deed in deeds {
            let missed = deed["misses"].as_array().unwrap();
            assert_eq!(deed["alerts"].as_bool().unwrap(), missed.is_empty(), "{deed}");
            assert!(missed.iter().all(|miss| miss["why"].is_string()), "{deed}");
        }
        assert!(deeds.iter().any(|one| one["alerts"] == false), "all would be told");
        let amounts = workloads[0]["amounts"].as_array().unwrap();
        assert!(amounts.iter().any(|one| one["least"].is_u64()), "{amounts:?}");
        let said = self.says(&["power", "--workload", &workload]);
        for told in ["told, whoever does it: ", "least that is told", "ways missed"] {
            assert!(said.contains(told), "{told} in {said}");
        }
    }

    /// Why it was told, to the last nat, and what accepting it would hide; nothing is accepted.
    fn explains_and_says_what_accepting_hides(&self, uid: &str) {
        let said = self.says(&["findings", "show", uid, "--explain"]);
        assert!(said.contains("nats are the sum of:") && said.contains("told from"), "{said}");
        let log = self.says(&["findings", "show", uid, "--json"]);
        let finding: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
        let shares = finding["attribution"].as_array().unwrap();
        let of_nats = shares.iter().filter(|share| share["of"] == "surprise (nats)");
        let sum: f64 = of_nats.map(|share| share["share"].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{shares:?}");
        let hidden = self.answers(&["findings", "accept", uid, "--dry-run"]);
        assert!(hidden["findings"].to_string().contains(uid), "{hidden}");
        assert!(hidden["deeds"].is_array() && hidden["programs"].is_array(), "{hidden}");
        let said = self.says(&["findings", "accept", uid, "--dry-run"]);
        assert!(said.contains(&format!("Accepting {uid} would hide:")), "{said}");
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

    /// What was an attack is no longer held back, and how much that was is told.
    fn takes_an_attack_out(&self, uid: &str) {
        let said = self.says(&["findings", "ack", uid]);
        assert!(said.contains("was seen"), "{said}");
        let judged = self.answers(&["findings", "ack", uid, "--attack"]);
        assert!(judged["taken_out"].as_u64().unwrap() >= 1, "{judged}");
    }

    /// `hedgerow top` on a real terminal: what ran, was found and is refused; its key lifts an entry;
    /// it goes on when the daemon hangs, and leaves the terminal as it was.
    fn shows_itself_on_a_terminal(&self) {
        // Of what was refused before some may stand still; the key lifts the chosen one, which is the first.
        let _ = hedgerow(&self.state, &["deny", "remove", "--all"]);
        let denied = self.answers(&["deny", "add", "--peer", "192.0.2.77", "--for", "1h"]);
        let entry = denied["entries"][0]["uid"].as_str().unwrap().to_owned();
        // All uids of a boot begin alike.
        let own = &entry[entry.len() - 16..][..8];
        let terminal = Terminal::start();
        let top = format!("{PROGRAM} top --state {}", self.state);
        terminal.types(&format!("{top}\n"));
        let workload = Lab::workload("tool");
        terminal.waits_for(&["1 Workloads", &workload[..workload.len().min(16)], "q quit"]);
        assert!(terminal.is_alternate());
        terminal.has_rows(24);
        let small = terminal.waits_for(&["1 Workloads", "q quit"]);
        assert!(small.lines().count() <= 24, "{small}");
        terminal.has_rows(50);
        terminal.types("2");
        let found = terminal.waits_for(&["hedgerow-test.service", "ran from memory", "%"]);
        assert!(found.contains("[2 Findings"), "{found}");
        terminal.types("3");
        terminal.waits_for(&[own, "192.0.2.77", "refuses"]);
        terminal.types("l");
        terminal.waits_for(&[&format!("Lift peer 192.0.2.77/32 ({own})? y lifts it")]);
        terminal.types("y");
        terminal.waits_for(&[&format!("Lifted {own} after")]);
        let live = self.answers(&["deny", "list"])["live"].to_string();
        assert!(!live.contains(&entry), "{live}");

        let daemon = self.daemon.id().cast_signed();
        // SAFETY: plain numbers; the daemon is ours and runs.
        assert_eq!(unsafe { libc::kill(daemon, libc::SIGSTOP) }, 0);
        terminal.waits_for(&["NO ANSWER since"]);
        terminal.types("?");
        terminal.waits_for(&["lift the chosen entry"]);
        terminal.types(" 2");
        terminal.waits_for(&["[2 Findings", "hedgerow-test.service"]);
        // SAFETY: as above.
        assert_eq!(unsafe { libc::kill(daemon, libc::SIGCONT) }, 0);
        terminal.waits_for(&["nothing is wrong with it"]);

        terminal.ends_its_program(libc::SIGTERM);
        terminal.is_as_it_was();
        terminal.types(&format!("{top} | cat\n"));
        terminal.waits_for(&["status --json"]);
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
    let uid = learned.shows_an_incident();
    learned.tells_its_budget();
    learned.says_what_it_would_miss();
    learned.explains_and_says_what_accepting_hides(&uid);
    // Found once more, since nothing was accepted.
    learned.denies_nothing_in_maintenance();
    learned.takes_an_attack_out(&uid);
    learned.relearns();
    learned.shows_itself_on_a_terminal();
    learned.daemon.interrupt().unwrap();
}
