//! Denials by effect, live: root, own cgroups, loopback.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Bench, Puppet, Sink, eventually, peer};

const EPERM: i32 = libc::EPERM;

#[test]
fn puppet() {
    common::play();
}

#[test]
fn a_denied_peer_refuses_connect_until_the_entry_expires_in_the_kernel() {
    let mut bench = Bench::new("peer");
    let mut puppet = Puppet::new();
    let (denied, other) = (Sink::tcp("127.66.1.1"), Sink::tcp("127.66.1.2"));
    puppet.tell(&format!("connect {}", denied.address)).unwrap();
    puppet.tell("drop").unwrap();
    let entry = bench.deny(peer("127.66.1.1", 32), 1);
    assert_eq!(entry.sockets_destroyed, 0);
    assert_eq!(puppet.tell(&format!("connect {}", denied.address)), Err(EPERM));
    assert_eq!(puppet.tell(&format!("connect {}", other.address)), Ok(String::new()));
    // Nobody ticks: the programs themselves let it through again.
    eventually("the entry expires", || puppet.tell(&format!("connect {}", denied.address)).is_ok());
}
