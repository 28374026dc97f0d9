//! One open epoch: the accumulators of its subjects.

use std::{collections::HashMap, sync::Arc};

use hedgerow_event::{Event, Origin, Subject, Workload};

use crate::{accumulate::Accumulator, baseline::parent_of, item::ItemKey};

/// Pointers to subjects that are remembered so that most events skip hashing a name; past them the
/// memory starts afresh.
const POINTERS_LIMIT: usize = 8_192;
/// Rows for the `(other)` of workloads beside those for subjects; past them one row for all.
const OTHERS_LIMIT: usize = 256;

#[derive(Debug)]
pub(crate) struct Part {
    rows: Vec<Accumulator>,
    by_subject: HashMap<Arc<Subject>, usize>,
    /// Rows by the address of a subject that `alive` keeps from being freed and reused.
    by_pointer: HashMap<usize, usize>,
    alive: Vec<Arc<Subject>>,
    /// Early rows given, by row.
    early: HashMap<usize, u32>,
    /// Rows that may be opened; later subjects go to `(other)`.
    capacity: usize,
    key: ItemKey,
    first_boot_ns: Option<u64>,
}

impl Part {
    pub(crate) fn new(capacity: usize, key: ItemKey) -> Self {
        Self {
            rows: Vec::new(),
            by_subject: HashMap::new(),
            by_pointer: HashMap::new(),
            alive: Vec::new(),
            early: HashMap::new(),
            capacity,
            key,
            first_boot_ns: None,
        }
    }

    /// Counts an event for its subject, and the parent's side of an exec for the parent.
    pub(crate) fn observe(&mut self, event: &Event, late: bool) {
        let earliest = self.first_boot_ns.get_or_insert(event.time_boot_ns);
        *earliest = event.time_boot_ns.min(*earliest);
        let key = self.key;
        let row = self.row(&event.actor.subject);
        row.observe(event, key);
        row.loss.late += u64::from(late);
        if let Origin::Exec(exec) = &event.origin
            && let Some(parent) = parent_of(event, exec)
        {
            let child = &event.actor.subject;
            self.row(child).processes.observe_parent(parent, child, key);
            self.row(parent).processes.observe_child(parent, child, key);
        }
    }

    /// The row of a subject, or of its workload's `(other)` where there is no room for more.
    pub(crate) fn row(&mut self, subject: &Arc<Subject>) -> &mut Accumulator {
        let at = self.index(subject);
        &mut self.rows[at]
    }

    /// Something of the subject was counted under its own name.
    pub(crate) fn has(&self, subject: &Subject) -> bool {
        self.by_subject.contains_key(subject)
    }

    /// The next index of an early row of a subject's row.
    pub(crate) fn next_early(&mut self, subject: &Arc<Subject>) -> u32 {
        let next = {
            let row = self.index(subject);
            self.early.entry(row).or_default()
        };
        *next += 1;
        *next - 1
    }

    pub(crate) fn first_boot_ns(&self) -> Option<u64> {
        self.first_boot_ns
    }

    pub(crate) fn into_rows(self) -> Vec<Accumulator> {
        self.rows
    }

    fn index(&mut self, subject: &Arc<Subject>) -> usize {
        let pointer = Arc::as_ptr(subject) as usize;
        if let Some(at) = self.by_pointer.get(&pointer) {
            return *at;
        }
        let at = self.index_by_name(subject);
        if self.alive.len() >= POINTERS_LIMIT {
            self.by_pointer.clear();
            self.alive.clear();
        }
        self.alive.push(subject.clone());
        self.by_pointer.insert(pointer, at);
        at
    }

    fn index_by_name(&mut self, subject: &Arc<Subject>) -> usize {
        if let Some(at) = self.by_subject.get(subject) {
            return *at;
        }
        if self.rows.len() < self.capacity || subject.is_host() {
            return self.open(subject.clone());
        }
        let program = self.key.program(&subject.program);
        let own = Arc::new(Subject::other(subject.workload.clone()));
        let at = match self.by_subject.get(&own) {
            Some(at) => *at,
            None if self.rows.len() < self.capacity + OTHERS_LIMIT => self.open(own),
            None => {
                let all = Arc::new(Subject::other(Workload::host()));
                match self.by_subject.get(&all) {
                    Some(at) => *at,
                    None => self.open(all),
                }
            }
        };
        self.rows[at].programs.add(program, 1);
        at
    }

    fn open(&mut self, subject: Arc<Subject>) -> usize {
        let at = self.rows.len();
        self.rows.push(Accumulator::new(subject.clone(), self.key));
        self.by_subject.insert(subject, at);
        at
    }
}

/// Merges rows of little activity into their workload's `(other)`, then the least active past
/// `subjects_max`. Rows with a hard signal and the host's stay. Returns the rows, in no order, and
/// how many were merged.
pub(crate) fn merge_small(
    mut rows: Vec<Accumulator>,
    subjects_max: usize,
    activity_min: u64,
    key: ItemKey,
) -> (Vec<Accumulator>, u64) {
    let activity = |row: &Accumulator| row.calls.calls.saturating_add(row.records);
    let stays = |row: &Accumulator| {
        row.hard || row.subject.is_host() || &*row.subject.program.path == Subject::OTHER
    };
    // Mostly there is room for all, and a row is large to move about.
    let is_kept = |row: &Accumulator| stays(row) || activity(row) >= activity_min;
    if rows.len() <= subjects_max && rows.iter().all(is_kept) {
        return (rows, 0);
    }
    // Most active first; equal ones by name, so that the order of arrival decides nothing.
    rows.sort_by(|a, b| activity(b).cmp(&activity(a)).then_with(|| a.subject.cmp(&b.subject)));
    let mut room = subjects_max.saturating_sub(rows.iter().filter(|row| stays(row)).count());
    let mut kept: Vec<Accumulator> = Vec::with_capacity(rows.len());
    let mut small: Vec<Accumulator> = Vec::new();
    for row in rows {
        if stays(&row) {
            kept.push(row);
        } else if activity(&row) >= activity_min && room > 0 {
            room -= 1;
            kept.push(row);
        } else {
            small.push(row);
        }
    }
    let merged = small.len() as u64;
    for row in small {
        let other = Subject::other(row.subject.workload.clone());
        match kept.iter_mut().find(|kept| *kept.subject == other) {
            Some(kept) => kept.merge(&row),
            None => {
                let mut sum = Accumulator::new(Arc::new(other), key);
                sum.merge(&row);
                kept.push(sum);
            }
        }
    }
    (kept, merged)
}
