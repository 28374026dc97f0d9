//! A captured hour as the captures of a fleet: the same life on many hosts, for hours. Rows are those
//! that the kernel of a daemon gives that learns meanwhile, recomputed from the captured calls; each
//! host begins at another minute of the hour. Nothing is invented but names of hosts, and times.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hedgerow_detect::{Engine, Outcome, Schedule, file::Profile, known};
use hedgerow_event::{Epoch, Event, Origin};
use hedgerow_features::{
    Checker, Counted, Counter, Cut, Record, Sensors, records_from_batch, records_to_batch,
};
use hedgerow_offline::{
    capture::{Capture, divided},
    keys::{BOOT, BUDGET, FULL, HOST, OFFSET, RECORDS, SCHEDULE, SEED, SYSCALLS},
    time::Span,
};
use hedgerow_sink::parquet::{ParquetConfig, ParquetReader, ParquetSink};

use crate::life::open as named;

const EPOCH_NS: u64 = 5_000_000_000;
/// Epochs of a batch.
const BATCH_EPOCHS: u32 = 12;
const THREADS: usize = 2;

/// What is made.
pub struct Wanted {
    pub hosts: usize,
    /// Of all hosts together, of both lengths.
    pub windows: u64,
}

enum Item {
    Record(Record),
    Cut(Cut),
}

struct Tape {
    /// Each epoch's items, its end last.
    epochs: Vec<Vec<Item>>,
    seed: u64,
    offset_ns: i64,
    last_boot_ns: u64,
}

fn read(capture: &Path) -> Tape {
    let mut run = named(&[capture.to_owned()]).unwrap().runs.remove(0);
    let files = run.records.clone();
    run.early.clear();
    let capture = Capture::open(run, Span::ALL).unwrap();
    assert!(capture.full, "not every call was captured (--full)");
    let mut counter = Counter::new(capture.seed);
    let (mut epochs, mut open) = (Vec::new(), Vec::new());
    let (mut offset_ns, mut last_boot_ns) = (0, 0);
    let schema = hedgerow_features::records_schema_least();
    for batch in ParquetReader::of(files, &schema).unwrap() {
        let mut counted = Vec::new();
        for record in records_from_batch(&batch.unwrap()).unwrap() {
            counter.push(record, &mut counted);
        }
        for counted in counted {
            match counted {
                Counted::Cut(cut) => open.push(Item::Cut(cut)),
                Counted::Record(Record::Early(_)) => {}
                Counted::Record(record) => {
                    let end = match &record {
                        Record::Close(close) => Some((close.realtime_offset_ns, close.end_boot_ns)),
                        _ => None,
                    };
                    open.push(Item::Record(record));
                    if let Some(end) = end {
                        (offset_ns, last_boot_ns) = end;
                        epochs.push(std::mem::take(&mut open));
                    }
                }
            }
        }
    }
    Tape { epochs, seed: capture.seed, offset_ns, last_boot_ns }
}

/// Where an epoch lies in a host's life.
struct Place {
    epoch: Epoch,
    shift_ns: i64,
    /// What began before it is not moved: it runs since before the life began.
    from_boot_ns: u64,
}

impl Place {
    fn time(&self, boot_ns: u64) -> u64 {
        boot_ns.saturating_add_signed(self.shift_ns)
    }

    fn start(&self, boot_ns: u64) -> u64 {
        if boot_ns < self.from_boot_ns { boot_ns } else { self.time(boot_ns) }
    }

    fn event(&self, mut event: Event) -> Event {
        event.epoch = self.epoch;
        event.time_boot_ns = self.time(event.time_boot_ns);
        event.actor.start_boot_ns = self.start(event.actor.start_boot_ns);
        match &mut event.origin {
            Origin::Fork(fork) => {
                fork.child_start_boot_ns = self.start(fork.child_start_boot_ns);
            }
            Origin::Exec(exec) => {
                if let Some(root) = &mut exec.root {
                    root.start_boot_ns = self.start(root.start_boot_ns);
                }
            }
            _ => {}
        }
        event
    }
}

impl Tape {
    fn start_ns(&self, at: usize) -> u64 {
        match self.epochs[at].last() {
            Some(Item::Record(Record::Close(close))) => close.start_boot_ns,
            _ => unreachable!("an epoch ends with its end"),
        }
    }

    /// An epoch at a place, with rows against what is known then.
    fn play(&self, at: usize, place: &Place, checker: &mut Checker, out: &mut Vec<Record>) {
        for item in &self.epochs[at] {
            match item {
                Item::Cut(cut) => {
                    let cut =
                        Cut { event: place.event(cut.event.clone()), grams: cut.grams.clone() };
                    out.push(Record::Event(checker.check(&cut)));
                }
                Item::Record(Record::Event(event)) => {
                    out.push(Record::Event(place.event(event.clone())));
                }
                Item::Record(Record::Close(close)) => {
                    let mut close = close.clone();
                    close.epoch = place.epoch;
                    close.start_boot_ns = place.time(close.start_boot_ns);
                    close.end_boot_ns = place.time(close.end_boot_ns);
                    close.realtime_offset_ns = self.offset_ns;
                    out.extend(checker.reports(close.epoch).map(Record::Grams));
                    out.push(Record::Close(close));
                }
                Item::Record(_) => {}
            }
        }
    }

    /// The hour again and again, from some epoch of it on.
    fn live(&self, from: usize, epochs: u32, mut each: impl FnMut(usize, Place)) {
        let mut next_ns = self.last_boot_ns + 60_000_000_000;
        let (mut shift_ns, mut from_boot_ns) = (0, 0);
        for number in 0..epochs {
            let at = (from + number as usize) % self.epochs.len();
            let start = self.start_ns(at);
            if number == 0 || at == 0 {
                shift_ns = next_ns.cast_signed() - start.cast_signed();
                from_boot_ns = start;
            }
            // The next piece begins where this one ends.
            next_ns = start.saturating_add_signed(shift_ns) + EPOCH_NS;
            each(at, Place { epoch: Epoch(number + 1), shift_ns, from_boot_ns });
        }
    }

    /// What an engine learns of the hour by *fill*, and the windows that the hour has.
    fn learn(&self) -> (Arc<Profile>, u64) {
        let epochs = u32::try_from(self.epochs.len()).unwrap();
        let settings = hedgerow_detect::Settings {
            host_id: "fleet".into(),
            boot_id: "fleet".to_owned(),
            schedule: Schedule { fill: epochs, fit: 3, calibrate: 3 },
            budget_per_day: 1.0,
            seed: self.seed,
            sensors: Sensors::default(),
            realtime_offset_ns: self.offset_ns,
        };
        let mut engine = Engine::learning(settings).unwrap();
        let (mut checker, mut profile, mut windows) = (Checker::default(), None, 0);
        self.live(0, epochs, |at, place| {
            let mut records = Vec::new();
            self.play(at, &place, &mut checker, &mut records);
            for record in records {
                match record {
                    Record::Event(event) => engine.observe(&event),
                    Record::Grams(report) => engine.grams(&report),
                    Record::Close(close) => {
                        for outcome in engine.close(&close).unwrap() {
                            match outcome {
                                Outcome::Arm(learned) => profile = Some(learned),
                                Outcome::Windows(closed) => windows += closed.len() as u64,
                                _ => {}
                            }
                        }
                    }
                    Record::Early(_) => {}
                }
            }
        });
        (profile.unwrap(), windows)
    }

    fn write(&self, directory: &Path, at: usize, from: usize, epochs: u32, profile: &Profile) {
        let host = format!("host-{:02}", at + 1);
        let mut config = ParquetConfig::new(directory, host.as_str());
        (config.file_seconds, config.free_bytes_least) = (3600, 0);
        let mut sink = ParquetSink::open(config).unwrap();
        let schedule = divided(u64::from(epochs));
        for (key, value) in [
            (HOST, host.clone()),
            (BOOT, format!("boot of {host}")),
            (SEED, self.seed.to_string()),
            (BUDGET, "1".to_owned()),
            (FULL, "false".to_owned()),
            (SYSCALLS, "true".to_owned()),
            (OFFSET, self.offset_ns.to_string()),
            (SCHEDULE, serde_json::to_string(&schedule).unwrap()),
        ] {
            sink.set_metadata(key, value);
        }
        let mut checker = Checker::default();
        // Live, the kernel was in the next epoch when it was told.
        checker.set_known(known(profile), Epoch(schedule.fill + 2));
        let mut records = Vec::new();
        self.live(from, epochs, |at, place| {
            self.play(at, &place, &mut checker, &mut records);
            let Some(Record::Close(close)) = records.last() else { return };
            let wall_ns = close.realtime_offset_ns.saturating_add_unsigned(close.end_boot_ns);
            if place.epoch.0.is_multiple_of(BATCH_EPOCHS) || place.epoch.0 == epochs {
                sink.write(RECORDS, &records_to_batch(&records).unwrap(), wall_ns).unwrap();
                records.clear();
            }
        });
        sink.finish().unwrap();
    }
}

/// Writes the captures of a fleet, each host's below a directory of its own.
pub fn write(capture: &Path, directory: &Path, wanted: &Wanted) {
    let tape = read(capture);
    let (profile, windows) = tape.learn();
    let hour = tape.epochs.len();
    let each = wanted.windows.div_ceil(wanted.hosts as u64);
    let epochs = u32::try_from((each * hour as u64).div_ceil(windows)).unwrap();
    let long = u64::from(epochs) * 5 / 60;
    println!(
        "{hour} epochs of {windows} windows as {} hosts of {long} minutes each, {} programs",
        wanted.hosts,
        profile.programs.len()
    );
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(at) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).filter(|at| *at < wanted.hosts)
                {
                    let directory: PathBuf = directory.join(format!("{at:02}"));
                    tape.write(&directory, at, at * hour / wanted.hosts, epochs, &profile);
                }
            });
        }
    });
}
