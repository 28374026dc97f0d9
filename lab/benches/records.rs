//! Records into user space without a drop: one CPU makes system calls, all of which are streamed,
//! another takes the records. Finds the highest rate at which nothing is lost, for each stage of
//! the way: drained, decoded, named, windowed. Needs root and two CPUs.
//!
//! `cargo bench -p hedgerow-lab --bench records`
#![allow(clippy::unwrap_used)]

use std::{
    cell::Cell,
    hint::{black_box, spin_loop},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;
use hedgerow_event::Event;
use hedgerow_features::{Baseline, Config, Extractor, ItemKey, Record, WindowBuilder};
use hedgerow_probe::{Item, Options, Probe, identity::Resolver, wire_event::decode};
use libbpf_rs::{MapHandle, MapType, RingBufferBuilder, query::MapInfoIter};

/// How long each rate is tried.
const TRIAL: Duration = Duration::from_millis(1500);
/// Halvings of the range of rates.
const HALVINGS: usize = 6;
/// The drain thread's own interval, for the stages that read the rings here.
const INTERVAL: Duration = Duration::from_millis(2);
const GOAL_PER_SECOND: f64 = 2e6;

/// What was taken while the calls were made.
#[derive(Debug, Clone, Copy)]
struct Trial {
    /// Records taken before the calls ended.
    taken: u64,
    seconds: f64,
    /// Records that found a ring full, until all was read.
    lost: u64,
    /// CPU time of those who took, not of him who called.
    cpu_seconds: f64,
}

impl Trial {
    fn per_second(&self) -> f64 {
        self.taken as f64 / self.seconds
    }
}

/// A way of taking records.
trait Taker {
    /// Takes what there is, waiting a little if there is nothing; returns how many records.
    fn take(&mut self) -> u64;
}

/// Reads the rings itself, and does `each` to every record.
struct Rings<'a> {
    buffer: libbpf_rs::RingBuffer<'a>,
    taken: Rc<Cell<u64>>,
}

impl<'a> Rings<'a> {
    fn new(maps: &'a [MapHandle], each: impl Fn(&[u8]) + Clone + 'a) -> Self {
        let taken = Rc::new(Cell::new(0));
        let mut builder = RingBufferBuilder::new();
        for map in maps {
            let (taken, each) = (Rc::clone(&taken), each.clone());
            let count = move |bytes: &[u8]| {
                taken.set(taken.get() + 1);
                each(bytes);
                0
            };
            builder.add(map, count).unwrap();
        }
        Self { buffer: builder.build().unwrap(), taken }
    }
}

impl Taker for Rings<'_> {
    fn take(&mut self) -> u64 {
        self.buffer.consume().unwrap();
        let taken = self.taken.replace(0);
        if taken == 0 {
            thread::sleep(INTERVAL);
        }
        taken
    }
}

/// Takes events from the probe's own thread, and does `each` to every batch.
struct Events<F> {
    items: Receiver<Item>,
    each: F,
}

impl<F: FnMut(Item)> Taker for Events<F> {
    fn take(&mut self) -> u64 {
        let Ok(item) = self.items.recv_timeout(INTERVAL) else { return 0 };
        let count = if let Item::Events(events) = &item { events.len() as u64 } else { 0 };
        (self.each)(item);
        count
    }
}

/// Windows from the stream alone: rows are counted anew from its calls.
fn windower() -> impl FnMut(Item) {
    let (key, mut out) = (ItemKey(1), Vec::new());
    let mut extractor = Extractor::new(7);
    let mut builder = WindowBuilder::new(Config::new("bench"), key);
    let mut known = Baseline::new(key, 1 << 40);
    known.freeze();
    move |item| {
        let mut push = |record| extractor.push(record, &mut out);
        match item {
            Item::Events(events) => events.into_iter().for_each(|e: Event| push(Record::Event(e))),
            Item::Grams(_) | Item::Used(_) => {}
            Item::Close(close) => push(Record::Close(close)),
        }
        for record in out.drain(..) {
            match record {
                Record::Event(event) => builder.observe(&event),
                Record::Close(close) => drop(black_box(builder.close(&close, &known))),
                _ => {}
            }
        }
    }
}

/// A sensor that streams every call; its rings are the only ones of this process.
fn start(drain: bool) -> (Probe, Receiver<Item>) {
    let options = Options {
        full: true,
        flows: false,
        observe_own: true,
        window: Duration::from_millis(500),
        drain,
        ..Options::default()
    };
    Probe::start(options, Resolver::open().unwrap()).unwrap()
}

fn own_rings() -> Vec<MapHandle> {
    // Another sensor's rings have the same name, but are no file of this process.
    let own: Vec<u32> = std::fs::read_dir("/proc/self/fdinfo")
        .unwrap()
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok())
        .filter_map(|text| {
            text.lines().find_map(|l| l.strip_prefix("map_id:")?.trim().parse().ok())
        })
        .collect();
    MapInfoIter::default()
        .filter(|map| own.contains(&map.id) && map.ty == MapType::RingBuf)
        .filter(|map| map.name == "ring")
        .map(|map| MapHandle::from_map_id(map.id).unwrap())
        .collect()
}

/// Calls `getppid` at a rate until told to stop. It reads the clock without a call.
fn produce(cpu: usize, per_second: f64, stop: Arc<AtomicBool>) -> JoinHandle<f64> {
    const BURST: u64 = 64;
    thread::spawn(move || {
        pin(cpu);
        let (start, mut made) = (Instant::now(), 0);
        while !stop.load(SeqCst) {
            for _ in 0..BURST {
                // SAFETY: a call without arguments that changes nothing.
                unsafe { libc::syscall(libc::SYS_getppid) };
            }
            made += BURST;
            while made as f64 > per_second * start.elapsed().as_secs_f64() && !stop.load(SeqCst) {
                spin_loop();
            }
        }
        cpu_seconds(libc::CLOCK_THREAD_CPUTIME_ID)
    })
}

fn attempt(probe: &Probe, taker: &mut dyn Taker, cpu: usize, per_second: f64) -> Trial {
    while taker.take() > 1000 {}
    let before = probe.control().stats().unwrap();
    let own_before = cpu_seconds(libc::CLOCK_PROCESS_CPUTIME_ID);
    let stop = Arc::new(AtomicBool::new(false));
    let producer = produce(cpu, per_second, Arc::clone(&stop));
    let (begun, mut taken) = (Instant::now(), 0);
    while begun.elapsed() < TRIAL {
        taken += taker.take();
    }
    let seconds = begun.elapsed().as_secs_f64();
    stop.store(true, SeqCst);
    let produced = producer.join().unwrap();
    let cpu_seconds = cpu_seconds(libc::CLOCK_PROCESS_CPUTIME_ID) - own_before - produced;
    while taker.take() > 1000 {}
    let lost = probe.control().stats().unwrap().lost - before.lost;
    Trial { taken, seconds, lost, cpu_seconds }
}

/// The fastest trial without a loss: unbridled, or else found by halving.
fn fastest(probe: &Probe, taker: &mut dyn Taker, cpu: usize) -> (Trial, bool) {
    let unbridled = attempt(probe, taker, cpu, f64::INFINITY);
    if unbridled.lost == 0 {
        return (unbridled, true);
    }
    let sent = unbridled.per_second() + unbridled.lost as f64 / unbridled.seconds;
    let (mut low, mut high) = (0.0, sent);
    let mut best = Trial { taken: 0, ..unbridled };
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        let trial = attempt(probe, taker, cpu, middle);
        if trial.lost > 0 {
            high = middle;
        } else {
            low = middle;
            if trial.per_second() > best.per_second() {
                best = trial;
            }
        }
    }
    (best, false)
}

/// Prints the fastest trial of a stage and returns its rate.
fn report(stage: &str, probe: &Probe, taker: &mut dyn Taker, cpu: usize) -> f64 {
    let (best, unbridled) = fastest(probe, taker, cpu);
    let (rate, each_ns) = (best.per_second(), best.cpu_seconds * 1e9 / best.taken.max(1) as f64);
    let limit = if unbridled { "all that one CPU makes" } else { "past it some are lost, counted" };
    println!("{stage:10} {rate:>10.0} records/s, {each_ns:>4.0} ns of CPU each ({limit})");
    rate
}

/// The rings read here, by a callback that decodes or only counts.
fn rings(stage: &str, decoding: bool, cpu: usize) {
    let (probe, items) = start(false);
    let maps = own_rings();
    assert!(!maps.is_empty(), "the sensor's rings were not found");
    let mut reader = Rings::new(&maps, move |bytes| {
        if decoding {
            let _ = black_box(decode(bytes));
        } else {
            black_box(bytes);
        }
    });
    report(stage, &probe, &mut reader, cpu);
    // From here on the probe's thread reads what is left; nobody waits for it.
    drop((reader, items));
    probe.stop().unwrap();
}

/// The events that the probe delivers, each batch given to `each`.
fn events(stage: &str, each: impl FnMut(Item), cpu: usize) -> f64 {
    let (probe, items) = start(true);
    let mut taker = Events { items, each };
    let rate = report(stage, &probe, &mut taker, cpu);
    drop(taker);
    probe.stop().unwrap();
    rate
}

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let cpus = allowed_cpus();
    let &[caller, taker, ..] = cpus.as_slice() else {
        println!("records: one CPU only; two are needed");
        return;
    };
    // What takes runs here: the probe's thread inherits it.
    pin(taker);
    println!("drop-free records, one CPU calling getppid, one taking");
    rings("drained", false, caller);
    rings("decoded", true, caller);
    events("named", |item| drop(black_box(item)), caller);
    let rate = events("windowed", windower(), caller);
    let verdict = if rate >= GOAL_PER_SECOND { "met" } else { "missed" };
    println!("goal: at least {GOAL_PER_SECOND:.0} records/s decoded and windowed: {verdict}");
}

fn allowed_cpus() -> Vec<usize> {
    // SAFETY: a set of plain words, which the call fills.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set), 0);
        set
    };
    // SAFETY: the index is below the size of the set.
    (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

fn pin(cpu: usize) {
    // SAFETY: a set of plain words, with one CPU that is allowed.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set), 0);
    }
}

fn cpu_seconds(clock: libc::clockid_t) -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid timespec to write to.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
