//! What we cost: our threads' CPU, and a sample of our BPF programs', which is paid by whoever makes the calls.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::metrics::Board;

/// Parts of a core, over a window.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    pub own: f64,
    pub bpf: f64,
}

impl Cost {
    pub fn cores(self) -> f64 {
        self.own + self.bpf
    }
}

#[derive(Debug)]
pub struct Meter {
    board: Arc<Board>,
    at: Instant,
    own: Duration,
    /// Sampled, and run within that, as of the last window.
    sampled: [Duration; 2],
    /// By the last two moments that were sampled: one may fall between two bursts.
    bpf: [f64; 2],
}

impl Meter {
    pub fn new(board: Arc<Board>) -> Self {
        let (at, own, sampled) = (Instant::now(), own(), board.ran());
        Self { board, at, own, sampled, bpf: [0.0; 2] }
    }

    /// Whether the kernel tells what programs cost.
    pub fn is_told(&self) -> bool {
        self.sampled[0] > Duration::ZERO
    }

    /// What was cost since the last call.
    pub fn read(&mut self) -> Cost {
        let lasted = self.at.elapsed().as_secs_f64().max(1e-3);
        let own = own();
        let used = own.saturating_sub(self.own).as_secs_f64() / lasted;
        (self.at, self.own) = (Instant::now(), own);
        let [sampled, ran] = self.board.ran();
        let moment = sampled.saturating_sub(self.sampled[0]).as_secs_f64();
        if moment > 0.0 {
            let ran = ran.saturating_sub(self.sampled[1]).as_secs_f64() / moment;
            // The first moment stands for itself.
            let before = if self.is_told() { self.bpf[1] } else { ran };
            self.bpf = [before, ran];
        }
        self.sampled = [sampled, ran];
        Cost { own: used, bpf: (self.bpf[0] + self.bpf[1]) / 2.0 }
    }
}

/// CPU time of all our threads, those that ended included.
fn own() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a clock that every process has, and a valid structure.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
