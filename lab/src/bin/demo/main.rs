//! `make demo`: a PostgreSQL is learned, maintained, attacked, cut off from the attacker, and goes
//! on serving. Everything happens in a lab of its own, which goes away with the demonstration.

mod show;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Parser;
use hedgerow_event::{Action, Finding, Mode, Remediation};
use hedgerow_lab::{
    Attack, Daemon, Lab, Line, Maintenance, Outcome, Postgres, Site, Via, exit_code, now_ns,
};

/// The daemon's phase once it has learned.
const SCORING: &str = "scoring";
/// How long the shell tries to leak, if nobody stops it.
const ATTACK_LIMIT: Duration = Duration::from_secs(30);
/// After each maintenance job: two windows, so that what it did has been judged.
const SETTLE: Duration = Duration::from_secs(11);
/// The first entry lasts 60 s and goes when nothing hits it; doubled once, and some slack.
const RELEASE_LIMIT: Duration = Duration::from_secs(200);

/// Learns a PostgreSQL in a lab of its own, attacks it, and shows the kernel cut the attacker off.
#[derive(Debug, Parser)]
struct Arguments {
    /// The hedgerow binary
    #[arg(long)]
    hedgerow: PathBuf,
    /// How long to learn
    #[arg(long, default_value = "90s")]
    learn: String,
}

/// What the daemon said so far about the lab, and what it means for the promises.
#[derive(Debug, Default)]
struct Seen {
    findings: Vec<Finding>,
    /// Each with the time at which the daemon reported it: its entry stands by then (Unix ns).
    blocks: Vec<(Remediation, i64)>,
    unblocks: Vec<Remediation>,
    /// Findings about other workloads of this host.
    elsewhere: usize,
    phase: String,
}

struct Demo {
    // Dropped in this order: the daemon lifts its entries before the lab goes.
    daemon: Daemon,
    postgres: Postgres,
    lab: Lab,
    seen: Seen,
    kept: Vec<(&'static str, bool)>,
}

fn main() -> ExitCode {
    exit_code(perform(&Arguments::parse()))
}

fn perform(arguments: &Arguments) -> anyhow::Result<()> {
    show::phase("1", "The lab: a service, its clients and an attacker, joined by a router");
    let lab = Lab::up()?;
    for site in Site::ALL {
        show::line(&format!("{:9} {:12} {}", site.name(), site.ipv4(), site.ipv6()));
    }
    let mut postgres = Postgres::start(&lab)?;
    postgres.start_clients(&lab)?;
    show::line("PostgreSQL serves pgbench, 40 transactions a second");

    show::phase("2", &format!("Learning for {}: what this host normally does", arguments.learn));
    let state = lab.directory().join("state");
    let log = lab.directory().join("daemon.log");
    let state = state.display().to_string();
    let options = ["--learn", &arguments.learn, "--enforce-provisional", "--state", &state];
    let daemon = Daemon::start(&arguments.hedgerow, &options, &log)?;
    let mut demo = Demo { daemon, postgres, lab, seen: Seen::default(), kept: Vec::new() };
    demo.learn()?;
    // The rest of this host is observed only.
    enforce(&arguments.hedgerow, &state)?;
    demo.maintain()?;
    demo.attack()?;
    demo.finish()
}

/// Lets the daemon refuse in the demonstration's own workload.
fn enforce(hedgerow: &Path, state: &str) -> anyhow::Result<()> {
    let output = Command::new(hedgerow)
        .args(["mode", "enforce", "--workload", &workload(), "--state", state])
        .output()
        .with_context(|| format!("run {}", hedgerow.display()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "hedgerow mode enforce: {errors}");
    show::line(&format!("[mode] enforce in {}, observe elsewhere", workload()));
    Ok(())
}

impl Demo {
    /// Shows what the daemon says until `done` holds or `limit` has passed; tells which.
    fn watch(&mut self, limit: Duration, done: impl Fn(&Seen) -> bool) -> anyhow::Result<bool> {
        let until = Instant::now() + limit;
        while !done(&self.seen) {
            match self.daemon.next(until)? {
                Some(line) => self.seen.take(line),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn learn(&mut self) -> anyhow::Result<()> {
        let limit = Duration::from_secs(600);
        let learned = self.watch(limit, |seen| seen.phase == SCORING)?;
        anyhow::ensure!(learned, "the daemon had not finished learning after 10 minutes");
        Ok(())
    }

    fn maintain(&mut self) -> anyhow::Result<()> {
        show::phase("3", "Maintenance that learning has not seen: none of it may be refused");
        for job in Maintenance::ALL {
            show::line(job.name());
            self.postgres.maintain(&self.lab, job)?;
            self.watch(SETTLE, |_| false)?;
        }
        let alerts = self.seen.alerts();
        show::line(&format!("{} refusals, {alerts} alerts", self.seen.blocks.len()));
        self.keep("maintenance: nothing refused", self.seen.blocks.is_empty());
        self.keep("maintenance: at most one alert", alerts <= 1);
        Ok(())
    }

    fn attack(&mut self) -> anyhow::Result<()> {
        show::phase("4", "The attack: COPY ... FROM PROGRAM opens a shell to the attacker");
        let alerts = self.seen.alerts();
        let earlier = self.seen.blocks.len();
        let served = self.postgres.served().0;
        let outcome = self.while_attacking()?;
        self.watch(Duration::from_secs(2), |_| false)?;
        self.keep("attack: found as an alert of its own", self.seen.alerts() > alerts);
        let mut entries = self.seen.blocks[earlier..].iter();
        let entry = entries.find(|(block, _)| block.mode == Mode::Enforce).cloned();
        self.keep("attack: refused by the kernel", entry.is_some());
        let (served_now, rate) = self.postgres.served();
        show::line(&format!("pgbench meanwhile: {} s served, {rate} tps now", served_now - served));
        self.keep("service: still serving", served_now > served && rate > 0.0);
        let Some((entry, stood_ns)) = entry else { return Ok(()) };
        self.show_cut(&entry, stood_ns, &outcome);
        show::phase("5", "Release: an entry that nothing hits for 60 s goes by itself");
        let released = self.watch(RELEASE_LIMIT, |seen| {
            seen.unblocks.iter().any(|unblock| unblock.uid == entry.uid)
        })?;
        self.keep("entry: released by itself", released);
        Ok(())
    }

    /// Runs the attack on a thread of its own, and shows what the daemon says meanwhile.
    fn while_attacking(&mut self) -> anyhow::Result<Outcome> {
        let (lab, daemon, seen) = (&self.lab, &self.daemon, &mut self.seen);
        thread::scope(|scope| {
            let attack = scope.spawn(|| Attack::CopyShell.run(lab, Via::Child, ATTACK_LIMIT));
            while !attack.is_finished() {
                if let Some(line) = daemon.next(Instant::now() + Duration::from_millis(50))? {
                    seen.take(line);
                }
            }
            match attack.join() {
                Ok(outcome) => Ok(outcome?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    fn show_cut(&mut self, entry: &Remediation, stood_ns: i64, outcome: &Outcome) {
        let Some(transcript) = &outcome.transcript else { return };
        let Some((accepted_ns, ..)) = transcript.accepted else {
            show::line("the shell never reached the attacker");
            return;
        };
        let after_ms = |time_ns: i64| (time_ns - accepted_ns) as f64 / 1e6;
        let (decided, stood) = (after_ms(entry.time_ns), after_ms(stood_ns));
        let (before, later) = transcript.bytes_around(entry.time_ns);
        let after = transcript.bytes_around(stood_ns).1;
        show::line(&format!(
            "{decided:.0} ms after the shell connected the entry was decided, after {stood:.0} ms \
             it stood"
        ));
        show::line(&format!(
            "bytes that left: {before} before the decision, {} until the entry stood, {after} after",
            later - after
        ));
        show::line(&format!("the attacker's connection ended by {:?}", transcript.end));
        self.keep("attack: nothing left once the entry stood", after == 0);
    }

    fn keep(&mut self, promise: &'static str, held: bool) {
        self.kept.push((promise, held));
    }

    fn finish(self) -> anyhow::Result<()> {
        show::phase("6", "What was promised");
        show::line(&format!("({} findings elsewhere on this host)", self.seen.elsewhere));
        for (promise, held) in &self.kept {
            show::promise(promise, *held);
        }
        let broken = self.kept.iter().filter(|(_, held)| !held).count();
        anyhow::ensure!(broken == 0, "{broken} of {} promises not kept", self.kept.len());
        Ok(())
    }
}

impl Seen {
    /// Shows a line and keeps what the promises are about.
    fn take(&mut self, line: Line) {
        match line {
            Line::Status(status) => {
                let phase = status["phase"].as_str().unwrap_or_default();
                // While it scores, findings say more.
                if phase != SCORING || self.phase != SCORING {
                    show::status(&status);
                }
                phase.clone_into(&mut self.phase);
            }
            // Other workloads of this host are watched too, but they are not the subject here.
            Line::Finding(finding) if finding.subject.workload.as_str() != workload() => {
                self.elsewhere += 1;
            }
            Line::Finding(finding) => {
                show::finding(&finding);
                self.findings.push(*finding);
            }
            Line::Remediation(remediation) => {
                show::remediation(&remediation);
                match remediation.action {
                    Action::Block => self.blocks.push((*remediation, now_ns())),
                    Action::Unblock => self.unblocks.push(*remediation),
                }
            }
        }
    }

    /// Episodes that alerted: reports of one episode share their uid.
    fn alerts(&self) -> usize {
        let mut uids: Vec<&str> = self
            .findings
            .iter()
            .filter(|finding| finding.disposition.is_alert())
            .map(|finding| finding.uid.as_str())
            .collect();
        uids.sort_unstable();
        uids.dedup();
        uids.len()
    }
}

/// The workload that is learned, attacked and defended.
fn workload() -> String {
    Lab::workload("postgresql")
}
