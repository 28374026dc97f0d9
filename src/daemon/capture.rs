//! Windows and records to Parquet, on a thread of its own.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use hedgerow_event::{Epoch, EpochClose};
use hedgerow_features::{EarlyLook, Record, Window, records_to_batch, to_batch};
use hedgerow_sink::parquet::{ParquetConfig, ParquetSink, ParquetStatus};

use hedgerow_detect::{Phase, Schedule};
use hedgerow_offline::{
    keys::{
        BOOT, BUDGET, EARLY, EDGES, FULL, HOST, KNOWN_SINCE, MODEL, OFFSET, POLICY, RECORDS,
        SCHEDULE, SEED, SYSCALLS, WINDOWS,
    },
    past,
};
use hedgerow_responder::{Responder, grounds::Grounds};

use crate::{exit::Failure, host::Host};

/// Records that may wait for the disk, and batches of whatever they hold. When they are full the
/// next ones are dropped and counted: detection and response never wait for a capture.
const WAITING_MAX: u64 = 1 << 19;
const QUEUE: usize = 1 << 15;
/// Records are written in batches of this many.
const BATCH: usize = 65_536;
/// What was captured is on the disk after so long, whatever happens then: a kill loses no more than
/// this and an epoch that never closes.
const CHECKPOINT: Duration = Duration::from_secs(2);

/// What a capture's metadata says of the run that it is made in.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub seed: u64,
    /// Of the learning that goes on meanwhile.
    pub schedule: Option<Schedule>,
    pub budget_per_day: f64,
    pub full: bool,
    pub syscalls: bool,
}

enum Part {
    Records(Vec<Record>),
    Windows(Vec<Window>),
    Metadata(String, String),
    /// What decisions rest on from a time since boot on.
    Grounds(u64, Box<Grounds>),
}

/// A running capture.
pub struct Capture {
    parts: Sender<Part>,
    thread: JoinHandle<ParquetStatus>,
    /// The first failure.
    failure: Arc<OnceLock<String>>,
    dropped: u64,
    /// Records that wait for the thread.
    waiting: Arc<AtomicU64>,
    edges: BTreeMap<u32, Phase>,
    known_since: Option<Epoch>,
    /// Its model was named.
    named: bool,
    /// What was written last.
    grounds: Option<Grounds>,
}

impl Capture {
    pub fn start(directory: &Path, host: &Host, run: Run) -> anyhow::Result<Self> {
        let mut config = ParquetConfig::new(directory, host.id.as_str());
        config.segments = true;
        let mut sink = ParquetSink::open(config)
            .with_context(|| format!("can't capture to {}", directory.display()))
            .map_err(Failure::file)?;
        sink.set_metadata(SEED, run.seed.to_string());
        sink.set_metadata(BUDGET, run.budget_per_day.to_string());
        sink.set_metadata(FULL, run.full.to_string());
        sink.set_metadata(SYSCALLS, run.syscalls.to_string());
        if let Some(schedule) = run.schedule {
            sink.set_metadata(SCHEDULE, serde_json::to_string(&schedule)?);
        }
        sink.set_metadata(HOST, host.id.clone());
        sink.set_metadata(BOOT, host.boot_id.clone());
        sink.set_metadata(OFFSET, host.realtime_offset_ns.to_string());
        let (parts, receiver) = bounded::<Part>(QUEUE);
        let waiting = Arc::new(AtomicU64::new(0));
        let failure = Arc::new(OnceLock::new());
        let writer = Writer {
            sink,
            records: Vec::new(),
            waiting: Arc::clone(&waiting),
            time_ns: wall_ns(),
            failure: Arc::clone(&failure),
        };
        let thread = std::thread::Builder::new()
            .name("capture".into())
            .spawn(move || writer.run(&receiver))?;
        let (edges, known_since, grounds) = (BTreeMap::new(), None, None);
        Ok(Self {
            parts,
            thread,
            failure,
            dropped: 0,
            waiting,
            edges,
            known_since,
            named: false,
            grounds,
        })
    }

    /// The first failure, such as a full disk: what came since may be missing.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    pub fn records(&mut self, records: Vec<Record>) {
        let count = records.len() as u64;
        let fits = self.waiting.load(Ordering::Relaxed) + count <= WAITING_MAX;
        // Before they are sent: the thread takes them off at once.
        self.waiting.fetch_add(count, Ordering::Relaxed);
        if !fits || !self.send(Part::Records(records)) {
            self.waiting.fetch_sub(count, Ordering::Relaxed);
            self.hole(count);
        }
    }

    pub fn windows(&mut self, windows: Vec<Window>) {
        let count = windows.len() as u64;
        if !self.send(Part::Windows(windows)) {
            self.hole(count);
        }
    }

    /// Notes that a phase began after an epoch.
    pub fn phase(&mut self, phase: Phase, close: Option<&EpochClose>) {
        self.edges.insert(close.map_or(0, |close| close.epoch.0), phase);
        let edges = serde_json::to_string(&self.edges).unwrap_or_default();
        if !self.send(Part::Metadata(EDGES.to_owned(), edges)) {
            self.hole(0);
        }
    }

    /// Notes from which epoch on the kernel takes the profile for known.
    pub fn known_since(&mut self, epoch: Option<Epoch>) {
        // Once; where there was no room, it is tried again.
        if let Some(epoch) = epoch.filter(|_| self.known_since.is_none())
            && self.send(Part::Metadata(KNOWN_SINCE.to_owned(), epoch.to_string()))
        {
            self.known_since = Some(epoch);
        }
    }

    /// Notes which model's profile that is, once it has a name.
    pub fn model(&mut self, id: &str) {
        if !self.named && !id.is_empty() {
            self.named = self.send(Part::Metadata(MODEL.to_owned(), id.to_owned()));
        }
    }

    /// Notes what the responder's decisions rest on, where that changed; what was seen before goes with
    /// the first only.
    pub fn grounds(&mut self, responder: &Responder, enforce_provisional: bool, boot_ns: u64) {
        let first = self.grounds.is_none();
        let mut grounds = responder.grounds(enforce_provisional, first);
        if self.grounds.as_ref() == Some(&grounds) {
            return;
        }
        // Where there was no room, it is tried again.
        if self.send(Part::Grounds(boot_ns, Box::new(grounds.clone()))) {
            grounds.seen = None;
            self.grounds = Some(grounds);
        }
    }

    /// False: there was no room.
    fn send(&self, part: Part) -> bool {
        self.parts.try_send(part).is_ok()
    }

    /// A hole: it is told while the capture runs, by [`Self::failure`].
    fn hole(&mut self, count: u64) {
        self.dropped += count;
        let why = "records came faster than they could be written, and found no room";
        // Only the first failure is told.
        let _ = self.failure.set(why.to_owned());
    }

    /// Writes what waits and finishes the files: what was written, what found no room, and the
    /// first failure.
    pub fn finish(self) -> (ParquetStatus, u64, Option<String>) {
        drop(self.parts);
        match self.thread.join() {
            Ok(status) => (status, self.dropped, self.failure.get().cloned()),
            Err(_) => (
                ParquetStatus::default(),
                self.dropped,
                Some("the capture thread panicked; its last files are lost".to_owned()),
            ),
        }
    }
}

fn wall_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

struct Writer {
    sink: ParquetSink,
    /// Not written yet.
    records: Vec<Record>,
    waiting: Arc<AtomicU64>,
    /// Wall time of the newest window, by which files are dated.
    time_ns: i64,
    failure: Arc<OnceLock<String>>,
}

impl Writer {
    fn run(mut self, parts: &Receiver<Part>) -> ParquetStatus {
        let mut next = Instant::now() + CHECKPOINT;
        loop {
            match parts.recv_deadline(next) {
                Ok(part) => self.take(part),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.end(),
            }
            if Instant::now() >= next {
                self.flush();
                let saved = self.sink.checkpoint().map_err(anyhow::Error::from);
                self.note(saved);
                next = Instant::now() + CHECKPOINT;
            }
        }
    }

    fn take(&mut self, part: Part) {
        match part {
            Part::Records(records) => {
                self.waiting.fetch_sub(records.len() as u64, Ordering::Relaxed);
                for record in &records {
                    if let Record::Close(close) = record {
                        self.time_ns = i64::try_from(close.end_boot_ns).unwrap_or(i64::MAX)
                            + close.realtime_offset_ns;
                    }
                }
                self.records.extend(records);
                if self.records.len() >= BATCH {
                    self.flush();
                }
            }
            Part::Windows(windows) => {
                let (early, closed): (Vec<Window>, Vec<Window>) =
                    windows.into_iter().partition(|window| window.early.is_some());
                self.write_windows(WINDOWS, &closed);
                // Their place among the records is what a replay judges them at.
                let looks = early.iter().map(|window| Record::Early(EarlyLook::from(window)));
                self.records.extend(looks);
                self.write_windows(EARLY, &early);
            }
            Part::Metadata(key, value) => self.sink.set_metadata(key, value),
            Part::Grounds(boot_ns, grounds) => {
                let written = past::batch(boot_ns, &grounds)
                    .map_err(anyhow::Error::from)
                    .and_then(|batch| Ok(self.sink.write(POLICY, &batch, self.time_ns)?));
                self.note(written);
            }
        }
    }

    fn write_windows(&mut self, stream: &str, windows: &[Window]) {
        if windows.is_empty() {
            return;
        }
        let written = to_batch(windows)
            .map_err(anyhow::Error::from)
            .and_then(|batch| Ok(self.sink.write(stream, &batch, self.time_ns)?));
        self.note(written);
    }

    fn flush(&mut self) {
        let records = std::mem::take(&mut self.records);
        if records.is_empty() {
            return;
        }
        let written = records_to_batch(&records)
            .map_err(anyhow::Error::from)
            .and_then(|batch| Ok(self.sink.write(RECORDS, &batch, self.time_ns)?));
        self.note(written);
    }

    /// Keeps the first failure; what it lost is counted by the sink.
    fn note(&mut self, written: anyhow::Result<()>) {
        if let Err(why) = written {
            self.failure.get_or_init(|| format!("{why:#}"));
        }
    }

    fn end(mut self) -> ParquetStatus {
        self.flush();
        let finished = self.sink.finish().map(drop).map_err(anyhow::Error::from);
        self.note(finished);
        self.sink.status()
    }
}
