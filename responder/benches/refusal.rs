//! How long from the write of a deny entry to the first connect that it refuses, beside the time of
//! the write itself, interleaved in one run. Needs root.
//!
//! A trial in which the scheduler took the CPU from the writing or the connecting thread says how busy
//! the machine is, and nothing of the entry: nobody tried to connect meanwhile. Such trials are left
//! out and counted. Quantiles are taken in rounds, and the median of the rounds is told, with their
//! quartiles. Ratios are taken round by round, to the median write of the same round.
//!
//! `cargo bench -p hedgerow-responder`
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use common::{Unpin, median, pin, spread};
use hedgerow_event::{Mode, Rule, Target};
use hedgerow_responder::{Options, Request, Responder, now};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

const ROUNDS: usize = 15;
const TRIALS: usize = 300;
/// A round with fewer undisturbed trials is run again.
const TRIALS_LEAST: usize = 100;
/// The whole of `deny` syncs its ledger to the disk.
const TRIALS_DENY: usize = 100;
/// The goal for the 99th percentile, in median writes of the same run.
const GOAL: f64 = 3.0;

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = Options::new("bench", directory.path().join("ledger.jsonl"));
    options.directory = format!("/sys/fs/bpf/hedgerow-bench-{}", std::process::id()).into();
    let pins = options.directory.clone();
    let mut responder = Responder::start(options).unwrap();
    let _unpin = Unpin(pins.clone());
    let (mut writes, mut refusals, mut denies) = (Rounds::new(), Rounds::new(), Rounds::new());
    responder.deny(request(target(1))).unwrap();
    let id = responder.entries()[0].id;
    let mut left_out = 0;
    let mut too_busy = 0;
    while writes.p50.len() < ROUNDS {
        let (write, refusal) = write_to_refusal(id, &pins);
        left_out += TRIALS - write.len();
        if write.len() < TRIALS_LEAST {
            too_busy += 1;
            assert!(too_busy < 2 * ROUNDS, "the machine is too busy for this benchmark");
            continue;
        }
        let base_us = quantiles(write, &mut writes, None);
        quantiles(refusal, &mut refusals, Some(base_us));
        quantiles(deny_to_refusal(&mut responder), &mut denies, Some(base_us));
    }
    responder.stop(false).whole().unwrap();
    let cpu = common::cpu();
    println!(
        "median of {ROUNDS} rounds of {TRIALS} trials (quartiles) on {cpu}; {left_out} trials were \
         preempted and are left out"
    );
    writes.print("one map update           ");
    refusals.print("update to refused connect");
    denies.print("deny() with its ledger   ");
    let reached = median(&refusals.ratio99) <= GOAL;
    println!(
        "goal: p99 of update to refused connect <= {GOAL}x the median update: {}",
        if reached { "reached" } else { "missed" }
    );
}

/// Quantiles of each round, in microseconds, and as ratios to the median write of the round.
#[derive(Default)]
struct Rounds {
    p50: Vec<f64>,
    p99: Vec<f64>,
    ratio50: Vec<f64>,
    ratio99: Vec<f64>,
}

impl Rounds {
    fn new() -> Self {
        Self::default()
    }
    fn print(&self, name: &str) {
        let ratio = |name: &str, values: &[f64]| match values {
            [] => String::new(),
            _ => format!("  {name} {}", spread(values)),
        };
        println!(
            "{name} p50 {} us  p99 {} us{}{}",
            spread(&self.p50),
            spread(&self.p99),
            ratio("= x", &self.ratio50),
            ratio("and x", &self.ratio99)
        );
    }
}

fn target(last: u8) -> Target {
    let address = std::net::IpAddr::from([127, 69, 1, last]);
    Target::Peer { address, prefix_length: 32, cgroup_id: 0, program_id: 0 }
}

fn request(target: Target) -> Request {
    Request {
        target,
        rule: Rule::Operator,
        seconds: 600,
        finding_uid: None,
        subject: None,
        process: None,
        mode: Some(Mode::Enforce),
        reason: "a benchmark".into(),
    }
}

/// The whole of `deny`: ledger, maps, list of sockets.
fn deny_to_refusal(responder: &mut Responder) -> Vec<Duration> {
    (0..TRIALS_DENY)
        .map(|_| {
            let start = Instant::now();
            let entry = responder.deny(request(target(2))).unwrap();
            let took = start.elapsed();
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            assert!(socket.connect("127.69.1.2:9").is_err());
            responder.remove(&entry.uid, "a benchmark").unwrap();
            took
        })
        .collect()
}

/// Rewrites the expiry of one entry while another thread connects without a pause.
fn write_to_refusal(id: u64, pins: &std::path::Path) -> (Vec<Duration>, Vec<Duration>) {
    let id = id.to_ne_bytes();
    let entries = MapHandle::from_pinned_path(pins.join("deny_entries")).unwrap();
    let live = entries.lookup(&id, MapFlags::ANY).unwrap().unwrap();
    let mut expired = live.clone();
    expired[..8].fill(0);
    // When the first refusal of each trial was seen. A connect belongs to the trial in which it
    // began: one that began before the entry was expired belongs to the one before.
    let first: Arc<Vec<AtomicU64>> = Arc::new((0..=TRIALS).map(|_| AtomicU64::new(0)).collect());
    // When the connecting thread had last been preempted by then.
    let away: Arc<Vec<AtomicU64>> = Arc::new((0..=TRIALS).map(|_| AtomicU64::new(0)).collect());
    let (trial, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let storm = {
        let (first, stop, trial) = (first.clone(), stop.clone(), trial.clone());
        let away = away.clone();
        thread::spawn(move || {
            pin(1);
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            let (mut switches, mut away_ns) = (preemptions(), 0);
            while !stop.load(SeqCst) {
                let began = trial.load(SeqCst);
                let refused = socket.connect("127.69.1.1:9").is_err();
                let time_ns = now().boot_ns;
                if preemptions() != switches {
                    switches = preemptions();
                    away_ns = now().boot_ns;
                }
                if refused && first[began].load(SeqCst) == 0 {
                    away[began].store(away_ns, SeqCst);
                    first[began].store(time_ns, SeqCst);
                }
            }
        })
    };
    pin(0);
    let (mut writes, mut refusals) = (Vec::new(), Vec::new());
    for (slot, away) in first.iter().zip(away.iter()).skip(1) {
        entries.update(&id, &expired, MapFlags::ANY).unwrap();
        trial.fetch_add(1, SeqCst);
        // The connecting thread runs again, and not at the moment of the write.
        thread::sleep(Duration::from_millis(2));
        let switches = preemptions();
        let start_ns = now().boot_ns;
        let start = Instant::now();
        entries.update(&id, &live, MapFlags::ANY).unwrap();
        let took = start.elapsed();
        let preempted = preemptions() != switches;
        while slot.load(SeqCst) == 0 {
            thread::yield_now();
        }
        if !preempted && away.load(SeqCst) < start_ns {
            writes.push(took);
            refusals.push(Duration::from_nanos(slot.load(SeqCst) - start_ns));
        }
    }
    stop.store(true, SeqCst);
    storm.join().unwrap();
    (writes, refusals)
}

/// How often the scheduler took the CPU from this thread against its will.
fn preemptions() -> i64 {
    // SAFETY: `usage` is writable and of the right type; zeroes are a value of it.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, &mut usage), 0);
        usage.ru_nivcsw
    }
}

/// Adds a round; its median, in microseconds.
fn quantiles(mut times: Vec<Duration>, rounds: &mut Rounds, base_us: Option<f64>) -> f64 {
    times.sort_unstable();
    let [p50, p99] = [50, 99].map(|percent| times[times.len() * percent / 100].as_secs_f64() * 1e6);
    rounds.p50.push(p50);
    rounds.p99.push(p99);
    if let Some(base_us) = base_us {
        rounds.ratio50.push(p50 / base_us);
        rounds.ratio99.push(p99 / base_us);
    }
    p50
}
