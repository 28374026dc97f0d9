//! The flight recorder: what each process tree did lately, in memory, so that a finding has its past
//! beside it. The loop keeps it; the thread that delivers reports writes what is taken of it.

mod segment;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use hedgerow_event::{Event, Finding, Origin, Root, Subject, Workload};

use self::segment::Segment;

/// What is older is nothing's past any more.
const KEPT_NS: u64 = 30_000_000_000;
/// Processes whose tree is remembered. Full: those of the trees that have most are forgotten, and belong
/// to trees of their own until they execute a program again.
const PROCESSES_MAX: usize = 65_536;

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

/// A tree, by the first process that is known of it.
type Tree = (u32, u64);

/// Hashes a process's number. The kernel gives them out in turn, from a range so small that no one
/// can have many that collide.
#[derive(Debug, Default)]
struct ByNumber(u64);

impl Hasher for ByNumber {
    fn write_u32(&mut self, number: u32) {
        // The golden ratio's: it spreads numbers in turn over high and low bits.
        self.0 = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = (self.0 << 8 | u64::from(*byte)).wrapping_mul(31));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A process: its tree, and the workload that this was found in. One that ended is remembered as long
/// as its records: its finding may come later.
#[derive(Debug)]
struct Member {
    tree: Tree,
    workload: Workload,
    ended_ns: Option<u64>,
}

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
    trees: HashMap<u32, Member, BuildHasherDefault<ByNumber>>,
    /// Records before it are too old.
    from_ns: u64,
    /// As of when processes were forgotten.
    forgot_ns: u64,
    dropped: u64,
    forgotten: u64,
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
            trees: HashMap::default(),
            from_ns: 0,
            forgot_ns: 0,
            dropped: 0,
            forgotten: 0,
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
            let (bytes_max, dropped, forgotten) = (self.bytes_max, self.dropped, self.forgotten);
            *self = Self { bytes_max, dropped, forgotten, ..Self::new(self.bytes_asked) };
        }
        self.paused = paused;
    }

    pub fn observe(&mut self, event: &Event) {
        // Sums of threads that nobody knows any more are no tree's.
        if self.bytes_max == 0 || self.paused || event.actor.tgid == 0 {
            return;
        }
        let tree = self.tree_of(event);
        if self.open.as_mut().is_some_and(|open| open.push(tree, event)) {
            return;
        }
        let mut next = self.segment();
        if !next.push(tree, event) {
            self.spare.push(next);
            self.dropped += 1;
            return;
        }
        self.segments.extend(self.open.take().map(Segment::closed));
        if self.bytes() + next.size() > self.bytes_max {
            self.make_room();
        }
        self.open = Some(next);
    }

    fn segment(&mut self) -> Segment {
        self.spare.pop().unwrap_or_else(|| Segment::new(self.bytes_max / SEGMENTS))
    }

    /// A past that is being written may still have it; then that is the last to have it.
    fn clear(&mut self, segment: Arc<Segment>) {
        self.spare.extend(Arc::into_inner(segment).map(Segment::cleared));
    }

    /// The tree of who did it. An exec tells the kernel's word for it, a child is of its parent's, and
    /// who comes to another workload begins one.
    fn tree_of(&mut self, event: &Event) -> Tree {
        let (actor, workload) = (&event.actor, &event.actor.subject.workload);
        let changes = matches!(event.origin, Origin::Exec(_) | Origin::Fork(_) | Origin::Exit(_));
        let newest = self.open.as_ref().filter(|_| !changes);
        if let Some(tree) = newest.and_then(|open| open.newest_tree(actor)) {
            return tree;
        }
        let told = match &event.origin {
            Origin::Exec(exec) => {
                exec.root.map(|Root { tgid, start_boot_ns }| (tgid, start_boot_ns))
            }
            _ => None,
        };
        let known = self.trees.get_mut(&actor.tgid).filter(|known| known.workload == *workload);
        let tree = told.or(known.as_ref().map(|known| known.tree));
        let tree = tree.unwrap_or((actor.tgid, actor.start_boot_ns));
        match known {
            Some(known) => known.tree = tree,
            None => self.enter(actor.tgid, tree, workload),
        }
        match &event.origin {
            Origin::Fork(fork) if !fork.thread => self.enter(fork.child_tgid, tree, workload),
            Origin::Exit(exit) if exit.process => {
                if let Some(ended) = self.trees.get_mut(&actor.tgid) {
                    ended.ended_ns = Some(event.time_boot_ns);
                }
            }
            _ => {}
        }
        tree
    }

    fn enter(&mut self, tgid: u32, tree: Tree, workload: &Workload) {
        if self.trees.len() >= PROCESSES_MAX {
            self.forget();
        }
        let workload = workload.clone();
        self.trees.insert(tgid, Member { tree, workload, ended_ns: None });
    }

    /// Makes room for a part of all processes; those that ended go first.
    fn forget(&mut self) {
        let mut of_tree = HashMap::<Tree, usize>::new();
        self.trees.values().for_each(|member| *of_tree.entry(member.tree).or_default() += 1);
        let before = self.trees.len();
        let mut share = Share::new(of_tree, ROOM_PART, 1);
        for with_living in [false, true] {
            self.trees.retain(|_, member| {
                member.ended_ns.is_none() && !with_living || !share.gives(member.tree, 1)
            });
        }
        self.forgotten += (before - self.trees.len()) as u64;
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
        for (who, head, origin) in from.records() {
            if trees.binary_search(&who.tree).is_ok()
                && !to.last_mut().is_some_and(|last| last.copy(from, who, &head, origin))
            {
                let mut next = self.segment();
                next.copy(from, who, &head, origin);
                to.push(next);
            }
        }
    }

    /// Forgets what is too old.
    pub fn sweep(&mut self, now_boot_ns: u64) {
        let from = now_boot_ns.saturating_sub(KEPT_NS);
        self.from_ns = from;
        self.segments
            .extend(self.open.take_if(|open| open.newest_ns() < from).map(Segment::closed));
        while self.segments.front().is_some_and(|oldest| oldest.newest_ns() < from) {
            self.segments.pop_front().into_iter().for_each(|oldest| self.clear(oldest));
        }
        if from.saturating_sub(self.forgot_ns) >= FORGET_NS {
            self.forgot_ns = from;
            self.trees.retain(|_, member| member.ended_ns.is_none_or(|ended_ns| ended_ns >= from));
        }
    }

    /// What is kept of a process's tree.
    fn of_process(&self, tgid: u32) -> Option<Past> {
        self.trees.get(&tgid).map(|member| self.of_tree(member.tree))
    }

    /// What is kept of the tree in which a subject did most.
    fn of_subject(&self, subject: &Subject) -> Option<Past> {
        let mut of_tree = HashMap::<Tree, u64>::new();
        for segment in self.all() {
            for (who, head, _) in segment.records() {
                if head.time_boot_ns >= self.from_ns && *who.actor.subject == *subject {
                    *of_tree.entry(who.tree).or_default() += 1;
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
        let (dropped, forgotten) = (self.dropped, self.forgotten);
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

/// Records take so long at most to be here, but where the machine has no time at all.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// A finding that opened, and whose past is its past.
#[derive(Debug)]
pub struct Opened {
    pub uid: String,
    at: Instant,
    /// Of amounts none is known.
    process: Option<u32>,
    subject: Arc<Subject>,
}

impl Opened {
    pub fn of(finding: &Finding) -> Self {
        Self {
            uid: finding.uid.clone(),
            at: Instant::now(),
            process: finding.process.as_ref().map(|process| process.pid),
            subject: Arc::clone(&finding.subject),
        }
    }

    /// What was under way when it opened has arrived, also on a busy machine.
    pub fn is_past(&self) -> bool {
        self.at.elapsed() >= UNDER_WAY
    }

    pub fn past(&self, recorder: &Recorder) -> Option<Past> {
        let of_subject = || recorder.of_subject(&self.subject);
        let past = self.process.map_or_else(of_subject, |tgid| recorder.of_process(tgid));
        past.filter(|past| past.events().next().is_some())
    }
}

/// Who gives how much, so that one part of all is free.
struct Share {
    of_tree: HashMap<Tree, usize>,
    /// What all give, in turn, where no tree has much.
    of_all: usize,
}

impl Share {
    /// A tree that has no more than `quiet` is not noisy.
    fn new(mut of_tree: HashMap<Tree, usize>, part: usize, quiet: usize) -> Self {
        let all = of_tree.values().sum::<usize>();
        let most = most_each(of_tree.values().copied().collect(), all - all / part).max(quiet);
        of_tree.values_mut().for_each(|has| *has = has.saturating_sub(most));
        let of_all = (all / part).saturating_sub(of_tree.values().sum());
        Self { of_tree, of_all }
    }

    /// Nobody has anything left to give.
    fn is_given(&self) -> bool {
        self.of_all == 0 && self.of_tree.values().all(|left| *left == 0)
    }

    fn gives(&mut self, tree: Tree, much: usize) -> bool {
        let of_tree = self.of_tree.get_mut(&tree).filter(|left| **left > 0);
        let left = of_tree.or_else(|| Some(&mut self.of_all).filter(|left| **left > 0));
        left.is_some_and(|left| {
            *left = left.saturating_sub(much);
            true
        })
    }
}

/// How much each may have at most, so that all together have no more than `goal`.
fn most_each(mut all: Vec<usize>, goal: usize) -> usize {
    all.sort_unstable();
    let mut left = goal;
    for (at, has) in all.iter().enumerate() {
        let each = left / (all.len() - at);
        if *has > each {
            return each;
        }
        left -= has;
    }
    usize::MAX
}
