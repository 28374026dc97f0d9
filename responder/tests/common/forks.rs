//! Processes that live without a puppet: what they do is system calls alone.

use std::{
    io::Read,
    net::{SocketAddr, TcpListener},
    os::fd::AsRawFd,
};

use super::stage::ipv4_name;

/// A process that has left its parents: each of so many generations forks the next and exits. The
/// last one connects again and again and writes the errno of it into the file, until that is gone.
pub fn orphan(generations: u32, to: SocketAddr, file: &str) -> std::io::Result<()> {
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
pub fn heir(address: &str) -> std::io::Result<SocketAddr> {
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

/// How a process ended, by its wait status.
pub fn ended(status: i32) -> String {
    if libc::WIFSIGNALED(status) {
        format!("signal {}", libc::WTERMSIG(status))
    } else {
        format!("exit {}", libc::WEXITSTATUS(status))
    }
}

/// The wait status of a child that does this, and ends with the errno of it.
pub fn mortal(deed: impl FnOnce() -> std::io::Result<()>) -> std::io::Result<i32> {
    let mut status = 0;
    // SAFETY: plain system calls; this process has one thread beside the test harness's, which holds
    // nothing that the deed needs, and `status` is writable.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            let errno = deed().err().map_or(0, |error| error.raw_os_error().unwrap_or(-1));
            libc::_exit(errno);
        }
        if libc::waitpid(child, &raw mut status, 0) < 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(status)
}
