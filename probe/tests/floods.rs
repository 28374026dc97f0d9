//! Over veth into a namespace with a process in it: floods show in the host counters, and bytes are
//! summed up as both interfaces count them. Needs root.
#![allow(clippy::unwrap_used)]

mod harness;

use std::{
    fs::File,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    process::{Child, Command},
    time::Duration,
};

use harness::Sensor;
use hedgerow_event::HostCounters;
use hedgerow_probe::{
    Options, Shed,
    host_counters::{Device, DeviceReader, HostCounterReader},
    usage::{Usage, Way},
};

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

const USER: u32 = 4242;

/// Sockets of the calling thread are this user's from here on.
fn act_as(uid: u32) {
    // SAFETY: no memory is passed.
    unsafe { libc::setfsuid(uid) };
}

/// Has an interface of this namespace leave it to nobody to cut large TCP packets.
fn without_tso(name: &str) {
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    const ETHTOOL_STSO: u32 = 0x1f;
    const SIOCETHTOOL: u64 = 0x8946;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let mut value = Value { command: ETHTOOL_STSO, data: 0 };
    // SAFETY: all zeros are a request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: request and value live as long as the call.
    assert_eq!(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) }, 0);
}

/// A connection into the victim's namespace, `up` or down; the other end's user is root.
fn tcp(victim: &Victim, address: IpAddr, bytes: usize, up: bool) {
    let listener = victim.inside(|| TcpListener::bind((address, PORT)).unwrap());
    std::thread::scope(|scope| {
        let accepted = scope.spawn(move || exchange(listener.accept().unwrap().0, bytes, !up));
        act_as(USER);
        let stream = TcpStream::connect((address, PORT)).unwrap();
        act_as(0);
        exchange(stream, bytes, up);
        accepted.join().unwrap();
    });
}

fn exchange(mut stream: TcpStream, bytes: usize, sends: bool) {
    let mut part = vec![7; 256 << 10];
    if sends {
        (0..bytes / part.len()).for_each(|_| stream.write_all(&part).unwrap());
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    }
    while stream.read(&mut part).unwrap() > 0 {}
}

/// Datagrams into the victim's namespace, some of which are cut into fragments.
fn datagrams(victim: &Victim, address: IpAddr) {
    let server = victim.inside(|| UdpSocket::bind((address, PORT)).unwrap());
    let client = UdpSocket::bind(SocketAddr::new(unspecified(address), 0)).unwrap();
    server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut bytes = [0; 9000];
    for (size, times) in [(1200, 1000), (100, 500), (8000, 300)] {
        for _ in 0..times {
            client.send_to(&bytes[..size], (address, PORT)).unwrap();
            assert_eq!(server.recv(&mut bytes).unwrap(), size);
        }
    }
}

fn unspecified(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { "::".parse().unwrap() }
}

/// What has passed until now, once its windows have closed.
fn passed(sensor: &Sensor) -> Vec<Usage> {
    let closes = sensor.seen(|seen| seen.closes.len());
    let mut all = Vec::new();
    // Twice each half, should one close be missed here.
    for more in 1..=4 {
        sensor.wait("close", |seen| seen.closes.len() >= closes + more);
        all.extend(sensor.control().take_usage().unwrap());
    }
    all
}

fn sum(usages: &[Usage], netns: u32, way: fn(&Usage) -> Way) -> Way {
    let of = usages.iter().filter(|usage| usage.netns == netns).map(way);
    of.fold(Way::default(), |sum, way| Way {
        bytes: sum.bytes + way.bytes,
        extra: sum.extra + way.extra,
        segments: sum.segments + way.segments,
    })
}

fn device(netns: u32, name: &str) -> Device {
    // Some process has to live there: the calling thread's has others elsewhere.
    let devices = DeviceReader::default().read();
    devices.into_iter().find(|one| one.netns == netns && one.name == name).unwrap()
}

/// Within a hundredth.
fn is_as_counted(what: &str, told: u64, counted: u64) {
    println!("{what}: {told} of {counted}");
    assert!(told.abs_diff(counted) < counted / 100, "{what}: {told} of {counted}");
}

#[test]
fn bytes_are_summed_up_as_interfaces_count_them_with_whatever_cuts_large_packets() {
    let victim = Victim::new();
    let here = std::fs::metadata("/proc/thread-self/ns/net").unwrap().ino() as u32;
    let there = std::fs::metadata(format!("/proc/{}/ns/net", victim.0.id())).unwrap().ino() as u32;
    let stays = Victim(Command::new("sleep").arg("120").spawn().unwrap());
    ip("-6 address add fd99::1/64 dev v0 nodad");
    ip("route add 10.128.0.0/12 via 10.99.0.2");
    victim.inside(|| ip("-6 address add fd99::2/64 dev v1 nodad"));
    let (v4, v6) = (IpAddr::from(TARGET), "fd99::2".parse().unwrap());
    let options = Options { usage: true, calls: false, observe_own: true, ..Options::default() };
    let sensor = Sensor::filtered(Options { window: Duration::from_secs(1), ..options }, |_| false);
    for cut in [false, true] {
        if cut {
            without_tso("v0");
            victim.inside(|| without_tso("v1"));
        }
        passed(&sensor);
        let before = [device(here, "v0"), device(there, "v1")];
        tcp(&victim, v4, 20 << 20, true);
        tcp(&victim, v6, 5 << 20, false);
        datagrams(&victim, v4);
        datagrams(&victim, v6);
        let usages = passed(&sensor);
        let after = [device(here, "v0"), device(there, "v1")];
        for (before, after) in before.iter().zip(&after) {
            let out = sum(&usages, after.netns, |usage| usage.sent);
            let sent = after.sent.bytes - before.sent.bytes;
            let what = format!("{} sent, cut: {cut}, {out:?}", after.name);
            is_as_counted(&what, out.bytes + if cut { out.extra } else { 0 }, sent);
            assert!(out.extra > sent / 50, "{what}");
            let packets = after.sent.packets - before.sent.packets;
            // Some are dropped in between.
            assert_eq!(packets * 100 >= out.segments * 98, cut, "{what}, {packets} packets");
            let came = sum(&usages, after.netns, |usage| usage.received);
            let received = after.received.bytes - before.received.bytes;
            is_as_counted(&format!("{} received, cut: {cut}", after.name), came.bytes, received);
        }
        let user: Vec<Usage> = usages.iter().filter(|one| one.uid == USER).cloned().collect();
        assert!(sum(&user, here, |usage| usage.sent).bytes > 20 << 20);
        let path = std::env::current_exe().unwrap();
        let own = |one: &Usage| path == std::path::Path::new(&*one.subject.program.path);
        assert!(user.iter().all(|one| own(one) && one.device == "v0"), "{user:#?}");
        let peers: Vec<IpAddr> = user.iter().filter_map(|one| one.peer).collect();
        assert!(peers.contains(&v4) && peers.contains(&v6), "{peers:?}");
    }
    flood_of_peers(&sensor, here);
    sensor.control().shed(Shed { usage: true, ..Shed::default() });
    tcp(&victim, v4, 1 << 20, true);
    let usages = passed(&sensor);
    assert!(usages.iter().all(|one| one.uid != USER), "nothing while it is shed: {usages:#?}");
    drop((sensor.stop(), stays));
}

/// More peers than there is room for: none is lost, some go without a name.
fn flood_of_peers(sensor: &Sensor, here: u32) {
    passed(sensor);
    let before = device(here, "v0");
    let client = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    for number in 0..20_000_u32 {
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 128, 0, 0).to_bits() + number);
        client.send_to(&[0; 100], (address, PORT)).unwrap();
    }
    let usages = passed(sensor);
    let sent = device(here, "v0").sent.bytes - before.sent.bytes;
    is_as_counted("of many peers", sum(&usages, here, |usage| usage.sent).bytes, sent);
    let named = usages.iter().filter(|usage| usage.peer.is_some()).count();
    assert!((10_000..=2 * 16_384).contains(&named), "{named} peers");
    println!("{named} peers named, {} refused", sensor.control().stats().unwrap().usage_refused);
}
