//! `hedgerow test`: a harmless incident, shown end to end against the running daemon: what is done,
//! the finding, what the responder decides, what that does, and its release.

use std::{
    ffi::CString,
    fs::File,
    io::{Read, Write},
    net::TcpListener,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, Sender},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use hedgerow_detect::Phase;
use hedgerow_event::{Action, Disposition, Finding, Mode, Object, Remediation, gate};
use hedgerow_probe::support::cgroup_root;
use hedgerow_responder::ledger::{Decision, Line};
use serde_json::{Value, json};

use super::{findings::Tail, log, why};
use crate::{
    control::{GetStatus, Remove, Status, Which, call, socket},
    text,
};

/// A finding comes with its window's close at the latest.
const PATIENCE: Duration = Duration::from_secs(20);
/// So does the decision, where what was known of the first moments didn't suffice for one.
const DECISION: Duration = Duration::from_secs(7);
/// The incident goes on for so long after the decision, so that its effect shows.
const EFFECT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(50);
/// The unit's main process ends by itself after so long.
const MAIN_S: u32 = 600;
/// Its cgroup is named like a unit, so that it is a workload of its own, which normal life lacks:
/// no entry made for it can concern anything else.
const UNIT: &str = "hedgerow-test.service";
/// What runs from memory: once, as quietly as an implant. It holds one connection, sends a byte over it
/// four times a second for a minute, and ends with [`CUT`] when it can't.
const SCRIPT: &str = r#"exec 7<>/dev/tcp/127.0.0.1/$PORT || exit 9
for i in {1..240}; do printf . >&7 || exit 9; read -t 0.25 <&7; done"#;
/// The hook that an exec from memory is told by.
const EXECS: &str = "Exec";
/// How the script ends when its connection is cut, or never stood; SIGPIPE may be faster.
const CUT: i32 = 9;

/// Makes the incident, and follows it through the daemon.
pub fn run(state: &Path, json: bool) -> anyhow::Result<()> {
    let before = call(&socket(state), &GetStatus {})?;
    scores(&before)?;
    let say = |line: &str| {
        if !json {
            text::out(line);
        }
    };
    let mut log = Tail::at_end(state)?;
    let mut incident = Incident::start()?;
    say(&format!(
        "Incident: process {} in {UNIT} runs a copy of bash from memory, once, and sends a byte \
         to 127.0.0.1 four times a second. It does nothing else.\n",
        incident.child.id()
    ));
    let Some(finding) = await_finding(&mut log, &incident)? else {
        anyhow::bail!("{}", not_found(&call(&socket(state), &GetStatus {})?));
    };
    let found_ms = incident.started.elapsed().as_millis();
    say(&format!("Finding after {found_ms} ms:\n{}", text::finding(&finding)));
    if finding.disposition == Disposition::Suppressed {
        say("  It is listed and nobody is alerted; why is at the end of its reason.");
    }
    let acts = before.mode.is_some_and(|mode| mode > Mode::Observe);
    let decision = await_decision(state, &finding.uid, if acts { DECISION } else { EFFECT })?;
    if let Some(line) = &decision {
        say(&format!("\nDecision:\n{}", gate::shown(&why::told(line))));
    }
    let entry = decision.as_ref().and_then(|line| match &line.decision {
        Decision::Block { entry, .. } => Some(entry),
        _ => None,
    });
    let mut told = json!({
        "found": true,
        "milliseconds": found_ms as u64,
        "finding": finding,
        "decision": decision,
    });
    let effect = incident.watch(entry)?;
    say(&format!("\nEffect:\n{}", effect.text(entry)));
    told["effect"] = effect.json();
    if let Some(entry) = entry {
        let released = release(state, entry)?;
        say(&format!("\nRelease:\n{}", released.0));
        told["release"] = released.1;
    } else {
        say(
            "\nNothing was installed, so there is nothing to release. `hedgerow mode monitor` shows \
             what would be refused, `hedgerow mode --help` when it is.",
        );
    }
    if json {
        text::json(&told)?;
    }
    Ok(())
}

/// # Errors
/// It learns still, and would find nothing.
fn scores(status: &Status) -> anyhow::Result<()> {
    anyhow::ensure!(
        status.phase == Phase::Scoring,
        "the daemon is still learning and scores nothing; try again in {}",
        text::seconds(status.seconds_left)
    );
    Ok(())
}

/// Why a program that ran from memory was not found, as far as the daemon's health says.
fn not_found(status: &Status) -> String {
    let execs = status.hooks.iter().find(|hook| hook.hook == EXECS);
    let why = if let Some(stage) = status.stands_still.first() {
        format!("{stage}; restart the daemon if that lasts")
    } else if execs.is_none_or(|hook| hook.proof != "Proved") {
        "it doesn't see programs start here; `hedgerow doctor` says why".to_owned()
    } else if let Some(why) = &status.findings_failure {
        format!("it may have found it and can't write it down: {why}")
    } else if status.lost > 0 {
        format!(
            "{} of {} records were lost since the start, this one may be among them; try again, or \
             give it larger rings (ring_mib)",
            status.lost, status.sent
        )
    } else {
        "it sees programs start, and lost nothing: `hedgerow findings list --all` shows whether an \
         operator accepted such a finding before, or it is an episode with an earlier test"
            .to_owned()
    };
    format!(
        "NOT FOUND: a program ran from memory and the daemon told nothing of it within {} s: {why}",
        PATIENCE.as_secs()
    )
}

/// A program from memory with a connection to this process.
struct Incident {
    child: Child,
    /// The unit's main process, as a service has one: whom that alone makes up is held a minute.
    main: Child,
    /// Of its own, where there is a hierarchy for it.
    cgroup: Option<PathBuf>,
    started: Instant,
    /// Wall times of the bytes that arrived.
    arrived: Receiver<i64>,
}

impl Incident {
    fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        // SAFETY: the name is a C string that lives through the call.
        let fd = unsafe {
            let name = CString::new("hedgerow-test")?;
            libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC)
        };
        if fd < 0 {
            return Err(std::io::Error::last_os_error()).context("can't make a file in memory");
        }
        // SAFETY: the call above returned this descriptor to us alone.
        let memory = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        let shell = std::fs::read("/bin/bash").context("the incident needs /bin/bash")?;
        (&memory).write_all(&shell)?;
        let mut command = Command::new(format!("/proc/self/fd/{}", memory.as_raw_fd()));
        command.arg0("hedgerow-test").args(["-c", "eval \"$SCRIPT\""]).stderr(Stdio::null());
        command.env("SCRIPT", SCRIPT).env("PORT", port.to_string());
        let mut main = Command::new("/bin/sleep");
        main.arg(MAIN_S.to_string()).stdin(Stdio::null());
        let cgroup = cgroup_root().ok().map(|root| root.join(UNIT));
        let cgroup = cgroup.filter(|path| path.is_dir() || std::fs::create_dir(path).is_ok());
        if let Some(cgroup) = &cgroup {
            let tasks = File::options().write(true).open(cgroup.join("cgroup.procs"))?;
            let first = tasks.try_clone()?;
            // SAFETY: one write system call on an open descriptor, nothing is allocated.
            unsafe { main.pre_exec(move || (&first).write_all(b"0")) };
            let enter = move || (&tasks).write_all(b"0");
            // SAFETY: as above.
            unsafe { command.pre_exec(enter) };
        }
        let (sender, arrived) = mpsc::channel();
        std::thread::spawn(move || receive(listener, &sender));
        let main = main.spawn().context("the incident needs /bin/sleep")?;
        let started = Instant::now();
        let child = command.spawn()?;
        Ok(Self { child, main, cgroup, started, arrived })
    }

    /// Lets it go on for a while after the decision, then ends it.
    fn watch(&mut self, entry: Option<&Remediation>) -> anyhow::Result<Effect> {
        std::thread::sleep(EFFECT);
        let ended = self.child.try_wait()?;
        let cut = ended.is_some_and(|status| {
            status.code() == Some(CUT) || status.signal() == Some(libc::SIGPIPE)
        });
        let since = entry.map_or(i64::MAX, |entry| entry.time_ns);
        let (before, after): (Vec<i64>, Vec<i64>) =
            self.arrived.try_iter().partition(|time| *time <= since);
        Ok(Effect { before: before.len(), after: after.len(), cut })
    }
}

impl Drop for Incident {
    fn drop(&mut self) {
        for child in [&mut self.child, &mut self.main] {
            let _ = child.kill();
            let _ = child.wait();
        }
        // Its last subshells are on their way out.
        let deadline = Instant::now() + EFFECT;
        while let Some(cgroup) = &self.cgroup
            && std::fs::remove_dir(cgroup).is_err()
            && Instant::now() < deadline
        {
            std::thread::sleep(POLL);
        }
    }
}

/// Takes bytes as they arrive over the first connection, the one that counts, and tells when.
fn receive(listener: TcpListener, arrived: &Sender<i64>) {
    let Ok((mut stream, _)) = listener.accept() else { return };
    std::thread::spawn(move || while listener.accept().is_ok() {});
    let mut byte = [0];
    while let Ok(1) = stream.read(&mut byte) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if arrived.send(now.as_nanos() as i64).is_err() {
            return;
        }
    }
}

/// What became of the incident's connection.
struct Effect {
    /// Bytes that arrived before the entry, and after it.
    before: usize,
    after: usize,
    cut: bool,
}

impl Effect {
    fn text(&self, entry: Option<&Remediation>) -> String {
        let Self { before, after, cut } = self;
        let arrived = |bytes| text::counted(bytes, "byte", "bytes");
        let bytes = format!("{} arrived before the entry and {after} after it", arrived(*before));
        match entry.map(|entry| entry.mode) {
            None => format!("{} arrived; nothing was refused.", arrived(*before)),
            Some(Mode::Enforce) if *cut => format!("{bytes}: the connection was cut."),
            Some(Mode::Enforce) => format!("{bytes}: the connection was NOT cut."),
            Some(_) => format!("{bytes}: it counts what it would refuse, and lets it pass."),
        }
    }
    fn json(&self) -> Value {
        json!({ "bytes_before": self.before, "bytes_after": self.after, "cut": self.cut })
    }
}

/// Whether a finding is about the incident: of its process, or what ran from memory in its unit, which only
/// root can name so; not of the unit's main process, which a large budget tells, too. What others did
/// meanwhile, be it the same, is theirs: its entry stays.
fn is_ours(finding: &Finding, pid: u32) -> bool {
    let from_memory = |object: &Object| matches!(object, Object::ExecMemory { .. });
    finding.process.as_ref().is_some_and(|process| process.pid == pid)
        || finding.subject.workload.as_str() == UNIT && finding.objects.iter().any(from_memory)
}

fn await_finding(log: &mut Tail, incident: &Incident) -> anyhow::Result<Option<Finding>> {
    let pid = incident.child.id();
    while incident.started.elapsed() < PATIENCE {
        if let Some(finding) = log.read()?.into_iter().find(|finding| is_ours(finding, pid)) {
            return Ok(Some(finding));
        }
        std::thread::sleep(POLL);
    }
    Ok(None)
}

/// The ledger's line on the finding: its entry or, without one for a while, what was said last. This
/// command may be part of the finding, and was spared then; and what the first moments of an
/// incident don't suffice for, its next ones may.
fn await_decision(
    state: &Path,
    finding_uid: &str,
    longest: Duration,
) -> anyhow::Result<Option<Line>> {
    let about = |line: &Line| match &line.decision {
        Decision::Block { entry, .. } => entry.finding_uid.as_deref() == Some(finding_uid),
        Decision::Refuse { finding_uid: of, .. } => of.as_deref() == Some(finding_uid),
        Decision::Report { finding_uid: of, .. } => of == finding_uid,
        _ => false,
    };
    let until = Instant::now() + longest;
    loop {
        let lines: Vec<Line> = log::decisions(state)?.into_iter().filter(about).collect();
        let entry = lines.iter().find(|line| matches!(line.decision, Decision::Block { .. }));
        if entry.is_some() || Instant::now() > until {
            return Ok(entry.or(lines.last()).cloned());
        }
        std::thread::sleep(POLL);
    }
}

/// Lifts the entry, as its minute without a hit would.
fn release(state: &Path, entry: &Remediation) -> anyhow::Result<(String, Value)> {
    let asked = Remove { which: Which::Uid(entry.uid.clone()), wrong: false };
    match call(&socket(state), &asked).map(|removed| removed.lifted.into_iter().next()) {
        Ok(None) => Ok(("It was not installed any more.".to_owned(), Value::Null)),
        Ok(Some(lifted)) => {
            debug_assert_eq!(lifted.action, Action::Unblock);
            let said = format!(
                "{} lifted {} after {}; by itself it would have ended at {}, or been extended \
                 while it was hit.",
                text::time(lifted.time_ns),
                lifted.target,
                text::counted(lifted.hits, "hit", "hits"),
                text::time(entry.expires_ns)
            );
            Ok((said, serde_json::to_value(&lifted)?))
        }
        // Its time may be over by now.
        Err(why) => Ok((format!("{why:#}"), Value::Null)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hedgerow_event::{Process, Program, Subject, Workload};

    use super::*;
    use crate::{control::examples, daemon::example_finding};

    #[test]
    fn what_others_run_from_memory_is_not_the_incident() {
        let finding = |workload: &str, pid| {
            let mut finding = example_finding(workload, "", 1);
            let subject = Subject::new(Workload::new(workload), Program::new("memfd"));
            finding.objects = vec![Object::ExecMemory { subject: Arc::new(subject) }];
            finding.process = Some(Process { pid, ..Process::default() });
            finding
        };
        assert!(!is_ours(&finding("web.service", 7), 8), "somebody's implant");
        assert!(!is_ours(&finding("user@1000.service/hedgerow-test.service", 7), 8));
        assert!(is_ours(&finding(UNIT, 7), 8) && is_ours(&finding("web.service", 8), 8));
        let main = Finding { objects: Vec::new(), ..finding(UNIT, 7) };
        assert!(!is_ours(&main, 8), "its main process");
    }

    #[test]
    fn a_daemon_that_learns_still_runs() {
        let mut status = examples::status();
        let why = scores(&status).expect_err("it learns");
        assert!(why.to_string().contains("try again in 1 m 30 s"), "{why}");
        assert_eq!(crate::exit::code(&why), std::process::ExitCode::FAILURE);
        status.phase = Phase::Scoring;
        assert!(scores(&status).is_ok());
    }

    #[test]
    fn who_finds_nothing_is_told_what_stands_in_the_way_and_the_way_out() {
        let mut status = examples::status();
        status.lost = 0;
        assert!(not_found(&status).contains("hedgerow doctor"), "its execs are unproved");
        for hook in &mut status.hooks {
            hook.proof = "Proved".into();
        }
        assert!(not_found(&status).contains("findings list --all"));
        status.lost = 7;
        assert!(not_found(&status).contains("7 of 200 records"));
        status.findings_failure = Some("no space left".into());
        assert!(not_found(&status).contains("no space left"));
        status.stands_still = vec!["the main loop stands still".into()];
        let said = not_found(&status);
        assert!(said.starts_with("NOT FOUND: ") && said.contains("the main loop"), "{said}");
    }
}
