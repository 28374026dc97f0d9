//! One life: an engine fed with epochs of a recording, one after another, in whatever order they are
//! drawn, with numbers and times of their own.

use std::{collections::HashSet, ops::Range, sync::Arc};

use hedgerow_detect::{Engine, Outcome, Phase, Schedule, Settings, known};
use hedgerow_event::{Epoch, EpochClose, Event, Finding, Origin, RowReason, Signal, Subject};
use hedgerow_features::{Checker, Cut, Sensors};

use super::{
    judge::Rule,
    tape::{Naming, SEED, Tape, What},
};

/// Subjects with something new are looked at this often; the daemon does at five times the rate.
const LOOK_NS: u64 = 500_000_000;
/// Lives begin at a multiple of an hour's epochs.
const FIRST_EPOCH: u32 = 720;

/// An engine and what it is fed.
#[derive(Debug)]
pub struct Life<'a> {
    tape: &'a Tape,
    naming: Naming,
    rule: Rule,
    engine: Engine,
    checker: Checker,
    /// The engine has a profile; before it every call is unseen and nothing is told of it.
    armed: bool,
    epoch: u32,
    boot_ns: u64,
    offset_ns: i64,
    /// Findings, as they were reported.
    pub findings: Vec<Finding>,
}

/// Where a piece of the recording lies in a life.
#[derive(Debug, Clone, Copy)]
pub struct Placed {
    /// To be added to what lies inside the piece.
    shift_ns: i64,
    /// Begin of the piece in the recording: what began before it is not moved.
    from_boot_ns: u64,
}

impl Placed {
    /// A piece that begins `from_boot_ns` in the recording, and `at_boot_ns` in the life.
    pub fn new(from_boot_ns: u64, at_boot_ns: u64) -> Self {
        Self { shift_ns: at_boot_ns.cast_signed() - from_boot_ns.cast_signed(), from_boot_ns }
    }

    /// A process's start, as the life has it.
    pub fn start(self, start_boot_ns: u64) -> u64 {
        if start_boot_ns < self.from_boot_ns { start_boot_ns } else { self.time(start_boot_ns) }
    }

    pub fn time(self, boot_ns: u64) -> u64 {
        boot_ns.saturating_add_signed(self.shift_ns)
    }

    /// An event in an epoch of the life.
    pub fn event(self, mut event: Event, epoch: Epoch) -> Event {
        event.epoch = epoch;
        event.time_boot_ns = self.time(event.time_boot_ns);
        event.actor.start_boot_ns = self.start(event.actor.start_boot_ns);
        match &mut event.origin {
            Origin::Fork(fork) => fork.child_start_boot_ns = self.start(fork.child_start_boot_ns),
            Origin::Exec(exec) => {
                if let Some(root) = &mut exec.root {
                    root.start_boot_ns = self.start(root.start_boot_ns);
                }
            }
            _ => {}
        }
        event
    }

    /// An epoch's end.
    pub fn close(self, mut close: EpochClose, epoch: Epoch, offset_ns: i64) -> EpochClose {
        close.epoch = epoch;
        close.start_boot_ns = self.time(close.start_boot_ns);
        close.end_boot_ns = self.time(close.end_boot_ns);
        close.realtime_offset_ns = offset_ns;
        close
    }
}

impl<'a> Life<'a> {
    pub fn new(
        tape: &'a Tape,
        naming: Naming,
        learn_seconds: u64,
        rule: Rule,
        budget_per_day: f64,
    ) -> anyhow::Result<Self> {
        let last = tape.epochs.last().map(|epoch| &epoch.close);
        let offset_ns = last.map_or(0, |close| close.realtime_offset_ns);
        let settings = Settings {
            host_id: Arc::from("truth"),
            boot_id: "truth".to_owned(),
            schedule: Schedule::of(learn_seconds),
            budget_per_day,
            seed: SEED,
            sensors: Sensors { rows: true, calls: true, ..Sensors::default() },
            realtime_offset_ns: offset_ns,
        };
        Ok(Self {
            tape,
            naming,
            rule,
            engine: Engine::learning(settings)?,
            checker: Checker::default(),
            armed: false,
            epoch: FIRST_EPOCH,
            // After everything in the recording, so that no process begins after it was seen.
            boot_ns: last.map_or(0, |close| close.end_boot_ns) + 60_000_000_000,
            offset_ns,
            findings: Vec::new(),
        })
    }

    pub fn is_scoring(&self) -> bool {
        self.engine.phase() == Phase::Scoring
    }

    /// Time since boot of a finding.
    pub fn boot_ns_of(&self, finding: &Finding) -> u64 {
        u64::try_from(finding.time_ns - self.offset_ns).unwrap_or(0)
    }

    /// Plays epochs that follow each other in the recording.
    pub fn play(&mut self, piece: Range<usize>) -> anyhow::Result<Placed> {
        let tape = self.tape;
        let from_boot_ns = tape.epochs[piece.start].close.start_boot_ns;
        let placed = Placed::new(from_boot_ns, self.boot_ns);
        for index in piece {
            self.epoch(index, placed)?;
        }
        Ok(placed)
    }

    fn epoch(&mut self, index: usize, placed: Placed) -> anyhow::Result<()> {
        let recorded = &self.tape.epochs[index];
        let close = placed.close(recorded.close.clone(), Epoch(self.epoch), self.offset_ns);
        let mut look_at = close.start_boot_ns + LOOK_NS;
        let mut signalled = HashSet::new();
        let mut last = Vec::new();
        for item in &recorded.items {
            match item.named(self.naming) {
                What::Event(event) => {
                    let event = placed.event(event, Epoch(self.epoch));
                    self.look_until(event.time_boot_ns, &mut look_at)?;
                    self.engine.observe(&event);
                }
                What::Cut(cut) => {
                    let event = self.checked(cut, placed);
                    self.signal(&event, &mut signalled);
                    match &event.origin {
                        Origin::Row(row) if row.reason == RowReason::Window => last.push(event),
                        _ => self.engine.observe(&event),
                    }
                }
            }
        }
        let of =
            |tgid| last.iter().filter(|row: &&Event| row.actor.tgid == tgid).cloned().collect();
        let outcomes = self.engine.look_early(close.end_boot_ns, of);
        self.heed(outcomes);
        last.iter().for_each(|row| self.engine.observe(row));
        for report in self.checker.reports(close.epoch) {
            self.engine.grams(&report);
        }
        let outcomes = self.engine.close(&close)?;
        self.heed(outcomes);
        self.epoch += 1;
        self.boot_ns = close.end_boot_ns;
        Ok(())
    }

    /// A row against the life's own profile. A program without one is in slot 0, as it would be with
    /// a daemon that gives no more of them.
    fn checked(&mut self, mut cut: Cut, placed: Placed) -> Event {
        cut.event = placed.event(cut.event, Epoch(self.epoch));
        let actor = &mut cut.event.actor;
        let profiled = !self.armed || self.checker.knows(&actor.subject, cut.event.epoch);
        actor.slot = u32::from(profiled);
        self.checker.check(&cut)
    }

    /// The kernel's signal that something unseen was found, once a program and epoch.
    fn signal(&mut self, event: &Event, signalled: &mut HashSet<Arc<Subject>>) {
        let Origin::Row(row) = &event.origin else { return };
        if !self.armed || row.unseen6 == 0 || !signalled.insert(event.actor.subject.clone()) {
            return;
        }
        let unseen6 = u32::try_from(row.unseen6).unwrap_or(u32::MAX);
        let calls = u32::try_from(row.calls).unwrap_or(u32::MAX);
        let origin = Origin::Signal(Signal { unseen6, calls });
        self.engine.observe(&Event { origin, ..event.clone() });
    }

    fn look_until(&mut self, now_boot_ns: u64, look_at: &mut u64) -> anyhow::Result<()> {
        while *look_at < now_boot_ns {
            let outcomes = self.engine.look_early(*look_at, |_| Vec::new());
            self.heed(outcomes);
            *look_at += LOOK_NS;
        }
        Ok(())
    }

    fn heed(&mut self, outcomes: Vec<Outcome>) {
        for outcome in outcomes {
            match outcome {
                Outcome::Arm(profile) => {
                    // Live, the kernel is in the next epoch when it is told.
                    self.checker.set_known(known(&profile), Epoch(self.epoch + 2));
                    self.armed = true;
                }
                Outcome::Finding(finding, _) if self.rule.tells(finding.class) => {
                    self.findings.push(*finding);
                }
                _ => {}
            }
        }
    }
}
