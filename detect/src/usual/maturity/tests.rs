#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::collections::BTreeSet;

/// Units of 60 draws from a Zipf law over 20,000 things, in bursts: a draw repeats up to twenty
/// times, and half the units also take things that only a few units share.
fn bursty_units(seed: u64, units: usize) -> Vec<Vec<u64>> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let weights: Vec<f64> = (1..=20_000).map(|rank| (rank as f64).powf(-1.1)).collect();
    let mut sums = Vec::with_capacity(weights.len());
    let mut sum = 0.0;
    for weight in weights {
        sum += weight;
        sums.push(sum);
    }
    (0..units)
        .map(|_| {
            let rare = rng.gen_range(0..400_u64);
            let mut unit = Vec::new();
            while unit.len() < 60 {
                let drawn = rng.gen_range(0.0..sum);
                let thing = sums.partition_point(|&s| s < drawn) as u64;
                let thing = if rng.gen_bool(0.1) { 1_000_000 + rare } else { thing };
                for _ in 0..rng.gen_range(1..20) {
                    unit.push(thing);
                }
            }
            unit
        })
        .collect()
}

#[test]
fn the_forecast_meets_what_comes() {
    for seen in [200, 500, 2_000] {
        let mut ratios = Vec::new();
        for seed in 0..20 {
            let units = bursty_units(seed, seen + 100);
            let mut counter = IncidenceCounter::default();
            for (number, unit) in units[..seen].iter().enumerate() {
                counter.begin(number as u64);
                unit.iter().for_each(|&thing| {
                    counter.see(thing);
                });
            }
            let forecast = counter.incidence().forecast().unwrap();
            let (mut new, mut distinct) = (0, 0);
            for unit in &units[seen..] {
                let things: BTreeSet<u64> = unit.iter().copied().collect();
                distinct += things.len();
                new += things.iter().filter(|&&thing| !counter.knows(thing)).count();
            }
            ratios.push(forecast.new_share / (new as f64 / distinct as f64));
        }
        ratios.sort_unstable_by(f64::total_cmp);
        let median = ratios[ratios.len() / 2];
        assert!((0.8..1.25).contains(&median), "{seen} units: {median}");
    }
}

#[test]
fn the_sum_over_coming_units_is_forecast_too() {
    let mut ratios = Vec::new();
    for seed in 0..10 {
        let units = bursty_units(seed, 1_000);
        let mut counter = IncidenceCounter::default();
        let mut at_half = None;
        let mut new = 0;
        for (number, unit) in units.iter().enumerate() {
            if number == 500 {
                at_half = counter.incidence().forecast();
                new = 0;
            }
            counter.begin(number as u64);
            new += unit.iter().filter(|&&thing| counter.see(thing)).count();
        }
        ratios.push(at_half.unwrap().new_within(500.0) / new as f64);
    }
    let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
    assert!((0.75..1.25).contains(&mean), "{mean}");
}

#[test]
fn a_unit_counts_a_thing_once() {
    let mut counter = IncidenceCounter::default();
    for (unit, things) in [(7, [1, 1, 2]), (7, [1, 2, 2]), (9, [1, 3, 3])] {
        counter.begin(unit);
        things.iter().for_each(|&t| {
            counter.see(t);
        });
    }
    let expected = Incidence { units: 2, once: 2, twice: 1, total: 4 };
    assert_eq!(counter.incidence(), expected);
    counter.begin(10);
    assert!(!counter.see(1) && counter.see(4));
    assert_eq!(counter.incidence(), Incidence { units: 3, once: 3, twice: 0, total: 6 });
}

#[test]
fn a_full_counter_never_matures() {
    let mut counter = IncidenceCounter::default();
    counter.begin(0);
    for thing in 0..MAX_THINGS as u64 + 10 {
        counter.see(thing);
    }
    for unit in 1..200 {
        counter.begin(unit);
        counter.see(u64::MAX);
    }
    assert_eq!(counter.refused(), 10 + 199);
    assert!(counter.incidence().forecast().unwrap().new_per_unit > 1.0);
}

#[test]
fn states_follow_the_rule() {
    let rule = MaturityRule::for_budget(1.0);
    let calm = Incidence { units: 2_000, once: 20, twice: 10, total: 40_000 };
    let hours = Incidence { units: 168, once: 3, twice: 2, total: 4_000 };
    let ready =
        Learned { frozen: true, level_supported: true, grams: Some(calm), first_seen: Some(hours) };
    assert_eq!(maturity(&ready, &rule), Maturity::Mature);
    let not_yet = [
        Learned { level_supported: false, ..ready },
        Learned { grams: Some(Incidence { units: 499, ..calm }), ..ready },
        Learned { grams: Some(Incidence { once: 401, ..calm }), ..ready },
        Learned { first_seen: Some(Incidence { once: 8, ..hours }), ..ready },
        Learned { first_seen: Some(Incidence { units: 99, ..hours }), ..ready },
        Learned { grams: None, first_seen: None, ..ready },
    ];
    for learned in not_yet {
        assert_eq!(maturity(&learned, &rule), Maturity::Provisional, "{learned:?}");
    }
    let learning = Learned { frozen: false, ..ready };
    assert_eq!(maturity(&learning, &rule), Maturity::Learning);
    assert!(Maturity::Learning < Maturity::Provisional && Maturity::Provisional < Maturity::Mature);
}

proptest! {
    #[test]
    fn the_counter_agrees_with_counting_by_hand(
        units in proptest::collection::vec(proptest::collection::vec(0u64..30, 0..20), 1..40),
    ) {
        let mut counter = IncidenceCounter::default();
        let mut by_hand = std::collections::BTreeMap::<u64, u64>::new();
        for (number, unit) in units.iter().enumerate() {
            counter.begin(number as u64);
            for &thing in unit {
                counter.see(thing);
            }
            for thing in unit.iter().collect::<BTreeSet<_>>() {
                *by_hand.entry(*thing).or_default() += 1;
            }
        }
        let of = |n: u64| by_hand.values().filter(|&&units| units == n).count() as u64;
        let expected = Incidence {
            units: units.len() as u64,
            once: of(1),
            twice: of(2),
            total: by_hand.values().sum(),
        };
        prop_assert_eq!(counter.incidence(), expected);
    }

    #[test]
    fn forecasts_stay_in_their_ranges(units in 0u64..1_000_000, once in 0u64..10_000,
                                      twice in 0u64..10_000, more in 0u64..100_000) {
        let total = once + 2 * twice + more;
        if let Some(f) = (Incidence { units, once, twice, total }).forecast() {
            prop_assert!((0.0..=1.0).contains(&f.new_share));
            prop_assert!(f.new_within(1.0) <= f.unseen + 1e-9 && f.new_within(1.0) >= 0.0);
            prop_assert!(f.new_within(1e9) <= f.unseen + 1e-9);
            prop_assert!(f.new_within(10.0) >= f.new_within(5.0));
        }
    }
}
