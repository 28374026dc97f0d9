//! Ranges in the making: what is kept of the windows of *fill* until it ends.

use std::{collections::BTreeMap, sync::OnceLock};

use hedgerow_event::Workload;
use hedgerow_features::Window;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::{GROUPS_MAX, Group, Range, Reference, SAMPLE_MAX, compared};
use crate::sequence::Sequences;

/// Ranges in the making.
#[derive(Debug)]
pub struct ReferenceBuilder {
    subjects: BTreeMap<String, Sample>,
    workloads: BTreeMap<Workload, Sample>,
    host: Sample,
    seed: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// Each group draws for itself, so that no other one decides what is kept of it.
    pub(super) rng: SmallRng,
    pub(super) windows: u32,
    pub(super) smallest: Vec<f32>,
    pub(super) largest: Vec<f32>,
    pub(super) rows: Vec<Box<[f32]>>,
    pub(super) sequences: Sequences,
}

impl ReferenceBuilder {
    pub fn new(seed: u64) -> Self {
        Self {
            subjects: BTreeMap::new(),
            workloads: BTreeMap::new(),
            host: Sample::new(seed),
            seed,
        }
    }

    /// Adds the closed windows of an epoch of *fill*. Their values say in which order, and not how
    /// their subjects are called: a host whose names were replaced teaches the same.
    pub fn add(&mut self, windows: &[&Window]) {
        let row = |window: &Window| compared(&window.values);
        let mut rows: Vec<_> = windows.iter().map(|window| (row(window), *window)).collect();
        rows.sort_by(|(a, _), (b, _)| {
            a.iter().map(|x| x.to_bits()).cmp(b.iter().map(|x| x.to_bits()))
        });
        for (row, window) in rows {
            self.add_row(&row, window);
        }
    }

    fn add_row(&mut self, row: &[f32], window: &Window) {
        let made = || Sample::new(self.seed);
        let name = window.subject.to_string();
        if self.subjects.contains_key(&name) || self.subjects.len() < GROUPS_MAX {
            self.subjects.entry(name).or_insert_with(made).add(row, window);
        }
        // The host's own row has columns that no process has.
        if window.subject.is_host() {
            return;
        }
        let workload = &window.subject.workload;
        if self.workloads.contains_key(workload) || self.workloads.len() < GROUPS_MAX {
            self.workloads.entry(workload.clone()).or_insert_with(made).add(row, window);
        }
        self.host.add(row, window);
    }

    pub fn freeze(self) -> Reference {
        Reference {
            subjects: self
                .subjects
                .into_iter()
                .map(|(name, sample)| (name, sample.freeze()))
                .collect(),
            workloads: self
                .workloads
                .into_iter()
                .map(|(workload, sample)| (workload, sample.freeze()))
                .collect(),
            host: self.host.freeze(),
        }
    }
}

impl Sample {
    pub(super) fn new(seed: u64) -> Self {
        let rng = SmallRng::seed_from_u64(seed);
        Self {
            rng,
            windows: 0,
            smallest: Vec::new(),
            largest: Vec::new(),
            rows: Vec::new(),
            sequences: Sequences::default(),
        }
    }

    fn add(&mut self, row: &[f32], window: &Window) {
        self.sequences.add(window);
        if self.windows == 0 {
            self.smallest = row.to_vec();
            self.largest = row.to_vec();
        }
        for ((smallest, largest), value) in self.smallest.iter_mut().zip(&mut self.largest).zip(row)
        {
            // `min` and `max` pass over NaN.
            *smallest = smallest.min(*value);
            *largest = largest.max(*value);
        }
        self.windows += 1;
        if self.rows.len() < SAMPLE_MAX {
            self.rows.push(row.into());
        } else {
            let at = self.rng.gen_range(0..self.windows as usize);
            if let Some(place) = self.rows.get_mut(at) {
                *place = row.into();
            }
        }
    }

    pub(super) fn freeze(self) -> Group {
        let ranges = (0..self.smallest.len()).map(|column| {
            let mut values: Vec<f32> =
                self.rows.iter().map(|row| row[column]).filter(|value| !value.is_nan()).collect();
            values.sort_by(f32::total_cmp);
            let quantile = |values: &[f32], share: f32| {
                values[((values.len() - 1) as f32 * share).round() as usize]
            };
            if values.is_empty() {
                return None;
            }
            let median = quantile(&values, 0.5);
            let mut distances: Vec<f32> =
                values.iter().map(|value| (value - median).abs()).collect();
            distances.sort_by(f32::total_cmp);
            Some(Range {
                smallest: self.smallest[column],
                largest: self.largest[column],
                low: quantile(&values, 0.01),
                high: quantile(&values, 0.99),
                median,
                deviation: 1.4826 * quantile(&distances, 0.5),
            })
        });
        let (windows, ranges) = (self.windows, ranges.collect());
        Group { windows, ranges, sequences: self.sequences, near: OnceLock::new() }
    }
}
