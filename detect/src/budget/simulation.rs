#![allow(clippy::unwrap_used)]
//! Sixty days of life of a host, twenty times: does the budget hold?

use super::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};

const WINDOW_S: u64 = 10;
const HELD_BACK_DAYS: u64 = 10;
const LIFE_DAYS: u64 = 60;
const PER_DAY: f64 = 5.0;
const SEEDS: u64 = 20;
const HOST: EpisodeKey = 1;
const ATTACKER: EpisodeKey = 2;

/// A standard normal AR(1) process with rho = .99 a window.
struct Autoregressive {
    rng: SmallRng,
    state: f64,
    spare: Option<f64>,
}

impl Autoregressive {
    fn new(seed: u64) -> Self {
        Autoregressive { rng: SmallRng::seed_from_u64(seed), state: 0.0, spare: None }
    }

    /// Marsaglia's polar method.
    fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (x, y) = (self.rng.gen_range(-1.0..1.0), self.rng.gen_range(-1.0..1.0));
            let square: f64 = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                let scale = (-2.0 * square.ln() / square).sqrt();
                self.spare = Some(y * scale);
                return x * scale;
            }
        }
    }

    fn next(&mut self) -> f64 {
        const RHO: f64 = 0.99;
        self.state = RHO * self.state + (1.0 - RHO * RHO).sqrt() * self.normal();
        self.state
    }
}

/// How life differs from a stationary host.
#[derive(Clone, Copy, Default)]
struct World {
    /// Rise of the mean, standard deviations over the sixty days.
    drift: f64,
    /// Amplitude of the daily cycle, standard deviations; held-back days have it too.
    cycle: f64,
    /// Factor on the variance of life.
    variance: Option<f64>,
    /// Days with noise by an attacker: every ten minutes a window between the threshold and one
    /// and a half standard deviations above it.
    noise_days: Option<(u64, u64)>,
}

struct Outcome {
    per_day: f64,
    busiest_week: usize,
    busiest_day_ordinary: usize,
    fastest_day_move: f64,
    below_floor: bool,
    budget: Budget,
}

fn most_within(times_s: &[u64], span_s: u64) -> usize {
    let mut start = 0;
    let mut most = 0;
    for (end, &time) in times_s.iter().enumerate() {
        while time - times_s[start] >= span_s {
            start += 1;
        }
        most = most.max(end - start + 1);
    }
    most
}

fn live(seed: u64, world: World) -> Outcome {
    let mut process = Autoregressive::new(seed);
    let cycle =
        |time_s: u64| world.cycle * (time_s as f64 / DAY_S as f64 * std::f64::consts::TAU).sin();
    let start_s = HELD_BACK_DAYS * DAY_S;
    let held_back: Vec<_> = (0..start_s / WINDOW_S)
        .map(|i| i * WINDOW_S)
        .map(|time_s| Scored { time_s, key: HOST, score: process.next() + cycle(time_s) })
        .collect();
    let params = BudgetParams { episodes_per_day: PER_DAY, ..BudgetParams::default() };
    let mut budget = Budget::new(params).unwrap();
    assert!(budget.calibrate(&held_back).supported);
    let range = budget.level.unwrap().range;

    let (mut alerts, mut ordinary, mut thresholds) = (Vec::new(), Vec::new(), Vec::new());
    let mut below_floor = false;
    for step in 0..LIFE_DAYS * DAY_S / WINDOW_S {
        let since_s = step * WINDOW_S;
        let time_s = start_s + since_s;
        let day = since_s / DAY_S;
        let share = since_s as f64 / (LIFE_DAYS * DAY_S) as f64;
        let scale = world.variance.unwrap_or(1.0).sqrt();
        let score = scale * process.next() + world.drift * share + cycle(time_s);
        let mut decided = vec![(score, budget.observe(time_s, HOST, score, false))];
        let noisy = world.noise_days.is_some_and(|(from, to)| (from..to).contains(&day));
        if noisy && since_s.is_multiple_of(600) {
            let score = budget.threshold().unwrap() + process.rng.gen_range(0.0..1.5);
            decided.push((score, budget.observe(time_s, ATTACKER, score, false)));
        }
        for (_, decision) in decided {
            if let Decision::Alert { over_budget } = decision {
                alerts.push(time_s);
                if !over_budget {
                    ordinary.push(time_s);
                }
            }
        }
        if since_s.is_multiple_of(HOUR_S) {
            let level = budget.level.unwrap();
            below_floor |= level.threshold < level.floor;
            thresholds.push(level.threshold);
        }
    }
    let fastest = thresholds
        .windows(25)
        .map(|w| w.iter().map(|t| (t - w[24]).abs()).fold(0.0, f64::max))
        .fold(0.0, f64::max);
    Outcome {
        per_day: alerts.len() as f64 / LIFE_DAYS as f64,
        busiest_week: most_within(&alerts, 7 * DAY_S),
        busiest_day_ordinary: most_within(&ordinary, DAY_S),
        fastest_day_move: fastest / range,
        below_floor,
        budget,
    }
}

/// Runs all seeds of a world, checks what must hold in every one, and returns the mean rate.
fn check(name: &str, world: World) -> f64 {
    let mut mean = 0.0;
    let mut busiest = 0;
    for seed in 0..SEEDS {
        let outcome = live(seed, world);
        mean += outcome.per_day / SEEDS as f64;
        busiest = busiest.max(outcome.busiest_week);
        let week = outcome.busiest_week as f64;
        assert!(week <= 14.0 * PER_DAY, "{name}, seed {seed}: {week} alerts in seven days");
        assert!(outcome.busiest_day_ordinary as f64 <= 2.0 * PER_DAY, "{name}, seed {seed}");
        assert!(outcome.fastest_day_move <= 0.1 + 1e-9, "{name}, seed {seed}");
        assert!(!outcome.below_floor, "{name}, seed {seed}");
        let reported = outcome.budget.report().achieved_per_day.unwrap();
        assert!((reported - outcome.per_day).abs() < 0.01, "{name}, seed {seed}: {reported}");
    }
    println!("{name}: {mean:.2} a day, asked {PER_DAY}; busiest week {busiest}");
    mean
}

fn within_30_percent(mean: f64) -> bool {
    (0.7 * PER_DAY..=1.3 * PER_DAY).contains(&mean)
}

#[test]
fn a_stationary_host_gets_its_budget() {
    assert!(within_30_percent(check("stationary", World::default())));
}

#[test]
fn a_daily_cycle_is_within_the_budget() {
    assert!(within_30_percent(check("cycle", World { cycle: 0.5, ..World::default() })));
}

#[test]
fn drift_is_followed() {
    assert!(within_30_percent(check("drift", World { drift: 2.0, ..World::default() })));
    let both = World { drift: 2.0, cycle: 0.5, ..World::default() };
    assert!(within_30_percent(check("drift and cycle", both)));
}

#[test]
fn a_quiet_host_stays_silent() {
    let quiet = World { variance: Some(0.2), ..World::default() };
    // The floor is above seven of the quiet host's standard deviations.
    assert_eq!(check("quiet", quiet), 0.0);
}

#[test]
fn noise_buys_little_silence() {
    let noisy = World { noise_days: Some((20, 25)), ..World::default() };
    check("noise", noisy);
    for seed in 0..3 {
        let mut world = noisy;
        world.noise_days = Some((55, 60));
        let mut outcome = live(seed, world);
        let level = outcome.budget.level.unwrap();
        let raised = (level.threshold - level.floor) / level.range;
        assert!(raised <= 0.8, "seed {seed}: five days of noise raised it by {raised}");
        // An attack well above the noise alerts at once, cap or no cap.
        let end_s = (HELD_BACK_DAYS + LIFE_DAYS) * DAY_S;
        let attack = outcome.budget.observe(end_s, 3, level.threshold + 10.0, false);
        assert!(matches!(attack, Decision::Alert { .. }), "seed {seed}: {attack:?}");
    }
}
