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
//! exchangeable hours lies the next one with probability k / (n + 1). Nobody can
//! tell where floors are solved which hours were attacks, or decoys; so no single owner of workloads
//! raises the floor of the others, whatever he did: theirs is the lowest that there would be without
//! one of the others. His own follows all hours.
//! Held-back hours are rescored by the rates that judge now, each without its own deeds; a month of
//! them is too much for one look, so that each takes its turn within the hour. What was confirmed to be
//! an attack is none of them. Campaigns (`campaign`) have a share and a floor of their own, by the
//! same rule.
//!
//! A program's tail tells how far it goes in what it is known for. Besides there is work that nobody
//! has seen yet, a reload, a deploy, a job of each Sunday, and how far from all else that lies a tail
//! can't tell. It is as frequent as a thing may be that did not happen in the hours in which the
//! program is known, 1 / (hours + 2) (Laplace; which hours those are, `tails` tells). While that alone is
//! more than measures are allowed, what is above their floor is suspected, and listed, and not told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hedgerow_event::{Aspect, Class, Deed, Workload};
use hedgerow_features::fair;
use serde::{Deserialize, Serialize};

mod promise;

pub use promise::{ClassPromise, Promise};

use super::{
    campaign,
    rates::{Context, Mass, Rates},
};

/// Hours that the extrapolation is worth.
const PRIOR_HOURS: f64 = 72.0;
/// Owners of whom it is known what the floor is without them.
const RAISING_MAX: usize = 8;
/// Held-back hours kept, about a month; the oldest go.
pub const HOURS_MAX: usize = 720;
/// Trees kept of one hour, the most surprising ones, as many of each owner.
const TREES_MAX: usize = 32;
/// Owners whose measures are kept of one hour, those that were most surprising.
const MEASURES_MAX: usize = 32;
/// Of a measure that was saved without its owner.
const NOBODY: &str = "";
/// Floors are looked for in steps of so much.
const STEP_NATS: f64 = 0.1;
/// A share of the budget that the held-back hours support by themselves needs this many of the
/// hours that it allows one false notification in.
const SUPPORT: f64 = 1.0;

/// What one process tree did, as it is rescored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// The most surprising deed of each aspect, with the minutes in which it happened.
    pub deeds: Vec<(Deed, Context, f64)>,
    /// Whose first deed it began with; of what was saved without it, one of its deeds.
    #[serde(default)]
    pub workload: Option<Workload>,
    /// The uids of the cases that it was reported as.
    #[serde(default)]
    pub cases: Vec<String>,
    /// The rates counted it; as all were that were saved without it.
    #[serde(default = "counted")]
    pub counted: bool,
}

fn counted() -> bool {
    true
}

impl Told {
    fn owner(&self) -> &str {
        let any = || self.deeds.first().map(|(_, context, _)| &context.workload);
        self.workload.as_ref().or_else(any).map_or(Workload::HOST, Workload::owner)
    }
}

/// Hours that are rescored at a look, besides the running ones: the floors are solved on the loop
/// that also denies.
const RESCORED: usize = 12;

/// What the trees of an hour are worth by the rates that judge.
#[derive(Debug, Clone, Default, PartialEq)]
struct Scored {
    /// By class and owner.
    highest: BTreeMap<(Class, String), f64>,
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
    /// Of that, what was watched while things were shed that windows are made of.
    #[serde(default)]
    shed: f64,
    trees: Vec<(f64, Told)>,
    /// The highest surprise of a measure, which is all that an older version reads of it.
    measure: f64,
    /// The same by owner.
    #[serde(default)]
    measures: BTreeMap<String, f64>,
    #[serde(skip)]
    scored: Scored,
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
    /// By class: the owners that raised it most, with what it is for the others.
    #[serde(skip)]
    raised: BTreeMap<Class, Vec<(String, f64)>>,
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
    /// The highest surprise of a class, but for an owner's.
    fn highest(&self, class: Class, but_for: Option<&str>) -> f64 {
        let of_class = self.scored.highest.iter().filter(|((of, _), _)| *of == class);
        let others = of_class.filter(|((_, owner), _)| Some(&**owner) != but_for);
        others.map(|(_, nats)| *nats).fold(0.0, f64::max)
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
            raised: BTreeMap::new(),
            campaign: None,
            known: 0.0,
            turn: 0,
        }
    }

    /// Floors by the hours of several runs, which are rescored by the rates of all.
    pub fn of_hours(per_day: f64, hours: Vec<Hour>, rates: &Rates) -> Self {
        let mut floors = Self::new(per_day);
        floors.hours = hours.into();
        floors.rescore_all(rates);
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

    /// Adds time that was watched, in the hour since boot that it belongs to; `shed`: windows were not whole. What
    /// is told then needs floors, too; that nothing came says little, so that no support rests on it.
    pub fn watch(&mut self, hour: u64, hours: f64, shed: bool) {
        if self.running != Some(hour) || self.hours.is_empty() {
            self.running = Some(hour);
            self.hours.push_back(Hour::default());
            if self.hours.len() > HOURS_MAX {
                self.hours.pop_front();
            }
        }
        if let Some(open) = self.hours.back_mut() {
            open.watched = (open.watched + hours).min(1.0);
            if shed {
                open.shed = (open.shed + hours).min(open.watched);
            }
        }
    }

    /// Another boot, whose hours are counted anew, has none in common with what was watched before.
    pub fn begin_boot(&mut self) {
        self.running = None;
    }

    /// Holds back what a tree did; `nats` is how surprising it was, by which the least of the owner that
    /// has most in this hour is dropped when there is no more room.
    pub fn hold_back(&mut self, nats: f64, told: Told) {
        let Some(open) = self.hours.back_mut() else { return };
        open.trees.push((nats, told));
        if open.trees.len() > TREES_MAX {
            let all = open.trees.iter().enumerate();
            // Floats that are not negative are ordered as their bits are.
            let all = all.map(|(at, (nats, told))| (told.owner(), nats.max(0.0).to_bits(), at));
            for at in fair::make_room(all, 1) {
                open.trees.remove(at);
            }
        }
    }

    /// Takes out what was reported as these cases: they were attacks. Gives how many trees that was.
    pub fn confirm(&mut self, cases: &BTreeSet<&str>, rates: &Rates) -> usize {
        let mut taken = 0;
        for at in 0..self.hours.len() {
            let Some(hour) = self.hours.get_mut(at) else { continue };
            let before = hour.trees.len();
            hour.trees.retain(|(_, told)| told.cases.iter().all(|uid| !cases.contains(&**uid)));
            if hour.trees.len() < before {
                taken += before - hour.trees.len();
                self.rescore_hour(rates, at);
            }
        }
        taken
    }

    /// Holds back the surprise of a measure of a workload's.
    pub fn hold_back_measure(&mut self, workload: &Workload, nats: f64) {
        let Some(open) = self.hours.back_mut() else { return };
        open.measure = open.measure.max(nats);
        match open.measures.get_mut(workload.owner()) {
            Some(highest) => *highest = highest.max(nats),
            None => {
                open.measures.insert(workload.owner().to_owned(), nats);
            }
        }
        if open.measures.len() > MEASURES_MAX {
            let all = open.measures.iter();
            let all = all.map(|(owner, nats)| ((), nats.max(0.0).to_bits(), owner.clone()));
            for owner in fair::make_room(all, 1) {
                open.measures.remove(&owner);
            }
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

    /// Rescores all hours, as after they were read.
    pub fn rescore_all(&mut self, rates: &Rates) {
        (0..self.hours.len()).for_each(|at| self.rescore_hour(rates, at));
    }

    fn rescore_hour(&mut self, rates: &Rates, at: usize) {
        let Some(hour) = self.hours.get(at) else { return };
        let age: f64 = self.hours.range(at + 1..).map(|later| later.watched).sum();
        let left = rates.left_after(age);
        let mut scored = Scored::default();
        let nobodys =
            (hour.measures.is_empty() && hour.measure > 0.0).then_some((NOBODY, hour.measure));
        let measures = hour.measures.iter().map(|(owner, nats)| (&**owner, *nats)).chain(nobodys);
        scored
            .highest
            .extend(measures.map(|(owner, nats)| ((Class::Measure, owner.to_owned()), nats)));
        for (_, told) in &hour.trees {
            let deeds = told.deeds.iter();
            let deeds: Vec<(Deed, f64)> = deeds
                .map(|(deed, context, minutes)| {
                    let own = if told.counted { minutes * left } else { 0.0 };
                    (*deed, rates.surprise(*deed, context, own))
                })
                .collect();
            let classes = by_class(deeds.iter().copied());
            let top = deeds.iter().max_by(|a, b| a.1.total_cmp(&b.1));
            let owner = told.owner();
            if classes.iter().all(|(class, nats)| *nats < self.floor_of(*class, Some(owner))) {
                scored.tops.extend(top.map(|(deed, nats)| (deed.aspect(), *nats)));
            }
            for (class, nats) in classes {
                let highest = scored.highest.entry((class, owner.to_owned())).or_default();
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
            let (floor, raised) = if class == Class::Measure {
                // A tail's p-values are uniform: programs times exp(-v) expected an hour.
                self.solve_class(class, &|v| measured.programs as f64 * (-v).exp(), &[])
            } else {
                let masses = rates.masses(|row| row.class == class);
                self.solve_class(class, &|v| mass_above(&masses, v), &masses)
            };
            self.floors.insert(class, floor);
            self.raised.insert(class, raised);
        }
        self.campaign = Some(self.solve_campaign(rates));
    }

    /// The floor of a class, and what it is for others than those that raised it most.
    fn solve_class(
        &self,
        class: Class,
        expected: &dyn Fn(f64) -> f64,
        masses: &[Mass],
    ) -> ((f64, f64), Vec<(String, f64)>) {
        let without = |owner: Option<&str>| {
            let held: Vec<f64> = self.hours.iter().map(|hour| hour.highest(class, owner)).collect();
            self.least(expected, self.per_hour(class), masses, &held)
        };
        let (all, _) = without(None);
        let mut raised: Vec<(String, f64)> = self
            .raising(class, all)
            .into_iter()
            .map(|owner| (owner.to_owned(), without(Some(owner)).0))
            .filter(|(_, others)| *others < all)
            .collect();
        raised.sort_by(|a, b| a.1.total_cmp(&b.1));
        raised.truncate(2);
        let of = |owner: Option<&str>| floor_of(all, &raised, owner);
        let others = of(None);
        let told = |hour: &&Hour| {
            let mut highest = hour.scored.highest.iter();
            highest.any(|((of_it, owner), nats)| *of_it == class && *nats >= of(Some(owner)))
        };
        let had = self.hours.iter().filter(told).count() as f64;
        let rate = (had + PRIOR_HOURS * expected(others)) / (self.watched() + PRIOR_HOURS);
        ((all, if all.is_finite() { rate } else { 0.0 }), raised)
    }

    /// Owners without whom a floor could be lower, those with most hours that hold it up.
    fn raising(&self, class: Class, floor: f64) -> Vec<&str> {
        let mut of: BTreeMap<&str, usize> = BTreeMap::new();
        for ((_, owner), _) in
            self.hours.iter().flat_map(|hour| &hour.scored.highest).filter(|((of, owner), nats)| {
                *of == class && owner != NOBODY && **nats >= floor - 2.0 * STEP_NATS
            })
        {
            *of.entry(owner).or_default() += 1;
        }
        let mut most: Vec<(usize, &str)> = of.into_iter().map(|(owner, n)| (n, owner)).collect();
        most.sort_unstable_by(|a, b| b.cmp(a));
        most.into_iter().take(RAISING_MAX).map(|(_, owner)| owner).collect()
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
        // It falls in steps just above each mass and each hour, and for measures smoothly.
        let falls = masses.iter().map(|(nats, _)| *nats).chain(held.iter().copied());
        let mut steps: Vec<f64> = falls.map(|nats| nats.max(0.0) + 1e-6).collect();
        steps.extend((0..400).map(|at| f64::from(at) * STEP_NATS));
        steps.sort_by(f64::total_cmp);
        let at = steps.partition_point(|v| rate(*v) > allowed);
        steps.get(at).map_or((f64::INFINITY, 0.0), |floor| (*floor, rate(*floor)))
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

    /// Hours held back of which nothing was shed.
    pub(crate) fn whole(&self) -> f64 {
        self.hours.iter().map(|hour| hour.watched - hour.shed).sum()
    }

    /// Least surprise of a class that notifies, of who raised it less than others did.
    pub fn floor(&self, class: Class) -> f64 {
        self.floor_of(class, None)
    }

    /// The same for what began with a deed of a workload's.
    pub fn floor_for(&self, class: Class, workload: &Workload) -> f64 {
        self.floor_of(class, Some(workload.owner()))
    }

    fn floor_of(&self, class: Class, owner: Option<&str>) -> f64 {
        let all = self.floors.get(&class).map_or(f64::INFINITY, |(floor, _)| *floor);
        floor_of(all, self.raised.get(&class).map_or(&[], Vec::as_slice), owner)
    }

    /// Whether what is above the floor of its class is told, or only listed; of measures by the hours since
    /// their program was first measured.
    pub fn tells(&self, class: Class, hours: f64) -> bool {
        class != Class::Measure || self.unseen(hours) <= self.per_hour(class)
    }

    /// Work of an hour that nobody has seen yet, as it is expected.
    fn unseen(&self, hours: f64) -> f64 {
        let prior = PRIOR_HOURS / (self.whole() + PRIOR_HOURS);
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
        // (whole + t + prior) * (hours + t + 2) = prior / allowed
        let (a, b) = (self.whole() + PRIOR_HOURS, hours + 2.0);
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
        self.whole() * self.per_hour(class) >= SUPPORT
    }
}

/// How many an hour the rates expect of at least so much.
fn mass_above(masses: &[Mass], v: f64) -> f64 {
    masses.iter().filter(|(nats, _)| *nats >= v).map(|(_, rate)| rate).sum()
}

/// The floor of an owner: the lowest that there would be without one of the others.
fn floor_of(all: f64, raised: &[(String, f64)], owner: Option<&str>) -> f64 {
    let others = raised.iter().filter(|(by, _)| Some(&**by) != owner);
    others.map(|(_, floor)| *floor).fold(all, f64::min)
}

#[cfg(test)]
mod tests;
