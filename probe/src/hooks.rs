//! The attached programs: whether each has been seen to run, and whether it is still attached.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use hedgerow_bpf::wire;
use hedgerow_event::Tampering;
use libbpf_rs::{
    Link, Program,
    libbpf_sys::{bpf_prog_get_info_by_fd, bpf_prog_info},
    query::{LinkInfo, LinkTypeInfo},
};

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
    /// Name of the program.
    name: String,
    link: Link,
    place: Option<Place>,
    program: Option<OwnedFd>,
}

/// Which link leads from where to which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    link: u32,
    program: u32,
    /// The cgroup it is attached to; 0 for one that was detached, and for all other hooks.
    cgroup_id: u64,
}

impl From<LinkInfo> for Place {
    fn from(info: LinkInfo) -> Self {
        let cgroup_id = match &info.info {
            LinkTypeInfo::Cgroup(cgroup) => cgroup.cgroup_id,
            _ => 0,
        };
        Self { link: info.id, program: info.prog_id, cgroup_id }
    }
}

impl Attached {
    pub fn new(hook: Hook, program: &Program<'_>, link: Link) -> Self {
        let name = program.name().to_string_lossy().into_owned();
        let place = link.info().ok().map(Place::from);
        Self { hook, name, place, link, program: program.as_fd().try_clone_to_owned().ok() }
    }

    /// Name of the program, and the kernel's id of it; `None` where the kernel didn't tell it.
    pub fn program(&self) -> Option<(String, u32)> {
        self.place.map(|place| (self.name.clone(), place.program))
    }

    /// Times that the kernel skipped the program, because it was running on that CPU already: a
    /// task was preempted in it, and the next one got there.
    pub fn skipped(&self) -> u64 {
        let Some(program) = &self.program else { return 0 };
        let mut info = bpf_prog_info::default();
        let mut size = size_of::<bpf_prog_info>() as u32;
        // SAFETY: a descriptor of ours, and a structure of the size that is passed.
        let read =
            unsafe { bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut size) };
        if read == 0 { info.recursion_misses } else { 0 }
    }

    /// What somebody else did to it: the link no longer is ours, where it was, with our program.
    pub fn tampered(&self) -> Option<Tampering> {
        let now = self.link.info().ok().map(Place::from);
        if now == self.place {
            return None;
        }
        let part = format!("program {} at {}", self.name, self.hook.name());
        let attached = |place: Option<Place>| {
            place.is_some_and(|place| {
                self.place.is_none_or(|was| (was.cgroup_id == 0) == (place.cgroup_id == 0))
            })
        };
        Some(Tampering::new(
            part,
            if attached(now) { "another one runs there" } else { "detached" },
        ))
    }
}
