//! Rows and n-grams out of the full stream: what the kernel counted, recomputed from records alone.
//!
//! Follows the sensor's rules exactly (the tables, the history, the order in which n-grams are
//! looked up, the epoch from which a profile holds, and where a row is cut), so that the windows
//! made of its output equal those of the live rows column for column, where nothing was lost, late
//! or spilled. What was limited is found again, too: calls of the streamed kind without a record.
//!
//! Two steps, so that one reading of a recording serves many profiles: [`Counter`] follows the
//! threads and cuts their rows, with every n-gram that ended a call; [`Checker`] holds those against
//! a profile. [`Extractor`] is one after the other.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use hedgerow_event::{
    Actor, Call, Epoch, Event, GramReport, Grams, Origin, Raw, Row, RowReason, Subject,
    calls::{self, GramHash, History, Order, Push, Step, Tables},
};

use crate::records::Record;

/// Threads whose history is kept, dead ones that left no exit record included. Past them a thread
/// is counted, but each of its calls begins a new history; [`Extractor::untracked`] counts those.
pub const THREADS_LIMIT: usize = 262_144;

/// Turns a recorded full stream into the events, gram reports and closes that the live sensor gave.
#[derive(Debug)]
pub struct Extractor {
    counter: Counter,
    checker: Checker,
    counted: Vec<Counted>,
}

impl Extractor {
    /// `gram_hash_key` is the one of the recording (of its model), so that positions mean the same.
    pub fn new(gram_hash_key: u64) -> Self {
        Self {
            counter: Counter::new(gram_hash_key),
            checker: Checker::default(),
            counted: Vec::new(),
        }
    }

    /// Calls of threads past [`THREADS_LIMIT`], whose order could not be followed.
    pub fn untracked(&self) -> u64 {
        self.counter.untracked
    }

    /// What the kernel takes for known, and from which epoch on it does.
    pub fn set_known(
        &mut self,
        known: impl IntoIterator<Item = (Arc<Subject>, Grams)>,
        since: Epoch,
    ) {
        self.checker.set_known(known, since);
    }

    /// Takes one record in the order of delivery and appends what the live sensor would have
    /// delivered: rows in place of the calls of the full stream, everything else as it is. Recorded
    /// rows and gram reports are left out, since they are what is recomputed.
    pub fn push(&mut self, record: Record, out: &mut Vec<Record>) {
        self.counter.push(record, &mut self.counted);
        for counted in self.counted.drain(..) {
            match counted {
                Counted::Cut(cut) => out.push(Record::Event(self.checker.check(&cut))),
                Counted::Record(record) => {
                    if let Record::Close(close) = &record {
                        out.extend(self.checker.reports(close.epoch).map(Record::Grams));
                    }
                    out.push(record);
                }
            }
        }
    }
}

/// What [`Counter`] makes of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Counted {
    /// Anything but rows, gram reports and calls of the full stream, as it came.
    Record(Record),
    Cut(Cut),
}

/// A thread's row with the n-grams that ended its calls, before it is known which were unseen.
#[derive(Debug, Clone, PartialEq)]
pub struct Cut {
    /// Its row counts every call that entered the history as checked, and none as unseen.
    pub event: Event,
    /// How many calls ended by which n-grams.
    pub grams: Vec<(GramsAt, u32)>,
}

/// Positions of the 6-, 3- and 2-gram that end a history, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GramsAt(u64);

impl GramsAt {
    fn new(hash: &GramHash, history: History) -> Self {
        let at = |order| u64::from(hash.position(order, history.bits()));
        Self(at(Order::Six) << 32 | at(Order::Three) << 16 | at(Order::Two))
    }

    /// The longest first.
    fn positions(self) -> [u32; 3] {
        [(self.0 >> 32) as u32, (self.0 >> 16) as u32 & 0xffff, self.0 as u32 & 0xffff]
    }
}

/// Follows every thread of a full stream and cuts its rows where the sensor did.
#[derive(Debug)]
pub struct Counter {
    tables: Tables,
    hash: GramHash,
    threads: HashMap<ThreadKey, Thread>,
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
    grams: HashMap<GramsAt, u32>,
}

impl Counter {
    /// `gram_hash_key` as for [`Extractor::new`].
    pub fn new(gram_hash_key: u64) -> Self {
        Self {
            tables: Tables::new(),
            hash: GramHash::new(gram_hash_key),
            threads: HashMap::new(),
            untracked: 0,
        }
    }

    /// Takes one record in the order of delivery.
    pub fn push(&mut self, record: Record, out: &mut Vec<Counted>) {
        let event = match record {
            Record::Event(event) => event,
            Record::Grams(_) => return,
            Record::Early(_) => {
                out.push(Counted::Record(record));
                return;
            }
            Record::Close(close) => {
                self.flush(close.epoch, out);
                out.push(Counted::Record(Record::Close(close)));
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
                let cut = thread
                    .and_then(|thread| thread.open)
                    .and_then(|open| open.cut(RowReason::Exit));
                out.push(Counted::Record(Record::Event(event)));
                out.extend(cut.map(Counted::Cut));
                return;
            }
            Origin::Exec(_) => {
                if let Some(thread) = self.threads.get_mut(&thread_key(&event.actor)) {
                    thread.history = History::default();
                    let cut = thread.open.take().and_then(|open| open.cut(RowReason::Exec));
                    out.extend(cut.map(Counted::Cut));
                }
            }
            // It was counted as held back when its raw call came.
            Origin::Call(call) if was_streamed(call) => {
                let thread = self.threads.get_mut(&thread_key(&event.actor));
                if let Some(open) = thread.and_then(|thread| thread.open.as_mut()) {
                    open.row.limited = open.row.limited.saturating_sub(1);
                }
            }
            _ => {}
        }
        out.push(Counted::Record(Record::Event(event)));
    }

    fn count(&mut self, event: &Event, raw: Raw, out: &mut Vec<Counted>) {
        let step = self.tables.raw_step(&raw);
        // Of a call that the kernel may make again only the record counts.
        if step.is_none() && !raw.streamed {
            return;
        }
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
            out.extend(thread.open.take().and_then(|open| open.cut(reason)).map(Counted::Cut));
        }
        let open = thread.open.get_or_insert_with(|| Box::new(Open::new(event)));
        open.time_boot_ns = event.time_boot_ns;
        open.row.limited += u64::from(raw.streamed);
        if let Some(step) = step {
            open.count(&step, &mut thread.history, &self.hash);
        }
        if let Some(open) = stranger.open.take() {
            out.extend(open.cut(RowReason::Window).map(Counted::Cut));
        }
    }

    /// Cuts all rows up to an epoch, sorted: the table of threads has no order of its own.
    fn flush(&mut self, epoch: Epoch, out: &mut Vec<Counted>) {
        let mut cuts: Vec<Cut> = Vec::new();
        for thread in self.threads.values_mut() {
            if thread.open.as_ref().is_some_and(|open| open.epoch <= epoch) {
                cuts.extend(thread.open.take().and_then(|open| open.cut(RowReason::Window)));
            }
        }
        cuts.sort_by_key(|cut| (cut.event.epoch, thread_key(&cut.event.actor)));
        out.extend(cuts.into_iter().map(Counted::Cut));
    }
}

/// Holds the n-grams of rows against a profile and keeps what it doesn't have.
#[derive(Debug, Default)]
pub struct Checker {
    known: HashMap<Arc<Subject>, Grams>,
    /// The first epoch in which `known` holds.
    known_since: Epoch,
    /// What holds before.
    known_before: Option<(HashMap<Arc<Subject>, Grams>, Epoch)>,
    /// Unseen n-grams by epoch and subject.
    pending: BTreeMap<(Epoch, Arc<Subject>), Pending>,
}

/// Bitmaps of n-grams that the profile doesn't hold, in the order of [`Order::ALL`].
#[derive(Debug)]
struct Pending([Vec<u64>; 3]);

impl Default for Pending {
    fn default() -> Self {
        Self(Order::ALL.map(|order| vec![0; order.words()]))
    }
}

impl Checker {
    /// What the kernel takes for known, and from which epoch on it does.
    pub fn set_known(
        &mut self,
        known: impl IntoIterator<Item = (Arc<Subject>, Grams)>,
        since: Epoch,
    ) {
        let before = std::mem::replace(&mut self.known, known.into_iter().collect());
        self.known_before = Some((before, self.known_since));
        self.known_since = since;
    }

    /// Whether a subject has a profile that holds in an epoch.
    pub fn knows(&self, subject: &Arc<Subject>, epoch: Epoch) -> bool {
        self.known_to(subject, epoch).is_some()
    }

    fn known_to(&self, subject: &Arc<Subject>, epoch: Epoch) -> Option<&Grams> {
        if epoch >= self.known_since {
            return self.known.get(subject);
        }
        let (known, since) = self.known_before.as_ref()?;
        known.get(subject).filter(|_| epoch >= *since)
    }

    /// The row as the sensor would have delivered it. One in slot 0 is not checked.
    pub fn check(&mut self, cut: &Cut) -> Event {
        let mut event = cut.event.clone();
        let Origin::Row(row) = &mut event.origin else { return event };
        if event.actor.slot == 0 {
            row.checked = 0;
            return event;
        }
        let subject = &event.actor.subject;
        let known = self.known_to(subject, event.epoch);
        let mut all_missed = Vec::new();
        for (grams, count) in &cut.grams {
            let missed = missed(known, *grams);
            if missed[0].is_some() {
                // The longest first, in the order 6, 3, 2; each only where the longer missed.
                let counts = [&mut row.unseen6, &mut row.unseen3, &mut row.unseen2];
                for (sum, missed) in counts.into_iter().zip(missed) {
                    *sum += missed.map_or(0, |_| u64::from(*count));
                }
                all_missed.push(missed);
            }
        }
        if !all_missed.is_empty() {
            let pending = self.pending.entry((event.epoch, subject.clone())).or_default();
            all_missed.into_iter().for_each(|missed| pending.add(missed));
        }
        event
    }

    /// What was unseen up to an epoch, and not reported yet.
    pub fn reports(&mut self, epoch: Epoch) -> impl Iterator<Item = GramReport> + use<> {
        let later = self.pending.split_off(&(epoch.next(), Arc::new(smallest_subject())));
        let pending = std::mem::replace(&mut self.pending, later);
        pending.into_iter().map(|((epoch, subject), Pending([grams2, grams3, grams6]))| {
            GramReport {
                epoch,
                subject,
                grams2: positions(&grams2),
                grams3: positions(&grams3),
                grams6: positions(&grams6),
            }
        })
    }
}

fn is_set(words: &[u64], position: u32) -> bool {
    words.get(position as usize / 64).is_some_and(|word| word >> (position % 64) & 1 == 1)
}

fn positions(words: &[u64]) -> Vec<u32> {
    let set = words.iter().zip(0u32..).filter(|(word, _)| **word != 0).flat_map(|(word, index)| {
        (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index * 64 + bit)
    });
    set.collect()
}

/// Sorts before every other subject.
fn smallest_subject() -> Subject {
    Subject::new(hedgerow_event::Workload::new(""), hedgerow_event::Program::new(""))
}

/// Positions of the 6-, 3- and 2-gram that the profile doesn't hold; a shorter one is looked up only
/// where the longer one was missing.
fn missed(known: Option<&Grams>, grams: GramsAt) -> [Option<u32>; 3] {
    let mut missed = [None; 3];
    let words = known.map(|known| [&known.grams6, &known.grams3, &known.grams2]);
    for (order, (slot, position)) in missed.iter_mut().zip(grams.positions()).enumerate() {
        if words.is_some_and(|words| is_set(words[order], position)) {
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
        let row = Row::empty(RowReason::Window);
        let actor = event.actor.clone();
        let (epoch, time_boot_ns) = (event.epoch, event.time_boot_ns);
        Self { epoch, time_boot_ns, actor, row, grams: HashMap::new() }
    }

    fn count(&mut self, step: &Step, history: &mut History, hash: &GramHash) {
        self.row.calls += 1;
        self.row.errors += u64::from(step.error);
        self.row.classes[step.class.index()] += 1;
        match history.push(step) {
            Push::Skipped => {}
            Push::Collapsed => self.row.collapsed += 1,
            Push::Entered => {
                self.row.checked += 1;
                *self.grams.entry(GramsAt::new(hash, *history)).or_default() += 1;
            }
        }
    }

    /// The row, unless it has nothing to tell.
    fn cut(self, reason: RowReason) -> Option<Cut> {
        if self.row.calls == 0 && self.row.limited == 0 {
            return None;
        }
        let mut grams: Vec<_> = self.grams.into_iter().collect();
        grams.sort_unstable();
        let event = Event {
            epoch: self.epoch,
            time_boot_ns: self.time_boot_ns,
            actor: self.actor,
            origin: Origin::Row(Box::new(Row { reason, ..self.row })),
        };
        Some(Cut { event, grams })
    }
}

/// Whether a call was in the full stream, too, as one of the streamed kind.
fn was_streamed(call: &Call) -> bool {
    call.number != calls::CREDENTIALS_GREW && i64::from(call.number) != libc::SYS_clone3
}
