//! The flight recorder: what each process tree did lately, in memory, so that a finding has its past
//! beside it. The loop keeps it; the thread that delivers reports writes what is taken of it.

mod segment;

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
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

/// Segments that all the room is divided into.
const SEGMENTS: usize = 64;
/// Where there is no room, this part of it is made at once: to look who has most costs more.
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
    /// Records that had to make room although they were not too old.
    pub dropped: u64,
    /// Processes that had to make room: what they did before is nobody's past.
    pub forgotten: u64,
}

/// Records of the last half minute. Full: the trees that have most give their oldest, so that a noisy
/// tree loses its own past and nobody else's. Where none has much the oldest records of all go.
#[derive(Debug)]
pub struct Recorder {
    bytes_max: usize,
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

    pub fn observe(&mut self, event: &Event) {
        // Sums of threads that nobody knows any more are no tree's.
        if self.bytes_max == 0 || event.actor.tgid == 0 {
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
        self.segments.extend(self.open.take().map(Arc::new));
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

    /// Makes room for a part of the whole.
    fn make_room(&mut self) {
        let mut of_tree = HashMap::<Tree, usize>::new();
        for segment in &self.segments {
            for (who, ..) in segment.records() {
                *of_tree.entry(who.tree).or_default() += segment.each();
            }
        }
        let mut share = Share::new(of_tree, ROOM_PART, self.bytes_max / QUIET_PART);
        let mut fuller = Vec::<Segment>::new();
        let mut segments = std::mem::take(&mut self.segments);
        while !share.is_given()
            && let Some(segment) = segments.pop_front()
        {
            for (who, head, origin) in segment.records() {
                if share.gives(who.tree, segment.each()) {
                    self.dropped += u64::from(head.time_boot_ns >= self.from_ns);
                } else if !fuller
                    .last_mut()
                    .is_some_and(|last| last.copy(&segment, who, &head, origin))
                {
                    let mut next = self.segment();
                    next.copy(&segment, who, &head, origin);
                    fuller.push(next);
                }
            }
            self.clear(segment);
        }
        self.segments = fuller.into_iter().map(Arc::new).chain(segments).collect();
    }

    /// Forgets what is too old.
    pub fn sweep(&mut self, now_boot_ns: u64) {
        let from = now_boot_ns.saturating_sub(KEPT_NS);
        self.from_ns = from;
        self.segments.extend(self.open.take_if(|open| open.newest_ns() < from).map(Arc::new));
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

/// A finding that opened, and whose past is its past.
#[derive(Debug)]
pub struct Opened {
    pub uid: String,
    /// Of amounts none is known.
    process: Option<u32>,
    subject: Arc<Subject>,
}

impl Opened {
    pub fn of(finding: &Finding) -> Self {
        Self {
            uid: finding.uid.clone(),
            process: finding.process.as_ref().map(|process| process.pid),
            subject: Arc::clone(&finding.subject),
        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hedgerow_event::{
        Actor, Call, Digest, Epoch, Exec, Exit, Flow, FlowDirection, Fork, Peer, Program, Raw, Row,
        RowReason, Signal, Subject,
    };

    use super::*;

    fn event(workload: &str, tgid: u32, time_s: u64, origin: Origin) -> Event {
        let subject = Subject::new(Workload::new(workload), Program::new("/bin/x"));
        let actor = Actor {
            subject: Arc::new(subject),
            tgid,
            tid: tgid,
            start_boot_ns: u64::from(tgid),
            cgroup_id: 7,
            program_id: 8,
            slot: 0,
        };
        Event { epoch: Epoch(1), time_boot_ns: time_s * 1_000_000_000, actor, origin }
    }

    fn quiet(workload: &str, tgid: u32, time_s: u64) -> Event {
        event(workload, tgid, time_s, Origin::Signal(Signal { unseen6: 0, calls: 0 }))
    }

    fn fork(tgid: u32, child: u32) -> Event {
        let fork =
            Fork { child_tgid: child, child_tid: child, child_start_boot_ns: 0, thread: false };
        event("w", tgid, 1, Origin::Fork(fork))
    }

    fn who(events: &[Event]) -> Vec<u32> {
        events.iter().map(|event| event.actor.tgid).collect()
    }

    fn of_process(recorder: &Recorder, tgid: u32) -> Vec<Event> {
        recorder.of_process(tgid).iter().flat_map(Past::events).collect()
    }

    fn all(recorder: &mut Recorder, events: impl IntoIterator<Item = Event>) {
        events.into_iter().for_each(|event| recorder.observe(&event));
    }

    #[test]
    fn a_tree_is_taken_whole_and_no_other_with_it() {
        let mut recorder = Recorder::new(1 << 20);
        let begun = [fork(10, 11), fork(11, 12), quiet("w", 12, 2), quiet("w", 20, 2)];
        all(&mut recorder, begun);
        // It goes on in another service, which is another tree; and its exec is the kernel's word.
        let root = Some(Root { tgid: 10, start_boot_ns: 10 });
        let exec = Exec { root, ..Exec::of("/bin/y") };
        all(&mut recorder, [quiet("v", 11, 3), event("w", 30, 4, Origin::Exec(exec.into()))]);
        assert_eq!(who(&of_process(&recorder, 12)), [10, 11, 12, 30]);
        recorder.observe(&quiet("w", 12, 5));
        assert_eq!(who(&of_process(&recorder, 10)), [10, 11, 12, 30, 12]);
        assert_eq!(who(&of_process(&recorder, 11)), [11]);
        assert_eq!(who(&of_process(&recorder, 20)), [20]);
        let subject = quiet("w", 0, 0).actor.subject;
        let busiest: Vec<Event> =
            recorder.of_subject(&subject).iter().flat_map(Past::events).collect();
        assert_eq!(who(&busiest), [10, 11, 12, 30, 12]);
        let gone = Origin::Exit(Exit { code: 0, process: true });
        recorder.observe(&event("w", 20, 5, gone));
        recorder.sweep(6_000_000_000);
        assert!(of_process(&recorder, 99).is_empty(), "nobody knows it");
        assert_eq!(who(&of_process(&recorder, 20)), [20, 20], "it ended a moment ago");
        recorder.sweep(40_000_000_000);
        assert!(!recorder.trees.contains_key(&20) && recorder.trees.contains_key(&12));
        assert_eq!(recorder.recorded(), Recorded::default());
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let address = std::net::IpAddr::from([192, 0, 2, 1]);
        let peer = Peer { address, port: 443 };
        let mut row = Row::empty(RowReason::Exit);
        (row.classes[0], row.classes[63], row.calls) = (7, u32::MAX, 1 << 40);
        let subject = |path: &str| {
            let program = Program { script: Some("/x.py".into()), ..Program::new(path) };
            Some(Arc::new(Subject::new(Workload::new("w"), program)))
        };
        let exec = Exec {
            previous: subject("/bin/a"),
            parent: subject("/bin/b"),
            digest: Some(Digest([7; 32])),
            arguments: "-x \u{fffd}".into(),
            ..Exec::of("/bin/c")
        };
        let raw = Raw {
            number: -1,
            compat: true,
            uring: false,
            fresh: true,
            streamed: false,
            result: -516,
        };
        let origins = [
            Origin::Row(row.into()),
            Origin::Exec(exec.into()),
            Origin::Exit(Exit { code: -1, process: false }),
            Origin::Call(Call::of(257, [u64::MAX, 1, 2, 3, 4, 5], Some("/etc/shadow")).into()),
            Origin::Flow(Flow::start(FlowDirection::Outbound, peer, peer).into()),
            Origin::Signal(Signal { unseen6: 9, calls: 10 }),
            Origin::Raw(raw),
        ];
        let mut events = vec![fork(5, 6)];
        events.extend((2..).zip(origins).map(|(second, origin)| event("w", 5, second, origin)));
        let mut recorder = Recorder::new(1 << 20);
        all(&mut recorder, events.clone());
        assert_eq!(of_process(&recorder, 6), events);
    }

    #[test]
    fn a_noisy_tree_loses_its_own_past_and_is_counted() {
        // Every record has a subject of its own here, which takes more than the record.
        let mut recorder = Recorder::new(64 << 10);
        all(&mut recorder, (1..=3).map(|second| quiet("w", 1, second)));
        for second in 0..20_000 {
            recorder.observe(&quiet("noisy", 2, second));
            assert!(recorder.recorded().bytes <= 64 << 10, "{second}");
        }
        assert_eq!(of_process(&recorder, 1).len(), 3);
        let second = |event: &Event| event.time_boot_ns / 1_000_000_000;
        let times: Vec<u64> = of_process(&recorder, 2).iter().map(second).collect();
        assert_eq!(
            times,
            (recorder.recorded().dropped..20_000).collect::<Vec<u64>>(),
            "the newest"
        );
        assert!(times.len() > 100, "{}", times.len());
    }

    #[test]
    fn a_past_stays_as_it_was_when_it_was_taken() {
        let mut recorder = Recorder::new(64 << 10);
        all(&mut recorder, (1..=3).map(|second| quiet("w", 1, second)));
        let past = recorder.of_process(1).unwrap();
        all(&mut recorder, (1..=10_000).map(|tgid| quiet("w", tgid, u64::from(tgid))));
        recorder.sweep(100_000_000_000_000);
        assert_eq!(recorder.recorded().bytes, 0);
        assert_eq!(who(&past.events().collect::<Vec<Event>>()), [1, 1, 1]);
    }

    #[test]
    fn whoever_forks_most_is_forgotten_and_nobody_else() {
        let mut recorder = Recorder::new(1 << 20);
        all(&mut recorder, [fork(1, 2), fork(3, 4)]);
        all(&mut recorder, (0..200_000).map(|child| fork(3, 10 + child)));
        assert!(recorder.trees.len() <= PROCESSES_MAX, "{}", recorder.trees.len());
        assert!(recorder.recorded().forgotten > 0);
        assert!(recorder.trees.contains_key(&1) && recorder.trees.contains_key(&2));
        // Where nobody has many it is some of all.
        all(&mut recorder, (0..200_000).map(|tgid| quiet("w", 1_000_000 + tgid, 1)));
        assert!(recorder.trees.len() <= PROCESSES_MAX, "{}", recorder.trees.len());
    }

    #[test]
    fn of_many_small_trees_the_oldest_records_go() {
        let mut recorder = Recorder::new(64 << 10);
        all(&mut recorder, (1..=10_000).map(|tgid| quiet("w", tgid, u64::from(tgid))));
        let told = recorder.recorded();
        assert!(told.bytes <= 64 << 10 && told.dropped > 0, "{told:?}");
        let gone = told.dropped as u32;
        assert!(of_process(&recorder, 1).is_empty() && of_process(&recorder, gone).is_empty());
        assert_eq!(of_process(&recorder, gone + 1).len(), 1);
        assert_eq!(of_process(&recorder, 10_000).len(), 1);
    }

    #[test]
    fn what_is_older_than_half_a_minute_is_forgotten_and_off_is_off() {
        let mut recorder = Recorder::new(1 << 20);
        all(&mut recorder, [5, 34, 36].map(|second| quiet("w", 1, second)));
        recorder.sweep(65_000_000_000);
        assert_eq!(of_process(&recorder, 1).len(), 1);
        recorder.observe(&quiet("w", 2, 36));
        recorder.sweep(100_000_000_000);
        assert_eq!(recorder.recorded(), Recorded::default());
        let mut off = Recorder::new(0);
        off.observe(&quiet("w", 1, 1));
        assert!(off.of_process(1).is_none());
    }

    #[test]
    fn memory_is_used_again() {
        let mut recorder = Recorder::new(64 << 10);
        let fill = |recorder: &mut Recorder, second: u64| {
            (1..=5000).for_each(|tgid| recorder.observe(&quiet("w", tgid, second)));
            recorder.segments.len() + recorder.spare.len() + 1
        };
        let segments = fill(&mut recorder, 1);
        assert!((SEGMENTS..SEGMENTS + 4).contains(&segments), "{segments}");
        for second in [40, 80, 120] {
            recorder.sweep(second * 1_000_000_000);
            assert!(recorder.segments.is_empty() && recorder.spare.len() >= SEGMENTS);
            assert!(fill(&mut recorder, second).abs_diff(segments) <= 1);
        }
    }

    #[test]
    fn what_does_not_fit_at_all_is_counted() {
        let mut recorder = Recorder::new(64 << 10);
        let exec = Exec::of("/x".repeat(1 << 10));
        recorder.observe(&event("w", 1, 1, Origin::Exec(exec.into())));
        assert_eq!(recorder.recorded(), Recorded { dropped: 1, ..Recorded::default() });
    }
}
