//! Floods over veth into a namespace with a process in it show in the host counters. Needs root.
#![allow(clippy::unwrap_used)]

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    process::{Child, Command},
    time::Duration,
};

use hedgerow_event::HostCounters;
use hedgerow_probe::host_counters::HostCounterReader;

const TARGET: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// An address of the link that nobody answers for.
const SPOOFED: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 77);
const PORT: u16 = 7777;

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn unshare() {
    // SAFETY: no memory is passed.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "needs root");
}

/// A process in a network namespace of its own, joined by veth to the calling thread's, which is
/// a new one, too. Both namespaces end with their process and thread.
struct Victim(Child);

impl Victim {
    fn new() -> Self {
        let child = std::thread::spawn(|| {
            unshare();
            Command::new("sleep").arg("120").spawn().unwrap()
        })
        .join()
        .unwrap();
        let victim = Self(child);
        unshare();
        ip(&format!("link add v0 type veth peer name v1 netns {}", victim.0.id()));
        ip("address add 10.99.0.1/24 dev v0");
        ip("link set v0 up");
        victim.inside(|| {
            ip("address add 10.99.0.2/24 dev v1");
            ip("link set lo up");
            ip("link set v1 up");
        });
        victim
    }

    fn inside<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.0.id())).unwrap();
        std::thread::scope(|scope| {
            let action = scope.spawn(move || {
                // SAFETY: the descriptor is open; no memory is passed.
                assert_eq!(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
                action()
            });
            action.join().unwrap()
        })
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Floods until one shows as it should: on a slow machine the kernel's queues take few of the first,
/// and none while the link comes up or its neighbour hasn't answered, who is asked again after a second.
fn until_seen(flood: impl Fn(), shows: impl Fn(&HostCounters) -> bool) {
    const FLOODS: usize = 20;
    let mut reader = HostCounterReader::default();
    let mut seen = Vec::new();
    for _ in 0..FLOODS {
        reader.read();
        flood();
        let increments = reader.read();
        if shows(&increments.counters) {
            return;
        }
        seen.push(increments);
        std::thread::sleep(Duration::from_millis(500));
    }
    panic!("{seen:?}");
}

#[test]
fn a_udp_flood_shows_as_datagrams_to_closed_ports() {
    const DATAGRAMS: u64 = 5000;
    let victim = Victim::new();
    // A loaded machine drops some before they are counted.
    let least = Some(DATAGRAMS / 2);
    until_seen(
        || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            for _ in 0..DATAGRAMS {
                // An answer from the closed port may be pending.
                while socket.send_to(&[0; 64], (TARGET, PORT)).is_err() {}
            }
        },
        |counters| {
            counters.closed_ports >= least
                && counters.udp_in >= least
                && counters.packets_in >= least
        },
    );
    drop(victim);
}

/// The complement of the ones' complement sum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 =
        bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// An IPv4 packet with a TCP SYN (RFC 791, 9293); the kernel fills length and header checksum.
fn syn(source_port: u16) -> [u8; 40] {
    let mut tcp = [0u8; 20];
    tcp[..2].copy_from_slice(&source_port.to_be_bytes());
    tcp[2..4].copy_from_slice(&PORT.to_be_bytes());
    tcp[4..8].copy_from_slice(&u32::from(source_port).to_be_bytes());
    tcp[12] = 5 << 4;
    tcp[13] = 2;
    tcp[14..16].copy_from_slice(&1024u16.to_be_bytes());
    let mut pseudo = [0u8; 32];
    pseudo[..4].copy_from_slice(&SPOOFED.octets());
    pseudo[4..8].copy_from_slice(&TARGET.octets());
    pseudo[9] = libc::IPPROTO_TCP as u8;
    pseudo[11] = 20;
    pseudo[12..].copy_from_slice(&tcp);
    tcp[16..18].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    let mut packet = [0u8; 40];
    packet[0] = 0x45;
    packet[8] = 64;
    packet[9] = libc::IPPROTO_TCP as u8;
    packet[12..16].copy_from_slice(&SPOOFED.octets());
    packet[16..20].copy_from_slice(&TARGET.octets());
    packet[20..].copy_from_slice(&tcp);
    packet
}

#[test]
fn a_syn_flood_shows_as_cookies_or_overflows() {
    const SYNS: u16 = 3000;
    let victim = Victim::new();
    let listener = victim.inside(|| {
        std::fs::write("/proc/sys/net/ipv4/tcp_syncookies", "1").unwrap();
        let listener = TcpListener::bind(SocketAddrV4::new(TARGET, PORT)).unwrap();
        // SAFETY: the descriptor is open; listening again only shortens the queue.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 8) }, 0);
        listener
    });
    // A loaded machine drops some before they are counted.
    let least = u64::from(SYNS / 2);
    until_seen(
        || {
            // SAFETY: the descriptor is new and ours.
            let socket = unsafe {
                let fd = libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW);
                assert!(fd >= 0);
                UdpSocket::from(OwnedFd::from_raw_fd(fd))
            };
            for number in 0..SYNS {
                socket.send_to(&syn(1024 + number), (TARGET, 0)).unwrap();
            }
        },
        // All but those that fit into the queue.
        |counters| {
            counters.tcp_in_segments >= Some(least) && counters.syn_cookies >= Some(least - 100)
        },
    );
    drop((listener, victim));
}
