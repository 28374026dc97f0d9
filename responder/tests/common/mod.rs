//! A puppet: the test binary started again, which does what it is told and says what came of it.
//! Needs nothing but itself, so that it runs in a guest without a shell.
#![allow(clippy::unwrap_used, dead_code)]

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd, FromRawFd},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hedgerow_event::{Mode, Rule, Subject, Target};
use hedgerow_responder::{Limits, Options, Request, Responder, remove_pins};

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
        bench.responder = Some(Responder::start(bench.options.clone()).unwrap());
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

/// Polls until `done` or ten seconds have passed.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < end, "not within 10 s: {what}");
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
        let mut child = Command::new(program)
            .args(["--exact", "puppet", "--nocapture", "--test-threads=1"])
            .env(MARK, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut puppet = Self { child, input, output };
        assert_eq!(puppet.tell("hello"), Ok(String::new()));
        puppet
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
    pub fn tell(&mut self, command: &str) -> Outcome {
        writeln!(self.input, "{command}").unwrap();
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

/// The puppet's side; returns at once in the test process itself.
pub fn play() {
    if std::env::var_os(MARK).is_none() {
        return;
    }
    let mut stage = Stage::default();
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let outcome = stage.act(&line);
        let reply = match outcome {
            Ok(text) => format!("@ok {text}"),
            Err(error) => format!("@err {}", error.raw_os_error().unwrap_or(-1)),
        };
        println!("{reply}");
    }
}

#[derive(Default)]
struct Stage {
    tcp: Option<TcpStream>,
    udp: Option<UdpSocket>,
    bound: HashMap<String, UdpSocket>,
    sub: Option<Puppet>,
    daemon: Option<Responder>,
}

impl Stage {
    fn act(&mut self, line: &str) -> std::io::Result<String> {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let address = || rest.parse::<SocketAddr>().map_err(std::io::Error::other);
        let gone = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let any = |to: SocketAddr| if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        match command {
            "hello" => {}
            "cgroup" => fs::write(Path::new(rest).join("cgroup.procs"), "0")?,
            "netns" => new_netns()?,
            "listen" => {
                let sink = Sink::tcp(rest);
                return Ok(sink.address.to_string());
            }
            "connect" => self.tcp = Some(TcpStream::connect(address()?)?),
            "heir" => return Ok(heir(rest)?.to_string()),
            "knock" => drop(TcpStream::connect_timeout(&address()?, Duration::from_secs(1))?),
            "mptcp" => self.tcp = Some(mptcp_to(address()?)?),
            "fastopen" => fast_open(address()?)?,
            // `create FAMILY TYPE PROTOCOL`
            "create" => {
                let number = |word: &str| word.parse().map_err(std::io::Error::other);
                let words: Vec<i32> = rest.split(' ').map(number).collect::<Result<_, _>>()?;
                let [family, kind, protocol] = words[..] else { return Err(gone()) };
                drop(new_socket(family, kind, protocol)?);
            }
            "write" => {
                self.tcp.as_mut().ok_or_else(gone)?.write_all(rest.as_bytes())?;
            }
            "read" => {
                let tcp = self.tcp.as_mut().ok_or_else(gone)?;
                tcp.set_read_timeout(Some(Duration::from_millis(300)))?;
                return Ok(tcp.read(&mut [0; 64])?.to_string());
            }
            "send" => {
                UdpSocket::bind(any(address()?))?.send_to(b"datagram", address()?)?;
            }
            "udp" => {
                let udp = UdpSocket::bind(any(address()?))?;
                udp.connect(address()?)?;
                self.udp = Some(udp);
            }
            "usend" => {
                self.udp.as_ref().ok_or_else(gone)?.send(rest.as_bytes())?;
            }
            "bind" => {
                self.bound.insert(rest.to_owned(), UdpSocket::bind(address()?)?);
            }
            "exec" => {
                use std::os::unix::process::ExitStatusExt;
                let status = Command::new(rest)
                    .env_remove(MARK)
                    .arg("--list")
                    .stdout(Stdio::null())
                    .status()?;
                return Ok(match status.signal() {
                    Some(signal) => format!("signal {signal}"),
                    None => format!("exit {}", status.code().unwrap_or(-1)),
                });
            }
            "socket" => self.udp = Some(unbound_udp()?),
            "bindit" => bind_to(self.udp.as_ref().ok_or_else(gone)?, address()?)?,
            "sendto" => {
                self.udp.as_ref().ok_or_else(gone)?.send_to(b"datagram", address()?)?;
            }
            "fd" => {
                let udp = self.udp.as_ref().map(|udp| udp.as_raw_fd());
                let tcp = self.tcp.as_ref().map(|tcp| tcp.as_raw_fd());
                return Ok(tcp.or(udp).ok_or_else(gone)?.to_string());
            }
            "daemon" => {
                let (pins, ledger) = rest.split_once(' ').ok_or_else(gone)?;
                let mut options = Options::new("test-host", ledger);
                options.directory = pins.into();
                options.mode = Mode::Enforce;
                self.daemon = Some(Responder::start(options).map_err(std::io::Error::other)?);
            }
            // `deny ADDRESS SECONDS`, `deny-tree PID SECONDS`, `deny-program ADDRESS CGROUP PID`
            "deny" | "deny-tree" | "deny-program" => {
                let words: Vec<&str> = rest.split(' ').collect();
                let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
                let number = |at: usize| number(at).ok_or_else(gone);
                let daemon = self.daemon.as_mut().ok_or_else(gone)?;
                let request = match command {
                    "deny" => operator(peer(words[0], 32), number(1)? as u32),
                    "deny-tree" => {
                        let tgid = number(0)? as u32;
                        let start = daemon.start_of(tgid).map_err(std::io::Error::other)?;
                        let start_boot_ns = start.ok_or_else(gone)?;
                        operator(Target::TaskTree { tgid, start_boot_ns }, number(1)? as u32)
                    }
                    _ => {
                        let program = daemon.program_of(number(2)? as u32);
                        let program = program.map_err(std::io::Error::other)?;
                        let address = words[0].parse().map_err(std::io::Error::other)?;
                        let target = Target::Peer {
                            address,
                            prefix_length: 32,
                            cgroup_id: number(1)?,
                            program_id: program.ok_or_else(gone)?.0,
                        };
                        operator(target, 60)
                    }
                };
                return Ok(daemon.deny(request).map_err(std::io::Error::other)?.uid);
            }
            // A child of its own, which inherits the TCP socket as descriptor 100.
            "fork" => {
                if let Some(tcp) = &self.tcp {
                    // SAFETY: plain system call on an open descriptor; 100 is not in use.
                    unsafe { libc::dup2(tcp.as_raw_fd(), 100) };
                }
                let sub =
                    if rest.is_empty() { Puppet::new() } else { Puppet::start(Path::new(rest)) };
                let pid = sub.pid();
                self.sub = Some(sub);
                return Ok(pid.to_string());
            }
            // `orphan GENERATIONS ADDRESS FILE`, see `orphan`.
            "orphan" => {
                let words: Vec<&str> = rest.split(' ').collect();
                let [generations, to, file] = words[..] else { return Err(gone()) };
                let to = to.parse::<SocketAddr>().map_err(std::io::Error::other)?;
                orphan(generations.parse().map_err(std::io::Error::other)?, to, file)?;
            }
            "take" => {
                // SAFETY: the parent left its socket there for this process to own.
                self.tcp = Some(unsafe { TcpStream::from_raw_fd(100) });
            }
            "drop" => self.tcp = None,
            "sub" => {
                let outcome = self.sub.as_mut().ok_or_else(gone)?.tell(rest);
                return outcome.map_err(std::io::Error::from_raw_os_error);
            }
            other => return Err(std::io::Error::other(other.to_owned())),
        }
        Ok(String::new())
    }
}

/// A process that has left its parents: each of so many generations forks the next and exits. The
/// last one connects again and again and writes the errno of it into the file, until that is gone.
fn orphan(generations: u32, to: SocketAddr, file: &str) -> std::io::Result<()> {
    let SocketAddr::V4(to) = to else { unimplemented!() };
    let name = ipv4_name(to);
    let file = std::ffi::CString::new(file)?;
    // SAFETY: a plain system call; the child goes on in system calls alone.
    let child = unsafe { libc::fork() };
    if child == 0 {
        for _ in 1..generations {
            // SAFETY: as above.
            if unsafe { libc::fork() } != 0 {
                // SAFETY: ends this process without its parent's handlers.
                unsafe { libc::_exit(0) };
            }
        }
        // SAFETY: system calls on descriptors of their own and on buffers that live over the call.
        unsafe {
            loop {
                let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
                let length = size_of_val(&name) as libc::socklen_t;
                let failed = match socket {
                    0.. => libc::connect(socket, (&raw const name).cast(), length) != 0,
                    _ => true,
                };
                let errno = if failed { *libc::__errno_location() } else { 0 };
                libc::close(socket);
                let out = libc::open(file.as_ptr(), libc::O_WRONLY);
                if out < 0 {
                    libc::_exit(0);
                }
                let text = [b'0' + (errno / 100) as u8, b'0' + (errno / 10 % 10) as u8];
                let text = [text[0], text[1], b'0' + (errno % 10) as u8];
                libc::write(out, text.as_ptr().cast(), text.len());
                libc::close(out);
                libc::usleep(20_000);
            }
        }
    }
    let mut status = 0;
    // SAFETY: `status` is writable.
    match unsafe { libc::waitpid(child, &raw mut status, 0) } {
        ..0 => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// A listener whose maker has exited: it is held by what the maker forked, for half a
/// minute.
fn heir(address: &str) -> std::io::Result<SocketAddr> {
    let (mut told, tells) = std::io::pipe()?;
    // SAFETY: plain system calls; the children go on in system calls, and in making one listener.
    unsafe {
        let maker = libc::fork();
        if maker == 0 {
            let listener = TcpListener::bind((address, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            if libc::fork() != 0 {
                libc::_exit(0);
            }
            let bytes = port.to_ne_bytes();
            libc::write(tells.as_raw_fd(), bytes.as_ptr().cast(), bytes.len());
            for _ in 0..300 {
                libc::usleep(100_000);
            }
            libc::_exit(0);
        }
        libc::waitpid(maker, std::ptr::null_mut(), 0);
    }
    drop(tells);
    let mut port = [0; 2];
    told.read_exact(&mut port)?;
    Ok(SocketAddr::new(address.parse().map_err(std::io::Error::other)?, u16::from_ne_bytes(port)))
}

fn new_socket(family: i32, kind: i32, protocol: i32) -> std::io::Result<std::os::fd::OwnedFd> {
    // SAFETY: plain system call.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) })
}

fn mptcp_to(to: SocketAddr) -> std::io::Result<TcpStream> {
    let SocketAddr::V4(to) = to else { unimplemented!() };
    let socket = new_socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP)?;
    let name = ipv4_name(to);
    let length = size_of_val(&name) as libc::socklen_t;
    // SAFETY: `name` is a socket address of the length that is passed.
    match unsafe { libc::connect(socket.as_raw_fd(), (&raw const name).cast(), length) } {
        0 => Ok(socket.into()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Sends the first bytes with the SYN.
fn fast_open(to: SocketAddr) -> std::io::Result<()> {
    let SocketAddr::V4(to) = to else { unimplemented!() };
    let socket = new_socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    let name = ipv4_name(to);
    let length = size_of_val(&name) as libc::socklen_t;
    // SAFETY: the bytes and `name` live over the call and have the lengths that are passed.
    let sent = unsafe {
        let name = (&raw const name).cast();
        libc::sendto(socket.as_raw_fd(), c"x".as_ptr().cast(), 1, libc::MSG_FASTOPEN, name, length)
    };
    if sent < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

fn unbound_udp() -> std::io::Result<UdpSocket> {
    // SAFETY: plain system call.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { UdpSocket::from_raw_fd(fd) })
}

fn bind_to(socket: &UdpSocket, address: SocketAddr) -> std::io::Result<()> {
    let SocketAddr::V4(address) = address else { unimplemented!() };
    let name = ipv4_name(address);
    let length = size_of_val(&name) as libc::socklen_t;
    // SAFETY: `name` is a socket address of the length that is passed.
    match unsafe { libc::bind(socket.as_raw_fd(), (&raw const name).cast(), length) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn ipv4_name(address: std::net::SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
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
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    copy
}

/// A network namespace of its own with loopback up.
fn new_netns() -> std::io::Result<()> {
    // SAFETY: plain system calls; the request is initialised and lives over the call.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNET) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        let result = libc::ioctl(socket, libc::SIOCSIFFLAGS, &request);
        libc::close(socket);
        if result != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
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

/// Keeps the unused imports of binaries that use a part of this honest.
pub fn subject(workload: &str, program: &str) -> std::sync::Arc<Subject> {
    use hedgerow_event::{Program, Workload};
    std::sync::Arc::new(Subject::new(Workload::new(workload), Program::new(program)))
}

pub fn limits(automatic: usize, reserve: usize, per_minute: usize) -> Limits {
    Limits { automatic, reserve, per_minute, ..Limits::default() }
}
