//! Has a workload become another one? A conformal martingale over its hours.
//!
//! An hour's statistic is the mean measure of the workload's windows: single windows hang together
//! and prove nothing. Its p is the share of the first hours that reach it, (b + 1) / (n + 1);
//! against exchangeable hours a bet gains a factor of .5 / sqrt(p) (the power martingale with an
//! exponent of a half, Vovk, Nouretdinov and Gammerman 2003), begun anew whenever it is lost. The
//! first hours are a week of them, and then they stand, so that a slow ramp is no more
//! learned than a jump. What it asks to be won is so much because hours hang together, too. Told
//! once: what drifted is judged by what was learned of it until somebody has it learned anew.

use std::collections::BTreeMap;

use hedgerow_event::{Subject, Workload};
use serde::{Deserialize, Serialize};

use crate::EPOCH_SECONDS;

/// Workloads that are followed; further ones aren't.
const WORKLOADS_MAX: usize = 1024;
/// Hours that the others are held against.
const FIRST_HOURS: usize = 168;
/// Windows that an hour must have.
const WINDOWS_LEAST: u32 = 60;
const HOUR_EPOCHS: u32 = 3_600 / EPOCH_SECONDS as u32;
/// ln of the gain at which drift is told: about a dozen hours beyond all of the first.
const GAIN: f64 = 23.0;

/// One workload's hours.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Hours {
    first_hours: Vec<f32>,
    /// ln of what the bet has won.
    gain: f64,
    drifted: bool,
    #[serde(skip)]
    sum: f64,
    #[serde(skip)]
    windows: u32,
}

/// Every workload's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    workloads: BTreeMap<Workload, Hours>,
    /// Epochs of the running hour.
    #[serde(skip)]
    epochs: u32,
}

impl Hours {
    /// Ends an hour; true where it is the one by which drift is told.
    fn end(&mut self) -> bool {
        let (sum, windows) = (std::mem::take(&mut self.sum), std::mem::take(&mut self.windows));
        if windows < WINDOWS_LEAST || self.drifted {
            return false;
        }
        let mean = (sum / f64::from(windows)) as f32;
        if self.first_hours.len() < FIRST_HOURS {
            self.first_hours.push(mean);
            return false;
        }
        let reach = self.first_hours.iter().filter(|one| **one >= mean).count();
        let p = (reach as f64 + 1.0) / (FIRST_HOURS as f64 + 1.0);
        self.gain = (self.gain + (0.5 / p.sqrt()).ln()).max(0.0);
        self.drifted = self.gain >= GAIN;
        self.drifted
    }
}

impl Drift {
    /// Takes a 5 s window's measure.
    pub fn add(&mut self, subject: &Subject, measure: f64) {
        let workload = &subject.workload;
        if subject.is_host()
            || self.workloads.len() >= WORKLOADS_MAX && !self.workloads.contains_key(workload)
        {
            return;
        }
        let hours = self.workloads.entry(workload.clone()).or_default();
        hours.sum += measure;
        hours.windows += 1;
    }

    /// Ends an epoch, and with it perhaps an hour; gives what has drifted.
    pub fn close(&mut self) -> Vec<Workload> {
        self.epochs += 1;
        if self.epochs < HOUR_EPOCHS {
            return Vec::new();
        }
        self.epochs = 0;
        let ended = self
            .workloads
            .iter_mut()
            .filter_map(|(workload, hours)| hours.end().then(|| workload.clone()));
        ended.collect()
    }

    /// Something else showed that a workload has drifted; true where that wasn't known.
    pub fn tell(&mut self, workload: &Workload) -> bool {
        if self.workloads.len() >= WORKLOADS_MAX && !self.workloads.contains_key(workload) {
            return false;
        }
        let hours = self.workloads.entry(workload.clone()).or_default();
        !std::mem::replace(&mut hours.drifted, true)
    }

    /// A workload has drifted since it was learned.
    pub fn has(&self, workload: &Workload) -> bool {
        self.workloads.get(workload).is_some_and(|hours| hours.drifted)
    }

    /// Those that have.
    pub fn drifted(&self) -> impl Iterator<Item = &Workload> {
        self.workloads.iter().filter(|(_, hours)| hours.drifted).map(|(workload, _)| workload)
    }
}

#[cfg(test)]
mod tests {
    use hedgerow_event::Program;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    /// The hour in which drift is told of a workload whose measure's mean goes so by the hour.
    fn told(hours: u32, seed: u64, mean: impl Fn(u32) -> f64) -> Option<u32> {
        let subject = Subject::new(Workload::new("w"), Program::new("/bin/x"));
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut drift = Drift::default();
        // A daily cycle, and what hangs together over hours.
        let mut level = 0.0;
        for hour in 0..hours {
            level = 0.8 * level + rng.gen_range(-0.3..0.3);
            let cycle = (f64::from(hour % 24) / 24.0 * std::f64::consts::TAU).sin();
            for _ in 0..HOUR_EPOCHS {
                let noise: f64 = rng.gen_range(-1.0..1.0);
                drift.add(&subject, mean(hour) + level + cycle + noise);
                if drift.close() == [subject.workload.clone()] {
                    assert!(drift.has(&subject.workload));
                    return Some(hour);
                }
            }
        }
        assert_eq!(drift.drifted().count(), 0);
        None
    }

    #[test]
    fn a_jump_and_a_slow_ramp_are_told_once_and_a_cycle_is_not() {
        for seed in 0..4 {
            assert_eq!(told(6 * 7 * 24, seed, |_| 0.0), None, "six weeks of the same, {seed}");
            let jump = |hour| if hour < 300 { 0.0 } else { 3.0 };
            let hour = told(400, seed, jump).unwrap_or_default();
            assert!((306..320).contains(&hour), "{hour}");
            let ramp = |hour| f64::from(hour) / 100.0;
            assert!(told(1_000, seed, ramp).is_some(), "{seed}");
        }
    }
}
