//! Events in, windows out.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use hedgerow_event::{Epoch, EpochClose, Event, Loss, Origin, Scale, Subject};

use crate::{
    accumulate::{Accumulator, HostCounts},
    baseline::Baseline,
    column::{Context, Sensors},
    item::ItemKey,
    part::{Part, merge_small},
    window::{Config, EPOCH_NS, SUSPEND_LIMIT_NS, Window, WindowTime},
};

/// Epochs open at a time: the one that is being closed, the running one, and some slack for a
/// reader that lags. What comes for a later one goes into the last and counts as late.
pub const OPEN_EPOCHS_LIMIT: u32 = 4;
/// An epoch or roll-up opens at most this many times `subjects_max` rows before it merges; beyond
/// it even a hard signal goes to `(other)`, which then carries it.
pub const ROWS_FACTOR: usize = 4;

/// Accumulates events by subject and epoch and closes them into windows.
///
/// Each event is counted in exactly one 5 s row (`records`), whatever the order of arrival: one
/// whose epoch is already closed goes to the oldest open epoch, and its row counts it as late.
#[derive(Debug)]
pub struct WindowBuilder {
    config: Config,
    key: ItemKey,
    open: BTreeMap<u32, Part>,
    /// First epoch that can still take events.
    first: Option<u32>,
    last_end_boot_ns: Option<u64>,
    realtime_offset_ns: i64,
    /// The last epoch was shed, and the open one most likely is.
    shed: bool,
    rollups: Vec<Rollup>,
}

/// A longer window in the making.
#[derive(Debug)]
struct Rollup {
    time: WindowTime,
    /// Epochs added, those with a suspend included.
    epochs: u32,
    rows: HashMap<Arc<Subject>, Accumulator>,
}

impl WindowBuilder {
    /// `key` is the model's; first-seen columns are unavailable against a baseline of another key.
    pub fn new(config: Config, key: ItemKey) -> Self {
        Self {
            realtime_offset_ns: config.realtime_offset_ns,
            config,
            key,
            open: BTreeMap::new(),
            first: None,
            last_end_boot_ns: None,
            shed: false,
            rollups: Vec::new(),
        }
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Counts an event. Calls of the full stream count nothing here: rows have counted them.
    pub fn observe(&mut self, event: &Event) {
        if matches!(event.origin, Origin::Raw(_)) {
            return;
        }
        let epoch = event.epoch.0;
        // Before the first close, records of the epoch before the first one seen may still come.
        self.first.get_or_insert(epoch.saturating_sub(1));
        let Some(target) = self.target(epoch) else { return };
        let part = open_part(&mut self.open, target, &self.config, self.key);
        part.observe(event, target != epoch);
    }

    /// Marks a subject in the epoch, so that it is not merged: something that only the caller
    /// knows (a first-seen item, say) makes it a row of its own.
    pub fn mark_hard(&mut self, subject: &Arc<Subject>, epoch: Epoch) {
        self.first.get_or_insert(epoch.0.saturating_sub(1));
        let Some(target) = self.target(epoch.0) else { return };
        open_part(&mut self.open, target, &self.config, self.key).row(subject).hard = true;
    }

    /// Closes an epoch and everything before it. Rows come sorted by scale and subject, the host's
    /// always among them; roll-ups come with the epoch that completes them. Closing an epoch again
    /// gives nothing.
    pub fn close(&mut self, close: &EpochClose, baseline: &Baseline) -> Vec<Window> {
        let epoch = close.epoch.0;
        if self.first.is_some_and(|first| epoch < first) {
            return Vec::new();
        }
        let mut windows = Vec::new();
        self.flush_rollups_before(epoch, baseline, &mut windows);
        let later = self.open.split_off(&epoch.saturating_add(1));
        let mut older = std::mem::replace(&mut self.open, later);
        let mut part = older.remove(&epoch).unwrap_or_else(|| new_part(&self.config, self.key));
        for skipped in older.into_values().flat_map(Part::into_rows) {
            // Its epoch was never closed by itself: nothing is lost, but it is in the wrong window.
            let late = skipped.records;
            let row = part.row(&skipped.subject);
            row.merge(&skipped);
            row.loss.late += late;
        }
        self.first = Some(epoch.saturating_add(1));
        self.last_end_boot_ns = Some(close.end_boot_ns);
        self.realtime_offset_ns = close.realtime_offset_ns;
        let time = WindowTime {
            scale: Scale::Seconds5,
            epoch: close.epoch,
            parts: u32::from(close.suspended_ns <= SUSPEND_LIMIT_NS),
            start_boot_ns: close.start_boot_ns,
            end_boot_ns: close.end_boot_ns,
            realtime_offset_ns: close.realtime_offset_ns,
            suspended_ns: close.suspended_ns,
            unattributed: close.loss,
            shed: close.shed,
        };
        self.shed = close.shed;
        let rows = self.close_part(part, close);
        let mut closed = Vec::new();
        self.add_to_rollups(&rows, &time);
        self.emit(rows, &time, baseline, &mut closed);
        closed.append(&mut windows);
        self.flush_rollups_before(epoch.saturating_add(1), baseline, &mut closed);
        closed
    }

    /// Ends the stream: gives the roll-ups as far as they came. Events of epochs that were never
    /// closed are not in any window; close their epochs first.
    pub fn finish(mut self, baseline: &Baseline) -> Vec<Window> {
        let mut windows = Vec::new();
        for rollup in std::mem::take(&mut self.rollups) {
            let rows = rollup.rows.into_values().collect();
            self.emit(rows, &rollup.time, baseline, &mut windows);
        }
        windows
    }

    /// A subject's window as it stands at `now_boot_ns`, in the newest epoch that has anything of
    /// it, without closing it. `live` are rows of its tasks that were read but not taken out of the
    /// kernel; they count in this row only, and those of another epoch not at all. `None` where
    /// nothing was seen of the subject.
    pub fn early(
        &mut self,
        subject: &Arc<Subject>,
        now_boot_ns: u64,
        live: &[Event],
        baseline: &Baseline,
    ) -> Option<Window> {
        let first = self.first?;
        let live: Vec<&Event> = live
            .iter()
            .filter(|event| event.actor.subject == *subject && event.epoch.0 >= first)
            .collect();
        let counted = self.open.iter().rev().find(|(_, part)| part.has(subject));
        let newest = live.iter().map(|event| event.epoch.0).max();
        let epoch = counted.map(|(epoch, _)| *epoch).max(newest)?;
        let target = self.target(epoch)?;
        let part = open_part(&mut self.open, target, &self.config, self.key);
        let early = part.next_early(subject);
        let mut row = part.row(subject).clone();
        for event in live.into_iter().filter(|event| event.epoch.0 == epoch) {
            row.observe(event, self.key);
        }
        let start_boot_ns = match self.last_end_boot_ns {
            Some(end) => end + u64::from(target - first) * EPOCH_NS,
            None => part.first_boot_ns().unwrap_or(now_boot_ns),
        };
        let time = WindowTime {
            scale: Scale::Seconds5,
            epoch: Epoch(target),
            parts: 1,
            start_boot_ns,
            end_boot_ns: now_boot_ns.max(start_boot_ns),
            realtime_offset_ns: self.realtime_offset_ns,
            suspended_ns: 0,
            unattributed: Loss::default(),
            shed: self.shed,
        };
        let mut context = self.context(&row, &time, baseline);
        context.seconds = Some(EPOCH_NS as f64 / 1e9);
        Some(Window::new(&self.config.host, &row, time, Some(early), &context))
    }

    /// The open epoch that takes what belongs to `epoch`; `None` before anything came.
    fn target(&self, epoch: u32) -> Option<u32> {
        let first = self.first?;
        Some(epoch.clamp(first, first.saturating_add(OPEN_EPOCHS_LIMIT - 1)))
    }

    /// The rows of a part with the host's own, before small ones merge.
    fn close_part(&self, mut part: Part, close: &EpochClose) -> Vec<Accumulator> {
        let host = part.row(&Arc::new(Subject::host()));
        host.host = Some(HostCounts { counters: close.host, subjects: 0, merged: 0 });
        let mut rows = part.into_rows();
        let subjects = rows.len() as u64 - 1;
        if let Some(host) = rows.iter_mut().find_map(|row| row.host.as_mut()) {
            host.subjects = subjects;
        }
        rows
    }

    fn emit(
        &self,
        rows: Vec<Accumulator>,
        time: &WindowTime,
        baseline: &Baseline,
        windows: &mut Vec<Window>,
    ) {
        let (subjects_max, activity_min) = (self.config.subjects_max, self.config.activity_min);
        let (mut rows, merged) = merge_small(rows, subjects_max, activity_min, self.key);
        if let Some(host) = rows.iter_mut().find_map(|row| row.host.as_mut()) {
            host.merged = merged;
        }
        // They are too large to be moved about.
        let mut by_subject: Vec<&Accumulator> = rows.iter().collect();
        by_subject.sort_unstable_by(|a, b| a.subject.cmp(&b.subject));
        windows.extend(by_subject.into_iter().map(|row| {
            let context = self.context(row, time, baseline);
            Window::new(&self.config.host, row, time.clone(), None, &context)
        }));
    }

    fn context<'a>(
        &self,
        row: &Accumulator,
        time: &WindowTime,
        baseline: &'a Baseline,
    ) -> Context<'a> {
        let known = baseline.known(&row.subject.workload);
        let sensors = self.config.sensors;
        Context {
            scale: time.scale,
            seconds: time.seconds(),
            sensors: Sensors { calls: sensors.calls && !time.shed, ..sensors },
            known: known.filter(|_| baseline.key() == self.key),
        }
    }

    fn add_to_rollups(&mut self, rows: &[Accumulator], time: &WindowTime) {
        let capacity = self.config.subjects_max * ROWS_FACTOR;
        for &scale in &self.config.rollups {
            let start = time.epoch.0 - time.epoch.0 % scale.epochs();
            let at = self.rollups.iter().position(|rollup| rollup.time.scale == scale);
            let at = at.unwrap_or_else(|| {
                let time = WindowTime { scale, epoch: Epoch(start), parts: 0, ..time.clone() };
                let time = WindowTime { suspended_ns: 0, unattributed: Loss::default(), ..time };
                let time = WindowTime { shed: false, ..time };
                self.rollups.push(Rollup { time, epochs: 0, rows: HashMap::new() });
                self.rollups.len() - 1
            });
            self.rollups[at].add(rows, time, capacity, self.key);
        }
    }

    /// Emits the roll-ups whose last epoch lies before `epoch`.
    fn flush_rollups_before(&mut self, epoch: u32, baseline: &Baseline, windows: &mut Vec<Window>) {
        let (done, running) = std::mem::take(&mut self.rollups).into_iter().partition(|rollup| {
            u64::from(rollup.time.epoch.0) + u64::from(rollup.time.scale.epochs())
                <= u64::from(epoch)
        });
        self.rollups = running;
        for rollup in done {
            let rollup: Rollup = rollup;
            self.emit(rollup.rows.into_values().collect(), &rollup.time, baseline, windows);
        }
    }
}

impl Rollup {
    fn add(&mut self, rows: &[Accumulator], time: &WindowTime, capacity: usize, key: ItemKey) {
        self.epochs += 1;
        self.time.parts += time.parts;
        self.time.end_boot_ns = time.end_boot_ns;
        self.time.realtime_offset_ns = time.realtime_offset_ns;
        self.time.suspended_ns += time.suspended_ns;
        self.time.unattributed.add(time.unattributed);
        self.time.shed |= time.shed;
        for row in rows {
            if let Some(sum) = self.rows.get_mut(&row.subject) {
                sum.merge(row);
                continue;
            }
            let mut subject = row.subject.clone();
            if self.rows.len() >= capacity && !subject.is_host() {
                subject = Arc::new(Subject::other(subject.workload.clone()));
            }
            let sum =
                self.rows.entry(subject.clone()).or_insert_with(|| Accumulator::new(subject, key));
            sum.merge(row);
        }
    }
}

fn new_part(config: &Config, key: ItemKey) -> Part {
    Part::new(config.subjects_max * ROWS_FACTOR, key)
}

fn open_part<'a>(
    open: &'a mut BTreeMap<u32, Part>,
    epoch: u32,
    config: &Config,
    key: ItemKey,
) -> &'a mut Part {
    open.entry(epoch).or_insert_with(|| new_part(config, key))
}
