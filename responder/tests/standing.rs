//! What waits, what is ordered and kept, and what a dead daemon leaves. Live: root, own cgroups,
//! loopback.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    io::Write,
    sync::atomic::{AtomicU32, Ordering},
};

use common::{
    Bench, Cgroup, EPERM, Puppet, Sink, copy_of_self, eventually, ok, operator, peer, subject,
};
use hedgerow_event::{Action, Mode, Remediation, Rule, Target, Workload};
use hedgerow_lab::Still;
use hedgerow_responder::{
    Error, Now, Refusal, Request, Responder,
    ledger::{Decision, Ledger},
    now, ordered,
};

#[test]
fn puppet() {
    common::play();
}

fn later(seconds: u64) -> Now {
    let now = now();
    let wait_ns = seconds * 1_000_000_000;
    Now { boot_ns: now.boot_ns + wait_ns, wall_ns: now.wall_ns + wait_ns as i64 }
}

/// Each by a finding of its own.
fn automatic(workload: &str, target: Target) -> Request {
    static FINDINGS: AtomicU32 = AtomicU32::new(0);
    Request {
        rule: Rule::ExecUntrusted,
        subject: Some(subject(workload, "/bin/sh")),
        finding_uid: Some(format!("f{}", FINDINGS.fetch_add(1, Ordering::Relaxed))),
        ..operator(target, 60)
    }
}

fn tree(bench: &mut Bench, puppet: &Puppet) -> Target {
    let start_boot_ns = bench.get().start_of(puppet.pid()).unwrap().unwrap();
    Target::TaskTree { tgid: puppet.pid(), start_boot_ns }
}

fn decisions(bench: &Bench) -> Vec<Decision> {
    // They are written beside.
    let written = || bench.responder.as_ref().is_none_or(|it| it.ledger().written().waiting == 0);
    eventually("the ledger is written", written);
    let (lines, torn) = Ledger::read(&bench.options.ledger).unwrap();
    assert_eq!(torn, 0);
    lines.into_iter().map(|line| line.decision).collect()
}

/// Asks for an entry that is wide, and so waits; its uid.
fn held(bench: &mut Bench, workload: &str, target: &Target) -> String {
    match bench.get().deny(automatic(workload, target.clone())) {
        Err(Refusal::Held { uid, seconds: 60 }) => uid,
        other => panic!("not held: {other:?}"),
    }
}

#[test]
fn a_wide_automatic_entry_waits_a_minute_in_which_it_is_withdrawn_and_a_narrow_one_does_not() {
    let mut bench = Bench::new("held");
    let (cgroup, sink) = (Cgroup::new("held"), Sink::tcp("127.70.1.1"));
    let connect = format!("connect {}", sink.address);
    let mut puppet = Puppet::inside(&cgroup);
    let whole = Target::Cgroup { cgroup_id: cgroup.id(), path: "/test".into() };
    let uid = held(&mut bench, "web", &whole);
    assert_eq!(bench.get().holds()[0].uid, uid);
    let again = bench.get().deny(automatic("web", whole.clone()));
    assert!(matches!(again, Err(Refusal::Covered { .. })), "{again:?}");
    assert!(bench.get().tick(later(30)).unwrap().is_empty());
    assert_eq!(puppet.tell(&connect), ok(), "it is not installed yet");
    let narrow = tree(&mut bench, &puppet);
    let narrow = bench.get().deny(automatic("web", narrow)).unwrap();
    assert_eq!(puppet.tell(&connect), Err(EPERM), "the narrow one stands at once");
    bench.get().remove(&narrow.uid, "a test").unwrap().unwrap();
    assert_eq!(puppet.tell(&connect), ok());
    let installed = bench.get().tick(later(60)).unwrap();
    let told: Vec<_> = installed.iter().map(|done| (done.action, &done.uid)).collect();
    assert_eq!(told, [(Action::Block, &uid)]);
    assert_eq!(puppet.tell(&connect), Err(EPERM));
    assert!(bench.get().holds().is_empty());
    let said = decisions(&bench);
    assert!(said.iter().any(|line| matches!(line, Decision::Hold { hold } if hold.uid == uid)));
    bench.get().remove(&uid, "a test").unwrap().unwrap();
    withdrawn(&mut bench, &whole);
    assert_eq!(puppet.tell(&connect), ok());
    drop(puppet);
}

#[test]
fn the_main_process_of_a_unit_is_held_a_minute_and_what_runs_beside_it_is_not() {
    let mut bench = Bench::new("main");
    let cgroup = Cgroup::named(&format!("hedgerow-test-{}.service", std::process::id()));
    let sink = Sink::tcp("127.70.9.1");
    let connect = format!("connect {}", sink.address);
    let mut main = Puppet::inside(&cgroup);
    main.tell("fork").unwrap();
    let mut beside = Puppet::inside(&cgroup);
    // Put in from outside, and younger.
    let narrow = tree(&mut bench, &beside);
    bench.get().deny(automatic("web", narrow)).unwrap();
    assert_eq!(beside.tell(&connect), Err(EPERM));
    let whole = tree(&mut bench, &main);
    let uid = held(&mut bench, "web", &whole);
    assert_eq!((main.tell(&connect), main.tell(&format!("sub {connect}"))), (ok(), ok()));
    let reason = bench.get().holds()[0].reason.clone();
    assert!(reason.contains("the main process of hedgerow-test-"), "{reason}");
    let installed = bench.get().tick(later(60)).unwrap();
    assert!(installed.iter().any(|done| done.uid == uid && done.action == Action::Block));
    assert_eq!(main.tell(&connect), Err(EPERM));
    drop((main, beside));
}

#[test]
fn what_is_ordered_is_known_without_a_responder() {
    let mut bench = Bench::new("ordered");
    bench.options.mode = Mode::Observe;
    assert_eq!(ordered(&bench.options).unwrap(), Mode::Observe);
    bench.get().set_mode(Workload::new("web"), Mode::Enforce).unwrap();
    assert_eq!(ordered(&bench.options).unwrap(), Mode::Enforce);
}

/// By hand, by mode, by what speaks against it when its time has come, and by a restart.
fn withdrawn(bench: &mut Bench, whole: &Target) {
    let by_hand = held(bench, "web", whole);
    assert!(bench.get().withdraw(&by_hand, "a test").unwrap());
    assert!(!bench.get().withdraw(&by_hand, "a test").unwrap());
    let by_mode = held(bench, "web", whole);
    bench.get().set_mode(Workload::new("db"), Mode::Observe).unwrap();
    assert_eq!(bench.get().holds().len(), 1, "another workload's mode");
    bench.get().set_mode(Workload::new("web"), Mode::Observe).unwrap();
    assert!(bench.get().holds().is_empty());
    bench.get().set_mode(Workload::new("web"), Mode::Enforce).unwrap();
    let by_switch = held(bench, "web", whole);
    bench.get().disarm().unwrap();
    assert!(bench.get().tick(later(61)).unwrap().is_empty());
    bench.get().arm().unwrap();
    let by_death = held(bench, "web", whole);
    bench.responder = None;
    bench.responder = Some(Responder::start(bench.options.clone()).unwrap());
    assert!(bench.get().tick(later(61)).unwrap().is_empty());
    let said = decisions(bench);
    for uid in [by_hand, by_mode, by_switch, by_death] {
        let withdrawn =
            |line: &&Decision| matches!(line, Decision::Withdraw { uid: told, .. } if *told == uid);
        assert_eq!(said.iter().filter(withdrawn).count(), 1, "{uid}: {said:?}");
    }
}

#[test]
fn an_entry_never_rises_above_what_it_may_do_when_its_workloads_mode_does() {
    let mut bench = Bench::new("ceiling");
    let sink = Sink::tcp("127.70.3.1");
    let connect = format!("connect {}", sink.address);
    let mut puppet = Puppet::new();
    let target = tree(&mut bench, &puppet);
    let request = Request { mode: Some(Mode::Monitor), ..automatic("web", target) };
    let entry = bench.get().deny(request).unwrap();
    assert_eq!(entry.mode, Mode::Monitor, "enforce is ordered, monitor is all it may");
    let restart = |bench: &mut Bench| {
        bench.responder = None;
        bench.responder = Some(Responder::start(bench.options.clone()).unwrap());
    };
    for restarted in [false, true] {
        if restarted {
            restart(&mut bench);
        }
        bench.get().set_mode(Workload::new("web"), Mode::Enforce).unwrap();
        bench.get().set_default_mode(Mode::Enforce).unwrap();
        assert_eq!(bench.get().entries()[0].mode, Mode::Monitor);
        assert_eq!(puppet.tell(&connect), ok());
    }
}

#[test]
fn modes_and_allowed_addresses_outlive_stops_kills_and_reboots() {
    let mut bench = Bench::new("orders");
    let sink = Sink::tcp("127.70.4.1");
    let connect = format!("connect {}", sink.address);
    let (web, db) = (Workload::new("web"), Workload::new("db"));
    bench.options.mode = Mode::Observe;
    bench.get().set_default_mode(Mode::Monitor).unwrap();
    bench.get().set_mode(web.clone(), Mode::Enforce).unwrap();
    bench.get().allow(peer("127.70.4.0", 24), true).unwrap();
    let start = |bench: &mut Bench| {
        bench.responder = Some(Responder::start(bench.options.clone()).unwrap());
        let responder = bench.get();
        (responder.mode(&web), responder.mode(&db))
    };
    // Killed: nothing is written at the end.
    bench.responder = None;
    assert_eq!(start(&mut bench), (Mode::Enforce, Mode::Monitor));
    // A reboot takes the pins; the ledger may have been rotated away by then. What is said at the
    // start holds where it is less than the default, not over a workload's own, and isn't kept.
    bench.responder.take().unwrap().stop(false).whole().unwrap();
    fs::remove_file(&bench.options.ledger).unwrap();
    bench.options.mode_now = Some(Mode::Observe);
    assert_eq!(start(&mut bench), (Mode::Enforce, Mode::Observe));
    bench.deny(peer("127.70.4.1", 32), 60);
    let mut puppet = Puppet::new();
    assert_eq!(puppet.tell(&connect), ok(), "it is allowed still");
    bench.get().allow(peer("127.70.4.0", 24), false).unwrap();
    assert_eq!(puppet.tell(&connect), Err(EPERM));
    bench.responder.take().unwrap().stop(false).whole().unwrap();
    bench.options.mode_now = None;
    assert_eq!(start(&mut bench), (Mode::Enforce, Mode::Monitor));
    // Orders that can't be read are not guessed.
    bench.responder = None;
    let orders = bench.options.ledger.with_file_name("responder.json");
    fs::write(&orders, "{").unwrap();
    let refused = Responder::start(bench.options.clone()).unwrap_err();
    assert!(matches!(&refused, Error::Standing { path, .. } if *path == orders), "{refused}");
}

/// An enforcing entry of the workload, against a process of its own.
fn enforced(bench: &mut Bench, workload: &str) -> (Puppet, Remediation) {
    let puppet = Puppet::new();
    let target = tree(bench, &puppet);
    let entry = bench.get().deny(automatic(workload, target)).unwrap();
    (puppet, entry)
}

#[test]
fn a_wrong_entry_puts_its_workload_back_to_monitor_and_too_many_stop_all() {
    let mut bench = Bench::new("wrong");
    let sink = Sink::tcp("127.70.5.1");
    let connect = format!("connect {}", sink.address);
    let (web, db) = (Workload::new("web"), Workload::new("db"));
    let (mut puppet, entry) = enforced(&mut bench, "web");
    assert_eq!(puppet.tell(&connect), Err(EPERM));
    let wronged = bench.get().wrong(&entry.uid).unwrap();
    assert_eq!((wronged.counted, wronged.budget, wronged.mode), (1, 1, Mode::Monitor));
    assert_eq!(wronged.reports[0].action, Action::Unblock);
    assert_eq!(puppet.tell(&connect), ok());
    assert_eq!(bench.get().wrong(&entry.uid).unwrap().counted, 1, "said twice of one entry");
    assert!(bench.get().take_alarms().is_empty());
    assert_eq!(bench.get().mode(&db), Mode::Enforce, "the others go on");
    // One more, of which it is said when it has ended; the budget holds over a restart.
    let (other, ended) = enforced(&mut bench, "db");
    bench.get().remove(&ended.uid, "a test").unwrap().unwrap();
    bench.responder = None;
    bench.responder = Some(Responder::start(bench.options.clone()).unwrap());
    assert_eq!(bench.get().mode(&web), Mode::Monitor);
    assert_eq!(bench.get().wrong(&ended.uid).unwrap().counted, 2);
    let alarms = bench.get().take_alarms();
    assert_eq!(alarms.len(), 1);
    let target = tree(&mut bench, &other);
    let halted = |bench: &mut Bench| {
        let refused = bench.get().deny(automatic("mail", target.clone()));
        matches!(refused, Err(Refusal::Halted { wrong: 2, budget: 1 }))
    };
    assert!(halted(&mut bench));
    bench.get().set_mode(Workload::new("mail"), Mode::Enforce).unwrap();
    assert!(halted(&mut bench), "one workload's mode is not the word for all");
    let own = bench.get().deny(operator(peer("127.70.5.1", 32), 60)).unwrap();
    let refused = bench.get().wrong(&own.uid).unwrap_err();
    assert!(matches!(refused, Refusal::NotAutomatic { .. }), "{refused}");
    assert!(matches!(bench.get().wrong("nothing"), Err(Refusal::NoEntry { .. })));
    bench.get().set_default_mode(Mode::Enforce).unwrap();
    bench.get().deny(automatic("mail", target.clone())).unwrap();
    // Who was wrong doesn't rise with all others, only by name.
    assert_eq!(bench.get().mode(&web), Mode::Monitor);
    bench.get().set_mode(web.clone(), Mode::Enforce).unwrap();
    assert_eq!(bench.get().mode(&web), Mode::Enforce);
    let said = decisions(&bench);
    let wrong = said.iter().filter(|line| matches!(line, Decision::Wrong { .. })).count();
    let halts: Vec<_> = said
        .iter()
        .filter_map(|line| match line {
            Decision::Halt { halted, .. } => Some(*halted),
            _ => None,
        })
        .collect();
    assert_eq!((wrong, halts), (2, vec![true, false]));
}

#[test]
fn an_entry_that_has_just_ended_is_found_wrong_before_the_disk_has_its_lines() {
    let mut bench = Bench::new("ended");
    let (_puppet, entry) = enforced(&mut bench, "web");
    bench.get().remove(&entry.uid, "a test").unwrap().unwrap();
    // As while the lines wait for a disk: whatever the file says, it doesn't say it of this entry.
    eventually("what waits is written", || bench.get().ledger().written().waiting == 0);
    fs::write(&bench.options.ledger, "").unwrap();
    let wronged = bench.get().wrong(&entry.uid).unwrap();
    assert_eq!((wronged.counted, wronged.mode), (1, Mode::Monitor));
    assert_eq!(wronged.workload, Workload::new("web"));
}

#[test]
fn what_a_killed_daemon_leaves_follows_forks_and_execs_and_expires_by_itself() {
    let mut bench = Bench::idle("unattended");
    // An empty directory, which an interrupted removal leaves, is no set of pins. (Where no BPF file
    // system is mounted yet there can be none.)
    let _ = fs::create_dir(&bench.options.directory);
    let sinks = ["127.70.6.1", "127.70.6.2", "127.70.6.3"].map(Sink::tcp);
    let connect: Vec<String> =
        sinks.iter().map(|sink| format!("connect {}", sink.address)).collect();
    let cgroup = Cgroup::new("unattended");
    let copy = copy_of_self(bench.directory.path());
    let (mut puppet, mut parent, program) = (Puppet::new(), Puppet::new(), Puppet::start(&copy));
    let mut daemon = Puppet::new();
    let (pins, ledger) = (bench.options.directory.display(), bench.options.ledger.display());
    daemon.tell(&format!("daemon {pins} {ledger}")).unwrap();
    daemon.tell(&format!("deny-tree {} 60", parent.pid())).unwrap();
    let (id, pid) = (cgroup.id(), program.pid());
    daemon.tell(&format!("deny-program 127.70.6.3 {id} {pid}")).unwrap();
    // The last, since it doesn't last.
    let short = daemon.tell("deny 127.70.6.1 5").unwrap();
    drop(daemon); // SIGKILL
    assert_eq!(puppet.tell(&connect[0]), Err(EPERM));
    // A child that is forked with nobody there.
    match parent.tell("fork") {
        Ok(_) => assert_eq!(parent.tell(&format!("sub {}", connect[1])), Err(EPERM)),
        // Where LSM programs load it may not even execute anything.
        Err(errno) => assert_eq!(errno, EPERM),
    }
    assert_eq!(puppet.tell(&connect[1]), ok());
    // A program that is started with nobody there.
    let mut offender = Puppet::start(&copy);
    offender.tell(&format!("cgroup {}", cgroup.0.display())).unwrap();
    assert_eq!(offender.tell(&connect[2]), Err(EPERM));
    let mut other = Puppet::inside(&cgroup);
    assert_eq!(other.tell(&connect[2]), ok());
    eventually("the short entry expires", || puppet.tell(&connect[0]).is_ok());
    assert_eq!(parent.tell(&connect[1]), Err(EPERM), "the longer one lives on");
    bench.responder = Some(Responder::start(bench.options.clone()).unwrap());
    assert_eq!(bench.get().entries().len(), 2);
    let told = bench.get().tick(now()).unwrap();
    // Killed before a slow disk had taken their lines, entries have them written anew.
    let gone = told.iter().filter(|told| !told.reason.ends_with("is written anew)"));
    let gone: Vec<_> = gone.map(|gone| (gone.action, &*gone.uid, &*gone.reason)).collect();
    assert_eq!(gone, [(Action::Unblock, &*short, "expired unattended")]);
    assert_eq!(offender.tell(&connect[2]), Err(EPERM));
    drop((offender, other));
}

/// A file system of 1 MiB, in memory.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount() -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m,mode=0700", "none"]).arg(disk.0.path());
        assert!(mount.status().unwrap().success());
        disk
    }
    fn fill(&self) {
        let mut file = fs::File::create(self.0.path().join("filler")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn on_a_full_disk_a_stop_lifts_everything_and_says_what_was_not_written() {
    let mut bench = Bench::idle("full");
    let disk = Disk::mount();
    bench.options.ledger = disk.0.path().join("ledger.jsonl");
    bench.responder = Some(Responder::start(bench.options.clone()).unwrap());
    let sink = Sink::tcp("127.70.8.1");
    let connect = format!("connect {}", sink.address);
    let mut puppet = Puppet::new();
    bench.deny(peer("127.70.8.1", 32), 60);
    let target = tree(&mut bench, &puppet);
    bench.deny(target, 60);
    assert_eq!(puppet.tell(&connect), Err(EPERM));
    eventually("the ledger is written", || bench.get().ledger().written().waiting == 0);
    disk.fill();
    // An order is done, and its giver is told that it is not on the disk; what was lifted is told, too.
    bench.get().set_mode(Workload::new("web"), Mode::Monitor).unwrap_err();
    assert_eq!(bench.get().mode(&Workload::new("web")), Mode::Monitor);
    assert!(bench.get().take_notices().iter().any(|one| one.contains("a restart forgets")));
    bench.get().tick(now()).unwrap();
    let stopped = bench.responder.take().unwrap().stop(false);
    assert!(stopped.failed.is_some());
    assert_eq!(stopped.reports.iter().filter(|one| one.action == Action::Unblock).count(), 2);
    assert_eq!(puppet.tell(&connect), ok());
    assert!(!bench.options.directory.exists());
}

#[test]
fn a_disk_that_stands_still_holds_up_no_decision() {
    let mut bench = Bench::new("still");
    let _still = Still::at(bench.options.ledger.parent().unwrap()).unwrap();
    let begun = std::time::Instant::now();
    let workload = Workload::new("web");
    for minute in 0..120 {
        bench.get().watch(later(60 * minute), 60, [&workload]);
    }
    bench.get().set_mode(workload.clone(), Mode::Enforce).unwrap();
    let (_puppet, entry) = enforced(&mut bench, "web");
    // Past the limit the breaker trips, which is to be kept.
    for _ in 0..20 {
        drop(enforced(&mut bench, "web"));
    }
    assert_eq!(bench.get().tripped(), [&workload]);
    assert!(bench.get().remove(&entry.uid, "a test").unwrap().is_some());
    for seconds in 0..70 {
        bench.get().tick(later(seconds)).unwrap();
    }
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
}

#[test]
fn what_normal_life_has_shown_and_can_not_be_read_denies_nothing_by_itself_until_somebody_says_so()
{
    let mut bench = Bench::idle("unread");
    let remembered = bench.options.ledger.with_file_name("remembered.json");
    // Larger than any that is read.
    fs::File::create(&remembered).unwrap().set_len(65 << 20).unwrap();
    bench.responder = Some(Responder::start(bench.options.clone()).unwrap());
    let alarms = bench.get().take_alarms();
    assert!(alarms.len() == 1 && alarms[0].reason.contains("remembered.bad"), "{alarms:?}");
    let puppet = Puppet::new();
    let target = tree(&mut bench, &puppet);
    let unread = |bench: &mut Bench| {
        let refused = bench.get().deny(automatic("web", target.clone()));
        matches!(refused, Err(Refusal::Unremembered { .. }))
    };
    assert!(unread(&mut bench));
    bench.deny(peer("127.70.9.1", 32), 60);
    bench.responder = None;
    bench.responder = Some(Responder::start(bench.options.clone()).unwrap());
    assert!(unread(&mut bench), "a restart doesn't make it good");
    fs::remove_file(remembered.with_extension("bad")).unwrap();
    bench.get().deny(automatic("web", target.clone())).unwrap();
}

#[test]
fn a_part_of_the_pins_is_never_covered_by_empty_maps() {
    let mut bench = Bench::new("part");
    let sink = Sink::tcp("127.70.7.1");
    let connect = format!("connect {}", sink.address);
    bench.deny(peer("127.70.7.1", 32), 60);
    bench.responder = None;
    let pins = bench.options.directory.clone();
    for missing in ["deny_scopes", "deny_control"] {
        fs::remove_file(pins.join(missing)).unwrap();
        let refused = Responder::start(bench.options.clone()).unwrap_err();
        assert!(matches!(&refused, Error::Incomplete { what, .. } if what == missing), "{refused}");
        assert!(refused.to_string().contains("disarm --remove"));
    }
    assert_eq!(Puppet::new().tell(&connect), Err(EPERM), "what is attached refuses on");
    hedgerow_responder::remove_pins(&pins).unwrap();
    eventually("it is detached", || Puppet::new().tell(&connect).is_ok());
}

#[test]
fn a_line_that_was_lost_is_written_when_its_entry_is_adopted() {
    let mut bench = Bench::new("noted");
    let sink = Sink::tcp("127.70.8.1");
    let connect = format!("connect {}", sink.address);
    let (mut puppet, entry) = enforced(&mut bench, "web");
    // Killed before the line was on the disk, which keeps half of it.
    bench.responder = None;
    let text = fs::read(&bench.options.ledger).unwrap();
    let lost = text.windows(8).position(|bytes| bytes == b"\"block\",").unwrap();
    fs::write(&bench.options.ledger, &text[..lost]).unwrap();
    bench.responder = Some(Responder::start(bench.options.clone()).unwrap());
    let adopted = bench.get().entries()[0].clone();
    assert_eq!((&adopted.uid, &adopted.finding_uid), (&entry.uid, &entry.finding_uid));
    assert_eq!((adopted.rule, &adopted.target), (entry.rule, &entry.target));
    assert_eq!(adopted.subject, entry.subject);
    assert_eq!(puppet.tell(&connect), Err(EPERM), "it stands all the while");
    eventually("its line is written", || bench.get().ledger().written().waiting == 0);
    assert!(bench.get().ledger().written().healed > 0);
    let said = decisions(&bench);
    let explains = |line: &Decision| matches!(line, Decision::Block { entry: told, .. } if told.uid == entry.uid);
    assert!(said.iter().any(explains), "{said:?}");
    assert!(!said.iter().any(|line| matches!(line, Decision::Foreign { .. })));
    // As any other it is lifted, and its note goes with it.
    bench.get().remove(&entry.uid, "a test").unwrap().unwrap();
    assert_eq!(puppet.tell(&connect), ok());
    fs::write(&bench.options.ledger, "").unwrap();
    bench.responder = None;
    bench.responder = Some(Responder::start(bench.options.clone()).unwrap());
    assert!(bench.get().entries().is_empty());
}
