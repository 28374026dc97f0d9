//! The puppet's side.

use std::{
    collections::HashMap,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use hedgerow_event::{Mode, Target};
use hedgerow_responder::{Options, Responder};

use super::{
    MARK, Puppet, Sink,
    forks::{ended, heir, mortal, orphan},
    locked::Locked,
    operator, peer, ring, spaces,
    wire::{self, Wire},
};

/// Plays; returns at once in the test process itself.
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
    raw: Option<OwnedFd>,
    bound: HashMap<String, UdpSocket>,
    sub: Option<Puppet>,
    daemon: Option<Responder>,
    wire: Option<Wire>,
    /// A listener that stands, and what keeps it locked.
    locked: Option<(Option<Locked>, TcpListener)>,
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
            "user" => be_real(rest.parse().map_err(std::io::Error::other)?)?,
            // `userns UID DEPTH`: a child of its own, one of the subordinate ids of that user.
            "userns" => {
                let [uid, depth] = pair(rest)?;
                self.sub = Some(spaces::inside(uid as u32, depth as u32)?);
            }
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
                let [family, kind, protocol] = numbers(rest)?;
                drop(new_socket(family, kind, protocol)?);
            }
            // `ring ADDRESS`, `ring polled ADDRESS`: a connect that the kernel makes from a ring.
            "ring" => {
                let (to, polled) = match rest.strip_prefix("polled ") {
                    Some(to) => (to, true),
                    None => (rest, false),
                };
                ring::connect(to.parse().map_err(std::io::Error::other)?, polled)?;
            }
            "mortal-ring" => return Ok(ended(mortal(|| ring::socket(rest))?)),
            // The same by a child that ends with the errno: one that is killed takes nobody along.
            "mortal" => {
                let [family, kind, protocol] = numbers(rest)?;
                // SAFETY: plain system call.
                let socket = || match unsafe { libc::socket(family, kind, protocol) } {
                    0.. => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                };
                return Ok(ended(mortal(socket)?));
            }
            // A standing raw socket of this address; its packets pass no hook but those of packets.
            "raw" => self.raw = Some(raw_of(address()?, EXPERIMENT)?),
            "icmp" => self.raw = Some(raw_of(address()?, libc::IPPROTO_ICMP)?),
            // `syn FROM TO`, `echo FROM TO`: packets that no hook of a cgroup sees.
            "wire" => self.wire = Some(Wire::open()?),
            "syn" => {
                self.wire.as_ref().ok_or_else(gone)?.send(&wire::syn(wire::ends(rest)?))?;
            }
            "echo" => {
                self.wire.as_ref().ok_or_else(gone)?.send(&wire::echo(wire::ends(rest)?))?;
            }
            "lock" => {
                let (locked, listener) = Locked::listener(rest)?;
                let address = locked.address;
                self.locked = Some((Some(locked), listener));
                return Ok(address.to_string());
            }
            "unlock" => self.locked.as_mut().ok_or_else(gone)?.0 = None,
            "rawsend" => send_raw(self.raw.as_ref().ok_or_else(gone)?, address()?)?,
            "rawrecv" => receive_raw(self.raw.as_ref().ok_or_else(gone)?)?,
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
            "reconnect" => self.udp.as_ref().ok_or_else(gone)?.connect(address()?)?,
            "usend" => {
                self.udp.as_ref().ok_or_else(gone)?.send(rest.as_bytes())?;
            }
            "bind" => {
                self.bound.insert(rest.to_owned(), UdpSocket::bind(address()?)?);
            }
            // `exec PROGRAM`, `exec LOADER PROGRAM`. Without an environment: a loader that takes
            // cargo's LD_LIBRARY_PATH from a process of two user ids fails an assertion of its own
            // (glibc 2.36, `_dl_start_args_adjust`).
            "exec" => {
                let mut words = rest.split(' ');
                let status = Command::new(words.next().unwrap_or_default())
                    .env_clear()
                    .args(words)
                    .arg("--list")
                    .stdout(Stdio::null())
                    .status()?;
                return Ok(ended(status.into_raw()));
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
            // A child of its own, which inherits the TCP socket as descriptor 100, the UDP socket as 101.
            "fork" => {
                let tcp = self.tcp.as_ref().map(|tcp| tcp.as_raw_fd());
                let udp = self.udp.as_ref().map(|udp| udp.as_raw_fd());
                for (own, number) in [(tcp, 100), (udp, 101)] {
                    if let Some(own) = own {
                        // SAFETY: plain system call on an open descriptor; the number is not in use.
                        unsafe { libc::dup2(own, number) };
                    }
                }
                let own = std::env::current_exe()?.to_string_lossy().into_owned();
                let sub = Puppet::run(if rest.is_empty() { &own } else { rest })?;
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
            // SAFETY: as above.
            "take-udp" => self.udp = Some(unsafe { UdpSocket::from_raw_fd(101) }),
            // `copy PID FD`: what another process handed over would be the same.
            "copy" => {
                let [pid, fd] = pair(rest)?;
                self.tcp = Some(TcpStream::from(copy_of(pid, fd)?));
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

/// The real user id alone, as a program has it that sets another one: the rights of root stay.
fn be_real(uid: u32) -> std::io::Result<()> {
    // SAFETY: plain system call.
    match unsafe { libc::setresuid(uid, u32::MAX, u32::MAX) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// `PID FD`
fn pair(words: &str) -> std::io::Result<[i32; 2]> {
    let numbers: Vec<i32> = words.split(' ').filter_map(|word| word.parse().ok()).collect();
    numbers.try_into().map_err(|_| std::io::ErrorKind::InvalidInput.into())
}

/// A descriptor of our own for one of another process.
fn copy_of(pid: i32, fd: i32) -> std::io::Result<OwnedFd> {
    // SAFETY: plain system calls without pointers.
    let copy = unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32;
        let copy = libc::syscall(libc::SYS_pidfd_getfd, process, fd, 0) as i32;
        libc::close(process);
        copy
    };
    if copy < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the system call returned a descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// `FAMILY TYPE PROTOCOL` of a socket.
pub fn numbers(words: &str) -> std::io::Result<[i32; 3]> {
    let numbers: Vec<i32> = words.split(' ').filter_map(|word| word.parse().ok()).collect();
    numbers.try_into().map_err(|_| std::io::ErrorKind::InvalidInput.into())
}

/// For experiments, RFC 3692.
const EXPERIMENT: i32 = 253;

fn raw_of(address: SocketAddr, protocol: i32) -> std::io::Result<OwnedFd> {
    let SocketAddr::V4(address) = address else { unimplemented!() };
    let socket = new_socket(libc::AF_INET, libc::SOCK_RAW, protocol)?;
    let name = ipv4_name(address);
    let length = size_of_val(&name) as libc::socklen_t;
    let patience = libc::timeval { tv_sec: 0, tv_usec: 300_000 };
    // SAFETY: name and option are of the lengths that are passed, and outlive the calls.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            (&raw const patience).cast(),
            size_of_val(&patience) as libc::socklen_t,
        ) | libc::bind(socket.as_raw_fd(), (&raw const name).cast(), length)
    };
    if result == 0 { Ok(socket) } else { Err(std::io::Error::last_os_error()) }
}

fn send_raw(socket: &OwnedFd, to: SocketAddr) -> std::io::Result<()> {
    let SocketAddr::V4(to) = to else { unimplemented!() };
    let name = ipv4_name(to);
    let length = size_of_val(&name) as libc::socklen_t;
    // SAFETY: the bytes and `name` live over the call and have the lengths that are passed.
    let sent = unsafe {
        let name = (&raw const name).cast();
        libc::sendto(socket.as_raw_fd(), c"x".as_ptr().cast(), 1, 0, name, length)
    };
    if sent < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

fn receive_raw(socket: &OwnedFd) -> std::io::Result<()> {
    let mut buffer = [0u8; 64];
    // SAFETY: the buffer is writable for the length that is passed.
    let got =
        unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    if got < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

pub fn new_socket(family: i32, kind: i32, protocol: i32) -> std::io::Result<std::os::fd::OwnedFd> {
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

pub fn ipv4_name(address: std::net::SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    }
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
