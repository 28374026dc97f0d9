//! Window keys and what closes a window.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kernel's window number: stepped by one on `CLOCK_BOOTTIME`, carried by every record.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u32);

impl Epoch {
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A window's length in epochs of five seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    Seconds5,
    Minute,
    Hour,
}

impl Scale {
    /// Epochs in a window of this scale; windows are aligned on multiples of it.
    pub fn epochs(self) -> u32 {
        match self {
            Self::Seconds5 => 1,
            Self::Minute => 12,
            Self::Hour => 720,
        }
    }
}

/// What is missing from a window, kept apart by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Records that found a full ring or could not be decoded.
    pub lost: u64,
    /// Records of an earlier window that came after it was closed.
    pub late: u64,
    /// Records that a token bucket held back by design.
    pub limited: u64,
}

impl Loss {
    pub fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.late += other.late;
        self.limited += other.limited;
    }
    /// Nothing is missing, so that the window may be evidence for a denial.
    pub fn is_complete(&self) -> bool {
        self.lost == 0 && self.late == 0 && self.limited == 0
    }
}

/// Kernel counters of every network namespace with a monitored workload, as increments over the
/// window (`/proc/PID/net/{snmp,netstat}`). `None` where the kernel has no such counter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCounters {
    pub syn_cookies: Option<u64>,
    pub listen_overflows: Option<u64>,
    /// Segments and datagrams to closed ports: TCP resets sent, UDP `NoPorts`.
    pub closed_ports: Option<u64>,
    pub icmp_in: Option<u64>,
    pub udp_in: Option<u64>,
    pub tcp_in_segments: Option<u64>,
    pub packets_in: Option<u64>,
}

/// Closes an epoch: every record of it that was not late has been delivered before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochClose {
    pub epoch: Epoch,
    pub start_boot_ns: u64,
    pub end_boot_ns: u64,
    /// `CLOCK_REALTIME - CLOCK_BOOTTIME` at the end of the window.
    pub realtime_offset_ns: i64,
    /// Time suspended inside the window; such a window gives no rates.
    pub suspended_ns: u64,
    /// Missing records that could not be charged to a thread.
    pub loss: Loss,
    pub host: HostCounters,
    /// Opens, or the order of calls, were not looked at to cost less: the window is judged by the rest, and
    /// nothing is learned of it.
    pub shed: bool,
}
