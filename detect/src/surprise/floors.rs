//! The alert budget as a promise: expected false notifications a day, a sum over classes and hours,
//! so that neither autocorrelation nor the number of subjects or window lengths breaks it.
//!
//! Each class c has a share of the asked rate N. Its floor is the least surprise v with
//!
//!   L_c(v) = (m_c(v) + A * L0_c(v)) / (n + A) <= N * share_c / 24
//!
//! where n held-back hours had m_c(v) with at least v, and L0_c(v) is what the rates expect an hour
//! (`Rates::masses`; for measures the programs' tails). With few hours the rates decide, and say so:
//! an extrapolation, worth A hours of watching; with many the hours do: above the k-th largest of n
//! exchangeable hours lies the next one with probability k / (n + 1). Held-back hours are rescored
//! by the rates that judge now, each without its own deeds.

use std::collections::{BTreeMap, VecDeque};

use hedgerow_event::{Class, Deed};
use serde::{Deserialize, Serialize};

use super::rates::{Context, Mass, Rates};

/// Hours that the extrapolation is worth.
const PRIOR_HOURS: f64 = 72.0;
/// Held-back hours kept, about a month; the oldest go.
const HOURS_MAX: usize = 720;
/// Trees kept of one hour, the most surprising ones.
const TREES_MAX: usize = 32;
/// A share of the budget that the held-back hours support by themselves needs this many of the
/// hours that it allows one false notification in.
const SUPPORT: f64 = 1.0;

/// What one process tree did, as it is rescored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// The most surprising deed of each aspect, with the minutes in which it happened.
    pub deeds: Vec<(Deed, Context, f64)>,
}

/// One hour of life, or as much of it as was watched.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Hour {
    /// Part of an hour that was watched.
    watched: f64,
    trees: Vec<(f64, Told)>,
    /// The highest surprise of a measure.
    measure: f64,
}

/// What a budget asks, expects and had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Promise {
    pub asked_per_day: f64,
    /// By the rates and the held-back hours, of what is above the floors.
    pub expected_per_day: f64,
    pub hours_held_back: f64,
    pub classes: Vec<ClassPromise>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassPromise {
    pub class: Class,
    /// Least surprise that notifies, in nats; `None`: nothing does.
    pub floor: Option<f64>,
    pub expected_per_day: f64,
    /// The held-back hours support the share by themselves; else the rates extrapolate.
    pub supported: bool,
}

/// Held-back hours and the floors in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Floors {
    per_day: f64,
    hours: VecDeque<Hour>,
    /// The running hour since boot, by which deeds are put into hours.
    running: Option<u64>,
    /// By class: (floor, expected an hour).
    floors: BTreeMap<Class, (f64, f64)>,
}

/// A class's share of the budget.
pub fn share(class: Class) -> f64 {
    match class {
        Class::Intrinsic => 0.5,
        Class::Novelty | Class::Measure => 0.25,
    }
}

/// The surprise of a tree by class: what is grave brings along what was merely new, so that
/// conjunction adds.
pub fn by_class(deeds: impl Iterator<Item = (Deed, f64)> + Clone) -> BTreeMap<Class, f64> {
    let sum = |least: Class| -> f64 {
        deeds.clone().filter(|(deed, _)| deed.class() >= least).map(|(_, nats)| nats).sum()
    };
    let has = |class: Class| deeds.clone().any(|(deed, _)| deed.class() == class);
    let novelty = deeds
        .clone()
        .filter(|(deed, _)| deed.class() == Class::Novelty)
        .map(|(_, nats)| nats)
        .sum::<f64>();
    let mut found = BTreeMap::new();
    if has(Class::Intrinsic) {
        found.insert(Class::Intrinsic, sum(Class::Novelty));
    }
    if novelty > 0.0 {
        found.insert(Class::Novelty, novelty);
    }
    found
}

impl Floors {
    /// Floors for so many notifications a day; infinite until they are solved.
    pub fn new(per_day: f64) -> Self {
        Self { per_day, hours: VecDeque::new(), running: None, floors: BTreeMap::new() }
    }

    /// Asks for another budget.
    pub fn ask(&mut self, per_day: f64) {
        self.per_day = per_day;
    }

    /// Adds time that was watched, in the hour since boot that it belongs to.
    pub fn watch(&mut self, hour: u64, hours: f64) {
        if self.running != Some(hour) || self.hours.is_empty() {
            self.running = Some(hour);
            self.hours.push_back(Hour::default());
            if self.hours.len() > HOURS_MAX {
                self.hours.pop_front();
            }
        }
        if let Some(open) = self.hours.back_mut() {
            open.watched = (open.watched + hours).min(1.0);
        }
    }

    /// Holds back what a tree did; `nats` is how surprising it was, by which the hour's least is
    /// dropped when there is no more room.
    pub fn hold_back(&mut self, nats: f64, told: Told) {
        let Some(open) = self.hours.back_mut() else { return };
        open.trees.push((nats, told));
        if open.trees.len() > TREES_MAX {
            open.trees.sort_by(|a, b| b.0.total_cmp(&a.0));
            open.trees.truncate(TREES_MAX);
        }
    }

    /// Holds back a measure's surprise.
    pub fn hold_back_measure(&mut self, nats: f64) {
        if let Some(open) = self.hours.back_mut() {
            open.measure = open.measure.max(nats);
        }
    }

    /// Solves the floors anew. `programs` are those that are measured.
    pub fn solve(&mut self, rates: &Rates, programs: usize) {
        let held = self.rescored(rates);
        let watched = self.watched();
        for class in Class::ALL {
            let allowed = self.per_hour(class);
            let masses = match class {
                // A tail's p-values are uniform: programs times exp(-v) expected an hour.
                Class::Measure => Vec::new(),
                _ => rates.masses(class),
            };
            let expected = |v: f64| -> f64 {
                if class == Class::Measure {
                    return programs as f64 * (-v).exp();
                }
                masses.iter().filter(|(nats, _)| *nats >= v).map(|(_, rate)| rate).sum()
            };
            let hours = &held[&class];
            let rate = |v: f64| -> f64 {
                let had = hours.iter().filter(|nats| **nats >= v).count() as f64;
                (had + PRIOR_HOURS * expected(v)) / (watched + PRIOR_HOURS)
            };
            self.floors.insert(class, least(&rate, allowed, &masses, hours));
        }
    }

    /// The highest surprise of each class in each hour.
    fn rescored(&self, rates: &Rates) -> BTreeMap<Class, Vec<f64>> {
        let mut held: BTreeMap<Class, Vec<f64>> =
            Class::ALL.into_iter().map(|class| (class, Vec::new())).collect();
        for hour in &self.hours {
            let mut highest: BTreeMap<Class, f64> = BTreeMap::new();
            for (_, told) in &hour.trees {
                let deeds: Vec<(Deed, f64)> = told
                    .deeds
                    .iter()
                    .map(|(deed, context, minutes)| {
                        (*deed, rates.surprise(*deed, context, *minutes))
                    })
                    .collect();
                for (class, nats) in by_class(deeds.iter().copied()) {
                    let highest = highest.entry(class).or_default();
                    *highest = highest.max(nats);
                }
            }
            highest.insert(Class::Measure, hour.measure);
            for (class, nats) in highest {
                held.entry(class).or_default().push(nats);
            }
        }
        held
    }

    /// Notifications of a class that the budget allows in an hour.
    pub fn per_hour(&self, class: Class) -> f64 {
        self.per_day * share(class) / 24.0
    }

    /// Hours held back.
    pub fn watched(&self) -> f64 {
        self.hours.iter().map(|hour| hour.watched).sum()
    }

    /// Least surprise of a class that notifies.
    pub fn floor(&self, class: Class) -> f64 {
        self.floors.get(&class).map_or(f64::INFINITY, |(floor, _)| *floor)
    }

    /// Whether the held-back hours support a class's share by themselves.
    pub fn supports(&self, class: Class) -> bool {
        self.watched() * self.per_hour(class) >= SUPPORT
    }

    pub fn promise(&self) -> Promise {
        let classes = Class::ALL.map(|class| {
            let (floor, expected) =
                self.floors.get(&class).copied().unwrap_or((f64::INFINITY, 0.0));
            let expected_per_day = 24.0 * expected;
            let floor = Some(floor).filter(|floor| floor.is_finite());
            ClassPromise { class, floor, expected_per_day, supported: self.supports(class) }
        });
        Promise {
            asked_per_day: self.per_day,
            expected_per_day: classes.iter().map(|class| class.expected_per_day).sum(),
            hours_held_back: self.watched(),
            classes: classes.into(),
        }
    }
}

/// The least surprise at which `rate` is no more than allowed, and that rate. It falls in steps just
/// above each mass and each hour, and for measures smoothly.
fn least(rate: &dyn Fn(f64) -> f64, allowed: f64, masses: &[Mass], hours: &[f64]) -> (f64, f64) {
    let above = |nats: &f64| nats.max(0.0) + 1e-6;
    let mut steps: Vec<f64> = masses.iter().map(|(nats, _)| above(nats)).collect();
    steps.extend(hours.iter().map(above));
    steps.extend((0..400).map(|at| f64::from(at) * 0.1));
    steps.sort_by(f64::total_cmp);
    let at = steps.partition_point(|v| rate(*v) > allowed);
    let floor = steps.get(at).copied().unwrap_or(f64::INFINITY);
    (floor, if floor.is_finite() { rate(floor) } else { 0.0 })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hedgerow_event::Workload;

    use super::*;

    fn context(program: u64) -> Context {
        Context { workload: Workload::new("web.service"), program }
    }

    fn rates(hours: f64) -> Rates {
        let mut rates = Rates::default();
        rates.know((0..5).map(|at| (Workload::new(format!("s{at}")), 3)).collect());
        rates.watch(hours, true);
        rates
    }

    #[test]
    fn a_grave_deed_notifies_from_the_first_minute_and_a_new_program_does_not() {
        let rates = rates(0.02);
        let mut floors = Floors::new(1.0);
        floors.watch(0, 0.02);
        floors.solve(&rates, 20);
        let memory = rates.surprise(Deed::ExecMemory, &context(1), 0.0);
        assert!(memory >= floors.floor(Class::Intrinsic), "{memory} {floors:?}");
        let program = rates.surprise(Deed::NewProgram, &context(1), 0.0);
        assert!(program < floors.floor(Class::Novelty), "{program} {floors:?}");
        assert!(floors.promise().expected_per_day <= 1.0, "{:?}", floors.promise());
        assert!(!floors.supports(Class::Intrinsic));
    }

    #[test]
    fn hours_above_the_floor_raise_it_until_the_rate_is_kept() {
        let rates = rates(400.0);
        let mut floors = Floors::new(1.0);
        for hour in 0..400u64 {
            floors.watch(hour, 1.0);
            floors.hold_back_measure((hour % 100) as f64 / 10.0);
        }
        floors.solve(&rates, 1);
        let floor = floors.floor(Class::Measure);
        let above = (0..100).filter(|at| f64::from(*at) / 10.0 >= floor).count();
        // A quarter of one a day is one hour of 96.
        assert!(above <= 1 && floor < 10.0, "{floor}");
        assert!(floors.supports(Class::Measure));
        let raised = {
            let mut less = floors.clone();
            less.ask(0.1);
            less.solve(&rates, 1);
            less.floor(Class::Measure)
        };
        assert!(raised > floor);
    }

    #[test]
    fn conjunction_adds_within_a_tree_and_measures_stay_apart() {
        let deeds = [(Deed::NewProgram, 2.0), (Deed::NewPeer, 3.0), (Deed::SocketStreams, 7.0)];
        let found = by_class(deeds.into_iter());
        assert_eq!(found[&Class::Intrinsic], 12.0);
        assert_eq!(found[&Class::Novelty], 5.0);
        assert!(!found.contains_key(&Class::Measure));
    }
}
