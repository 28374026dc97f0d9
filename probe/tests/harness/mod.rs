//! A running sensor whose items a thread collects, one at a time in the whole system.
#![allow(clippy::unwrap_used, dead_code)]

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use hedgerow_event::{EpochClose, Event, GramReport, Origin, Row, Used};
use hedgerow_probe::{Control, Item, Options, Probe, identity::Resolver};

/// How long a test waits for what must come.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The dynamic loader of this architecture.
#[cfg(target_arch = "x86_64")]
pub const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
#[cfg(target_arch = "aarch64")]
pub const LOADER: &str = "/lib/ld-linux-aarch64.so.1";

static ONE: Mutex<()> = Mutex::new(());

/// Makes an executable file. A child writes it: what another thread forks meanwhile would hold it
/// open for writing, and nobody could start it.
pub fn executable(path: &Path, content: &[u8]) {
    let write = "cat > \"$0\" && chmod 755 \"$0\"";
    let mut child =
        Command::new("sh").args(["-c", write]).arg(path).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(content).unwrap();
    assert!(child.wait().unwrap().success(), "write {}", path.display());
}

#[derive(Debug, Default)]
pub struct Seen {
    pub events: Vec<Event>,
    pub used: Vec<Used>,
    pub grams: Vec<GramReport>,
    pub closes: Vec<EpochClose>,
}

pub struct Sensor {
    probe: Probe,
    seen: Arc<Mutex<Seen>>,
    collector: JoinHandle<()>,
    _one: MutexGuard<'static, ()>,
}

impl Sensor {
    /// Collects every event.
    pub fn start(options: Options) -> Self {
        Self::filtered(options, |_| true)
    }

    /// Collects those events that `keep` takes.
    pub fn filtered(options: Options, keep: impl Fn(&Event) -> bool + Send + 'static) -> Self {
        Self::with(options, || Resolver::open().unwrap(), keep)
    }

    /// The same with names of the caller's choice.
    pub fn with(
        options: Options,
        resolver: impl FnOnce() -> Resolver,
        keep: impl Fn(&Event) -> bool + Send + 'static,
    ) -> Self {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: no memory is passed.
        assert_eq!(unsafe { libc::geteuid() }, 0, "live tests need root");
        let (probe, receiver) = Probe::start(options, resolver()).unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let into = Arc::clone(&seen);
        let collector = std::thread::spawn(move || {
            for item in receiver {
                let mut seen = into.lock().unwrap();
                match item {
                    Item::Events(events) => {
                        seen.events.extend(events.into_iter().filter(|event| keep(event)));
                    }
                    Item::Used(used) => seen.used.extend(used),
                    Item::Grams(report) => seen.grams.push(report),
                    Item::Close(close) => seen.closes.push(close),
                }
            }
        });
        Self { probe, seen, collector, _one: one }
    }

    pub fn control(&self) -> Control {
        self.probe.control()
    }

    pub fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap())
    }

    /// Waits until `done` says so.
    pub fn wait(&self, what: &str, done: impl Fn(&Seen) -> bool) {
        let start = Instant::now();
        while !self.seen(&done) {
            assert!(start.elapsed() < LIMIT, "no {what} in {LIMIT:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Closes the last window, detaches, and hands over what was seen.
    pub fn stop(self) -> Seen {
        self.probe.stop().unwrap();
        self.collector.join().unwrap();
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// Rows of the processes that `of` takes.
pub fn rows<'a>(
    events: &'a [Event],
    of: impl Fn(&Event) -> bool + 'a,
) -> impl Iterator<Item = (&'a Event, &'a Row)> {
    events.iter().filter(move |event| of(event)).filter_map(|event| match &event.origin {
        Origin::Row(row) => Some((event, &**row)),
        _ => None,
    })
}
