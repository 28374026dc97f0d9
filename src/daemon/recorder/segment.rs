//! A stretch of the flight recorder: records as bytes, one after another. Half a minute of a busy host
//! is some hundred thousand of them: kept as they are they would be as many allocations, each given
//! back when no cache knows it any more.

use std::sync::Arc;

use hedgerow_event::{Actor, Epoch, Event, Origin, Subject};

use super::Tree;

/// What one of the tables beside the bytes has of the same thing in its newest entries is not entered
/// again. What two processors deliver is mingled, so it is more than one.
const NEWEST: usize = 4;

/// What is read of a record to pass over it.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    pub time_boot_ns: u64,
    epoch: Epoch,
    /// Its origin's, in bytes.
    length: u32,
    /// Who did it, by the number in the segment's table.
    who: u16,
    /// Of an exec: who called it, and the parent, by their numbers, from 1 on. 0: nobody.
    called: [u16; 2],
}

impl Head {
    const BYTES: usize = 22;

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.time_boot_ns.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.length.to_le_bytes());
        for (at, number) in [self.who, self.called[0], self.called[1]].into_iter().enumerate() {
            bytes[16 + 2 * at..][..2].copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let number = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let word = |at: usize| u32::from(number(at)) | u32::from(number(at + 2)) << 16;
        Self {
            time_boot_ns: u64::from(word(0)) | u64::from(word(4)) << 32,
            epoch: Epoch(word(8)),
            length: word(12),
            who: number(16),
            called: [number(18), number(20)],
        }
    }
}

/// A process or thread, and its tree.
#[derive(Debug, Clone)]
pub struct Who {
    pub tree: Tree,
    pub actor: Actor,
}

impl Who {
    fn is(&self, actor: &Actor) -> bool {
        let known = &self.actor;
        (known.tid, known.tgid, known.slot) == (actor.tid, actor.tgid, actor.slot)
            && (known.start_boot_ns, known.cgroup_id) == (actor.start_boot_ns, actor.cgroup_id)
            && known.program_id == actor.program_id
            && Arc::ptr_eq(&known.subject, &actor.subject)
    }
}

/// Of a segment, what is left for its tables: one in so many bytes each.
const WHO_PART: usize = 4;
const SUBJECTS_PART: usize = 16;

/// It takes all its memory at once, and keeps it. A clone is there to be read.
#[derive(Debug, Clone)]
pub struct Segment {
    bytes: Vec<u8>,
    used: usize,
    count: usize,
    who: Vec<Who>,
    subjects: Vec<Arc<Subject>>,
    /// How many records of which tree are in it, in their order, once it is full.
    trees: Vec<(Tree, usize)>,
    newest_ns: u64,
}

impl Segment {
    /// Of so many bytes at most.
    pub fn new(size: usize) -> Self {
        let (of_who, of_subjects) = (size / WHO_PART, size / SUBJECTS_PART);
        Self {
            bytes: vec![0; size - of_who - of_subjects],
            used: 0,
            count: 0,
            who: Vec::with_capacity((of_who / size_of::<Who>()).min(usize::from(u16::MAX))),
            subjects: Vec::with_capacity(of_subjects / size_of::<Arc<Subject>>()),
            trees: Vec::new(),
            newest_ns: 0,
        }
    }

    /// Without records.
    pub fn cleared(mut self) -> Self {
        (self.used, self.count, self.newest_ns) = (0, 0, 0);
        self.who.clear();
        self.subjects.clear();
        self.trees = Vec::new();
        self
    }

    /// Full: nothing is written to it any more.
    pub fn closed(mut self) -> Arc<Self> {
        let mut trees: Vec<_> = self.records().map(|(who, ..)| (who.tree, 1)).collect();
        trees.sort_unstable();
        trees.dedup_by(|(next, more), (tree, records)| {
            let same = next == tree;
            *records += if same { *more } else { 0 };
            same
        });
        trees.shrink_to_fit();
        self.trees = trees;
        Arc::new(self)
    }

    /// What it takes in memory, full or not.
    pub fn size(&self) -> usize {
        self.bytes.len()
            + self.who.capacity() * size_of::<Who>()
            + self.subjects.capacity() * size_of::<Arc<Subject>>()
            + self.trees.capacity() * size_of::<(Tree, usize)>()
    }

    /// What each of its records takes of that.
    pub fn each(&self) -> usize {
        self.size() / self.count.max(1)
    }

    pub fn newest_ns(&self) -> u64 {
        self.newest_ns
    }

    /// The tree of who did one of the newest records.
    pub fn newest_tree(&self, actor: &Actor) -> Option<Tree> {
        let mut newest = self.who.iter().rev().take(NEWEST);
        newest.find(|who| who.is(actor)).map(|who| who.tree)
    }

    /// Whether a tree has records here.
    pub fn has(&self, tree: Tree) -> bool {
        self.who.iter().any(|who| who.tree == tree)
    }

    /// Where the next record's origin goes, if there is room for whatever it may enter in the tables.
    fn room(&mut self) -> Option<&mut [u8]> {
        let who = self.who.len() < self.who.capacity();
        let subjects =
            self.subjects.len() + 2 <= self.subjects.capacity().min(usize::from(u16::MAX));
        self.bytes.get_mut(self.used + Head::BYTES..).filter(|_| who && subjects)
    }

    /// Writes a record. False: it doesn't fit.
    pub fn push(&mut self, tree: Tree, event: &Event) -> bool {
        let Some(room) = self.room() else { return false };
        let Ok(origin) = postcard::to_slice(&event.origin, room) else { return false };
        let length = origin.len();
        let called = match &event.origin {
            Origin::Exec(exec) => [exec.previous.as_ref(), exec.parent.as_ref()],
            _ => [None, None],
        };
        self.finish(tree, &event.actor, (event.time_boot_ns, event.epoch), called, length)
    }

    /// Writes a record of another segment. False: it doesn't fit.
    pub fn copy(&mut self, from: &Self, who: &Who, head: &Head, origin: &[u8]) -> bool {
        let Some(room) = self.room().and_then(|room| room.get_mut(..origin.len())) else {
            return false;
        };
        room.copy_from_slice(origin);
        let called = head.called.map(|number| from.subject(number));
        let when = (head.time_boot_ns, head.epoch);
        self.finish(who.tree, &who.actor, when, called, origin.len())
    }

    /// Enters a record whose origin is written.
    fn finish(
        &mut self,
        tree: Tree,
        actor: &Actor,
        (time_boot_ns, epoch): (u64, Epoch),
        called: [Option<&Arc<Subject>>; 2],
        length: usize,
    ) -> bool {
        let Ok(of_origin) = u32::try_from(length) else { return false };
        let is = |who: &Who| who.tree == tree && who.is(actor);
        let who = number(&mut self.who, is, || Who { tree, actor: actor.clone() });
        let called = called.map(|called| {
            let is = |subject: &Arc<Subject>, known: &Arc<Subject>| Arc::ptr_eq(subject, known);
            called.map_or(0, |one| {
                number(&mut self.subjects, |known| is(one, known), || Arc::clone(one)) + 1
            })
        });
        let head = Head { time_boot_ns, epoch, length: of_origin, who, called };
        self.bytes[self.used..][..Head::BYTES].copy_from_slice(&head.to_bytes());
        self.used += Head::BYTES + length;
        self.count += 1;
        self.newest_ns = self.newest_ns.max(time_boot_ns);
        true
    }

    fn subject(&self, number: u16) -> Option<&Arc<Subject>> {
        self.subjects.get(usize::from(number).checked_sub(1)?)
    }

    pub fn trees(&self) -> &[(Tree, usize)] {
        &self.trees
    }

    /// All records, the first written first.
    pub fn records(&self) -> impl Iterator<Item = (&Who, Head, &[u8])> {
        let mut rest = self.bytes.get(..self.used).unwrap_or_default();
        std::iter::from_fn(move || {
            let (head, after) = rest.split_first_chunk()?;
            let head = Head::from_bytes(head);
            let (origin, after) = after.split_at_checked(head.length as usize)?;
            rest = after;
            Some((self.who.get(usize::from(head.who))?, head, origin))
        })
    }

    /// What a tree did from then on.
    pub fn events(&self, tree: Tree, from_ns: u64) -> impl Iterator<Item = Event> {
        let of_tree = self
            .records()
            .filter(move |(who, head, _)| who.tree == tree && head.time_boot_ns >= from_ns);
        of_tree.filter_map(|(who, head, origin)| self.event(who, &head, origin))
    }

    fn event(&self, who: &Who, head: &Head, origin: &[u8]) -> Option<Event> {
        let actor = who.actor.clone();
        let mut origin: Origin = postcard::from_bytes(origin).ok()?;
        if let Origin::Exec(exec) = &mut origin {
            let [previous, parent] = head.called.map(|number| self.subject(number).cloned());
            (exec.previous, exec.parent) = (previous, parent);
        }
        Some(Event { epoch: head.epoch, time_boot_ns: head.time_boot_ns, actor, origin })
    }
}

/// The number of what is among the newest of a table, or is entered.
fn number<T>(table: &mut Vec<T>, is: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> u16 {
    let newest = table.len().saturating_sub(NEWEST);
    let at = table[newest..].iter().rposition(is).map_or_else(
        || {
            table.push(new());
            table.len() - 1
        },
        |at| newest + at,
    );
    // There is room (`Segment::room`).
    at as u16
}
