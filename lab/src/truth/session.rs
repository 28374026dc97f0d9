//! Makes a recording: a daemon that stores every call, loads side by side, plain life, then acts one
//! after another.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;

use super::{
    acts::{self, Act, Stage},
    marks::{CAPTURE, Mark, MarkWriter, Session, Span},
};
use crate::{Lab, Load, Started, attack::now_ns, cleanup::Guard};

/// Started loads settle for so long before anything is learned of them.
const SETTLE: Duration = Duration::from_secs(15);
/// Between two acts: the loads alone, so long that no epoch holds a part of both.
const PAUSE: Duration = Duration::from_millis(6_200);
/// The daemon observes within this.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Shares of the time: learned from, and plain life judged; acts have the rest.
const LEARN_SHARE: f64 = 0.28;
const JUDGE_SHARE: f64 = 0.17;

/// What is recorded.
#[derive(Debug)]
pub struct Recording<'a> {
    pub hedgerow: &'a Path,
    pub directory: &'a Path,
    pub length: Duration,
    pub loads: &'a [Load],
    /// Kinds of act that are done, round after round, until the time is up; none named: all.
    pub kinds: &'a [String],
    /// Told of each act and step.
    pub tell: fn(&str),
}

impl Recording<'_> {
    /// Records; what is made is removed but for the recording.
    pub fn make(&self) -> anyhow::Result<()> {
        fs::create_dir_all(self.directory)?;
        let mut lab = Lab::up()?;
        lab.shield()?;
        let capture = CaptureDaemon::start(self.hedgerow, &self.directory.join(CAPTURE))?;
        let mut loads = Vec::new();
        for load in self.loads {
            loads.push((*load, load.start(&lab)?));
            (self.tell)(&format!("{load} runs"));
        }
        let _attacker = acts::attacker(&lab)?;
        let _job = acts::prepare(&lab)?;
        thread::sleep(SETTLE);
        let half = self.length.mul_f64(LEARN_SHARE / 2.0);
        let mut learn = plain(half);
        if self.has_load(Load::Nginx) {
            acts::daily(&Stage { lab: &lab, loads: &loads, number: 0 })?;
        }
        learn.end_boot_ns = plain(half).end_boot_ns;
        (self.tell)("what lives learn from is recorded");
        let judge = plain(self.length.mul_f64(JUDGE_SHARE));
        (self.tell)("plain life is recorded");
        let begin_boot_ns = boot_ns();
        self.act(&lab, &loads)?;
        let acts = Span { begin_boot_ns, end_boot_ns: boot_ns() };
        thread::sleep(PAUSE);
        let session = Session {
            harness_pid: std::process::id(),
            harness_path: std::env::current_exe()?.display().to_string(),
            learn,
            judge,
            acts,
            loads: self.loads.iter().map(ToString::to_string).collect(),
            not_written: 0,
        };
        session.write(self.directory)?;
        drop(loads);
        match capture.finish()? {
            0 => Ok(()),
            holes => {
                (self.tell)(&format!("{holes} records were not written"));
                Session { not_written: holes, ..session }.write(self.directory)
            }
        }
    }

    fn act(&self, lab: &Lab, loads: &[(Load, Started)]) -> anyhow::Result<()> {
        let until = Instant::now() + self.length.mul_f64(1.0 - LEARN_SHARE - JUDGE_SHARE);
        let mut writer = MarkWriter::create(self.directory)?;
        let mut number = 0;
        for round in 0.. {
            let mut acts = acts::round(round);
            acts.retain(|act| self.has(act));
            let none = acts.is_empty() && number == 0 && round > acts::WAYS_MAX;
            anyhow::ensure!(!none, "there is no such act with these loads");
            for act in acts {
                if Instant::now() > until {
                    return Ok(());
                }
                number += 1;
                let mark = once(&act, &Stage { lab, loads, number });
                let seconds = (mark.ended_boot_ns - mark.begun_boot_ns) as f64 / 1e9;
                let failed = mark.failed.as_deref().map(|why| format!(" FAILED: {why}"));
                let failed = failed.unwrap_or_default();
                let Mark { kind, load, .. } = &mark;
                (self.tell)(&format!("{kind:22} via {load:10} {seconds:.1} s{failed}"));
                writer.write(&mark)?;
                thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    fn has_load(&self, load: Load) -> bool {
        self.loads.contains(&load)
    }

    fn has(&self, act: &Act) -> bool {
        let runs = match act.load {
            "host" => self.has_load(Load::Nginx),
            load => self.loads.iter().any(|one| one.name() == load),
        };
        runs && (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind == act.kind))
    }
}

fn once(act: &Act, stage: &Stage<'_>) -> Mark {
    let (begun_boot_ns, begun_ns) = (boot_ns(), now_ns());
    let done = act.perform(stage);
    Mark {
        kind: act.kind.to_owned(),
        class: act.class,
        load: act.load.to_owned(),
        whose: act.whose(stage.number),
        begun_boot_ns,
        ended_boot_ns: boot_ns(),
        begun_ns,
        ended_ns: now_ns(),
        failed: done.err().map(|why| format!("{why:#}")),
    }
}

fn plain(length: Duration) -> Span {
    let begin_boot_ns = boot_ns();
    thread::sleep(length);
    Span { begin_boot_ns, end_boot_ns: boot_ns() }
}

/// Nanoseconds of `CLOCK_BOOTTIME`.
fn boot_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec that the call fills.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Records that found no room on the way to the disk, as the capture says at its end.
fn not_written(said: &str) -> Option<u64> {
    said.split_once(" not written")?.0.rsplit(' ').next()?.parse().ok()
}

/// A running `hedgerow capture --full`.
#[derive(Debug)]
struct CaptureDaemon {
    child: Child,
    errors: BufReader<std::process::ChildStderr>,
    /// It was waited for.
    ended: Arc<AtomicBool>,
    _stop: Guard,
}

impl CaptureDaemon {
    fn start(hedgerow: &Path, directory: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(hedgerow);
        command.args(["capture", "--full"]).arg(directory);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let first = || {
            // SAFETY: changes the priority of this process, nothing else. Refused, it goes on.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -10) };
            Ok(())
        };
        // SAFETY: one system call, which allocates nothing.
        unsafe { command.pre_exec(first) };
        let mut child = command.spawn().with_context(|| hedgerow.display().to_string())?;
        let pid = child.id().cast_signed();
        let ended = Arc::new(AtomicBool::new(false));
        let reaped = Arc::clone(&ended);
        let stop = Guard::new(move || {
            if !reaped.load(Ordering::Acquire) {
                // SAFETY: sends a signal to a child that is ours and not reaped yet.
                unsafe { libc::kill(pid, libc::SIGINT) };
            }
        });
        let errors = child.stderr.take().context("no standard error")?;
        let mut daemon = Self { child, errors: BufReader::new(errors), ended, _stop: stop };
        let until = Instant::now() + START_LIMIT;
        let mut said = String::new();
        while !said.contains("Capturing to") {
            anyhow::ensure!(Instant::now() < until, "no capture within {START_LIMIT:?}: {said}");
            let read = daemon.errors.read_line(&mut said)?;
            anyhow::ensure!(read > 0, "the capture ended: {said}");
        }
        Ok(daemon)
    }

    /// Ends it as Ctrl-C does; all is written when this returns.
    fn finish(mut self) -> anyhow::Result<u64> {
        // SAFETY: the child is ours and not reaped yet.
        unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGINT) };
        let mut said = String::new();
        while self.errors.read_line(&mut said)? > 0 {}
        let status = self.child.wait()?;
        self.ended.store(true, Ordering::Release);
        anyhow::ensure!(status.success(), "the capture failed, {status}: {said}");
        not_written(&said).with_context(|| said.trim().to_owned())
    }
}
