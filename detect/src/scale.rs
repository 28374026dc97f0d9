//! One window length: ranges, detector and held-back values, learned in time order.

use std::collections::BTreeMap;

use crate::budget::CountEvidence;
use hedgerow_event::{Family, Object, Subject};
use hedgerow_features::{COLUMNS, Kind, Window};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde::{Deserialize, Serialize};

use super::{
    detector::{Detector, FIT_ROWS_LEAST, FIT_ROWS_MAX, Scored, excesses, rows},
    reference::{Deviation, Reference, ReferenceBuilder},
};

/// A group with fewer held-back windows than this is judged by all of them.
const GROUP_WINDOWS_LEAST: u64 = 5;
/// The kernel's own counters have one window an epoch and are like no program's: they are judged by
/// themselves from the shortest calibration on.
const KERNEL_WINDOWS_LEAST: u64 = 3;
/// Windows that a subject must have had for its own largest counts to be compared with.
const COUNT_WINDOWS_LEAST: u32 = 8;
/// Subjects and workloads with largest counts of their own.
const GROUPS_MAX: usize = 2048;
/// Counts compared are at least this large: a handful of rare events is no burst, a few
/// kilobytes are no exfiltration.
const COUNT_LEAST: f64 = 100.0;
const BYTES_LEAST: f64 = 1e6;

/// Families whose counts are deeds: a burst in one stands without the window's score. Classes of
/// calls, errors and volume tell how a program works, which a new task changes.
const WEIGHTY: [Family; 4] = [Family::Processes, Family::Files, Family::Flows, Family::Host];

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
    /// Largest excess of each family in a held-back window, in [`super::reference::FAMILIES`].
    pub excess_largest: Vec<f32>,
    pub counts: Counts,
}

/// Largest values of every count column in any learned window.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Counts {
    groups: BTreeMap<String, (u32, Vec<f64>)>,
    all: Vec<f64>,
}

impl Learning {
    pub fn new(seed: u64) -> Self {
        Self::Fill(ReferenceBuilder::new(seed))
    }

    /// Adds a closed window of the phase that runs.
    pub fn add(&mut self, window: &Window) {
        match self {
            Self::Fill(builder) => builder.add(window),
            Self::Fit { reference, rows, seen, rng } => {
                let deviation = reference.deviation(window);
                *seen += 1;
                if rows.len() < FIT_ROWS_MAX {
                    rows.push(deviation);
                } else if let Some(place) = rows.get_mut(rng.gen_range(0..*seen)) {
                    *place = deviation;
                }
            }
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
        let excess_largest = vec![0.0; super::reference::FAMILIES.len()];
        Ok(Some(Learned { reference, detector, excess_largest, counts }))
    }
}

impl Counts {
    pub fn add(&mut self, window: &Window) {
        for name in [window.subject.to_string(), window.subject.workload.to_string()] {
            if !self.groups.contains_key(&name) && self.groups.len() >= GROUPS_MAX {
                continue;
            }
            let (windows, largest) = self.groups.entry(name).or_default();
            *windows += 1;
            raise(largest, window);
        }
        raise(&mut self.all, window);
    }

    fn of(&self, subject: &Subject) -> &[f64] {
        let enough = |group: &&(u32, Vec<f64>)| group.0 >= COUNT_WINDOWS_LEAST;
        let own = self.groups.get(&subject.to_string()).filter(enough);
        let group = own.or_else(|| self.groups.get(subject.workload.as_str()).filter(enough));
        group.map_or(&self.all, |(_, largest)| largest)
    }

    /// The counts of a window that stand out, beside the largest learned value, weighty families
    /// first, then the largest ratio.
    /// `beyond` are the families that lie beyond every held-back window.
    pub fn outstanding(&self, window: &Window, beyond: &[Family]) -> Vec<(Object, CountEvidence)> {
        let largest = self.of(&window.subject);
        let mut found: Vec<(f64, Object, CountEvidence)> = Vec::new();
        for (at, column) in COLUMNS.iter().enumerate() {
            let value = window.values[at];
            // What was never seen has a rule of its own, and unseen n-grams are weak evidence: rare
            // benign work makes more of them than an attack.
            let counted = column.kind == Kind::Count
                && !matches!(column.family, Family::Novelty | Family::Order);
            let least = if column.name.ends_with("_bytes") { BYTES_LEAST } else { COUNT_LEAST };
            if !counted || value.is_nan() || value < least {
                continue;
            }
            let held_back_max = largest.get(at).copied().unwrap_or(0.0);
            let ratio = value / held_back_max.max(1.0);
            if ratio <= crate::budget::PROVISIONAL_COUNT_FACTOR {
                continue;
            }
            let object = Object::Count {
                subject: window.subject.clone(),
                column: column.name.as_ref().into(),
                value: value as u64,
                largest: held_back_max as u64,
            };
            let family_beyond = WEIGHTY.contains(&column.family) && beyond.contains(&column.family);
            found.push((ratio, object, CountEvidence { value, held_back_max, family_beyond }));
        }
        found.sort_by(|a, b| b.2.family_beyond.cmp(&a.2.family_beyond).then(b.0.total_cmp(&a.0)));
        found.into_iter().map(|(_, object, evidence)| (object, evidence)).collect()
    }
}

fn raise(largest: &mut Vec<f64>, window: &Window) {
    largest.resize(window.values.len(), 0.0);
    for (largest, value) in largest.iter_mut().zip(&window.values) {
        // `max` passes over NaN.
        *largest = largest.max(*value);
    }
}

/// Whose held-back windows judge a subject: its workload's; the kernel's own counters are judged by
/// themselves, not by the programs that run in no unit.
pub fn group(subject: &Subject) -> &str {
    if subject.is_host() { Subject::KERNEL } else { subject.workload.as_str() }
}

impl Learned {
    /// Holds back a scored window: nothing was fitted on it.
    pub fn hold_back(&mut self, window: &Window, scored: &Scored) {
        self.detector.calibration.join(Some(group(&window.subject)), scored.score);
        for (largest, (_, excess)) in
            self.excess_largest.iter_mut().zip(excesses(&scored.deviation))
        {
            *largest = largest.max(excess);
        }
    }

    /// The highest held-back score that judges a subject: of its workload where that was held back
    /// often enough, of all otherwise.
    pub fn held_back_max(&self, subject: &Subject) -> Option<f64> {
        let calibration = &self.detector.calibration;
        let group = Some(group(subject));
        let least = if subject.is_host() { KERNEL_WINDOWS_LEAST } else { GROUP_WINDOWS_LEAST };
        if calibration.group_rows(group) >= least {
            return calibration.maximum(group);
        }
        (calibration.rows() >= GROUP_WINDOWS_LEAST).then(|| calibration.maximum(None)).flatten()
    }

    /// Families in which a window lies beyond every held-back one.
    pub fn deviating(&self, deviation: &Deviation) -> Vec<Family> {
        excesses(deviation)
            .zip(&self.excess_largest)
            .filter(|((_, excess), largest)| !excess.is_nan() && excess > *largest)
            .map(|((family, _), _)| family)
            .collect()
    }
}
