//! Where everything goes that the daemon says: the findings' file, the sinks, the terminal. Threads of
//! their own deliver it; the loop never waits for a disk, a broker or a reader.

mod delivery;
#[cfg(test)]
mod killed;
mod missed;
mod outlet;
mod shares;
mod terminal;

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender, bounded};
use hedgerow_event::{Finding, Remediation};
use hedgerow_hostfile::{Reader, Refusals};
use hedgerow_sink::{Message, PatientLines, Sink, SinkHealth, heartbeat::Heartbeat};
use serde::Serialize;

pub use self::{delivery::Delivered, terminal::is_of_a_person};
use self::{
    delivery::{Delivery, Out, Said},
    outlet::Outlet,
    shares::Shares,
    terminal::{Ends, Terminal},
};
use super::{
    recorder::{Past, Recording},
    room::Room,
    watchdog::{Count, Stage},
};
use crate::{
    config::Config,
    exit::Failure,
    host::{Host, LEDGER},
    kubernetes::Kubernetes,
    metrics::{QueueLength, Stages},
    users::Users,
};

/// Reports that wait for the thread, and their bytes as JSON: whom one is about chose much of how long it is.
/// Full: what comes is told nobody, counted, and told of once there is room.
const OUT_MAX: usize = 4096;
const OUT_BYTES: usize = 64 << 20;
/// What led to findings and waits for the thread: what the flight recorder drops meanwhile stays for
/// it, at most as much again for each. Full: what comes is tried again, until the flight recorder has nothing of it any
/// more: then it is told and counted.
const PASTS_MAX: usize = 4;
/// Decisions of a killed daemon that are sent again: as many as could wait.
const MISSED_MAX: usize = OUT_MAX + delivery::BATCH;
/// The end waits so long for what is left, past what Kafka gets.
const FLUSH: Duration = Duration::from_secs(10);
/// And so long for whoever reads the last lines.
const READ: Duration = Duration::from_secs(2);

/// The loop's side.
#[derive(Debug)]
pub struct Outlets {
    /// Taken at the end.
    out: Option<Sender<Said>>,
    out_bytes: Arc<AtomicUsize>,
    terminal: Option<Terminal>,
    ends: Ends,
    /// Disconnected once all is delivered.
    ended: Receiver<()>,
    untold: AtomicU64,
    shares: Mutex<Shares>,
    pasts: Arc<AtomicUsize>,
    pasts_lost: AtomicU64,
    count: Arc<Count>,
    delivered: Arc<Mutex<Delivered>>,
    refusals: Refusals,
}

/// How deliveries fare.
#[derive(Debug, Clone, Default)]
pub struct Health {
    pub findings: SinkHealth,
    pub sinks: Vec<SinkHealth>,
    /// Reports that found no room.
    pub untold: u64,
    /// Listed ones that were past their tenant's share.
    pub left_out: u64,
    /// Lines that nobody read.
    pub unprinted: u64,
}

impl Outlets {
    /// Starts the threads. `live`: standard error has a line that is renewed.
    pub fn start(
        config: &Config,
        host: &Host,
        live: bool,
        file: PatientLines,
        sinks: Vec<Box<dyn Sink>>,
        stages: Arc<Stages>,
        kubernetes: Option<Kubernetes>,
    ) -> anyhow::Result<Self> {
        let (terminal, ends) = Terminal::start(live)?;
        let delivered = Arc::new(Mutex::new(Delivered::default()));
        let reader = Reader::new("processes");
        let refusals = reader.refusals();
        let count = Arc::new(Count::default());
        // Before the responder writes anything of its own.
        let (mark, missed) = match sinks.is_empty() {
            true => (None, Vec::new()),
            false => missed::read(&config.state, &config.state.join(LEDGER), MISSED_MAX)
                .map(|(mark, missed)| (Some(mark), missed))
                .context("what an earlier run did not report")
                .map_err(Failure::file)?,
        };
        let delivery = Delivery {
            mark,
            handed: None,
            mark_told: false,
            missed,
            count: Arc::clone(&count),
            stages,
            json: config.json,
            state: config.state.clone(),
            host: host.clone(),
            file,
            file_told: false,
            torn_told: false,
            sinks: sinks.into_iter().map(Outlet::new).collect(),
            unsettled: 0,
            terminal: terminal.clone(),
            reader,
            users: Users::default(),
            kubernetes,
            delivered: Arc::clone(&delivered),
        };
        let (out, reports) = bounded(OUT_MAX);
        let (end, ended) = bounded(0);
        thread::Builder::new().name("outlets".into()).spawn(move || {
            delivery.run(&reports);
            drop::<Sender<()>>(end);
        })?;
        Ok(Self {
            out: Some(out),
            out_bytes: Arc::default(),
            terminal: Some(terminal),
            ends,
            ended,
            untold: AtomicU64::new(0),
            shares: Mutex::default(),
            pasts: Arc::default(),
            pasts_lost: AtomicU64::new(0),
            count,
            delivered,
            refusals,
        })
    }

    pub fn finding(&self, finding: &Finding, is_owed: bool) {
        let bytes = json_bytes(finding);
        let record = if finding.disposition.is_alert() { 0 } else { record_bytes(finding, bytes) };
        if self.shares().admit(finding, record, is_owed, Instant::now()) {
            self.say(Out::Finding(Box::new(finding.clone())), bytes);
        }
    }

    /// This is denied for now: whoever looks for it finds it, also where it was left out.
    pub fn owe(&self, finding: &Finding) {
        if !finding.disposition.is_alert() && !self.shares().is_open(&finding.uid) {
            self.finding(finding, true);
        }
    }

    /// An earlier run listed this, and it is closed now.
    pub fn expect_close(&self, uid: &str) {
        self.shares().expect_close(uid);
    }

    /// Whose share of what is listed is used up.
    pub fn take_untold(&self) -> Vec<String> {
        self.shares().take_untold(Instant::now())
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What led to a finding, which is gathered only where there is room for it.
    pub fn past(&self, uid: &str, past: impl FnOnce() -> Option<Past>) -> Recording {
        let Some(room) = Room::take(&self.pasts, 1, PASTS_MAX) else { return Recording::NoRoom };
        let Some(past) = past() else { return Recording::Gone };
        match self.put(Out::Past(uid.to_owned(), past), Some(room)) {
            true => Recording::Written,
            false => Recording::NoRoom,
        }
    }

    /// There was none for it until nothing was kept of it.
    pub fn past_lost(&self, uid: &str) {
        self.pasts_lost.fetch_add(1, Ordering::Relaxed);
        self.note(format!(
            "hedgerow: warning: what led to {uid} was not recorded to its end: that of {PASTS_MAX} others \
             waited for the disk"
        ));
    }

    pub fn remediation(&self, remediation: &Remediation) {
        self.say(Out::Remediation(Box::new(remediation.clone())), json_bytes(remediation));
    }

    pub fn heartbeat(&self, heartbeat: Heartbeat) {
        let bytes = json_bytes(&heartbeat);
        self.say(Out::Heartbeat(Box::new(heartbeat)), bytes);
    }

    /// A line for standard output.
    pub fn print(&self, text: String) {
        let bytes = text.len();
        self.say(Out::Line(text), bytes);
    }

    /// A line for standard error.
    pub fn note(&self, text: String) {
        let bytes = text.len();
        self.say(Out::Note(text), bytes);
    }

    /// Renews the live line.
    pub fn live(&self, text: String) {
        if let Some(terminal) = &self.terminal {
            terminal.live(text);
        }
    }

    /// Takes the live line away.
    pub fn bare(&self) {
        self.say(Out::Bare, 0);
    }

    fn say(&self, what: Out, bytes: usize) {
        if !self.put(what, Room::take(&self.out_bytes, bytes, OUT_BYTES)) {
            self.untold.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// False: there is no room for it.
    fn put(&self, what: Out, room: Option<Room>) -> bool {
        // Counted first: the thread must not be done before.
        self.count.give();
        let said = room.map(|room| Said { at: Instant::now(), what, room });
        let is_sent =
            said.zip(self.out.as_ref()).is_some_and(|(said, out)| out.try_send(said).is_ok());
        if !is_sent {
            self.count.finish();
        }
        is_sent
    }

    /// Told once nobody reads standard output any more.
    pub fn closed(&self) -> &Receiver<()> {
        &self.ends.closed
    }

    /// The findings' file and the sinks as of a second ago.
    pub fn health(&self) -> Health {
        let Delivered { findings, sinks } =
            self.delivered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Health {
            findings,
            sinks,
            untold: self.untold.load(Ordering::Relaxed),
            left_out: self.shares().left_out(),
            unprinted: self.terminal.as_ref().map_or(0, Terminal::unprinted),
        }
    }

    /// What waits on the way out, for scrapers.
    pub fn queues(&self) -> Vec<QueueLength> {
        let health = self.health();
        let terminal = self.terminal.as_ref().map_or(0, Terminal::waiting);
        let pasts = self.pasts.load(Ordering::Relaxed);
        let pasts_lost = self.pasts_lost.load(Ordering::Relaxed);
        let queue = |name, waiting: usize, most: usize, lost| QueueLength {
            name,
            waiting: waiting as u64,
            most: most as u64,
            lost,
        };
        vec![
            queue("reports", self.out.as_ref().map_or(0, Sender::len), OUT_MAX, health.untold),
            queue("terminal", terminal, terminal::LINES_MAX, health.unprinted),
            queue("records", pasts, PASTS_MAX, pasts_lost),
        ]
    }

    /// Who delivers and who prints, for the watchdog.
    pub fn stages(&self) -> Vec<Stage> {
        let stage = |name, count: &Arc<Count>| {
            let count = Arc::clone(count);
            Stage::new(name, move || count.progress())
        };
        let printing =
            self.terminal.as_ref().map(|terminal| stage("the terminal", terminal.count()));
        let delivering = stage("the delivery of reports", &self.count);
        printing.into_iter().chain([delivering]).collect()
    }

    /// Whose processes are not described, because a file took too long.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }
}

/// How long something is as JSON; what can't be encoded is told where it is written.
fn json_bytes(value: &impl Serialize) -> usize {
    struct Length(usize);
    impl io::Write for Length {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut length = Length(0);
    let _ = serde_json::to_writer(&mut length, value);
    length.0
}

/// How much of a spool it takes.
fn record_bytes(finding: &Finding, otherwise: usize) -> usize {
    Message::finding(finding).map_or(otherwise, |message| message.encoded_len())
}

impl Drop for Outlets {
    /// Delivers what waits, for a while: a reader that stalled is left alone.
    fn drop(&mut self) {
        drop((self.out.take(), self.terminal.take()));
        let _ = self.ended.recv_timeout(FLUSH);
        let _ = self.ends.printed.recv_timeout(READ);
    }
}
