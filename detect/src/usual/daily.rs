//! N-grams learned on: what a program made in a day that its profile lacks joins it when the day is
//! over, where nobody suspected the program in that day.
//!
//! Somebody who feeds a program unseen sequences little by little, each time too few to be told,
//! would have all of them learned. So there is a bound: since it was learned, a program is allowed
//! twice as many 6-grams as it was seen to make in one window only. That many of them is what normal
//! life still has to bring (the first-order jackknife, Burnham and Overton 1979), and such forecasts
//! hold within a factor of two. Who brings more does something else than what was learned: nothing
//! of that is learned, and its workload has drifted, which is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hedgerow_event::{GramReport, Subject, Workload};
use serde::{Deserialize, Serialize};

use crate::{
    Engine, Outcome,
    file::{GramSet, Profile, SIX_GRAM_BITS, THREE_GRAM_BITS, TWO_GRAM_BITS},
    grams,
};

/// 6-grams that any program is allowed, by the number of those that it made in one window only.
const ALLOWED_EACH: u64 = 2;
/// And however few those were: a single new thing that a program does makes some dozens.
const ALLOWED_LEAST: u64 = 64;

/// What a program made in its clean windows of a day that its profile lacks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Day {
    windows: u64,
    /// In how many of them each 2-, 3- and 6-gram was made.
    grams: [BTreeMap<u32, u32>; 3],
}

/// A program that learns on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Learner {
    subject: Arc<Subject>,
    /// 6-grams that it may still learn.
    left: u64,
    day: Day,
    /// What the open epoch brought.
    #[serde(skip)]
    open: Vec<GramReport>,
}

/// Programs that learn on: those with a profile.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<Learner>", into = "Vec<Learner>")]
pub struct Daily(BTreeMap<Arc<Subject>, Learner>);

impl From<Vec<Learner>> for Daily {
    fn from(learners: Vec<Learner>) -> Self {
        Self(learners.into_iter().map(|one| (Arc::clone(&one.subject), one)).collect())
    }
}

impl From<Daily> for Vec<Learner> {
    fn from(daily: Daily) -> Self {
        daily.0.into_values().collect()
    }
}

impl Daily {
    /// Begins with the programs of a profile that it doesn't follow yet.
    pub fn follow(&mut self, profile: &Profile) {
        for program in &profile.programs {
            let subject = Arc::new(grams::subject(program));
            self.0.entry(Arc::clone(&subject)).or_insert_with(|| Learner {
                subject,
                left: (ALLOWED_EACH * program.six_grams.incidence().once).max(ALLOWED_LEAST),
                day: Day::default(),
                open: Vec::new(),
            });
        }
    }

    /// Forgets a program whose profile became another one.
    pub fn forget(&mut self, subject: &Subject) {
        self.0.remove(subject);
    }

    /// Notes what a program made that its profile lacks.
    pub fn note(&mut self, report: &GramReport) {
        if let Some(learner) = self.0.get_mut(&report.subject) {
            learner.open.push(report.clone());
        }
    }

    /// Forgets what the epoch brought that no window was closed for.
    pub fn end_epoch(&mut self) {
        self.0.values_mut().for_each(|learner| learner.open.clear());
    }

    /// Closes a window of a program, clean where no finding is or was about it lately. One that isn't
    /// takes the day along: an attack begins before it is found.
    pub fn close(&mut self, subject: &Subject, clean: bool) {
        let Some(learner) = self.0.get_mut(subject) else { return };
        if !clean {
            learner.day = Day::default();
            learner.open.clear();
            return;
        }
        let day = &mut learner.day;
        day.windows += 1;
        let mut made: [BTreeSet<u32>; 3] = Default::default();
        for report in learner.open.drain(..) {
            made[0].extend(report.grams2);
            made[1].extend(report.grams3);
            made[2].extend(report.grams6);
        }
        // More than it may learn is as good as any number.
        if day.grams[2].len() as u64 <= learner.left {
            for (counts, made) in day.grams.iter_mut().zip(made) {
                made.into_iter().for_each(|gram| *counts.entry(gram).or_default() += 1);
            }
        }
    }

    /// Ends the day: the profile learns. Gives whether it grew, and the workloads of programs that
    /// brought more than they may.
    pub fn learn(&mut self, profile: &mut Profile) -> (bool, Vec<Workload>) {
        let (mut grown, mut beyond) = (false, Vec::new());
        for program in &mut profile.programs {
            let Some(learner) = self.0.get_mut(&grams::subject(program)) else { continue };
            let mut day = std::mem::take(&mut learner.day);
            let new = day.grams[2].len() as u64;
            if new > learner.left {
                learner.left = 0;
                beyond.push(learner.subject.workload.clone());
                continue;
            }
            learner.left -= new;
            grown |= day.grams.iter().any(|counts| !counts.is_empty());
            let [two, three, six] = day.grams.each_mut().map(std::mem::take);
            program.two_grams.merge(&GramSet::of(TWO_GRAM_BITS, day.windows, &two));
            program.three_grams.merge(&GramSet::of(THREE_GRAM_BITS, day.windows, &three));
            program.six_grams.merge(&GramSet::of(SIX_GRAM_BITS, day.windows, &six));
            program.windows += day.windows;
        }
        (grown, beyond)
    }
}

impl Engine {
    /// Has the profiles learn what was made in the day that is over.
    pub(crate) fn learn_grams(&mut self, outcomes: &mut Vec<Outcome>) {
        let Some(profile) = &mut self.profile else { return };
        let (grown, beyond) = self.daily.learn(Arc::make_mut(profile));
        if grown {
            outcomes.push(Outcome::Arm(Arc::clone(profile)));
        }
        let drifted = beyond.into_iter().filter(|workload| self.drift.tell(workload));
        outcomes.extend(drifted.map(Outcome::Drifted));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hedgerow_event::{Epoch, Program};
    use hedgerow_features::ItemKey;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    const WINDOWS: u32 = 500;

    fn report(subject: &Arc<Subject>, grams: Vec<u32>) -> GramReport {
        let subject = Arc::clone(subject);
        let [grams2, grams3, grams6] = [grams.clone(), grams.clone(), grams];
        GramReport { epoch: Epoch(1), subject, grams2, grams3, grams6 }
    }

    /// A program that makes ever rarer sequences, as programs do: gram k with a chance of a / k in
    /// each window.
    struct Life {
        subject: Arc<Subject>,
        rng: SmallRng,
        profile: Profile,
        daily: Daily,
    }

    impl Life {
        fn new(seed: u64) -> Self {
            let subject = Subject::new(Workload::new("web.service"), Program::new("/usr/bin/web"));
            let mut life = Self {
                subject: Arc::new(subject),
                rng: SmallRng::seed_from_u64(seed),
                profile: Profile::default(),
                daily: Daily::default(),
            };
            let mut learner = grams::GramLearner::new(ItemKey(7));
            for _ in 0..WINDOWS {
                let made = life.made();
                learner.add(&report(&life.subject, made));
            }
            life.profile = Arc::unwrap_or_clone(learner.end(1));
            life.daily.follow(&life.profile);
            life
        }

        fn made(&mut self) -> Vec<u32> {
            let rng = &mut self.rng;
            (1..1_000).filter(|gram| rng.gen_bool((2.0 / f64::from(*gram)).min(1.0))).collect()
        }

        fn knows(&self, gram: u32) -> bool {
            let known = &self.profile.programs[0].six_grams.known;
            known.word(gram as usize / 64) >> (gram % 64) & 1 == 1
        }

        /// A day, on which other grams are made, too, in one window each.
        fn day(&mut self, others: impl Iterator<Item = u32>) -> (bool, Vec<Workload>) {
            let mut others = others;
            for _ in 0..WINDOWS {
                // What the kernel tells is what the profile lacks.
                let mut made = self.made();
                made.extend(others.next());
                made.retain(|gram| !self.knows(*gram));
                self.daily.note(&report(&self.subject, made));
                self.daily.close(&Arc::clone(&self.subject), true);
            }
            self.daily.learn(&mut self.profile)
        }
    }

    #[test]
    fn what_life_still_brings_is_learned_and_never_told() {
        for seed in 0..8 {
            let mut life = Life::new(seed);
            let known = |life: &Life| (1..1_000).filter(|gram| life.knows(*gram)).count();
            let before = known(&life);
            for day in 0..10 {
                let (_, beyond) = life.day(std::iter::empty());
                assert_eq!(beyond, [], "day {day} of {seed}");
            }
            let after = known(&life);
            assert!(before < 990 && after > 990, "{before} {after}");
            let incidence = life.profile.programs[0].six_grams.incidence();
            assert_eq!(incidence.units, u64::from(11 * WINDOWS));
        }
    }

    /// A dozen unseen sequences a day, each made once: far fewer than a window that is told has.
    #[test]
    fn a_slow_ramp_is_told_and_no_more_of_it_is_learned() {
        for seed in 0..4 {
            let mut life = Life::new(seed);
            let once = life.profile.programs[0].six_grams.incidence().once;
            let allowed = (2 * once).max(64);
            let mut told = None;
            for day in 0..100 {
                let first = 10_000 + 12 * day;
                let (_, beyond) = life.day(first..first + 12);
                if !beyond.is_empty() {
                    told = told.or(Some(day));
                }
            }
            let day = told.expect("never told");
            assert!(u64::from(12 * day) <= allowed, "day {day} where {allowed} are allowed");
            let learned = (10_000..10_000 + 12 * 100).filter(|gram| life.knows(*gram)).count();
            assert!(learned as u64 <= allowed, "{learned} learned where {allowed} are allowed");
        }
    }

    #[test]
    fn a_day_on_which_somebody_suspects_a_program_teaches_nothing() {
        let mut life = Life::new(1);
        let subject = Arc::clone(&life.subject);
        life.daily.note(&report(&subject, vec![10_001]));
        life.daily.close(&subject, true);
        life.daily.note(&report(&subject, vec![10_002]));
        life.daily.close(&subject, false);
        // Nor does what came in an epoch without a window of it.
        life.daily.note(&report(&subject, vec![10_003]));
        life.daily.end_epoch();
        life.daily.note(&report(&subject, vec![10_004]));
        life.daily.close(&subject, true);
        assert_eq!(life.daily.learn(&mut life.profile), (true, vec![]));
        let known: Vec<u32> = (10_000..10_010).filter(|gram| life.knows(*gram)).collect();
        assert_eq!(known, [10_004]);
        assert_eq!(life.daily.learn(&mut life.profile), (false, vec![]));
    }
}
