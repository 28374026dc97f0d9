//! What was done: the deeds of the catalogue beyond the baseline's first-seen things.
//!
//! Most are *firsts*: a program that never did this, to that. They are learned while learning, and
//! told each time until they are learned afterwards. The others are *amounts*, beside the most that
//! learning saw.

mod amounts;
mod bounded;
mod calls;
mod execs;
pub mod files;
mod firsts;
pub mod lineage;
mod most;
pub mod objects;
pub mod processes;
mod servers;
#[cfg(test)]
mod tests;
pub mod trades;

use std::sync::Arc;

use hedgerow_event::{
    Contact, Deed, Event, Exec, FlowDirection, HostCounters, Object, Origin, Protocol, Subject,
    calls::Class,
};
use hedgerow_features::{Baseline, EPHEMERAL_PORT_FIRST, ItemKey, Set, parent_of};
use serde::{Deserialize, Serialize};

pub use self::amounts::is_amount;
use self::{
    amounts::{Amounts, Context},
    files::Files,
    firsts::Firsts,
    processes::Processes,
    servers::Servers,
};

/// What is watched for beyond first-seen sets, bounded. The sets and amounts are learned and kept
/// in the model file; what is known of running processes isn't.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Deeds {
    /// The baseline's, by which everything here is hashed; none before the first event.
    key: Option<ItemKey>,
    /// Epochs of learning.
    learned: u64,
    firsts: Firsts,
    files: Files,
    amounts: Amounts,
    servers: Servers,
    #[serde(skip)]
    processes: Processes,
}

/// A kind of deed, and to, of or from what.
type Done = Vec<(Deed, Arc<str>)>;

impl Deeds {
    /// The deeds in an event that make objects beyond [`Baseline::novel`]: none while learning. A
    /// first is told each time it happens until it is learned.
    pub fn observe(&mut self, event: &Event, baseline: &Baseline, learning: bool) -> Vec<Object> {
        if matches!(event.origin, Origin::Raw(_) | Origin::Signal(_)) {
            return Vec::new();
        }
        let items = baseline.key();
        self.key = Some(items);
        let subject = &event.actor.subject;
        self.processes.observe(items.workload(&subject.workload), event);
        if learning && matches!(event.origin, Origin::Row(_) | Origin::Exec(_)) {
            self.firsts.watch(&subject.workload);
        }
        if learning && let Origin::Row(row) = &event.origin {
            self.servers.learn(items.subject(subject), event, row);
        }
        let mut done = Done::new();
        self.firsts_in(items, event, baseline, &mut done);
        let context = Context { items, event, baseline, firsts: &self.firsts, learning };
        match &event.origin {
            Origin::Flow(flow) => self.amounts.observe_flow(&context, flow, &mut done),
            Origin::Row(row) => self.amounts.observe_row(&context, row, &mut done),
            Origin::Fork(fork) if !fork.thread => {
                let serves = self.processes.of(&event.actor).serves;
                self.amounts.observe_fork(&context, serves, &mut done);
            }
            _ => {}
        }
        let mut objects = Vec::new();
        for (deed, what) in done {
            let facts = self.processes.of(&event.actor);
            if trades::is_excused(deed, &subject.program, &facts) {
                continue;
            }
            if learning {
                self.firsts.learn(items, subject, deed, &what);
            } else if is_amount(deed) || self.firsts.is_first(items, subject, deed, &what) {
                let contact = match &event.origin {
                    Origin::Flow(flow) if has_one_peer(deed) => Some(Contact::of(flow)),
                    _ => None,
                };
                objects.push(Object::Did { subject: subject.clone(), deed, what, contact });
            } else {
                self.firsts.again(items, subject, deed, &what);
            }
        }
        objects
    }

    /// The deed in the kernel's own counters of an epoch: none while learning.
    pub fn observe_counters(
        &mut self,
        counters: &HostCounters,
        items: ItemKey,
        learning: bool,
    ) -> Option<Object> {
        self.key = Some(items);
        let what = self.amounts.observe_counters(items, counters, learning)?;
        let subject = Arc::new(Subject::host());
        Some(Object::Did { subject, deed: Deed::Flood, what, contact: None })
    }

    /// What in an event would be a deed if its program never did it.
    fn firsts_in(&mut self, items: ItemKey, event: &Event, baseline: &Baseline, done: &mut Done) {
        match &event.origin {
            Origin::Exec(exec) => {
                execs::deeds(event, exec, self.is_served(items, event, exec, baseline), done);
                self.files.observe_exec(items, event, exec, done);
            }
            Origin::Call(call) => {
                done.extend(calls::deed(&event.actor, call));
                self.files.observe_call(items, event, call, &mut self.processes, done);
            }
            Origin::Row(row) if row.classes[Class::Uring.index()] > 0 => {
                done.push((Deed::IoUring, "requests, or those of aio".into()));
            }
            Origin::Flow(flow) if flow.direction == FlowDirection::Inbound && flow.has_peer() => {
                // What the baseline knows needs no second memory.
                let known = baseline.known(&event.actor.subject.workload);
                let is_new = |set, hash| known.is_some_and(|known| known.is_new(set, hash));
                let (port, protocol) = (flow.local.port, flow.protocol);
                // An ephemeral port is known by who opened it.
                if let Some(listener) = listener(port, protocol)
                    && (port >= EPHEMERAL_PORT_FIRST
                        || is_new(Set::Listens, items.port(protocol, port)))
                {
                    done.push((Deed::NewListener, listener.into()));
                }
                let source = flow.peer.address;
                if !source.is_loopback() && is_new(Set::Sources, items.address(source)) {
                    done.push((Deed::NewSource, source.to_string().into()));
                }
            }
            _ => {}
        }
    }

    /// What was learned, as it is added to that of other runs.
    pub fn part(&self) -> Self {
        let mut part = Self::default();
        part.absorb(self.clone());
        part
    }

    /// Adds what another run taught.
    pub fn absorb(&mut self, other: Self) {
        self.key = self.key.or(other.key);
        self.learned += other.learned;
        self.files.absorb(other.files);
        self.amounts.absorb(other.amounts);
        self.servers.absorb(other.servers);
        if let Some(items) = self.key {
            self.firsts.absorb(other.firsts, items);
        }
    }

    /// Whether an exec's parent is of the same workload, serves connections for a living, and was never
    /// seen to start this.
    fn is_served(&self, items: ItemKey, event: &Event, exec: &Exec, baseline: &Baseline) -> bool {
        let child = &event.actor.subject;
        let Some(parent) = parent_of(event, exec) else { return false };
        let pair = || items.child(&parent.program, &child.program);
        parent.workload == child.workload
            && self.servers.has(items.subject(parent))
            && baseline
                .known(&parent.workload)
                .is_some_and(|known| known.is_new(Set::Children, pair()))
    }

    /// Learns what an object names, at an operator's word or because nobody suspected it.
    pub fn learn(&mut self, object: &Object) {
        let (Some(items), Object::Did { subject, deed, what, .. }) = (self.key, object) else {
            return;
        };
        if is_amount(*deed) {
            self.amounts.accept(items, subject, *deed, what);
        } else {
            self.firsts.accept(items, subject, *deed, what);
        }
    }

    /// Takes back what [`Self::learn`] learned.
    pub fn forget(&mut self, object: &Object) {
        let (Some(items), Object::Did { subject, deed, what, .. }) = (self.key, object) else {
            return;
        };
        if is_amount(*deed) {
            self.amounts.forget(items, subject, *deed, what);
        } else {
            self.firsts.forget(items, subject, *deed, what);
        }
    }

    /// Whether an object would be none if it were done again.
    pub fn knows(&self, object: &Object) -> bool {
        let (Some(items), Object::Did { subject, deed, what, .. }) = (self.key, object) else {
            return false;
        };
        if is_amount(*deed) {
            self.amounts.covers(items, subject, *deed, what)
        } else {
            !self.firsts.is_first(items, subject, *deed, what)
        }
    }

    /// Ends an epoch, and with it perhaps the five minutes or the hour that amounts belong to.
    pub fn close(&mut self, end_boot_ns: u64, learning: bool) {
        self.amounts.close(end_boot_ns);
        self.learned += u64::from(learning);
    }

    /// Forgets what running processes did and how much: nobody did anything yet.
    pub fn forget_running(&mut self) {
        self.processes = Processes::default();
        self.files.forget_written();
        self.amounts.forget_running();
    }

    /// Begins the next five minutes of the same hour.
    pub fn next_minutes(&mut self) {
        self.amounts.next_minutes();
    }

    /// Nothing was ever learned here, as in what an older model file holds.
    pub fn is_empty(&self) -> bool {
        self.learned == 0
    }

    /// What found no room, or had to go for others.
    pub fn refused(&self) -> u64 {
        self.firsts.refused()
            + self.files.refused()
            + self.amounts.refused()
            + self.servers.refused()
            + self.processes.evicted()
    }
}

/// Whether a deed is done with the peer of the flow that told of it, which its words name. Others are
/// done to many, or with whoever comes.
fn has_one_peer(deed: Deed) -> bool {
    use Deed::{Answers, Beacon, NewSource, OneSource, Outflow};
    matches!(deed, Answers | Beacon | NewSource | OneSource | Outflow)
}

/// `port 80/tcp`; other protocols have none.
fn listener(port: u16, protocol: Protocol) -> Option<String> {
    match protocol {
        Protocol::Tcp => Some(format!("port {port}/tcp")),
        Protocol::Udp => Some(format!("port {port}/udp")),
        Protocol::Icmp | Protocol::Other => None,
    }
}
