//! What a caller of [`crate::Probe::start`] may choose.

use std::time::Duration;

use hedgerow_event::Epoch;

use crate::shed::Shed;

/// Sensor settings; fixed once it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Length of a window.
    pub window: Duration,
    /// From the step of the epoch to the closing of the window before it.
    pub close_delay: Duration,
    /// Number of the first window; `None`: the boot time in windows, so that it never falls back
    /// when the daemon restarts.
    pub first_epoch: Option<Epoch>,
    /// Key of the n-gram hash functions; a model's profiles are only good with its own.
    pub gram_key: u64,
    /// Programs get an n-gram profile at exec.
    pub learning: bool,
    /// Stream every call.
    pub full: bool,
    /// Watch system calls. Without, only processes and flows are seen.
    pub calls: bool,
    /// Watch flows.
    pub flows: bool,
    /// Sum up bytes by whose socket they pass; only with flows, which know whose it is.
    pub usage: bool,
    /// All rings together, in bytes.
    pub rings_bytes: u32,
    /// n-gram profiles, of 66 KiB each.
    pub profiles: u32,
    /// What is not looked at from the first window on.
    pub shed: Shed,
    /// Windows without anything unseen after which a program is quiet ([`Shed::grams`]).
    pub quiet_windows: u32,
    /// Streamed calls of one thread in one epoch; more are counted as limited.
    pub task_tokens: u32,
    /// Streamed calls of one cgroup in one epoch.
    pub cgroup_tokens: u32,
    /// Streamed calls that are evidence (privileges, namespaces, kernel), of one thread in one
    /// epoch.
    pub evidence_tokens: u32,
    /// The host's secret behind programs' ids: the same as that of the deny programs, and the same
    /// after a restart.
    pub identity_key: [u64; 2],
    /// Observe Hedgerow's own process tree, too.
    pub observe_own: bool,
    /// Read the rings. Without, they fill up and every record is lost but the rows, which are
    /// summed up by program: for tests of the accounting of loss.
    pub drain: bool,
    /// Time between two drains while little comes; none: as between those of a host that is busy.
    pub calm_interval: Option<Duration>,
    /// Batches that may wait for the consumer; when they are full the drain thread waits, the
    /// kernel's rings fill, and what finds them full is counted as lost.
    pub queue: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(5),
            close_delay: Duration::from_millis(100),
            first_epoch: None,
            gram_key: 0,
            learning: false,
            full: false,
            calls: true,
            flows: true,
            usage: false,
            rings_bytes: 32 << 20,
            profiles: 256,
            shed: Shed::default(),
            quiet_windows: 720,
            task_tokens: 512,
            cgroup_tokens: 20_000,
            evidence_tokens: 256,
            identity_key: [0; 2],
            observe_own: false,
            drain: true,
            calm_interval: None,
            queue: 64,
        }
    }
}

/// Smallest ring of a CPU.
pub const RING_BYTES_MIN: u32 = 256 << 10;

impl Options {
    /// Size of one CPU's ring: a power of two, all together at most `rings_bytes` unless that
    /// would make them smaller than [`RING_BYTES_MIN`] (4 KiB where `rings_bytes` itself is less).
    pub fn ring_bytes(&self, cpus: u32) -> u32 {
        let share = (self.rings_bytes / cpus.max(1)).max(self.rings_bytes.min(RING_BYTES_MIN));
        let power = if share.is_power_of_two() { share } else { share.next_power_of_two() >> 1 };
        power.max(4096)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_capped_together_and_each_has_a_least_size() {
        let options = Options::default();
        assert_eq!(options.ring_bytes(2), 16 << 20);
        assert_eq!(options.ring_bytes(3), 8 << 20);
        assert_eq!(options.ring_bytes(1024), 256 << 10);
        let tiny = Options { rings_bytes: 8192, ..Options::default() };
        assert_eq!(tiny.ring_bytes(2), 8192);
    }
}
