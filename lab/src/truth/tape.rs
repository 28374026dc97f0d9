//! A recording in memory, read once: by epoch, what the sensors delivered of the lab's services, with
//! rows counted and their n-grams kept, but held against no profile yet.

use std::{collections::HashMap, ops::Range, path::Path, str::FromStr, sync::Arc};

use anyhow::Context;
use hedgerow_event::{EpochClose, Event, Origin, Subject};
use hedgerow_features::{Counted, Counter, Cut, Record, records_from_batch, records_schema_least};
use hedgerow_sink::parquet::ParquetReader;
use serde::{Deserialize, Serialize};

use super::{
    lineage::{Before, Lineage, Tree, key},
    marks::{CAPTURE, Mark, Session, Span, read_marks},
};

/// Of the n-gram hash and the forest: one for all lives, so that one reading serves them.
pub const SEED: u64 = 0x7275_7468;

/// How workloads are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Naming {
    /// By the unit that each service runs in.
    Units,
    /// In no unit: by the first program of the tree.
    Bare,
}

impl Naming {
    pub const ALL: [Self; 2] = [Self::Units, Self::Bare];

    pub fn name(self) -> &'static str {
        match self {
            Self::Units => "units",
            Self::Bare => "no units",
        }
    }
}

impl FromStr for Naming {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|naming| naming.name() == text);
        named.ok_or_else(|| format!("no naming `{text}`; there are `units` and `no units`"))
    }
}

/// One thing that happened.
#[derive(Debug)]
pub struct Item {
    pub what: What,
    /// Whose it is where there are no units.
    bare: Arc<Subject>,
    before: Option<Box<Before>>,
}

#[derive(Debug, Clone)]
pub enum What {
    Event(Event),
    Cut(Cut),
}

impl Item {
    /// A copy, named as asked.
    pub fn named(&self, naming: Naming) -> What {
        let mut what = self.what.clone();
        if naming == Naming::Units {
            return what;
        }
        let event = match &mut what {
            What::Event(event) => event,
            What::Cut(cut) => &mut cut.event,
        };
        event.actor.subject = self.bare.clone();
        if let (Origin::Exec(exec), Some(before)) = (&mut event.origin, &self.before) {
            [exec.previous, exec.parent] = (**before).clone();
        }
        what
    }
}

/// Five seconds of a recording.
#[derive(Debug)]
pub struct Epoch {
    pub close: EpochClose,
    /// In the order of delivery, but for rows of the whole epoch, which come last.
    pub items: Vec<Item>,
}

/// One recording.
#[derive(Debug)]
pub struct Tape {
    pub session: Session,
    pub marks: Vec<Mark>,
    /// The processes of each mark.
    pub trees: Vec<Tree>,
    pub epochs: Vec<Epoch>,
    /// Calls in the recording, and records that the kernel had no room for.
    pub calls: u64,
    pub lost: u64,
    /// Acts of which no process was recorded; they are left out.
    pub missing: usize,
}

impl Tape {
    /// Reads a recording.
    pub fn read(directory: &Path) -> anyhow::Result<Self> {
        let session = Session::read(directory)?;
        let marks = read_marks(directory)?;
        let done = marks.len();
        let records = directory.join(CAPTURE).join("records");
        let reader = ParquetReader::open(&records, Some(&records_schema_least()))?;
        let mut reading = Reading::new(&session);
        for batch in reader {
            for record in records_from_batch(&batch?).context("a record of the recording")? {
                reading.take(record);
            }
        }
        let Reading { lineage, epochs, calls, lost, .. } = reading;
        // An act of which nothing was recorded can't be found.
        let (marks, trees): (Vec<_>, Vec<_>) = marks
            .into_iter()
            .map(|mark| (lineage.tree(&mark), mark))
            .filter(|(tree, _)| !tree.subjects.is_empty())
            .map(|(tree, mark)| (mark, tree))
            .unzip();
        let missing = done - marks.len();
        Ok(Self { session, marks, trees, epochs, calls, lost, missing })
    }

    /// The epochs that lie wholly inside a span.
    pub fn inside(&self, span: Span) -> Range<usize> {
        let begin = self.epochs.partition_point(|e| e.close.start_boot_ns < span.begin_boot_ns);
        let end = self.epochs.partition_point(|e| e.close.end_boot_ns <= span.end_boot_ns);
        begin..end.max(begin)
    }

    /// The epochs that hold a part of a span.
    pub fn around(&self, span: Span) -> Range<usize> {
        let begin = self.epochs.partition_point(|e| e.close.end_boot_ns <= span.begin_boot_ns);
        let end = self.epochs.partition_point(|e| e.close.start_boot_ns < span.end_boot_ns);
        begin..end.max(begin)
    }
}

struct Reading {
    lineage: Lineage,
    harness_path: String,
    counter: Counter,
    counted: Vec<Counted>,
    epochs: Vec<Epoch>,
    /// What came of epochs that are still open.
    open: HashMap<u32, Vec<Item>>,
    calls: u64,
    lost: u64,
}

impl Reading {
    fn new(session: &Session) -> Self {
        Self {
            lineage: Lineage::new(session.harness_pid),
            harness_path: session.harness_path.clone(),
            counter: Counter::new(SEED),
            counted: Vec::new(),
            epochs: Vec::new(),
            open: HashMap::new(),
            calls: 0,
            lost: 0,
        }
    }

    fn take(&mut self, mut record: Record) {
        if let Record::Event(event) = &mut record {
            // What a process does before its first exec is the lab's doing.
            let own = *event.actor.subject.program.path == *self.harness_path;
            if !self.lineage.follow(event) || own {
                return;
            }
            // What the kernel saw of unseen calls was against the recording daemon's own profile.
            if matches!(event.origin, Origin::Signal(_)) {
                return;
            }
            self.calls += u64::from(matches!(event.origin, Origin::Raw(_)));
        }
        let mut counted = std::mem::take(&mut self.counted);
        self.counter.push(record, &mut counted);
        for counted in counted.drain(..) {
            match counted {
                Counted::Cut(cut) => self.keep(What::Cut(cut)),
                Counted::Record(Record::Event(event)) => self.keep(What::Event(event)),
                Counted::Record(Record::Close(close)) => self.close(close),
                Counted::Record(_) => {}
            }
        }
        self.counted = counted;
    }

    fn keep(&mut self, what: What) {
        let event = match &what {
            What::Event(event) => event,
            What::Cut(cut) => &cut.event,
        };
        let (key, epoch) = (key(event), event.epoch.0);
        let bare = self.lineage.bare(key, &event.actor.subject);
        let before = match &event.origin {
            Origin::Exec(exec) => Some(Box::new(self.lineage.bare_before(key, exec))),
            _ => None,
        };
        self.open.entry(epoch).or_default().push(Item { what, bare, before });
    }

    fn close(&mut self, close: EpochClose) {
        self.lost += close.loss.lost;
        let items = self.open.remove(&close.epoch.0).unwrap_or_default();
        // What came too late for its epoch is left out: nobody could have judged it in time.
        self.open.retain(|epoch, _| *epoch > close.epoch.0);
        self.epochs.push(Epoch { close, items });
    }
}
