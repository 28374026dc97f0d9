//! What can go wrong, and what is refused on purpose.

use std::{io, path::PathBuf};

/// A failure of the machinery.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[cfg(feature = "kernel")]
    #[error("{what}: {source}")]
    Bpf { what: &'static str, source: libbpf_rs::Error },
    #[error("no cgroup v2 hierarchy in /proc/self/mountinfo; mount one, or boot with cgroup v2")]
    NoCgroup,
    #[error(
        "no BPF file system at {path} and it can't be mounted ({source}); run as root on the host, \
         or `mount -t bpf bpf {path}`"
    )]
    NoBpffs { path: PathBuf, source: io::Error },
    #[error("nothing is pinned at {path}: no responder has run since boot, or it was removed")]
    NotPinned { path: PathBuf },
    #[error(
        "{path} holds only a part of the deny maps ({what} is missing); `hedgerow disarm --remove` \
         takes the rest away"
    )]
    Incomplete { path: PathBuf, what: String },
    #[error(
        "{path} is not readable ({why}); without it all modes are observe: remove it, and set them anew with `hedgerow mode`"
    )]
    Standing { path: PathBuf, why: String },
    #[error("{path} is not readable ({why}), and without it peers of normal life could be refused")]
    Remembered { path: PathBuf, why: String },
    #[error("{what} was not written within {seconds} s: the disk stands still")]
    Slow { what: &'static str, seconds: u64 },
    #[error("the kernel's answer is malformed: {0}")]
    Malformed(&'static str),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
    #[cfg(feature = "kernel")]
    pub(crate) fn bpf(what: &'static str) -> impl FnOnce(libbpf_rs::Error) -> Self {
        move |source| Self::Bpf { what, source }
    }
}

/// Why no entry was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    #[error("protected: {0}")]
    Protected(String),
    #[error("a prefix of {length} bits is wider than /{narrowest}")]
    TooWide { length: u8, narrowest: u8 },
    #[error("an entry stands for 1 to {longest} s, not for {asked} s")]
    TooLong { asked: u32, longest: u32 },
    #[error("process {tgid} has exited, and nothing that it forked is left")]
    Gone { tgid: u32 },
    #[error("it had its hour, or an operator took it back; only a fresh finding opens it again")]
    Spent,
    #[error("no target: {0}")]
    BadTarget(String),
    #[error("the mode of workload {0} is observe")]
    Observe(String),
    #[error("disarmed; entries wait for `hedgerow arm`")]
    Disarmed,
    #[error("entry {uid} already stops it")]
    Covered { uid: String },
    #[error("all {limit} places for {whose} entries are taken; nothing is evicted")]
    Full { whose: &'static str, limit: usize },
    #[error(
        "breaker tripped: workload {workload} asked for more than {per_minute} entries in a \
         minute; its live entries stay and narrow ones go on, wide ones wait for `hedgerow mode`"
    )]
    BreakerTripped { workload: String, per_minute: usize },
    #[error(
        "workload {workload} has {own} of {taken} automatic entries, and takes no more than it leaves \
         to the others; nothing is evicted"
    )]
    Share { workload: String, own: usize, taken: usize },
    #[error("the breaker of workload {workload} holds its wide entries until `hedgerow mode`")]
    BreakerOpen { workload: String },
    #[error(
        "held for {seconds} s before it is installed, since it is wide; `hedgerow deny remove {uid}` \
         withdraws it"
    )]
    Held { uid: String, seconds: u32 },
    #[error(
        "automatic entries stopped: {wrong} were wrong in 90 days, {budget} is acceptable; they go on \
         after `hedgerow mode enforce` or `hedgerow mode monitor` for all workloads"
    )]
    Halted { wrong: usize, budget: usize },
    #[error(
        "what normal life has shown could not be read: nothing is denied by itself while {aside} is there"
    )]
    Unremembered { aside: PathBuf },
    #[error("no entry has the uid {uid}")]
    NoEntry { uid: String },
    #[error("entry {uid} is an operator's own; only automatic entries can be wrong")]
    NotAutomatic { uid: String },
    #[error("the kernel refused the entry: {0}")]
    Kernel(#[from] Error),
}
