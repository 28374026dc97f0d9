//! Ranges of several runs as one: smallest and largest values, windows and sums of sequences add up,
//! habits are collected, medians are of sampled windows.

use std::{collections::BTreeMap, sync::Arc};

use hedgerow_event::{Subject, Workload};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{Group, Reference, building::Sample, compared};
use crate::{
    parts,
    sequence::{self, Mix, Sequences},
};

/// Habits of all runs that are kept of a group; past them a sample that hangs on what they are alone.
const MIXES_MAX: usize = 1024;

/// What one group is known by, without sampled windows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Usual {
    windows: u32,
    /// Of each column; infinite where it was never available.
    smallest: Vec<f32>,
    largest: Vec<f32>,
    mixes: BTreeMap<u64, ByteBuf>,
    sequences: sequence::Usual,
}

impl Usual {
    fn of(group: &Group) -> Self {
        let side = |of: fn(&super::Range) -> f32, none: f32| {
            group.ranges.iter().map(|range| range.as_ref().map_or(none, of)).collect()
        };
        let mut usual = Self {
            windows: group.windows,
            smallest: side(|range| range.smallest, f32::INFINITY),
            largest: side(|range| range.largest, f32::NEG_INFINITY),
            mixes: BTreeMap::new(),
            sequences: group.sequences.usual().clone(),
        };
        usual.mixes.extend(
            group
                .sequences
                .mixes()
                .into_iter()
                .map(|mix| (parts::draw_of(&mix), ByteBuf::from(mix.to_vec()))),
        );
        usual
    }

    /// Adds what another run knows of the group.
    pub fn absorb(&mut self, other: Self) {
        self.windows = self.windows.saturating_add(other.windows);
        let columns = self.smallest.len().max(other.smallest.len());
        self.smallest.resize(columns, f32::INFINITY);
        self.largest.resize(columns, f32::NEG_INFINITY);
        self.smallest.iter_mut().zip(&other.smallest).for_each(|(a, b)| *a = a.min(*b));
        self.largest.iter_mut().zip(&other.largest).for_each(|(a, b)| *a = a.max(*b));
        self.mixes.extend(other.mixes);
        parts::keep(&mut self.mixes, MIXES_MAX);
        self.sequences.absorb(&other.sequences);
    }

    /// The group's ranges, by sampled windows of it.
    fn group<'a>(&self, windows: impl Iterator<Item = &'a [f64]>) -> Group {
        let mixes: Vec<Mix> =
            self.mixes.values().filter_map(|mix| mix.as_slice().try_into().ok()).collect();
        let sequences = Sequences::of_mixes(mixes.iter(), self.sequences.clone());
        let sample = Sample {
            windows: self.windows,
            smallest: self.smallest.clone(),
            largest: self.largest.clone(),
            rows: windows.map(compared).collect(),
            sequences,
            ..Sample::new(0)
        };
        let mut group = sample.freeze();
        // A column that no sampled window has, or that has no smallest value, has no range.
        for range in &mut group.ranges {
            *range = range.filter(|range| range.smallest <= range.largest);
        }
        group
    }
}

impl Reference {
    /// What is known of a subject, a workload, or all of them.
    pub fn usual_of(&self, subject: &Subject) -> Option<Usual> {
        self.subjects.get(&subject.text()).map(Usual::of)
    }

    pub fn usual_of_workloads(&self) -> impl Iterator<Item = (&Workload, Usual)> {
        self.workloads.iter().map(|(workload, group)| (workload, Usual::of(group)))
    }

    pub fn usual_of_host(&self) -> Usual {
        Usual::of(&self.host)
    }

    /// Ranges of groups, each with its sampled windows.
    pub fn joined<'a>(
        subjects: impl Iterator<Item = (&'a Arc<Subject>, &'a Usual, Vec<&'a [f64]>)>,
        workloads: impl Iterator<Item = (&'a Workload, &'a Usual, Vec<&'a [f64]>)>,
        host: (&Usual, Vec<&'a [f64]>),
    ) -> Self {
        Self {
            subjects: subjects
                .map(|(subject, usual, windows)| (subject.text(), usual.group(windows.into_iter())))
                .collect(),
            workloads: workloads
                .map(|(name, usual, windows)| (name.clone(), usual.group(windows.into_iter())))
                .collect(),
            host: host.0.group(host.1.into_iter()),
        }
    }
}
