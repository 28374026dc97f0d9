//! Denials by effect, live: root, own cgroups and namespaces, loopback.
#![allow(clippy::unwrap_used)]

mod common;

use common::{
    Bench, Cgroup, EPERM, Puppet, Sink, copy_of_self, eventually, ok, operator, peer, scoped_peer,
    steal,
};
use hedgerow_event::{Level, Target};
use hedgerow_responder::{
    By, Refusal,
    hooks::{Key, Verb},
};

#[test]
fn puppet() {
    common::play();
}

fn tree(bench: &mut Bench, puppet: &Puppet) -> Target {
    let start_boot_ns = bench.get().start_of(puppet.pid()).unwrap().unwrap();
    Target::TaskTree { tgid: puppet.pid(), start_boot_ns }
}

#[test]
fn a_denied_peer_refuses_connect_until_the_entry_expires_in_the_kernel() {
    let mut bench = Bench::new("peer");
    let mut puppet = Puppet::new();
    let (denied, other) = (Sink::tcp("127.66.1.1"), Sink::tcp("127.66.1.2"));
    puppet.tell(&format!("connect {}", denied.address)).unwrap();
    puppet.tell("drop").unwrap();
    let entry = bench.deny(peer("127.66.1.1", 32), 5);
    assert_eq!(entry.level, Level::PreventsNetwork);
    assert_eq!(puppet.tell(&format!("connect {}", denied.address)), Err(EPERM));
    assert_eq!(puppet.tell(&format!("connect {}", other.address)), ok());
    // Nobody ticks: the programs themselves let it through again.
    eventually("the entry expires", || puppet.tell(&format!("connect {}", denied.address)).is_ok());
}

#[test]
fn a_denied_peer_refuses_datagrams_of_both_families() {
    let mut bench = Bench::new("sendmsg");
    let cgroup = Cgroup::new("sendmsg");
    let mut puppet = Puppet::inside(&cgroup);
    let (v4, v6) = (Sink::udp("127.66.2.1"), Sink::udp("::1"));
    for sink in [&v4, &v6] {
        assert_eq!(puppet.tell(&format!("send {}", sink.address)), ok());
    }
    bench.deny(scoped_peer("127.66.2.1", 32, cgroup.id()), 60);
    bench.deny(scoped_peer("::1", 128, cgroup.id()), 60);
    for sink in [&v4, &v6] {
        assert_eq!(puppet.tell(&format!("send {}", sink.address)), Err(EPERM));
        assert_eq!(puppet.tell(&format!("udp {}", sink.address)), Err(EPERM));
    }
    let mapped = format!("send [::ffff:127.66.2.1]:{}", v4.address.port());
    assert_eq!(puppet.tell(&mapped), Err(EPERM));
    let tcp6 = Sink::tcp("::1");
    assert_eq!(puppet.tell(&format!("connect {}", tcp6.address)), Err(EPERM));
    // Other cgroups are not concerned.
    let mut other = Puppet::new();
    assert_eq!(other.tell(&format!("send {}", v4.address)), ok());
}

#[test]
fn an_established_shell_is_cut_and_no_byte_leaves_afterwards() {
    let mut bench = Bench::new("shell");
    let sink = Sink::tcp("127.66.3.1");
    let mut puppet = Puppet::new();
    puppet.tell(&format!("connect {}", sink.address)).unwrap();
    puppet.tell("write before").unwrap();
    eventually("the bytes before arrive", || sink.bytes() == 6);
    let entry = bench.deny(peer("127.66.3.1", 32), 60);
    assert_eq!(entry.sockets_destroyed, 1);
    assert!(puppet.tell("write after").is_err());
    let child = puppet.tell("fork");
    assert!(child.is_ok());
    puppet.tell("sub take").unwrap();
    assert!(puppet.tell("sub write after").is_err());
    assert_eq!(sink.bytes(), 6);
}

#[test]
fn a_connection_inside_another_network_namespace_is_cut() {
    let mut bench = Bench::new("netns");
    let cgroup = Cgroup::new("netns");
    let mut puppet = Puppet::inside(&cgroup);
    puppet.tell("netns").unwrap();
    let listener = puppet.tell("listen 127.0.0.1").unwrap();
    puppet.tell(&format!("connect {listener}")).unwrap();
    puppet.tell("write before").unwrap();
    let entry = bench.deny(scoped_peer("127.0.0.1", 32, cgroup.id()), 60);
    assert!((1..=2).contains(&entry.sockets_destroyed), "one end takes the other along");
    assert!(puppet.tell("write after").is_err());
    assert_eq!(puppet.tell(&format!("connect {listener}")), Err(EPERM));
}

#[test]
fn a_connected_udp_socket_is_cut() {
    let mut bench = Bench::new("udp");
    let sink = Sink::udp("127.66.4.1");
    let mut puppet = Puppet::new();
    puppet.tell(&format!("udp {}", sink.address)).unwrap();
    puppet.tell("usend before").unwrap();
    eventually("the datagram before arrives", || sink.bytes() == 6);
    let entry = bench.deny(peer("127.66.4.1", 32), 60);
    assert_eq!(entry.sockets_destroyed, 1);
    for _ in 0..3 {
        assert!(puppet.tell("usend after").is_err());
    }
    assert_eq!(sink.bytes(), 6);
}

#[test]
fn a_socket_that_was_refused_one_peer_sends_to_others() {
    let mut bench = Bench::new("others");
    let [denied, other] = ["127.66.9.1", "127.66.9.2"].map(Sink::udp);
    let (mut unconnected, mut connected) = (Puppet::new(), Puppet::new());
    unconnected.tell("socket").unwrap();
    connected.tell(&format!("udp {}", denied.address)).unwrap();
    let entry = bench.deny(peer("127.66.9.1", 32), 60);
    assert_eq!(entry.sockets_destroyed, 1);
    for _ in 0..2 {
        assert_eq!(unconnected.tell(&format!("sendto {}", denied.address)), Err(EPERM));
        assert_eq!(unconnected.tell(&format!("sendto {}", other.address)), ok());
    }
    assert!(connected.tell("usend cut").is_err());
    assert_eq!(connected.tell(&format!("reconnect {}", denied.address)), Err(EPERM));
    assert_eq!(connected.tell(&format!("reconnect {}", other.address)), ok());
    // That it was cut is told once more.
    eventually("it sends to another", || connected.tell("usend others").is_ok());
    eventually("all arrive", || other.bytes() == 8 + 8 + 6);
    assert_eq!(denied.bytes(), 0);
}

#[test]
fn a_task_tree_is_refused_every_verb_with_all_its_descendants() {
    let mut bench = Bench::new("tree");
    let sink = Sink::tcp("127.66.5.1");
    let udp = Sink::udp("127.66.5.1");
    let (mut puppet, mut bystander) = (Puppet::new(), Puppet::new());
    puppet.tell("socket").unwrap();
    puppet.tell("fork").unwrap();
    puppet.tell("sub fork").unwrap();
    let target = tree(&mut bench, &puppet);
    bench.deny(target, 60);
    let connect = format!("connect {}", sink.address);
    assert_eq!(puppet.tell(&connect), Err(EPERM));
    assert_eq!(puppet.tell("bindit 127.0.0.1:0"), Err(EPERM));
    assert_eq!(puppet.tell(&format!("sendto {}", udp.address)), Err(EPERM));
    // Descendants from before, and those that are forked and run another image afterwards.
    assert_eq!(puppet.tell(&format!("sub {connect}")), Err(EPERM));
    assert_eq!(puppet.tell(&format!("sub sub {connect}")), Err(EPERM));
    match bench.get().hooks().level(Key::TaskTree, Verb::Exec) {
        Level::Prevents => assert_eq!(puppet.tell("fork"), Err(EPERM), "no other image"),
        _ => drop(puppet.tell("fork").unwrap()),
    }
    assert_eq!(puppet.tell(&format!("sub {connect}")), Err(EPERM));
    assert_eq!(puppet.tell("sub bind 127.0.0.1:0"), Err(EPERM));
    assert_eq!(bystander.tell(&connect), ok());
    assert_eq!(udp.bytes(), 0);
}

#[test]
fn a_denied_socket_stays_denied_in_other_hands() {
    let mut bench = Bench::new("handed");
    let udp = Sink::udp("127.66.6.1");
    let mut puppet = Puppet::new();
    puppet.tell("socket").unwrap();
    let fd = puppet.tell("fd").unwrap().parse().unwrap();
    let target = tree(&mut bench, &puppet);
    let ours = steal(puppet.pid(), fd);
    ours.send_to(b"1", udp.address).unwrap();
    bench.deny(target, 60);
    let refused = ours.send_to(b"22", udp.address).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(EPERM));
    drop(puppet);
    let refused = ours.send_to(b"22", udp.address).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(EPERM), "its maker is dead, the mark stays");
    eventually("the first datagram arrives", || udp.bytes() == 1);
}

#[test]
fn a_denied_cgroup_is_not_escaped_into_a_child_cgroup() {
    let mut bench = Bench::new("cgroup");
    let cgroup = Cgroup::new("cgroup");
    let inner = cgroup.child("inner");
    let innermost = inner.child("innermost");
    let sink = Sink::tcp("127.66.7.1");
    let mut puppet = Puppet::inside(&cgroup);
    let connect = format!("connect {}", sink.address);
    assert_eq!(puppet.tell(&connect), ok());
    bench.deny(Target::Cgroup { cgroup_id: cgroup.id(), path: "/test".into() }, 60);
    assert!(puppet.tell("write cut").is_err());
    assert_eq!(puppet.tell(&connect), Err(EPERM));
    puppet.tell(&format!("cgroup {}", innermost.0.display())).unwrap();
    assert_eq!(puppet.tell(&connect), Err(EPERM));
    assert_eq!(puppet.tell("bind 127.0.0.1:0"), Err(EPERM));
    assert_eq!(Puppet::new().tell(&connect), ok());
    drop(puppet);
}

#[test]
fn a_denied_program_never_runs_in_its_workload_and_does_elsewhere() {
    let mut bench = Bench::new("program");
    let cgroup = Cgroup::new("program");
    let inner = cgroup.child("inner");
    let copy = copy_of_self(bench.directory.path());
    let running = Puppet::start(&copy);
    let (_, file) = bench.get().program_of(running.pid()).unwrap().unwrap();
    let mut puppet = Puppet::inside(&inner);
    let exec = format!("exec {}", copy.display());
    assert_eq!(puppet.tell(&exec).unwrap(), "exit 0");
    let path = copy.to_string_lossy().into();
    let entry =
        bench.deny(Target::Program { cgroup_id: cgroup.id(), file, path, network: false }, 60);
    println!("exec of a denied program: {:?}", entry.level);
    // Where BPF LSM works the call fails, elsewhere the image dies; the entry says which.
    let refused = match entry.level {
        Level::Prevents => Err(EPERM),
        Level::KillsBeforeFirstInstruction => Ok("signal 9".to_owned()),
        other => panic!("{other:?}"),
    };
    assert_eq!(puppet.tell(&exec), refused);
    let myself = format!("exec {}", std::env::current_exe().unwrap().display());
    assert_eq!(puppet.tell(&myself).unwrap(), "exit 0", "another program");
    assert_eq!(Puppet::new().tell(&exec).unwrap(), "exit 0", "another workload");
    // A hard link is the same program.
    let link = bench.directory.path().join("link");
    std::fs::hard_link(&copy, &link).unwrap();
    assert_eq!(puppet.tell(&format!("exec {}", link.display())), refused);
}

#[test]
fn a_peer_for_one_program_leaves_the_others_alone() {
    let mut bench = Bench::new("narrow");
    let cgroup = Cgroup::new("narrow");
    let sink = Sink::tcp("127.66.8.1");
    let connect = format!("connect {}", sink.address);
    let copy = copy_of_self(bench.directory.path());
    let inner = cgroup.child("inner");
    let mut offender = Puppet::start(&copy);
    offender.tell(&format!("cgroup {}", inner.0.display())).unwrap();
    let mut other = Puppet::inside(&cgroup);
    let mut elsewhere = Puppet::start(&copy);
    let (program_id, _) = bench.get().program_of(offender.pid()).unwrap().unwrap();
    offender.tell(&connect).unwrap();
    other.tell(&connect).unwrap();
    let address = sink.address.ip();
    let target = Target::Peer { address, prefix_length: 32, cgroup_id: cgroup.id(), program_id };
    assert_eq!(bench.deny(target, 60).sockets_destroyed, 1);
    assert!(offender.tell("write cut").is_err());
    assert_eq!(offender.tell(&connect), Err(EPERM));
    assert_eq!(other.tell("write on"), ok());
    assert_eq!(other.tell(&connect), ok());
    assert_eq!(elsewhere.tell(&connect), ok());
    drop(offender);
}

fn as_user(uid: u32) -> Puppet {
    let mut puppet = Puppet::new();
    puppet.tell(&format!("user {uid}")).unwrap();
    puppet
}

#[test]
fn a_denied_user_is_refused_wherever_he_runs_and_what_he_made_is_cut() {
    let mut bench = Bench::new("user");
    let (sink, datagrams) = (Sink::tcp("127.66.20.1"), Sink::udp("127.66.20.2"));
    let connect = format!("connect {}", sink.address);
    let (mut user, mut other) = (as_user(4242), as_user(4243));
    for puppet in [&mut user, &mut other] {
        puppet.tell(&connect).unwrap();
        puppet.tell("write before").unwrap();
    }
    eventually("what was sent before arrives", || sink.bytes() == 12);
    let entry = bench.deny(Target::User { uid: 4242 }, 60);
    assert_eq!(entry.level, Level::PreventsNetwork);
    assert!(entry.sockets_destroyed >= 1, "{entry:?}");
    let _ = user.tell("write after");
    other.tell("write after").unwrap();
    eventually("the other user's goes on", || sink.bytes() == 17);
    // A cgroup that nobody knew, a child, and who begins later.
    let cgroup = Cgroup::new("user");
    user.tell(&format!("cgroup {}", cgroup.0.display())).unwrap();
    let mut later = as_user(4242);
    user.tell("fork").unwrap();
    let send = format!("send {}", datagrams.address);
    for command in [connect.as_str(), send.as_str(), "bind 127.0.0.1:0", "bind [::1]:0"] {
        assert_eq!(user.tell(command), Err(EPERM), "{command}");
        assert_eq!(user.tell(&format!("sub {command}")), Err(EPERM), "{command}, a child");
        assert_eq!(later.tell(command), Err(EPERM), "{command}, later");
    }
    assert_eq!(sink.bytes(), 17);
    assert_eq!(other.tell(&connect), ok());
    let uid = bench.get().entries()[0].uid.clone();
    bench.get().remove(&uid, "a test").unwrap().unwrap();
    assert_eq!(user.tell(&connect), ok());
    drop(user);
}

#[test]
fn nobody_whom_the_host_stands_on_is_refused_by_user() {
    let mut bench = Bench::new("users");
    let mut refused = |uid| {
        let refused = bench.get().deny(operator(Target::User { uid }, 60));
        assert!(matches!(refused, Err(Refusal::Protected(_))), "{uid}: {refused:?}");
    };
    for uid in [0, 1, 33, 999, 61_184, 65_519, 65_534, 65_535, u32::MAX] {
        refused(uid);
    }
    let by = By { uid: 0, pid: 1, login_uid: Some(4242) };
    bench.get().ordered_by(Some(by));
    let himself = bench.get().deny(operator(Target::User { uid: 4242 }, 60));
    assert!(himself.unwrap_err().to_string().contains("who orders it"));
    bench.get().ordered_by(None);
    let automatic = hedgerow_responder::Request {
        rule: hedgerow_event::Rule::GraveDeed,
        ..operator(Target::User { uid: 4242 }, 60)
    };
    assert!(bench.get().deny(automatic).is_err(), "no finding denies a user");
    // Who is who was not read.
    bench.responder = None;
    bench.responder = Some(hedgerow_responder::Responder::start(bench.options.clone()).unwrap());
    assert!(bench.get().deny(operator(Target::User { uid: 4242 }, 60)).is_err());
    assert!(bench.get().entries().is_empty());
}

#[test]
fn a_program_that_is_refused_the_network_runs_and_calls_nobody() {
    let mut bench = Bench::new("offline");
    let sink = Sink::tcp("127.66.21.1");
    let connect = format!("connect {}", sink.address);
    let copy = copy_of_self(bench.directory.path());
    let mut running = Puppet::start(&copy);
    running.tell(&connect).unwrap();
    let (_, file) = bench.get().program_of(running.pid()).unwrap().unwrap();
    let path: std::sync::Arc<str> = copy.to_string_lossy().into();
    let whole = |file, network| Target::Program { cgroup_id: 0, file, path: path.clone(), network };
    assert!(
        bench.get().deny(operator(whole(file, false), 60)).is_err(),
        "it would be killed everywhere"
    );
    let (_, own) = bench.get().program_of(std::process::id()).unwrap().unwrap();
    assert!(bench.get().deny(operator(whole(own, true), 60)).is_err(), "Hedgerow's own");
    let entry = bench.deny(whole(file, true), 60);
    assert_eq!(entry.level, Level::PreventsNetwork);
    assert!(entry.sockets_destroyed >= 1, "{entry:?}");
    let cgroup = Cgroup::new("offline");
    let mut puppet = Puppet::inside(&cgroup);
    assert_eq!(puppet.tell(&format!("exec {}", copy.display())).unwrap(), "exit 0", "it runs");
    let mut fresh = Puppet::start(&copy);
    fresh.tell(&format!("cgroup {}", cgroup.0.display())).unwrap();
    for puppet in [&mut running, &mut fresh] {
        assert_eq!(puppet.tell(&connect), Err(EPERM));
        assert_eq!(puppet.tell("bind 127.0.0.1:0"), Err(EPERM));
    }
    assert_eq!(puppet.tell(&connect), ok(), "another program");
    drop((puppet, fresh));
}

#[test]
fn a_program_that_may_not_run_and_its_network_are_two_entries_in_either_order() {
    let mut bench = Bench::new("beside");
    let sink = Sink::tcp("127.66.22.1");
    let connect = format!("connect {}", sink.address);
    let cgroup = Cgroup::new("beside");
    let copy = copy_of_self(bench.directory.path());
    let mut running = Puppet::start(&copy);
    running.tell(&format!("cgroup {}", cgroup.0.display())).unwrap();
    let mut starter = Puppet::inside(&cgroup);
    let start = format!("exec {}", copy.display());
    let runs = Ok("exit 0".to_owned());
    let (_, file) = bench.get().program_of(running.pid()).unwrap().unwrap();
    let path: std::sync::Arc<str> = copy.to_string_lossy().into();
    let of =
        |network| Target::Program { cgroup_id: cgroup.id(), file, path: path.clone(), network };
    for network_first in [true, false] {
        for network in [network_first, !network_first] {
            bench.deny(of(network), 60);
        }
        for network in [true, false] {
            let again = bench.get().deny(operator(of(network), 60));
            assert!(matches!(again, Err(Refusal::Covered { .. })), "{again:?}");
        }
        assert_ne!(starter.tell(&start), runs);
        // The first one goes, and the other one holds as before.
        let mut entries = bench.get().entries().into_iter();
        let first = entries.find(|entry| entry.target == of(network_first));
        let uid = first.unwrap().uid.clone();
        bench.get().remove(&uid, "a test").unwrap().unwrap();
        assert_eq!(starter.tell(&start) == runs, !network_first);
        assert_eq!(running.tell(&connect), Err(EPERM));
        let uid = bench.get().entries()[0].uid.clone();
        bench.get().remove(&uid, "a test").unwrap().unwrap();
        assert_eq!((starter.tell(&start), running.tell(&connect)), (runs.clone(), ok()));
    }
    drop((running, starter));
}
