//! A stretch of the flight recorder: records as bytes, one after another. Half a minute of a busy host
//! is some hundred thousand of them: kept as they are they would be as many allocations, each given
//! back when no cache knows it any more.
//!
//! A record is written where the one before it ended, and hardly anything else is looked at: each place
//! more is one that no cache knows. Whose it is is found out later, for many at once ([`Segment::settle`]).

use std::sync::Arc;

use hedgerow_event::{Actor, Epoch, Event, Exec, Origin, Subject};

use super::{
    origin::{self, Said},
    trees::{Tree, Trees},
    written::{Head, Who, put, take},
};

/// What is the same as in one of the newest records is not written again. What two processors deliver is
/// mingled, so it is more than one.
const NEWEST: usize = 4;

/// Of a segment, what is left for its table of subjects: one in so many bytes.
const SUBJECTS_PART: usize = 16;
/// Of the rest, what is left for whose they are: no more than that can be written of anybody new.
const OWNERS_PART: usize = 4;
/// A record enters no more subjects than so many.
const SUBJECTS_EACH: usize = 3;

/// Whose the records of a process or thread are, and how many there are.
#[derive(Debug, Clone)]
struct Owner {
    tree: Tree,
    /// Where the first one is, which says who it is.
    at: u32,
    records: u32,
}

/// A record as it is written, and whose it is.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    pub head: Head,
    pub tree: Tree,
    /// Where it stands who did it.
    who: usize,
    origin: &'a [u8],
    /// Where the next one is.
    next: usize,
}

/// It takes all its memory at once, and keeps it. A clone is there to be read.
#[derive(Debug, Clone)]
pub struct Segment {
    bytes: Vec<u8>,
    used: usize,
    count: usize,
    subjects: Vec<Arc<Subject>>,
    /// Who did something, the newest: each at its number, with where its subject is in memory.
    newest: [(Who, usize); NEWEST],
    known: u16,
    newest_ns: u64,
    /// Whose they are, by the number, as far as it was found out.
    owners: Vec<Owner>,
    /// So many bytes were read to find it out.
    settled: usize,
    /// How many records of which tree are in it, in their order, once it is full.
    trees: Vec<(Tree, usize)>,
}

impl Segment {
    /// Of so many bytes at most.
    pub fn new(size: usize) -> Self {
        let of_subjects = size / SUBJECTS_PART;
        let of_owners = (size - of_subjects) / OWNERS_PART;
        Self {
            bytes: vec![0; size - of_subjects - of_owners],
            used: 0,
            count: 0,
            subjects: Vec::with_capacity(of_subjects / size_of::<Arc<Subject>>()),
            newest: [(Who::default(), 0); NEWEST],
            known: 0,
            newest_ns: 0,
            owners: Vec::with_capacity(of_owners / size_of::<Owner>()),
            settled: 0,
            trees: Vec::new(),
        }
    }

    /// Without records.
    pub fn cleared(mut self) -> Self {
        (self.used, self.count, self.settled) = (0, 0, 0);
        (self.known, self.newest_ns) = (0, 0);
        self.subjects.clear();
        self.owners.clear();
        self.trees = Vec::new();
        self
    }

    /// Finds out whose those records are that came since this was done.
    pub fn settle(&mut self, trees: &mut Trees) {
        while let Some(Record { head, who, origin, next, .. }) = self.record(self.settled) {
            let said = origin::said(origin);
            let number = usize::from(head.who);
            if number == self.owners.len() {
                let who = self.who(who);
                let tree = trees.of(who.process(), self.subject(who.subject), who.told());
                self.owners.push(Owner { tree, at: self.settled as u32, records: 0 });
            }
            match said {
                Said::Fork(fork) if !fork.thread => {
                    let who = self.who(who);
                    let subject = self.subject(who.subject);
                    let tree = trees.forked(who.process(), subject, fork.child_tgid);
                    self.adopt(fork.child_tgid, tree);
                }
                Said::Exit(exit) if exit.process => {
                    trees.ended(self.who(who).tgid, head.time_boot_ns);
                }
                _ => {}
            }
            self.owners[number].records += 1;
            self.settled = next;
        }
    }

    /// What a child did was delivered before its fork was: it is of its parent's tree all the same.
    fn adopt(&mut self, child_tgid: u32, tree: Tree) {
        let newest = self.owners.len().saturating_sub(NEWEST);
        for number in newest..self.owners.len() {
            let child = self.who(self.owners[number].at as usize + Head::BYTES).process();
            if child.0 == child_tgid && self.owners[number].tree == child {
                self.owners[number].tree = tree;
            }
        }
    }

    /// Full: nothing is written to it any more. It is settled.
    pub fn closed(mut self) -> Arc<Self> {
        let mut trees = Vec::<(Tree, usize)>::new();
        for Owner { tree, records, .. } in &self.owners {
            let newest = trees.iter_mut().rev().take(NEWEST).find(|(known, _)| known == tree);
            match newest {
                Some((_, more)) => *more += *records as usize,
                None => trees.push((*tree, *records as usize)),
            }
        }
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
            + self.subjects.capacity() * size_of::<Arc<Subject>>()
            + self.owners.capacity() * size_of::<Owner>()
            + self.trees.capacity() * size_of::<(Tree, usize)>()
    }

    /// What each of its records takes of that.
    pub fn each(&self) -> usize {
        self.size() / self.count.max(1)
    }

    pub fn newest_ns(&self) -> u64 {
        self.newest_ns
    }

    /// Whether a tree has records here.
    pub fn has(&self, tree: Tree) -> bool {
        self.owners.iter().any(|owner| owner.tree == tree)
    }

    pub fn trees(&self) -> &[(Tree, usize)] {
        &self.trees
    }

    /// Writes a record. False: it doesn't fit.
    pub fn push(&mut self, event: &Event) -> bool {
        // By where its subject is, which the table keeps there: most records are of who did the one before,
        // and the table is in no near cache.
        let at = Arc::as_ptr(&event.actor.subject).addr();
        let who = match &event.origin {
            // It is another program from here on.
            Origin::Exec(exec) => self.executed(&event.actor, exec).map(Err),
            _ => match self.known(|(known, subject)| *subject == at && known.is(&event.actor)) {
                Some(number) => Some(Ok(number)),
                None => self.newcomer(&event.actor).map(Err),
            },
        };
        let when = (event.time_boot_ns, event.epoch);
        let write = |who| self.write(when, who, |to| origin::write(&event.origin, to));
        who.and_then(write).is_some()
    }

    /// Somebody whose subject is entered. `None`: there is no room.
    fn newcomer(&mut self, actor: &Actor) -> Option<Who> {
        self.has_room().then(|| Who::new(actor, self.number(&actor.subject)))
    }

    fn executed(&mut self, actor: &Actor, exec: &Exec) -> Option<Who> {
        let mut who = self.newcomer(actor)?;
        let called = [exec.previous.as_ref(), exec.parent.as_ref()];
        who.called = called.map(|called| called.map(|subject| self.number(subject)));
        who.told = exec.root.map(|root| (root.tgid, root.start_boot_ns)).unwrap_or_default();
        Some(who)
    }

    /// Writes a record of another segment. Both are settled. False: it doesn't fit.
    pub fn copy(&mut self, from: &Self, record: &Record) -> bool {
        if !self.has_room() {
            return false;
        }
        let mut who = from.who(record.who);
        who.subject = self.number(from.subject(who.subject));
        who.called = who.called.map(|called| called.map(|one| self.number(from.subject(one))));
        who.told = record.tree;
        let (at, when) = (self.used, (record.head.time_boot_ns, record.head.epoch));
        let who = self.known(|(known, _)| *known == who).ok_or(who);
        let number = self.write(when, who, |to| {
            to.get_mut(..record.origin.len())?.copy_from_slice(record.origin);
            Some(record.origin.len())
        });
        if number.is_some_and(|number| usize::from(number) == self.owners.len()) {
            self.owners.push(Owner { tree: record.tree, at: at as u32, records: 0 });
        }
        let owner = number.and_then(|number| self.owners.get_mut(usize::from(number)));
        owner.map(|owner| owner.records += 1).is_some()
    }

    /// Whether whatever a record may enter in the tables finds room.
    fn has_room(&self) -> bool {
        let subjects = self.subjects.capacity().min(usize::from(u16::MAX));
        self.subjects.len() + SUBJECTS_EACH <= subjects
            && usize::from(self.known) < self.owners.capacity().min(usize::from(u16::MAX))
    }

    /// The number of one of the newest who is the same.
    fn known(&self, same: impl Fn(&(Who, usize)) -> bool) -> Option<u16> {
        let newest = self.known.saturating_sub(NEWEST as u16)..self.known;
        newest.rev().find(|at| same(&self.newest[usize::from(*at) % NEWEST]))
    }

    /// Writes a record, of one who is known by number or who is new; who did it, by number.
    fn write(
        &mut self,
        (time_boot_ns, epoch): (u64, Epoch),
        who: Result<u16, Who>,
        origin: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Option<u16> {
        let number = who.unwrap_or(self.known);
        let to = self.bytes.get_mut(self.used..)?;
        let room = to.len();
        let (head, mut to) = to.split_at_mut_checked(Head::BYTES)?;
        if let Err(new) = &who {
            to = put(new.words(), to)?;
        }
        let before = room - to.len();
        let length = origin(to)?;
        let said = Head { time_boot_ns, epoch, length: u16::try_from(length).ok()?, who: number };
        put(said.words(), head)?;
        if let Err(new) = who {
            let subject = Arc::as_ptr(self.subject(new.subject)).addr();
            self.newest[usize::from(number) % NEWEST] = (new, subject);
            self.known += 1;
        }
        self.used += before + length;
        self.count += 1;
        self.newest_ns = self.newest_ns.max(time_boot_ns);
        Some(number)
    }

    /// The number of a subject, which is among the newest or is entered.
    fn number(&mut self, subject: &Arc<Subject>) -> u16 {
        let newest = self.subjects.len().saturating_sub(NEWEST);
        let at = self.subjects[newest..].iter().rposition(|known| Arc::ptr_eq(known, subject));
        let number = at.map_or(self.subjects.len(), |at| newest + at);
        if at.is_none() {
            self.subjects.push(Arc::clone(subject));
        }
        // There is room.
        number as u16
    }

    fn subject(&self, number: u16) -> &Arc<Subject> {
        &self.subjects[usize::from(number)]
    }

    /// The record that stands there.
    fn record(&self, at: usize) -> Option<Record<'_>> {
        let mut rest = self.bytes.get(at..self.used)?;
        let head = Head::of(take(&mut rest)?);
        let owner = self.owners.get(usize::from(head.who));
        let first = owner.map_or(at, |owner| owner.at as usize);
        if first == at {
            rest = rest.get(Who::BYTES..)?;
        }
        let (origin, rest) = rest.split_at_checked(usize::from(head.length))?;
        let tree = owner.map(|owner| owner.tree).unwrap_or_default();
        let (who, next) = (first + Head::BYTES, self.used - rest.len());
        Some(Record { head, tree, who, origin, next })
    }

    /// Who is written there.
    fn who(&self, at: usize) -> Who {
        let words = self.bytes.get(at..).and_then(|mut bytes| take(&mut bytes));
        words.map(Who::of).unwrap_or_default()
    }

    /// All records, the first written first.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let record = self.record(at)?;
            at = record.next;
            Some(record)
        })
    }

    /// Whether a subject did it.
    pub fn is_of(&self, record: &Record, subject: &Subject) -> bool {
        **self.subject(self.who(record.who).subject) == *subject
    }

    /// What a tree did from then on.
    pub fn events(&self, tree: Tree, from_ns: u64) -> impl Iterator<Item = Event> {
        let of_tree = self
            .records()
            .filter(move |record| record.tree == tree && record.head.time_boot_ns >= from_ns);
        of_tree.filter_map(|record| self.event(&record))
    }

    fn event(&self, record: &Record) -> Option<Event> {
        let Who { tgid, tid, start_boot_ns, cgroup_id, program_id, slot, subject, called, .. } =
            self.who(record.who);
        let subject = Arc::clone(self.subject(subject));
        let actor = Actor { subject, tgid, tid, start_boot_ns, cgroup_id, program_id, slot };
        let mut origin = origin::read(record.origin)?;
        if let Origin::Exec(exec) = &mut origin {
            let called = called.map(|called| called.map(|one| Arc::clone(self.subject(one))));
            [exec.previous, exec.parent] = called;
        }
        let Head { epoch, time_boot_ns, .. } = record.head;
        Some(Event { epoch, time_boot_ns, actor, origin })
    }
}
