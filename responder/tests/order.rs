//! What comes first: allow before deny, live before expired, the kill switch before all; and what
//! outlives the daemon. Live: root, loopback.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::UdpSocket;

use common::{Bench, Cgroup, EPERM, Puppet, Sink, eventually, ok, operator, peer, steal, subject};
use hedgerow_event::{Action, Level, Mode, Rule, Target, Workload};
use hedgerow_responder::{
    By, Error, Now, Refusal, Request, Responder, disarm,
    ledger::{self, Decision, Ledger},
    now,
};
use libbpf_rs::{MapCore, MapHandle};

const BY: By = By { uid: 0, pid: 4711, login_uid: Some(1000) };

#[test]
fn puppet() {
    common::play();
}

fn tree(bench: &mut Bench, puppet: &Puppet) -> Target {
    let start_boot_ns = bench.get().start_of(puppet.pid()).unwrap().unwrap();
    Target::TaskTree { tgid: puppet.pid(), start_boot_ns }
}

fn automatic(target: Target, finding: &str, seconds: u32) -> Request {
    Request {
        rule: Rule::ExecUntrusted,
        subject: Some(subject("web", "/bin/sh")),
        finding_uid: Some(finding.into()),
        ..operator(target, seconds)
    }
}

#[test]
fn an_expired_long_prefix_does_not_hide_a_live_short_one() {
    let mut bench = Bench::new("expired");
    let sink = Sink::tcp("127.67.1.1");
    let mut puppet = Puppet::new();
    let connect = format!("connect {}", sink.address);
    for length in [32, 31, 30, 28] {
        bench.deny(peer("127.67.1.1", length), 1);
    }
    bench.deny(peer("127.67.1.1", 24), 60);
    eventually("the four longer ones expire", || {
        let now = now().boot_ns;
        bench.get().entries().iter().filter(|entry| entry.expiry_boot_ns > now).count() == 1
    });
    assert_eq!(puppet.tell(&connect), Err(EPERM));
    let hits: Vec<_> = bench.get().tick(now()).unwrap();
    assert_eq!(hits.len(), 4, "the expired ones are swept");
    assert!(hits.iter().all(|gone| gone.action == Action::Unblock && gone.hits == 0));
    assert_eq!(puppet.tell(&connect), Err(EPERM));
}

#[test]
fn a_counting_long_prefix_does_not_hide_a_refusing_short_one() {
    let mut bench = Bench::new("counting");
    let sink = Sink::tcp("127.67.2.1");
    let mut puppet = Puppet::new();
    let monitor = Request { mode: Some(Mode::Monitor), ..operator(peer("127.67.2.1", 32), 60) };
    let counted = bench.get().deny(monitor).unwrap();
    assert_eq!((counted.level, counted.mode), (Level::Counts, Mode::Monitor));
    assert_eq!(puppet.tell(&format!("connect {}", sink.address)), ok());
    bench.deny(peer("127.67.2.0", 24), 60);
    assert_eq!(puppet.tell(&format!("connect {}", sink.address)), Err(EPERM));
}

#[test]
fn monitor_counts_and_refuses_nothing() {
    let mut bench = Bench::new("monitor");
    let sink = Sink::tcp("127.67.3.1");
    let mut puppet = Puppet::new();
    bench.get().set_mode(Workload::new("web"), Mode::Monitor).unwrap();
    let automatic = |target| Request {
        rule: Rule::NewProgramNewPeer,
        subject: Some(subject("web", "/bin/sh")),
        finding_uid: Some("f".into()),
        ..operator(target, 60)
    };
    puppet.tell(&format!("connect {}", sink.address)).unwrap();
    let loopback = bench.get().deny(automatic(peer("127.67.3.1", 32)));
    assert!(matches!(loopback, Err(Refusal::Protected(_))), "{loopback:?}");
    let start_boot_ns = bench.get().start_of(puppet.pid()).unwrap().unwrap();
    let tree = Target::TaskTree { tgid: puppet.pid(), start_boot_ns };
    let entry = bench.get().deny(automatic(tree.clone())).unwrap();
    assert_eq!((entry.mode, entry.sockets_destroyed), (Mode::Monitor, 0));
    for _ in 0..3 {
        assert_eq!(puppet.tell("write on"), ok());
        assert_eq!(puppet.tell(&format!("connect {}", sink.address)), ok());
    }
    bench.get().tick(now()).unwrap();
    assert!(bench.get().entries()[0].hits >= 3);
    // The same entry refuses once the mode says so, and cuts what stands.
    bench.get().set_mode(Workload::new("web"), Mode::Enforce).unwrap();
    assert!(puppet.tell("write cut").is_err());
    assert_eq!(puppet.tell(&format!("connect {}", sink.address)), Err(EPERM));
    let lifted = bench.get().set_mode(Workload::new("web"), Mode::Observe).unwrap();
    assert_eq!(lifted.len(), 1);
    assert_eq!(puppet.tell(&format!("connect {}", sink.address)), ok());
    let refused = bench.get().deny(automatic(tree));
    assert!(matches!(refused, Err(Refusal::Observe(_))));
}

#[test]
fn allow_comes_before_deny() {
    let mut bench = Bench::new("allow");
    let cgroup = Cgroup::new("allow");
    let (trusted, other) = (Sink::tcp("127.67.4.1"), Sink::tcp("127.67.4.9"));
    let mut puppet = Puppet::inside(&cgroup);
    let to_trusted = format!("connect {}", trusted.address);
    let to_other = format!("connect {}", other.address);
    bench.deny(peer("127.67.4.0", 24), 60);
    let start_boot_ns = bench.get().start_of(puppet.pid()).unwrap().unwrap();
    assert_eq!(puppet.tell(&to_trusted), Err(EPERM));
    bench.get().allow(peer("127.67.4.0", 29), true).unwrap();
    assert_eq!(puppet.tell(&to_trusted), ok());
    assert_eq!(puppet.tell("write on"), ok());
    assert_eq!(puppet.tell(&to_other), Err(EPERM));
    bench.get().allow(peer("127.67.4.0", 29), false).unwrap();
    assert_eq!(puppet.tell(&to_trusted), Err(EPERM));
    // A cgroup that is allowed, with a task tree in it.
    let whole = Target::Cgroup { cgroup_id: cgroup.id(), path: "/test".into() };
    bench.get().allow(whole.clone(), true).unwrap();
    bench.deny(Target::TaskTree { tgid: puppet.pid(), start_boot_ns }, 60);
    assert_eq!(puppet.tell(&to_other), ok());
    bench.get().allow(whole, false).unwrap();
    assert_eq!(puppet.tell(&to_other), Err(EPERM));
    // What can't be allowed is said.
    let tree = Target::TaskTree { tgid: puppet.pid(), start_boot_ns };
    assert!(matches!(bench.get().allow(tree, true), Err(Refusal::BadTarget(_))));
    for (address, length) in [("0.0.0.0", 0), ("0.0.0.0", 1), ("2001::", 31)] {
        let refused = bench.get().allow(peer(address, length), true);
        assert!(matches!(refused, Err(Refusal::TooWide { .. })), "{address}/{length}");
    }
    drop(puppet);
}

#[test]
fn an_entry_lives_while_it_is_hit_and_is_released_after_a_quiet_period() {
    let mut bench = Bench::new("release");
    let sink = Sink::tcp("127.67.5.1");
    let mut puppet = Puppet::new();
    let connect = format!("connect {}", sink.address);
    let tree = tree(&mut bench, &puppet);
    let entry = bench.get().deny(automatic(tree, "f", 5)).unwrap();
    assert_eq!(puppet.tell(&connect), Err(EPERM));
    let mut told = Vec::new();
    eventually("it is extended", || {
        told.extend(bench.get().tick(now()).unwrap());
        !told.is_empty()
    });
    assert_eq!((told[0].action, &told[0].uid), (Action::Block, &entry.uid));
    assert!(told[0].expires_ns > entry.expires_ns && told[0].hits >= 1, "{told:?}");
    assert_eq!(bench.get().entries()[0].period_s, 10);
    told.clear();
    eventually("it is released", || {
        told.extend(bench.get().tick(now()).unwrap());
        !told.is_empty()
    });
    assert_eq!((told[0].action, &told[0].uid), (Action::Unblock, &entry.uid));
    assert_eq!(puppet.tell(&connect), ok());
}

#[test]
fn packets_from_outside_are_dropped_and_keep_no_entry() {
    let mut bench = Bench::new("inbound");
    let mut puppet = Puppet::new();
    let outside = UdpSocket::bind("127.67.11.9:0").unwrap();
    // A socket that is bound and not connected: it stands, and only drops.
    puppet.tell("socket").unwrap();
    puppet.tell("bindit 127.67.11.1:0").unwrap();
    let fd = puppet.tell("fd").unwrap().parse().unwrap();
    let to = steal(puppet.pid(), fd).local_addr().unwrap();
    let tree = tree(&mut bench, &puppet);
    let entry = bench.get().deny(automatic(tree, "f", 5)).unwrap();
    let mut told = Vec::new();
    eventually("it is released", || {
        outside.send_to(b"spoofed", to).unwrap();
        told.extend(bench.get().tick(now()).unwrap());
        !told.is_empty()
    });
    assert_eq!((told[0].action, &told[0].uid, told[0].hits), (Action::Unblock, &entry.uid, 0));
    assert!(told[0].reason.contains("from outside"), "{}", told[0].reason);
}

#[test]
fn an_operators_entry_stands_exactly_as_long_as_was_asked() {
    let mut bench = Bench::new("exactly");
    let sink = Sink::tcp("127.67.12.1");
    let mut puppet = Puppet::new();
    let connect = format!("connect {}", sink.address);
    let entry = bench.deny(peer("127.67.12.1", 32), 2);
    let mut told = Vec::new();
    eventually("it is released", || {
        // Somebody keeps trying.
        let _ = puppet.tell(&connect);
        told.extend(bench.get().tick(now()).unwrap());
        !told.is_empty()
    });
    assert_eq!((told[0].action, &told[0].uid), (Action::Unblock, &entry.uid));
    assert!(told[0].hits >= 1, "{told:?}");
    let day = bench.deny(peer("127.67.12.1", 32), 24 * 3600);
    assert_eq!(day.expires_ns - day.time_ns, 24 * 3600 * 1_000_000_000);
    for seconds in [0, 8 * 24 * 3600] {
        let refused = bench.get().deny(operator(peer("127.67.12.2", 32), seconds));
        assert!(matches!(refused, Err(Refusal::TooLong { longest: 604_800, .. })), "{refused:?}");
    }
}

#[test]
fn tries_alone_keep_an_entry_for_an_hour_and_only_a_fresh_finding_opens_it_again() {
    let mut bench = Bench::new("hour");
    let sink = Sink::tcp("127.67.13.1");
    let mut puppet = Puppet::new();
    let tree = tree(&mut bench, &puppet);
    let begun = now();
    let entry = bench.get().deny(automatic(tree.clone(), "f", 60)).unwrap();
    let mut ended = None;
    for second in (50..3700).step_by(1) {
        let at = |ns: i64| ns + second * 1_000_000_000;
        let now = Now { boot_ns: at(begun.boot_ns as i64) as u64, wall_ns: at(begun.wall_ns) };
        let _ = puppet.tell(&format!("connect {}", sink.address));
        let told = bench.get().tick(now).unwrap();
        if let Some(gone) = told.iter().find(|told| told.action == Action::Unblock) {
            assert_eq!(gone.uid, entry.uid);
            ended = Some(second);
            break;
        }
    }
    assert!(matches!(ended, Some(3599..=3601)), "{ended:?}");
    let again = bench.get().deny(automatic(tree.clone(), "f", 60));
    assert!(matches!(again, Err(Refusal::Spent)), "{again:?}");
    bench.get().deny(automatic(tree, "g", 60)).unwrap();
}

#[test]
fn entries_outlive_a_killed_daemon_and_the_next_one_adopts_them() {
    // The daemon is another process, with the pins and ledger of this bench.
    let mut bench = Bench::idle("killed");
    let sink = Sink::tcp("127.67.6.1");
    let connect = format!("connect {}", sink.address);
    let mut puppet = Puppet::new();
    let mut daemon = Puppet::new();
    let options = bench.options.clone();
    daemon
        .tell(&format!("daemon {} {}", options.directory.display(), options.ledger.display()))
        .unwrap();
    let uid = daemon.tell("deny 127.67.6.1 60").unwrap();
    assert_eq!(puppet.tell(&connect), Err(EPERM));
    drop(daemon); // SIGKILL
    assert_eq!(puppet.tell(&connect), Err(EPERM));
    // The kill switch works with the daemon dead.
    disarm(&options.directory, &options.ledger, BY).unwrap();
    assert_eq!(puppet.tell(&connect), ok());
    let mut next = Responder::start(options.clone()).unwrap();
    assert!(next.adopted() && !next.is_armed().unwrap(), "a start doesn't arm by itself");
    eventually("the line says whose order it was", || {
        let lines = Ledger::read(&options.ledger).unwrap().0;
        let thrown = |line: &&ledger::Line| line.decision == Decision::Armed { armed: false };
        lines.iter().find(thrown).is_some_and(|line| line.by == Some(BY))
    });
    let refused = next.deny(operator(peer("127.67.6.2", 32), 60));
    assert!(matches!(refused, Err(Refusal::Disarmed)));
    next.arm().unwrap();
    assert_eq!(puppet.tell(&connect), Err(EPERM));
    let entries = next.entries();
    assert_eq!(entries.iter().map(|entry| &entry.uid).collect::<Vec<_>>(), [&uid]);
    assert!(entries[0].hits >= 2, "hits survive: {}", entries[0].hits);
    let covered = next.deny(operator(peer("127.67.6.1", 32), 60));
    assert!(matches!(covered, Err(Refusal::Covered { .. })));
    let lifted = next.remove(&uid, "a test").unwrap().unwrap();
    assert_eq!(lifted.action, Action::Unblock);
    assert_eq!(puppet.tell(&connect), ok());
    bench.responder = Some(next);
    let (lines, torn) = Ledger::read(&options.ledger).unwrap();
    assert_eq!(torn, 0);
    assert!(matches!(lines[0].decision, Decision::Block { .. }));
}

#[test]
fn an_entry_that_neither_ledger_nor_note_explains_is_removed_at_the_next_start() {
    let mut bench = Bench::new("foreign");
    let sink = Sink::tcp("127.67.7.1");
    let connect = format!("connect {}", sink.address);
    let mut puppet = Puppet::new();
    bench.deny(peer("127.67.7.1", 32), 60);
    assert_eq!(puppet.tell(&connect), Err(EPERM));
    bench.get().allow(peer("127.67.7.0", 24), true).unwrap();
    bench.responder = None;
    std::fs::remove_file(&bench.options.ledger).unwrap();
    let notes = MapHandle::from_pinned_path(bench.options.directory.join("deny_notes")).unwrap();
    for id in notes.keys() {
        notes.delete(&id).unwrap();
    }
    bench.responder = Some(Responder::start(bench.options.clone()).unwrap());
    bench.get().allow(peer("127.67.7.0", 24), false).unwrap();
    assert_eq!(puppet.tell(&connect), ok());
    assert!(bench.get().entries().is_empty());
    eventually("its line", || bench.get().ledger().written().waiting == 0);
    let (lines, _) = Ledger::read(&bench.options.ledger).unwrap();
    assert!(matches!(lines[0].decision, Decision::Foreign { .. }));
}

#[test]
fn an_allowance_that_nothing_explains_is_gone_after_a_start() {
    let mut bench = Bench::new("allowance");
    let cgroup = Cgroup::new("allowance");
    let sink = Sink::tcp("127.67.10.1");
    let connect = format!("connect {}", sink.address);
    let mut puppet = Puppet::inside(&cgroup);
    let whole = Target::Cgroup { cgroup_id: cgroup.id(), path: "/test".into() };
    for kept in [true, false] {
        if kept {
            for target in [peer("127.67.10.1", 32), whole.clone()] {
                bench.get().allow(target, true).unwrap();
            }
        } else {
            for file in ["ledger.jsonl", "responder.json"] {
                std::fs::remove_file(bench.options.ledger.with_file_name(file)).unwrap();
            }
        }
        bench.responder = None;
        bench.responder = Some(Responder::start(bench.options.clone()).unwrap());
        assert_eq!(bench.get().allowed().len(), if kept { 2 } else { 0 });
        let entry = bench.deny(peer("127.67.10.1", 32), 60);
        assert_eq!(puppet.tell(&connect), if kept { ok() } else { Err(EPERM) });
        bench.get().remove(&entry.uid, "a test").unwrap().unwrap();
    }
    drop(puppet);
}

#[test]
fn a_reused_process_number_is_nobodys_task_tree() {
    let mut bench = Bench::new("reused");
    let puppet = Puppet::new();
    let start_boot_ns = bench.get().start_of(puppet.pid()).unwrap().unwrap();
    let stale = Target::TaskTree { tgid: puppet.pid(), start_boot_ns: start_boot_ns - 1 };
    let refused = bench.get().deny(operator(stale, 60));
    assert!(matches!(refused, Err(Refusal::Gone { .. })), "{refused:?}");
    let myself = std::process::id();
    let start_boot_ns = bench.get().start_of(myself).unwrap().unwrap();
    let own = Target::TaskTree { tgid: myself, start_boot_ns };
    let refused = bench.get().deny(operator(own, 60));
    assert!(matches!(refused, Err(Refusal::Protected(_))), "{refused:?}");
}

#[test]
fn a_clean_stop_lifts_everything_unless_it_is_told_to_keep() {
    let mut bench = Bench::new("stop");
    let sink = Sink::tcp("127.67.8.1");
    let connect = format!("connect {}", sink.address);
    let mut puppet = Puppet::new();
    bench.deny(peer("127.67.8.1", 32), 60);
    bench.responder.take().unwrap().stop(true).whole().unwrap();
    assert_eq!(puppet.tell(&connect), Err(EPERM));
    let next = Responder::start(bench.options.clone()).unwrap();
    disarm(&bench.options.directory, &bench.options.ledger, BY).unwrap();
    let lifted = next.stop(false).whole().unwrap();
    assert_eq!(lifted.len(), 1);
    assert!(!bench.options.directory.exists());
    assert_eq!(puppet.tell(&connect), ok());
    assert!(matches!(
        disarm(&bench.options.directory, &bench.options.ledger, BY),
        Err(Error::NotPinned { .. })
    ));
    // Nothing is kept for no entry.
    bench.responder = Some(Responder::start(bench.options.clone()).unwrap());
    bench.responder.take().unwrap().stop(true).whole().unwrap();
    assert!(!bench.options.directory.exists());
    // The kill switch that was thrown stays thrown.
    let mut next = Responder::start(bench.options.clone()).unwrap();
    assert!(!next.adopted() && !next.is_armed().unwrap());
    next.arm().unwrap();
    next.stop(false).whole().unwrap();
}

#[test]
fn what_was_left_out_of_the_ledger_is_counted_there_at_the_stop() {
    const REPORTS: u64 = 100;
    let mut bench = Bench::new("left-out");
    for _ in 0..REPORTS {
        bench.get().record_report(&Workload::new("web"), "finding", "no entry");
    }
    bench.responder.take().unwrap().stop(true).whole().unwrap();
    let (lines, _) = Ledger::read(&bench.options.ledger).unwrap();
    let written = |line: &&ledger::Line| matches!(line.decision, Decision::Report { .. });
    let written = lines.iter().filter(written).count() as u64;
    let left_out = lines.iter().filter_map(|line| match line.decision {
        Decision::LeftOut { lines, .. } => Some(lines),
        _ => None,
    });
    assert!(written < REPORTS);
    assert_eq!(written + left_out.sum::<u64>(), REPORTS);
}
