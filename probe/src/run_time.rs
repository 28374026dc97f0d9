//! What BPF programs cost: the kernel's own statistics, switched on for a moment.
//!
//! While they are on, every run of every BPF program of the host reads the clock twice, so nobody
//! should leave them on. Others may have them on, too: the kernel counts who asked.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use caps::{CapSet, Capability};
use libbpf_rs::libbpf_sys;

/// What one program did while the statistics were on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunTime {
    pub runs: u64,
    pub ns: u64,
}

/// Programs by the kernel's ids, opened: looking them up takes what is given up after the start.
#[derive(Debug)]
pub struct Programs(Vec<(u32, OwnedFd)>);

impl Programs {
    /// Those of the ids that there are.
    pub fn open(ids: impl IntoIterator<Item = u32>) -> Self {
        let open = |id| {
            // SAFETY: a system call with a number.
            let program = owned(unsafe { libbpf_sys::bpf_prog_get_fd_by_id(id) }).ok()?;
            Some((id, program))
        };
        Self(ids.into_iter().filter_map(open).collect())
    }

    fn read(&self) -> HashMap<u32, RunTime> {
        self.0.iter().filter_map(|(id, program)| Some((*id, ran(program)?))).collect()
    }
}

/// What a program did while the statistics were on.
fn ran(program: &OwnedFd) -> Option<RunTime> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut size = size_of_val(&info) as u32;
    // SAFETY: a descriptor of ours, and a structure of the size that is passed.
    let read = unsafe {
        libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut size)
    };
    (read == 0).then_some(RunTime { runs: info.run_cnt, ns: info.run_time_ns })
}

/// Runs of some programs within a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// How long the statistics were on.
    pub lasted: Duration,
    /// By the kernel's id of the program.
    pub programs: HashMap<u32, RunTime>,
}

/// Switches the statistics on for `moment` and off again, and tells what the programs did meanwhile.
/// Blocks that long.
///
/// # Errors
/// The kernel has no such statistics, or we may not switch them on.
pub fn sample(programs: &Programs, moment: Duration) -> io::Result<Sample> {
    let on = enable()?;
    let begun = Instant::now();
    let before = programs.read();
    thread::sleep(moment);
    let after = programs.read();
    let lasted = begun.elapsed();
    drop(on);
    let ran = after.into_iter().filter_map(|(id, now)| {
        let then = before.get(&id)?;
        let ran = RunTime {
            runs: now.runs.saturating_sub(then.runs),
            ns: now.ns.saturating_sub(then.ns),
        };
        Some((id, ran))
    });
    Ok(Sample { lasted, programs: ran.collect() })
}

/// The statistics are on as long as the descriptor is open.
fn enable() -> io::Result<OwnedFd> {
    // In effect for this step only; who never had it is told by the kernel.
    let raised = caps::raise(None, CapSet::Effective, Capability::CAP_SYS_ADMIN);
    // SAFETY: a system call without pointers.
    let on = owned(unsafe { libbpf_sys::bpf_enable_stats(libbpf_sys::BPF_STATS_RUN_TIME) });
    if raised.is_ok() {
        caps::drop(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).map_err(io::Error::other)?;
    }
    on
}

/// What libbpf returned: a new descriptor, or a negative number of an error.
fn owned(fd: i32) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: the kernel has just made it for us; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
