//! Connections that stand, their packets, and listings of sockets.

use std::{
    io::{Read, Write},
    net::{TcpListener, UdpSocket},
    os::fd::{FromRawFd, OwnedFd},
};

use super::*;

/// The packet hooks alone: the socket is not destroyed, yet nothing gets through either way.
#[test]
fn packets_of_a_standing_connection_are_dropped_both_ways() {
    let mut bench = Bench::new("packets", Sizes::default(), Limits::default());
    let listener = TcpListener::bind("127.68.2.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(b"before").unwrap();
    let mut buffer = [0; 64];
    assert_eq!(server.read(&mut buffer).unwrap(), 6);
    // Only in the kernel: no list of sockets, no destruction.
    let monitored =
        Request { mode: Some(Mode::Monitor), ..request(peer("127.68.2.1"), Rule::Operator) };
    bench.responder.deny(monitored).unwrap();
    bench.responder.force_enforce();
    for stream in [&server, &client] {
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    }
    let _ = client.write_all(b"after");
    assert!(server.read(&mut buffer).is_err(), "egress is dropped");
    let _ = server.write_all(b"after");
    assert!(client.read(&mut buffer).is_err(), "ingress is dropped");
    let entry = bench.responder.entries()[0].id;
    assert!(bench.responder.kernel_hits(entry) >= 2);
}

/// Both ends of a connection.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

impl Pair {
    fn new(address: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        Self { client, server: listener.accept().unwrap().0 }
    }

    /// Writes a byte, and tells how many have arrived, at most so many and within a time. What is
    /// dropped is sent again by and by.
    fn sends(&mut self, wanted: usize, within: Duration) -> usize {
        drop(self.client.write_all(b"x"));
        self.server.set_read_timeout(Some(within)).unwrap();
        let (mut arrived, mut buffer) = (0, [0; 64]);
        while arrived < wanted {
            match self.server.read(&mut buffer) {
                Ok(size @ 1..) => arrived += size,
                _ => break,
            }
        }
        arrived
    }
}

/// No socket is destroyed here: what refuses are the packet hooks alone.
#[test]
fn a_connection_that_passed_is_looked_up_anew_when_entries_change_and_not_before() {
    const SOON: Duration = Duration::from_millis(300);
    const LATER: Duration = Duration::from_secs(20);
    let mut bench = Bench::new("passed", Sizes::default(), Limits::default());
    // So that there is something to look up.
    bench.responder.deny(request(peer("127.68.3.9"), Rule::Operator)).unwrap();
    let mut pair = Pair::new("127.68.3.1");
    assert_eq!(pair.sends(1, LATER), 1);
    let word = bench.responder.passed(&pair.client);
    assert_ne!(word, 0, "it met no entry");
    assert_eq!(pair.sends(1, LATER), 1);
    assert_eq!(bench.responder.passed(&pair.client), word);
    // Who only counts does so for each packet.
    let counting =
        Request { mode: Some(Mode::Monitor), ..request(peer("127.68.3.1"), Rule::Operator) };
    let uid = bench.responder.deny(counting).unwrap().uid;
    let id = bench.responder.entries().iter().find(|entry| entry.uid == uid).unwrap().id;
    let mut counted = 0;
    for _ in 0..2 {
        assert_eq!(pair.sends(1, LATER), 1);
        let hits = bench.responder.kernel_hits(id);
        assert!(hits > counted, "{hits} after {counted}");
        counted = hits;
    }
    bench.responder.force_enforce();
    assert_eq!(pair.sends(1, SOON), 0, "a mode that rises holds for what stands");
    bench.responder.allow(peer("127.68.3.1"), true).unwrap();
    assert_eq!(pair.sends(2, LATER), 2);
    bench.responder.allow(peer("127.68.3.1"), false).unwrap();
    assert_eq!(pair.sends(1, SOON), 0, "what was allowed no longer is");
    bench.responder.remove(&uid, "a test").unwrap().unwrap();
    assert_eq!(pair.sends(2, LATER), 2);
}

/// Begins to connect from an address of its own.
fn connecting(from: [u8; 4], to: std::net::SocketAddr) -> OwnedFd {
    let std::net::SocketAddr::V4(to) = to else { unimplemented!() };
    let name = |address: u32, port: u16| libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: address.to_be() },
        sin_zero: [0; 8],
    };
    let (own, other) = (name(u32::from_be_bytes(from), 0), name(to.ip().to_bits(), to.port()));
    let length = size_of_val(&own) as libc::socklen_t;
    // SAFETY: both names are of the length that is passed, and the descriptor is nobody else's.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0);
        assert!(fd >= 0);
        assert_eq!(libc::bind(fd, (&raw const own).cast(), length), 0);
        libc::connect(fd, (&raw const other).cast(), length);
        OwnedFd::from_raw_fd(fd)
    }
}

#[test]
fn a_listener_that_somebody_passed_is_looked_up_for_another() {
    let mut bench = Bench::new("callers", Sizes::default(), Limits::default());
    let uid = bench.responder.deny(request(peer("127.68.4.5"), Rule::Operator)).unwrap().uid;
    let listener = TcpListener::bind("127.68.4.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(TcpStream::connect(address).unwrap());
    listener.accept().unwrap();
    let _denied = connecting([127, 68, 4, 5], address);
    listener.set_nonblocking(true).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(listener.accept().is_err(), "it is denied");
    bench.responder.remove(&uid, "a test").unwrap().unwrap();
    // It goes on trying.
    listener.set_nonblocking(false).unwrap();
    assert_eq!(listener.accept().unwrap().1.ip(), std::net::IpAddr::from([127, 68, 4, 5]));
}

/// Descriptors of the table, where the host lets us have so many, and of all processes that share it:
/// more than a million, past which one call of the kernel doesn't go.
const TABLE: u32 = 100_000;
const SHARED: u32 = 1_100_000;

#[test]
fn a_table_of_descriptors_that_many_processes_share_is_not_copied_for_each() {
    let mut bench = Bench::new("table", Sizes::default(), Limits::default());
    let socket = UdpSocket::bind("127.68.5.1:0").unwrap();
    let (mut told, tells) = std::io::pipe().unwrap();
    let _crowd = Forked::new(|| {
        // SAFETY: plain system calls on descriptors of our own; without a stack clone is a fork.
        unsafe {
            let room = libc::rlimit { rlim_cur: 200_000, rlim_max: 200_000 };
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const room);
            let mut made = 0u32;
            while made < TABLE && libc::dup(socket.as_raw_fd()) >= 0 {
                made += 1;
            }
            let (flags, parent) = (libc::CLONE_FILES | libc::SIGCHLD, libc::getpid());
            for _ in 0..SHARED / made.max(1) {
                if libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) == 0 {
                    rest(parent, || {});
                }
            }
            let bytes = made.to_ne_bytes();
            libc::write(tells.as_raw_fd(), bytes.as_ptr().cast(), bytes.len());
        }
    });
    let mut made = [0; 4];
    told.read_exact(&mut made).unwrap();
    assert!(u32::from_ne_bytes(made) >= 1000);
    let told = bench.responder.told_of(socket.local_addr().unwrap().port());
    assert_eq!(told, 0, "nothing denies it");
    let reason = bench.responder.deny(request(peer("127.68.5.9"), Rule::Operator)).unwrap().reason;
    assert!(!reason.contains("could not"), "{reason}");
}

#[test]
fn what_there_was_no_time_to_look_at_stands_is_told_and_its_packets_are_dropped() {
    let sizes = Sizes { listing: Duration::ZERO, ..Sizes::default() };
    let mut bench = Bench::new("hurry", sizes, Limits::default());
    bench.responder.take_notices();
    let mut pair = Pair::new("127.68.6.1");
    assert_eq!(pair.sends(1, Duration::from_secs(20)), 1);
    for address in ["127.68.6.1", "127.68.6.2"] {
        let told = bench.responder.deny(request(peer(address), Rule::Operator)).unwrap();
        assert!(told.reason.contains("too many descriptors"), "{}", told.reason);
        let notices = bench.responder.take_notices();
        assert_eq!(notices.len(), 1, "{notices:?}");
        assert!(bench.responder.take_notices().is_empty(), "told once");
    }
    assert_eq!(pair.sends(1, Duration::from_millis(300)), 0);
}
