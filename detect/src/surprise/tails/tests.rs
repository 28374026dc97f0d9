#![allow(clippy::unwrap_used)]
use hedgerow_event::Program;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;

impl Tails {
    fn hold(&mut self, subject: &Subject, x: f64, epoch: u32, above: bool) {
        self.hold_back((subject, &subject.text()), x, epoch, above);
    }
}

fn subject() -> Subject {
    Subject::new(Workload::new("web.service"), Program::new("/usr/bin/web"))
}

/// Hours of windows that hang together, autocorrelation .99, with what their highest measure
/// was worth: e^-v of them are worth v or more, whether an hour was watched or a week.
#[test]
fn hours_are_as_surprising_as_they_are_rare() {
    let (mut young, mut old, lives) = ([0.0; 2], [0.0; 2], 300);
    for seed in 0..lives {
        let mut rng = SmallRng::seed_from_u64(seed);
        let (mut tails, mut level) = (Tails::default(), 0.0);
        for hour in 0..40u32 {
            let mut highest = 0.0f64;
            // One epoch of ten: the others are much the same.
            for epoch in (hour * 720..(hour + 1) * 720).step_by(10) {
                level = 0.9 * level + 0.44 * rng.gen_range(-1.7..1.7f64);
                let nats = tails.surprise(&subject(), level.exp()).unwrap_or(0.0);
                highest = highest.max(nats);
                tails.hold(&subject(), level.exp(), epoch, false);
            }
            let counts = if hour == 1 { &mut young } else { &mut old };
            if hour == 1 || hour >= 30 {
                counts[0] += f64::from(highest >= 2.0) / lives as f64;
                counts[1] += f64::from(highest >= 4.0) / lives as f64;
            }
        }
    }
    old = old.map(|share| share / 10.0);
    for (shares, most) in [(young, 2.5), (old, 1.3)] {
        assert!(shares[0] <= most * (-2.0f64).exp(), "{shares:?}");
        assert!(shares[1] <= most * (-4.0f64).exp(), "{shares:?}");
    }
    // It isn't blind, either.
    assert!(old[0] >= 0.3 * (-2.0f64).exp(), "{old:?}");
}

#[test]
fn a_constant_program_is_not_surprising_by_a_little_and_a_stranger_is_judged_by_its_host() {
    let mut tails = Tails::default();
    assert_eq!(tails.surprise(&subject(), 1.0), None);
    (0..40).for_each(|epoch| tails.hold(&subject(), 1.0, epoch * 12, false));
    assert!(tails.surprise(&subject(), 1.2).unwrap() < 1.0);
    let stranger = Subject::new(Workload::new("new.service"), Program::new("/bin/x"));
    assert!(tails.surprise(&stranger, 1.0).unwrap() < 0.1);
    assert!(tails.surprise(&stranger, 19.0).unwrap() > 7.0);
}

/// One that ran once or twice a minute, and now runs thrice.
#[test]
fn a_program_that_does_one_of_a_few_things_is_not_known_by_how_often_it_did_them() {
    let mut tails = Tails::default();
    for epoch in 0..2400 {
        tails.hold(&subject(), if epoch % 120 < 60 { 4.2 } else { -0.7 }, epoch, false);
    }
    assert!(tails.surprise(&subject(), 9.0).unwrap() < 6.0);
    assert!(tails.surprise(&subject(), 60.0).unwrap() > 9.0);
}

/// Hours that are known of programs with blocks of their own: `largest` of one in a block of an hour.
fn hours(programs: usize, hours: u32, largest: &mut dyn FnMut(usize, u32) -> f64) -> f64 {
    let mut tails = Tails::default();
    for program in 0..programs {
        let workload = Workload::new(format!("s{program}.service"));
        let subject = Subject::new(workload, Program::new("/usr/bin/web"));
        for block in 0..=12 * hours {
            tails.hold(&subject, largest(program, block), block * BLOCK_EPOCHS, false);
        }
    }
    tails.hours()
}

#[test]
fn hours_are_known_by_programs_that_vary_and_not_by_the_one_of_which_most_seems_known() {
    const PROGRAMS: usize = 100;
    let mut rng = SmallRng::seed_from_u64(4);
    let mut fresh = || {
        // The largest of sixty.
        let most = rng.gen_range(0.0f64..1.0).powf(1.0 / 60.0);
        -(1.0 - most).max(1e-12).ln()
    };
    let different = hours(PROGRAMS, 62, &mut |_, _| fresh());
    assert!(different > 50.0, "{different}");
    // A week for which an hour was drawn again and again, in pieces of ten minutes.
    let hour: Vec<Vec<f64>> = (0..PROGRAMS).map(|_| (0..12).map(|_| fresh()).collect()).collect();
    let mut draw = SmallRng::seed_from_u64(5);
    let drawn: Vec<usize> = (0..=7 * 24 * 6).map(|_| 2 * draw.gen_range(0..6)).collect();
    let lived =
        |program: usize, block: u32| hour[program][drawn[block as usize / 2] + block as usize % 2];
    let copies = hours(PROGRAMS, 7 * 24, &mut |program, block| lived(program, block));
    assert!(copies < 10.0, "{copies}");
    let and_noise = hours(PROGRAMS, 7 * 24, &mut |program, block| match program {
        0 => fresh(),
        _ => lived(program, block),
    });
    assert!(and_noise < 10.0, "{and_noise}");
    // Steady programs say nothing, so that the one that isn't is believed.
    let steady = hours(21, 62, &mut |program, _| if program == 0 { fresh() } else { 1.0 });
    assert!(steady > 10.0, "{steady}");
}

#[test]
fn a_program_is_known_since_it_was_first_measured() {
    let later = Subject::new(Workload::new("late.service"), Program::new("/usr/bin/late"));
    let mut tails = Tails::default();
    for hour in 0..10 {
        tails.watch(1.0);
        tails.hold(&subject(), 1.0, hour * 720, false);
        if hour >= 7 {
            tails.hold(&later, 1.0, hour * 720, false);
        }
    }
    assert_eq!((tails.hours_of(&subject()), tails.hours_of(&later)), (9.0, 2.0));
    let stranger = Subject::new(Workload::new("new.service"), Program::new("/bin/x"));
    assert_eq!(tails.hours_of(&stranger), 0.0);
    // What was saved without the hours has those that its blocks tell of.
    let mut old = Tails { watched: 0.0, ..tails };
    old.subjects.values_mut().for_each(|tail| tail.since = 0.0);
    let blocks = old.host.blocks as f64 / BLOCKS_PER_HOUR;
    old.watch(1.0);
    assert_eq!(old.hours_of(&subject()), blocks + 1.0);
}

/// A program with a level of its own that is known for days, and the same after one burst.
#[test]
fn a_burst_makes_nothing_below_it_usual_and_what_stays_is_usual_after_some_hours() {
    let mut rng = SmallRng::seed_from_u64(3);
    let mut tails = Tails::default();
    let mut live = |tails: &mut Tails, blocks: std::ops::Range<u32>| {
        for block in blocks {
            tails.watch(1.0 / 12.0);
            let x = -rng.gen_range(1e-3f64..1.0).ln() / 2.0;
            tails.hold(&subject(), x, block * BLOCK_EPOCHS, false);
        }
    };
    live(&mut tails, 0..24);
    let floor = 6.6;
    let surprise = |tails: &Tails, x: f64| tails.surprise(&subject(), x).unwrap();
    for epoch in 24 * BLOCK_EPOCHS..25 * BLOCK_EPOCHS {
        let above = surprise(&tails, 12.0) >= floor;
        tails.hold(&subject(), 12.0, epoch, above);
    }
    live(&mut tails, 25..24 * 12 * 4);
    assert!(surprise(&tails, 11.5) > floor, "{}", surprise(&tails, 11.5));
    // Work that it has from now on is told for hours, not for days.
    let mut above = 0;
    for block in 24 * 12 * 4..24 * 12 * 5 {
        let is_above = surprise(&tails, 12.0) >= floor;
        above += u32::from(is_above);
        tails.hold(&subject(), 12.0, block * BLOCK_EPOCHS, is_above);
    }
    assert!((13..=144).contains(&above), "{above} blocks");
}

/// Names that are made up by the thousand: a program that came later has a tail, those that live keep
/// theirs, and neither the hours that are known nor how many programs there are moves by much.
#[test]
fn names_that_are_made_up_fill_nothing() {
    let of = |workload: &str, at: usize| {
        Subject::new(Workload::new(workload), Program::new(format!("memfd:{at}")))
    };
    let mut rng = SmallRng::seed_from_u64(6);
    let mut tails = Tails::default();
    let mut live = |tails: &mut Tails, blocks: std::ops::Range<u32>, made: usize| {
        for block in blocks {
            tails.watch(1.0 / 12.0);
            for program in 0..20 {
                let x = -rng.gen_range(1e-3f64..1.0).ln();
                tails.hold(&of("web.service", program), x, block * BLOCK_EPOCHS, false);
            }
            for at in 0..made {
                let name = of("job.service", block as usize * made + at);
                tails.hold(&name, 1.0, block * BLOCK_EPOCHS, false);
            }
        }
    };
    live(&mut tails, 0..24 * 12, 0);
    let (hours, programs) = (tails.hours(), tails.measured());
    live(&mut tails, 24 * 12..25 * 12, 250);
    assert!(tails.programs() <= GROUPS_MAX && tails.forgotten() > 0);
    assert!(tails.hours() > 0.7 * hours, "{} of {hours}", tails.hours());
    let moved = (tails.measured() / programs).ln();
    assert!(moved < 0.5, "{moved} nats");
    let later = of("later.service", 1);
    (0..24).for_each(|at| tails.hold(&later, 1.0, (400 + at) * BLOCK_EPOCHS, false));
    assert_eq!(tails.of(&later, &later.text()).map(|tail| tail.windows), Some(24));
    assert!((0..20).all(|at| tails.hours_of(&of("web.service", at)) > 24.0));
}

/// A quarter of an hour that is lived again and again is known no better after a day than after an
/// hour; a day that is none is.
#[test]
fn what_repeats_itself_is_known_no_better_for_it() {
    const LIVES: u64 = 20;
    let fresh = |rng: &mut SmallRng| -rng.gen_range(1e-3f64..1.0).ln();
    let after = |hours: u32, repeats: bool| {
        let of = |seed: u64| -> [f64; 2] {
            let mut rng = SmallRng::seed_from_u64(seed);
            let quarter: Vec<f64> = (0..180).map(|_| fresh(&mut rng)).collect();
            let mut tails = Tails::default();
            for block in 0..hours * 12 {
                let from = rng.gen_range(0..120);
                for epoch in 0..60 {
                    let lived = if repeats { quarter[from + epoch] } else { fresh(&mut rng) };
                    tails.hold(&subject(), lived, block * 60 + epoch as u32, false);
                }
            }
            [tails.surprise(&subject(), 16.0).unwrap(), tails.hours()]
        };
        let sum = (0..LIVES).map(of).fold([0.0; 2], |sum, [a, b]| [sum[0] + a, sum[1] + b]);
        sum.map(|sum| sum / LIVES as f64)
    };
    let ([hour, _], [day, copies], [other, own]) =
        (after(1, true), after(24, true), after(24, false));
    assert!(copies < 1.0 && own > 6.0, "{copies} and {own} hours of 24");
    println!("{hour:.1} nats after an hour, {day:.1} after a day of it, {other:.1} after another");
    assert!(day < hour + 1.0, "{day} after {hour}");
    assert!(other > day + 2.0, "{other} and {day}");
}
