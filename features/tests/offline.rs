//! Rows recomputed from the full stream equal the rows that the kernel counted, and so do the
//! windows made of them.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use common::*;
use hedgerow_event::{
    Actor, Epoch, Event, FlowPhase, GramReport, Grams, Origin, Raw, Row, RowReason, Subject,
    calls::{CODE_BORN, Class, GramHash, Order, Tables, flags},
};
use hedgerow_features::{
    Baseline, Config, Extractor, ItemKey, Record, Window, WindowBuilder, from_batch,
    records_from_batch, records_schema, records_to_batch, to_batch,
};
use proptest::prelude::*;

const GRAM_KEY: u64 = 99;
/// Two epochs after the first.
const KNOWN_SINCE: Epoch = Epoch(14);

/// A thread as the BPF programs see it: written after `grams.bpf.h` and `calls.bpf.h`, not after
/// the extractor.
#[derive(Clone)]
struct KernelThread {
    actor: Actor,
    history: u64,
    buckets: BTreeMap<u32, Row>,
}

struct Kernel {
    tables: Tables,
    multipliers: [u64; 3],
    epoch: u32,
    now: u64,
    threads: Vec<KernelThread>,
    known: BTreeMap<Arc<Subject>, Grams>,
    pending: BTreeMap<(u32, Arc<Subject>), [BTreeSet<u32>; 3]>,
    /// What a daemon with rows and the full stream is delivered.
    records: Vec<Record>,
}

const COMPAT: u64 = 1 << 62;

fn bit(words: &[u64], position: u64) -> bool {
    words.get(position as usize >> 6).is_some_and(|word| word & (1 << (position & 63)) != 0)
}

impl Kernel {
    fn new(known: BTreeMap<Arc<Subject>, Grams>) -> Self {
        Self {
            tables: Tables::new(),
            multipliers: GramHash::new(GRAM_KEY).multipliers(),
            epoch: 12,
            now: 12 * EPOCH_NS,
            threads: Vec::new(),
            known,
            pending: BTreeMap::new(),
            records: Vec::new(),
        }
    }

    fn emit(&mut self, epoch: u32, actor: Actor, origin: Origin) {
        self.now += 1_000;
        let (epoch, time_boot_ns) = (Epoch(epoch), self.now);
        self.records.push(Record::Event(Event { epoch, time_boot_ns, actor, origin }));
    }

    fn spawn(&mut self, subject: &Arc<Subject>, slot: u32, tid: u32) {
        let mut actor = event(subject, self.epoch, tid, fork(0)).actor;
        actor.slot = slot;
        self.threads.push(KernelThread { actor, history: 0, buckets: BTreeMap::new() });
    }

    /// The thread is found in another cgroup, or its program got another slot: what it counted is
    /// delivered under its old identity.
    fn identify(&mut self, at: usize, cgroup_id: u64, slot: u32) {
        let actor = &self.threads[at].actor;
        if (actor.cgroup_id, actor.slot) != (cgroup_id, slot) {
            self.flush(at, RowReason::Exec);
            let actor = &mut self.threads[at].actor;
            (actor.cgroup_id, actor.slot) = (cgroup_id, slot);
        }
    }

    /// A call of the streamed kind, whose record a token bucket may hold back. One that restarts is
    /// told and not counted.
    fn streamed(&mut self, at: usize, limited: bool, restarts: bool) {
        self.call_of(at, 257, false, false, if restarts { -512 } else { 0 }, true);
        if limited {
            let epoch = self.epoch;
            self.threads[at].buckets.entry(epoch).or_insert_with(|| row(&[])).limited += 1;
        } else {
            let (epoch, actor) = (self.epoch, self.threads[at].actor.clone());
            self.emit(epoch, actor, call(257, 3, "/etc/x/y"));
        }
    }

    fn call(&mut self, at: usize, number: i32, compat: bool, uring: bool, result: i64) {
        self.call_of(at, number, compat, uring, result, false);
    }

    fn call_of(
        &mut self,
        at: usize,
        number: i32,
        compat: bool,
        uring: bool,
        result: i64,
        streamed: bool,
    ) {
        let epoch = self.epoch;
        let thread = self.threads[at].clone();
        let restarts = !uring && number != -1 && (-516..=-512).contains(&result);
        if restarts && !streamed {
            return;
        }
        let fresh = thread.history & ((1 << 54) - 1) == 0;
        let raw = Raw { number, compat, uring, fresh, streamed, result };
        self.emit(epoch, thread.actor.clone(), Origin::Raw(raw));
        if restarts {
            return;
        }
        let info = match (uring, number) {
            (true, _) => self.tables.uring[number as usize],
            (false, number) => self.tables.info(number, compat),
        };
        let (mut class, mut code) = (info.class, info.code);
        if !uring && info.flags & flags::FORK != 0 && result == 0 {
            code = CODE_BORN;
            if !compat {
                class = Class::Born;
            }
        }
        let thread = &mut self.threads[at];
        let counts = thread.buckets.entry(epoch).or_insert_with(|| row(&[]));
        counts.calls += 1;
        if !uring && number != -1 && (-4095..0).contains(&result) {
            counts.errors += 1;
        }
        counts.classes[class as usize] += 1;
        if code == 0 {
            return;
        }
        let stream = if compat { COMPAT } else { 0 };
        let old = if thread.history & COMPAT == stream { thread.history } else { stream };
        if old & 511 == u64::from(code) {
            counts.collapsed += 1;
            return;
        }
        thread.history = ((old << 9 | u64::from(code)) & ((1 << 54) - 1)) | stream;
        if thread.actor.slot == 0 {
            return;
        }
        counts.checked += 1;
        let key = |length: u32| thread.history & (((1 << (9 * length)) - 1) | COMPAT);
        let empty = Grams::default();
        let subject = thread.actor.subject.clone();
        let holds = epoch >= KNOWN_SINCE.0;
        let known = self.known.get(&subject).filter(|_| holds).unwrap_or(&empty);
        let six = key(6).wrapping_mul(self.multipliers[2]) >> (64 - 17);
        if bit(&known.grams6, six) {
            return;
        }
        counts.unseen6 += 1;
        let pending = self.pending.entry((epoch, subject)).or_default();
        pending[2].insert(six as u32);
        let three = key(3).wrapping_mul(self.multipliers[1]) >> (64 - 15);
        if bit(&known.grams3, three) {
            return;
        }
        counts.unseen3 += 1;
        pending[1].insert(three as u32);
        let two = key(2).wrapping_mul(self.multipliers[0]) >> (64 - 14);
        if bit(&known.grams2, two) {
            return;
        }
        counts.unseen2 += 1;
        pending[0].insert(two as u32);
    }

    fn flush(&mut self, at: usize, reason: RowReason) {
        let actor = self.threads[at].actor.clone();
        for (epoch, counts) in std::mem::take(&mut self.threads[at].buckets) {
            let row = Row { reason, ..counts };
            self.emit(epoch, actor.clone(), Origin::Row(Box::new(row)));
        }
    }

    fn exec(&mut self, at: usize, subject: &Arc<Subject>) {
        self.flush(at, RowReason::Exec);
        let previous = std::mem::replace(&mut self.threads[at].actor.subject, subject.clone());
        self.threads[at].history = 0;
        let (epoch, actor) = (self.epoch, self.threads[at].actor.clone());
        self.emit(epoch, actor, Origin::Exec(Box::new(exec(Some(&previous)))));
    }

    fn exit(&mut self, at: usize) {
        self.call(at, 231, false, false, 0);
        let (epoch, actor) = (self.epoch, self.threads[at].actor.clone());
        self.emit(epoch, actor, exit(0));
        self.flush(at, RowReason::Exit);
        self.threads.remove(at);
    }

    /// The clock steps; some calls of the new epoch come before the old one is read out.
    fn step(&mut self, early_calls: &[(usize, i32)]) {
        let closing = self.epoch;
        self.epoch += 1;
        for &(at, number) in early_calls {
            if let Some(at) = at.checked_rem(self.threads.len()) {
                self.call(at, number, false, false, 0);
            }
        }
        for at in 0..self.threads.len() {
            if let Some(counts) = self.threads[at].buckets.remove(&closing) {
                let actor = self.threads[at].actor.clone();
                self.emit(closing, actor, Origin::Row(Box::new(counts)));
            }
        }
        let later = self.pending.split_off(&(closing + 1, subject("", "")));
        for ((epoch, subject), grams) in std::mem::replace(&mut self.pending, later) {
            let [grams2, grams3, grams6] = grams.map(|set| set.into_iter().collect());
            let epoch = Epoch(epoch);
            self.records.push(Record::Grams(GramReport { epoch, subject, grams2, grams3, grams6 }));
        }
        self.records.push(Record::Close(close(closing)));
    }
}

/// One step of a random life of a few programs.
#[derive(Debug, Clone)]
enum Act {
    Call { thread: usize, number: i32, compat: bool, result: i64 },
    Uring { thread: usize, opcode: i32 },
    Spawn { subject: usize },
    Exec { thread: usize, subject: usize },
    Exit { thread: usize },
    Other { thread: usize, what: u8 },
    Streamed { thread: usize, limited: bool, restarts: bool },
    Identify { thread: usize, cgroup_id: u64, slot: u32 },
    Step(Vec<(usize, i32)>),
}

fn any_act() -> impl Strategy<Value = Act> {
    let number = prop_oneof![8 => 0i32..6, 2 => -1i32..470, 1 => Just(202), 1 => 56i32..59];
    let result = prop_oneof![4 => Just(0i64), 2 => 1i64..100, 2 => -40i64..0, 1 => -516i64..-511];
    prop_oneof![
        60 => (0usize..9, number, prop::bool::weighted(0.05), result).prop_map(
            |(thread, number, compat, result)| Act::Call { thread, number, compat, result }
        ),
        2 => (0usize..9, 0i32..64).prop_map(|(thread, opcode)| Act::Uring { thread, opcode }),
        3 => (0usize..4).prop_map(|subject| Act::Spawn { subject }),
        2 => (0usize..9, 0usize..4).prop_map(|(thread, subject)| Act::Exec { thread, subject }),
        2 => (0usize..9).prop_map(|thread| Act::Exit { thread }),
        4 => (0usize..9, 0u8..2).prop_map(|(thread, what)| Act::Other { thread, what }),
        4 => (0usize..9, any::<bool>(), any::<bool>()).prop_map(|(thread, limited, restarts)| {
            Act::Streamed { thread, limited, restarts }
        }),
        2 => (0usize..9, 1u64..3, 0u32..3)
            .prop_map(|(thread, cgroup_id, slot)| Act::Identify { thread, cgroup_id, slot }),
        2 => prop::collection::vec((0usize..9, 0i32..6), 0..6).prop_map(Act::Step),
    ]
}

fn subjects() -> [Arc<Subject>; 4] {
    [
        subject("a.service", "/bin/a"),
        subject("a.service", "/bin/sh"),
        subject("b.service", "/bin/b"),
        subject("host", "/usr/bin/make"),
    ]
}

/// What the first subject is known to do: half of all positions, at random.
fn known() -> BTreeMap<Arc<Subject>, Grams> {
    let words = |order: Order| -> Vec<u64> {
        let mut state = order.bits() as u64;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            state ^ (state >> 29)
        };
        (0..order.words()).map(next).collect()
    };
    let [two, three, six] = Order::ALL.map(words);
    let grams = Grams { grams2: two, grams3: three, grams6: six };
    BTreeMap::from([(subjects()[0].clone(), grams)])
}

fn live(acts: &[Act]) -> Vec<Record> {
    let subjects = subjects();
    let mut kernel = Kernel::new(known());
    let mut tid = 100;
    for act in acts {
        let of = |thread: usize| thread.checked_rem(kernel.threads.len());
        match act {
            Act::Spawn { subject } => {
                tid += 1;
                let slot = u32::try_from(*subject).unwrap();
                kernel.spawn(&subjects[*subject], slot, tid);
            }
            Act::Step(early) => kernel.step(early),
            Act::Call { thread, number, compat, result } => {
                if let Some(at) = of(*thread) {
                    kernel.call(at, *number, *compat, false, *result);
                }
            }
            Act::Uring { thread, opcode } => {
                if let Some(at) = of(*thread) {
                    kernel.call(at, *opcode, false, true, 0);
                }
            }
            Act::Exec { thread, subject } => {
                if let Some(at) = of(*thread) {
                    kernel.exec(at, &subjects[*subject]);
                }
            }
            Act::Exit { thread } => {
                if let Some(at) = of(*thread) {
                    kernel.exit(at);
                }
            }
            Act::Streamed { thread, limited, restarts } => {
                if let Some(at) = of(*thread) {
                    kernel.streamed(at, *limited, *restarts);
                }
            }
            Act::Identify { thread, cgroup_id, slot } => {
                // The sensor looks again at a call, so that one follows.
                if let Some(at) = of(*thread) {
                    kernel.identify(at, *cgroup_id, *slot);
                    kernel.call(at, 39, false, false, 1);
                }
            }
            Act::Other { thread, what } => {
                if let Some(at) = of(*thread) {
                    let origin = match what {
                        0 => fork(7),
                        _ => outbound(FlowPhase::Start, "10.0.0.3", 80, 9),
                    };
                    let (epoch, actor) = (kernel.epoch, kernel.threads[at].actor.clone());
                    kernel.emit(epoch, actor, origin);
                }
            }
        }
    }
    kernel.step(&[]);
    kernel.step(&[]);
    kernel.records
}

/// Windows and gram reports of a stream, as the pipeline makes them.
fn windows(records: &[Record]) -> (Vec<Window>, Vec<GramReport>) {
    let key = ItemKey(5);
    let mut baseline = Baseline::new(key, 1 << 40);
    baseline.freeze();
    let mut builder = WindowBuilder::new(Config::new("h"), key);
    let (mut windows, mut grams) = (Vec::new(), Vec::new());
    for record in records {
        match record {
            Record::Event(event) => builder.observe(event),
            Record::Grams(report) => grams.push(report.clone()),
            Record::Early(_) => {}
            Record::Close(close) => windows.extend(builder.close(close, &baseline)),
        }
    }
    windows.extend(builder.finish(&baseline));
    (windows, grams)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn offline_windows_equal_the_live_ones(acts in prop::collection::vec(any_act(), 0..600)) {
        let delivered = live(&acts);
        // Through Arrow, in two batches, as a capture would have it.
        let half = delivered.len() / 2;
        let mut recorded = Vec::new();
        for part in [&delivered[..half], &delivered[half..]] {
            recorded.extend(records_from_batch(&records_to_batch(part).unwrap()).unwrap());
        }
        prop_assert_eq!(&recorded, &delivered);
        let mut extractor = Extractor::new(GRAM_KEY);
        extractor.set_known(known(), KNOWN_SINCE);
        // What is to hold later leaves what holds until then.
        extractor.set_known(known(), Epoch(KNOWN_SINCE.0 + 2));
        let mut extracted = Vec::new();
        for record in recorded {
            extractor.push(record, &mut extracted);
        }
        prop_assert_eq!(extractor.untracked(), 0);
        let (live, live_grams) = windows(&delivered);
        let (offline, offline_grams) = windows(&extracted);
        prop_assert_eq!(live.len(), offline.len());
        for (live, offline) in live.iter().zip(&offline) {
            prop_assert_eq!((live.loss.lost, live.loss.late), (0, 0));
            prop_assert_eq!(live, offline);
        }
        prop_assert_eq!(live_grams, offline_grams);
        prop_assert_eq!(from_batch(&to_batch(&offline).unwrap()).unwrap(), live);
    }
}

/// The comparison above would also hold for empty windows: this stream is not empty.
#[test]
fn a_known_stream_gives_known_columns() {
    let [a, ..] = subjects();
    let mut kernel = Kernel::new(BTreeMap::new());
    kernel.spawn(&a, 1, 101);
    for number in [0, 1, 1, 3, 202, 0] {
        kernel.call(0, number, false, false, if number == 3 { -9 } else { 0 });
    }
    kernel.exit(0);
    kernel.step(&[]);
    let mut extractor = Extractor::new(GRAM_KEY);
    let mut extracted = Vec::new();
    kernel.records.into_iter().for_each(|record| extractor.push(record, &mut extracted));
    let rows: Vec<&Row> = extracted
        .iter()
        .filter_map(|record| match record {
            Record::Event(Event { origin: Origin::Row(row), .. }) => Some(&**row),
            _ => None,
        })
        .collect();
    let [row] = rows[..] else { panic!("{rows:?}") };
    assert_eq!((row.calls, row.errors, row.collapsed), (7, 1, 1));
    assert_eq!((row.checked, row.unseen6), (5, 5), "one repeats, futex stays out");
    assert_eq!(row.classes.iter().sum::<u32>(), 7);
    assert_eq!(row.classes[Class::Exit.index()], 1);
    assert_eq!(row.reason, RowReason::Exit);
    let (windows, grams) = windows(&extracted);
    let [report] = &grams[..] else { panic!("{grams:?}") };
    assert_eq!(report.grams6.len(), 5);
    assert!(windows.iter().any(|window| *window.subject == *a || window.programs == 1));
}

#[test]
fn records_that_cannot_be_name_their_column() {
    use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, new_null_array};
    let records: Vec<Record> = {
        let [a, ..] = subjects();
        vec![event(&a, 3, 4, outbound(FlowPhase::Start, "10.0.0.3", 80, 9)).into()]
    };
    let batch = records_to_batch(&records).unwrap();
    let edited = |name: &str, column: Option<ArrayRef>| {
        let mut columns = batch.columns().to_vec();
        let at = batch.schema().index_of(name).unwrap();
        let wanted = batch.column(at).data_type().clone();
        columns[at] = match column {
            Some(column) => arrow::compute::cast(&column, &wanted).unwrap(),
            None => new_null_array(&wanted, batch.num_rows()),
        };
        records_from_batch(&RecordBatch::try_new(records_schema(), columns).unwrap())
            .unwrap_err()
            .to_string()
    };
    let text = |value: &str| -> Option<ArrayRef> {
        Some(Arc::new(StringArray::from(vec![value.to_owned()])))
    };
    for (name, column, wanted) in [
        ("flow_peer_address", text("10.0.0"), "not an address"),
        ("flow_phase", text("begun"), "no name of this column"),
        ("kind", text("flows"), "no kind of record"),
        ("flow_out_bytes", None, "is empty in row 0"),
        ("program", None, "is empty in row 0"),
    ] {
        let error = edited(name, column);
        assert!(error.contains(name) && error.contains(wanted), "{error}");
    }
    let without = {
        let at = batch.schema().index_of("exec_path").unwrap();
        let keep: Vec<usize> = (0..batch.num_columns()).filter(|column| *column != at).collect();
        batch.project(&keep).unwrap()
    };
    let error = records_from_batch(&without).unwrap_err().to_string();
    assert!(error.contains("`exec_path` is missing"), "{error}");
}
