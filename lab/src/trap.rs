//! Files that wait for a privileged reader: a process in namespaces of its own whose
//! `/etc/resolv.conf` is none.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

use crate::{
    error::{Error, Result},
    process::start_error,
};

/// What lies at `/etc/resolv.conf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bait<'a> {
    /// Waits for a writer.
    Fifo,
    /// An absolute link to a device without end.
    Zero,
    /// A gibibyte that takes no room.
    Sparse,
    /// On a file system whose server never answers: what looks it up doesn't come back.
    Silent,
    /// An honest one.
    Text(&'a str),
}

/// A sleeping process with the bait in its mount namespace, and a network namespace of its own;
/// dropping ends it, and lets go whoever waits for its files.
#[derive(Debug)]
pub struct Trap {
    child: Child,
}

impl Trap {
    /// Needs root.
    pub fn set(bait: Bait<'_>) -> Result<Self> {
        Self::set_with(bait, "true")
    }

    /// `network` is run by a shell in the new network namespace.
    pub fn set_with(bait: Bait<'_>, network: &str) -> Result<Self> {
        let bait = match bait {
            Bait::Fifo => "mkfifo /etc/resolv.conf".to_owned(),
            Bait::Zero => "ln -s /dev/zero /etc/resolv.conf".to_owned(),
            Bait::Sparse => "truncate -s 1G /etc/resolv.conf".to_owned(),
            Bait::Silent => "mkdir /etc/silent && ln -s silent/x /etc/resolv.conf && \
                             exec 9<>/dev/fuse && mount -i -n -t fuse -o \
                             fd=9,rootmode=40000,user_id=0,group_id=0 silent /etc/silent"
                .to_owned(),
            Bait::Text(text) => format!("printf '%s' '{text}' >/etc/resolv.conf"),
        };
        let script = format!(
            "set -e; mount -t tmpfs none /etc; {bait}; {network}; echo ready; exec sleep 1000000"
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "sh", "-c", &script]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let parent = std::process::id().cast_signed();
        let die_with_us = move || {
            // SAFETY: both calls only read and set numbers of this process.
            let orphaned = unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::getppid() != parent
            };
            if orphaned { Err(std::io::Error::from_raw_os_error(libc::ESRCH)) } else { Ok(()) }
        };
        // SAFETY: calls that are safe after a fork.
        unsafe { command.pre_exec(die_with_us) };
        let mut child = command.spawn().map_err(|source| start_error(&command, source))?;
        let mut line = String::new();
        let told = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
        let mut trap = Self { child };
        if told.is_some_and(|told| told.is_ok()) && line.trim() == "ready" {
            return Ok(trap);
        }
        let mut said = String::new();
        if let Some(errors) = &mut trap.child.stderr {
            // What it said explains; without it the failure stands alone.
            drop(std::io::Read::read_to_string(errors, &mut said));
        }
        Err(Error::Command { command: "unshare --mount --net".into(), output: said })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
