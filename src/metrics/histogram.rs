//! How long stages take: histograms that one thread writes and any thread reads, without a lock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds of the buckets in seconds; one more holds what is longer.
const BOUNDS: [f64; 12] = [1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 0.1, 0.5, 1.0, 5.0, 10.0];

/// Times by buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    ns: AtomicU64,
}

/// A histogram as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    pub sum: f64,
    pub count: u64,
    /// Upper bound and how many are in the bucket alone; the last is [`f64::MAX`].
    pub buckets: Vec<(f64, u64)>,
}

impl Histogram {
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Count and buckets agree; the sum may be of a moment later.
    pub fn read(&self) -> Read {
        let counts = self.buckets.iter().map(|count| count.load(Ordering::Relaxed));
        let bounds = BOUNDS.into_iter().chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        Read {
            sum: self.ns.load(Ordering::Relaxed) as f64 / 1e9,
            count: buckets.iter().map(|(_, count)| count).sum(),
            buckets,
        }
    }
}

/// What takes time on the way from the kernel to whoever is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Arrival,
    Engine,
    Responder,
    Verdict,
    Control,
    Reports,
    Publish,
    Delivery,
}

impl Stage {
    pub const ALL: [Self; 8] = [
        Self::Arrival,
        Self::Engine,
        Self::Responder,
        Self::Verdict,
        Self::Control,
        Self::Reports,
        Self::Publish,
        Self::Delivery,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Arrival => "arrival",
            Self::Engine => "engine",
            Self::Responder => "responder",
            Self::Verdict => "verdict",
            Self::Control => "control",
            Self::Reports => "reports",
            Self::Publish => "publish",
            Self::Delivery => "delivery",
        }
    }

    #[cfg(test)]
    pub fn words(self) -> &'static str {
        match self {
            Self::Arrival => "from the newest record of a batch in the kernel to the engine",
            Self::Engine => "the engine at a stretch: a batch of events, or the close of a window",
            Self::Responder => "the responder at a stretch: a sweep, or a finding",
            Self::Verdict => "from a finding to its entry in the kernel, or to the reason for none",
            Self::Control => "an answer to a command",
            Self::Reports => "looking after what goes out",
            Self::Publish => "gathering these metrics, once a window",
            Self::Delivery => "from the loop to the findings' file and the sinks' queues",
        }
    }
}

/// A histogram for each stage.
#[derive(Debug, Default)]
pub struct Stages([Histogram; Stage::ALL.len()]);

impl Stages {
    pub fn of(&self, stage: Stage) -> &Histogram {
        &self.0[stage as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_the_bucket_whose_bound_they_do_not_pass() {
        let histogram = Histogram::default();
        let times = [5_000, 10_000, 11_000, 1_000_000_000, 3_600_000_000_000];
        for ns in times {
            histogram.observe(Duration::from_nanos(ns));
        }
        let read = histogram.read();
        assert_eq!(read.count, 5);
        assert_eq!(read.buckets[0], (1e-5, 2));
        assert_eq!(read.buckets[1], (1e-4, 1));
        assert_eq!(read.buckets[9], (1.0, 1));
        assert_eq!(read.buckets[12], (f64::MAX, 1));
        assert!((read.sum - 3_601.000_026).abs() < 1e-9);
    }

    #[test]
    fn each_stage_has_a_histogram_of_its_own() {
        let stages = Stages::default();
        for stage in Stage::ALL {
            stages.of(stage).observe(Duration::from_millis(1));
        }
        assert!(Stage::ALL.iter().all(|stage| stages.of(*stage).read().count == 1));
    }
}
