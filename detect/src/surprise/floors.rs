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
//! by the rates that judge now, each without its own deeds; a month of them is too much for one
//! look, so that each takes its turn within the hour. Campaigns (`campaign`) have a share and a
//! floor of their own, by the same rule.
//!
//! A program's tail tells how far it goes in what it is known for. Besides there is work that nobody
//! has seen yet, a reload, a deploy, a job of each Sunday, and how far from all else that lies a tail
//! can't tell. It is as frequent as a thing may be that did not happen in the hours in which the
//! program is known, 1 / (hours + 2) (Laplace; which hours those are, `tails` tells). While that alone is
//! more than measures are allowed, what is above their floor is suspected, and listed, and not told.

use std::collections::{BTreeMap, VecDeque};

use hedgerow_event::{Aspect, Class, Deed};
use serde::{Deserialize, Serialize};

use super::{
    campaign,
    rates::{Context, Mass, Rates},
};

/// Hours that the extrapolation is worth.
const PRIOR_HOURS: f64 = 72.0;
/// Held-back hours kept, about a month; the oldest go.
pub const HOURS_MAX: usize = 720;
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

/// Hours that are rescored at a look, besides the running ones: the floors are solved on the loop
/// that also denies.
const RESCORED: usize = 12;

/// What the trees of an hour are worth by the rates that judge.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Scored {
    highest: BTreeMap<Class, f64>,
    /// The most surprising deed of each tree that was below its floors.
    tops: Vec<(Aspect, f64)>,
}

/// What is measured, and how many hours of it tell something of their own (`Tails::hours`).
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    pub programs: usize,
    pub hours: f64,
}

/// One hour of life, or as much of it as was watched.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Hour {
    /// Part of an hour that was watched.
    watched: f64,
    trees: Vec<(f64, Told)>,
    /// The highest surprise of a measure.
    measure: f64,
    #[serde(default)]
    scored: Scored,
}

/// What a budget asks, expects and had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Promise {
    pub asked_per_day: f64,
    /// By the rates and the held-back hours, of what is above the floors.
    pub expected_per_day: f64,
    pub hours_held_back: f64,
    pub classes: Vec<ClassPromise>,
    /// Least surprise from which what several trees did is told; `None`: nothing is.
    #[serde(default)]
    pub campaign_floor: Option<f64>,
    /// Classes of which what is above the floor is only listed, since too little is known of the host.
    #[serde(default)]
    pub only_listed: Vec<Class>,
    /// Hours that are missing until it isn't; of a program that came later there are more.
    #[serde(default)]
    pub hours_missing: f64,
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
    #[serde(default)]
    campaign: Option<(f64, f64)>,
    /// Hours of the host that tell something of their own.
    #[serde(default)]
    known: f64,
    /// The hour that is rescored next.
    #[serde(default)]
    turn: usize,
}

/// A class's share of the budget.
pub fn share(class: Class) -> f64 {
    match class {
        Class::Intrinsic => 0.5,
        Class::Novelty | Class::Measure => 0.2,
    }
}

/// What is left for campaigns.
const CAMPAIGN_SHARE: f64 = 0.1;

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

impl Hour {
    fn highest(&self, class: Class) -> Option<f64> {
        match class {
            Class::Measure => Some(self.measure),
            _ => self.scored.highest.get(&class).copied(),
        }
    }
}

impl Floors {
    /// Floors for so many notifications a day; infinite until they are solved.
    pub fn new(per_day: f64) -> Self {
        Self {
            per_day,
            hours: VecDeque::new(),
            running: None,
            floors: BTreeMap::new(),
            campaign: None,
            known: 0.0,
            turn: 0,
        }
    }

    /// Floors by the hours of several runs, which are rescored by the rates of all.
    pub fn of_hours(per_day: f64, hours: Vec<Hour>, rates: &Rates) -> Self {
        let mut floors = Self::new(per_day);
        floors.hours = hours.into();
        (0..floors.hours.len()).for_each(|at| floors.rescore_hour(rates, at));
        floors
    }

    /// The hours held back, as they were lived.
    pub fn hours(&self) -> impl Iterator<Item = Hour> + '_ {
        self.hours.iter().map(|hour| Hour { scored: Scored::default(), ..hour.clone() })
    }

    pub fn asked_per_day(&self) -> f64 {
        self.per_day
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

    /// Rescores the running hours, and those whose turn it is.
    pub fn rescore(&mut self, rates: &Rates) {
        let hours = self.hours.len();
        for at in hours.saturating_sub(campaign::HOURS as usize)..hours {
            self.rescore_hour(rates, at);
        }
        for _ in 0..RESCORED.min(hours) {
            self.turn = (self.turn + 1) % hours;
            self.rescore_hour(rates, self.turn);
        }
    }

    fn rescore_hour(&mut self, rates: &Rates, at: usize) {
        let Some(hour) = self.hours.get(at) else { return };
        let mut scored = Scored::default();
        for (_, told) in &hour.trees {
            let deeds = told.deeds.iter();
            let deeds: Vec<(Deed, f64)> = deeds
                .map(|(deed, context, minutes)| (*deed, rates.surprise(*deed, context, *minutes)))
                .collect();
            let classes = by_class(deeds.iter().copied());
            let top = deeds.iter().max_by(|a, b| a.1.total_cmp(&b.1));
            if classes.iter().all(|(class, nats)| *nats < self.floor(*class)) {
                scored.tops.extend(top.map(|(deed, nats)| (deed.aspect(), *nats)));
            }
            for (class, nats) in classes {
                let highest = scored.highest.entry(class).or_default();
                *highest = highest.max(nats);
            }
        }
        if let Some(hour) = self.hours.get_mut(at) {
            hour.scored = scored;
        }
    }

    /// Solves the floors anew.
    pub fn solve(&mut self, rates: &Rates, measured: Measured) {
        self.known = measured.hours;
        for class in Class::ALL {
            let masses = match class {
                // A tail's p-values are uniform: programs times exp(-v) expected an hour.
                Class::Measure => Vec::new(),
                _ => rates.masses(|row| row.class == class),
            };
            let expected = |v: f64| -> f64 {
                if class == Class::Measure {
                    return measured.programs as f64 * (-v).exp();
                }
                masses.iter().filter(|(nats, _)| *nats >= v).map(|(_, rate)| rate).sum()
            };
            let held: Vec<f64> = self.hours.iter().filter_map(|hour| hour.highest(class)).collect();
            let floor = self.least(&expected, self.per_hour(class), &masses, &held);
            self.floors.insert(class, floor);
        }
        self.campaign = Some(self.solve_campaign(rates));
    }

    fn solve_campaign(&self, rates: &Rates) -> (f64, f64) {
        let mut expected = campaign::Expected::default();
        for aspect in Aspect::DEEDS {
            expected.add(&rates.masses(|row| row.aspect == aspect));
        }
        let tops = |at: usize| {
            let hours = self.hours.range(at.saturating_sub(campaign::HOURS as usize - 1)..=at);
            hours.flat_map(|hour| hour.scored.tops.iter().copied())
        };
        let held: Vec<f64> =
            (0..self.hours.len()).map(|at| campaign::nats(tops(at))).filter(|v| *v > 0.0).collect();
        self.least(&|v| expected.reach(v), self.per_day * CAMPAIGN_SHARE / 24.0, &[], &held)
    }

    /// The least surprise at which no more than allowed are expected an hour, and how many are: by
    /// the held-back hours that reached it, and by the rates.
    fn least(
        &self,
        expected: &dyn Fn(f64) -> f64,
        allowed: f64,
        masses: &[Mass],
        held: &[f64],
    ) -> (f64, f64) {
        let watched = self.watched();
        let rate = |v: f64| -> f64 {
            let had = held.iter().filter(|nats| **nats >= v).count() as f64;
            (had + PRIOR_HOURS * expected(v)) / (watched + PRIOR_HOURS)
        };
        least(&rate, allowed, masses, held)
    }

    /// Notifications of a class that the budget allows in an hour.
    pub fn per_hour(&self, class: Class) -> f64 {
        self.per_day * share(class) / 24.0
    }

    /// Hours held back.
    pub fn watched(&self) -> f64 {
        // The empty sum of floats is -0.
        self.hours.iter().map(|hour| hour.watched).sum::<f64>() + 0.0
    }

    /// Least surprise of a class that notifies.
    pub fn floor(&self, class: Class) -> f64 {
        self.floors.get(&class).map_or(f64::INFINITY, |(floor, _)| *floor)
    }

    /// Whether what is above the floor of its class is told, or only listed; of measures by the hours since
    /// their program was first measured.
    pub fn tells(&self, class: Class, hours: f64) -> bool {
        class != Class::Measure || self.unseen(hours) <= self.per_hour(class)
    }

    /// Work of an hour that nobody has seen yet, as it is expected.
    fn unseen(&self, hours: f64) -> f64 {
        let prior = PRIOR_HOURS / (self.watched() + PRIOR_HOURS);
        prior / (hours.min(self.known) + 2.0)
    }

    /// Hours that are missing until a measure of a program that was first measured so many hours ago is
    /// told.
    pub fn hours_missing(&self, hours: f64) -> f64 {
        let allowed = self.per_hour(Class::Measure);
        if self.unseen(hours) <= allowed {
            return 0.0;
        }
        let hours = hours.min(self.known);
        // (watched + t + prior) * (hours + t + 2) = prior / allowed
        let (a, b) = (self.watched() + PRIOR_HOURS, hours + 2.0);
        let whole = ((a - b).powi(2) + 4.0 * PRIOR_HOURS / allowed).sqrt();
        (whole - a - b) / 2.0
    }

    /// Least surprise from which what several trees did is told.
    pub fn campaign_floor(&self) -> f64 {
        self.campaign.map_or(f64::INFINITY, |(floor, _)| floor)
    }

    #[cfg(test)]
    pub fn set_campaign_floor(&mut self, nats: f64) {
        self.campaign = Some((nats, 0.0));
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
            expected_per_day: classes.iter().map(|class| class.expected_per_day).sum::<f64>()
                + self.campaign.map_or(0.0, |(_, expected)| 24.0 * expected),
            hours_held_back: self.watched(),
            classes: classes.into(),
            campaign_floor: Some(self.campaign_floor()).filter(|floor| floor.is_finite()),
            only_listed: Class::ALL
                .into_iter()
                .filter(|class| !self.tells(*class, self.known))
                .collect(),
            hours_missing: self.hours_missing(self.known),
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
        floors.solve(&rates, Measured { programs: 20, hours: 0.02 });
        let memory = rates.surprise(Deed::ExecMemory, &context(1), 0.0);
        assert!(memory >= floors.floor(Class::Intrinsic), "{memory} {floors:?}");
        let program = rates.surprise(Deed::NewProgram, &context(1), 0.0);
        assert!(program < floors.floor(Class::Novelty), "{program} {floors:?}");
        let promise = floors.promise();
        assert!(promise.expected_per_day <= 1.0, "{promise:?}");
        assert!(!floors.supports(Class::Intrinsic));
    }

    #[test]
    fn hours_above_the_floor_raise_it_until_the_rate_is_kept() {
        let rates = rates(400.0);
        let mut floors = Floors::new(1.0);
        for hour in 0..400u64 {
            floors.watch(hour, 1.0);
            floors.hold_back_measure(hour as f64 / 40.0);
        }
        floors.solve(&rates, Measured { programs: 1, hours: 400.0 });
        let floor = floors.floor(Class::Measure);
        let above = (0..400).filter(|at| f64::from(*at) / 40.0 >= floor).count();
        // A fifth of one a day is one hour of 120, of those that were watched and the prior's.
        assert!((1..=3).contains(&above), "{floor}");
        assert!(floors.supports(Class::Measure));
        let raised = {
            let mut less = floors.clone();
            less.ask(0.1);
            less.solve(&rates, Measured { programs: 1, hours: 400.0 });
            less.floor(Class::Measure)
        };
        assert!(raised > floor);
    }

    #[test]
    fn work_that_nobody_has_seen_yet_is_expected_while_little_is_known() {
        let floors = |per_day: f64, watched: u64, hours: f64| {
            let mut floors = Floors::new(per_day);
            (0..watched).for_each(|hour| floors.watch(hour, 1.0));
            floors.solve(&rates(400.0), Measured { programs: 20, hours });
            assert!(floors.floor(Class::Measure).is_finite());
            assert!(floors.tells(Class::Intrinsic, 0.0));
            floors
        };
        let tells = |per_day, watched, hours, own| {
            floors(per_day, watched, hours).tells(Class::Measure, own)
        };
        assert!(!tells(1.0, 24, 24.0, 24.0) && tells(1.0, 100, 100.0, 100.0));
        // A quarter of an hour that is lived again and again stays one; who asks for more is told sooner.
        assert!(!tells(1.0, 168, 1.0, 168.0) && tells(24.0, 6, 6.0, 6.0));
        // A program of yesterday is not known by what its host is.
        assert!(!tells(1.0, 400, 400.0, 5.0));
        for (watched, hours) in [(0, 0.0), (24, 24.0), (400, 5.0)] {
            let missing = floors(1.0, watched, hours).hours_missing(hours).ceil();
            let after = |more: f64| tells(1.0, watched + more as u64, hours + more, hours + more);
            assert!(after(missing) && !after(missing - 2.0), "{missing} h after {watched}");
        }
        assert_eq!(floors(1.0, 100, 100.0).hours_missing(100.0), 0.0);
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
