//! Ways out of a denial that attackers know. Live: root, own cgroups and namespaces, loopback.
#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, path::PathBuf};

use common::{Bench, Cgroup, EPERM, Puppet, Sink, eventually, ok, operator, peer, scoped_peer};
use hedgerow_event::Target;
use hedgerow_responder::Refusal;

#[test]
fn puppet() {
    common::play();
}

fn tree(bench: &mut Bench, puppet: &Puppet) -> Target {
    let start_boot_ns = bench.get().start_of(puppet.pid()).unwrap().unwrap();
    Target::TaskTree { tgid: puppet.pid(), start_boot_ns }
}

/// Where an orphan says what its connect came to; it ends once the file is gone.
struct Orphan(PathBuf);

impl Orphan {
    fn of(puppet: &mut Puppet, generations: u32, bench: &Bench, sink: &Sink) -> Self {
        let file = bench.directory.path().join(format!("orphan-{generations}"));
        fs::write(&file, "").unwrap();
        let orphan = Self(file);
        let command = format!("orphan {generations} {} {}", sink.address, orphan.0.display());
        puppet.tell(&command).unwrap();
        orphan.eventually_says(0);
        orphan
    }
    fn eventually_says(&self, errno: i32) {
        eventually(&format!("errno {errno}"), || {
            fs::read_to_string(&self.0).unwrap() == format!("{errno:03}")
        });
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

#[test]
fn who_left_the_tree_by_forking_twice_is_inside_all_the_same() {
    let mut bench = Bench::new("orphan");
    let sink = Sink::tcp("127.71.1.1");
    let (mut puppet, mut bystander) = (Puppet::new(), Puppet::new());
    let spared = Orphan::of(&mut bystander, 3, &bench, &sink);
    // More generations than ancestors are remembered of any process.
    let orphans = [2, 40].map(|generations| Orphan::of(&mut puppet, generations, &bench, &sink));
    let target = tree(&mut bench, &puppet);
    bench.deny(target, 60);
    for orphan in &orphans {
        orphan.eventually_says(EPERM);
    }
    spared.eventually_says(0);
}

#[test]
fn a_process_that_has_exited_is_denied_in_what_it_forked_and_refused_without() {
    let mut bench = Bench::new("exited");
    let sink = Sink::tcp("127.71.2.1");
    let (mut puppet, childless) = (Puppet::new(), Puppet::new());
    let orphan = Orphan::of(&mut puppet, 2, &bench, &sink);
    let (target, nobody) = (tree(&mut bench, &puppet), tree(&mut bench, &childless));
    drop(puppet);
    drop(childless);
    bench.deny(target, 60);
    orphan.eventually_says(EPERM);
    let refused = bench.get().deny(operator(nobody, 60));
    assert!(matches!(refused, Err(Refusal::Gone { .. })), "{refused:?}");
    assert_eq!(bench.get().entries().len(), 1);
}

#[test]
fn subflows_of_mptcp_carry_nothing_once_their_tree_or_peer_is_denied() {
    for by_peer in [false, true] {
        let mut bench = Bench::new("mptcp");
        let Some(sink) = Sink::mptcp("127.71.3.1") else {
            println!("no MPTCP in this kernel");
            return;
        };
        let mut puppet = Puppet::new();
        let connect = format!("mptcp {}", sink.address);
        puppet.tell(&connect).unwrap();
        puppet.tell("write before").unwrap();
        eventually("the bytes before arrive", || sink.bytes() == 6);
        let tree = tree(&mut bench, &puppet);
        let target = if by_peer { peer("127.71.3.1", 32) } else { tree };
        let entry = bench.deny(target, 60);
        assert!(entry.reason.contains("packets are dropped"), "{}", entry.reason);
        for _ in 0..3 {
            let _ = puppet.tell("write after");
            assert!(puppet.tell("read").is_err(), "nothing answers");
        }
        assert_eq!(sink.bytes(), 6);
        assert_eq!(puppet.tell(&connect), Err(EPERM));
    }
}

#[test]
fn a_denied_tree_opens_no_socket_of_any_internet_protocol() {
    let mut bench = Bench::new("protocols");
    let sink = Sink::tcp("127.71.4.1");
    let mut puppet = Puppet::new();
    let (stream, datagram, raw) = (libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW);
    let mut open = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        for (kind, protocol) in [
            (stream, 0),
            (datagram, 0),
            (stream, libc::IPPROTO_MPTCP),
            (stream, libc::IPPROTO_SCTP),
            (raw, libc::IPPROTO_RAW),
            (datagram, libc::IPPROTO_UDPLITE),
        ] {
            let create = format!("create {family} {kind} {protocol}");
            // What the kernel lacks can't be a way out.
            if puppet.tell(&create).is_ok() {
                open.push(create);
            }
        }
    }
    assert!(open.len() >= 4, "{open:?}");
    let target = tree(&mut bench, &puppet);
    bench.deny(target, 60);
    for create in open {
        assert_eq!(puppet.tell(&create), Err(EPERM), "{create}");
    }
    assert_eq!(puppet.tell(&format!("fastopen {}", sink.address)), Err(EPERM));
    assert_eq!(puppet.tell("create 1 1 0"), ok(), "local sockets are none of the network");
}

#[test]
fn other_spellings_of_an_address_are_that_address() {
    let mut bench = Bench::new("spelling");
    let cgroup = Cgroup::new("spelling");
    let mut puppet = Puppet::inside(&cgroup);
    let (v4, v6) = (Sink::tcp("127.0.0.1"), Sink::tcp("::1"));
    let open = Sink::tcp("127.71.5.1");
    for address in ["127.0.0.1", "::1", "64:ff9b::7f47:501"] {
        let length = if address.contains(':') { 128 } else { 32 };
        bench.deny(scoped_peer(address, length, cgroup.id()), 60);
    }
    for (sink, addresses) in [
        (&v4, &["0.0.0.0", "[::ffff:127.0.0.1]", "[::ffff:0.0.0.0]"][..]),
        (&v6, &["[::]"]),
        (&open, &["127.71.5.1", "[::ffff:127.71.5.1]", "[64:ff9b::7f47:501]"]),
    ] {
        for address in addresses {
            let to = format!("{address}:{}", sink.address.port());
            assert_eq!(puppet.tell(&format!("connect {to}")), Err(EPERM), "{to}");
            assert_eq!(puppet.tell(&format!("send {to}")), Err(EPERM), "{to}");
        }
    }
    drop(puppet);
}

#[test]
fn a_listener_that_a_denied_tree_holds_accepts_no_more_also_once_its_maker_has_exited() {
    let mut bench = Bench::new("listener");
    let (mut puppet, mut outside) = (Puppet::new(), Puppet::new());
    // Its maker is in the middle: it forks who inherits the listener, and ends.
    let listener = puppet.tell("heir 127.71.6.1").unwrap();
    let connect = format!("knock {listener}");
    assert_eq!(outside.tell(&connect), ok());
    let target = tree(&mut bench, &puppet);
    bench.deny(target, 60);
    assert!(outside.tell(&connect).is_err());
}
