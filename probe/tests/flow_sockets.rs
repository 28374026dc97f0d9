//! Sockets that are not simply opened, used by one process and closed. Needs root; every test
//! works in a network namespace of its own, which goes with its thread.
#![allow(clippy::unwrap_used)]

mod flow_harness;

use std::{
    ffi::CString,
    io::{Read, Write},
    mem,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use flow_harness::*;
use hedgerow_bpf::wire::wire_flow;

/// Runs `system_calls` in a child process, to its end.
fn in_child(system_calls: impl FnOnce()) -> u32 {
    // SAFETY: the child makes system calls only, and ends with `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        system_calls();
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: our own child; no status is asked for.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    child as u32
}

fn write(fd: RawFd, bytes: &[u8]) {
    // SAFETY: pointer and length belong together.
    unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
}

fn of(records: &[wire_flow], tgid: u32) -> Vec<wire_flow> {
    records.iter().filter(|record| record.actor.tgid == tgid).copied().collect()
}

#[test]
fn a_socket_that_is_handed_on_counts_for_each_user() {
    let mut harness = Harness::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    let mut body = [0; 100];
    client.write_all(&[1; 100]).unwrap();
    accepted.read_exact(&mut body).unwrap();
    let fd = client.as_raw_fd();
    let child = in_child(|| write(fd, &[2; 30]));
    drop(client);
    assert_eq!(accepted.read(&mut body).unwrap(), 30);
    drop(accepted);
    let records = side(&harness.wait(|records| finals(records) == 2), false);
    let parent = of(&records, std::process::id());
    assert_eq!(phases(&parent), [PHASE_START, PHASE_INTERIM], "{records:#?}");
    assert_eq!(sum(&parent), Sum { bytes_out: 100, bytes_in: 0 });
    assert_eq!(sum(&of(&records, child)), Sum { bytes_out: 30, bytes_in: 0 });
    assert_eq!(phases(&of(&records, child)), [PHASE_FINAL]);
}

#[test]
fn a_socket_that_survives_an_exec_belongs_to_the_new_program() {
    let mut harness = Harness::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let program = |name: &str| CString::new(name).unwrap();
    let arguments = [program("sh"), program("-c"), program("echo hello >&9")];
    let mut pointers: Vec<_> = arguments.iter().map(|text| text.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let shell = program("/bin/sh");
    // As a reverse shell does it: connect, then become a shell.
    let child = in_child(|| {
        let client = TcpStream::connect(address).unwrap();
        write(client.as_raw_fd(), b"before");
        // SAFETY: the strings are terminated, the array ends with a null pointer.
        unsafe {
            libc::dup2(client.as_raw_fd(), 9);
            libc::execv(shell.as_ptr(), pointers.as_ptr());
        }
    });
    let (mut accepted, _) = listener.accept().unwrap();
    let mut body = String::new();
    accepted.read_to_string(&mut body).unwrap();
    assert_eq!(body, "beforehello\n");
    drop(accepted);
    let records = side(&harness.wait(|records| finals(records) == 2), false);
    assert_eq!(phases(&records), [PHASE_START, PHASE_INTERIM, PHASE_FINAL]);
    assert!(records.iter().all(|record| record.actor.tgid == child));
    assert_eq!((records[1].bytes_out, records[2].bytes_out), (6, 6));
}

#[test]
fn sockets_older_than_the_sensor_are_picked_up_when_used() {
    let mut body = [0; 1000];
    let (mut harness, (mut client, mut accepted, server)) = Harness::after(|| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.write_all(&body).unwrap();
        accepted.read_exact(&mut body).unwrap();
        (client, accepted, server)
    });
    // The first use only makes them known.
    client.write_all(&body[..10]).unwrap();
    accepted.read_exact(&mut body[..10]).unwrap();
    harness.interim();
    client.write_all(&body[..700]).unwrap();
    accepted.read_exact(&mut body[..700]).unwrap();
    let interim = harness.interim();
    assert_eq!(phases(&interim), [PHASE_INTERIM; 2]);
    assert_eq!(sum(&interim), Sum { bytes_out: 700, bytes_in: 700 });
    assert!(interim.iter().all(|record| record.actor.tgid == std::process::id()));

    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    sender.send_to(&[0; 72], server.local_addr().unwrap()).unwrap();
    server.recv(&mut body).unwrap();
    let port = sender.local_addr().unwrap().port();
    drop((client, accepted, server, sender));
    let records = harness.wait(|records| finals(records) == 4);
    let starts: Vec<_> = records.iter().filter(|r| r.phase == PHASE_START).collect();
    assert_eq!(starts.len(), 1, "only the sender is new: {records:#?}");
    assert_eq!(starts[0].local_port, port);
    let udp: Vec<_> = side(&records, true).into_iter().filter(|r| r.protocol == 17).collect();
    assert_eq!(sum(&udp), Sum { bytes_out: 0, bytes_in: 100 });
}

#[test]
fn a_socket_may_fail_and_then_connect() {
    let mut harness = Harness::new();
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let open = listener.local_addr().unwrap().port();
    let closed = {
        let gone = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        gone.local_addr().unwrap().port()
    };
    // SAFETY: the descriptor is new and ours.
    let socket =
        unsafe { OwnedFd::from_raw_fd(libc::socket(libc::AF_INET6, libc::SOCK_STREAM, 0)) };
    let connect = |port: u16| {
        // SAFETY: all zeros is a valid address.
        let mut address: libc::sockaddr_in6 = unsafe { mem::zeroed() };
        address.sin6_family = libc::AF_INET6 as _;
        address.sin6_port = port.to_be();
        address.sin6_addr.s6_addr = Ipv6Addr::LOCALHOST.octets();
        let size = size_of::<libc::sockaddr_in6>() as u32;
        // SAFETY: the address has the size that is said.
        unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), size) }
    };
    assert_eq!(connect(closed), -1);
    assert_eq!(connect(open), 0);
    let mut client = TcpStream::from(socket);
    let (mut accepted, _) = listener.accept().unwrap();
    client.write_all(&[0; 5000]).unwrap();
    drop(client);
    let mut body = Vec::new();
    accepted.read_to_end(&mut body).unwrap();
    drop(accepted);
    let records = harness.wait(|records| finals(records) == 2);
    let client = side(&records, false);
    assert_eq!(phases(&client), [PHASE_FAILED, PHASE_START, PHASE_FINAL]);
    assert_eq!((client[0].peer_port, client[2].peer_port), (closed, open));
    assert_eq!(sum(&client), Sum { bytes_out: 5000, bytes_in: 0 });
    assert_eq!(sum(&side(&records, true)), Sum { bytes_out: 0, bytes_in: 5000 });
}

#[test]
fn a_v4_client_of_a_v6_socket_is_v4() {
    let mut harness = Harness::new();
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let local = client.local_addr().unwrap();
    let (accepted, _) = listener.accept().unwrap();
    drop((client, accepted));
    let records = side(&harness.wait(|records| finals(records) == 2), true);
    assert_eq!(phases(&records), [PHASE_START, PHASE_FINAL], "nobody used it, and it still shows");
    let flow = hedgerow_probe::flow_event::flow(&records[1]).unwrap();
    assert_eq!(SocketAddr::new(flow.peer.address, flow.peer.port), local);
    assert_eq!(SocketAddr::new(flow.local.address, flow.local.port), ([127, 0, 0, 1], port).into());
    assert_eq!((flow.bytes_out, flow.bytes_in), (0, 0));
}

#[test]
fn an_aborted_connection_ends_with_what_it_carried() {
    let mut harness = Harness::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    client.write_all(&[0; 300]).unwrap();
    accepted.read_exact(&mut [0; 100]).unwrap();
    // 200 bytes are unread: closing resets.
    drop(accepted);
    drop(client);
    let records = harness.wait(|records| finals(records) == 2);
    assert_eq!(sum(&side(&records, false)), Sum { bytes_out: 300, bytes_in: 0 });
    assert_eq!(sum(&side(&records, true)), Sum { bytes_out: 0, bytes_in: 300 });
}

#[test]
fn a_raw_icmp_socket_is_a_flow() {
    let mut harness = Harness::new();
    // SAFETY: the descriptor is new and ours.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP);
        assert!(fd >= 0);
        UdpSocket::from_raw_fd(fd)
    };
    // Echo request, identifier 1, checksum over type, code and identifier.
    let mut request = [0u8; 64];
    request[0] = 8;
    request[5] = 1;
    request[2..4].copy_from_slice(&(!0x0801u16).to_be_bytes());
    socket.send_to(&request, (Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut body = [0; 200];
    // The request comes by, too, on the loopback device.
    for _ in 0..2 {
        assert_eq!(socket.recv(&mut body).unwrap(), 84);
    }
    drop(socket);
    let records = harness.wait(|records| finals(records) == 1);
    assert_eq!(sum(&records), Sum { bytes_out: 84, bytes_in: 168 });
    assert!(records.iter().all(|r| r.protocol == 1 && r.peer_port == 0 && r.inbound == 0));
    assert_eq!(records[0].peer_address, mapped(Ipv4Addr::LOCALHOST.into()));
}

/// A stream over SCTP, where the kernel has that, bound to the loopback address.
fn sctp() -> Option<OwnedFd> {
    // SAFETY: the descriptor is new and ours.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP);
        if fd < 0 {
            return None;
        }
        OwnedFd::from_raw_fd(fd)
    };
    let address = loopback(0);
    // SAFETY: the address has the size that is said.
    let bound = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as u32)
    };
    assert_eq!(bound, 0);
    Some(socket)
}

fn loopback(port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be() },
        sin_zero: [0; 8],
    }
}

#[test]
fn a_stream_over_sctp_is_a_flow() {
    let mut harness = Harness::new();
    let (Some(listener), Some(client)) = (sctp(), sctp()) else {
        println!("not tried: SCTP");
        return;
    };
    let tgid = std::process::id();
    let listener = TcpListener::from(listener);
    // SAFETY: an open descriptor.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 1) }, 0);
    let port = listener.local_addr().unwrap().port();
    let address = loopback(port);
    // SAFETY: the address has the size that is said.
    let connected = unsafe {
        libc::connect(client.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as u32)
    };
    assert_eq!(connected, 0);
    let mut client = TcpStream::from(client);
    let (mut accepted, _) = listener.accept().unwrap();
    client.write_all(&[1; 1000]).unwrap();
    accepted.read_exact(&mut [0; 1000]).unwrap();
    drop(client);
    let of_client = |records: &[wire_flow]| {
        let mine = |record: &&wire_flow| record.peer_port == port && record.actor.tgid == tgid;
        records.iter().filter(mine).copied().collect::<Vec<_>>()
    };
    let records = harness.wait(|records| finals(&of_client(records)) == 1);
    let flow = of_client(&records);
    assert_eq!(phases(&flow), [PHASE_START, PHASE_FINAL], "{flow:#?}");
    assert!(flow.iter().all(|record| i32::from(record.protocol) == libc::IPPROTO_SCTP));
    assert!(sum(&flow).bytes_out >= 1000, "{flow:#?}");
}

#[test]
fn a_full_table_of_peers_loses_names_and_no_bytes() {
    const PEERS: u16 = 17_000;
    let mut harness = Harness::new();
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = sender.local_addr().unwrap().port();
    let mut records = Vec::new();
    for peer in 0..PEERS {
        // An answer from a closed port may be pending.
        let target = (Ipv4Addr::LOCALHOST, 10_000 + peer);
        while sender.send_to(&[0; 72], target).is_err() {}
        if peer % 1000 == 0 {
            records.extend(harness.drain());
        }
    }
    drop(sender);
    for window in 0..3 {
        harness.set_epoch(8 + window);
        records.extend(harness.drain());
        records.extend(harness.interim());
    }
    let sent: Vec<wire_flow> = records.into_iter().filter(|r| r.local_port == port).collect();
    assert_eq!(sum(&sent).bytes_out, 100 * u64::from(PEERS));
    let named = sent.iter().filter(|r| r.phase == PHASE_START && r.peer_port != 0).count() as u64;
    assert!(named < u64::from(PEERS));
    // Others on the host are refused, too.
    let unnamed = u64::from(PEERS) - named;
    assert!(harness.refused() >= unnamed);
    let rest: Vec<_> = sent.iter().filter(|r| r.peer_port == 0).copied().collect();
    assert_eq!(sum(&rest).bytes_out, 100 * unnamed);
    assert!(harness.interim().is_empty());
}

#[test]
fn reading_while_it_flows_counts_every_byte_once() {
    const BYTES: usize = 16 << 20;
    let mut harness = Harness::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = receiver.local_addr().unwrap();
    let senders: Vec<UdpSocket> =
        (0..2).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    let mut records = Vec::new();
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let chunk = vec![0; 1 << 16];
            for _ in 0..BYTES / chunk.len() {
                client.write_all(&chunk).unwrap();
            }
        });
        scope.spawn(move || {
            let mut body = vec![0; 1 << 16];
            while accepted.read(&mut body).unwrap() > 0 {}
        });
        let datagrams: Vec<_> = senders
            .iter()
            .map(|sender| {
                scope.spawn(move || {
                    for _ in 0..5000 {
                        sender.send_to(&[0; 72], target).unwrap();
                    }
                })
            })
            .collect();
        while !writer.is_finished() || !datagrams.iter().all(|sender| sender.is_finished()) {
            records.extend(harness.interim());
            records.extend(harness.drain());
        }
    });
    drop((senders, receiver));
    let before = finals(&records);
    records.extend(harness.wait(|records| before + finals(records) >= 5));
    records.extend(harness.interim());
    let tcp: Vec<_> = records.iter().filter(|r| r.protocol == 6).copied().collect();
    assert_eq!(sum(&side(&tcp, false)), Sum { bytes_out: BYTES as u64, bytes_in: 0 });
    assert_eq!(sum(&side(&tcp, true)), Sum { bytes_out: 0, bytes_in: BYTES as u64 });
    let udp: Vec<_> = records.iter().filter(|r| r.protocol == 17).copied().collect();
    assert_eq!(sum(&side(&udp, false)), Sum { bytes_out: 1_000_000, bytes_in: 0 });
}
