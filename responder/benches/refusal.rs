//! How long from the write of a deny entry to the first connect that it refuses, beside the time of
//! the write itself, interleaved in one run. Needs root.
//!
//! `cargo bench -p hedgerow-responder`
#![allow(clippy::unwrap_used)]

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use hedgerow_event::{Mode, Rule, Target};
use hedgerow_responder::{Options, Request, Responder, now};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

const TRIALS: usize = 300;

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = Options::new("bench", directory.path().join("ledger.jsonl"));
    options.directory = format!("/sys/fs/bpf/hedgerow-bench-{}", std::process::id()).into();
    options.limits.automatic = TRIALS + 1;
    let pins = options.directory.clone();
    let mut responder = Responder::start(options).unwrap();
    let _unpin = Unpin(pins.clone());
    let deny = deny_to_refusal(&mut responder);
    let (write, refusal) = write_to_refusal(&mut responder, &pins);
    responder.stop(false).unwrap();
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("?");
    println!("{TRIALS} trials on {cpu}");
    let base = quantiles(write);
    println!("one map update            p50 {:>8.1} us  p99 {:>8.1} us", base[0], base[1]);
    for (name, times) in
        [("update to refused connect", refusal), ("deny() with its ledger  ", deny)]
    {
        let [p50, p99] = quantiles(times);
        let (r50, r99) = (p50 / base[0], p99 / base[1]);
        println!("{name} p50 {p50:>8.1} us  p99 {p99:>8.1} us  = {r50:.1}x, {r99:.1}x the update");
    }
}

/// Detaches also when the benchmark fails.
struct Unpin(std::path::PathBuf);

impl Drop for Unpin {
    fn drop(&mut self) {
        let _ = hedgerow_responder::remove_pins(&self.0);
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
        mode: Some(Mode::Enforce),
        reason: "a benchmark".into(),
    }
}

/// The whole of `deny`: ledger, maps, list of sockets.
fn deny_to_refusal(responder: &mut Responder) -> Vec<Duration> {
    (0..TRIALS)
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
fn write_to_refusal(
    responder: &mut Responder,
    pins: &std::path::Path,
) -> (Vec<Duration>, Vec<Duration>) {
    responder.deny(request(target(1))).unwrap();
    let id = responder.entries()[0].id.to_ne_bytes();
    let entries = MapHandle::from_pinned_path(pins.join("deny_entries")).unwrap();
    let live = entries.lookup(&id, MapFlags::ANY).unwrap().unwrap();
    let mut expired = live.clone();
    expired[..8].fill(0);
    // When the first refusal of each trial was seen. A connect belongs to the trial in which it
    // began: one that began before the entry was expired belongs to the one before.
    let first: Arc<Vec<AtomicU64>> = Arc::new((0..=TRIALS).map(|_| AtomicU64::new(0)).collect());
    let (trial, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let storm = {
        let (first, stop, trial) = (first.clone(), stop.clone(), trial.clone());
        thread::spawn(move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            while !stop.load(SeqCst) {
                let began = trial.load(SeqCst);
                if socket.connect("127.69.1.1:9").is_err() {
                    let _ = first[began].compare_exchange(0, now().boot_ns, SeqCst, SeqCst);
                }
            }
        })
    };
    let (mut writes, mut refusals) = (Vec::new(), Vec::new());
    for slot in &first[1..] {
        entries.update(&id, &expired, MapFlags::ANY).unwrap();
        trial.fetch_add(1, SeqCst);
        // The connecting thread runs again, and not at the moment of the write.
        thread::sleep(Duration::from_millis(2));
        let start_ns = now().boot_ns;
        let start = Instant::now();
        entries.update(&id, &live, MapFlags::ANY).unwrap();
        writes.push(start.elapsed());
        while slot.load(SeqCst) == 0 {
            thread::yield_now();
        }
        refusals.push(Duration::from_nanos(slot.load(SeqCst) - start_ns));
    }
    stop.store(true, SeqCst);
    storm.join().unwrap();
    (writes, refusals)
}

/// Median and 99th percentile, in microseconds.
fn quantiles(mut times: Vec<Duration>) -> [f64; 2] {
    times.sort_unstable();
    [50, 99].map(|percent| times[times.len() * percent / 100].as_secs_f64() * 1e6)
}
