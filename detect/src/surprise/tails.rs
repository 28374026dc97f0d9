//! How far a program's windows go in normal life: conformal p-values of its measure, with a stated
//! extrapolation beyond the largest held-back value.
//!
//! The measure of a window is the forest's log-odds plus the neighbours' distance on a logarithmic
//! scale: unbounded, since a bounded score can't tell far from farther. With B windows held back of
//! which b reach x, p of a window is (b + 1) / (B + 1) (conformal); above the largest it falls
//! further by exp(-(x - largest) / s), where s is the scale of the upper tenth: an exponential tail,
//! which is the extrapolation, and held to its word by the held-back hours (`floors`). A surprise is
//! that of an hour: -ln of p times the windows in it.

use std::collections::BTreeMap;

use hedgerow_event::{Scale, Subject, Workload};
use serde::{Deserialize, Serialize};

/// Largest measures kept of a group; the count of all is exact.
const KEPT_MAX: usize = 256;
/// Groups with a tail of their own; a subject past them is judged by its workload, then the host.
const GROUPS_MAX: usize = 2048;
/// A group with fewer windows is judged by its workload, then by the host.
const WINDOWS_LEAST: u64 = 12;
/// The kernel's own counters have one window an epoch, and nobody else's to be judged by.
const KERNEL_WINDOWS_LEAST: u64 = 3;
/// Least scale of a tail: a program that always does the same is not surprising at its first step.
const SCALE_LEAST: f64 = 1.0;
const EPOCHS_PER_HOUR: f64 = 720.0;

/// The upper tail of one group's windows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    windows: u64,
    /// The largest ones, in descending order.
    largest: Vec<f32>,
}

/// Tails of every subject, workload and of the host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tails {
    subjects: BTreeMap<String, Tail>,
    workloads: BTreeMap<Workload, Tail>,
    host: Tail,
}

impl Tail {
    fn add(&mut self, x: f64) {
        self.windows += 1;
        let x = x as f32;
        let at = self.largest.partition_point(|kept| *kept > x);
        if at < KEPT_MAX {
            self.largest.insert(at, x);
            self.largest.truncate(KEPT_MAX);
        }
    }

    /// -ln of the probability that one of so many windows reaches x.
    fn surprise(&self, x: f64, windows: f64) -> f64 {
        let reach = self.largest.partition_point(|kept| f64::from(*kept) >= x) as f64;
        let p = (reach + 1.0) / (self.windows as f64 + 1.0);
        let beyond = self.largest.first().map_or(0.0, |largest| x - f64::from(*largest));
        let per_hour = -(windows * p).ln();
        let far = if beyond > 0.0 { beyond / self.scale() } else { 0.0 };
        (per_hour + far).max(0.0)
    }

    /// Mean excess over the least of the upper tenth.
    fn scale(&self) -> f64 {
        let tenth = (self.windows.div_ceil(10) as usize).clamp(2, KEPT_MAX).min(self.largest.len());
        let Some(least) = self.largest.get(tenth.saturating_sub(1)) else { return SCALE_LEAST };
        let excess = self.largest[..tenth].iter().map(|x| f64::from(x - least)).sum::<f64>();
        (excess / (tenth.max(2) - 1) as f64).max(SCALE_LEAST)
    }
}

impl Tails {
    /// Holds back a window's measure.
    pub fn hold_back(&mut self, subject: &Subject, x: f64) {
        let name = subject.to_string();
        if self.subjects.len() < GROUPS_MAX || self.subjects.contains_key(&name) {
            self.subjects.entry(name).or_default().add(x);
        }
        // The kernel's own counters are like no program's.
        if subject.is_host() {
            return;
        }
        let workload = &subject.workload;
        if self.workloads.len() < GROUPS_MAX || self.workloads.contains_key(workload) {
            self.workloads.entry(workload.clone()).or_default().add(x);
        }
        self.host.add(x);
    }

    /// How surprising a window's measure is, in nats; `None` while nothing was held back.
    pub fn surprise(&self, subject: &Subject, x: f64, scale: Scale) -> Option<f64> {
        let windows = EPOCHS_PER_HOUR / f64::from(scale.epochs());
        let enough = |tail: &&Tail| tail.windows >= WINDOWS_LEAST;
        let own = self.subjects.get(&subject.to_string());
        if subject.is_host() {
            return own
                .filter(|tail| tail.windows >= KERNEL_WINDOWS_LEAST)
                .map(|tail| tail.surprise(x, windows));
        }
        let tail = own
            .filter(enough)
            .or_else(|| self.workloads.get(&subject.workload).filter(enough))
            .or(Some(&self.host).filter(enough))?;
        Some(tail.surprise(x, windows))
    }

    /// Subjects that are measured.
    pub fn programs(&self) -> usize {
        self.subjects.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hedgerow_event::Program;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    fn subject() -> Subject {
        Subject::new(Workload::new("web.service"), Program::new("/usr/bin/web"))
    }

    #[test]
    fn exponential_measures_are_as_surprising_as_they_are_rare() {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut exponential = move || -rng.gen_range(f64::EPSILON..1.0).ln();
        let mut tails = Tails::default();
        for _ in 0..40_000 {
            tails.hold_back(&subject(), exponential());
        }
        // Above 12 lies one window of e^12, one hour of e^12 / 720.
        let nats = tails.surprise(&subject(), 12.0, Scale::Seconds5).unwrap();
        assert!((nats - (12.0 - 720f64.ln())).abs() < 2.5, "{nats}");
        let hours = 2_000;
        let above = (0..hours)
            .filter(|_| {
                let highest = (0..720).map(|_| exponential()).fold(0.0, f64::max);
                tails.surprise(&subject(), highest, Scale::Seconds5).unwrap() >= 3.0
            })
            .count();
        let share = above as f64 / f64::from(hours);
        assert!((0.005..0.09).contains(&share), "{share} beside e^-3 = .05");
    }

    #[test]
    fn a_constant_program_is_not_surprising_by_a_little_and_a_stranger_is_judged_by_its_host() {
        let mut tails = Tails::default();
        let surprise = |tails: &Tails, of: &Subject, x: f64| tails.surprise(of, x, Scale::Seconds5);
        assert_eq!(surprise(&tails, &subject(), 1.0), None);
        (0..40).for_each(|_| tails.hold_back(&subject(), 1.0));
        assert!(surprise(&tails, &subject(), 1.2).unwrap() < 1.0);
        let stranger = Subject::new(Workload::new("new.service"), Program::new("/bin/x"));
        assert!(surprise(&tails, &stranger, 1.0).unwrap() < 0.1);
        assert!(surprise(&tails, &stranger, 19.0).unwrap() > 12.0);
    }
}
