//! What is usual: each column's range for a subject, its workload and the host, learned from the
//! windows of *fill*; and how far a window lies from it.
//!
//! A forest over raw columns of all programs together would learn which program a window belongs
//! to. It reads deviations instead: for each family of columns how far the window lies from the
//! subject's usual values (`spread`), and how far beyond everything seen (`excess`). Ranges are
//! frozen before *fit*, so that the forest's and the calibration's rows are out of sample.

mod building;
mod joined;

use std::{
    collections::BTreeMap,
    sync::{LazyLock, OnceLock},
};

use hedgerow_event::{Direction, Family, Subject, Workload};
use hedgerow_features::{COLUMNS, Kind, Window};
use serde::{Deserialize, Serialize};

pub use self::{building::ReferenceBuilder, joined::Usual};
use super::sequence::{Sequence, Sequences};

/// Families in the order of the deviation row's columns.
pub const FAMILIES: [Family; 10] = [
    Family::Volume,
    Family::Errors,
    Family::Classes,
    Family::Shape,
    Family::Order,
    Family::Processes,
    Family::Files,
    Family::Flows,
    Family::Novelty,
    Family::Host,
];
/// How rows were merged for want of calls is our own doing.
const BOOKKEEPING: &str = "host_merged_count";
/// A spread and an excess for each family.
pub const DEVIATIONS: usize = 2 * FAMILIES.len();
/// Windows that a group's median and deviation are estimated from, sampled uniformly; smallest and
/// largest values are exact.
pub const SAMPLE_MAX: usize = 64;
/// A group with fewer windows is judged by its workload, then by the host.
const WINDOWS_LEAST: u32 = 8;
/// Groups with ranges of their own; a subject past them is judged by its workload.
pub const GROUPS_MAX: usize = 1024;
/// What one unit of deviation is at least: counts are compared as ln(1 + n), so that .35 is about
/// 40 %, and that of a few is as large as chance makes it; measures are mostly shares.
const COUNT_UNIT: f32 = 0.35;
const MEASURE_UNIT: f32 = 0.1;
/// How regular a handful of calls is, is mostly chance.
const REGULARITY: &str = "flows_beacon_share";
const REGULARITY_UNIT: f32 = 0.5;

/// Names of the columns of a deviation row, as the forest reads it.
pub fn deviation_columns() -> Vec<String> {
    let of = |family: &Family| ["spread", "excess"].map(|what| format!("{family}_{what}"));
    FAMILIES.iter().flat_map(of).collect()
}

/// A column's usual values, as compared (see [`transformed`]).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Range {
    pub smallest: f32,
    pub largest: f32,
    pub low: f32,
    pub high: f32,
    pub median: f32,
    /// Median absolute deviation, scaled to a standard deviation.
    pub deviation: f32,
}

/// Ranges of one group; `None` where a column was never available.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Group {
    windows: u32,
    ranges: Vec<Option<Range>>,
    /// Empty in what was saved without it: judged without it.
    #[serde(default)]
    sequences: Sequences,
    /// Worked out when it is first needed.
    #[serde(skip)]
    near: OnceLock<Near>,
}

/// What most windows need of their group's ranges, close together: what a program never does it mostly
/// doesn't do in this window either, so that few columns have something to be held beside.
#[derive(Debug, Clone)]
struct Near {
    /// A bit for each column in which nothing is neither far from what is usual nor beyond all that was
    /// seen.
    idle: Vec<u64>,
    /// By column, where the others' limits are.
    places: Vec<u16>,
    limits: Vec<Limits>,
}

/// A range with its units.
#[derive(Debug, Clone, Copy)]
struct Limits {
    smallest: f32,
    largest: f32,
    median: f32,
    /// What a distance from the median is counted in, and one beyond everything seen.
    unit: f32,
    unit_beyond: f32,
}

/// Frozen ranges.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reference {
    subjects: BTreeMap<String, Group>,
    workloads: BTreeMap<Workload, Group>,
    host: Group,
}

/// A window beside what is usual for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Deviation {
    /// (spread, excess) of each family of [`FAMILIES`], in units; NaN where unavailable.
    pub row: [f32; DEVIATIONS],
    /// The column behind each of them, as an index into [`COLUMNS`], of which there are 256 at most.
    pub column: [Option<u8>; DEVIATIONS],
}

/// What a column's value looks like beside its range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beside {
    pub low: Option<f64>,
    pub high: Option<f64>,
    pub direction: Direction,
}

/// Counts are compared as ln(1 + n), measures as they are.
fn transformed(value: f64, kind: Kind) -> f32 {
    match kind {
        // What most columns are.
        _ if value == 0.0 => 0.0,
        Kind::Count => value.ln_1p() as f32,
        Kind::Measure => value as f32,
    }
}

/// A window's values as they are compared.
fn compared(values: &[f64]) -> Box<[f32]> {
    let values = values.iter().enumerate();
    values.map(|(column, value)| transformed(*value, kind_of(column))).collect()
}

fn untransformed(value: f32, kind: Kind) -> f64 {
    match kind {
        Kind::Count => f64::from(value).exp_m1().round(),
        Kind::Measure => f64::from(value),
    }
}

/// How a column is compared: a rate as the count that it is made of.
fn kind_of(column: usize) -> Kind {
    if COLUMNS[column].name.ends_with("_rate") { Kind::Count } else { COLUMNS[column].kind }
}

/// A column, how it is compared, and the unit of a measure.
type Compared = (usize, Kind, f32);

/// The columns of each family of [`FAMILIES`].
static COLUMNS_OF: LazyLock<Vec<Vec<Compared>>> = LazyLock::new(|| {
    let of = |family: &Family| {
        let columns = COLUMNS.iter().enumerate();
        let own =
            columns.filter(|(_, column)| column.family == *family && *column.name != *BOOKKEEPING);
        own.map(|(index, column)| {
            let is_chance = *column.name == *REGULARITY;
            (index, kind_of(index), if is_chance { REGULARITY_UNIT } else { MEASURE_UNIT })
        })
        .collect()
    };
    FAMILIES.iter().map(of).collect()
});

/// Columns, beside those of flows and of the host, that tell of what a program does to others: what is
/// changed or started. All else (what it reads, maps, waits for, in which order) it does to itself.
const OF_OTHERS: [&str; 18] = [
    "volume_processes_count",
    "processes_children_count",
    "processes_child_programs_count",
    "processes_forks_count",
    "processes_memory_execs_count",
    "processes_writable_execs_count",
    "processes_replaced_execs_count",
    "processes_privileges_count",
    "processes_clones_count",
    "processes_kills_count",
    "processes_power_count",
    "processes_code_count",
    "errors_denied_count",
    "files_writes_count",
    "files_sensitive_count",
    "files_renames_count",
    "files_unlinks_count",
    "files_changes_count",
];

fn acts_on_others(column: usize) -> bool {
    let column = &COLUMNS[column];
    matches!(column.family, Family::Flows | Family::Host) || OF_OTHERS.contains(&&*column.name)
}

/// Those of [`COLUMNS_OF`] that act on others.
static OUTWARD: LazyLock<Vec<Vec<Compared>>> = LazyLock::new(|| {
    let outward = |columns: &Vec<Compared>| {
        columns.iter().filter(|(index, ..)| acts_on_others(*index)).copied().collect()
    };
    COLUMNS_OF.iter().map(outward).collect()
});

/// `usual` is the count that is deviated from, as compared: that of n events has a standard
/// deviation of sqrt(n), which is 1 / sqrt(1 + n) as compared.
fn unit((kind, measure): (Kind, f32), usual: f32) -> f32 {
    match kind {
        Kind::Count => COUNT_UNIT + (-usual / 2.0).exp(),
        Kind::Measure => measure,
    }
}

impl Group {
    fn near(&self) -> &Near {
        self.near.get_or_init(|| Near::of(self))
    }
}

impl Near {
    fn of(group: &Group) -> Self {
        let columns = COLUMNS.len();
        let (idle, places) = (vec![!0; columns.div_ceil(64)], vec![0; columns]);
        let mut near = Self { idle, places, limits: Vec::new() };
        for &(column, kind, unit) in COLUMNS_OF.iter().flatten() {
            let Some(range) = range(group, column).filter(|range| range.median != 0.0) else {
                continue;
            };
            near.idle[column / 64] &= !(1 << (column % 64));
            near.places[column] = near.limits.len() as u16;
            near.limits.push(Limits::of(range, (kind, unit)));
        }
        near
    }

    fn is_idle(&self, column: usize) -> bool {
        self.idle[column / 64] >> (column % 64) & 1 == 1
    }
}

impl Limits {
    fn of(range: Range, compared: (Kind, f32)) -> Self {
        let Range { smallest, largest, median, deviation, .. } = range;
        let (usual, unit_beyond) = (unit(compared, median), unit(compared, largest));
        Self { smallest, largest, median, unit: deviation + usual, unit_beyond }
    }

    /// (distance from the median, distance beyond everything seen), in units. Where `less` than usual
    /// counts, it is told by the spread; counts below their smallest value are no excess.
    fn beside(&self, value: f32, kind: Kind, less: bool) -> (f32, f32) {
        let above = value - self.median;
        let distance = if less { above.abs() } else { above.max(0.0) };
        let excess = match kind {
            Kind::Measure if less => (value - self.largest).max(self.smallest - value),
            _ => value - self.largest,
        };
        // Most columns are as they always are.
        let distance = if distance > 0.0 { distance / self.unit } else { distance };
        (distance, if excess > 0.0 { excess / self.unit_beyond } else { 0.0 })
    }
}

impl Reference {
    /// The first version of the model file holds rates as they are.
    pub fn compare_rates_as_counts(&mut self) {
        let groups = self.subjects.values_mut().chain(self.workloads.values_mut());
        for group in groups.chain([&mut self.host]) {
            group.near = OnceLock::new();
            for (column, range) in group.ranges.iter_mut().enumerate() {
                let Some(range) = range else { continue };
                if kind_of(column) == COLUMNS[column].kind {
                    continue;
                }
                range.deviation /= 1.0 + range.median;
                let Range { smallest, largest, low, high, median, .. } = range;
                for value in [smallest, largest, low, high, median] {
                    *value = value.ln_1p();
                }
            }
        }
    }

    /// Adds a window of *fit* to what is usual of sequences in each group that it belongs to.
    pub fn add_usual(&mut self, window: &Window) {
        let own = self.subjects.get_mut(&window.subject.text());
        own.into_iter().for_each(|group| group.sequences.add_usual(window));
        if window.subject.is_host() {
            return;
        }
        let workload = self.workloads.get_mut(&window.subject.workload);
        workload.into_iter().for_each(|group| group.sequences.add_usual(window));
        self.host.sequences.add_usual(window);
    }

    /// False for what was saved without sequences.
    pub fn knows_sequences(&self) -> bool {
        !self.host.sequences.is_empty()
    }

    /// The narrowest group with enough windows to judge a subject by, which is looked up by its text, and
    /// whether it is the subject's own.
    fn group(&self, subject: &Subject, text: &str) -> (&Group, bool) {
        let enough = |group: &&Group| group.windows >= WINDOWS_LEAST;
        if let Some(own) = self.subjects.get(text).filter(enough) {
            return (own, true);
        }
        let workload = self.workloads.get(&subject.workload).filter(enough);
        (workload.unwrap_or(&self.host), false)
    }

    /// How far a window lies from what is usual for its subject. A column that was never available
    /// during fill (order, novelty) is usually 0.
    pub fn deviation(&self, window: &Window) -> Deviation {
        self.compare(window, &window.subject.text()).0
    }

    /// The same, with its calls beside what is usual of them; `None` where nothing is. `text` is the
    /// subject's.
    pub fn compare(&self, window: &Window, text: &str) -> (Deviation, Option<Sequence>) {
        let group = self.group(&window.subject, text);
        (deviation_by(group, window, &COLUMNS_OF), group.0.sequences.of(window))
    }

    /// The deviation by what it does to others: in all else it is as usual.
    pub fn outward(&self, window: &Window) -> Deviation {
        deviation_by(self.group(&window.subject, &window.subject.text()), window, &OUTWARD)
    }

    /// A column's usual value of a subject with ranges of its own; of another nothing is usual.
    pub fn usual(&self, subject: &Subject, column: usize) -> Option<f64> {
        let (group, own) = self.group(subject, &subject.text());
        let range = range(group, column).filter(|_| own)?;
        Some(untransformed(range.median, kind_of(column)))
    }

    /// Where a column's value lies in the usual range of a subject.
    pub fn beside(&self, subject: &Subject, column: usize, value: f64) -> Beside {
        let kind = kind_of(column);
        let Some(range) = range(self.group(subject, &subject.text()).0, column) else {
            return Beside { low: None, high: None, direction: Direction::Above };
        };
        let (low, high) = (untransformed(range.low, kind), untransformed(range.high, kind));
        let direction = if value > high {
            Direction::Above
        } else if value < low {
            Direction::Below
        } else {
            Direction::Within
        };
        Beside { low: Some(low), high: Some(high), direction }
    }
}

fn range(group: &Group, column: usize) -> Option<Range> {
    group.ranges.get(column).copied().flatten()
}

/// A window beside a group's ranges, and whether they are its subject's own.
fn deviation_by(
    (group, own): (&Group, bool),
    window: &Window,
    columns_of: &[Vec<Compared>],
) -> Deviation {
    let near = group.near();
    let mut deviation = Deviation { row: [f32::NAN; DEVIATIONS], column: [None; DEVIATIONS] };
    for (at, columns) in columns_of.iter().enumerate() {
        let mut sum = 0.0f32;
        let mut count = 0u32;
        let mut farthest = (0.0f32, None);
        let mut beyond = (0.0f32, None);
        for &(index, kind, unit) in columns {
            let value = window.values[index];
            if value.is_nan() {
                continue;
            }
            count += 1;
            let is_idle = near.is_idle(index);
            if value == 0.0 && is_idle {
                continue;
            }
            let value = transformed(value, kind);
            // That a program does less than its whole workload, or has done less before its
            // window has closed, says nothing.
            let less = own && (window.early.is_none() || kind == Kind::Measure);
            let (distance, excess) = if !is_idle {
                near.limits[usize::from(near.places[index])].beside(value, kind, less)
            } else if let Some(range) = range(group, index) {
                Limits::of(range, (kind, unit)).beside(value, kind, less)
            } else {
                never((kind, unit), value)
            };
            sum += distance * distance;
            if distance > farthest.0 {
                farthest = (distance, Some(index as u8));
            }
            if excess > beyond.0 {
                beyond = (excess, Some(index as u8));
            }
        }
        if count > 0 {
            deviation.row[2 * at] = compressed((sum / count as f32).sqrt());
            deviation.row[2 * at + 1] = compressed(beyond.0);
            deviation.column[2 * at] = farthest.1;
            deviation.column[2 * at + 1] = beyond.1.or(farthest.1);
        }
    }
    deviation
}

/// ln(1 + x) of a distance; most are 0.
fn compressed(distance: f32) -> f32 {
    if distance == 0.0 { 0.0 } else { distance.ln_1p() }
}

/// Distances of a column that was never available.
fn never(compared: (Kind, f32), value: f32) -> (f32, f32) {
    let unit = unit(compared, 0.0);
    (value.abs() / unit, value.max(0.0) / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_has_room_in_a_deviation() {
        assert!(COLUMNS.len() <= 1 + usize::from(u8::MAX), "{}", COLUMNS.len());
    }

    /// One that was given another name would no longer count, and nobody would notice.
    #[test]
    fn columns_that_act_on_others_exist() {
        for name in OF_OTHERS {
            assert!(COLUMNS.iter().any(|column| *column.name == *name), "{name}");
        }
    }
}
