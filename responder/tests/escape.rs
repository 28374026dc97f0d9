//! Ways out of a denial that attackers know. Live: root, own cgroups and namespaces, loopback.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{
    Bench, Cgroup, EPERM, LOADER, Puppet, Sink, copy_of_self, eventually, ok, operator, peer,
    scoped_peer, spaces,
};
use hedgerow_event::{Level, Target};
use hedgerow_responder::{
    Refusal,
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

/// Sends on a socket that its parent made, and that its parent goes on to hold.
#[test]
fn sockets_that_a_denied_process_inherited_or_was_handed_carry_nothing_of_it() {
    let mut bench = Bench::new("inherited");
    let sinks = ["127.71.9.1", "127.71.9.2", "127.71.9.3"].map(Sink::tcp);
    let datagrams = Sink::udp("127.71.9.4");
    let mut parent = Puppet::new();
    parent.tell(&format!("udp {}", datagrams.address)).unwrap();
    parent.tell(&format!("connect {}", sinks[0].address)).unwrap();
    let child = parent.tell("fork").unwrap();
    for command in ["sub take", "sub take-udp", "sub write before", "sub usend before"] {
        parent.tell(command).unwrap();
    }
    eventually("what was sent before arrives", || (sinks[0].bytes(), datagrams.bytes()) == (6, 6));
    let tgid = child.parse().unwrap();
    let start_boot_ns = bench.get().start_of(tgid).unwrap().unwrap();
    bench.deny(Target::TaskTree { tgid, start_boot_ns }, 60);

    parent.tell("write parent").unwrap();
    eventually("its parent's own goes on", || sinks[0].bytes() == 12);
    assert_eq!(parent.tell("sub usend after"), Err(EPERM));
    parent.tell("usend parent").unwrap();
    eventually("its parent's datagrams go on", || datagrams.bytes() == 12);
    // Made after the denial, and handed over.
    let mut other = Puppet::new();
    other.tell(&format!("connect {}", sinks[1].address)).unwrap();
    for number in 0..3 {
        let _ = parent.tell("sub write after");
        assert!(parent.tell("sub read").is_err(), "nothing answers");
        if number == 0 {
            assert_eq!(sinks[0].bytes(), 12, "it was inherited");
            let handed = format!("sub copy {} {}", other.pid(), other.tell("fd").unwrap());
            parent.tell(&handed).unwrap();
        }
    }
    assert_eq!(sinks[1].bytes(), 0, "it was handed over");
    parent.tell(&format!("connect {}", sinks[2].address)).unwrap();
    parent.tell("write whole").unwrap();
    eventually("its parent's other sockets are not cut", || sinks[2].bytes() == 5);
}

#[test]
fn subflows_of_mptcp_carry_nothing_once_their_tree_or_peer_is_denied() {
    for by_peer in [false, true] {
        let mut bench = Bench::new("mptcp");
        let Some(sink) = Sink::mptcp("127.71.3.1") else {
            println!("not here: MPTCP");
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
            match puppet.tell(&create) {
                Ok(_) => open.push(create),
                Err(_) => println!("not here: family {family} type {kind} protocol {protocol}"),
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

/// Sockets that no hook of a cgroup is asked about, by a call and by a ring, of a denied tree: refused,
/// deadly, or let through as the table says.
fn families(name: &str, families: &[(&str, i32, i32)], expected: impl Fn(Level) -> String) {
    let mut bench = Bench::new(name);
    let mut puppet = Puppet::new();
    let mut open = Vec::new();
    for (name, family, kind) in families {
        for how in ["mortal", "mortal-ring"] {
            let command = format!("{how} {family} {kind} 0");
            match puppet.tell(&command).unwrap().as_str() {
                "exit 0" => open.push((name, command)),
                _ => println!("not here: {name}"),
            }
        }
    }
    if open.is_empty() {
        println!("not tried: none of these families is here");
    }
    let target = tree(&mut bench, &puppet);
    bench.deny(target, 60);
    let expected = expected(bench.get().hooks().level(Key::TaskTree, Verb::Family));
    for (name, command) in open {
        assert_eq!(puppet.tell(&command).as_ref(), Ok(&expected), "{command}");
        if expected == "exit 0" {
            println!("let through: {name}");
        }
    }
    for local in ["create 1 1 0", "create 16 3 0"] {
        assert_eq!(puppet.tell(local), ok(), "{local} is none of the network");
    }
    assert_eq!(puppet.tell("mortal 2 3 255"), Ok(format!("exit {EPERM}")), "as ever");
}

#[test]
fn packet_sockets_of_a_denied_tree_are_refused_or_cost_its_process_its_life() {
    let packets = [
        ("packet", libc::AF_PACKET, libc::SOCK_RAW),
        ("packet", libc::AF_PACKET, libc::SOCK_DGRAM),
        ("XDP", libc::AF_XDP, libc::SOCK_RAW),
    ];
    families("packets", &packets, |level| match level {
        Level::Prevents => format!("exit {EPERM}"),
        Level::KillsOneCallLate => "signal 9".to_owned(),
        // An arm64 kernel before 6.4 attaches no program to a function.
        Level::Counts if cfg!(target_arch = "aarch64") => "exit 0".to_owned(),
        other => panic!("{other:?}"),
    });
}

#[test]
fn sockets_of_other_families_are_refused_where_lsm_programs_load() {
    const AF_SMC: i32 = 43;
    let others = [
        ("vsock", libc::AF_VSOCK, libc::SOCK_STREAM),
        ("Bluetooth", libc::AF_BLUETOOTH, libc::SOCK_RAW),
        ("SMC", AF_SMC, libc::SOCK_STREAM),
    ];
    families("families", &others, |level| match level {
        Level::Prevents => format!("exit {EPERM}"),
        _ => "exit 0".to_owned(),
    });
}

#[test]
fn what_a_ring_asks_for_is_refused_as_a_call_is() {
    let mut bench = Bench::new("ring");
    let sink = Sink::tcp("127.71.7.1");
    let (mut puppet, mut bystander) = (Puppet::new(), Puppet::new());
    let asked = ["", "polled "].map(|how| format!("ring {how}{}", sink.address));
    let mut open = Vec::new();
    for ask in asked {
        match puppet.tell(&ask) {
            Ok(_) => open.push(ask),
            Err(errno) => println!("not here: {ask} ({errno})"),
        }
    }
    for by_peer in [false, true] {
        let target = if by_peer { peer("127.71.7.1", 32) } else { tree(&mut bench, &puppet) };
        let uid = bench.deny(target, 60).uid;
        for ask in &open {
            assert_eq!(puppet.tell(ask), Err(EPERM), "{ask}");
            if !by_peer {
                assert_eq!(bystander.tell(ask), ok(), "{ask}");
            }
        }
        bench.get().remove(&uid, "tried").unwrap();
    }
}

#[test]
fn copies_and_loaders_are_inside_the_tree_that_runs_them() {
    let mut bench = Bench::new("copies");
    let sink = Sink::tcp("127.71.8.1");
    let copy = copy_of_self(bench.directory.path());
    let mut puppet = Puppet::new();
    // Forked before the entry, since where LSM programs load nothing is executed afterwards.
    puppet.tell(&format!("fork {}", copy.display())).unwrap();
    puppet.tell(&format!("sub fork {LOADER} {}", copy.display())).unwrap();
    let connect = format!("connect {}", sink.address);
    assert_eq!(puppet.tell(&format!("sub sub {connect}")), ok());
    let target = tree(&mut bench, &puppet);
    bench.deny(target, 60);
    assert_eq!(puppet.tell(&format!("sub {connect}")), Err(EPERM));
    assert_eq!(puppet.tell(&format!("sub sub {connect}")), Err(EPERM));
    let exec = bench.get().hooks().level(Key::TaskTree, Verb::Exec);
    let started = puppet.tell(&format!("fork {}", copy.display()));
    match exec {
        Level::Prevents => assert_eq!(started, Err(EPERM)),
        _ => assert_eq!(puppet.tell(&format!("sub {connect}")), Err(EPERM)),
    }
}

#[test]
fn a_denied_program_is_not_run_by_its_loader_where_maps_can_be_refused() {
    let mut bench = Bench::new("loader");
    let cgroup = Cgroup::new("loader");
    let copy = copy_of_self(bench.directory.path());
    let running = Puppet::start(&copy);
    let (_, file) = bench.get().program_of(running.pid()).unwrap().unwrap();
    let mut puppet = Puppet::inside(&cgroup);
    let load = |program: &Path| format!("exec {LOADER} {}", program.display());
    assert_eq!(puppet.tell(&load(&copy)).unwrap(), "exit 0");
    let path = copy.to_string_lossy().into();
    bench.deny(Target::Program { cgroup_id: cgroup.id(), file, path, network: false }, 60);
    let expected = match bench.get().hooks().level(Key::Program, Verb::Map) {
        Level::Prevents => "exit 127",
        _ => {
            println!("let through: BPF LSM programs don't load");
            "exit 0"
        }
    };
    assert_eq!(puppet.tell(&load(&copy)).unwrap(), expected);
    let other = std::env::current_exe().unwrap();
    assert_eq!(puppet.tell(&load(&other)).unwrap(), "exit 0", "another program");
    drop(puppet);
}

#[test]
fn a_set_uid_program_does_not_change_which_user_asks() {
    let mut bench = Bench::new("real-user");
    let sink = Sink::tcp("127.71.12.1");
    let mut puppet = Puppet::new();
    // Its effective user is root's from here on.
    puppet.tell("user 4242").unwrap();
    let connect = format!("connect {}", sink.address);
    assert_eq!(puppet.tell(&connect), ok());
    bench.deny(Target::User { uid: 4242 }, 60);
    assert_eq!(puppet.tell(&connect), Err(EPERM));
}

#[test]
fn subordinate_ids_in_user_namespaces_are_their_owner() {
    if spaces::are_refused() {
        println!("not tried: AppArmor lets nobody but root have user namespaces");
        return;
    }
    let mut bench = Bench::new("subordinate");
    let sinks = ["127.71.14.1", "127.71.14.2"].map(Sink::tcp);
    let connect = format!("connect {}", sinks[0].address);
    // Subordinate ids of his, in one namespace and as deep as the kernel lets them stand in each other.
    let mut his = [1, 33].map(|depth| within(4242, depth));
    let mut others = within(4243, 1);
    for puppet in his.iter_mut().chain([&mut others]) {
        puppet.tell(&format!("sub connect {}", sinks[1].address)).unwrap();
        puppet.tell("sub write before").unwrap();
    }
    eventually("what was sent before arrives", || sinks[1].bytes() == 18);
    bench.deny(Target::User { uid: 4242 }, 60);
    for puppet in &mut his {
        let _ = puppet.tell("sub write after");
        for command in [connect.as_str(), "bind 127.0.0.1:0", "create 2 1 0"] {
            assert_eq!(puppet.tell(&format!("sub {command}")), Err(EPERM), "{command}");
        }
    }
    others.tell("sub write after").unwrap();
    eventually("another's go on", || sinks[1].bytes() >= 23);
    // Of his nothing comes behind it.
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(sinks[1].bytes(), 23);
    assert_eq!(others.tell(&format!("sub {connect}")), ok());
}

/// Has a child that is a subordinate id of this user.
fn within(uid: u32, depth: u32) -> Puppet {
    let mut puppet = Puppet::new();
    puppet.tell(&format!("userns {uid} {depth}")).unwrap();
    puppet
}

/// Whose a socket is says who made it.
#[test]
fn a_socket_of_a_denied_user_is_refused_in_other_hands_and_one_of_others_is_not_in_his() {
    let mut bench = Bench::new("user-sockets");
    let sinks = ["127.71.13.1", "127.71.13.2"].map(Sink::tcp);
    let mut user = Puppet::new();
    user.tell("user 4242").unwrap();
    user.tell(&format!("connect {}", sinks[0].address)).unwrap();
    let (fd, mut other) = (user.tell("fd").unwrap(), Puppet::new());
    other.tell(&format!("copy {} {fd}", user.pid())).unwrap();
    bench.deny(Target::User { uid: 4242 }, 60);
    let _ = other.tell("write his");
    // What others made and he was handed.
    let mut maker = Puppet::new();
    maker.tell(&format!("connect {}", sinks[1].address)).unwrap();
    let fd = maker.tell("fd").unwrap();
    user.tell(&format!("copy {} {fd}", maker.pid())).unwrap();
    user.tell("write theirs").unwrap();
    eventually("what others made goes on", || sinks[1].bytes() == 6);
    assert_eq!(sinks[0].bytes(), 0);
}
