//! What is on its way through the client. Each topic has a lane of its own: one that the broker
//! refuses holds up no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::{QUEUE_BYTES, service::Queued};
use crate::{
    message::{Message, Topic},
    spool::RecordId,
};

pub(super) struct Pending {
    /// Its place in the spool; `None` where the spool could not take it.
    pub origin: Option<RecordId>,
    pub message: Message,
    is_listed: bool,
}

/// The records of a topic.
#[derive(Default)]
pub(super) struct Lane {
    held: usize,
    /// Bytes of those that are in the spool, and of those that it could not take.
    bytes: usize,
    bytes_in_memory: usize,
    /// Those that the client was not given.
    unsent: BTreeSet<usize>,
    /// Nothing is handed over before this time.
    retry_at: Option<Instant>,
    /// The topic is not there, or not ours to write to.
    refused: bool,
}

impl Lane {
    fn sent(&self) -> usize {
        self.held - self.unsent.len()
    }

    /// Whether something may be handed over. After a failure every report is waited for, so that what
    /// is sent again is sent in order.
    pub fn is_open(&mut self, now: Instant) -> bool {
        let is_open = self.retry_at.is_none_or(|time| self.sent() == 0 && now >= time);
        if is_open {
            self.retry_at = None;
        }
        is_open
    }

    pub fn first_unsent(&self) -> Option<usize> {
        self.unsent.first().copied()
    }

    pub fn hand_over(&mut self, ticket: usize) {
        self.unsent.remove(&ticket);
    }

    pub fn fail(&mut self, retry_at: Instant, is_refusal: bool) {
        self.retry_at = Some(retry_at);
        self.refused |= is_refusal;
    }
}

pub(super) struct Window {
    limit: usize,
    pending: BTreeMap<usize, Pending>,
    lanes: [Lane; Topic::ALL.len()],
    next_ticket: usize,
    in_memory: u64,
}

impl Window {
    pub fn new(limit: usize) -> Self {
        let (pending, lanes) = (BTreeMap::new(), Default::default());
        Self { limit, pending, lanes, next_ticket: 0, in_memory: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Records that the client has.
    pub fn sent(&self) -> usize {
        self.lanes.iter().map(Lane::sent).sum()
    }

    /// Those that the spool could not take.
    pub fn in_memory(&self) -> u64 {
        self.in_memory
    }

    pub fn lane(&mut self, topic: Topic) -> &mut Lane {
        &mut self.lanes[topic as usize]
    }

    pub fn get(&self, ticket: usize) -> Option<&Pending> {
        self.pending.get(&ticket)
    }

    /// Whether more of the topic is read from the spool: no more than it leaves to the others, in
    /// records and in bytes, and at least one.
    pub fn has_room(&self, topic: Topic) -> bool {
        let lane = &self.lanes[topic as usize];
        let bytes: usize = self.lanes.iter().map(|lane| lane.bytes).sum();
        let fits = lane.held + self.pending.len() < self.limit && lane.bytes + bytes < QUEUE_BYTES;
        lane.held == 0 || fits
    }

    /// Whether a record that the spool can't take is sent from memory: of a topic no more than it leaves to
    /// the others, at most [`QUEUE_BYTES`] in all. For a topic that takes none it would only be kept from
    /// others, and so would the last quarter by what is only listed.
    pub fn has_memory(&self, Queued { message, is_listed }: &Queued) -> bool {
        let most = |limit: usize| if *is_listed { limit / 4 * 3 } else { limit };
        let lane = &self.lanes[message.topic as usize];
        let bytes: usize = self.lanes.iter().map(|lane| lane.bytes_in_memory).sum();
        let fits = lane.bytes_in_memory + bytes + message.value.len() <= most(QUEUE_BYTES);
        fits && lane.held + self.pending.len() < most(self.limit) && !lane.refused
    }

    pub fn enter(&mut self, origin: Option<RecordId>, Queued { message, is_listed }: Queued) {
        let (ticket, bytes) = (self.next_ticket, message.value.len());
        self.next_ticket += 1;
        let lane = self.lane(message.topic);
        lane.held += 1;
        lane.unsent.insert(ticket);
        match origin {
            Some(_) => lane.bytes += bytes,
            None => {
                lane.bytes_in_memory += bytes;
                self.in_memory += 1;
            }
        }
        self.pending.insert(ticket, Pending { origin, message, is_listed });
    }

    /// It was confirmed, or is given up. Its place in the spool, where it has one.
    pub fn leave(&mut self, ticket: usize) -> Option<RecordId> {
        let Pending { origin, message, .. } = self.pending.remove(&ticket)?;
        let (lane, bytes) = (self.lane(message.topic), message.value.len());
        lane.held -= 1;
        lane.unsent.remove(&ticket);
        lane.refused = false;
        match origin {
            Some(_) => lane.bytes -= bytes,
            None => {
                lane.bytes_in_memory -= bytes;
                self.in_memory -= 1;
            }
        }
        origin
    }

    /// The client could not deliver it: it is sent again.
    pub fn take_back(&mut self, ticket: usize, retry_at: Instant, is_refusal: bool) -> bool {
        let Some(topic) = self.get(ticket).map(|pending| pending.message.topic) else {
            return false;
        };
        let lane = self.lane(topic);
        lane.unsent.insert(ticket);
        lane.fail(retry_at, is_refusal);
        true
    }

    /// The client is gone: all is sent again.
    pub fn take_all_back(&mut self) {
        for (&ticket, pending) in &self.pending {
            self.lanes[pending.message.topic as usize].unsent.insert(ticket);
        }
    }

    /// Empties it; what the spool does not have.
    pub fn take_from_memory(&mut self) -> impl Iterator<Item = Queued> + use<> {
        let all = std::mem::replace(self, Self::new(self.limit)).pending.into_values();
        all.filter(|pending| pending.origin.is_none())
            .map(|Pending { message, is_listed, .. }| Queued { message, is_listed })
    }
}
