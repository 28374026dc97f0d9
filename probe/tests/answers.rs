//! Names of peers from answers of name servers that pass by, live: needs root; every server stands in a
//! network namespace of the test's own, which goes with its thread.
#![allow(clippy::unwrap_used)]

mod harness;

use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::unix::fs::MetadataExt,
    process::Command,
    time::{Duration, Instant},
};

use harness::Sensor;
use hedgerow_probe::{Control, Options};

const LIMIT: Duration = Duration::from_secs(20);
const PORT: u16 = 53;

/// Moves the calling thread into a new network namespace and gives its inode.
fn enter_namespace() -> u32 {
    // SAFETY: no memory is passed.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "needs root");
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
    assert!(up.success());
    fs::metadata("/proc/thread-self/ns/net").unwrap().ino() as u32
}

fn labels(name: &str) -> Vec<u8> {
    let label = |part: &str| [&[part.len() as u8], part.as_bytes()].concat();
    let mut bytes: Vec<u8> = name.split('.').flat_map(label).collect();
    bytes.push(0);
    bytes
}

/// That `name` is an alias of another, which has `address`; written by hand, as RFC 1035 has it.
fn says(name: &str, address: IpAddr) -> Vec<u8> {
    let (kind, octets) = match address {
        IpAddr::V4(v4) => (1_u16, v4.octets().to_vec()),
        IpAddr::V6(v6) => (28, v6.octets().to_vec()),
    };
    let record = |owner: &[u8], kind: u16, data: &[u8]| {
        let fixed = [&kind.to_be_bytes()[..], &[0, 1], &60_u32.to_be_bytes()].concat();
        [owner, &fixed, &(data.len() as u16).to_be_bytes(), data].concat()
    };
    let alias = labels("edge.cdn.example");
    [
        &[0, 7, 0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0][..],
        &labels(name),
        &kind.to_be_bytes(),
        &[0, 1],
        // The name that was asked for, 12 bytes from the beginning.
        &record(&[0xc0, 12], 5, &alias),
        &record(&alias, kind, &octets),
    ]
    .concat()
}

/// Sends what a server on port 53 of this namespace answers; `from` another port it is no answer.
fn answered(from: SocketAddr, payload: &[u8]) {
    let server = UdpSocket::bind(from).unwrap();
    let client = UdpSocket::bind((from.ip(), 0)).unwrap();
    server.send_to(payload, client.local_addr().unwrap()).unwrap();
    let mut bytes = [0; 2048];
    assert_eq!(client.recv(&mut bytes).unwrap(), payload.len());
}

fn wait(control: &Control, what: &str, done: impl Fn(&Control) -> bool) {
    let start = Instant::now();
    while !done(control) {
        assert!(start.elapsed() < LIMIT, "no {what} in {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_answer_names_a_peer_in_its_own_namespace_only() {
    let sensor = Sensor::filtered(Options { observe_own: true, ..Options::default() }, |_| false);
    let control = sensor.control();
    let (four, six) = (IpAddr::from([192, 0, 2, 7]), "2001:db8::7".parse().unwrap());
    let name = |netns, address| control.name_of(netns, address);
    let netns = enter_namespace();
    let refused = control.stats().unwrap().answers_refused;
    let v4 = SocketAddr::from(([127, 0, 0, 1], PORT));
    answered((v4.ip(), 5353).into(), &says("wrong.port.example", four));
    let mut long = says("long.example", six);
    long.resize(1233, 0);
    answered(v4, &long);
    answered(v4, &says("c2.example", four));
    answered("[::1]:53".parse().unwrap(), &says("Six.Example", six));
    wait(&control, "name", |_| name(netns, six).is_some());
    assert_eq!(name(netns, four).as_deref(), Some("c2.example"));
    assert_eq!(name(netns, six).as_deref(), Some("six.example"));
    // Others on the host may have had such a one, too.
    assert!(control.stats().unwrap().answers_refused > refused, "it was too long");

    // Who answers in another namespace names nobody's peers here.
    let other = enter_namespace();
    assert_ne!(other, netns);
    answered(v4, &says("forged.example", four));
    wait(&control, "name", |_| name(other, four).is_some());
    assert_eq!(name(other, four).as_deref(), Some("forged.example"));
    assert_eq!(name(netns, four).as_deref(), Some("c2.example"));

    // A flood is held back and counted, and the sensor goes on.
    let server = UdpSocket::bind(v4).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let payload = says("flood.example", four);
    for _ in 0..5_000 {
        server.send_to(&payload, client.local_addr().unwrap()).unwrap();
    }
    wait(&control, "refusal", |control| control.stats().unwrap().answers_refused > 1_000);
    sensor.stop();
}
