//! `make live-truth`: a benign load is learned and goes on as long again, then every attack is
//! tried in a run of its own from the saved state. Prints what was found, and how fast.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use hedgerow_event::{Finding, Subject, Workload};
use hedgerow_lab::{Attack, Daemon, Lab, Line, Load, Outcome, Via, copy_directory, exit_code};

/// A started daemon must be scoring within this, beyond the time it learns.
const START_LIMIT: Duration = Duration::from_secs(180);
/// Before an attack: windows of the load under the new daemon.
const CALM: Duration = Duration::from_secs(16);
/// How long a shell or a flood goes on.
const ATTACK_LIMIT: Duration = Duration::from_secs(10);
/// After an attack: its one-minute window has closed by then.
const VERDICT_LIMIT: Duration = Duration::from_secs(75);

/// Learns a benign load, then tells false alerts from found attacks.
#[derive(Debug, Parser)]
struct Arguments {
    /// The hedgerow binary
    #[arg(long)]
    hedgerow: PathBuf,
    /// How long to learn, and then to go on
    #[arg(long, default_value = "2m")]
    learn: String,
    /// Only these attacks
    #[arg(long)]
    attack: Vec<Attack>,
    /// Run attacks inside the attacked service instead of a child of it
    #[arg(long)]
    in_process: bool,
    /// Keep what each daemon saw as Parquet: DIR/learn, and DIR/NAME for each attack
    #[arg(long)]
    capture: Option<PathBuf>,
}

impl Arguments {
    /// Options of a daemon that captures under a name, if any does.
    fn capture(&self, name: &str) -> Vec<String> {
        let directory = self.capture.as_ref().map(|directory| directory.join(name));
        directory.map_or_else(Vec::new, |path| vec!["--capture".into(), path.display().to_string()])
    }
}

/// Reads the daemon's lines and keeps the alerts of the lab.
struct Watcher {
    daemon: Daemon,
    scoring: bool,
    alerts: Vec<Finding>,
}

fn main() -> ExitCode {
    exit_code(perform(&Arguments::parse()))
}

fn perform(arguments: &Arguments) -> anyhow::Result<()> {
    let lab = Lab::up()?;
    let mut loads = Vec::new();
    for load in Load::ALL {
        loads.push(load.start(&lab)?);
        println!("{load} runs");
    }
    let state = lab.directory().join("state");
    let false_alerts = learn(&lab, arguments, &state)?;
    println!("false alerts while the load went on: {false_alerts} (at most 1)");

    let via = if arguments.in_process { Via::Thread } else { Via::Child };
    let attacks: &[Attack] =
        if arguments.attack.is_empty() { &Attack::ALL } else { &arguments.attack };
    let mut missed = 0;
    for &attack in attacks {
        let copy = lab.directory().join(format!("state-{attack}"));
        copy_directory(&state, &copy)?;
        let found = attempt(&lab, arguments, &copy, attack, via)?;
        missed += usize::from(!found);
    }
    anyhow::ensure!(false_alerts <= 1, "{false_alerts} false alerts");
    anyhow::ensure!(missed == 0, "{missed} of {} attacks missed", attacks.len());
    Ok(())
}

/// Learns, goes on as long again, and counts the alerts of that time.
fn learn(lab: &Lab, arguments: &Arguments, state: &Path) -> anyhow::Result<usize> {
    let begun = Instant::now();
    let mut options = arguments.capture("learn");
    options.extend(["--learn".into(), arguments.learn.clone()]);
    let mut watcher = Watcher::start(lab, &arguments.hedgerow, state, &options)?;
    watcher.until_scoring(Duration::from_secs(3600))?;
    println!("learned in {:.0} s", begun.elapsed().as_secs_f64());
    watcher.alerts.clear();
    watcher.watch(begun.elapsed(), |_| false)?;
    for alert in &watcher.alerts {
        println!("  false alert: {}: {}", alert.subject, alert.reason);
    }
    Ok(watcher.alerts.len())
}

/// One attack under a daemon of its own; whether it was found, printed with the time it took.
fn attempt(
    lab: &Lab,
    arguments: &Arguments,
    state: &Path,
    attack: Attack,
    via: Via,
) -> anyhow::Result<bool> {
    let options = arguments.capture(&attack.to_string());
    let mut watcher = Watcher::start(lab, &arguments.hedgerow, state, &options)?;
    watcher.until_scoring(START_LIMIT)?;
    watcher.watch(CALM, |_| false)?;
    let early = watcher.alerts.len();
    let outcome = thread::scope(|scope| -> anyhow::Result<Outcome> {
        let running = scope.spawn(|| attack.run(lab, via, ATTACK_LIMIT));
        while !running.is_finished() {
            watcher.watch(Duration::from_millis(100), |_| false)?;
        }
        match running.join() {
            Ok(outcome) => Ok(outcome?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    watcher.watch(VERDICT_LIMIT, |alerts| alerts.len() > early)?;
    let seconds = (outcome.ended_ns - outcome.started_ns) as f64 / 1e9;
    let Some(alert) = watcher.alerts.get(early) else {
        println!("{attack:14} MISSED ({seconds:.1} s of attack, {early} alerts before)");
        return Ok(false);
    };
    let after = (alert.time_ns - outcome.started_ns) as f64 / 1e9;
    println!(
        "{attack:14} found after {after:.1} s ({seconds:.1} s of attack, {early} alerts before) \
         as {}: {}",
        alert.subject, alert.reason
    );
    Ok(true)
}

impl Watcher {
    fn start(lab: &Lab, hedgerow: &Path, state: &Path, more: &[String]) -> anyhow::Result<Self> {
        let directory = state.display().to_string();
        let mut options = vec!["--state", &directory];
        options.extend(more.iter().map(String::as_str));
        let log = lab.directory().join("daemon.log");
        let daemon = Daemon::start(hedgerow, &options, &log)?;
        Ok(Self { daemon, scoring: false, alerts: Vec::new() })
    }

    fn until_scoring(&mut self, limit: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + limit;
        while !self.scoring {
            let line = self.daemon.next(until)?;
            self.take(line.ok_or_else(|| anyhow::anyhow!("not scoring after {limit:?}"))?);
        }
        Ok(())
    }

    fn watch(&mut self, limit: Duration, done: impl Fn(&[Finding]) -> bool) -> anyhow::Result<()> {
        let until = Instant::now() + limit;
        while !done(&self.alerts) {
            let Some(line) = self.daemon.next(until)? else { return Ok(()) };
            self.take(line);
        }
        Ok(())
    }

    /// Alerts count once an episode, and only those that name the service, its clients or the
    /// kernel's own counters: the attacker is a process of this host too, and anything may go on
    /// in the host's other workloads.
    fn take(&mut self, line: Line) {
        match line {
            Line::Status(status) => self.scoring |= status["phase"] == "scoring",
            Line::Finding(finding) => {
                let known = self.alerts.iter().any(|alert| alert.uid == finding.uid);
                if finding.disposition.is_alert() && !known && counts(&finding.subject) {
                    self.alerts.push(*finding);
                }
            }
            Line::Remediation(_) => {}
        }
    }
}

fn counts(subject: &Subject) -> bool {
    let workload = subject.workload.as_str();
    let kernel = workload == Workload::HOST && &*subject.program.path == Subject::KERNEL;
    let attacker = workload == Lab::workload("attacker");
    kernel || (workload.starts_with("lab-") && !attacker)
}
