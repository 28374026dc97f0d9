//! What a denied tree can't do to others: the kernel also sends while one of its processes runs. Live:
//! root, own network namespaces.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Bench, Puppet, ok};
use hedgerow_event::Target;

#[test]
fn puppet() {
    common::play();
}

/// A puppet in a network namespace of its own, with a denied child that can put packets on its loopback.
fn with_denied_child(bench: &mut Bench) -> Puppet {
    let mut parent = Puppet::new();
    parent.tell("netns").unwrap();
    let child = parent.tell("fork").unwrap();
    parent.tell("sub wire").unwrap();
    let tgid = child.parse().unwrap();
    let start_boot_ns = bench.get().start_of(tgid).unwrap().unwrap();
    bench.deny(Target::TaskTree { tgid, start_boot_ns }, 60);
    parent
}

#[test]
fn a_listener_that_answers_while_a_denied_process_runs_goes_on_listening() {
    let mut bench = Bench::new("answers");
    let mut parent = with_denied_child(&mut bench);
    // As one is whose owner is inside of accept().
    let listener = parent.tell("lock 127.74.1.1:0").unwrap();
    let knock = format!("knock {listener}");
    assert_eq!(parent.tell(&knock), ok(), "it answers locked");
    for port in 4000..4032 {
        parent.tell(&format!("sub syn 127.74.1.9:{port} {listener}")).unwrap();
    }
    assert_eq!(parent.tell(&knock), ok());
    parent.tell("unlock").unwrap();
    assert_eq!(parent.tell(&knock), ok());
}

#[test]
fn what_the_kernel_itself_answers_while_a_denied_process_runs_is_sent() {
    let mut bench = Bench::new("kernel");
    let mut parent = with_denied_child(&mut bench);
    parent.tell("icmp 127.74.2.9:0").unwrap();
    for _ in 0..8 {
        parent.tell("sub echo 127.74.2.9:0 127.74.2.1:0").unwrap();
        assert_eq!(parent.tell("rawrecv"), ok());
    }
}
