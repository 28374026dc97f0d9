//! Cuts standing sockets: marks them in the kernel, then destroys them by cookie inside their own
//! network namespace (`inet_diag`'s `SOCK_DESTROY`, as `ss -K`).

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    net::IpAddr,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    thread,
};

use caps::{CapSet, Capability};
use hedgerow_bpf::wire::deny_socket;
use libbpf_rs::MapHandle;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::{
    SockDiagDestroy, SockDiagMessage,
    inet::{ExtensionFlags, InetRequest, SocketId, StateFlags},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};

use crate::{
    kernel::maps::{get, put},
    sockets::Standing,
};

/// What became of the sockets that an entry denies.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Gone; both ends know.
    pub destroyed: u32,
    /// Still there: the packets are dropped, nothing more.
    pub dropped_only: u32,
}

/// Marks and destroys. A socket that closed meanwhile counts as neither. One that is destroyed for its
/// peer has no mark: its holder may give it another peer.
pub(crate) fn cut(sockets: &MapHandle, id: u64, by_peer: bool, standing: Vec<Standing>) -> Cut {
    let mut result = Cut::default();
    let mut by_namespace: HashMap<u32, Vec<Standing>> = HashMap::new();
    for socket in standing {
        if !by_peer || !socket.connected {
            // A mark that fails leaves the drop by peer, owner and cgroup in force.
            let _ = mark(sockets, id, &socket);
        }
        result.dropped_only += u32::from(socket.only_dropped);
        if socket.connected {
            by_namespace.entry(socket.netns).or_default().push(socket);
        }
    }
    for (netns, sockets) in by_namespace {
        let count = sockets.len() as u32;
        // A thread of its own, since it changes its network namespace for good. Where there is none to be
        // had, as beside a fork bomb, their packets are dropped all the same.
        let thread = thread::Builder::new().name("cut".into());
        let thread = thread.spawn(move || destroy_in(netns, &sockets)).map(|thread| thread.join());
        match thread {
            Ok(Ok(Ok((destroyed, failed)))) => {
                result.destroyed += destroyed;
                result.dropped_only += failed;
            }
            _ => result.dropped_only += count,
        }
    }
    result
}

/// Writes the entry's id into the socket itself, whoever holds it next.
fn mark(sockets: &MapHandle, id: u64, standing: &Standing) -> io::Result<()> {
    let fd = borrow(standing)?;
    let key = fd.as_raw_fd().to_ne_bytes();
    let mut value: deny_socket = get(sockets, &key).map_err(io::Error::other)?.unwrap_or_default();
    value.id = id;
    value.passed = 0;
    put(sockets, &key, &value).map_err(io::Error::other)?;
    Ok(())
}

/// Whether somebody outside of the denied trees holds the socket, too, as that listing found. In doubt
/// it is so.
pub(crate) fn is_shared(sockets: &MapHandle, standing: &Standing, listing: u32) -> bool {
    let known = borrow(standing).ok().and_then(|fd| {
        let key = fd.as_raw_fd().to_ne_bytes();
        get::<deny_socket>(sockets, &key).ok().flatten()
    });
    known.is_none_or(|socket| socket.shared_in == listing)
}

/// A descriptor of our own for a socket of another process.
fn borrow(standing: &Standing) -> io::Result<OwnedFd> {
    // SAFETY: plain system call without pointers.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, standing.tgid, 0) })?;
    // SAFETY: as above; `process` is open.
    let fd = owned(unsafe {
        libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), standing.fd, 0)
    })?;
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: `cookie` and `length` are writable and of the size that is passed.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // The number may stand for another file by now.
    if cookie != standing.cookie {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(fd)
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}

/// Enters the namespace and destroys; returns how many went and how many could not be destroyed.
fn destroy_in(netns: u32, sockets: &[Standing]) -> io::Result<(u32, u32)> {
    // What it takes is in effect on this thread only, which ends with it.
    for one in [Capability::CAP_SYS_ADMIN, Capability::CAP_NET_ADMIN] {
        caps::raise(None, CapSet::Effective, one).map_err(io::Error::other)?;
    }
    enter(netns, sockets)?;
    let mut netlink = Socket::new(NETLINK_SOCK_DIAG)?;
    netlink.bind_auto()?;
    netlink.connect(&SocketAddr::new(0, 0))?;
    let (mut destroyed, mut failed) = (0, 0);
    for (sequence, socket) in (1..).zip(sockets) {
        match destroy(&netlink, sequence, socket) {
            Ok(()) => destroyed += 1,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(_) => failed += 1,
        }
    }
    Ok((destroyed, failed))
}

/// Holders that are tried for a way into their namespace, over all of their threads.
const HOLDERS_MAX: usize = 16;

/// Any thread of a holder may be the one that lives in the socket's namespace.
fn enter(netns: u32, sockets: &[Standing]) -> io::Result<()> {
    for socket in sockets.iter().take(HOLDERS_MAX) {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", socket.tgid)) else { continue };
        for thread in threads.flatten() {
            let Ok(file) = File::open(thread.path().join("ns/net")) else { continue };
            if !file.metadata().is_ok_and(|namespace| namespace.ino() == u64::from(netns)) {
                continue;
            }
            // SAFETY: plain system call; this thread does nothing else afterwards.
            if unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } == 0 {
                return Ok(());
            }
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn destroy(netlink: &Socket, sequence: u32, socket: &Standing) -> io::Result<()> {
    netlink.send(&request(sequence, socket), 0)?;
    let (answer, _) = netlink.recv_from_full()?;
    let answer = NetlinkMessage::<SockDiagMessage>::deserialize(&answer)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    match answer.payload {
        NetlinkPayload::Error(error) => error.code.map_or(Ok(()), |_| Err(error.to_io())),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn request(sequence: u32, socket: &Standing) -> Vec<u8> {
    let end = |address: IpAddr| match address {
        IpAddr::V4(v4) if socket.ipv6 => IpAddr::V6(v4.to_ipv6_mapped()),
        other => other,
    };
    let id = SocketId {
        source_port: socket.local.1,
        destination_port: socket.peer.1,
        source_address: end(socket.local.0),
        destination_address: end(socket.peer.0),
        interface_id: socket.interface,
        // Two words, low first, each in host order: sock_diag_check_cookie.
        cookie: {
            let mut cookie = [0; 8];
            cookie[..4].copy_from_slice(&(socket.cookie as u32).to_ne_bytes());
            cookie[4..].copy_from_slice(&((socket.cookie >> 32) as u32).to_ne_bytes());
            cookie
        },
    };
    let family = if socket.ipv6 { libc::AF_INET6 } else { libc::AF_INET } as u8;
    let message = SockDiagDestroy::new(SockDiagMessage::InetRequest(InetRequest {
        family,
        protocol: socket.protocol as u8,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id: id,
    }));
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_ACK;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_names_the_socket_by_tuple_and_cookie() {
        let bytes = request(
            1,
            &Standing {
                cookie: 0x1122_3344_5566_7788,
                tgid: 1,
                fd: 3,
                netns: 0,
                ipv6: false,
                protocol: 17,
                local: ("192.0.2.1".parse().unwrap(), 0x1234),
                peer: ("192.0.2.2".parse().unwrap(), 53),
                interface: 5,
                connected: true,
                only_dropped: false,
            },
        );
        assert_eq!(bytes.len(), 72);
        assert_eq!(bytes[4..6], 21u16.to_ne_bytes()); // SOCK_DESTROY
        assert_eq!(bytes[16..18], [2, 17]);
        let id = &bytes[24..];
        assert_eq!(id[..4], [0x12, 0x34, 0, 53]);
        assert_eq!(id[4..8], [192, 0, 2, 1]);
        assert_eq!(id[20..24], [192, 0, 2, 2]);
        assert_eq!(id[36..40], 5u32.to_ne_bytes());
        assert_eq!(id[40..44], 0x5566_7788u32.to_ne_bytes());
        assert_eq!(id[44..48], 0x1122_3344u32.to_ne_bytes());
    }
}
