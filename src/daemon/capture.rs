//! Windows and records to Parquet, on a thread of its own.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, OnceLock, atomic::AtomicUsize},
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use hedgerow_event::{Epoch, EpochClose, Origin};
use hedgerow_features::{EarlyLook, Record, Window, records_to_batch, to_batch};
pub use hedgerow_sink::parquet::ParquetStatus;
use hedgerow_sink::parquet::{ParquetConfig, ParquetSink};

use hedgerow_detect::{Phase, Schedule};
use hedgerow_offline::{
    keys::{
        ARCHITECTURE, BOOT, BUDGET, EARLY, EDGES, FULL, HOST, KNOWN_SINCE, MODEL, OFFSET, POLICY,
        RECORDS, SCHEDULE, SEED, SYSCALLS, WINDOWS,
    },
    past,
};
use hedgerow_responder::{Responder, grounds::Grounds};

use super::room::Room;
use crate::{exit::Failure, host::Host};

/// Bytes of records and windows that may wait for the disk, and batches of whatever they hold: how long
/// a record is, strangers choose. When they are full the next ones are dropped and counted: detection and
/// response never wait for a capture.
const WAITING_BYTES: usize = 256 << 20;
const QUEUE: usize = 1 << 15;
/// Records are written in batches of this many, or of so many bytes.
const BATCH: usize = 65_536;
const BATCH_BYTES: usize = 32 << 20;
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
    Records(Vec<Record>, Room),
    Windows(Vec<Window>, Room),
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
    /// Bytes that are not written yet.
    waiting: Arc<AtomicUsize>,
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
        sink.set_metadata(ARCHITECTURE, std::env::consts::ARCH);
        if let Some(schedule) = run.schedule {
            sink.set_metadata(SCHEDULE, serde_json::to_string(&schedule)?);
        }
        sink.set_metadata(HOST, host.id.clone());
        sink.set_metadata(BOOT, host.boot_id.clone());
        sink.set_metadata(OFFSET, host.realtime_offset_ns.to_string());
        let (parts, receiver) = bounded::<Part>(QUEUE);
        let failure = Arc::new(OnceLock::new());
        let writer = Writer {
            sink,
            records: Vec::new(),
            room: None,
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
            waiting: Arc::default(),
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
        let room = self.room(records.iter().map(record_bytes).sum());
        if !room.is_some_and(|room| self.send(Part::Records(records, room))) {
            self.hole(count);
        }
    }

    pub fn windows(&mut self, windows: Vec<Window>) {
        let count = windows.len() as u64;
        let room = self.room(windows.iter().map(window_bytes).sum());
        if !room.is_some_and(|room| self.send(Part::Windows(windows, room))) {
            self.hole(count);
        }
    }

    fn room(&self, bytes: usize) -> Option<Room> {
        Room::take(&self.waiting, bytes, WAITING_BYTES)
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

/// What a record takes of memory; what it shares with others is theirs.
fn record_bytes(record: &Record) -> usize {
    let beside = match record {
        Record::Event(event) => match &event.origin {
            Origin::Row(row) => size_of_val(&**row),
            Origin::Exec(exec) => size_of_val(&**exec) + exec.path.len() + exec.arguments.len(),
            Origin::Call(call) => {
                size_of_val(&**call) + call.path.as_ref().map_or(0, |path| path.len())
            }
            Origin::Flow(flow) => size_of_val(&**flow),
            Origin::Fork(_) | Origin::Exit(_) | Origin::Signal(_) | Origin::Raw(_) => 0,
        },
        Record::Grams(report) => {
            let words = report.grams2.len() + report.grams3.len() + report.grams6.len();
            words * size_of::<u32>()
        }
        Record::Close(_) | Record::Early(_) => 0,
    };
    size_of::<Record>() + beside
}

fn window_bytes(window: &Window) -> usize {
    size_of::<Window>() + size_of_val(&*window.values)
}

fn wall_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

struct Writer {
    sink: ParquetSink,
    /// Not written yet, and their room.
    records: Vec<Record>,
    room: Option<Room>,
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
            Part::Records(records, room) => {
                for record in &records {
                    if let Record::Close(close) = record {
                        self.time_ns = i64::try_from(close.end_boot_ns).unwrap_or(i64::MAX)
                            + close.realtime_offset_ns;
                    }
                }
                self.hold(records, room);
            }
            Part::Windows(windows, room) => {
                let (early, closed): (Vec<Window>, Vec<Window>) =
                    windows.into_iter().partition(|window| window.early.is_some());
                self.write_windows(WINDOWS, &closed);
                // Their place among the records is what a replay judges them at.
                let looks = early.iter().map(|window| Record::Early(EarlyLook::from(window)));
                self.hold(looks.collect(), room);
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

    fn hold(&mut self, records: Vec<Record>, room: Room) {
        self.records.extend(records);
        let held = match self.room.take() {
            Some(held) => held.join(room),
            None => room,
        };
        let is_full = self.records.len() >= BATCH || held.size() >= BATCH_BYTES;
        self.room = Some(held);
        if is_full {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let records = std::mem::take(&mut self.records);
        // Given back once they are written.
        let _room = self.room.take();
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hedgerow_event::{Actor, Event, Exec, Subject};

    use super::*;

    /// A capture whose thread stands still, and what waits for it.
    fn still() -> (Capture, Receiver<Part>) {
        let (parts, waiting) = bounded(QUEUE);
        let capture = Capture {
            parts,
            thread: std::thread::spawn(ParquetStatus::default),
            failure: Arc::default(),
            dropped: 0,
            waiting: Arc::default(),
            edges: BTreeMap::new(),
            known_since: None,
            named: false,
            grounds: None,
        };
        (capture, waiting)
    }

    #[test]
    fn few_long_records_take_no_more_memory_than_many_short_ones() {
        let (mut capture, waiting) = still();
        let exec = Exec { arguments: "a".repeat(100_000).into(), ..Exec::of("/bin/true") };
        let event = Event {
            epoch: Epoch(0),
            time_boot_ns: 0,
            actor: Actor {
                subject: Arc::new(Subject::host()),
                tgid: 1,
                tid: 1,
                start_boot_ns: 1,
                cgroup_id: 1,
                program_id: 1,
                slot: 0,
            },
            origin: Origin::Exec(Box::new(exec)),
        };
        for _ in 0..4000 {
            capture.records(vec![Record::Event(event.clone())]);
        }
        let taken = waiting.len();
        assert!((2000..=WAITING_BYTES / 100_000).contains(&taken), "{taken}");
        assert_eq!(capture.dropped, 4000 - taken as u64);
        assert!(capture.failure().unwrap().contains("found no room"));
        waiting.try_iter().for_each(drop);
        capture.records(vec![Record::Event(event)]);
        assert_eq!(waiting.len(), 1, "there is room again");
    }
}
