//! Kafka: at least once, in order per host, never in the way.
//!
//! [`KafkaSink::send`] puts a record into a bounded queue and returns at once. A thread of its own
//! appends it to the spool, hands it to the client (idempotent, `acks=all`) and takes it out of the
//! spool when the broker has confirmed it. So whatever happens to the broker or to us, a record
//! arrives at least once; consumers tell repeats by `metadata.uid`.

mod client;
mod config;
mod service;
mod status;
mod topics;
mod window;

use std::{
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{Sender, TrySendError, bounded};

pub use config::{KafkaConfig, Mechanism, Sasl, Secret, Tls, Topics};
pub use status::{Connection, KafkaStatus};

use crate::{
    Format, SinkError,
    message::{Message, Topic},
    sink::{Report, Sink, SinkHealth},
    spool::PatientSpool,
};
use service::{Queued, Service};
use status::Shared;

/// Most records between callers and the sink's thread. When full, [`KafkaSink::send`] refuses and
/// counts; the thread drains it at the speed of the disk, whatever the broker does.
pub const QUEUE_RECORDS: usize = 4096;
/// Most bytes in that queue.
pub const QUEUE_BYTES: usize = 16 << 20;

/// Reports are waited for so long until they are in the spool.
const STORE_MAX: Duration = Duration::from_secs(2);

/// A running sink; stops when dropped, leaving what is not delivered in the spool.
#[derive(Debug)]
pub struct KafkaSink {
    sender: Option<Sender<Queued>>,
    stop: Sender<Instant>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    format: Format,
    /// Records that [`Sink::take`] put into the queue.
    sent: u64,
}

impl KafkaSink {
    pub const NAME: &str = "kafka";

    /// Checks the configuration, opens the spool and starts the thread. An unreachable broker is no
    /// error, nor is a spool that can't be opened: [`KafkaSink::status`] tells it.
    ///
    /// # Errors
    /// When a field of the configuration is wrong, or another process has the spool.
    pub fn start(config: KafkaConfig) -> Result<Self, SinkError> {
        let client = config.client()?;
        let format = config.format;
        let (directory, limit) = (&config.spool_directory, config.spool_bytes_limit);
        let (spool, recovered) = PatientSpool::open(directory, limit, config.spool_fsync)?;
        let shared = Arc::new(Shared::new(KafkaStatus {
            brokers: config.brokers.clone(),
            spool_bytes_limit: config.spool_bytes_limit,
            recovered,
            waiting: recovered.records,
            memory_only: spool.failure().map(str::to_owned),
            ..KafkaStatus::default()
        }));
        let (sender, queue) = bounded(QUEUE_RECORDS);
        let (stop, stopped) = bounded(1);
        let service = Service::new(config, client, spool, shared.clone(), queue, stopped)?;
        let thread = std::thread::Builder::new()
            .name("kafka-sink".into())
            .spawn(move || service.run())
            .map_err(SinkError::io("kafka-sink thread".as_ref()))?;
        Ok(Self { sender: Some(sender), stop, shared, thread: Some(thread), format, sent: 0 })
    }

    /// Hands a record over. Never blocks.
    ///
    /// # Errors
    /// [`SinkError::QueueFull`] (counted as overflow) or [`SinkError::Stopped`].
    pub fn send(&self, message: Message) -> Result<(), SinkError> {
        self.queue(Queued { message, is_listed: false })
    }

    fn queue(&self, queued: Queued) -> Result<(), SinkError> {
        let Queued { message, .. } = &queued;
        let (topic, bytes) = (message.topic, message.value.len());
        let before = self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let result = match &self.sender {
            Some(_) if before + bytes > QUEUE_BYTES => {
                Err(SinkError::QueueFull { sink: Self::NAME })
            }
            Some(sender) => sender.try_send(queued).map_err(|error| match error {
                TrySendError::Full(_) => SinkError::QueueFull { sink: Self::NAME },
                TrySendError::Disconnected(_) => SinkError::Stopped,
            }),
            None => Err(SinkError::Stopped),
        };
        if result.is_err() {
            self.shared.release(bytes);
            self.shared.update(|status| {
                status.overflow += 1;
                status.decisions_lost += u64::from(topic == Topic::Remediations);
            });
        }
        result
    }

    pub fn status(&self) -> KafkaStatus {
        self.shared.status()
    }

    /// Waits until `done` holds or the time is up.
    pub fn wait(&self, timeout: Duration, done: impl Fn(&KafkaStatus) -> bool) -> KafkaStatus {
        self.shared.wait(timeout, done)
    }

    /// Takes no more, delivers what it can until the deadline, and leaves the rest in the spool for
    /// the next run.
    pub fn stop(mut self, deadline: Duration) -> KafkaStatus {
        self.finish(deadline);
        self.shared.status()
    }

    fn finish(&mut self, deadline: Duration) {
        self.sender = None;
        // A full or closed channel means that the thread stops already.
        let _ = self.stop.try_send(Instant::now() + deadline);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            self.shared.update(|status| {
                status.last_error = Some("the Kafka thread panicked".into());
            });
        }
    }
}

impl Sink for KafkaSink {
    /// A sign of life that can't be sent now is stale when it could be.
    fn wants(&self, topic: Topic) -> bool {
        topic != Topic::Health || self.shared.takes_health()
    }

    fn take(&mut self, report: &Report) -> Result<(), SinkError> {
        let message = self.format.of(&report.message).inspect_err(|_| {
            self.shared.update(|status| status.rejected += 1);
        })?;
        self.queue(Queued { message: message.into_owned(), is_listed: report.is_listed })?;
        self.sent += 1;
        Ok(())
    }

    /// All that was taken is in the spool, or counted as lost.
    fn settle(&mut self) {
        let sent = self.sent;
        self.shared.wait(STORE_MAX, |status| status.taken >= sent);
    }

    fn health(&self) -> SinkHealth {
        let status = self.status();
        SinkHealth {
            name: Self::NAME,
            up: status.is_up(),
            delivered: status.delivered,
            waiting: status.waiting,
            overflow: status.overflow,
            rejected: status.rejected,
            resent: status.resent,
            unspooled: status.unspooled,
            torn_bytes: status.recovered.torn_bytes,
            disk_bytes: Some((status.spool_bytes, status.spool_bytes_limit)),
            at_risk: status.in_memory > 0 || status.decisions_lost > 0 || status.taken < self.sent,
            trouble: status.trouble(),
            memory_only: status.memory_only,
        }
    }

    fn stop(self: Box<Self>, limit: Duration) -> SinkHealth {
        let mut sink = *self;
        sink.finish(limit);
        sink.health()
    }
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        self.finish(Duration::ZERO);
    }
}
