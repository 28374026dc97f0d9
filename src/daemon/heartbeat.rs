//! The sign of life that sinks are given once a minute. The loop makes it: one that stands still is
//! silent.

use std::time::{Duration, Instant};

use hedgerow_sink::heartbeat::{Heartbeat, INTERVAL_SECONDS, SCHEMA};

use super::Daemon;
use crate::{host::Host, text};

#[derive(Debug)]
pub struct Heart {
    host: Host,
    started_ns: i64,
    sequence: u64,
    last: Option<Instant>,
}

impl Heart {
    pub fn new(host: &Host) -> Self {
        let started_ns = hedgerow_responder::now().wall_ns;
        Self { host: host.clone(), started_ns, sequence: 0, last: None }
    }

    fn is_due(&self) -> bool {
        self.last.is_none_or(|last| last.elapsed() >= Duration::from_secs(INTERVAL_SECONDS))
    }
}

impl Daemon {
    /// Gives a sign of life where it is time for one.
    pub(super) fn beat(&mut self) {
        if !self.heart.is_due() {
            return;
        }
        let status = self.status();
        let Heart { host, started_ns, sequence, last } = &mut self.heart;
        *last = Some(Instant::now());
        let heartbeat = Heartbeat {
            schema: SCHEMA.to_owned(),
            uid: format!("{}:{}:{started_ns}:{sequence}", host.id, host.boot_id),
            host_id: host.id.clone(),
            host: host.name.clone(),
            boot_id: host.boot_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            time: hedgerow_responder::now().wall_ns / 1_000_000,
            sequence: *sequence,
            interval_seconds: INTERVAL_SECONDS,
            phase: text::phase(status.phase).to_owned(),
            state: status.state.to_string(),
            model_id: status.model,
            mode: status.mode.map(|mode| mode.to_string()),
            armed: status.armed,
            events: self.reporter.tally.events(),
            events_lost: status.lost,
            alerts: status.alerts,
            entries: status.entries as u64,
            stands_still: status.stands_still,
        };
        *sequence += 1;
        self.reporter.outlets().heartbeat(heartbeat);
    }
}
