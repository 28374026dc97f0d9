//! Bytes by user, program, peer and interface, kept by day for `hedgerow usage`. The kernel sums up; a
//! thread of its own takes that out, joins it with what interfaces counted, and writes. Nothing waits for
//! it: what it has no time for is taken with the next window.

use std::{
    fs,
    mem::take,
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use hedgerow_event::EpochClose;
use hedgerow_probe::{
    Control as Sensor,
    host_counters::{DEVICES_MAX, DeviceReader},
    usage::Usage,
};

use super::used::replace;
use crate::{
    exit::Failure,
    usage::{self, DAYS_MAX, DIRECTORY, Meter, Table},
};

/// A day is written this often, and at the end.
const WRITE: Duration = Duration::from_secs(60);

/// A window that has closed.
struct Window {
    /// Unix nanoseconds.
    end_ns: i64,
    /// In some part of it nothing was summed up.
    shed: bool,
}

/// The loop's end.
#[derive(Debug)]
pub struct Accounts {
    windows: Option<Sender<Window>>,
    /// Something was shed since a window was handed over.
    shed: bool,
    thread: Option<JoinHandle<()>>,
    /// What an operator should hear.
    untold: Arc<Mutex<Vec<String>>>,
}

impl Accounts {
    /// Starts the thread, with what an earlier run left of this day.
    ///
    /// # Errors
    /// There can't be a thread, or no directory.
    pub fn start(state: &std::path::Path, sensor: Sensor, now_ns: i64) -> anyhow::Result<Self> {
        let directory = state.join(DIRECTORY);
        let mut make = fs::DirBuilder::new();
        make.recursive(true).mode(0o700).create(&directory).map_err(Failure::file)?;
        let (windows, receiver) = bounded(1);
        let untold = Arc::new(Mutex::new(Vec::new()));
        let keeper = Keeper {
            directory,
            sensor,
            reader: DeviceReader::default(),
            meter: Meter::new(DeviceReader::of_host()),
            table: Table::default(),
            since_ns: now_ns,
            refused: 0,
            untold: Arc::clone(&untold),
            unread: false,
            unwritten: false,
            full: false,
        };
        let thread = std::thread::Builder::new().name("hedgerow-usage".into());
        let thread = thread.spawn(move || keeper.run(&receiver)).map_err(Failure::host)?;
        Ok(Self { windows: Some(windows), shed: false, thread: Some(thread), untold })
    }

    /// A window has closed, in some part of which nothing was summed up where that was `shed`.
    pub fn close(&mut self, close: &EpochClose, shed: bool) {
        self.shed |= shed;
        let end_ns = close.end_boot_ns.cast_signed().saturating_add(close.realtime_offset_ns);
        let window = Window { end_ns, shed: self.shed };
        // One that finds no room is taken with the next one.
        if self.windows.as_ref().is_some_and(|windows| windows.try_send(window).is_ok()) {
            self.shed = false;
        }
    }

    /// What an operator should hear.
    pub fn take_untold(&self) -> Vec<String> {
        take(&mut *self.untold.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes out the rest, once nothing is attached any more, and has it written.
    pub fn stop(&mut self) {
        self.windows = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            let said = "the thread that keeps who used how many bytes has panicked".to_owned();
            self.untold.lock().unwrap_or_else(PoisonError::into_inner).push(said);
        }
    }
}

/// The thread's end.
struct Keeper {
    directory: PathBuf,
    sensor: Sensor,
    reader: DeviceReader,
    meter: Meter,
    table: Table,
    /// What passed until then is in the table, or told as a gap.
    since_ns: i64,
    /// Packets that the kernel counted without their peer.
    refused: u64,
    untold: Arc<Mutex<Vec<String>>>,
    /// A failure to read, or to write, was told, and has gone on since.
    unread: bool,
    unwritten: bool,
    /// It was told that there are too many interfaces.
    full: bool,
}

impl Keeper {
    fn run(mut self, windows: &Receiver<Window>) {
        self.begin(self.since_ns);
        // Interfaces have counted before.
        self.meter.measure(Vec::new(), &self.reader.read(), false);
        self.refused = self.sensor.stats().map_or(0, |stats| stats.usage_refused);
        let mut written = Instant::now();
        let mut shed = false;
        for window in windows {
            shed = window.shed;
            let passed = self.sensor.take_usage();
            self.take(passed, &window);
            if written.elapsed() >= WRITE {
                self.write(false);
                written = Instant::now();
            }
        }
        let passed = self.sensor.take_last_usage();
        let end_ns = hedgerow_responder::now().wall_ns;
        // What was shed before is so still, and what was not isn't.
        self.take(passed, &Window { end_ns, shed });
        self.write(false);
    }

    /// What passed counts for the day on which its window ended.
    fn take(&mut self, passed: hedgerow_probe::Result<Vec<Usage>>, window: &Window) {
        let Window { end_ns, shed } = *window;
        let (day, start_ns) = usage::day_of(end_ns);
        if day != self.table.day() {
            self.write(usage::day_of(self.since_ns).1 < start_ns);
            self.begin(end_ns);
        }
        // A clock that was set back tells no time twice.
        let from_ns = self.since_ns.clamp(start_ns, end_ns.max(start_ns));
        self.since_ns = end_ns;
        let passed = match passed {
            Ok(passed) => passed,
            Err(why) => {
                if !std::mem::replace(&mut self.unread, true) {
                    self.tell(format!("who used how many bytes is not known: {why}"));
                }
                return;
            }
        };
        self.unread = false;
        let refused = self.sensor.stats().map_or(self.refused, |stats| stats.usage_refused);
        let devices = self.reader.read();
        self.tell_left_out();
        let measured = self.meter.measure(passed, &devices, !shed);
        self.table.add(measured, refused.saturating_sub(self.refused));
        self.refused = refused;
        if !shed {
            self.table.watched(from_ns, end_ns);
        }
    }

    fn tell_left_out(&mut self) {
        let left_out = self.reader.left_out();
        if left_out > 0 && !self.full {
            self.full = true;
            self.tell(format!(
                "{left_out} interfaces are not asked what they counted, since there are more than {DEVICES_MAX}, or \
                 than the share of their namespaces: that is taken to be what is named of them"
            ));
        }
    }

    /// Goes on with a day, and forgets those that are too old.
    fn begin(&mut self, now_ns: i64) {
        let (day, _) = usage::day_of(now_ns);
        self.table = match usage::read(&self.directory, &day) {
            Ok(Some(before)) => Table::of(before),
            Ok(None) => Table::new(day),
            Err(why) => {
                self.tell(format!("{why:#}: the day's bytes are counted anew"));
                Table::new(day)
            }
        };
        let mut days = usage::days(&self.directory).unwrap_or_default();
        days.retain(|day| day != self.table.day());
        for day in days.iter().take((days.len() + 1).saturating_sub(DAYS_MAX)) {
            drop(fs::remove_file(usage::path(&self.directory, day)));
        }
    }

    fn write(&mut self, over: bool) {
        let path = usage::path(&self.directory, self.table.day());
        let written = self.table.write(over).map_err(anyhow::Error::from);
        match written.and_then(|bytes| replace(&path, &bytes)) {
            Ok(()) => self.unwritten = false,
            Err(why) if !std::mem::replace(&mut self.unwritten, true) => {
                self.tell(format!("who used how many bytes is not written: {why:#}"));
            }
            Err(_) => {}
        }
    }

    fn tell(&self, said: String) {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner).push(said);
    }
}
