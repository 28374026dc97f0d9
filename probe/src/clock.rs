//! Reading clocks, in one place.

use std::io;

fn read(clock: libc::clockid_t) -> io::Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write to.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Ok(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// The three clocks of a moment, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// `CLOCK_BOOTTIME`, the clock of every record.
    pub boot_ns: u64,
    /// `CLOCK_MONOTONIC`, which stands still while suspended.
    pub monotonic_ns: u64,
    pub real_ns: u64,
}

impl Now {
    /// # Errors
    /// None on Linux.
    pub fn read() -> io::Result<Self> {
        Ok(Self {
            boot_ns: read(libc::CLOCK_BOOTTIME)?,
            monotonic_ns: read(libc::CLOCK_MONOTONIC)?,
            real_ns: read(libc::CLOCK_REALTIME)?,
        })
    }
    /// `CLOCK_REALTIME - CLOCK_BOOTTIME`.
    pub fn realtime_offset_ns(&self) -> i64 {
        self.real_ns.cast_signed().wrapping_sub(self.boot_ns.cast_signed())
    }
}
