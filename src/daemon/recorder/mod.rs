//! The flight recorder: what each process tree did lately, in memory, so that a finding has its past
//! beside it. The loop keeps it; the thread that delivers reports writes what is taken of it.

mod opened;
mod origin;
mod segment;
mod share;
#[cfg(test)]
mod tests;
mod trees;
mod written;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use hedgerow_event::{Event, Subject};

pub use self::opened::{Opened, Openings, Recording};
use self::{
    segment::Segment,
    share::Share,
    trees::{Tree, Trees},
};

/// What is older is nothing's past any more.
const KEPT_NS: u64 = 30_000_000_000;
/// Those that ended too long ago are forgotten this often: all are looked at.
const FORGET_NS: u64 = 5_000_000_000;

/// Less room than this keeps nothing worth it.
const LEAST: usize = 1 << 20;
/// Segments that all the room is divided into.
const SEGMENTS: usize = 64;
/// Where there is no room, this part of it is made at once: to look who has most costs something.
const ROOM_PART: usize = 8;
/// A tree that has no more than this part of the room is not noisy.
const QUIET_PART: usize = 64;

/// What became of records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recorded {
    pub bytes: usize,
    /// Records that had to make room; none of them was much too old, as those go by themselves.
    pub dropped: u64,
    /// Processes that had to make room: what they did before is nobody's past.
    pub forgotten: u64,
}

/// Records of the last half minute. Full: the trees that have most give their oldest, so that a noisy
/// tree loses its own past and nobody else's. Where none has much the oldest records of all go.
#[derive(Debug)]
pub struct Recorder {
    bytes_max: usize,
    /// What it was made with.
    bytes_asked: usize,
    paused: bool,
    /// Full ones, the oldest first: a past that is being written shares them.
    segments: VecDeque<Arc<Segment>>,
    /// The one that is written to.
    open: Option<Segment>,
    /// Empty ones, whose pages the kernel gave already: to have new ones each time costs as much as to
    /// write to them. All together are no more than were in use at one time.
    spare: Vec<Segment>,
    trees: Trees,
    /// Records before it are too old.
    from_ns: u64,
    /// As of when processes were forgotten.
    forgot_ns: u64,
    dropped: u64,
}

impl Recorder {
    /// With 0 bytes nothing is kept.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes_asked: bytes_max,
            paused: false,
            segments: VecDeque::new(),
            open: None,
            spare: Vec::new(),
            trees: Trees::default(),
            from_ns: 0,
            forgot_ns: 0,
            dropped: 0,
        }
    }

    /// What it holds, empty segments included.
    pub fn held(&self) -> usize {
        self.bytes() + self.spare.iter().map(Segment::size).sum::<usize>()
    }

    /// No more than so much is kept from here on, nor than was asked for at first.
    pub fn limit(&mut self, bytes: usize) {
        let bytes = if bytes < LEAST { 0 } else { bytes.min(self.bytes_asked) };
        if bytes < self.bytes_max {
            self.spare.clear();
            while self.bytes() > bytes
                && let Some(segment) = self.segments.pop_front()
            {
                self.dropped +=
                    segment.trees().iter().map(|(_, records)| *records as u64).sum::<u64>();
            }
        }
        self.bytes_max = bytes;
    }

    /// Nothing is kept from here on, nor of what was; or everything that comes is.
    pub fn pause(&mut self, paused: bool) {
        if paused && !self.paused {
            let (bytes_max, dropped) = (self.bytes_max, self.dropped);
            let trees = std::mem::take(&mut self.trees).cleared();
            *self = Self { bytes_max, dropped, trees, ..Self::new(self.bytes_asked) };
        }
        self.paused = paused;
    }

    pub fn observe(&mut self, event: &Event) {
        // Sums of threads that nobody knows any more are no tree's.
        if self.bytes_max == 0 || self.paused || event.actor.tgid == 0 {
            return;
        }
        if self.open.as_mut().is_some_and(|open| open.push(event)) {
            return;
        }
        self.next(event);
    }

    /// Goes on in the next segment.
    #[cold]
    fn next(&mut self, event: &Event) {
        let mut next = self.segment();
        if !next.push(event) {
            self.spare.push(next.cleared());
            self.dropped += 1;
            return;
        }
        self.settle();
        self.segments.extend(self.open.take().map(Segment::closed));
        if self.bytes() + next.size() > self.bytes_max {
            self.make_room();
        }
        self.open = Some(next);
    }

    /// Finds out whose the newest records are. Not when each comes: what is to be looked up for it is in
    /// no near cache, and for many at once it is.
    fn settle(&mut self) {
        self.open.iter_mut().for_each(|open| open.settle(&mut self.trees));
    }

    fn segment(&mut self) -> Segment {
        self.spare.pop().unwrap_or_else(|| Segment::new(self.bytes_max / SEGMENTS))
    }

    /// A past that is being written may still have it; then that is the last to have it.
    fn clear(&mut self, segment: Arc<Segment>) {
        self.spare.extend(Arc::into_inner(segment).map(Segment::cleared));
    }

    /// Makes room for a part of the whole. Of most segments only the trees are looked at: their records
    /// are in no cache any more.
    fn make_room(&mut self) {
        let mut of_tree = HashMap::<Tree, usize>::new();
        for segment in &self.segments {
            for (tree, records) in segment.trees() {
                *of_tree.entry(*tree).or_default() += records * segment.each();
            }
        }
        let mut share = Share::new(of_tree, ROOM_PART, self.bytes_max / QUIET_PART);
        let mut fuller = Vec::<Segment>::new();
        let mut segments = std::mem::take(&mut self.segments);
        while !share.is_given()
            && let Some(segment) = segments.pop_front()
        {
            let mut stays = Vec::new();
            for (tree, records) in segment.trees() {
                if share.gives(*tree, records * segment.each()) {
                    self.dropped += *records as u64;
                } else {
                    stays.push(*tree);
                }
            }
            if !stays.is_empty() {
                self.copy(&segment, &stays, &mut fuller);
            }
            self.clear(segment);
        }
        self.segments = fuller.into_iter().map(Segment::closed).chain(segments).collect();
    }

    /// Copies the records of these trees, which are in order, to the last of some segments.
    fn copy(&mut self, from: &Segment, trees: &[Tree], to: &mut Vec<Segment>) {
        for record in from.records() {
            if trees.binary_search(&record.tree).is_ok()
                && !to.last_mut().is_some_and(|last| last.copy(from, &record))
            {
                let mut next = self.segment();
                next.copy(from, &record);
                to.push(next);
            }
        }
    }

    /// Forgets what is too old.
    pub fn sweep(&mut self, now_boot_ns: u64) {
        let from = now_boot_ns.saturating_sub(KEPT_NS);
        self.from_ns = from;
        let forgets = from.saturating_sub(self.forgot_ns) >= FORGET_NS;
        if forgets || self.open.as_ref().is_some_and(|open| open.newest_ns() < from) {
            self.settle();
        }
        self.segments
            .extend(self.open.take_if(|open| open.newest_ns() < from).map(Segment::closed));
        while self.segments.front().is_some_and(|oldest| oldest.newest_ns() < from) {
            self.segments.pop_front().into_iter().for_each(|oldest| self.clear(oldest));
        }
        if forgets {
            self.forgot_ns = from;
            self.trees.forget_ended(from);
        }
    }

    /// What is kept of a process's tree.
    fn of_process(&mut self, tgid: u32) -> Option<Past> {
        self.settle();
        self.trees.of_process(tgid).map(|tree| self.of_tree(tree))
    }

    /// What is kept of the tree in which a subject did most.
    fn of_subject(&mut self, subject: &Subject) -> Option<Past> {
        self.settle();
        let mut of_tree = HashMap::<Tree, u64>::new();
        for segment in self.all() {
            for record in segment.records() {
                if record.head.time_boot_ns >= self.from_ns && segment.is_of(&record, subject) {
                    *of_tree.entry(record.tree).or_default() += 1;
                }
            }
        }
        let most = of_tree.into_iter().max_by_key(|&(tree, records)| (records, tree));
        most.map(|(tree, _)| self.of_tree(tree))
    }

    fn of_tree(&self, tree: Tree) -> Past {
        let full = self.segments.iter().filter(|segment| segment.has(tree)).cloned();
        let open = self.open.iter().filter(|segment| segment.has(tree)).cloned().map(Arc::new);
        Past { segments: full.chain(open).collect(), tree, from_ns: self.from_ns }
    }

    fn all(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().map(|segment| &**segment).chain(&self.open)
    }

    pub fn recorded(&self) -> Recorded {
        let (dropped, forgotten) = (self.dropped, self.trees.forgotten());
        Recorded { bytes: self.bytes(), dropped, forgotten }
    }

    fn bytes(&self) -> usize {
        self.all().map(Segment::size).sum()
    }
}

/// What a tree did, as the recorder has it: whoever writes it decodes as much at a time as it likes.
#[derive(Debug)]
pub struct Past {
    segments: Vec<Arc<Segment>>,
    tree: Tree,
    from_ns: u64,
}

impl Past {
    /// In the order of delivery.
    pub fn events(&self) -> impl Iterator<Item = Event> {
        self.segments.iter().flat_map(|segment| segment.events(self.tree, self.from_ns))
    }
}
