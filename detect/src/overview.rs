//! What was learned, for a person to look at.

use std::collections::BTreeMap;

use hedgerow_event::{CATALOGUE, DeedRow, Maturity, Scale, Workload};
use hedgerow_features::{Set, Window};
use serde::Serialize;

use crate::{Engine, deeds::objects, grams, surprise::rates::Context, valid};

/// Names of each kind that are listed of a workload.
const LISTED_MAX: usize = 50;

/// One program of a workload.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProgramOverview {
    pub program: String,
    pub state: Maturity,
    /// Windows in which it made calls while it was learned.
    pub windows: u64,
    pub calls: u64,
    pub six_grams: u64,
    /// 6-grams never seen that its next window brings, on average; `None` after too few windows.
    pub new_six_grams_per_window: Option<f64>,
}

/// One workload.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkloadOverview {
    pub workload: String,
    pub state: Maturity,
    pub programs: Vec<ProgramOverview>,
    /// Things that were first seen, by kind: how many, and the first of them.
    pub seen: BTreeMap<String, (usize, Vec<String>)>,
    /// Share of the things of its next unit of time that were never seen; `None` after too few.
    pub new_share: Option<f64>,
    pub unit_seconds: f64,
}

/// One kind of deed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeedOverview {
    pub deed: &'static str,
    pub class: &'static str,
    pub words: &'static str,
    /// Minutes in which somebody did it.
    pub minutes: f64,
    /// Who did it: workloads.
    pub workloads: usize,
    /// How surprising it is of a program that never did it, in nats.
    pub surprise: f64,
    /// Of the catalogue, on a host of which nothing is known.
    pub prior_per_day: f64,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overview {
    pub workloads: Vec<WorkloadOverview>,
    pub deeds: Vec<DeedOverview>,
    /// What learning saw and doesn't trust.
    pub distrusted: Vec<String>,
    pub distrusted_more: u64,
}

impl Engine {
    /// What was learned so far.
    pub fn overview(&self) -> Overview {
        let mut programs: BTreeMap<String, Vec<ProgramOverview>> = BTreeMap::new();
        for learned in self.profile.iter().flat_map(|profile| &profile.programs) {
            let subject = grams::subject(learned);
            let forecast = learned.six_grams.incidence().forecast();
            programs.entry(learned.workload.clone()).or_default().push(ProgramOverview {
                program: subject.program.to_string(),
                state: self.state_of(&subject),
                windows: learned.windows,
                calls: learned.calls,
                six_grams: learned.six_grams.known.ones(),
                new_six_grams_per_window: forecast.map(|forecast| forecast.new_per_unit),
            });
        }
        let workloads = self.baseline.workloads().map(|workload| {
            let mut seen: BTreeMap<String, (usize, Vec<String>)> = BTreeMap::new();
            for (set, item, _) in self.baseline.learned(workload) {
                let (count, names) = seen.entry(name(set)).or_default();
                *count += 1;
                if names.len() < LISTED_MAX {
                    names.push(item.to_owned());
                }
            }
            let forecast = objects::incidence(&self.baseline.incidence(workload)).forecast();
            WorkloadOverview {
                workload: workload.to_string(),
                state: self.state_of_workload(workload),
                programs: programs.remove(workload.as_str()).unwrap_or_default(),
                seen,
                new_share: forecast.map(|forecast| forecast.new_share),
                unit_seconds: self.baseline.unit_ns() as f64 / 1e9,
            }
        });
        Overview {
            workloads: workloads.collect(),
            deeds: self.deeds_overview(),
            distrusted: self.baseline.distrusted().iter().map(ToString::to_string).collect(),
            distrusted_more: self.baseline.distrusted_dropped(),
        }
    }

    fn deeds_overview(&self) -> Vec<DeedOverview> {
        let stranger = Context { workload: Workload::new(""), program: 0 };
        let row = |row: &DeedRow| {
            let (minutes, workloads) = self.rates.seen(row.deed);
            DeedOverview {
                deed: row.name,
                class: row.class.name(),
                words: row.words,
                minutes,
                workloads,
                surprise: self.rates.surprise(row.deed, &stranger, 0.0),
                prior_per_day: row.per_day,
            }
        };
        CATALOGUE.iter().map(row).collect()
    }

    /// The forest's scores and the measures of windows of five seconds; none before the forest is
    /// fitted.
    pub fn measured(&self, windows: &[Window]) -> Vec<(f64, f64)> {
        let part = valid(windows, Scale::Seconds5);
        let scored = self.scored(Scale::Seconds5, &part);
        let of_programs = part.iter().zip(scored).filter(|(window, _)| !window.subject.is_host());
        of_programs.map(|(_, scored)| (scored.forest, scored.measure)).collect()
    }
}

fn name(set: Set) -> String {
    format!("{set:?}").to_lowercase()
}
