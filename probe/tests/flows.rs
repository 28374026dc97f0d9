//! Flows of real sockets, against what was really sent. Needs root; every test works in a network
//! namespace of its own, which goes with its thread.
#![allow(clippy::unwrap_used)]

mod flow_harness;

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    time::Instant,
};

use flow_harness::*;
use hedgerow_bpf::wire::wire_flow;

fn assert_ends(record: &wire_flow, local: SocketAddr, peer: SocketAddr) {
    assert_eq!(record.local_address, mapped(local.ip()));
    assert_eq!(record.peer_address, mapped(peer.ip()));
    assert_eq!((record.local_port, record.peer_port), (local.port(), peer.port()));
}

/// `request` bytes one way, `response` bytes the other, each side closing in its turn.
fn exchange(listener: &TcpListener, request: usize, response: usize) -> (SocketAddr, SocketAddr) {
    let server = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(server).unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    let local = client.local_addr().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut body = Vec::new();
            accepted.read_to_end(&mut body).unwrap();
            assert_eq!(body.len(), request);
            accepted.write_all(&vec![1; response]).unwrap();
            accepted.shutdown(Shutdown::Write).unwrap();
        });
        client.write_all(&vec![2; request]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut body = Vec::new();
        client.read_to_end(&mut body).unwrap();
        assert_eq!(body.len(), response);
    });
    (local, server)
}

fn tcp_is_exact(address: IpAddr) {
    let mut harness = Harness::new();
    let listener = TcpListener::bind((address, 0)).unwrap();
    let (client, server) = exchange(&listener, 1_234_567, 89_012);
    let records = harness.wait(|records| finals(records) == 2);
    for (inbound, local, peer, bytes_out, bytes_in) in
        [(false, client, server, 1_234_567, 89_012), (true, server, client, 89_012, 1_234_567)]
    {
        let flow = side(&records, inbound);
        assert_eq!(phases(&flow), [PHASE_START, PHASE_FINAL], "{flow:#?}");
        assert_eq!(sum(&flow), Sum { bytes_out, bytes_in });
        for record in &flow {
            assert_ends(record, local, peer);
            assert_eq!(record.actor.tgid, std::process::id());
            assert_eq!(u32::from(record.protocol), libc::IPPROTO_TCP as u32);
            assert_eq!(record.header.epoch, 7);
            assert_eq!(record.netns, harness.netns);
        }
        assert!(flow[1].rtt_us < 1_000_000);
    }
    assert_eq!(records.len(), 4);
}

#[test]
fn tcp_bytes_over_ipv4_are_the_payload() {
    tcp_is_exact(Ipv4Addr::LOCALHOST.into());
}

#[test]
fn tcp_bytes_over_ipv6_are_the_payload() {
    tcp_is_exact(Ipv6Addr::LOCALHOST.into());
}

/// Segments out and in, as the socket itself counts them. libc's `tcp_info` ends before them.
fn segments(socket: &TcpStream) -> (u64, u64) {
    /// Offset of `tcpi_segs_out` in include/uapi/linux/tcp.h; `tcpi_segs_in` follows.
    const SEGS_OUT: usize = 136;
    let mut info = [0u8; SEGS_OUT + 8];
    let mut size = info.len() as libc::socklen_t;
    // SAFETY: buffer and length belong together.
    let result = unsafe {
        let (level, option) = (libc::IPPROTO_TCP, libc::TCP_INFO);
        libc::getsockopt(socket.as_raw_fd(), level, option, info.as_mut_ptr().cast(), &raw mut size)
    };
    assert_eq!((result, size as usize), (0, info.len()));
    let word = |at: usize| u32::from_ne_bytes(info[at..at + 4].try_into().unwrap()).into();
    (word(SEGS_OUT), word(SEGS_OUT + 4))
}

fn tcp_packets_are_the_segments(address: IpAddr) {
    let mut harness = Harness::new();
    let listener = TcpListener::bind((address, 0)).unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    let mut body = vec![7; 300_000];
    std::thread::scope(|scope| {
        scope.spawn(|| client.write_all(&body).unwrap());
        accepted.read_exact(&mut vec![0; body.len()]).unwrap();
    });
    accepted.write_all(&body[..50_000]).unwrap();
    client.read_exact(&mut body[..50_000]).unwrap();
    let mut records = Vec::new();
    let start = Instant::now();
    loop {
        // An acknowledgement may still be held back: once more then.
        let before = (segments(&client), segments(&accepted));
        records.extend(harness.drain());
        records.extend(harness.interim());
        let ends = (segments(&client), segments(&accepted));
        let packets = |inbound| {
            side(&records, inbound)
                .iter()
                .fold((0, 0), |sum, flow| (sum.0 + flow.packets_out, sum.1 + flow.packets_in))
        };
        if ends == before {
            assert_eq!((packets(false), packets(true)), ends);
            assert!(ends.0.0 > 2 && ends.1.0 > 2, "{ends:?}");
            return;
        }
        assert!(start.elapsed() < LIMIT, "{ends:?}");
    }
}

#[test]
fn tcp_packets_over_ipv4_are_the_segments() {
    tcp_packets_are_the_segments(Ipv4Addr::LOCALHOST.into());
}

#[test]
fn tcp_packets_over_ipv6_are_the_segments() {
    tcp_packets_are_the_segments(Ipv6Addr::LOCALHOST.into());
}

#[test]
fn a_refused_connect_is_a_failed_flow() {
    let mut harness = Harness::new();
    let closed = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.local_addr().unwrap()
    };
    assert!(TcpStream::connect(closed).is_err());
    let records = harness.wait(|records| !records.is_empty());
    assert_eq!(phases(&records), [PHASE_FAILED]);
    assert_eq!(records[0].peer_port, closed.port());
    assert_eq!(records[0].peer_address, mapped(closed.ip()));
    assert_eq!(sum(&records), Sum::default());
    assert_eq!(records[0].actor.tgid, std::process::id());
}

#[test]
fn interim_differences_add_up_to_the_whole() {
    let mut harness = Harness::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    let mut body = vec![0; 10_000];
    let mut all = Vec::new();
    for window in 0..5 {
        client.write_all(&body).unwrap();
        accepted.read_exact(&mut body).unwrap();
        harness.set_epoch(8 + window);
        all.extend(harness.drain());
        let interim = harness.interim();
        assert!(interim.iter().all(|record| record.header.epoch == 7 + window));
        assert!(interim.iter().all(|record| record.phase == PHASE_INTERIM));
        all.extend(interim);
        let payload = 10_000 * (u64::from(window) + 1);
        assert_eq!(sum(&side(&all, false)), Sum { bytes_out: payload, bytes_in: 0 });
        assert_eq!(sum(&side(&all, true)), Sum { bytes_out: 0, bytes_in: payload });
        assert!(harness.interim().is_empty(), "an idle flow says nothing");
    }
    drop((client, accepted));
    all.extend(harness.wait(|records| finals(records) == 2));
    assert_eq!(sum(&side(&all, false)), Sum { bytes_out: 50_000, bytes_in: 0 });
    assert_eq!(sum(&side(&all, true)), Sum { bytes_out: 0, bytes_in: 50_000 });
}

#[test]
fn an_accepted_connection_belongs_to_the_worker_that_uses_it() {
    let mut harness = Harness::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    // SAFETY: the child makes system calls only.
    let worker = unsafe { libc::fork() };
    assert!(worker >= 0);
    if worker == 0 {
        let mut byte = [0u8; 5];
        let fd = std::os::fd::AsRawFd::as_raw_fd(&accepted);
        // SAFETY: buffer and length belong together; `_exit` ends the child.
        unsafe {
            libc::read(fd, byte.as_mut_ptr().cast(), 5);
            libc::write(fd, byte.as_ptr().cast(), 5);
            libc::_exit(0);
        }
    }
    drop(accepted);
    client.write_all(b"hello").unwrap();
    let mut body = Vec::new();
    client.read_to_end(&mut body).unwrap();
    assert_eq!(body, b"hello");
    drop(client);
    // SAFETY: our own child; no status is asked for.
    unsafe { libc::waitpid(worker, std::ptr::null_mut(), 0) };
    let records = harness.wait(|records| finals(records) == 2);
    let inbound = side(&records, true);
    assert_eq!(phases(&inbound), [PHASE_START, PHASE_FINAL]);
    assert!(inbound.iter().all(|record| record.actor.tgid == worker as u32), "{inbound:#?}");
    assert_eq!(sum(&inbound), Sum { bytes_out: 5, bytes_in: 5 });
    assert!(side(&records, false).iter().all(|r| r.actor.tgid == std::process::id()));
}

#[test]
fn a_thousand_short_connections_are_all_there_once() {
    const CONNECTIONS: usize = 1000;
    let mut harness = Harness::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let server = listener.local_addr().unwrap();
    let mut all = Vec::new();
    for number in 0..CONNECTIONS {
        let mut client = TcpStream::connect(server).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        client.write_all(&vec![7; number % 100 + 1]).unwrap();
        drop(client);
        let mut body = Vec::new();
        accepted.read_to_end(&mut body).unwrap();
        if number % 100 == 0 {
            all.extend(harness.drain());
        }
    }
    let before = finals(&all);
    all.extend(harness.wait(|records| before + finals(records) == 2 * CONNECTIONS));
    let payload: u64 = (0..CONNECTIONS as u64).map(|number| number % 100 + 1).sum();
    assert_eq!(sum(&side(&all, false)), Sum { bytes_out: payload, bytes_in: 0 });
    assert_eq!(sum(&side(&all, true)), Sum { bytes_out: 0, bytes_in: payload });
    let mut keys: Vec<(u64, u8)> = all.iter().map(|r| (r.cookie, r.phase)).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 4 * CONNECTIONS, "one start and one end of each side");
    assert_eq!(all.len(), 4 * CONNECTIONS);
}

fn udp_is_exact(address: IpAddr, header: u64) {
    let mut harness = Harness::new();
    let server = UdpSocket::bind((address, 0)).unwrap();
    let client = UdpSocket::bind((address, 0)).unwrap();
    client.connect(server.local_addr().unwrap()).unwrap();
    let (local, peer) = (client.local_addr().unwrap(), server.local_addr().unwrap());
    let mut body = [0; 2000];
    for _ in 0..10 {
        client.send(&[1; 100]).unwrap();
        let (size, from) = server.recv_from(&mut body).unwrap();
        assert_eq!((size, from), (100, local));
    }
    server.send_to(&[1; 1000], local).unwrap();
    assert_eq!(client.recv(&mut body).unwrap(), 1000);
    drop((client, server));
    let records = harness.wait(|records| finals(records) == 2);
    let out = 10 * (100 + header);
    for (inbound, local, peer, bytes_out, bytes_in, packets) in [
        (false, local, peer, out, 1000 + header, (10, 1)),
        (true, peer, local, 1000 + header, out, (1, 10)),
    ] {
        let flow = side(&records, inbound);
        assert_eq!(phases(&flow), [PHASE_START, PHASE_FINAL], "{flow:#?}");
        assert_eq!(sum(&flow), Sum { bytes_out, bytes_in });
        let counted = flow
            .iter()
            .fold((0, 0), |sum, record| (sum.0 + record.packets_out, sum.1 + record.packets_in));
        assert_eq!(counted, packets);
        for record in &flow {
            assert_ends(record, local, peer);
            assert_eq!(record.actor.tgid, std::process::id());
            assert_eq!(record.rtt_us, u32::MAX);
        }
    }
}

#[test]
fn connected_udp_over_ipv4_counts_packets_with_headers() {
    udp_is_exact(Ipv4Addr::LOCALHOST.into(), 28);
}

#[test]
fn connected_udp_over_ipv6_counts_packets_with_headers() {
    udp_is_exact(Ipv6Addr::LOCALHOST.into(), 48);
}

#[test]
fn every_peer_of_an_unconnected_socket_has_a_flow() {
    const PEERS: u64 = 200;
    let mut harness = Harness::new();
    let peers: Vec<UdpSocket> =
        (0..PEERS).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = sender.local_addr().unwrap().port();
    for (number, peer) in peers.iter().enumerate() {
        for _ in 0..=number % 3 {
            sender.send_to(&[0; 72], peer.local_addr().unwrap()).unwrap();
        }
    }
    let mut records = harness.drain();
    let starts = |records: &[wire_flow]| {
        records.iter().filter(|r| r.local_port == port && r.phase == PHASE_START).count()
    };
    assert_eq!(starts(&records), PEERS as usize, "each peer is announced by its first packet");
    drop(sender);
    // What is idle for a whole window ends.
    for window in 0..3 {
        harness.set_epoch(8 + window);
        records.extend(harness.interim());
        records.extend(harness.drain());
    }
    assert!(harness.interim().is_empty(), "nothing is left in the table");
    let sent: Vec<wire_flow> = records.into_iter().filter(|r| r.local_port == port).collect();
    assert_eq!(starts(&sent), PEERS as usize);
    assert_eq!(finals(&sent), PEERS as usize);
    for (number, peer) in peers.iter().enumerate() {
        let peer = peer.local_addr().unwrap();
        let flow: Vec<_> = sent.iter().filter(|r| r.peer_port == peer.port()).collect();
        let packets = number as u64 % 3 + 1;
        assert_eq!(sum(flow.iter().copied()), Sum { bytes_out: 100 * packets, bytes_in: 0 });
        assert!(flow.iter().all(|r| r.inbound == 0 && r.peer_address == mapped(peer.ip())));
    }
}
