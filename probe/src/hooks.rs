//! The attached programs: whether each has been seen to run, and whether it is still attached.

use hedgerow_bpf::wire;
use libbpf_rs::Link;

/// What is hooked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    Calls,
    Exec,
    Fork,
    Exit,
    Uring,
    Cgroup,
    Flow,
    Packet,
}

impl Hook {
    pub const ALL: [Self; 8] = [
        Self::Calls,
        Self::Exec,
        Self::Fork,
        Self::Exit,
        Self::Uring,
        Self::Cgroup,
        Self::Flow,
        Self::Packet,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Calls => "system calls",
            Self::Exec => "exec",
            Self::Fork => "fork",
            Self::Exit => "exit",
            Self::Uring => "io_uring",
            Self::Cgroup => "cgroups",
            Self::Flow => "flows",
            Self::Packet => "packets",
        }
    }

    /// Index into `wire_stats::hits`.
    pub fn index(self) -> usize {
        (match self {
            Self::Calls => wire::WIRE_HOOK_CALLS,
            Self::Exec => wire::WIRE_HOOK_EXEC,
            Self::Fork => wire::WIRE_HOOK_FORK,
            Self::Exit => wire::WIRE_HOOK_EXIT,
            Self::Uring => wire::WIRE_HOOK_URING,
            Self::Cgroup => wire::WIRE_HOOK_CGROUP,
            Self::Flow => wire::WIRE_HOOK_FLOW,
            Self::Packet => wire::WIRE_HOOK_PACKET,
        }) as usize
    }
}

/// How far a hook can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It isn't loaded: the kernel has no such hook, or it was not asked for.
    Absent,
    /// It is attached; nothing has shown yet that it runs.
    Unproved,
    /// The marked child's doings ran it.
    Proved,
    /// It was attached and is no more.
    Gone,
}

/// The state of a hook, for `doctor` and `run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HookStatus {
    pub hook: Hook,
    pub proof: Proof,
}

/// An attached program; dropping it detaches.
#[derive(Debug)]
pub struct Attached {
    pub hook: Hook,
    link: Link,
    id: Option<u32>,
    program: Option<u32>,
}

impl Attached {
    pub fn new(hook: Hook, link: Link) -> Self {
        let info = link.info().ok();
        Self {
            hook,
            id: info.as_ref().map(|info| info.id),
            program: info.as_ref().map(|info| info.prog_id),
            link,
        }
    }

    /// The link still is ours and runs our program.
    pub fn is_attached(&self) -> bool {
        self.link
            .info()
            .is_ok_and(|info| Some(info.id) == self.id && Some(info.prog_id) == self.program)
    }
}
