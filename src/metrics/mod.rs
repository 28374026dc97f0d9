//! What Prometheus scrapes: `GET /metrics`, `/healthz` and `/readyz` on a loopback address.
//!
//! The loop publishes a [`Snapshot`] after each window and leaves times in atomics; a scrape reads
//! what was published last, so that neither ever waits for the other. [`table::ROWS`] is the one
//! list of metrics: what is exposed and docs/metrics.md both follow it.

mod encode;
mod histogram;
mod run_time;
mod server;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};

use self::run_time::Programs;
pub use self::{
    histogram::{Stage, Stages},
    run_time::{Sampled, Sampler},
    server::Server,
    snapshot::{KINDS, QueueLength, Snapshot, Windows, class, effect, kind},
    table::unix_ns,
};

/// Default port of the examples in docs/metrics.md; none is listened on unless told.
pub const PORT: u16 = 9469;
/// A loop that turned within this time lives.
const STILL: Duration = Duration::from_secs(10);

/// What the daemon leaves for whoever scrapes.
#[derive(Debug)]
pub struct Board {
    begun: Instant,
    /// `None` until the first window has closed.
    snapshot: ArcSwapOption<Snapshot>,
    programs: ArcSwap<Programs>,
    pub stages: Arc<Stages>,
    /// Turns of the main loop, and when the last one was, in nanoseconds since `begun`.
    turns: AtomicU64,
    turned_ns: AtomicU64,
    scrapes: AtomicU64,
    /// Connections that made room for newer ones.
    cut_off: AtomicU64,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            snapshot: ArcSwapOption::empty(),
            programs: ArcSwap::default(),
            stages: Arc::default(),
            turns: AtomicU64::new(0),
            turned_ns: AtomicU64::new(0),
            scrapes: AtomicU64::new(0),
            cut_off: AtomicU64::new(0),
        }
    }
}

impl Board {
    /// The main loop turns.
    pub fn turn(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
        let now = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.turned_ns.store(now, Ordering::Relaxed);
    }

    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Time in which our BPF programs were watched, and for how much of it they ran, on all CPUs together.
    pub fn ran(&self) -> [Duration; 2] {
        let programs = self.programs.load();
        let ran = programs.programs.iter().map(|(_, ran)| ran.ns).sum();
        [programs.sampled, Duration::from_nanos(ran)]
    }

    /// How long ago the loop turned.
    fn still(&self) -> Duration {
        let turned = Duration::from_nanos(self.turned_ns.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(turned)
    }

    /// Takes the place of what was published before.
    pub fn publish(&self, snapshot: Snapshot) {
        self.snapshot.store(Some(Arc::new(snapshot)));
    }

    /// Whether the process lives, as `/healthz` says.
    fn health(&self) -> Result<String, String> {
        let still = self.still();
        match still < STILL {
            true => Ok("the main loop turns\n".to_owned()),
            false => Err(format!("the main loop stands still for {} s\n", still.as_secs())),
        }
    }

    /// Whether scoring is possible or on its way, as `/readyz` says.
    fn readiness(&self) -> Result<String, String> {
        self.health()?;
        match &*self.snapshot.load() {
            Some(snapshot) => snapshot.readiness(),
            None => Err("starting: no window has closed yet\n".to_owned()),
        }
    }
}

/// Why an address is not listened on; `None` where it is.
pub fn refusal(listen: SocketAddr) -> Option<String> {
    (!listen.ip().is_loopback()).then(|| {
        format!(
            "{listen} is no loopback address, and metrics tell everybody what this host doesn't see; \
             write \"127.0.0.1:{PORT}\" or \"[::1]:{PORT}\", and let the scraper run on the host or \
             come through a tunnel or a proxy that asks who it is"
        )
    })
}
