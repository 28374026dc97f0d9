//! The daemon: sensors, engine, responder and sinks on one screen.
//!
//! One loop owns engine and responder and never waits for a sink, nor for the disk: findings go to bounded
//! queues of threads that deliver them, captures to a thread that writes them, and so does what is kept. Who
//! gives an order waits a moment for it to be on the disk.

mod answer;
#[cfg(feature = "full")]
mod capture;
mod governor;
mod heartbeat;
mod kept;
mod measure;
mod memory;
mod named;
mod orders;
mod outlets;
mod probing;
mod process;
mod pulse;
mod recorder;
mod reload;
mod report;
mod respond;
mod room;
mod seen;
mod service;
mod start;
mod status;
mod stop;
mod tally;
mod targets;
mod usage;
mod used;
mod vulnerable;
mod watchdog;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, never, select, tick};
use hedgerow_detect::{EPOCH_SECONDS, Engine, Outcome, Phase, digests, file::Profile, known};
use hedgerow_event::{EpochClose, Event, Evidence, Finding, Grams};
use hedgerow_features::Record;
use hedgerow_hostfile::Refusals;
use hedgerow_probe::{Control as Sensor, Item, Positions};
use signal_hook::consts::SIGHUP;

pub use self::capture::{Capture, Run};
pub use self::orders::Orders;
#[cfg(test)]
pub use self::respond::alarm::example as example_finding;
pub use self::start::run;
pub use self::used::{processes, replace};
use self::{
    governor::Governor,
    heartbeat::Heart,
    kept::Kept,
    named::Called,
    probing::Probing,
    pulse::Pulse,
    recorder::{Opened, Openings, Recorder},
    report::Reporter,
    respond::{Actor, Done, watch::Told},
    seen::Seen,
    usage::Accounts,
    used::Uses,
    watchdog::{Loop, Part, Queue, Watchdog},
};
#[cfg(not(feature = "full"))]
use crate::small::capture;
use crate::{
    config::Config,
    control::{Control, Pending},
    host::MODEL,
    kubernetes::Kubernetes,
    metrics::{Board, Stage},
};

/// Subjects with a hard signal are looked at this often before their window closes.
const EARLY: Duration = Duration::from_millis(100);
/// Entries are swept and extended this often.
const SWEEP: Duration = Duration::from_secs(1);
/// Once an hour a model in service is saved, with its budget and calibration, and it is told how many
/// cases were listed.
const HOUR_EPOCHS: u32 = 720;

/// Everything that the loop owns.
struct Daemon {
    config: Config,
    /// The configuration, while it is read anew.
    fresh: Receiver<anyhow::Result<Config>>,
    /// Who loads probes of ours at present.
    probing: Probing,
    engine: Engine,
    sensor: Sensor,
    /// Whose programs are not read, because one took too long.
    unread: Refusals,
    actor: Actor,
    reporter: Reporter,
    orders: Orders,
    kept: Kept,
    seen: Seen,
    pulse: Pulse,
    recorder: Recorder,
    governor: Option<Governor>,
    opened: Openings,
    uses: Uses,
    /// Where it is wanted.
    accounts: Option<Accounts>,
    kubernetes: Option<Kubernetes>,
    called: Called,
    tampered: Told,
    capture: Option<Capture>,
    /// A hole in it was told.
    capture_failed: bool,
    epochs: u32,
    last_close: Option<EpochClose>,
    /// For the watchdog: turns of the loop, and the length of the ledger's queue.
    turns: Arc<Loop>,
    ledger: Arc<Queue>,
    watchdog: Watchdog,
    /// Windows that closed without everything that belongs to them, as told.
    overdue: u64,
    heart: Heart,
    /// For scrapers, where there are any.
    board: Arc<Board>,
    scraped: bool,
}

/// Whoever read what the daemon prints has gone.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads standard output any more, so the run ended")]
struct Unread;

impl Daemon {
    /// The loop: whatever comes next, until a signal, which is told, or the drain thread's end.
    fn pump(
        &mut self,
        items: &Receiver<Item>,
        control: &Control,
        signals: &Receiver<i32>,
    ) -> anyhow::Result<Option<i32>> {
        let closed = self.reporter.outlets().closed().clone();
        let early = tick(EARLY);
        let sweep = tick(SWEEP);
        let live = if self.reporter.is_live() { tick(SWEEP) } else { never() };
        loop {
            self.turns.turn();
            select! {
                recv(items) -> item => match item {
                    Ok(item) => self.take(item, items)?,
                    // The drain thread ended; stopping it says why.
                    Err(_) => return Ok(None),
                },
                recv(control.requests) -> pending => {
                    self.turns.enter(Part::Control);
                    if let Some(mut claimed) = pending.ok().and_then(Pending::claim) {
                        if let (Some(present), Ok(responder)) =
                            (claimed.gathered.present.take(), self.actor.operated())
                        {
                            responder.protected_mut().set_present(present);
                        }
                        let reply = self.answer(&claimed.request, claimed.by, &claimed.gathered.pods);
                        claimed.answer(reply);
                    }
                }
                recv(early) -> _ => self.look_early()?,
                recv(sweep) -> _ => self.sweep(),
                recv(live) -> _ => self.reporter.live(&self.engine, &self.sensor),
                recv(self.fresh) -> read => match read {
                    Ok(read) => self.reloaded(read),
                    Err(_) => self.fresh = never(),
                },
                recv(closed) -> _ => return Err(Unread.into()),
                recv(signals) -> signal => match signal {
                    // A terminal that hung up is noticed by its closed output.
                    Ok(SIGHUP) => self.reload(),
                    signal => return Ok(signal.ok()),
                },
            }
        }
    }

    fn sweep(&mut self) {
        self.turns.enter(Part::Responder);
        self.actor.sweep(&mut self.reporter);
        self.expire_orders();
        self.raise();
        self.recorder.sweep(hedgerow_responder::now().boot_ns);
        self.record_again();
        self.turns.enter(Part::Reports);
        if let Some(responder) = &self.actor.responder {
            self.ledger.see(responder.ledger().written().waiting);
        }
        self.kept.sweep(&mut self.engine, &mut self.reporter);
        self.reporter.sweep();
        self.beat();
        let mut untold = self.unread.take_untold();
        untold.extend(self.uses.take_untold());
        untold.extend(self.accounts.iter().flat_map(Accounts::take_untold));
        untold.extend(self.kubernetes.iter().filter_map(Kubernetes::take_untold));
        untold.iter().for_each(|said| self.reporter.warn(said));
    }

    /// Writes what led to the newest findings once more: what was under way when they opened is there.
    fn record_again(&mut self) {
        let Self { opened, recorder, reporter, .. } = self;
        let lost = opened.write(Instant::now(), |opened| {
            reporter.outlets().past(&opened.uid, || opened.past(recorder))
        });
        lost.iter().for_each(|uid| reporter.outlets().past_lost(uid));
    }

    fn record_opening(&mut self, finding: &Finding) {
        let mut opened = Opened::of(finding);
        let past = || opened.past(&mut self.recorder);
        let became = self.reporter.outlets().past(&opened.uid, past);
        opened.waits(became);
        if let Some(opened) = self.opened.add(opened).filter(Opened::is_lost) {
            self.reporter.outlets().past_lost(&opened.uid);
        }
    }

    fn take(&mut self, item: Item, items: &Receiver<Item>) -> anyhow::Result<()> {
        self.turns.enter(Part::Engine);
        match item {
            Item::Events(mut events) => {
                self.arrived(&events);
                self.probing.leave_out(&mut events);
                let learning = self.engine.phase() != Phase::Scoring;
                for event in &events {
                    self.reporter.tally.count(event);
                    self.engine.observe(event);
                    self.actor.observe(event, learning);
                    self.pulse.observe(event);
                    self.called.observe(event);
                    self.uses.observe(event);
                    if let Some((workload, cgroup_id)) = self.seen.observe(event) {
                        self.allow_anew(&workload, cgroup_id);
                    }
                }
                // By itself: most of what it costs is code and tables that nearer caches lost meanwhile. Not
                // later: what is freed late is in no cache when the drain thread has it again.
                events.iter().for_each(|event| self.recorder.observe(event));
                if let Some(capture) = &mut self.capture {
                    capture.records(events.into_iter().map(Record::Event).collect());
                }
            }
            Item::Used(used) => self.uses.used(used),
            Item::Grams(report) => {
                self.engine.grams(&report);
                if let Some(capture) = &mut self.capture {
                    capture.records(vec![Record::Grams(report)]);
                }
            }
            Item::Close(close) => {
                self.close(close)?;
                self.publish(items);
            }
        }
        Ok(())
    }

    /// Notes how long the newest of a batch was under way.
    fn arrived(&self, events: &[Event]) {
        if let Some(newest) = events.iter().map(|event| event.time_boot_ns).max() {
            let took = hedgerow_responder::now().boot_ns.saturating_sub(newest);
            self.board.stages.of(Stage::Arrival).observe(Duration::from_nanos(took));
        }
    }

    fn close(&mut self, close: EpochClose) -> anyhow::Result<()> {
        if let Some(capture) = &mut self.capture {
            capture.known_since(self.sensor.known_since());
            capture.model(self.engine.model_id());
            if let Some(why) = capture.failure().filter(|_| !self.capture_failed) {
                self.reporter.warn(&format!("the capture has holes from here on: {why}"));
                self.capture_failed = true;
            }
            capture.records(vec![Record::Close(close.clone())]);
            if let Some((responder, enforce_provisional)) = self.actor.grounds() {
                capture.grounds(responder, enforce_provisional, close.end_boot_ns);
            }
        }
        if self.governor.as_ref().is_some_and(Governor::sheds_used) {
            self.uses.lose();
        }
        self.uses.close(&close, &self.sensor.stats().unwrap_or_default());
        let shed = self.governor.as_ref().is_some_and(Governor::sheds_usage);
        self.accounts.iter_mut().for_each(|accounts| accounts.close(&close, shed));
        self.look_after_ourselves();
        let outcomes = self.engine.close(&close)?;
        // What was shed in part says less of this hour of the week than its next ones will be held to.
        if !close.shed {
            self.watch(&outcomes);
        }
        self.last_close = Some(close);
        self.epochs += 1;
        self.pulse.close();
        self.pulse.scored(outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Scored(score) => Some(score),
            _ => None,
        }));
        for outcome in outcomes {
            self.handle(outcome)?;
        }
        self.govern()?;
        self.tell_overdue();
        let status = (service::is_there() || self.reporter.is_machine()).then(|| self.status());
        status.iter().filter(|_| self.is_ready()).for_each(service::status);
        let status = status.filter(|_| self.reporter.is_machine());
        self.reporter.epoch(&self.engine, &self.sensor, status);
        if self.engine.phase() == Phase::Scoring && self.epochs.is_multiple_of(HOUR_EPOCHS) {
            let listed = self.engine.take_listed();
            if listed.cases() > 0 {
                self.reporter.listed(&listed);
            }
            self.save()?;
        }
        Ok(())
    }

    fn tell_overdue(&mut self) {
        let overdue = self.sensor.overdue();
        if overdue > self.overdue {
            self.overdue = overdue;
            self.reporter.warn(
                "a window was closed although a record of it was begun and not finished for 5 s; \
                 it counts as incomplete and denies nothing",
            );
        }
    }

    /// Notes which workloads were seen in this hour of the week.
    fn watch(&mut self, outcomes: &[Outcome]) {
        let windows = outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Windows(windows) => Some(windows),
            _ => None,
        });
        let workloads = windows.flatten().map(|window| &window.subject.workload).collect();
        self.actor.watch(EPOCH_SECONDS as u32, &workloads);
    }

    /// Tells what somebody else changed of the sensor or of the deny maps.
    fn look_after_ourselves(&mut self) {
        let mut found = self.sensor.tampered();
        found.extend(self.actor.tampered(&mut self.reporter));
        let (state, model) = (self.engine.state(), self.engine.model_id());
        let now = hedgerow_responder::now().boot_ns;
        for tampering in self.tampered.fresh(found, now) {
            self.actor.accuse(tampering, state, model, &mut self.reporter);
        }
    }

    /// Tells what an operator must hear of at once.
    fn raise(&mut self) {
        let (state, model) = (self.engine.state(), self.engine.model_id());
        self.actor.raise(state, model, &mut self.reporter);
    }

    fn look_early(&mut self) -> anyhow::Result<()> {
        self.turns.enter(Part::Engine);
        let sensor = self.sensor.clone();
        let rows_of = |tgid| -> Vec<Event> { sensor.rows_of(tgid).unwrap_or_default() };
        for outcome in self.engine.look_early(hedgerow_responder::now().boot_ns, rows_of) {
            self.handle(outcome)?;
        }
        Ok(())
    }

    fn handle(&mut self, outcome: Outcome) -> anyhow::Result<()> {
        match outcome {
            Outcome::Arm(profile) => self.arm_with(&profile),
            Outcome::Replaced { subject, windows } => self.reporter.replaced(&subject, windows),
            Outcome::Drifted(workload) => {
                self.reporter.drifted(&workload);
                self.save()?;
            }
            Outcome::Relearned { subjects } => {
                subjects.iter().for_each(|subject| self.reporter.relearned(subject));
                self.save()?;
            }
            Outcome::Phase(phase) => {
                if let Some(capture) = &mut self.capture {
                    capture.phase(phase, self.last_close.as_ref());
                }
                if phase == Phase::Scoring {
                    self.save()?;
                }
                self.reporter.phase(phase, &self.engine, &self.sensor);
                memory::give_back();
            }
            Outcome::Windows(windows) => {
                self.reporter.tally.windows(&windows);
                if let Some(capture) = &mut self.capture {
                    capture.windows(windows);
                }
            }
            Outcome::Scored(_) => {}
            Outcome::Finding(mut finding, evidence) => {
                // The verdict first: neither a sink nor what is read of the process may hold it up.
                let done = self.ask(&finding, &evidence);
                // What is denied, or muted, is there to be looked up.
                let is_owed = finding.disposition.is_alert() || done.iter().any(Done::is_denied);
                self.orders.silence(&mut finding);
                self.name(&mut finding);
                // Before the report, so that who reads the one finds the other.
                if finding.is_first_alert() {
                    self.record_opening(&finding);
                }
                self.reporter.finding(&finding, is_owed);
                if !done.is_empty() {
                    let reporter = &mut self.reporter;
                    done.into_iter().for_each(|done| self.actor.done(done, &finding, reporter));
                    self.raise();
                }
                self.turns.enter(Part::Engine);
            }
            // What is refused still, or can't be, was told already.
            Outcome::Again(finding, evidence) => {
                let mut done = self.ask(&finding, &evidence);
                done.retain(Done::is_denied);
                if !done.is_empty() {
                    self.reporter.outlets().owe(&finding);
                }
                let reporter = &mut self.reporter;
                done.into_iter().for_each(|done| self.actor.done(done, &finding, reporter));
                self.raise();
                self.turns.enter(Part::Engine);
            }
        }
        Ok(())
    }

    /// Asks the responder about each process that a finding could have denied.
    fn ask(&mut self, finding: &Finding, evidence: &[Evidence]) -> Vec<Done> {
        self.turns.enter(Part::Responder);
        let begun = Instant::now();
        let mut done = Vec::new();
        for evidence in evidence {
            let workload = &evidence.subject.workload;
            done.push(match self.orders.maintained(workload) {
                Some(why) => Done::Reported(self.actor.not_denied(workload, &finding.uid, why)),
                None => self.actor.act(&finding.uid, evidence, finding.state),
            });
        }
        if !done.is_empty() {
            self.board.stages.of(Stage::Verdict).observe(begun.elapsed());
        }
        done
    }

    /// Puts beside a finding by which names its peers were asked for, and what is known to be vulnerable of
    /// its programs. After the verdict: both are claimed.
    fn name(&mut self, finding: &mut Finding) {
        let sensor = &self.sensor;
        let names = |netns, address| sensor.name_of(netns, address);
        finding.claimed_names = self.called.names(&finding.objects, names);
        finding.vulnerabilities = vulnerable::of(&self.uses.known, finding);
    }

    /// Tells the kernel what a saved model knows.
    fn arm(&self) {
        if let Some(profile) = self.engine.profile() {
            self.arm_with(profile);
        }
    }

    fn arm_with(&self, profile: &Profile) {
        let known = known(profile).into_iter();
        self.sensor.arm(known.map(|(subject, grams)| (subject, positions(&grams))));
        for (subject, digest) in digests(profile) {
            self.sensor.set_digest(&subject, digest);
        }
    }

    fn save(&mut self) -> anyhow::Result<()> {
        let Some(model) = self.engine.save()? else { return Ok(()) };
        self.kept.model(model, self.config.state.join(MODEL));
        Ok(())
    }
}

fn positions(grams: &Grams) -> Positions {
    let set = |words: &[u64]| -> Vec<u32> {
        let bits = words.iter().enumerate().flat_map(|(at, word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at as u32 * 64 + bit)
        });
        bits.collect()
    };
    Positions { grams2: set(&grams.grams2), grams3: set(&grams.grams3), grams6: set(&grams.grams6) }
}
