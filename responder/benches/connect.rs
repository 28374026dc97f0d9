//! What the deny hooks cost a connect() that nothing refuses, beside none attached: each round takes
//! all states in turn, and a ratio is to the calls without hooks before and after in the same round.
//! Time is that of the calling thread on its CPU. Needs root.
//!
//! `cargo bench -p hedgerow-responder --bench connect`
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    net::{TcpListener, TcpStream, UdpSocket},
    path::Path,
    thread,
};

use common::{Unpin, median, pin, sorted};
use hedgerow_event::{Mode, Rule, Target};
use hedgerow_responder::{Limits, Options, Request, Responder};

const ROUNDS: usize = 9;
/// A state's figure is the median of so many batches, so that what else runs for a moment is no part
/// of it.
const BATCHES: usize = 15;
const UDP_CALLS: u32 = 1000;
const TCP_CALLS: u32 = 100;
/// Entries in the kernel; all that there is room for is the last.
const ENTRIES: [usize; 3] = [0, 320, 4096];
/// Goals by number of entries for UDP; for TCP the interval is to reach it.
const GOALS_UDP: [f64; 3] = [1.36, 1.6, 1.6];
const GOAL_TCP: f64 = 1.02;
/// Order statistics of 9 rounds that hold the median with 96 %: the second from either end.
const FROM_END: usize = 1;

fn main() {
    pin(0);
    let directory = tempfile::tempdir().unwrap();
    let states = ENTRIES.map(|entries| State::new(directory.path(), entries));
    let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
    let listener = TcpListener::bind("127.69.2.2:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        pin(1);
        listener.incoming().for_each(drop);
    });
    let connects = || {
        let udp = per_call_ns(UDP_CALLS, || udp.connect("127.69.2.1:9").unwrap());
        let tcp = per_call_ns(TCP_CALLS, || drop(TcpStream::connect(address).unwrap()));
        [udp, tcp]
    };
    let mut bare = [Vec::new(), Vec::new()];
    let mut ratios = vec![[Vec::new(), Vec::new()]; ENTRIES.len()];
    for _ in 0..ROUNDS {
        let before = connects();
        let attached: Vec<_> = states.iter().map(|state| state.attached(connects)).collect();
        let after = connects();
        for kind in 0..2 {
            let base = (before[kind] + after[kind]) / 2.0;
            bare[kind].push(base);
            for (ratios, figure) in ratios.iter_mut().zip(&attached) {
                ratios[kind].push(figure[kind] / base);
            }
        }
    }
    println!(
        "connect() that nothing refuses, {ROUNDS} rounds on {}: median ratio to no hooks in the same \
         round (96 % interval)",
        common::cpu()
    );
    for (kind, name) in ["UDP connect           ", "TCP socket+connect+close"].iter().enumerate() {
        println!("{name}: {:.0} ns without hooks", median(&bare[kind]));
        for (at, entries) in ENTRIES.iter().enumerate() {
            let values = sorted(&ratios[at][kind]);
            let (low, high) = (values[FROM_END], values[values.len() - 1 - FROM_END]);
            let middle = median(&values);
            let (goal, reached) = match kind {
                0 => (GOALS_UDP[at], middle <= GOALS_UDP[at]),
                _ => (GOAL_TCP, low <= GOAL_TCP),
            };
            let reached = if reached { "reached" } else { "missed" };
            println!(
                "  {entries:>4} entries {middle:.3}x ({low:.3} to {high:.3}), goal {goal}x {reached}"
            );
        }
    }
}

/// Pinned maps with so many entries, whose programs are attached while they are measured.
struct State {
    options: Options,
    _unpin: Unpin,
}

impl State {
    fn new(directory: &Path, entries: usize) -> Self {
        let own = directory.join(entries.to_string());
        std::fs::create_dir(&own).unwrap();
        let mut options = Options::new("bench", own.join("ledger.jsonl"));
        options.directory =
            format!("/sys/fs/bpf/hedgerow-connect-{}-{entries}", std::process::id()).into();
        options.limits = Limits { automatic: 8192, ..Limits::default() };
        let state = Self { _unpin: Unpin(options.directory.clone()), options };
        let mut responder = Responder::start(state.options.clone()).unwrap();
        for number in 0..entries {
            responder.deny(request(number)).unwrap();
        }
        state.detach();
        state
    }

    /// Figures with the programs attached, which take over the maps.
    fn attached(&self, figures: impl Fn() -> [f64; 2]) -> [f64; 2] {
        let responder = Responder::start(self.options.clone()).unwrap();
        let found = figures();
        drop(responder);
        self.detach();
        found
    }

    /// The maps stay.
    fn detach(&self) {
        for link in std::fs::read_dir(self.options.directory.join("links")).unwrap().flatten() {
            std::fs::remove_file(link.path()).unwrap();
        }
    }
}

/// Peers that nobody calls: of all, and of one program, so that both are looked up.
fn request(number: usize) -> Request {
    let [_, _, high, low] = (number as u32).to_be_bytes();
    let target = Target::Peer {
        address: [203, 0, high, low].into(),
        prefix_length: 32,
        cgroup_id: 0,
        program_id: if number.is_multiple_of(2) { 0 } else { 1 },
    };
    Request {
        target,
        rule: Rule::Operator,
        seconds: 3600,
        finding_uid: None,
        subject: None,
        process: None,
        mode: Some(Mode::Monitor),
        reason: "a benchmark".into(),
    }
}

/// CPU time of one call, the median over batches.
fn per_call_ns(calls: u32, mut call: impl FnMut()) -> f64 {
    let batches: Vec<f64> = (0..BATCHES)
        .map(|_| {
            let start_ns = thread_cpu_ns();
            (0..calls).for_each(|_| call());
            (thread_cpu_ns() - start_ns) as f64 / f64::from(calls)
        })
        .collect();
    median(&batches)
}

fn thread_cpu_ns() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
