//! What needs small tables, or an entry without the socket destruction that goes with it.
#![allow(clippy::unwrap_used)]

use std::{
    fs::File,
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    process::{Child, Command, Stdio},
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

/// The packet hooks alone: the socket is not destroyed, yet nothing gets through either way.
#[test]
fn packets_of_a_standing_connection_are_dropped_both_ways() {
    let mut bench = Bench::new("packets", Sizes::default(), Limits::default());
    let listener = TcpListener::bind("127.68.2.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(b"before").unwrap();
    let mut buffer = [0; 64];
    assert_eq!(server.read(&mut buffer).unwrap(), 6);
    // Only in the kernel: no list of sockets, no destruction.
    let monitored =
        Request { mode: Some(Mode::Monitor), ..request(peer("127.68.2.1"), Rule::Operator) };
    bench.responder.deny(monitored).unwrap();
    bench.responder.force_enforce();
    for stream in [&server, &client] {
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    }
    let _ = client.write_all(b"after");
    assert!(server.read(&mut buffer).is_err(), "egress is dropped");
    let _ = server.write_all(b"after");
    assert!(client.read(&mut buffer).is_err(), "ingress is dropped");
    let entry = bench.responder.entries()[0].id;
    assert!(bench.responder.kernel_hits(entry) >= 2);
}

/// Both ends of a connection.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

impl Pair {
    fn new(address: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        Self { client, server: listener.accept().unwrap().0 }
    }

    /// Writes a byte, and tells how many have arrived, at most so many and within a time. What is
    /// dropped is sent again by and by.
    fn sends(&mut self, wanted: usize, within: Duration) -> usize {
        drop(self.client.write_all(b"x"));
        self.server.set_read_timeout(Some(within)).unwrap();
        let (mut arrived, mut buffer) = (0, [0; 64]);
        while arrived < wanted {
            match self.server.read(&mut buffer) {
                Ok(size @ 1..) => arrived += size,
                _ => break,
            }
        }
        arrived
    }
}

/// No socket is destroyed here: what refuses are the packet hooks alone.
#[test]
fn a_connection_that_passed_is_looked_up_anew_when_entries_change_and_not_before() {
    const SOON: Duration = Duration::from_millis(300);
    const LATER: Duration = Duration::from_secs(20);
    let mut bench = Bench::new("passed", Sizes::default(), Limits::default());
    // So that there is something to look up.
    bench.responder.deny(request(peer("127.68.3.9"), Rule::Operator)).unwrap();
    let mut pair = Pair::new("127.68.3.1");
    assert_eq!(pair.sends(1, LATER), 1);
    let word = bench.responder.passed(&pair.client);
    assert_ne!(word, 0, "it met no entry");
    assert_eq!(pair.sends(1, LATER), 1);
    assert_eq!(bench.responder.passed(&pair.client), word);
    // Who only counts does so for each packet.
    let counting =
        Request { mode: Some(Mode::Monitor), ..request(peer("127.68.3.1"), Rule::Operator) };
    let uid = bench.responder.deny(counting).unwrap().uid;
    let id = bench.responder.entries().iter().find(|entry| entry.uid == uid).unwrap().id;
    let mut counted = 0;
    for _ in 0..2 {
        assert_eq!(pair.sends(1, LATER), 1);
        let hits = bench.responder.kernel_hits(id);
        assert!(hits > counted, "{hits} after {counted}");
        counted = hits;
    }
    bench.responder.force_enforce();
    assert_eq!(pair.sends(1, SOON), 0, "a mode that rises holds for what stands");
    bench.responder.allow(peer("127.68.3.1"), true).unwrap();
    assert_eq!(pair.sends(2, LATER), 2);
    bench.responder.allow(peer("127.68.3.1"), false).unwrap();
    assert_eq!(pair.sends(1, SOON), 0, "what was allowed no longer is");
    bench.responder.remove(&uid, "a test").unwrap().unwrap();
    assert_eq!(pair.sends(2, LATER), 2);
}

/// Begins to connect from an address of its own.
fn connecting(from: [u8; 4], to: std::net::SocketAddr) -> OwnedFd {
    let std::net::SocketAddr::V4(to) = to else { unimplemented!() };
    let name = |address: u32, port: u16| libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: address.to_be() },
        sin_zero: [0; 8],
    };
    let (own, other) = (name(u32::from_be_bytes(from), 0), name(to.ip().to_bits(), to.port()));
    let length = size_of_val(&own) as libc::socklen_t;
    // SAFETY: both names are of the length that is passed, and the descriptor is nobody else's.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0);
        assert!(fd >= 0);
        assert_eq!(libc::bind(fd, (&raw const own).cast(), length), 0);
        libc::connect(fd, (&raw const other).cast(), length);
        OwnedFd::from_raw_fd(fd)
    }
}

#[test]
fn a_listener_that_somebody_passed_is_looked_up_for_another() {
    let mut bench = Bench::new("callers", Sizes::default(), Limits::default());
    let uid = bench.responder.deny(request(peer("127.68.4.5"), Rule::Operator)).unwrap().uid;
    let listener = TcpListener::bind("127.68.4.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(TcpStream::connect(address).unwrap());
    listener.accept().unwrap();
    let _denied = connecting([127, 68, 4, 5], address);
    listener.set_nonblocking(true).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(listener.accept().is_err(), "it is denied");
    bench.responder.remove(&uid, "a test").unwrap().unwrap();
    // It goes on trying.
    listener.set_nonblocking(false).unwrap();
    assert_eq!(listener.accept().unwrap().1.ip(), std::net::IpAddr::from([127, 68, 4, 5]));
}

/// A child of a denied process that finds no room in the table is refused and killed all the same.
#[test]
fn a_child_without_room_is_refused_and_dies_at_its_next_exec() {
    let (said, doomed) = child_without_room("doomed", Mode::Enforce);
    assert_eq!(said, "137", "the child of the shell was killed");
    assert!(doomed >= 1);
}

#[test]
fn a_monitored_tree_without_room_is_neither_refused_nor_killed() {
    assert_eq!(child_without_room("spared", Mode::Monitor), ("0".to_owned(), 0));
}

/// What a denied shell says of its child, for which the table had no room, and how many such there
/// were.
fn child_without_room(name: &str, mode: Mode) -> (String, u64) {
    let sizes = Sizes { tasks: 1, ..Sizes::default() };
    let mut bench = Bench::new(name, sizes, Limits::default());
    // A shell that forks a child, which tries to run something.
    let mut shell = Command::new("/bin/sh")
        .args(["-c", "echo up; read go; (/bin/true; exit $?); echo $?; read end"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // It says "Killed" there, in the middle of a line of whoever runs the tests.
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Whoever spawned it goes on before its exec is over, which the entry would refuse.
    assert_eq!(first_line(&mut shell), "up");
    let start_boot_ns = bench.responder.start_of(shell.id()).unwrap().unwrap();
    let tree = Target::TaskTree { tgid: shell.id(), start_boot_ns };
    let request = Request { mode: Some(mode), ..request(tree, Rule::Operator) };
    bench.responder.deny(request).unwrap();
    bench.responder.take_notices();
    shell.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    let said = first_line(&mut shell);
    shell.kill().unwrap();
    shell.wait().unwrap();
    let notices = bench.responder.take_notices();
    assert!(notices.iter().any(|notice| notice.contains("the kernel's table")), "{notices:?}");
    assert!(bench.responder.take_notices().is_empty(), "told once");
    (said, bench.responder.doomed())
}

/// A table of eight for a tree of ten: half is the most that one tree gets, the rest of it is doomed.
#[test]
fn one_tree_leaves_room_for_others() {
    let sizes = Sizes { tasks: 8, ..Sizes::default() };
    let mut bench = Bench::new("share", sizes, Limits::default());
    let parent = |children: u8| {
        Forked::new(move || {
            for _ in 0..children {
                // SAFETY: plain system call.
                if unsafe { libc::fork() } == 0 {
                    rest(|| {});
                }
            }
        })
    };
    let (many, one) = (parent(9), parent(0));
    let children = || {
        let path = format!("/proc/{0}/task/{0}/children", many.0);
        std::fs::read_to_string(path).map_or(9, |read| read.split_whitespace().count())
    };
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while children() < 9 {
        assert!(std::time::Instant::now() < end);
        std::thread::sleep(Duration::from_millis(1));
    }
    for (pid, doomed) in [(many.0, 5), (one.0, 5)] {
        let tgid = pid as u32;
        let start_boot_ns = bench.responder.start_of(tgid).unwrap().unwrap();
        let tree = Target::TaskTree { tgid, start_boot_ns };
        bench.responder.deny(request(tree, Rule::Operator)).unwrap();
        assert!(bench.responder.doomed() >= doomed, "{}", bench.responder.doomed());
    }
}

/// Processes that come of a fork: what they do after it are system calls alone.
struct Forked(libc::pid_t);

impl Forked {
    fn new(life: impl FnOnce()) -> Self {
        // SAFETY: the child makes system calls until it is killed with its parent's thread.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            rest(life);
        }
        Self(child)
    }
}

/// Lives as long as its parent, and doesn't return.
fn rest(life: impl FnOnce()) -> ! {
    // SAFETY: plain system calls.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
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

/// A process that nobody has waited for is listed, and the hook of exits has passed.
#[test]
fn who_has_exited_dooms_no_later_process_of_its_number() {
    let sizes = Sizes { tasks: 1, ..Sizes::default() };
    let mut bench = Bench::new("zombie", sizes, Limits::default());
    let (mut told, tells) = std::io::pipe().unwrap();
    let parent = Forked::new(|| {
        // SAFETY: plain system calls; the bytes have the length that is passed.
        unsafe {
            let zombie = libc::fork();
            if zombie == 0 {
                libc::_exit(0);
            }
            let bytes = zombie.to_ne_bytes();
            libc::write(tells.as_raw_fd(), bytes.as_ptr().cast(), bytes.len());
        }
    });
    let mut zombie = [0; 4];
    told.read_exact(&mut zombie).unwrap();
    let zombie = i32::from_ne_bytes(zombie);
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while !std::fs::read_to_string(format!("/proc/{zombie}/stat")).unwrap().contains(") Z ") {
        assert!(std::time::Instant::now() < end);
        std::thread::sleep(Duration::from_millis(1));
    }
    let tgid = parent.0 as u32;
    let start_boot_ns = bench.responder.start_of(tgid).unwrap().unwrap();
    let tree = Target::TaskTree { tgid, start_boot_ns };
    bench.responder.deny(request(tree, Rule::Operator)).unwrap();
    assert_eq!(bench.responder.doomed(), 0);
}

/// Descriptors of the table, where the host lets us have so many, and of all processes that share it:
/// more than a million, past which one call of the kernel doesn't go.
const TABLE: u32 = 100_000;
const SHARED: u32 = 1_100_000;

#[test]
fn a_table_of_descriptors_that_many_processes_share_is_not_copied_for_each() {
    let mut bench = Bench::new("table", Sizes::default(), Limits::default());
    let socket = UdpSocket::bind("127.68.5.1:0").unwrap();
    let (mut told, tells) = std::io::pipe().unwrap();
    let _crowd = Forked::new(|| {
        // SAFETY: plain system calls on descriptors of our own; without a stack clone is a fork.
        unsafe {
            let room = libc::rlimit { rlim_cur: 200_000, rlim_max: 200_000 };
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const room);
            let mut made = 0u32;
            while made < TABLE && libc::dup(socket.as_raw_fd()) >= 0 {
                made += 1;
            }
            let flags = libc::CLONE_FILES | libc::SIGCHLD;
            for _ in 0..SHARED / made.max(1) {
                if libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) == 0 {
                    rest(|| {});
                }
            }
            let bytes = made.to_ne_bytes();
            libc::write(tells.as_raw_fd(), bytes.as_ptr().cast(), bytes.len());
        }
    });
    let mut made = [0; 4];
    told.read_exact(&mut made).unwrap();
    assert!(u32::from_ne_bytes(made) >= 1000);
    let told = bench.responder.told_of(socket.local_addr().unwrap().port());
    assert_eq!(told, 0, "nothing denies it");
    let reason = bench.responder.deny(request(peer("127.68.5.9"), Rule::Operator)).unwrap().reason;
    assert!(!reason.contains("could not"), "{reason}");
}

#[test]
fn what_there_was_no_time_to_look_at_stands_is_told_and_its_packets_are_dropped() {
    let sizes = Sizes { listing: Duration::ZERO, ..Sizes::default() };
    let mut bench = Bench::new("hurry", sizes, Limits::default());
    bench.responder.take_notices();
    let mut pair = Pair::new("127.68.6.1");
    assert_eq!(pair.sends(1, Duration::from_secs(20)), 1);
    for address in ["127.68.6.1", "127.68.6.2"] {
        let told = bench.responder.deny(request(peer(address), Rule::Operator)).unwrap();
        assert!(told.reason.contains("too many descriptors"), "{}", told.reason);
        let notices = bench.responder.take_notices();
        assert_eq!(notices.len(), 1, "{notices:?}");
        assert!(bench.responder.take_notices().is_empty(), "told once");
    }
    assert_eq!(pair.sends(1, Duration::from_millis(300)), 0);
}

fn first_line(child: &mut Child) -> String {
    let mut text = String::new();
    let mut byte = [0; 1];
    let output = child.stdout.as_mut().unwrap();
    while output.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        text.push(byte[0] as char);
    }
    text
}
