//! One window length: ranges, detector and held-back values, learned in time order.

use std::collections::BTreeMap;

use hedgerow_event::{Family, Object, Subject};
use hedgerow_features::{COLUMNS, Kind, Window};
use hedgerow_model::reservoir::SlidingReservoir;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde::{Deserialize, Serialize};

use crate::{
    detector::{Detector, FIT_ROWS_LEAST, FIT_ROWS_MAX, Scored, measured, rows},
    parts,
    reference::{DEVIATIONS, Deviation, Reference, ReferenceBuilder},
    surprise::tails::Tails,
};

/// Windows that a subject must have had for its own largest counts to be compared with.
const COUNT_WINDOWS_LEAST: u32 = 8;
/// Rows kept to learn on from, those on which they look back, and those from which on a forest learns.
const RECENT_ROWS: usize = 4_096;
const RECENT_HORIZON: u64 = 200_000;
const RECENT_LEAST: usize = 1_024;
/// Subjects and workloads with largest counts of their own.
const GROUPS_MAX: usize = 2048;
/// Counts compared are at least this large: a handful of rare events is no burst, a few
/// kilobytes are no exfiltration.
const COUNT_LEAST: f64 = 100.0;
const BYTES_LEAST: f64 = 1e6;
/// Windows that are no more surprising than this concern nobody.
const NATS_LEAST: f64 = 2.0;
/// A count is named where it is so many times its largest.
const OUTSTANDING: f64 = 10.0;

/// What is learned for one window length.
#[derive(Debug)]
pub enum Learning {
    Fill(ReferenceBuilder),
    Fit { reference: Reference, rows: Vec<Deviation>, seen: usize, rng: SmallRng },
}

/// What was learned for one window length.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Learned {
    pub reference: Reference,
    pub detector: Detector,
    pub counts: Counts,
    /// Of the amounts.
    #[serde(default)]
    pub tails: Tails,
    /// Of the measure, which has order and mix of calls in it; empty in what was saved without it.
    #[serde(default)]
    pub sequences: Tails,
    /// Rows of windows that nobody suspected lately.
    #[serde(default)]
    pub recent: Option<SlidingReservoir>,
}

/// Largest values of every count column in any learned window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    groups: BTreeMap<String, (u32, Vec<f64>)>,
    all: Vec<f64>,
}

impl Learning {
    pub fn new(seed: u64) -> Self {
        Self::Fill(ReferenceBuilder::new(seed))
    }

    /// Adds the closed windows of an epoch of the phase that runs, in an order that their names
    /// don't decide.
    pub fn add(&mut self, windows: &[&Window]) {
        match self {
            Self::Fill(builder) => builder.add(windows),
            Self::Fit { reference, rows, seen, rng } => {
                let mut deviations: Vec<Deviation> =
                    windows.iter().map(|window| reference.deviation(window)).collect();
                windows.iter().for_each(|window| reference.add_usual(window));
                deviations.sort_by_key(|deviation| deviation.row.map(f32::to_bits));
                for deviation in deviations {
                    *seen += 1;
                    if rows.len() < FIT_ROWS_MAX {
                        rows.push(deviation);
                    } else if let Some(place) = rows.get_mut(rng.gen_range(0..*seen)) {
                        *place = deviation;
                    }
                }
            }
        }
    }

    /// The ranges, finished where they are in the making.
    pub fn into_reference(self) -> Reference {
        match self {
            Self::Fill(builder) => builder.freeze(),
            Self::Fit { reference, .. } => reference,
        }
    }

    /// Windows of *fit* so far.
    pub fn rows(&self) -> usize {
        match self {
            Self::Fill(_) => 0,
            Self::Fit { rows, .. } => rows.len(),
        }
    }

    /// Freezes the ranges: *fit* begins.
    pub fn end_fill(self, seed: u64) -> Self {
        match self {
            Self::Fill(builder) => Self::Fit {
                reference: builder.freeze(),
                rows: Vec::new(),
                seen: 0,
                rng: SmallRng::seed_from_u64(seed),
            },
            fit @ Self::Fit { .. } => fit,
        }
    }

    /// Fits the detector; `None` where there are too few rows to: the scale stays silent.
    pub fn end_fit(self, seed: u64, counts: Counts) -> crate::Result<Option<Learned>> {
        let Self::Fit { reference, rows: deviations, .. } = self else { return Ok(None) };
        if deviations.len() < FIT_ROWS_LEAST {
            return Ok(None);
        }
        let detector = Detector::fit(&rows(deviations.iter()), seed)?;
        let (tails, sequences) = Default::default();
        Ok(Some(Learned { reference, detector, counts, tails, sequences, recent: None }))
    }
}

impl Counts {
    /// Adds what another run had; past the limit groups of least hash stay.
    pub fn absorb(&mut self, other: Self, hash: impl Fn(&str) -> u64) {
        for (name, (windows, largest)) in other.groups {
            let own = self.groups.entry(name).or_default();
            own.0 = own.0.saturating_add(windows);
            raise(&mut own.1, &largest);
        }
        parts::keep_least(&mut self.groups, GROUPS_MAX, |name| hash(name));
        raise(&mut self.all, &other.all);
    }

    pub fn add(&mut self, window: &Window) {
        for name in [window.subject.to_string(), window.subject.workload.to_string()] {
            if !self.groups.contains_key(&name) && self.groups.len() >= GROUPS_MAX {
                continue;
            }
            let (windows, largest) = self.groups.entry(name).or_default();
            *windows += 1;
            raise(largest, &window.values);
        }
        raise(&mut self.all, &window.values);
    }

    fn of(&self, subject: &Subject) -> &[f64] {
        let enough = |group: &&(u32, Vec<f64>)| group.0 >= COUNT_WINDOWS_LEAST;
        let own = self.groups.get(&subject.to_string()).filter(enough);
        let group = own.or_else(|| self.groups.get(subject.workload.as_str()).filter(enough));
        group.map_or(&self.all, |(_, largest)| largest)
    }

    /// The counts of a window that stand out beside the largest learned value, the largest ratio
    /// first.
    pub fn outstanding(&self, window: &Window) -> Vec<Object> {
        let largest = self.of(&window.subject);
        let mut found: Vec<(f64, Object)> = Vec::new();
        for (at, column) in COLUMNS.iter().enumerate() {
            let value = window.values[at];
            // What was never seen is a deed, and unseen n-grams are weak evidence.
            let counted = column.kind == Kind::Count
                && !matches!(column.family, Family::Novelty | Family::Order);
            let least = if column.name.ends_with("_bytes") { BYTES_LEAST } else { COUNT_LEAST };
            if !counted || value.is_nan() || value < least {
                continue;
            }
            let before = largest.get(at).copied().unwrap_or(0.0);
            let ratio = value / before.max(1.0);
            if ratio > OUTSTANDING {
                let object = Object::Count {
                    subject: window.subject.clone(),
                    column: column.name.as_ref().into(),
                    value: value as u64,
                    largest: before as u64,
                };
                found.push((ratio, object));
            }
        }
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        found.into_iter().map(|(_, object)| object).collect()
    }
}

fn raise(largest: &mut Vec<f64>, values: &[f64]) {
    largest.resize(values.len().max(largest.len()), 0.0);
    for (largest, value) in largest.iter_mut().zip(values) {
        // `max` passes over NaN.
        *largest = largest.max(*value);
    }
}

impl Learned {
    /// Keeps a row to learn on from.
    pub fn keep(&mut self, scored: &Scored, seed: u64) {
        if self.recent.is_none() {
            let made = SlidingReservoir::new(RECENT_ROWS, DEVIATIONS, RECENT_HORIZON, seed);
            self.recent = made.ok();
        }
        if let Some(recent) = &mut self.recent {
            // It has as many columns as the reservoir.
            drop(recent.push(&measured(&scored.deviation)));
        }
    }

    /// Has the forest learn from what was kept; true where it did.
    pub fn learn_on(&mut self, seed: u64) -> crate::Result<bool> {
        let Some(recent) = self.recent.as_ref().filter(|kept| kept.len() >= RECENT_LEAST) else {
            return Ok(false);
        };
        self.detector.learn_on(recent.rows(), seed)
    }

    /// Holds back a window, which is `above` the floor or not.
    pub fn hold_back(&mut self, window: &Window, scored: &Scored, above: bool) {
        let epoch = window.time.epoch.0;
        let who = (&*window.subject, &*scored.text);
        self.tails.hold_back(who, scored.amounts, epoch, above);
        if self.reference.knows_sequences() {
            self.sequences.hold_back(who, scored.measure, epoch, above);
        }
    }

    /// Forgets what was held back.
    pub fn forget_held_back(&mut self) {
        (self.tails, self.sequences) = Default::default();
    }

    /// How surprising a scored window is, in nats, by its amounts or with the sequences of its
    /// calls, whichever is more; `None` while nothing was held back. A
    /// program that reads, maps or orders its calls as never before does so to itself, as each does
    /// that loads its settings anew: it is as surprising as what it does to others is.
    pub fn surprise(&self, window: &Window, scored: &Scored) -> Option<f64> {
        let tail = self.tails.of(&window.subject, &scored.text)?;
        let sequence = self.sequences.of(&window.subject, &scored.text);
        let sequence = sequence.map_or(0.0, |tail| tail.surprise(scored.measure));
        let whole = tail.surprise(scored.amounts).max(sequence);
        if whole < NATS_LEAST {
            return Some(whole);
        }
        let outward = self.detector.outward(&self.reference, window);
        Some(whole.min(tail.surprise(outward).max(NATS_LEAST)))
    }
}
