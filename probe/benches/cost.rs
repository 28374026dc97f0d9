//! What a probe costs a system call: thread CPU per call of two loops, the variants interleaved in
//! one process, as medians and as ratios to the bare loop and to an empty probe; bpftrace's count of
//! calls by process beside them, where it is installed. Needs root.
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader, Read},
    mem::MaybeUninit,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use hedgerow_bpf::bench::BenchSkelBuilder;
use hedgerow_event::{GramReport, Subject};
use hedgerow_probe::{Control, Item, Options, Positions, Probe, identity::Resolver};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};

const CALLS: u64 = 280_000;
const ROUNDS: usize = 15;
const VARIANTS: [&str; 6] =
    ["bare", "empty probe", "counting", "counting + n-grams", "full stream", "bpftrace count"];
/// Positions in [`VARIANTS`].
const BARE: usize = 0;
const EMPTY: usize = 1;
const GRAMS: usize = 3;
const FULL: usize = 4;
const BPFTRACE: usize = 5;
/// What bpftrace is told: count, and say when it has begun.
const COUNT: &str = "tracepoint:raw_syscalls:sys_exit { @[pid] = count(); } \
                     interval:ms:100 { printf(\"counting\\n\"); }";
/// bpftrace finds tracepoints in debugfs, which some hosts don't mount; it may, for itself.
const MOUNTED: &str = "[ -d /sys/kernel/debug/tracing/events ] || \
                       mount -t debugfs debugfs /sys/kernel/debug; exec bpftrace -e \"$0\"";

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
type Reports = Arc<std::sync::Mutex<Vec<GramReport>>>;

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
                    into.lock().unwrap().push(report);
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
                all.iter().filter(|report| Some(&*report.subject.program.path) == us.to_str());
            let learned = ours.fold(None, |sum: Option<(Arc<Subject>, Positions)>, report| {
                let none = || (Arc::clone(&report.subject), Positions::default());
                let mut sum = sum.unwrap_or_else(none);
                sum.1.grams2.extend(&report.grams2);
                sum.1.grams3.extend(&report.grams3);
                sum.1.grams6.extend(&report.grams6);
                Some(sum)
            });
            if let Some((subject, grams)) = learned
                && start.elapsed() > Duration::from_millis(1500)
            {
                self.control().arm([(subject, grams)]);
                while self.control().known_since().is_none() {
                    std::thread::sleep(Duration::from_millis(10));
                }
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

/// The loops while bpftrace counts every call by process; `None` where it isn't installed.
fn with_bpftrace() -> Option<[f64; 2]> {
    Command::new("bpftrace").arg("--version").output().ok()?;
    let mut bpftrace = Command::new("unshare")
        .args(["--mount", "sh", "-c", MOUNTED, COUNT])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(bpftrace.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("counting") {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0, "bpftrace ended before it counted");
    }
    let measured = measure();
    // SAFETY: the child is ours and not reaped yet.
    unsafe { libc::kill(bpftrace.id().cast_signed(), libc::SIGINT) };
    let mut counts = String::new();
    output.read_to_string(&mut counts).unwrap();
    bpftrace.wait().unwrap();
    let own = format!("@[{}]: ", std::process::id());
    let counted = counts.lines().find_map(|line| line.strip_prefix(&own)?.parse().ok());
    let made = 2 * CALLS;
    assert!(counted.is_some_and(|counted: u64| counted >= made), "{counted:?} of {made} calls");
    Some(measured)
}

fn variant(index: usize) -> Option<[f64; 2]> {
    Some(match index {
        0 => measure(),
        1 => with_empty_probe(),
        2 => with_sensor(Options::default(), false),
        3 => with_sensor(Options { learning: true, ..Options::default() }, true),
        4 => with_sensor(Options { full: true, ..Options::default() }, false),
        _ => return with_bpftrace(),
    })
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One round's measurements, by variant.
type Round = [Option<[f64; 2]>; VARIANTS.len()];

/// Median of what a variant costs in the rounds, told in units of another one in the same round:
/// what slows the machine down for a while slows both.
fn ratio(rounds: &[Round], of: usize, to: usize, which: usize) -> Option<f64> {
    let each = rounds.iter().map(|round| Some(round[of]?[which] / round[to]?[which]));
    Some(median(&mut each.collect::<Option<Vec<f64>>>()?))
}

/// What the goals say, on the loop of one call.
fn goals(rounds: &[Round]) {
    for (what, found, most) in [
        ("counting + n-grams, against the empty probe", ratio(rounds, GRAMS, EMPTY, 0), 1.2),
        ("counting + n-grams, against bpftrace's count", ratio(rounds, GRAMS, BPFTRACE, 0), 0.5),
        ("full stream, against bare", ratio(rounds, FULL, BARE, 0), 2.5),
    ] {
        let Some(found) = found else {
            println!("goal: {what} at most {most}x: not measured, bpftrace is not installed");
            continue;
        };
        let verdict = if found <= most { "met" } else { "missed" };
        println!("goal: {what} at most {most}x: {found:.2}x, {verdict}");
    }
}

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let rounds: Vec<Round> = (0..ROUNDS).map(|_| std::array::from_fn(variant)).collect();
    println!("ns of CPU per call (ratio to bare, to the empty probe), medians of {ROUNDS} rounds");
    println!("{:22} {:>28} {:>28}", "", "getppid", "a mix of 7");
    for (index, name) in VARIANTS.iter().enumerate() {
        let cell = |which: usize| {
            let each = rounds.iter().map(|round| Some(round[index]?[which]));
            let ns = median(&mut each.collect::<Option<Vec<f64>>>()?);
            let (bare, empty) =
                (ratio(&rounds, index, BARE, which)?, ratio(&rounds, index, EMPTY, which)?);
            Some(format!("{ns:8.1} ({bare:5.2}x, {empty:5.2}x)"))
        };
        let (Some(one), Some(mix)) = (cell(0), cell(1)) else { continue };
        println!("{name:22} {one:>28} {mix:>28}");
    }
    goals(&rounds);
}
