#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::collections::{BTreeSet, HashMap};

/// In how many units each thing was seen.
#[derive(Default)]
struct Counter {
    things: HashMap<u64, u64>,
    units: u64,
    total: u64,
}

impl Counter {
    fn unit(&mut self, things: &[u64]) {
        self.units += 1;
        for thing in things.iter().collect::<BTreeSet<_>>() {
            *self.things.entry(*thing).or_default() += 1;
            self.total += 1;
        }
    }

    fn incidence(&self) -> Incidence {
        let of = |n: u64| self.things.values().filter(|units| **units == n).count() as u64;
        Incidence { units: self.units, once: of(1), total: self.total }
    }
}

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
            let mut counter = Counter::default();
            units[..seen].iter().for_each(|unit| counter.unit(unit));
            let forecast = counter.incidence().forecast().unwrap();
            let (mut new, mut distinct) = (0, 0);
            for unit in &units[seen..] {
                let things: BTreeSet<u64> = unit.iter().copied().collect();
                distinct += things.len();
                new += things.iter().filter(|thing| !counter.things.contains_key(thing)).count();
            }
            ratios.push(forecast.new_share / (new as f64 / distinct as f64));
        }
        ratios.sort_unstable_by(f64::total_cmp);
        let median = ratios[ratios.len() / 2];
        assert!((0.8..1.25).contains(&median), "{seen} units: {median}");
    }
}

#[test]
fn states_follow_the_rule() {
    let rule = MaturityRule::default();
    let calm = Incidence { units: 2_000, once: 20, total: 40_000 };
    let hours = Incidence { units: 168, once: 3, total: 4_000 };
    let ready = Learned { frozen: true, grams: Some(calm), first_seen: Some(hours) };
    assert_eq!(maturity(&ready, &rule), Maturity::Mature);
    let not_yet = [
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
    fn forecasts_stay_in_their_ranges(units in 0u64..1_000_000, once in 0u64..10_000,
                                      more in 0u64..100_000) {
        let total = once + more;
        if let Some(f) = (Incidence { units, once, total }).forecast() {
            prop_assert!((0.0..=1.0).contains(&f.new_share));
        }
    }
}
