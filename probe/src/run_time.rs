//! What BPF programs cost: the kernel's own statistics, switched on for a moment.
//!
//! While they are on, every run of every BPF program of the host reads the clock twice, so nobody
//! should leave them on. Others may have them on, too: the kernel counts who asked.

use std::{
    collections::HashMap,
    io,
    os::fd::{FromRawFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use libbpf_rs::{libbpf_sys, query::ProgInfoIter};

/// What one program did while the statistics were on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunTime {
    pub runs: u64,
    pub ns: u64,
}

/// Runs of some programs within a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// How long the statistics were on.
    pub lasted: Duration,
    /// By the kernel's id of the program; one that ended meanwhile is not in it.
    pub programs: HashMap<u32, RunTime>,
}

/// Switches the statistics on for `moment` and off again, and tells what the programs with these
/// ids did meanwhile. Blocks that long.
///
/// # Errors
/// The kernel has no such statistics, or we may not switch them on.
pub fn sample(ids: &[u32], moment: Duration) -> io::Result<Sample> {
    let on = enable()?;
    let begun = Instant::now();
    let before = read(ids);
    thread::sleep(moment);
    let after = read(ids);
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
    // SAFETY: a system call without pointers.
    let fd = unsafe { libbpf_sys::bpf_enable_stats(libbpf_sys::BPF_STATS_RUN_TIME) };
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: the kernel has just made it for us; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn read(ids: &[u32]) -> HashMap<u32, RunTime> {
    let ours = ProgInfoIter::default().filter(|program| ids.contains(&program.id));
    ours.map(|program| (program.id, RunTime { runs: program.run_cnt, ns: program.run_time_ns }))
        .collect()
}
