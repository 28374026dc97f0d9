//! What a process lets the kernel do for it through io_uring.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use io_uring::{IoUring, opcode, squeue, types};

use super::stage::{ipv4_name, new_socket, numbers};

/// How long the kernel's thread waits for more before it sleeps, in ms.
const IDLE_MS: u32 = 1000;

/// What the kernel answers to one request, which its own thread takes where it is `polled`.
fn ask(request: squeue::Entry, polled: bool) -> io::Result<i32> {
    let mut builder = IoUring::builder();
    if polled {
        builder.setup_sqpoll(IDLE_MS);
    }
    let mut ring: IoUring = builder.build(4)?;
    // SAFETY: what the request points to outlives the wait below.
    unsafe { ring.submission().push(&request).map_err(io::Error::other)? };
    ring.submit_and_wait(1)?;
    let answer = ring.completion().next().ok_or(io::ErrorKind::UnexpectedEof)?.result();
    if answer < 0 { Err(io::Error::from_raw_os_error(-answer)) } else { Ok(answer) }
}

pub fn connect(to: SocketAddr, polled: bool) -> io::Result<()> {
    let SocketAddr::V4(to) = to else { unimplemented!() };
    let socket = new_socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    let name = ipv4_name(to);
    let length = size_of_val(&name) as libc::socklen_t;
    let fd = types::Fd(socket.as_raw_fd());
    ask(opcode::Connect::new(fd, (&raw const name).cast(), length).build(), polled).map(drop)
}

/// `FAMILY TYPE PROTOCOL` of a socket that the ring makes.
pub fn socket(words: &str) -> io::Result<()> {
    let [family, kind, protocol] = numbers(words)?;
    let fd = ask(opcode::Socket::new(family, kind, protocol).build(), false)?;
    // SAFETY: the kernel has just given this descriptor to us alone.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(())
}
