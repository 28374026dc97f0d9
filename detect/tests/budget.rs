//! The budget as a promise, held against weeks of simulated life on its true clock: deeds that come
//! by the day, in bursts, by programs of very different habits, ever new things that grow rarer, and
//! measures that hang together (autocorrelation .99) with heavy tails. Nothing is wrong in it, so
//! that every notification is a false one.
#![allow(clippy::unwrap_used)]

mod stats;

use std::{collections::BTreeMap, sync::Arc};

use hedgerow_detect::surprise::{
    campaign,
    floors::{Floors, Measured, Told, by_class},
    notices::Notices,
    rates::{Context, Rates},
    tails::Tails,
};
use hedgerow_event::{Aspect, Class, DENIAL_NATS, Deed, Program, Subject, Workload};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use stats::at_most;

const HOURS: u64 = 28 * 24;
/// One window a minute stands for the twelve of it: they are all but equal.
const WINDOWS: u64 = 60;
const PROGRAMS: u64 = 12;

/// Kinds that a program does now and then, with the others that come along with them.
const HABITS: [&[Deed]; 6] = [
    &[Deed::NewPeer],
    &[Deed::NewProgram, Deed::NewChild],
    &[Deed::NewProgram, Deed::NewChild, Deed::NewPeer],
    &[Deed::NewSource],
    &[Deed::Namespace],
    &[Deed::ExecWritable, Deed::NewProgram],
];

struct Life {
    rng: SmallRng,
    rates: Rates,
    floors: Floors,
    tails: Tails,
    notices: Notices,
    /// Deeds an hour of each (program, habit).
    habits: Vec<(u64, usize, f64)>,
    /// The measures' slow part.
    levels: Vec<f64>,
    /// The most surprising deed of each tree of late.
    tops: Vec<(u64, u64, Deed, f64)>,
    /// Notifications by week.
    told: [u32; 4],
    /// By class.
    of_class: [u32; 3],
}

fn subject(program: u64) -> Arc<Subject> {
    let workload = Workload::new(format!("s{}.service", program % 4));
    Arc::new(Subject::new(workload, Program::new(format!("/usr/bin/p{program}"))))
}

impl Life {
    fn new(per_day: f64, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut habits = Vec::new();
        for program in 0..PROGRAMS {
            for habit in 0..HABITS.len() {
                // Log-uniform between once in four months and twice an hour; few have many.
                if rng.gen_bool(0.15) {
                    habits.push((program, habit, 10f64.powf(rng.gen_range(-3.5..0.3))));
                }
            }
        }
        let mut rates = Rates::default();
        rates.know((0..4).map(|at| (Workload::new(format!("s{at}.service")), 3)).collect());
        Self {
            levels: vec![0.0; PROGRAMS as usize],
            tops: Vec::new(),
            tails: Tails::default(),
            floors: Floors::new(per_day),
            notices: Notices::default(),
            told: [0; 4],
            of_class: [0; 3],
            rng,
            rates,
            habits,
        }
    }

    /// A daily cycle, from a third to five thirds.
    fn activity(hour: u64) -> f64 {
        1.0 + (2.0 / 3.0) * ((hour % 24) as f64 / 24.0 * std::f64::consts::TAU).sin()
    }

    fn notify(&mut self, class: Class, program: u64, nats: f64, hour: u64) {
        let hours = self.tails.hours_of(&subject(program));
        let workload = &subject(program).workload;
        if nats >= self.floors.floor_for(class, workload) && self.floors.tells(class, hours) {
            self.tell(class, program, nats, hour);
        }
    }

    /// What trees did that were not told by themselves adds up over two hours.
    fn notify_campaign(&mut self, program: u64, top: (Deed, f64), hour: u64) {
        self.tops.push((hour, program, top.0, top.1));
        self.tops.retain(|(then, ..)| then + campaign::HOURS > hour);
        let nats = campaign::nats(self.tops.iter().map(|(.., deed, nats)| (deed.aspect(), *nats)));
        if nats >= self.floors.campaign_floor() {
            let class = self.tops.iter().map(|(.., deed, _)| deed.class()).max().unwrap();
            self.tell(class, program, nats, hour);
            // Those whose deed is the most surprising of its aspect make it.
            let mut best: BTreeMap<Aspect, (f64, u64)> = BTreeMap::new();
            for (_, program, deed, nats) in &self.tops {
                let best = best.entry(deed.aspect()).or_insert((*nats, *program));
                *best = if *nats > best.0 { (*nats, *program) } else { *best };
            }
            let makers: Vec<u64> = best.into_values().map(|(_, program)| program % 4).collect();
            self.tops.retain(|(_, program, ..)| !makers.contains(&(program % 4)));
        }
    }

    fn tell(&mut self, class: Class, program: u64, nats: f64, hour: u64) {
        let per_hour = self.floors.per_hour(class);
        let case = (class, &subject(program).workload);
        if self.notices.admit(case, per_hour, hour * 3_600_000_000_000, nats) {
            self.told[(hour / 168) as usize] += 1;
            self.of_class[class as usize] += 1;
        }
    }

    fn deeds(&mut self, hour: u64) {
        for at in 0..self.habits.len() {
            let (program, habit, rate) = self.habits[at];
            // New things grow rarer as the host is known.
            let rarer = 1.0 / (1.0 + hour as f64 / 200.0);
            let expected = rate * Self::activity(hour) * rarer;
            if !self.rng.gen_bool((1.0 - (-expected).exp()).clamp(0.0, 1.0)) {
                continue;
            }
            let minutes = if self.rng.gen_bool(0.2) { self.rng.gen_range(2..10) } else { 1 };
            let context = Context::new(&subject(program), program);
            let done: Vec<(Deed, f64)> = HABITS[habit]
                .iter()
                .map(|deed| (*deed, self.rates.surprise(*deed, &context, 0.0)))
                .collect();
            let mut best = BTreeMap::new();
            for (deed, nats) in &done {
                let best = best.entry(deed.aspect()).or_insert((*deed, *nats));
                if *nats > best.1 {
                    *best = (*deed, *nats);
                }
            }
            let classes = by_class(best.values().copied());
            let highest = classes.values().copied().fold(0.0, f64::max);
            let floor = |class| self.floors.floor_for(class, &context.workload);
            let suspected = highest >= DENIAL_NATS
                || classes.iter().any(|(class, nats)| *nats >= floor(*class));
            for (class, nats) in classes {
                self.notify(class, program, nats, hour);
            }
            let deeds =
                best.values().map(|(deed, _)| (*deed, context.clone(), minutes as f64)).collect();
            let workload = Some(context.workload.clone());
            let told = Told { deeds, workload, cases: Vec::new(), counted: !suspected };
            self.floors.hold_back(highest, told);
            if !suspected {
                let top = best.values().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
                self.notify_campaign(program, *top, hour);
                for minute in 0..minutes {
                    for deed in HABITS[habit] {
                        self.rates.count(*deed, &context, hour * 60 + minute);
                    }
                }
            }
        }
    }

    fn measures(&mut self, hour: u64) {
        for minute in 0..WINDOWS {
            for program in 0..PROGRAMS {
                let noise = self.rng.gen_range(-1.0..1.0f64);
                let level = &mut self.levels[program as usize];
                *level = 0.99 * *level + 0.14 * noise;
                // A Pareto tail now and then, as a backup or a report makes one.
                let burst = if self.rng.gen_bool(0.002) {
                    self.rng.gen_range(1e-3f64..1.0).powf(-0.25)
                } else {
                    0.0
                };
                let x = *level + burst * Self::activity(hour);
                let subject = subject(program);
                let nats = self.tails.surprise(&subject, x);
                if let Some(nats) = nats {
                    self.notify(Class::Measure, program, nats, hour);
                    self.floors.hold_back_measure(&subject.workload, nats);
                }
                let floor = self.floors.floor_for(Class::Measure, &subject.workload);
                let above = nats.is_some_and(|nats| nats >= floor);
                self.tails.hold_back(
                    (&subject, &subject.text()),
                    x,
                    (hour * 720 + minute * 12) as u32,
                    above,
                );
            }
        }
    }

    fn live(mut self) -> ([u32; 4], [u32; 3]) {
        for hour in 0..HOURS {
            self.rates.watch(1.0, true);
            self.floors.watch(hour, 1.0, false);
            self.tails.watch(1.0);
            // Each hour has had its turn within this one.
            (0..60).for_each(|_| self.floors.rescore(&self.rates));
            let measured = Measured { programs: PROGRAMS as usize, hours: self.tails.hours() };
            self.floors.solve(&self.rates, measured);
            self.deeds(hour);
            self.measures(hour);
        }
        (self.told, self.of_class)
    }
}

#[test]
fn weeks_of_life_with_nothing_wrong_bring_no_more_than_was_asked() {
    for (per_day, seeds) in [(0.1, 10), (1.0, 4), (5.0, 2), (24.0, 1), (120.0, 1)] {
        let (mut told, mut of_class) = ([0; 4], [0; 3]);
        for seed in 0..seeds {
            let (weeks, classes) = Life::new(per_day, 100 + seed).live();
            told.iter_mut().zip(weeks).for_each(|(sum, week)| *sum += week);
            of_class.iter_mut().zip(classes).for_each(|(sum, class)| *sum += class);
        }
        let expected = 7.0 * per_day * seeds as f64;
        assert!(expected >= 5.0, "a row must be able to fail");
        println!(
            "{per_day} a day asked, {expected:.0} a week of {seeds} hosts: {told:?}, measures, \
             novelty and grave ones {of_class:?}"
        );
        for week in [0, 3] {
            assert!(told[week] <= at_most(expected), "{per_day} a day, week {week}: {told:?}");
        }
    }
}

/// A program is installed on a host that is known for a week. For some hours it does little, and then
/// what it is there for: as far from all that is known of it as its first hours were quiet.
#[test]
fn a_program_that_came_yesterday_is_not_known_by_the_weeks_of_its_host() {
    const KNOWN: u64 = 7 * 24;
    let mut rng = SmallRng::seed_from_u64(5);
    let (mut tails, mut floors) = (Tails::default(), Floors::new(1.0));
    let mut rates = Rates::default();
    rates.watch(1.0, true);
    let (old, newcomer) = (subject(0), subject(PROGRAMS));
    let (mut levels, mut above) = ([0.0; PROGRAMS as usize], 0);
    for hour in 0..KNOWN + 24 {
        floors.watch(hour, 1.0, false);
        tails.watch(1.0);
        floors.solve(&rates, Measured { programs: 2, hours: tails.hours() });
        for minute in 0..WINDOWS {
            let epoch = (hour * 720 + minute * 12) as u32;
            for (program, level) in levels.iter_mut().enumerate() {
                *level = 0.99 * *level + 0.14 * rng.gen_range(-1.0..1.0f64);
                let subject = subject(program as u64);
                tails.hold_back((&subject, &subject.text()), *level, epoch, false);
            }
            if hour < KNOWN {
                continue;
            }
            let x = if hour < KNOWN + 12 { rng.gen_range(0.0..0.2) } else { 30.0 };
            let nats = tails.surprise(&newcomer, x).unwrap();
            if nats >= floors.floor(Class::Measure) {
                above += 1;
                assert!(!floors.tells(Class::Measure, tails.hours_of(&newcomer)));
                assert!(floors.tells(Class::Measure, tails.hours_of(&old)), "its host is known");
            }
            let is_above = nats >= floors.floor(Class::Measure);
            tails.hold_back((&newcomer, &newcomer.text()), x, epoch, is_above);
        }
    }
    assert!(above > 0, "somebody would have been told");
}
