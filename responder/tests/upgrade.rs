//! One daemon after another, also of another version, and daemons that are killed or stopped in the
//! middle: whom an entry refuses is refused all the while. Live: root, own cgroups, loopback.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use common::{Bench, Cgroup, EPERM, Puppet, Sink, eventually, ok, scoped_peer};
use hedgerow_event::Target;
use hedgerow_responder::{Responder, protected::users::Users};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

#[test]
fn puppet() {
    common::play();
}

/// A process that connects again and again, and counts.
struct Storm {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(usize, usize)>,
}

impl Storm {
    fn start(mut puppet: Puppet, sink: &Sink) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (connect, done) = (format!("connect {}", sink.address), stop.clone());
        let thread = std::thread::spawn(move || {
            let (mut refused, mut passed) = (0, 0);
            while !done.load(Ordering::SeqCst) {
                match puppet.tell(&connect) {
                    Err(EPERM) => refused += 1,
                    _ => passed += 1,
                }
            }
            (refused, passed)
        });
        Self { stop, thread }
    }

    /// How many were refused, and how many got through.
    fn end(self) -> (usize, usize) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

/// Where the layout stands in the control word: first.
fn set_layout(bench: &Bench, layout: u32) {
    let control =
        MapHandle::from_pinned_path(bench.options.directory.join("deny_control")).unwrap();
    let key = 0u32.to_ne_bytes();
    let mut word = control.lookup(&key, MapFlags::ANY).unwrap().unwrap();
    word[..4].copy_from_slice(&layout.to_ne_bytes());
    control.update(&key, &word, MapFlags::ANY).unwrap();
}

#[test]
fn while_one_daemon_replaces_another_nothing_slips_through() {
    let mut bench = Bench::new("upgrade");
    let sink = Sink::tcp("127.73.1.1");
    let cgroup = Cgroup::new("upgrade");
    bench.deny(scoped_peer("127.73.1.1", 32, cgroup.id()), 60);
    let storm = Storm::start(Puppet::inside(&cgroup), &sink);
    for _ in 0..2 {
        bench.responder = None;
        bench.responder = Some(Responder::start(bench.options.clone()).unwrap());
    }
    let (refused, passed) = storm.end();
    assert!(refused > 0);
    assert_eq!(passed, 0, "of {refused}");
}

#[test]
fn maps_of_another_layout_refuse_until_their_entries_are_in_ours() {
    let mut bench = Bench::new("layout");
    let (sink, other) = (Sink::tcp("127.73.2.1"), Sink::tcp("127.73.2.2"));
    let cgroup = Cgroup::new("layout");
    let mut tree = Puppet::new();
    let start_boot_ns = bench.get().start_of(tree.pid()).unwrap().unwrap();
    bench.deny(Target::TaskTree { tgid: tree.pid(), start_boot_ns }, 60);
    bench.deny(scoped_peer("127.73.2.1", 32, cgroup.id()), 60);
    let mut user = Puppet::new();
    user.tell("user 4242").unwrap();
    bench.deny(Target::User { uid: 4242 }, 60);
    let before: Vec<_> =
        bench.get().entries().iter().map(|e| (e.uid.clone(), e.expiry_boot_ns)).collect();
    // Who made a socket is known, though he has gone and another holds it.
    let (mut maker, mut holder) = (Puppet::new(), Puppet::new());
    let handed = Sink::tcp("127.73.2.3");
    maker.tell("user 4243").unwrap();
    maker.tell(&format!("connect {}", handed.address)).unwrap();
    let fd = maker.tell("fd").unwrap();
    holder.tell(&format!("copy {} {fd}", maker.pid())).unwrap();
    drop(maker);
    let storm = Storm::start(Puppet::inside(&cgroup), &sink);
    for layout in [4, 99] {
        set_layout(&bench, layout);
        bench.responder = None;
        bench.responder = Some(Responder::start(bench.options.clone()).unwrap());
        for denied in [&mut tree, &mut user] {
            assert_eq!(denied.tell(&format!("connect {}", other.address)), Err(EPERM));
        }
    }
    let (refused, passed) = storm.end();
    assert!(refused > 0);
    assert_eq!(passed, 0, "of {refused}");
    bench.get().protected_mut().set_users(Users::default());
    let his = bench.deny(Target::User { uid: 4243 }, 60);
    let _ = holder.tell("write his");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(handed.bytes(), 0, "what he made goes on in other hands");
    bench.get().remove(&his.uid, "a test").unwrap().unwrap();
    assert!(bench.get().take_notices().is_empty());
    let after: Vec<_> =
        bench.get().entries().iter().map(|e| (e.uid.clone(), e.expiry_boot_ns)).collect();
    assert_eq!(after, before, "each is there, and ends when it did");
    assert!(bench.get().adopted());
    let mut aside = bench.options.directory.clone().into_os_string();
    aside.push("-before");
    assert!(!std::path::Path::new(&aside).exists(), "what held them is gone");
    // They are ours: lifted, they refuse nobody.
    for (uid, _) in &after {
        bench.get().remove(uid, "a test").unwrap().unwrap();
    }
    assert_eq!(Puppet::inside(&cgroup).tell(&format!("connect {}", sink.address)), ok());
    drop(tree);
}

#[test]
fn a_daemon_that_is_killed_in_the_middle_of_a_denial_leaves_an_entry_or_none() {
    let mut bench = Bench::idle("middle");
    let sink = Sink::tcp("127.73.3.1");
    let connect = format!("connect {}", sink.address);
    let mut puppet = Puppet::new();
    let (mut made, mut none) = (0, 0);
    // The last one is killed after it has answered.
    for micros in [Some(0), Some(300), Some(1_000), Some(3_000), None] {
        let mut daemon = Puppet::new();
        let (pins, ledger) = (bench.options.directory.display(), bench.options.ledger.display());
        assert_eq!(daemon.tell(&format!("daemon {pins} {ledger}")), ok());
        if let Some(micros) = micros {
            daemon.ask("deny 127.73.3.1 60");
            std::thread::sleep(Duration::from_micros(micros));
        } else {
            daemon.tell("deny 127.73.3.1 60").unwrap();
        }
        drop(daemon);
        let stood = puppet.tell(&connect) == Err(EPERM);
        bench.responder = Some(Responder::start(bench.options.clone()).unwrap());
        let tampered = bench.get().tampered().unwrap();
        assert!(tampered.is_empty(), "{tampered:?}");
        let entries: Vec<_> = bench.get().entries().iter().map(|e| e.uid.clone()).collect();
        // What has refused goes on to do so.
        assert_eq!(puppet.tell(&connect) == Err(EPERM), stood, "{entries:?}");
        assert_eq!(entries.len(), usize::from(stood), "{entries:?}");
        for uid in entries {
            bench.get().remove(&uid, "a test").unwrap().unwrap();
        }
        assert_eq!(puppet.tell(&connect), ok());
        bench.responder = None;
        *if stood { &mut made } else { &mut none } += 1;
    }
    assert!(made > 0, "one was made in {made} + {none}");
}

#[test]
fn a_stopped_daemon_refuses_until_the_expiry_and_not_beyond() {
    let bench = Bench::idle("stopped");
    let sink = Sink::tcp("127.73.4.1");
    let connect = format!("connect {}", sink.address);
    let (mut puppet, mut daemon) = (Puppet::new(), Puppet::new());
    let (pins, ledger) = (bench.options.directory.display(), bench.options.ledger.display());
    assert_eq!(daemon.tell(&format!("daemon {pins} {ledger}")), ok());
    let begun = Instant::now();
    daemon.tell("deny 127.73.4.1 3").unwrap();
    let denied = Instant::now();
    // SAFETY: a plain system call; the process is this test's.
    assert_eq!(unsafe { libc::kill(daemon.pid().cast_signed(), libc::SIGSTOP) }, 0);
    while begun.elapsed() < Duration::from_secs(3) {
        // Asked before its time was over, so that the answer is of then.
        let asked = Instant::now();
        let said = puppet.tell(&connect);
        if begun.elapsed() < Duration::from_millis(2_900) {
            assert_eq!(said, Err(EPERM), "{:?} after it was made", asked - begun);
        }
    }
    eventually("it expires with nobody there", || puppet.tell(&connect) == ok());
    assert!(denied.elapsed() < Duration::from_secs(20));
    // SAFETY: as above.
    assert_eq!(unsafe { libc::kill(daemon.pid().cast_signed(), libc::SIGCONT) }, 0);
    assert_eq!(daemon.tell("hello"), ok());
}
