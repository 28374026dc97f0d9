//! One row: what one subject did in one window, as columns.

use std::sync::Arc;

use hedgerow_event::{Epoch, Loss, Scale, Subject};

use crate::{
    accumulate::Accumulator,
    column::{Context, Sensors},
    columns::{self, column_index},
};

/// When a window was, and what of it could be watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowTime {
    pub scale: Scale,
    /// The first epoch of the window; a multiple of the scale's length.
    pub epoch: Epoch,
    /// Epochs of the window that were watched without a suspend.
    pub parts: u32,
    pub start_boot_ns: u64,
    pub end_boot_ns: u64,
    /// `CLOCK_REALTIME - CLOCK_BOOTTIME` at the end.
    pub realtime_offset_ns: i64,
    pub suspended_ns: u64,
    /// Records missing from the host as a whole, charged to no thread.
    pub unattributed: Loss,
    /// In a part of it something was not looked at to cost less. Not kept in files of windows: there the
    /// columns of calls are empty.
    pub shed: bool,
}

/// Suspends up to here leave a window's rates alone.
pub const SUSPEND_LIMIT_NS: u64 = 100_000_000;
/// Nominal length of an epoch.
pub const EPOCH_NS: u64 = 5_000_000_000;

impl WindowTime {
    /// Enough of the window was watched to compare it with others: 10 of 12 parts.
    pub fn is_valid(&self) -> bool {
        u64::from(self.parts) * 12 >= u64::from(self.scale.epochs()) * 10
    }

    /// Seconds that rates divide by; `None` with a suspend inside.
    pub fn seconds(&self) -> Option<f64> {
        let length_ns = self.end_boot_ns.saturating_sub(self.start_boot_ns);
        let watched_ns = length_ns.saturating_sub(self.suspended_ns);
        (self.suspended_ns <= SUSPEND_LIMIT_NS && watched_ns > 0).then(|| watched_ns as f64 / 1e9)
    }
}

/// A row of the windows' schema.
#[derive(Debug, Clone)]
pub struct Window {
    pub host: Arc<str>,
    pub subject: Arc<Subject>,
    pub time: WindowTime,
    /// Counts the early rows of a subject in an epoch from 0; `None` for the closed window.
    pub early: Option<u32>,
    /// A hard signal was seen: something the subject's workload has no room for.
    pub hard: bool,
    /// Distinct programs in the row: more than one where subjects were merged.
    pub programs: u64,
    /// Events counted in the row.
    pub records: u64,
    pub loss: Loss,
    /// One value a column, in the order of [`COLUMNS`](crate::COLUMNS); NaN is unavailable.
    pub values: Box<[f64]>,
}

impl Window {
    pub(crate) fn new(
        host: &Arc<str>,
        accumulator: &Accumulator,
        time: WindowTime,
        early: Option<u32>,
        context: &Context<'_>,
    ) -> Self {
        Self {
            host: host.clone(),
            subject: accumulator.subject.clone(),
            time,
            early,
            hard: accumulator.hard,
            programs: accumulator.programs.count() as u64,
            records: accumulator.records,
            loss: accumulator.loss,
            values: columns::values(accumulator, context),
        }
    }

    /// A column's value by name; `None` where it is unavailable or unknown.
    pub fn value(&self, column: &str) -> Option<f64> {
        let value = *self.values.get(column_index(column)?)?;
        (!value.is_nan()).then_some(value)
    }

    /// Nothing of the row is missing, neither its own nor what could be anybody's.
    pub fn is_complete(&self) -> bool {
        self.loss.is_complete() && self.time.unattributed.is_complete()
    }
}

impl PartialEq for Window {
    /// Equal column for column; unavailable equals unavailable.
    fn eq(&self, other: &Self) -> bool {
        let same = |a: &f64, b: &f64| a == b || a.is_nan() && b.is_nan();
        self.host == other.host
            && self.subject == other.subject
            && self.time == other.time
            && self.early == other.early
            && self.hard == other.hard
            && self.programs == other.programs
            && self.records == other.records
            && self.loss == other.loss
            && self.values.len() == other.values.len()
            && self.values.iter().zip(&other.values).all(|(a, b)| same(a, b))
    }
}

/// How windows are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The host's id, a key column.
    pub host: Arc<str>,
    /// Subjects a window keeps apart; the least active ones past it merge into `(other)`.
    pub subjects_max: usize,
    /// Below this many calls and records a subject merges into its workload's `(other)`.
    pub activity_min: u64,
    /// Longer windows to make beside the 5 s ones.
    pub rollups: Vec<Scale>,
    pub sensors: Sensors,
    /// Wall time less time since boot until the first epoch closes, which tells it anew.
    pub realtime_offset_ns: i64,
}

impl Config {
    /// 512 subjects, at least 16 calls or records, 5 s windows with a 1 min roll-up.
    pub fn new(host: impl Into<Arc<str>>) -> Self {
        Self {
            host: host.into(),
            subjects_max: 512,
            activity_min: 16,
            rollups: vec![Scale::Minute],
            sensors: Sensors::default(),
            realtime_offset_ns: 0,
        }
    }
}
