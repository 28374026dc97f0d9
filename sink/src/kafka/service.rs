//! The sink's thread: queue to spool, spool to client, confirmation back.
//!
//! Tickets number the records; those of a topic must arrive in their order. About `in_flight_limit` of
//! them are in the window; those not handed to the client are `unsent`. After a failure nothing new of
//! the topic is handed over until every report is in, so that what is sent again is sent in order.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rdkafka::{
    ClientConfig,
    config::FromClientConfigAndContext,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer},
};

use super::{
    KafkaConfig,
    client::{Context, Report},
    status::{Connection, Shared},
    topics,
    window::Window,
};
use crate::{
    SinkError,
    message::{Message, Topic},
    spool::{PatientSpool, RecordId, Recovered},
};

/// Most records appended to the spool under one sync.
const BATCH_RECORDS: usize = 256;
/// How long the thread sleeps when nothing is under way; a new record wakes it.
const IDLE: Duration = Duration::from_millis(200);
/// How long it sleeps while reports are due.
const BUSY: Duration = Duration::from_millis(5);
/// Pause before sending again what failed, and before recreating a producer.
const BACKOFF: Duration = Duration::from_secs(1);

/// What callers hand over.
pub(super) struct Queued {
    pub message: Message,
    pub is_listed: bool,
}

pub(super) struct Service {
    config: KafkaConfig,
    client: ClientConfig,
    producer: Option<BaseProducer<Context>>,
    spool: PatientSpool,
    shared: Arc<Shared>,
    queue: Receiver<Queued>,
    stop: Receiver<Instant>,
    window: Window,
    check: topics::Check,
    /// There is no producer before this time.
    recreate_at: Instant,
    counts: Counts,
}

/// What this round adds to the shared counters.
#[derive(Default)]
struct Counts {
    delivered: u64,
    resent: u64,
    overflow: u64,
    decisions_lost: u64,
    rejected: u64,
    unspooled: u64,
    recreated: u64,
    error: Option<String>,
}

impl Service {
    pub fn new(
        config: KafkaConfig,
        client: ClientConfig,
        spool: PatientSpool,
        shared: Arc<Shared>,
        queue: Receiver<Queued>,
        stop: Receiver<Instant>,
    ) -> Result<Self, SinkError> {
        let producer =
            BaseProducer::from_config_and_context(&client, Context::new(shared.clone()))?;
        let window = Window::new(config.in_flight_limit);
        Ok(Self {
            config,
            client,
            producer: Some(producer),
            spool,
            shared,
            queue,
            stop,
            window,
            check: topics::Check::at(Instant::now()),
            recreate_at: Instant::now(),
            counts: Counts::default(),
        })
    }

    pub fn run(mut self) {
        let mut deadline = None;
        loop {
            let open = self.receive();
            let recovered = self.spool.retry();
            self.recovered(recovered);
            self.fill();
            self.hand_over();
            self.sync();
            self.collect();
            self.publish();
            self.check_topics();
            deadline = deadline.or_else(|| self.stop.try_recv().ok());
            let Some(deadline) = deadline else { continue };
            let done = !open && self.window.is_empty() && self.spool.waiting() == 0;
            if done || (!open && Instant::now() >= deadline) {
                break;
            }
        }
        // Dropping the producer purges what it still holds; the spool has it.
        self.producer = None;
        self.collect();
        self.put_down();
        self.publish();
        if let Err(error) = self.spool.close() {
            self.shared.update(|status| status.last_error = Some(error.to_string()));
        }
    }

    /// What an earlier run left is known, now that the spool is open.
    fn recovered(&self, recovered: Option<Recovered>) {
        if let Some(recovered) = recovered {
            self.shared.update(|status| status.recovered = recovered);
        }
    }

    /// What was to be sent from memory goes to the spool for the next run, if there is room by now.
    fn put_down(&mut self) {
        let recovered = self.spool.reopen();
        self.recovered(recovered);
        for Queued { message, is_listed } in self.window.take_from_memory() {
            if let Err(error) = self.spool.append(&message.encode(), is_listed) {
                self.overflow(message.topic);
                self.counts.error = Some(error.to_string());
            }
        }
    }

    /// Takes records off the queue into the spool; false when the queue is closed and empty.
    fn receive(&mut self) -> bool {
        let wait = if self.window.sent() > 0 { BUSY } else { IDLE };
        let first = match self.queue.recv_timeout(wait) {
            Ok(queued) => queued,
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => {
                // A closed queue doesn't wait: without a pause this would spin until the deadline.
                std::thread::sleep(BUSY);
                return false;
            }
        };
        self.store(first);
        let mut taken = 1;
        let queue = self.queue.clone();
        for queued in queue.try_iter().take(BATCH_RECORDS - 1) {
            self.store(queued);
            taken += 1;
        }
        // Whoever waits for it goes on: from here on a killed process loses none of them.
        let in_memory = self.window.in_memory();
        let decisions_lost = std::mem::take(&mut self.counts.decisions_lost);
        self.shared.update(|status| {
            status.taken += taken;
            status.in_memory = in_memory;
            status.decisions_lost += decisions_lost;
        });
        true
    }

    fn store(&mut self, queued: Queued) {
        let Queued { message, is_listed } = &queued;
        self.shared.release(message.value.len());
        let Err(error) = self.spool.append(&message.encode(), *is_listed) else { return };
        // Where only the rest is kept from it, it would overtake what the spool holds.
        let has_way = !matches!(error, SinkError::SpoolKept { .. });
        // Why there is no spool is told by itself.
        if !matches!(error, SinkError::SpoolShut(_)) {
            self.counts.error = Some(error.to_string());
        }
        // A full disk must not silence a working broker: send it from memory while there is room.
        if has_way && self.window.has_memory(&queued) {
            self.counts.unspooled += 1;
            self.window.enter(None, queued);
        } else {
            self.overflow(queued.message.topic);
        }
    }

    fn overflow(&mut self, topic: Topic) {
        self.counts.overflow += 1;
        self.counts.decisions_lost += u64::from(topic == Topic::Remediations);
    }

    /// Fills the window from the spool.
    fn fill(&mut self) {
        for topic in Topic::ALL {
            while self.window.has_room(topic) {
                match self.spool.read_next(topic) {
                    Ok(Some((id, payload))) => match Message::decode(&payload) {
                        Some(message) => {
                            self.window.enter(Some(id), Queued { message, is_listed: false });
                        }
                        // Whole by its checksum, yet not ours to read: of another version.
                        None => {
                            self.reject(Some(id), "a record in the spool has an unknown encoding")
                        }
                    },
                    Ok(None) => break,
                    Err(error) => {
                        self.counts.rejected += 1;
                        self.counts.error = Some(error.to_string());
                        break;
                    }
                }
            }
        }
    }

    /// Hands what is unsent to the client, that of each topic in order.
    fn hand_over(&mut self) {
        self.recreate_if_missing();
        for topic in Topic::ALL {
            if self.window.lane(topic).is_open(Instant::now()) {
                self.hand_over_of(topic);
            }
        }
    }

    fn hand_over_of(&mut self, topic: Topic) {
        while let Some(ticket) = self.window.lane(topic).first_unsent() {
            let (Some(producer), Some(pending)) = (&self.producer, self.window.get(ticket)) else {
                return;
            };
            match produce(producer, &self.config, ticket, &pending.message) {
                Ok(()) => self.window.lane(topic).hand_over(ticket),
                Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) => return,
                Err(error) if is_final(error.rdkafka_error_code()) => {
                    let origin = self.window.leave(ticket);
                    self.reject(origin, &error.to_string());
                }
                Err(error) => {
                    let code = error.rdkafka_error_code();
                    self.fail(ticket, code, error.to_string());
                    return;
                }
            }
        }
    }

    /// It is sent again, and so is what of its topic comes behind it.
    fn fail(&mut self, ticket: usize, code: Option<RDKafkaErrorCode>, error: String) -> bool {
        self.counts.error = Some(error);
        let is_refusal = code.is_some_and(topics::is_refusal);
        if is_refusal {
            self.check.begin(Instant::now());
        }
        self.window.take_back(ticket, Instant::now() + BACKOFF, is_refusal)
    }

    /// Asks the broker for the next topic, where one is due.
    fn check_topics(&mut self) {
        let is_up = self.shared.status().connection == Connection::Up;
        let Some(producer) = self.producer.as_ref().filter(|_| is_up) else { return };
        if !self.check.is_due(Instant::now()) {
            return;
        }
        if let Some(wrong) = self.check.ask(producer.client(), &self.config) {
            self.shared.update(|status| {
                status.topics_checked = true;
                status.health_wrong = wrong.iter().any(|(topic, _)| *topic == Topic::Health);
                status.topics_wrong = wrong.into_iter().map(|(_, told)| told).collect();
            });
        }
    }

    fn reject(&mut self, origin: Option<RecordId>, error: &str) {
        self.counts.rejected += 1;
        self.counts.error = Some(error.to_owned());
        self.confirm(origin);
    }

    fn confirm(&mut self, origin: Option<RecordId>) {
        if let Some(id) = origin
            && let Err(error) = self.spool.confirm(id)
        {
            self.counts.error = Some(error.to_string());
        }
    }

    fn sync(&mut self) {
        if let Err(error) = self.spool.sync() {
            self.counts.error = Some(error.to_string());
        }
    }

    /// Serves the callbacks that the client has, and acts on them. It isn't waited for: what is left of a
    /// time to wait is rounded down to milliseconds there, and the last one spun away.
    fn collect(&mut self) {
        let Some(producer) = &self.producer else { return };
        let mut left = i32::MAX;
        while producer.in_flight_count() < left {
            left = producer.in_flight_count();
            producer.poll(Duration::ZERO);
        }
        let reports = producer.context().take_reports();
        let fatal = producer.client().fatal_error();
        for report in reports {
            self.report(report);
        }
        if let Some((code, reason)) = fatal {
            self.replace_producer(&format!("fatal {code}: {reason}"));
        }
    }

    fn report(&mut self, (ticket, error): Report) {
        match error {
            None => {
                self.counts.delivered += 1;
                let origin = self.window.leave(ticket);
                self.confirm(origin);
                self.shared_up();
            }
            Some(code) if is_final(Some(code)) => {
                let origin = self.window.leave(ticket);
                self.reject(origin, &code.to_string());
            }
            Some(code) => {
                let is_ours = self.fail(ticket, Some(code), code.to_string());
                self.counts.resent += u64::from(is_ours);
            }
        }
    }

    fn shared_up(&self) {
        if self.shared.status().connection != Connection::Up {
            self.shared.update(|status| status.connection = Connection::Up);
        }
    }

    /// A fatal error ends a producer for good: all that it held is sent again by a new one.
    fn replace_producer(&mut self, reason: &str) {
        self.counts.resent += self.window.sent() as u64;
        self.counts.error = Some(reason.to_owned());
        self.window.take_all_back();
        self.producer = None;
        self.recreate_at = Instant::now() + BACKOFF;
    }

    fn recreate_if_missing(&mut self) {
        if self.producer.is_some() || Instant::now() < self.recreate_at {
            return;
        }
        let context = Context::new(self.shared.clone());
        match BaseProducer::from_config_and_context(&self.client, context) {
            Ok(producer) => {
                self.producer = Some(producer);
                self.counts.recreated += 1;
            }
            Err(error) => {
                self.counts.error = Some(error.to_string());
                self.recreate_at = Instant::now() + BACKOFF;
            }
        }
    }

    fn publish(&mut self) {
        let counts = std::mem::take(&mut self.counts);
        let in_memory = self.window.in_memory();
        let waiting = self.spool.waiting() + in_memory;
        let spool_bytes = self.spool.bytes();
        let memory_only = self.spool.failure();
        self.shared.update(|status| {
            status.delivered += counts.delivered;
            status.resent += counts.resent;
            status.overflow += counts.overflow;
            status.rejected += counts.rejected;
            status.unspooled += counts.unspooled;
            status.recreated += counts.recreated;
            status.decisions_lost += counts.decisions_lost;
            status.in_memory = in_memory;
            status.waiting = waiting;
            status.spool_bytes = spool_bytes;
            if status.memory_only.as_deref() != memory_only {
                status.memory_only = memory_only.map(str::to_owned);
            }
            if counts.error.is_some() {
                status.last_error = counts.error;
            }
        });
    }
}

/// Errors that no repetition can cure.
fn is_final(code: Option<RDKafkaErrorCode>) -> bool {
    matches!(code, Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidRecord))
}

fn produce(
    producer: &BaseProducer<Context>,
    config: &KafkaConfig,
    ticket: usize,
    message: &Message,
) -> Result<(), KafkaError> {
    let headers = message.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(value) })
    });
    let record = BaseRecord::with_opaque_to(config.topics.name(message.topic), ticket)
        .key(&message.key)
        .payload(&message.value)
        .headers(headers);
    producer.send(record).map_err(|(error, _)| error)
}
