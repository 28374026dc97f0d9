//! librdkafka's callbacks, turned into what the service asks for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use hedgerow_event::gate;
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::DeliveryResult,
    producer::ProducerContext,
};
use serde::Deserialize;

use super::status::{Connection, Shared};

/// A delivery report: the ticket of the record and why it failed, if it did.
pub(super) type Report = (usize, Option<RDKafkaErrorCode>);

/// The callbacks of one producer; all run inside `poll`, on the sink's own thread.
pub(super) struct Context {
    shared: Arc<Shared>,
    reports: Mutex<Vec<Report>>,
    /// The client's own last error: a connection that comes up ends it.
    told: Mutex<Option<String>>,
}

/// The part of librdkafka's statistics that tells whether a broker answers.
#[derive(Deserialize)]
struct Statistics<'a> {
    #[serde(borrow)]
    brokers: HashMap<&'a str, Broker<'a>>,
}

#[derive(Deserialize)]
struct Broker<'a> {
    state: &'a str,
}

impl Context {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, reports: Mutex::default(), told: Mutex::default() }
    }

    fn told(&self) -> Option<String> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn take_reports(&self) -> Vec<Report> {
        std::mem::take(&mut *self.reports.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn connection(&self, connection: Connection) {
        if self.shared.status().connection != connection {
            self.shared.update(|status| {
                status.connection = connection;
                // What the spool or a topic refused is as true as before.
                if connection == Connection::Up && status.last_error == self.told() {
                    status.last_error = None;
                }
            });
        }
    }
}

impl ClientContext for Context {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn stats_raw(&self, statistics: &[u8]) {
        let Ok(statistics) = serde_json::from_slice::<Statistics>(statistics) else { return };
        if statistics.brokers.values().any(|broker| broker.state == "UP") {
            self.connection(Connection::Up);
        } else if self.shared.status().connection == Connection::Up {
            self.connection(Connection::Down);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.connection(Connection::Down);
        } else {
            let told = Some(gate::text(reason));
            self.told.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&told);
            self.shared.update(|status| status.last_error = told);
        }
    }
}

impl ProducerContext for Context {
    /// The record's ticket.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        let error = match result {
            Ok(_) => None,
            Err((error, _)) => {
                Some(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown))
            }
        };
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).push((ticket, error));
    }
}
