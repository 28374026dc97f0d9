//! How the sink is doing, as the daemon shows it.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::spool::Recovered;

/// Whether a broker answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Connection {
    /// Not known yet.
    #[default]
    Pending,
    Up,
    Down,
}

/// Counters since the start, and the present state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KafkaStatus {
    pub brokers: String,
    pub connection: Connection,
    /// The broker was asked for each topic.
    pub topics_checked: bool,
    /// What is wrong with topics, a sentence each, with the way out.
    pub topics_wrong: Vec<String>,
    /// The topic of heartbeats is one of them.
    pub health_wrong: bool,
    /// What an earlier run left in the spool.
    pub recovered: Recovered,
    /// Records that were taken out of the queue, and are in the spool or counted as lost.
    pub taken: u64,
    /// Records confirmed by a broker.
    pub delivered: u64,
    /// Sent again after a failure or a recreated producer.
    pub resent: u64,
    /// Lost, because queue and spool were full.
    pub overflow: u64,
    /// Refused by the broker for good (too large, invalid), and dropped.
    pub rejected: u64,
    /// Records sent straight from memory because the spool could not take them.
    pub unspooled: u64,
    /// Times the producer was recreated after a fatal error.
    pub recreated: u64,
    /// Records that are neither confirmed nor on disk.
    pub in_memory: u64,
    /// Blocks and unblocks among what overflowed.
    pub decisions_lost: u64,
    /// Records not yet confirmed, on disk and in memory.
    pub waiting: u64,
    /// Bytes of the spool on disk.
    pub spool_bytes: u64,
    pub spool_bytes_limit: u64,
    /// Why there is no spool at present.
    pub memory_only: Option<String>,
    /// The latest trouble, as the client or the disk told it.
    pub last_error: Option<String>,
}

impl KafkaStatus {
    /// A broker answers, and every topic takes records as far as is known.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.connection == Connection::Up && self.topics_wrong.is_empty()
    }

    /// Why it isn't up, in a line; the latest trouble where it is.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        if self.connection != Connection::Up {
            let why = self.last_error.as_deref().unwrap_or("it did not answer yet");
            let place = if self.memory_only.is_some() { "in memory" } else { "on disk" };
            return Some(format!(
                "the broker {} can't be reached ({why}); what is for it waits {place} until it can",
                self.brokers
            ));
        }
        match self.topics_wrong.is_empty() {
            true => self.last_error.clone(),
            false => Some(self.topics_wrong.join("; ")),
        }
    }
}

/// What the sink's thread and its callers share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    status: Mutex<KafkaStatus>,
    changed: Condvar,
    /// Bytes of values in the queue.
    pub queued_bytes: AtomicUsize,
}

impl Shared {
    pub fn new(status: KafkaStatus) -> Self {
        Self { status: Mutex::new(status), ..Self::default() }
    }

    fn lock(&self) -> MutexGuard<'_, KafkaStatus> {
        // The status is plain counters: valid whatever a panicking thread left.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn status(&self) -> KafkaStatus {
        self.lock().clone()
    }

    pub fn takes_health(&self) -> bool {
        let status = self.lock();
        status.connection == Connection::Up && !status.health_wrong
    }

    pub fn update(&self, change: impl FnOnce(&mut KafkaStatus)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits until `done` holds or the time is up; returns the status either way.
    pub fn wait(&self, timeout: Duration, done: impl Fn(&KafkaStatus) -> bool) -> KafkaStatus {
        let deadline = Instant::now() + timeout;
        let mut status = self.lock();
        while !done(&status) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { break };
            let (guard, _) =
                self.changed.wait_timeout(status, left).unwrap_or_else(PoisonError::into_inner);
            status = guard;
        }
        status.clone()
    }

    pub fn release(&self, bytes: usize) {
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
