//! The flight recorder: what each process tree did lately, in memory, so that a finding has its past
//! beside it. The loop keeps the ring; the thread that delivers reports writes what is taken of it.

use std::{
    collections::{HashMap, VecDeque},
    mem::size_of,
};

use hedgerow_event::{Event, Origin, Root, Workload};

/// What is older is nothing's past any more.
const KEPT_NS: u64 = 30_000_000_000;
/// Processes whose tree is remembered; past it all are forgotten, and belong to trees of their own
/// until they execute a program again.
const PROCESSES_MAX: usize = 65_536;

/// A deque that grows has room for up to twice what is in it.
const DEQUE_SLACK: usize = 2;
/// Room is made for this part of the whole.
const ROOM_PART: usize = 64;

/// A tree, by the first process that is known of it.
type Tree = (u32, u64);

#[derive(Debug)]
struct Kept {
    event: Event,
    bytes: usize,
}

/// A process: its tree, and the workload that this was found in. One that ended is remembered as long
/// as its records: its finding may come later.
#[derive(Debug)]
struct Member {
    tree: Tree,
    workload: Workload,
    ended_ns: Option<u64>,
}

#[derive(Debug)]
struct Ring {
    kept: VecDeque<Kept>,
    bytes: usize,
}

/// What became of records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recorded {
    pub trees: usize,
    pub bytes: usize,
    /// Records that had to make room although they were not too old.
    pub dropped: u64,
}

/// Records of the last half minute by tree. Full: the tree that has most gives its oldest, so that a
/// noisy tree loses its own past and nobody else's. Where none has much, whole trees go, those first
/// that were quiet for longest.
#[derive(Debug)]
pub struct Recorder {
    bytes_max: usize,
    rings: HashMap<Tree, Ring>,
    trees: HashMap<u32, Member>,
    bytes: usize,
    dropped: u64,
}

impl Recorder {
    /// With 0 bytes nothing is kept.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, rings: HashMap::new(), trees: HashMap::new(), bytes: 0, dropped: 0 }
    }

    pub fn observe(&mut self, event: Event) {
        // Sums of threads that nobody knows any more are no tree's.
        if self.bytes_max == 0 || event.actor.tgid == 0 {
            return;
        }
        let tree = self.tree_of(&event);
        let bytes = size(&event);
        // Most trees are small: a deque that begins empty takes room for four.
        let ring = self
            .rings
            .entry(tree)
            .or_insert_with(|| Ring { kept: VecDeque::with_capacity(1), bytes: 0 });
        ring.kept.push_back(Kept { event, bytes });
        ring.bytes += bytes;
        self.bytes += bytes;
        while self.bytes > self.bytes_max && self.make_room() {}
    }

    /// The tree of who did it. An exec tells the kernel's word for it, a child is of its parent's, and
    /// who comes to another workload begins one.
    fn tree_of(&mut self, event: &Event) -> Tree {
        let (actor, workload) = (&event.actor, &event.actor.subject.workload);
        if self.trees.len() >= PROCESSES_MAX {
            self.trees.clear();
        }
        let told = match &event.origin {
            Origin::Exec(exec) => {
                exec.root.map(|Root { tgid, start_boot_ns }| (tgid, start_boot_ns))
            }
            _ => None,
        };
        let known = self.trees.get(&actor.tgid).filter(|known| known.workload == *workload);
        let tree = told.or(known.map(|known| known.tree));
        let tree = tree.unwrap_or((actor.tgid, actor.start_boot_ns));
        let member = || Member { tree, workload: workload.clone(), ended_ns: None };
        if told.is_some() || known.is_none() {
            self.trees.insert(actor.tgid, member());
        }
        match &event.origin {
            Origin::Fork(fork) if !fork.thread => {
                self.trees.insert(fork.child_tgid, member());
            }
            Origin::Exit(exit) if exit.process => {
                if let Some(ended) = self.trees.get_mut(&actor.tgid) {
                    ended.ended_ns = Some(event.time_boot_ns);
                }
            }
            _ => {}
        }
        tree
    }

    /// Takes the oldest of the tree that has most, and more of it at once: to look for that tree costs
    /// more than to take. One look always frees a part of the whole, however many trees there are.
    fn make_room(&mut self) -> bool {
        let part = self.bytes_max / ROOM_PART;
        let Some((tree, ring)) = self.rings.iter_mut().max_by_key(|(_, ring)| ring.bytes) else {
            return false;
        };
        if ring.bytes <= part {
            self.drop_quiet(part);
            return true;
        }
        let mut freed = 0;
        while freed <= part
            && let Some(oldest) = ring.kept.pop_front()
        {
            freed += oldest.bytes;
            self.dropped += 1;
        }
        ring.bytes -= freed;
        self.bytes -= freed;
        if ring.kept.is_empty() {
            let tree = *tree;
            self.rings.remove(&tree);
        }
        true
    }

    /// Drops the trees that did nothing for longest, until more than so many bytes are free.
    fn drop_quiet(&mut self, part: usize) {
        let last = |ring: &Ring| ring.kept.back().map(|kept| kept.event.time_boot_ns);
        let mut quiet: Vec<_> = self.rings.iter().map(|(tree, ring)| (last(ring), *tree)).collect();
        quiet.sort_unstable();
        let mut freed = 0;
        for (_, tree) in quiet {
            if freed > part {
                break;
            }
            if let Some(ring) = self.rings.remove(&tree) {
                freed += ring.bytes;
                self.dropped += ring.kept.len() as u64;
            }
        }
        self.bytes -= freed;
    }

    /// Forgets what is too old.
    pub fn sweep(&mut self, now_boot_ns: u64) {
        let from = now_boot_ns.saturating_sub(KEPT_NS);
        let mut gone = 0;
        self.rings.retain(|_, ring| {
            while ring.kept.front().is_some_and(|kept| kept.event.time_boot_ns < from) {
                let bytes = ring.kept.pop_front().map_or(0, |kept| kept.bytes);
                ring.bytes -= bytes;
                gone += bytes;
            }
            if ring.kept.capacity() > DEQUE_SLACK * ring.kept.len() {
                ring.kept.shrink_to_fit();
            }
            !ring.kept.is_empty()
        });
        self.bytes -= gone;
        self.trees.retain(|_, member| member.ended_ns.is_none_or(|ended_ns| ended_ns >= from));
    }

    /// Gives what is kept of a process's tree, oldest first; it is kept no longer.
    pub fn take(&mut self, tgid: u32) -> Vec<Event> {
        let Some(member) = self.trees.get(&tgid) else { return Vec::new() };
        let Some(ring) = self.rings.remove(&member.tree) else { return Vec::new() };
        self.bytes -= ring.bytes;
        let mut events: Vec<Event> = ring.kept.into_iter().map(|kept| kept.event).collect();
        events.sort_by_key(|event| event.time_boot_ns);
        events
    }

    pub fn recorded(&self) -> Recorded {
        Recorded { trees: self.rings.len(), bytes: self.bytes, dropped: self.dropped }
    }
}

/// What a record takes in memory, near enough: names are shared with others and counted for it all the
/// same.
fn size(event: &Event) -> usize {
    let own = match &event.origin {
        Origin::Row(row) => size_of_val(&**row),
        Origin::Exec(exec) => size_of_val(&**exec) + exec.path.len() + exec.arguments.len(),
        Origin::Call(call) => {
            size_of_val(&**call) + call.path.as_ref().map_or(0, |path| path.len())
        }
        Origin::Flow(flow) => size_of_val(&**flow),
        Origin::Fork(_) | Origin::Exit(_) | Origin::Signal(_) | Origin::Raw(_) => 0,
    };
    DEQUE_SLACK * size_of::<Kept>() + own
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hedgerow_event::{Actor, Epoch, Exec, Exit, Fork, Program, Signal, Subject};

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

    #[test]
    fn a_tree_is_taken_whole_and_no_other_with_it() {
        let mut recorder = Recorder::new(1 << 20);
        for one in [fork(10, 11), fork(11, 12), quiet("w", 12, 2), quiet("w", 20, 2)] {
            recorder.observe(one);
        }
        // It goes on in another service, which is another tree; and its exec is the kernel's word.
        recorder.observe(quiet("v", 11, 3));
        let root = Some(Root { tgid: 10, start_boot_ns: 10 });
        let exec = Exec { root, ..Exec::of("/bin/y") };
        recorder.observe(event("w", 30, 4, Origin::Exec(exec.into())));
        assert_eq!(who(&recorder.take(12)), [10, 11, 12, 30]);
        assert!(recorder.take(12).is_empty(), "it was taken");
        assert_eq!(who(&recorder.take(11)), [11]);
        assert_eq!(who(&recorder.take(20)), [20]);
        assert_eq!(recorder.recorded(), Recorded::default());
        let gone = Origin::Exit(Exit { code: 0, process: true });
        recorder.observe(event("w", 20, 5, gone));
        recorder.sweep(6_000_000_000);
        assert!(recorder.take(99).is_empty(), "nobody knows it");
        assert_eq!(who(&recorder.take(20)), [20], "it ended a moment ago");
        recorder.sweep(40_000_000_000);
        assert!(!recorder.trees.contains_key(&20) && recorder.trees.contains_key(&12));
    }

    #[test]
    fn a_noisy_tree_loses_its_own_past_and_is_counted() {
        let one = size(&quiet("w", 1, 1));
        let mut recorder = Recorder::new(10 * one);
        (0..3).for_each(|_| recorder.observe(quiet("w", 1, 1)));
        (0..50).for_each(|second| recorder.observe(quiet("noisy", 2, second)));
        let told = recorder.recorded();
        assert_eq!((told.trees, told.bytes, told.dropped), (2, 10 * one, 43));
        assert_eq!(recorder.take(1).len(), 3);
        let times: Vec<u64> =
            recorder.take(2).iter().map(|event| event.time_boot_ns / 1_000_000_000).collect();
        assert_eq!(times, (43..50).collect::<Vec<u64>>(), "the newest are kept");
    }

    #[test]
    fn of_many_small_trees_the_quiet_go_a_part_of_the_whole_at_once() {
        let one = size(&quiet("w", 1, 1));
        let mut recorder = Recorder::new(640 * one);
        (1..=640).for_each(|tgid| recorder.observe(quiet("w", tgid, u64::from(tgid))));
        recorder.observe(quiet("w", 1, 700));
        let told = recorder.recorded();
        assert_eq!((told.trees, told.bytes, told.dropped), (629, 630 * one, 11));
        assert_eq!(recorder.take(1).len(), 2, "it did something lately");
        assert!(recorder.take(2).is_empty() && recorder.take(12).is_empty());
        assert_eq!(recorder.take(13).len(), 1);
    }

    #[test]
    fn what_deques_take_is_counted_whether_they_grow_or_drain() {
        let one = size(&quiet("w", 1, 1));
        let mut recorder = Recorder::new(1000 * one);
        let taken = |recorder: &Recorder| -> usize {
            recorder.rings.values().map(|ring| ring.kept.capacity() * size_of::<Kept>()).sum()
        };
        // Trees of one, two, three records and so on.
        for tgid in 1..=30 {
            (0..tgid).for_each(|_| recorder.observe(quiet("w", tgid, 1)));
            assert!(taken(&recorder) <= recorder.recorded().bytes, "{tgid}");
        }
        (0..500).for_each(|_| recorder.observe(quiet("w", 99, 1)));
        recorder.observe(quiet("w", 99, 40));
        recorder.sweep(50_000_000_000);
        assert_eq!(recorder.recorded().bytes, one);
        assert!(taken(&recorder) <= one);
    }

    #[test]
    fn what_is_older_than_half_a_minute_is_forgotten_and_off_is_off() {
        let mut recorder = Recorder::new(1 << 20);
        [5, 34, 36].iter().for_each(|second| recorder.observe(quiet("w", 1, *second)));
        recorder.sweep(65_000_000_000);
        assert_eq!(recorder.take(1).len(), 1);
        recorder.observe(quiet("w", 2, 36));
        recorder.sweep(100_000_000_000);
        assert_eq!(recorder.recorded(), Recorded::default());
        let mut off = Recorder::new(0);
        off.observe(quiet("w", 1, 1));
        assert!(off.take(1).is_empty());
    }
}
