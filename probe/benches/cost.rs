//! What a probe costs a system call: thread CPU per call of two loops, the variants interleaved in
//! one process, as medians and as ratios to the bare loop and to an empty probe. Needs root.
#![allow(clippy::unwrap_used)]

use std::{
    mem::MaybeUninit,
    sync::Arc,
    time::{Duration, Instant},
};

use hedgerow_bpf::bench::BenchSkelBuilder;
use hedgerow_event::Subject;
use hedgerow_probe::{Control, Grams, Item, Options, Probe, identity::Resolver};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};

const CALLS: u64 = 280_000;
const ROUNDS: usize = 7;
const VARIANTS: [&str; 5] =
    ["bare", "empty probe", "counting", "counting + n-grams", "full stream"];

fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid timespec to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap()
}

/// Cheap calls; a run of one of them collapses in the history, the mix is checked at every call.
const MIX: [libc::c_long; 7] = [
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_getpgrp,
    libc::SYS_geteuid,
    libc::SYS_gettid,
    libc::SYS_getgid,
    libc::SYS_getegid,
];

fn call(number: libc::c_long) {
    // SAFETY: a call without arguments that changes nothing.
    unsafe { libc::syscall(number) };
}

/// ns of CPU per call of the two loops.
fn measure() -> [f64; 2] {
    (0..10_000).for_each(|_| call(libc::SYS_getppid));
    let start = thread_cpu_ns();
    (0..CALLS).for_each(|_| call(libc::SYS_getppid));
    let middle = thread_cpu_ns();
    for _ in 0..CALLS / 7 {
        MIX.into_iter().for_each(call);
    }
    let end = thread_cpu_ns();
    [(middle - start) as f64 / CALLS as f64, (end - middle) as f64 / CALLS as f64]
}

fn with_empty_probe() -> [f64; 2] {
    let mut object = MaybeUninit::uninit();
    let skel = BenchSkelBuilder::default().open(&mut object).unwrap().load().unwrap();
    let link = skel.progs.on_call_exit_empty.attach().unwrap();
    let measured = measure();
    drop(link);
    measured
}

/// What was unseen, window by window.
type Reports = Arc<std::sync::Mutex<Vec<(Arc<Subject>, Grams)>>>;

struct Running {
    probe: Probe,
    collector: std::thread::JoinHandle<()>,
    grams: Reports,
}

impl Running {
    fn start(options: Options) -> Self {
        let options = Options {
            window: Duration::from_millis(200),
            observe_own: true,
            flows: false,
            ..options
        };
        let (probe, receiver) = Probe::start(options, Resolver::open().unwrap()).unwrap();
        let grams = Arc::new(std::sync::Mutex::new(Vec::new()));
        let into = Arc::clone(&grams);
        let collector = std::thread::spawn(move || {
            for item in receiver {
                if let Item::Grams(report) = item {
                    into.lock().unwrap().push((report.subject, report.grams));
                }
            }
        });
        Self { probe, collector, grams }
    }

    fn control(&self) -> Control {
        self.probe.control()
    }

    /// Lets the loops be learned, then arms what was learned of this program.
    fn learn(&self) {
        let us = std::env::current_exe().unwrap();
        let start = Instant::now();
        loop {
            measure_briefly();
            std::thread::sleep(Duration::from_millis(100));
            let all = self.grams.lock().unwrap();
            let ours =
                all.iter().filter(|(subject, _)| Some(&*subject.program.path) == us.to_str());
            let learned =
                ours.fold(None, |sum: Option<(Arc<Subject>, Grams)>, (subject, grams)| {
                    let mut sum = sum.unwrap_or_else(|| (Arc::clone(subject), Grams::default()));
                    sum.1.grams2.extend(&grams.grams2);
                    sum.1.grams3.extend(&grams.grams3);
                    sum.1.grams6.extend(&grams.grams6);
                    Some(sum)
                });
            if let Some((subject, grams)) = learned
                && start.elapsed() > Duration::from_millis(1500)
            {
                assert!(self.control().set_known(&subject, grams).unwrap());
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "nothing was learned");
        }
    }

    fn stop(self) {
        self.probe.stop().unwrap();
        self.collector.join().unwrap();
    }
}

fn measure_briefly() {
    for _ in 0..500 {
        call(libc::SYS_getppid);
        MIX.into_iter().for_each(call);
    }
}

fn with_sensor(options: Options, learn: bool) -> [f64; 2] {
    let running = Running::start(options);
    if learn {
        running.learn();
    }
    let measured = measure();
    running.stop();
    measured
}

fn variant(index: usize) -> [f64; 2] {
    match index {
        0 => measure(),
        1 => with_empty_probe(),
        2 => with_sensor(Options::default(), false),
        3 => with_sensor(Options { learning: true, ..Options::default() }, true),
        _ => with_sensor(Options { full: true, ..Options::default() }, false),
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Calls that were streamed while one thread made them as fast as it could.
fn stream_rate() {
    let running =
        Running::start(Options { full: true, rings_bytes: 32 << 20, ..Options::default() });
    let before = running.control().stats().unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        (0..1000).for_each(|_| call(libc::SYS_getppid));
    }
    let seconds = start.elapsed().as_secs_f64();
    let after = running.control().stats().unwrap();
    let sent = (after.sent - before.sent) as f64 / seconds;
    let lost = (after.lost - before.lost) as f64 / seconds;
    println!("full stream, one thread producing: {sent:.0} records/s delivered, {lost:.0}/s lost");
    running.stop();
}

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let mut samples = vec![[Vec::new(), Vec::new()]; VARIANTS.len()];
    for _ in 0..ROUNDS {
        for (index, sample) in samples.iter_mut().enumerate() {
            let [one, mix] = variant(index);
            sample[0].push(one);
            sample[1].push(mix);
        }
    }
    let medians: Vec<[f64; 2]> =
        samples.iter_mut().map(|sample| [median(&mut sample[0]), median(&mut sample[1])]).collect();
    println!("ns of CPU per call (ratio to bare, to the empty probe), medians of {ROUNDS} rounds");
    println!("{:22} {:>28} {:>28}", "", "getppid", "a mix of 7");
    for (name, row) in VARIANTS.iter().zip(&medians) {
        let cells: Vec<String> = (0..2)
            .map(|i| {
                let (bare, empty) = (medians[0][i], medians[1][i]);
                format!("{:8.1} ({:5.2}x, {:5.2}x)", row[i], row[i] / bare, row[i] / empty)
            })
            .collect();
        println!("{name:22} {:>28} {:>28}", cells[0], cells[1]);
    }
    stream_rate();
}
