//! What needs small tables, or an entry without the socket destruction that goes with it.
#![allow(clippy::unwrap_used)]

mod sockets;
mod trees;

use std::{
    fs::File,
    net::TcpStream,
    os::fd::AsRawFd,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hedgerow_event::{Action, Mode, Rule, Target};

use super::*;
use crate::{
    Limits, Options, Refusal, Request, Responder,
    ledger::{Decision, Ledger},
};

/// The deny programs are attached to the whole host: one test at a time, over all processes.
struct Alone(#[allow(dead_code)] File, #[allow(dead_code)] MutexGuard<'static, ()>);

fn alone() -> Alone {
    static ONE: Mutex<()> = Mutex::new(());
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let file = File::create(std::env::temp_dir().join("hedgerow-deny-tests.lock")).unwrap();
    // SAFETY: plain system call on an open descriptor; closing it unlocks.
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }, 0);
    Alone(file, guard)
}

struct Bench {
    responder: Responder,
    options: Options,
    _directory: tempfile::TempDir,
    _alone: Alone,
}

impl Bench {
    fn new(name: &str, sizes: Sizes, limits: Limits) -> Self {
        let _alone = alone();
        let _directory = tempfile::tempdir().unwrap();
        let mut options = Options::new("test-host", _directory.path().join("ledger.jsonl"));
        options.directory = format!("/sys/fs/bpf/hedgerow-{name}-{}", std::process::id()).into();
        options.limits = limits;
        options.mode = Mode::Enforce;
        let loaded = Responder::load_sized(&options, sizes).unwrap();
        let responder = Responder::with(loaded, options.clone()).unwrap();
        Self { responder, options, _directory, _alone }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        remove_all(&self.options.directory).unwrap();
    }
}

fn peer(address: &str) -> Target {
    let address = address.parse().unwrap();
    Target::Peer { address, prefix_length: 32, cgroup_id: 0, program_id: 0 }
}

/// Narrow, so that it isn't held.
fn narrow(last: u8) -> Target {
    let address = [203, 0, 113, last].into();
    Target::Peer { address, prefix_length: 32, cgroup_id: 7, program_id: 9 }
}

fn request(target: Target, rule: Rule) -> Request {
    Request {
        target,
        rule,
        seconds: 60,
        finding_uid: None,
        subject: None,
        process: None,
        mode: None,
        reason: "a test".into(),
    }
}

#[test]
fn loads_attaches_and_leaves_nothing() {
    let _alone = alone();
    let directory = format!("/sys/fs/bpf/hedgerow-load-{}", std::process::id());
    let directory = std::path::Path::new(&directory);
    assert!(!Kernel::start(directory, Sizes::default()).unwrap().adopted);
    let kernel = Kernel::start(directory, Sizes::default()).unwrap();
    assert!(kernel.adopted);
    kernel.remove().unwrap();
    assert!(!directory.exists());
}

#[test]
fn a_full_map_refuses_and_evicts_nothing() {
    let sizes = Sizes { peers: 2, ..Sizes::default() };
    let mut bench = Bench::new("full", sizes, Limits::default());
    for address in ["127.68.1.1", "127.68.1.2"] {
        bench.responder.deny(request(peer(address), Rule::Operator)).unwrap();
    }
    for _ in 0..2 {
        let refused = bench.responder.deny(request(peer("127.68.1.3"), Rule::Operator));
        assert!(matches!(refused, Err(Refusal::Full { whose: "kernel", .. })), "{refused:?}");
    }
    assert!(bench.responder.take_alarms().is_empty(), "an operator sees the refusal");
    for told in [1, 0] {
        let refused = bench.responder.deny(request(narrow(3), Rule::NewProgramNewPeer));
        assert!(refused.is_err(), "{refused:?}");
        assert_eq!(bench.responder.take_alarms().len(), told, "told once");
    }
    assert_eq!(bench.responder.entries().len(), 2);
    assert_eq!(TcpStream::connect("127.68.1.1:9").unwrap_err().raw_os_error(), Some(libc::EPERM));
    assert_ne!(TcpStream::connect("127.68.1.3:9").unwrap_err().raw_os_error(), Some(libc::EPERM));
    // A place that is given back can be taken.
    let uid = bench.responder.entries()[0].uid.clone();
    bench.responder.remove(&uid, "a test").unwrap().unwrap();
    bench.responder.deny(request(peer("127.68.1.3"), Rule::Operator)).unwrap();
    assert_eq!(TcpStream::connect("127.68.1.3:9").unwrap_err().raw_os_error(), Some(libc::EPERM));
}

#[test]
fn the_reserve_is_kept_for_operators_and_the_breaker_holds_the_rest() {
    let limits = Limits { automatic: 5, reserve: 1, per_minute: 100, ..Limits::default() };
    let mut bench = Bench::new("reserve", Sizes::default(), limits);
    for n in 1..=3 {
        bench.responder.deny(request(narrow(n), Rule::NewProgramNewPeer)).unwrap();
    }
    for _ in 0..2 {
        let refused = bench.responder.deny(request(narrow(4), Rule::NewProgramNewPeer));
        let full = matches!(refused, Err(Refusal::Share { own: 3, taken: 3, .. }));
        assert!(full, "{refused:?}");
    }
    let alarms = bench.responder.take_alarms();
    assert_eq!(alarms.len(), 1, "told once: {alarms:?}");
    assert!(alarms[0].reason.contains("nothing is evicted"));
    let mut of_another = request(narrow(4), Rule::NewProgramNewPeer);
    of_another.subject = Some(subject("db"));
    bench.responder.deny(of_another).unwrap();
    for n in [5, 6] {
        bench.responder.deny(request(narrow(n), Rule::Operator)).unwrap();
    }
    let refused = bench.responder.deny(request(narrow(7), Rule::Operator));
    assert!(matches!(refused, Err(Refusal::Full { whose: "all", limit: 6 })), "{refused:?}");
}

/// Who does it again within the second between an expiry and the next sweep is denied at once.
#[test]
fn what_is_over_covers_nothing_though_nobody_swept() {
    let mut bench = Bench::new("over", Sizes::default(), Limits::default());
    let short = Request { seconds: 5, ..request(narrow(1), Rule::NewProgramNewPeer) };
    bench.responder.deny(short.clone()).unwrap();
    let covered = bench.responder.deny(short.clone());
    assert!(matches!(covered, Err(Refusal::Covered { .. })), "{covered:?}");
    std::thread::sleep(Duration::from_millis(5100));
    bench.responder.deny(short).unwrap();
    assert_eq!(bench.responder.entries().len(), 1);
    let told = bench.responder.tick(crate::now()).unwrap();
    let ended = told.iter().filter(|one| one.action == Action::Unblock);
    assert_eq!(ended.count(), 1, "the end of the first is told: {told:?}");
}

/// The daemon asks for the same again and again: it undoes no operator's order, and says so once.
#[test]
fn what_an_operator_lifted_stays_lifted() {
    let mut bench = Bench::new("lifted", Sizes::default(), Limits::default());
    let of = |last, finding: &str| Request {
        finding_uid: Some(finding.into()),
        process: Some((4_000_000, 5)),
        ..request(narrow(last), Rule::NewProgramNewPeer)
    };
    let entry = bench.responder.deny(of(1, "f")).unwrap();
    bench.responder.remove(&entry.uid, "an operator said so").unwrap().unwrap();
    for (last, finding) in [(1, "f"), (1, "f"), (2, "f"), (2, "f"), (1, "g")] {
        let refused = bench.responder.deny(of(last, finding));
        assert!(matches!(refused, Err(Refusal::Spent)), "{last} {finding}: {refused:?}");
    }
    assert!(bench.responder.entries().is_empty());
    bench.responder.deny(of(2, "g")).unwrap();
    bench.responder.deny(of(2, "g")).unwrap_err();
    bench.responder.deny(of(2, "g")).unwrap_err();
    while bench.responder.ledger().written().waiting > 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let (lines, _) = Ledger::read(&bench.options.ledger).unwrap();
    let refusals = lines.iter().filter(|line| matches!(line.decision, Decision::Refuse { .. }));
    assert_eq!(refusals.count(), 4, "one for each finding and target: {lines:?}");
}

fn subject(workload: &str) -> std::sync::Arc<hedgerow_event::Subject> {
    use hedgerow_event::{Program, Subject, Workload};
    std::sync::Arc::new(Subject::new(Workload::new(workload), Program::new("/bin/sh")))
}

#[test]
fn decoys_trip_the_breaker_for_wide_entries_and_shield_no_narrow_offender() {
    let mut bench = Bench::new("breaker", Sizes::default(), Limits::default());
    let address = |n: u8| request(narrow(n), Rule::NewProgramNewPeer);
    let wide = |n: u8| {
        let address = [203, 0, 113, n].into();
        let target = Target::Peer { address, prefix_length: 32, cgroup_id: 7, program_id: 0 };
        request(target, Rule::NewProgramNewPeer)
    };
    let held = bench.responder.deny(wide(200));
    assert!(matches!(held, Err(Refusal::Held { .. })), "{held:?}");
    for decoy in 1..=21 {
        bench.responder.deny(address(decoy)).unwrap();
    }
    bench.responder.deny(address(22)).unwrap();
    assert_eq!(bench.responder.entries().len(), 22);
    assert_eq!(bench.responder.tripped().len(), 1);
    let alarms = bench.responder.take_alarms();
    assert_eq!(alarms.len(), 1, "told once: {alarms:?}");
    assert!(alarms[0].reason.contains("narrow ones go on"), "{alarms:?}");
    // What is wide waits for an operator, also what was held before, and after a restart.
    bench.responder.settle();
    let options = bench.options.clone();
    let due_boot_ns = bench.responder.holds()[0].due_boot_ns;
    bench.responder.tick(crate::Now { boot_ns: due_boot_ns, ..now() }).unwrap();
    assert!(bench.responder.holds().is_empty());
    assert_eq!(bench.responder.entries().len(), 22);
    for _ in 0..2 {
        let refused = bench.responder.deny(wide(201));
        assert!(matches!(refused, Err(Refusal::BreakerOpen { .. })), "{refused:?}");
        bench.responder = Responder::start(options.clone()).unwrap();
    }
    let host = hedgerow_event::Workload::host();
    bench.responder.set_mode(host, Mode::Enforce).unwrap();
    let held = bench.responder.deny(wide(201));
    assert!(matches!(held, Err(Refusal::Held { .. })), "{held:?}");
    bench.responder = Responder::start(options).unwrap();
    assert!(bench.responder.tripped().is_empty(), "what an operator reset stays reset");
}

/// Processes that come of a fork: what they do after it are system calls alone.
struct Forked(libc::pid_t);

impl Forked {
    fn new(life: impl FnOnce()) -> Self {
        Self(forked(life))
    }
}

/// A child that lives as long as its parent.
fn forked(life: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child makes system calls until it is killed with its parent's thread.
    let (parent, child) = unsafe { (libc::getpid(), libc::fork()) };
    assert!(child >= 0);
    if child == 0 {
        rest(parent, life);
    }
    child
}

/// Lives as long as its parent, and doesn't return.
fn rest(parent: libc::pid_t, life: impl FnOnce()) -> ! {
    // SAFETY: plain system calls.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        // Whose parent ended before would live on, with the locks of other tests' files.
        if libc::getppid() != parent {
            libc::_exit(0);
        }
        life();
        loop {
            libc::pause();
        }
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        // SAFETY: plain system calls about our own child.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}
