//! A listener that a call has locked for as long as a test wants.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    thread::{self, JoinHandle},
};

const PAGE: usize = 4096;
const UFFD_API: u64 = 0xaa;
const UFFDIO_API: libc::Ioctl = 0xc018_aa3f_u32 as libc::Ioctl;
const UFFDIO_REGISTER: libc::Ioctl = 0xc020_aa00_u32 as libc::Ioctl;
const UFFDIO_REGISTER_MODE_MISSING: u64 = 1;
const PATIENCE_MS: i32 = 10_000;

/// The option that a thread sets lies in a page that isn't there: the kernel waits for it with the
/// socket locked, until this is dropped.
pub struct Locked {
    pub address: SocketAddr,
    faults: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Locked {
    pub fn listener(address: &str) -> io::Result<(Self, TcpListener)> {
        let listener = TcpListener::bind(address)?;
        // Who asks for it later waits for the lock.
        let address = listener.local_addr()?;
        let (faults, page) = missing_page()?;
        let socket = listener.try_clone()?;
        let thread = thread::spawn(move || {
            // SAFETY: the page is mapped for good, and as long as the option.
            unsafe {
                let option = page as *const libc::c_void;
                libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_OPTIONS, option, 4);
            }
        });
        let mut asked = libc::pollfd { fd: faults.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor is passed, and it is open.
        let ready = unsafe { libc::poll(&raw mut asked, 1, PATIENCE_MS) };
        if ready != 1 || asked.revents != libc::POLLIN {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let (faults, thread) = (Some(faults), Some(thread));
        Ok((Self { address, faults, thread }, listener))
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // The page is an ordinary one then.
        drop(self.faults.take());
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// A page, and who is asked for it when it is touched.
fn missing_page() -> io::Result<(OwnedFd, usize)> {
    // SAFETY: plain system calls; the words are the structures that the calls read and write.
    unsafe {
        let (read_write, anonymous) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let page = libc::mmap(std::ptr::null_mut(), PAGE, read_write, anonymous, -1, 0);
        // Whoever may block is not told by poll().
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
        let faults = libc::syscall(libc::SYS_userfaultfd, flags) as i32;
        if page == libc::MAP_FAILED || faults < 0 {
            return Err(io::Error::last_os_error());
        }
        let faults = OwnedFd::from_raw_fd(faults);
        let mut api = [UFFD_API, 0, 0];
        let mut register = [page as u64, PAGE as u64, UFFDIO_REGISTER_MODE_MISSING, 0];
        if libc::ioctl(faults.as_raw_fd(), UFFDIO_API, api.as_mut_ptr()) != 0
            || libc::ioctl(faults.as_raw_fd(), UFFDIO_REGISTER, register.as_mut_ptr()) != 0
        {
            return Err(io::Error::last_os_error());
        }
        Ok((faults, page as usize))
    }
}
