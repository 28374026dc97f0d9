//! What it costs to sum up bytes by whose socket they pass (`[usage]`): CPU time of packets and connections
//! over veth, with flows watched and with both, in turn in one process; a ratio is to flows alone before and
//! after in the same round. The time is the sender's, who also takes what arrives. Needs root.
//!
//! `cargo bench -p hedgerow-probe --bench packets`
#![allow(clippy::unwrap_used)]

use std::{
    fs::File,
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    process::{Child, Command},
    thread,
};

use hedgerow_probe::{Options, Probe, identity::Resolver};

const ROUNDS: usize = 7;
/// A figure is the median of so many batches, so that what else runs for a moment is no part of it.
const BATCHES: usize = 15;
const HERE: &str = "10.98.0.1";
const THERE: &str = "10.98.0.2";
const KINDS: [&str; 3] =
    ["UDP datagram of 100 bytes", "TCP connect and close", "TCP, each 256 KiB"];

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn unshare() {
    // SAFETY: no memory is passed.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "needs root");
}

/// A namespace behind veth, as long as a process lives in it; the calling thread is in another new one.
struct Far(Child);

impl Far {
    fn new() -> Self {
        let made = thread::spawn(|| {
            unshare();
            Command::new("sleep").arg("600").spawn().unwrap()
        });
        let far = Self(made.join().unwrap());
        unshare();
        ip(&format!("link add v0 type veth peer name v1 netns {}", far.0.id()));
        ip(&format!("address add {HERE}/24 dev v0"));
        ip("link set v0 up");
        far.enter(|| {
            ip(&format!("address add {THERE}/24 dev v1"));
            ip("link set v1 up");
        });
        far
    }

    fn enter<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.0.id())).unwrap();
        thread::scope(|scope| {
            let action = scope.spawn(move || {
                // SAFETY: the descriptor is open; no memory is passed.
                assert_eq!(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
                action()
            });
            action.join().unwrap()
        })
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn thread_cpu_ns() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid timespec to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn each(times: u32, mut action: impl FnMut()) -> f64 {
    let batch = || {
        let start = thread_cpu_ns();
        (0..times).for_each(|_| action());
        (thread_cpu_ns() - start) / f64::from(times)
    };
    median(std::iter::repeat_with(batch).take(BATCHES).collect())
}

/// ns of CPU for each of [`KINDS`], with a sensor.
fn measure(usage: bool, far: &Far) -> [f64; 3] {
    let options = Options { usage, calls: false, observe_own: true, ..Options::default() };
    let (probe, items) = Probe::start(options, Resolver::open().unwrap()).unwrap();
    let taken = thread::spawn(move || items.iter().for_each(drop));
    let (sink, listener) = far
        .enter(|| (UdpSocket::bind((THERE, 9)).unwrap(), TcpListener::bind((THERE, 9)).unwrap()));
    let takes = thread::spawn(move || {
        let mut bytes = vec![0; 1 << 20];
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut all = 0;
            loop {
                match stream.read(&mut bytes) {
                    Ok(0) | Err(_) => break,
                    Ok(some) => all += some,
                }
            }
            if all == 1 {
                return;
            }
        }
    });
    let udp = UdpSocket::bind((HERE, 0)).unwrap();
    udp.connect((THERE, 9)).unwrap();
    let datagram = [0; 100];
    let datagrams = each(2000, || drop(udp.send(&datagram)));
    let connects = each(30, || drop(TcpStream::connect((THERE, 9)).unwrap()));
    let mut stream = TcpStream::connect((THERE, 9)).unwrap();
    let part = vec![0; 256 << 10];
    let bulk = each(40, || stream.write_all(&part).unwrap());
    drop((stream, sink));
    TcpStream::connect((THERE, 9)).unwrap().write_all(&[0]).unwrap();
    takes.join().unwrap();
    drop(probe.stop());
    taken.join().unwrap();
    [datagrams, connects, bulk]
}

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let far = Far::new();
    let mut ratios: [Vec<f64>; 3] = Default::default();
    let mut bare: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        let (before, with, after) =
            (measure(false, &far), measure(true, &far), measure(false, &far));
        for kind in 0..KINDS.len() {
            let base = f64::midpoint(before[kind], after[kind]);
            bare[kind].push(base);
            ratios[kind].push(with[kind] / base);
        }
    }
    println!("Bytes by whose socket they pass, beside flows alone, {ROUNDS} rounds:");
    for ((name, bare), ratios) in KINDS.iter().zip(bare).zip(ratios) {
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        let (bare, ratio) = (median(bare), median(ratios));
        println!("{name}: {bare:.0} ns without, {ratio:.3}x with ({least:.3} to {most:.3})");
    }
}
