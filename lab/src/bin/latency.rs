//! Part of `make bench`: from the first connect of a reverse shell to the deny entry in the kernel,
//! over several attacks, with the bytes that left before the entry and after it. A benign load is
//! learned once; every attack meets a daemon of its own, started from that state.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use hedgerow_event::{Action, Mode, Remediation};
use hedgerow_lab::{Attack, Daemon, Lab, Line, Load, Outcome, Via, copy_directory, exit_code};

/// Beyond the time it learns, a started daemon must be scoring within this.
const START_LIMIT: Duration = Duration::from_secs(180);
/// Before an attack: a window of the load under the new daemon.
const CALM: Duration = Duration::from_secs(8);
/// How long a shell goes on that nobody cuts.
const ATTACK_LIMIT: Duration = Duration::from_secs(10);
const GOAL_MS: f64 = 300.0;

/// Measures the time from attack to kernel deny.
#[derive(Debug, Parser)]
struct Arguments {
    /// The hedgerow binary
    #[arg(long)]
    hedgerow: PathBuf,
    /// How long to learn
    #[arg(long, default_value = "60s")]
    learn: String,
    /// Attacks to make
    #[arg(long, default_value_t = 9)]
    attacks: usize,
}

/// One attack: milliseconds from connect to entry, bytes before and after the entry.
#[derive(Debug, Clone, Copy)]
struct Measured {
    entry_ms: f64,
    before: u64,
    after: u64,
}

fn main() -> ExitCode {
    exit_code(perform(&Arguments::parse()))
}

fn perform(arguments: &Arguments) -> anyhow::Result<()> {
    let lab = Lab::up()?;
    let _loads = [Load::Web.start(&lab)?, Load::App.start(&lab)?];
    let state = lab.directory().join("state");
    println!("attack to deny: learning for {}", arguments.learn);
    let learned = start(&lab, &arguments.hedgerow, &state, &["--learn", &arguments.learn])?;
    // Its clean stop saves the state.
    drop(learned);
    let mut found = Vec::new();
    for number in 0..arguments.attacks {
        let copy = lab.directory().join(format!("state-{number}"));
        copy_directory(&state, &copy)?;
        match attempt(&lab, &arguments.hedgerow, &copy)? {
            Some(one) => found.push(one),
            None => println!("attack {number}: no deny entry"),
        }
    }
    report(&mut found, arguments.attacks)
}

/// A daemon that scores.
fn start(lab: &Lab, hedgerow: &Path, state: &Path, more: &[&str]) -> anyhow::Result<Daemon> {
    let directory = state.display().to_string();
    let options = [&["--state", &directory], more].concat();
    let daemon = Daemon::start(hedgerow, &options, &lab.directory().join("daemon.log"))?;
    let until = Instant::now() + START_LIMIT;
    loop {
        match daemon.next(until)? {
            Some(Line::Status(status)) if status["phase"] == "scoring" => return Ok(daemon),
            Some(_) => {}
            None => anyhow::bail!("not scoring after {START_LIMIT:?}"),
        }
    }
}

fn attempt(lab: &Lab, hedgerow: &Path, state: &Path) -> anyhow::Result<Option<Measured>> {
    let enforcing = ["--mode", "enforce", "--enforce-provisional"];
    let daemon = start(lab, hedgerow, state, &enforcing)?;
    let mut entries = Vec::new();
    watch(&daemon, CALM, &mut entries)?;
    anyhow::ensure!(entries.is_empty(), "the benign load was denied");
    let outcome = thread::scope(|scope| -> anyhow::Result<Outcome> {
        let attack = scope.spawn(|| Attack::ReverseShell.run(lab, Via::Child, ATTACK_LIMIT));
        while !attack.is_finished() {
            watch(&daemon, Duration::from_millis(50), &mut entries)?;
        }
        match attack.join() {
            Ok(outcome) => Ok(outcome?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    watch(&daemon, Duration::from_secs(1), &mut entries)?;
    let transcript = outcome.transcript.as_ref();
    let connected = transcript.and_then(|transcript| transcript.accepted);
    Ok(entries.first().zip(transcript).zip(connected).map(|((entry, transcript), connect)| {
        let (before, after) = transcript.bytes_around(entry.time_ns);
        Measured { entry_ms: (entry.time_ns - connect.0) as f64 / 1e6, before, after }
    }))
}

/// Keeps the blocks of the attacked service until the time is up.
fn watch(daemon: &Daemon, limit: Duration, entries: &mut Vec<Remediation>) -> anyhow::Result<()> {
    let until = Instant::now() + limit;
    while let Some(line) = daemon.next(until)? {
        if let Line::Remediation(remediation) = line {
            let app = Lab::workload("app");
            let subject = remediation.subject.as_ref();
            let is_app = subject.is_some_and(|subject| subject.workload.as_str() == app);
            if remediation.action == Action::Block && remediation.mode == Mode::Enforce && is_app {
                entries.push(*remediation);
            }
        }
    }
    Ok(())
}

fn report(found: &mut [Measured], attacks: usize) -> anyhow::Result<()> {
    anyhow::ensure!(!found.is_empty(), "no attack was denied");
    found.sort_by(|a, b| a.entry_ms.total_cmp(&b.entry_ms));
    let (median, last) = (found[found.len() / 2].entry_ms, found[found.len() - 1].entry_ms);
    println!(
        "attack to deny, {} of {attacks} reverse shells denied: from the first connect to the entry \
         p50 {median:.0} ms, from {:.0} to {last:.0} ms",
        found.len(),
        found[0].entry_ms
    );
    let sum = |of: fn(&Measured) -> u64| found.iter().map(of).sum::<u64>();
    let (before, after) = (sum(|one| one.before) / found.len() as u64, sum(|one| one.after));
    println!("bytes that left: {before} before the entry (mean), {after} after it (all together)");
    let met = median <= GOAL_MS && after == 0 && found.len() == attacks;
    let verdict = if met { "met" } else { "missed" };
    println!("goal: p50 at most {GOAL_MS:.0} ms, nothing after the entry: {verdict}");
    Ok(())
}
