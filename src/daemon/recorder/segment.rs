//! A stretch of the flight recorder: records as bytes, one after another. Half a minute of a busy host
//! is some hundred thousand of them: kept as they are they would be as many allocations, each given
//! back when no cache knows it any more.

use std::{collections::HashMap, sync::Arc};

use hedgerow_event::{Actor, Epoch, Event, Origin, Subject};
use serde::{Deserialize, Serialize};

use super::Tree;

/// Whom a record speaks of, by their numbers in its segment: who did it, and of an exec who called it
/// and the parent. 0: nobody.
type Subjects = [u16; 3];

/// What is read of a record to pass over it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Head {
    pub tree: Tree,
    pub time_boot_ns: u64,
    subjects: Subjects,
    /// Of the rest, in bytes.
    length: u32,
}

/// The rest of a record. `O`: [`Origin`], or a reference to one.
#[derive(Serialize, Deserialize)]
struct Body<O> {
    epoch: Epoch,
    tgid: u32,
    tid: u32,
    start_boot_ns: u64,
    cgroup_id: u64,
    program_id: u64,
    slot: u32,
    origin: O,
}

/// Longest head, in bytes: numbers of 7 bits a byte.
const HEAD_MAX: usize = 64;
/// What a subject takes in a segment's tables, near enough; the bytes of records leave room for it.
const SUBJECT_BYTES: usize = 64;

/// Subjects are kept for as long as the segment, so that no other can have their address.
#[derive(Debug)]
pub struct Segment {
    bytes: Vec<u8>,
    subjects: Vec<Arc<Subject>>,
    numbers: HashMap<usize, u16>,
    newest_ns: u64,
}

impl Segment {
    pub fn new(size: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(size),
            subjects: Vec::new(),
            numbers: HashMap::new(),
            newest_ns: 0,
        }
    }

    /// What it takes in memory, full or not.
    pub fn size(&self) -> usize {
        self.bytes.capacity()
    }

    pub fn newest_ns(&self) -> u64 {
        self.newest_ns
    }

    /// Writes a record; `scratch` has room for the longest. False: it doesn't fit.
    pub fn push(&mut self, tree: Tree, event: &Event, scratch: &mut [u8]) -> bool {
        let actor = &event.actor;
        let body = Body {
            epoch: event.epoch,
            tgid: actor.tgid,
            tid: actor.tid,
            start_boot_ns: actor.start_boot_ns,
            cgroup_id: actor.cgroup_id,
            program_id: actor.program_id,
            slot: actor.slot,
            origin: &event.origin,
        };
        let Ok(body) = postcard::to_slice(&body, scratch) else { return false };
        let (previous, parent) = match &event.origin {
            Origin::Exec(exec) => (exec.previous.as_ref(), exec.parent.as_ref()),
            _ => (None, None),
        };
        let who = [Some(&actor.subject), previous, parent];
        self.append(tree, event.time_boot_ns, who, body)
    }

    /// Writes a record of another segment. False: it doesn't fit.
    pub fn copy(&mut self, from: &Self, head: &Head, body: &[u8]) -> bool {
        let who = head.subjects.map(|number| from.subject(number));
        self.append(head.tree, head.time_boot_ns, who, body)
    }

    fn append(
        &mut self,
        tree: Tree,
        time_boot_ns: u64,
        who: [Option<&Arc<Subject>>; 3],
        body: &[u8],
    ) -> bool {
        let subjects = self.subjects.len() + who.len();
        let bytes = self.bytes.len() + subjects * SUBJECT_BYTES + HEAD_MAX + body.len();
        let fits = bytes <= self.bytes.capacity() && subjects < usize::from(u16::MAX);
        let Ok(length) = u32::try_from(body.len()) else { return false };
        if !fits {
            return false;
        }
        let subjects = who.map(|who| who.map_or(0, |subject| self.number(subject)));
        let head = Head { tree, time_boot_ns, subjects, length };
        let mut buffer = [0; HEAD_MAX];
        let Ok(head) = postcard::to_slice(&head, &mut buffer) else { return false };
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(body);
        self.newest_ns = self.newest_ns.max(time_boot_ns);
        true
    }

    fn number(&mut self, subject: &Arc<Subject>) -> u16 {
        let next = self.subjects.len() as u16 + 1;
        *self.numbers.entry(Arc::as_ptr(subject).addr()).or_insert_with(|| {
            self.subjects.push(Arc::clone(subject));
            next
        })
    }

    fn subject(&self, number: u16) -> Option<&Arc<Subject>> {
        self.subjects.get(usize::from(number).checked_sub(1)?)
    }

    /// All records, the first written first.
    pub fn records(&self) -> impl Iterator<Item = (Head, &[u8])> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (head, after) = postcard::take_from_bytes::<Head>(rest).ok()?;
            let (body, after) = after.split_at_checked(head.length as usize)?;
            rest = after;
            Some((head, body))
        })
    }

    pub fn event(&self, head: &Head, body: &[u8]) -> Option<Event> {
        let body: Body<Origin> = postcard::from_bytes(body).ok()?;
        let [subject, previous, parent] = head.subjects.map(|number| self.subject(number).cloned());
        let mut origin = body.origin;
        if let Origin::Exec(exec) = &mut origin {
            (exec.previous, exec.parent) = (previous, parent);
        }
        let actor = Actor {
            subject: subject?,
            tgid: body.tgid,
            tid: body.tid,
            start_boot_ns: body.start_boot_ns,
            cgroup_id: body.cgroup_id,
            program_id: body.program_id,
            slot: body.slot,
        };
        Some(Event { epoch: body.epoch, time_boot_ns: head.time_boot_ns, actor, origin })
    }
}
