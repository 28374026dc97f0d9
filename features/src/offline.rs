//! Rows and n-grams out of the full stream: what the kernel counted, recomputed from records alone.
//!
//! Follows the sensor's rules exactly (the tables, the history, the order in which n-grams are
//! looked up, the epoch from which a profile holds, and where a row is cut), so that the windows
//! made of its output equal those of the live rows column for column, where nothing was lost, late
//! or spilled. What was limited is found again, too: calls of the streamed kind without a record.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use hedgerow_event::{
    Actor, CLASSES, Epoch, Event, GramReport, Grams, Origin, Raw, Row, RowReason, Subject,
    calls::{GramHash, History, Order, Push, Tables},
};

use crate::records::Record;

/// Threads whose history is kept, dead ones that left no exit record included. Past them a thread
/// is counted, but each of its calls begins a new history; [`Extractor::untracked`] counts those.
pub const THREADS_LIMIT: usize = 262_144;

/// Turns a recorded full stream into the events, gram reports and closes that the live sensor gave.
#[derive(Debug)]
pub struct Extractor {
    tables: Tables,
    hash: GramHash,
    known: HashMap<Arc<Subject>, Grams>,
    /// The first epoch in which `known` holds.
    known_since: Epoch,
    threads: HashMap<ThreadKey, Thread>,
    /// Unseen n-grams by epoch and subject.
    pending: BTreeMap<(Epoch, Arc<Subject>), Pending>,
    untracked: u64,
}

/// A thread of this boot.
type ThreadKey = (u32, u32, u64);

#[derive(Debug, Default)]
struct Thread {
    history: History,
    /// What was counted since the last cut.
    open: Option<Box<Open>>,
}

#[derive(Debug)]
struct Open {
    epoch: Epoch,
    time_boot_ns: u64,
    actor: Actor,
    row: Row,
}

/// Bitmaps of n-grams that the profile doesn't hold, in the order of [`Order::ALL`].
#[derive(Debug)]
struct Pending([Vec<u64>; 3]);

impl Default for Pending {
    fn default() -> Self {
        Self(Order::ALL.map(|order| vec![0; order.words()]))
    }
}

fn is_set(words: &[u64], position: u32) -> bool {
    words.get(position as usize / 64).is_some_and(|word| word >> (position % 64) & 1 == 1)
}

fn positions(words: &[u64]) -> Vec<u32> {
    let set = words.iter().zip(0u32..).flat_map(|(word, index)| {
        (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index * 64 + bit)
    });
    set.collect()
}

impl Extractor {
    /// `gram_hash_key` is the one of the recording (of its model), so that positions mean the same.
    pub fn new(gram_hash_key: u64) -> Self {
        Self {
            tables: Tables::new(),
            hash: GramHash::new(gram_hash_key),
            known: HashMap::new(),
            known_since: Epoch(0),
            threads: HashMap::new(),
            pending: BTreeMap::new(),
            untracked: 0,
        }
    }

    /// Calls of threads past [`THREADS_LIMIT`], whose order could not be followed.
    pub fn untracked(&self) -> u64 {
        self.untracked
    }

    /// What the kernel takes for known, and from which epoch on it does.
    pub fn set_known(
        &mut self,
        known: impl IntoIterator<Item = (Arc<Subject>, Grams)>,
        since: Epoch,
    ) {
        self.known = known.into_iter().collect();
        self.known_since = since;
    }

    /// Takes one record in the order of delivery and appends what the live sensor would have
    /// delivered: rows in place of the calls of the full stream, everything else as it is. Recorded
    /// rows and gram reports are left out, since they are what is recomputed.
    pub fn push(&mut self, record: Record, out: &mut Vec<Record>) {
        let event = match record {
            Record::Event(event) => event,
            Record::Grams(_) => return,
            Record::Early(_) => {
                out.push(record);
                return;
            }
            Record::Close(close) => {
                self.flush(close.epoch, out);
                out.push(Record::Close(close));
                return;
            }
        };
        match &event.origin {
            Origin::Row(_) => return,
            Origin::Raw(raw) => {
                self.count(&event, *raw, out);
                return;
            }
            Origin::Exit(_) => {
                // The sensor sends the exit first, then what was counted up to it.
                let thread = self.threads.remove(&thread_key(&event.actor));
                let cut =
                    thread.and_then(|thread| thread.open).map(|open| open.cut(RowReason::Exit));
                out.push(Record::Event(event));
                out.extend(cut.map(Record::Event));
                return;
            }
            Origin::Exec(_) => {
                if let Some(thread) = self.threads.get_mut(&thread_key(&event.actor)) {
                    thread.history = History::default();
                    let cut = thread.open.take().map(|open| open.cut(RowReason::Exec));
                    out.extend(cut.map(Record::Event));
                }
            }
            // It was counted as held back when its raw call came.
            Origin::Call(_) => {
                let thread = self.threads.get_mut(&thread_key(&event.actor));
                if let Some(open) = thread.and_then(|thread| thread.open.as_mut()) {
                    open.row.limited = open.row.limited.saturating_sub(1);
                }
            }
            _ => {}
        }
        out.push(Record::Event(event));
    }

    fn count(&mut self, event: &Event, raw: Raw, out: &mut Vec<Record>) {
        let Some(step) = self.tables.raw_step(&raw) else { return };
        let key = thread_key(&event.actor);
        let mut stranger = Thread::default();
        let thread = if self.threads.len() < THREADS_LIMIT || self.threads.contains_key(&key) {
            self.threads.entry(key).or_default()
        } else {
            self.untracked += 1;
            &mut stranger
        };
        if raw.fresh {
            thread.history = History::default();
        }
        if let Some(open) = &thread.open
            && (open.epoch != event.epoch || identity(&open.actor) != identity(&event.actor))
        {
            let same = identity(&open.actor) == identity(&event.actor);
            let reason = if same { RowReason::Window } else { RowReason::Exec };
            out.extend(thread.open.take().map(|open| Record::Event(open.cut(reason))));
        }
        let open = thread.open.get_or_insert_with(|| Box::new(Open::new(event)));
        open.time_boot_ns = event.time_boot_ns;
        let row = &mut open.row;
        row.calls += 1;
        row.limited += u64::from(raw.streamed);
        row.errors += u64::from(step.error);
        row.classes[step.class.index()] += 1;
        match thread.history.push(&step) {
            Push::Skipped => {}
            Push::Collapsed => row.collapsed += 1,
            Push::Entered if event.actor.slot == 0 => {}
            Push::Entered => {
                row.checked += 1;
                let subject = &event.actor.subject;
                let holds = event.epoch >= self.known_since;
                let known = self.known.get(subject).filter(|_| holds);
                let missed = missed(&self.hash, known, thread.history);
                if missed[0].is_some() {
                    // The longest first, in the order 6, 3, 2; each only where the longer missed.
                    row.unseen6 += 1;
                    row.unseen3 += u64::from(missed[1].is_some());
                    row.unseen2 += u64::from(missed[2].is_some());
                    let at = (event.epoch, subject.clone());
                    self.pending.entry(at).or_default().add(missed);
                }
            }
        }
        if let Some(open) = stranger.open.take() {
            out.push(Record::Event(open.cut(RowReason::Window)));
        }
    }

    /// Cuts all rows and reports all grams up to an epoch, sorted: the table of threads has no
    /// order of its own.
    fn flush(&mut self, epoch: Epoch, out: &mut Vec<Record>) {
        let mut rows: Vec<Event> = Vec::new();
        for thread in self.threads.values_mut() {
            if thread.open.as_ref().is_some_and(|open| open.epoch <= epoch) {
                rows.extend(thread.open.take().map(|open| open.cut(RowReason::Window)));
            }
        }
        rows.sort_by_key(|event| (event.epoch, thread_key(&event.actor)));
        out.extend(rows.into_iter().map(Record::Event));
        let later = self.pending.split_off(&(epoch.next(), Arc::new(smallest_subject())));
        for ((epoch, subject), Pending([grams2, grams3, grams6])) in
            std::mem::replace(&mut self.pending, later)
        {
            out.push(Record::Grams(GramReport {
                epoch,
                subject,
                grams2: positions(&grams2),
                grams3: positions(&grams3),
                grams6: positions(&grams6),
            }));
        }
    }
}

/// Sorts before every other subject.
fn smallest_subject() -> Subject {
    Subject::new(hedgerow_event::Workload::new(""), hedgerow_event::Program::new(""))
}

/// Positions of the 6-, 3- and 2-gram that end a history, where the profile doesn't hold them; a
/// shorter one is looked up only where the longer one was missing.
fn missed(hash: &GramHash, known: Option<&Grams>, history: History) -> [Option<u32>; 3] {
    let mut missed = [None; 3];
    let orders = [Order::Six, Order::Three, Order::Two];
    for (slot, order) in missed.iter_mut().zip(orders) {
        let position = hash.position(order, history.bits());
        let words = known.map(|known| match order {
            Order::Two => &known.grams2,
            Order::Three => &known.grams3,
            Order::Six => &known.grams6,
        });
        if words.is_some_and(|words| is_set(words, position)) {
            break;
        }
        *slot = Some(position);
    }
    missed
}

impl Pending {
    /// Positions in the order 6, 3, 2.
    fn add(&mut self, missed: [Option<u32>; 3]) {
        for (words, position) in self.0.iter_mut().rev().zip(missed) {
            if let Some(position) = position {
                words[position as usize / 64] |= 1 << (position % 64);
            }
        }
    }
}

fn thread_key(actor: &Actor) -> ThreadKey {
    (actor.tgid, actor.tid, actor.start_boot_ns)
}

/// What a row is of, beside its thread; the sensor cuts the row where it changes.
fn identity(actor: &Actor) -> (u64, u64, u32) {
    (actor.cgroup_id, actor.program_id, actor.slot)
}

impl Open {
    fn new(event: &Event) -> Self {
        let row = Row {
            reason: RowReason::Window,
            classes: [0; CLASSES],
            calls: 0,
            errors: 0,
            checked: 0,
            unseen2: 0,
            unseen3: 0,
            unseen6: 0,
            collapsed: 0,
            lost: 0,
            limited: 0,
        };
        let actor = event.actor.clone();
        Self { epoch: event.epoch, time_boot_ns: event.time_boot_ns, actor, row }
    }

    fn cut(self, reason: RowReason) -> Event {
        Event {
            epoch: self.epoch,
            time_boot_ns: self.time_boot_ns,
            actor: self.actor,
            origin: Origin::Row(Box::new(Row { reason, ..self.row })),
        }
    }
}
