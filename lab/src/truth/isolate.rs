//! Work in a copy of this process: each attack meets the very engine that learned, and what it does
//! to it is gone afterwards.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::FromRawFd,
};

use anyhow::{Context, bail};
use serde::{Serialize, de::DeserializeOwned};

/// Has parallel work of this process and of its copies done by the one thread that a copy has: a pool
/// of others would not be copied, and would be waited for.
pub fn work_alone() -> anyhow::Result<()> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread();
    pool.build_global().context("a pool of threads was there before")
}

/// A copy of this process that works beside it.
#[derive(Debug)]
pub struct Copy {
    pid: libc::pid_t,
    answer: File,
}

impl Copy {
    /// Does `work` in a copy of this process, which must be the only thread that holds anything.
    pub fn start<T: Serialize>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<Self> {
        let mut ends = [0; 2];
        // SAFETY: `ends` has room for two descriptors.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error()).context("pipe");
        }
        // SAFETY: both descriptors were just made and belong to nobody else.
        let (answer, mut told) =
            unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) };
        // SAFETY: the C library makes allocation work in the child; the only other thread that there
        // may be, the lab's for signals, holds no lock that the work takes.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            return Err(io::Error::last_os_error()).context("fork");
        }
        if pid > 0 {
            return Ok(Self { pid, answer });
        }
        // SAFETY: sets how this process ends with its parent, and ends it without running what was
        // registered there.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            drop(answer);
            let reply = work().map_err(|why| format!("{why:#}"));
            let written = serde_json::to_vec(&reply).map(|reply| told.write_all(&reply));
            libc::_exit(i32::from(!matches!(written, Ok(Ok(())))));
        }
    }

    /// Waits for what it found.
    pub fn finish<T: DeserializeOwned>(mut self) -> anyhow::Result<T> {
        let mut reply = Vec::new();
        let read = self.answer.read_to_end(&mut reply);
        let mut status = 0;
        // SAFETY: the child is ours and not reaped yet.
        unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
        read?;
        if reply.is_empty() {
            bail!("a life ended with status {status:#x}");
        }
        let reply: Result<T, String> = serde_json::from_slice(&reply)?;
        reply.map_err(anyhow::Error::msg)
    }
}
