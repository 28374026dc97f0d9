//! A puppet: the test binary started again, which does what it is told and says what came of it.
//! Needs nothing but itself, so that it runs in a guest without a shell.
#![allow(clippy::unwrap_used, dead_code)]

mod forks;
mod locked;
mod ring;
pub mod spaces;
mod stage;
mod wire;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsRawFd, FromRawFd},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hedgerow_event::{Mode, Rule, Subject, Target};
use hedgerow_responder::{
    Limits, Options, Request, Responder, protected::users::Users, remove_pins,
};
pub use stage::play;
use stage::{ipv4_name, new_socket};

/// The dynamic loader of this architecture.
#[cfg(target_arch = "x86_64")]
pub const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
#[cfg(target_arch = "aarch64")]
pub const LOADER: &str = "/lib/ld-linux-aarch64.so.1";

/// What a denied call fails with.
pub const EPERM: i32 = libc::EPERM;
const MARK: &str = "HEDGEROW_PUPPET";

/// The deny programs are attached to the whole host: one test at a time, over all processes.
pub struct Alone(fs::File, MutexGuard<'static, ()>);

pub fn alone() -> Alone {
    static ONE: Mutex<()> = Mutex::new(());
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let file = fs::File::create(std::env::temp_dir().join("hedgerow-deny-tests.lock")).unwrap();
    // SAFETY: plain system call on an open descriptor; closing it unlocks.
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }, 0);
    Alone(file, guard)
}

/// A responder with pins, ledger and limits of its own; taken away at the end.
pub struct Bench {
    pub responder: Option<Responder>,
    pub options: Options,
    pub directory: tempfile::TempDir,
    _alone: Alone,
}

impl Bench {
    pub fn new(name: &str) -> Self {
        let mut bench = Self::idle(name);
        let mut responder = Responder::start(bench.options.clone()).unwrap();
        responder.protected_mut().set_users(Users::default());
        bench.responder = Some(responder);
        bench
    }
    /// Without a responder yet: loading takes its time on an emulated CPU.
    pub fn idle(name: &str) -> Self {
        let alone = alone();
        let directory = tempfile::tempdir().unwrap();
        let mut options = Options::new("test-host", directory.path().join("ledger.jsonl"));
        options.directory = format!("/sys/fs/bpf/hedgerow-{name}-{}", std::process::id()).into();
        options.mode = Mode::Enforce;
        Self { responder: None, options, directory, _alone: alone }
    }
    pub fn deny(&mut self, target: Target, seconds: u32) -> hedgerow_event::Remediation {
        self.get().deny(operator(target, seconds)).unwrap()
    }
    pub fn get(&mut self) -> &mut Responder {
        self.responder.as_mut().unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.responder = None;
        remove_pins(&self.options.directory).unwrap();
    }
}

pub fn operator(target: Target, seconds: u32) -> Request {
    Request {
        target,
        rule: Rule::Operator,
        seconds,
        finding_uid: None,
        subject: None,
        process: None,
        mode: None,
        reason: "a test".into(),
    }
}

pub fn peer(address: &str, prefix_length: u8) -> Target {
    scoped_peer(address, prefix_length, 0)
}

pub fn scoped_peer(address: &str, prefix_length: u8, cgroup_id: u64) -> Target {
    Target::Peer { address: address.parse().unwrap(), prefix_length, cgroup_id, program_id: 0 }
}

/// Polls until `done` or a minute has passed.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "not within 60 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A cgroup that is removed with its processes gone.
pub struct Cgroup(pub PathBuf);

impl Cgroup {
    pub fn new(name: &str) -> Self {
        Self::named(&format!("hedgerow-test-{name}-{}", std::process::id()))
    }
    pub fn named(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).unwrap();
        let root = Path::new(line.split(' ').nth(4).unwrap());
        let path = root.join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    pub fn child(&self, name: &str) -> Self {
        let path = self.0.join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    pub fn id(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(&self.0).unwrap().ino()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let end = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.0).is_err() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What came of a command: what it says, or the errno.
pub type Outcome = Result<String, i32>;

/// What a command says that was let through.
pub fn ok() -> Outcome {
    Ok(String::new())
}

pub struct Puppet {
    pub child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Puppet {
    /// Starts the test binary `program` (this one, or a copy of it) as a puppet.
    pub fn start(program: &Path) -> Self {
        Self::run(&program.to_string_lossy()).unwrap()
    }
    /// Starts `PROGRAM`, or `LOADER PROGRAM`.
    pub fn run(words: &str) -> std::io::Result<Self> {
        let mut words = words.split(' ');
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        Self::begin(command)
    }
    pub fn begin(mut command: Command) -> std::io::Result<Self> {
        let mut child = command
            .args(["--exact", "puppet", "--nocapture", "--test-threads=1"])
            .env(MARK, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut puppet = Self { child, input, output };
        assert_eq!(puppet.tell("hello"), Ok(String::new()));
        Ok(puppet)
    }
    pub fn new() -> Self {
        Self::start(&std::env::current_exe().unwrap())
    }
    pub fn inside(cgroup: &Cgroup) -> Self {
        let mut puppet = Self::new();
        puppet.tell(&format!("cgroup {}", cgroup.0.display())).unwrap();
        puppet
    }
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
    /// Asks and waits for no answer.
    pub fn ask(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
    }
    pub fn tell(&mut self, command: &str) -> Outcome {
        self.ask(command);
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "puppet died at {command}");
            if let Some(at) = line.find('@') {
                return parse(line[at + 1..].trim());
            }
        }
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn parse(reply: &str) -> Outcome {
    match reply.split_once(' ').unwrap_or((reply, "")) {
        ("ok", rest) => Ok(rest.to_owned()),
        (_, errno) => Err(errno.parse().unwrap_or(-1)),
    }
}

/// The descriptor `fd` of another process, as a socket of our own.
pub fn steal(pid: u32, fd: i32) -> UdpSocket {
    // SAFETY: plain system calls; the last one returns a descriptor that is nobody else's.
    unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        let stolen = libc::syscall(libc::SYS_pidfd_getfd, process, fd, 0) as i32;
        libc::close(process as i32);
        assert!(stolen >= 0);
        UdpSocket::from_raw_fd(stolen)
    }
}

/// A copy of this binary: another inode, so another program.
pub fn copy_of_self(directory: &Path) -> PathBuf {
    let copy = directory.join("other-program");
    // A child writes it: what another thread forks would hold it open, and nobody could start it.
    let mut cp = Command::new("cp");
    assert!(cp.arg(std::env::current_exe().unwrap()).arg(&copy).status().unwrap().success());
    copy
}

/// Accepts on an address and counts the bytes that arrive, per connection added up.
pub struct Sink {
    pub address: SocketAddr,
    pub received: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl Sink {
    /// `None` where the kernel has no MPTCP.
    pub fn mptcp(address: &str) -> Option<Self> {
        let socket = new_socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP).ok()?;
        let name = ipv4_name(std::net::SocketAddrV4::new(address.parse().unwrap(), 0));
        let length = size_of_val(&name) as libc::socklen_t;
        // SAFETY: `name` is a socket address of the length that is passed.
        unsafe {
            let name = (&raw const name).cast();
            assert_eq!(libc::bind(socket.as_raw_fd(), name, length), 0);
            assert_eq!(libc::listen(socket.as_raw_fd(), 8), 0);
        }
        Some(Self::on(socket.into()))
    }
    pub fn tcp(address: &str) -> Self {
        Self::on(TcpListener::bind((address, 0)).unwrap())
    }
    fn on(listener: TcpListener) -> Self {
        let local = listener.local_addr().unwrap();
        let received = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let count = received.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(mut stream), count) = (stream, count.clone()) else { continue };
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(size @ 1..) = stream.read(&mut buffer) {
                        count.fetch_add(size as u64, std::sync::atomic::Ordering::SeqCst);
                    }
                });
            }
        });
        Self { address: local, received }
    }
    pub fn udp(address: &str) -> Self {
        let socket = UdpSocket::bind((address, 0)).unwrap();
        let local = socket.local_addr().unwrap();
        let received = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let count = received.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(size) = socket.recv(&mut buffer) {
                count.fetch_add(size as u64, std::sync::atomic::Ordering::SeqCst);
            }
        });
        Self { address: local, received }
    }
    pub fn bytes(&self) -> u64 {
        self.received.load(std::sync::atomic::Ordering::SeqCst)
    }
}

/// A subject for entries that a workload's mode applies to.
pub fn subject(workload: &str, program: &str) -> std::sync::Arc<Subject> {
    use hedgerow_event::{Program, Workload};
    std::sync::Arc::new(Subject::new(Workload::new(workload), Program::new(program)))
}

pub fn limits(automatic: usize, reserve: usize, per_minute: usize) -> Limits {
    Limits { automatic, reserve, per_minute, ..Limits::default() }
}
