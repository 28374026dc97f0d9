#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

/// Ten days of a window a minute at 0.4, with one peak a day that rises from day to day.
fn held_back() -> Vec<Scored> {
    (0..10 * 1440u64)
        .map(|minute| Scored {
            time_s: minute * 60,
            key: 1,
            score: if minute % 1440 == 700 { (60 + minute / 1440) as f64 / 100.0 } else { 0.4 },
        })
        .collect()
}

fn calibrated(episodes_per_day: f64) -> Budget {
    let params = BudgetParams { episodes_per_day, ..BudgetParams::default() };
    let mut budget = Budget::new(params).unwrap();
    assert!(budget.calibrate(&held_back()).supported);
    budget
}

const START_S: u64 = 10 * DAY_S;
const ORDINARY: Decision = Decision::Alert { over_budget: false };
const OVER: Decision = Decision::Alert { over_budget: true };

#[test]
fn the_floor_is_where_held_back_data_gave_the_budget() {
    // 9.99 days at one a day: eight episodes above the threshold and one for the correction.
    assert_eq!(calibrated(1.0).threshold(), Some(0.61));
    // Half as many: four in 9.99 days, less one.
    assert_eq!(calibrated(0.5).threshold(), Some(0.66));
}

#[test]
fn too_few_days_are_silent_until_clean_windows_join() {
    let mut budget = Budget::new(BudgetParams::default()).unwrap();
    let half_a_day = &held_back()[..720];
    let support = budget.calibrate(half_a_day);
    assert!(!support.supported && support.supported_per_day > 2.0);
    assert_eq!(budget.observe(START_S, 1, 1e9, true), Decision::Silent);
    for minute in 0..700 {
        assert!(!budget.join(START_S + minute * 60, 0.7));
    }
    for minute in 700..760 {
        budget.join(START_S + minute * 60, 0.3);
    }
    assert!(budget.support().supported);
    assert_eq!(budget.threshold(), Some(0.7));
    // Later clean windows do not move the floor.
    assert!(budget.join(START_S + DAY_S, 0.9));
    assert_eq!(budget.threshold(), Some(0.7));
}

#[test]
fn findings_with_short_gaps_are_one_episode() {
    let mut budget = calibrated(1.0);
    assert_eq!(budget.observe(START_S, 1, 0.9, false), ORDINARY);
    assert_eq!(budget.observe(START_S + 300, 1, 0.9, false), Decision::Merged);
    assert_eq!(budget.observe(START_S + 600, 1, 0.95, false), Decision::Merged);
    assert_eq!(budget.observe(START_S + 600, 2, 0.9, false), ORDINARY);
    assert_eq!(budget.report().open_episodes, 2);
    assert_eq!(budget.observe(START_S + 901, 1, 0.9, false), Decision::Suppressed);
}

#[test]
fn past_the_cap_only_a_higher_or_bypassing_episode_alerts() {
    let mut budget = calibrated(1.0);
    assert_eq!(budget.observe(START_S, 1, 0.9, false), ORDINARY);
    assert_eq!(budget.observe(START_S + 1, 2, 0.8, false), ORDINARY);
    assert_eq!(budget.observe(START_S + 2, 3, 0.85, false), Decision::Suppressed);
    assert_eq!(budget.observe(START_S + 3, 4, 0.9, false), Decision::Suppressed);
    assert_eq!(budget.observe(START_S + 4, 5, 0.85, true), OVER);
    assert_eq!(budget.observe(START_S + 5, 6, 0.91, false), OVER);
    // A suppressed episode that rises above all of the day alerts after all.
    assert_eq!(budget.observe(START_S + 6, 3, 0.92, false), OVER);
    assert_eq!(budget.observe(START_S + 7, 3, 0.92, false), Decision::Merged);
    // Bypassing lifts the cap, not the threshold.
    assert_eq!(budget.observe(START_S + 8, 7, 0.5, true), Decision::Below);
    let totals = budget.report().totals;
    assert_eq!((totals.alerts, totals.over_budget, totals.suppressed), (5, 3, 2));
    // A day later there is room again.
    assert_eq!(budget.observe(START_S + 8 + DAY_S, 8, 0.8, false), ORDINARY);
}

#[test]
fn the_cap_holds_for_provisional_alerts_too() {
    let mut budget = Budget::new(BudgetParams::default()).unwrap();
    assert_eq!(budget.admit(START_S, 1, 0.5, false), ORDINARY);
    assert_eq!(budget.admit(START_S, 2, 0.4, false), ORDINARY);
    assert_eq!(budget.admit(START_S, 3, 0.45, false), Decision::Suppressed);
}

#[test]
fn a_new_model_does_not_reset_the_cap() {
    let mut budget = calibrated(1.0);
    budget.observe(START_S, 1, 0.9, false);
    budget.observe(START_S, 2, 0.9, false);
    budget.calibrate(&held_back());
    assert_eq!(budget.observe(START_S + 1, 3, 0.9, false), Decision::Suppressed);
}

#[test]
fn a_clock_that_is_set_back_does_not_stop_time() {
    let mut budget = calibrated(1.0);
    budget.observe(START_S, 1, 0.9, false);
    budget.observe(START_S, 2, 0.9, false);
    // After the step, a whole day must pass before there is room.
    assert_eq!(budget.observe(1_000, 3, 0.9, false), Decision::Suppressed);
    for minute in 0..1440 {
        budget.observe(1_000 + minute * 60, 1, 0.1, false);
    }
    assert_eq!(budget.observe(1_000 + DAY_S + 301, 4, 0.9, false), ORDINARY);
}

#[test]
fn parameters_out_of_range_are_refused() {
    let make = |params| Budget::new(params).unwrap_err();
    let good = BudgetParams::default();
    let bad = BudgetParams { episodes_per_day: 0.0, ..good };
    assert_eq!(make(bad), BudgetError::EpisodesPerDay(0.0));
    let bad = BudgetParams { episodes_per_day: f64::NAN, ..good };
    assert!(matches!(make(bad), BudgetError::EpisodesPerDay(_)));
    assert_eq!(make(BudgetParams { merge_gap_s: 0, ..good }), BudgetError::MergeGap(0));
    assert_eq!(make(BudgetParams { daily_move: 1.5, ..good }), BudgetError::DailyMove(1.5));
}

proptest! {
    #[test]
    fn no_input_breaks_the_cap_the_floor_or_the_daily_move(
        steps in proptest::collection::vec((0u64..40_000, 0u64..6, 0.0f64..2.0), 1..300),
        jump in proptest::option::of(any::<u64>()),
    ) {
        let mut budget = calibrated(1.0);
        let level = budget.level.unwrap();
        let mut ordinary = Vec::new();
        let mut time_s = START_S;
        for &(step_s, key, score) in &steps {
            time_s += step_s;
            if budget.observe(time_s, key, score, false) == ORDINARY {
                ordinary.push(time_s);
                let day = ordinary.iter().filter(|&&t| time_s - t < DAY_S).count();
                prop_assert!(day <= 2);
            }
            prop_assert!(budget.threshold().unwrap() >= level.floor);
            let (low, high) = budget.hours.as_ref().unwrap().day_range();
            prop_assert!(high - low <= 0.1 * level.range + 1e-12);
        }
        // Whatever the clock does, nothing panics.
        if let Some(jump) = jump {
            budget.observe(jump, 1, 1.0, false);
            budget.observe(0, 1, 1.0, true);
            budget.report();
        }
    }
}
