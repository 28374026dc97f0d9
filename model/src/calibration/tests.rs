#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};

fn uniform(rows: usize, rng: &mut SmallRng) -> Calibration {
    let mut calibration = Calibration::new(CalibrationLimits::default());
    for _ in 0..rows {
        calibration.join(None, rng.r#gen());
    }
    calibration
}

#[test]
fn the_realised_false_alarm_rate_is_the_asked_one() {
    let mut rng = SmallRng::seed_from_u64(1);
    for (rows, level) in [(999, 0.01), (4_000, 0.01), (20_000, 0.001), (4_000, 0.2)] {
        let repeats = 60;
        let mut realised = 0.0;
        for _ in 0..repeats {
            // Scores are uniform, so the rate of false alarms is 1 - threshold.
            let calibration = uniform(rows, &mut rng);
            let threshold = calibration.threshold(None, level).unwrap();
            realised += (1.0 - threshold) / f64::from(repeats);
        }
        let ratio = realised / level;
        assert!((0.85..1.15).contains(&ratio), "{rows} rows at {level}: {ratio}");
    }
}

#[test]
fn p_values_are_super_uniform_over_new_rows() {
    let mut rng = SmallRng::seed_from_u64(2);
    let calibration = uniform(10_000, &mut rng);
    let trials = 20_000;
    for level in [0.002, 0.05, 0.5] {
        let alarms = (0..trials)
            .filter(|_| {
                matches!(calibration.judge(None, rng.r#gen(), level), Judgement::Exceeds { .. })
            })
            .count();
        let rate = alarms as f64 / f64::from(trials);
        let deviation = (level / 10_000.0_f64 + level / f64::from(trials)).sqrt();
        // Below the exact tail the count is an estimate from 1,024 sampled rows.
        let sampled = if level > 0.1 { 0.5 / 32.0 } else { 0.0 };
        assert!((rate - level).abs() < 4.0 * (deviation + sampled), "{level}: {rate}");
    }
}

#[test]
fn a_level_without_the_rows_for_it_is_silent_and_says_what_it_needs() {
    let mut calibration = Calibration::new(CalibrationLimits::default());
    for i in 0..98 {
        calibration.join(Some("a"), f64::from(i));
    }
    let too_few = Judgement::Silent(Silence::TooFewRows { rows: 98, needed: 99 });
    assert_eq!(calibration.judge(Some("a"), 1e9, 0.01), too_few);
    calibration.join(Some("b"), 98.0);
    let judged = calibration.judge(Some("a"), 1e9, 0.01);
    assert_eq!(judged, Judgement::Exceeds { p_value: 0.01, scope: Scope::Pooled });
    calibration.join(Some("a"), 99.0);
    let judged = calibration.judge(Some("a"), 1e9, 0.01);
    assert_eq!(judged, Judgement::Exceeds { p_value: 0.01, scope: Scope::Group });
    assert_eq!(calibration.supported_level(Some("a")), 1.0 / 101.0);
    let nan = calibration.judge(None, f64::NAN, 0.5);
    assert_eq!(nan, Judgement::Silent(Silence::NotFinite));
}

#[test]
fn a_group_is_judged_by_its_own_rows() {
    let mut calibration = Calibration::new(CalibrationLimits::default());
    for i in 0..200 {
        calibration.join(Some("quiet"), f64::from(i) * 1e-3);
        calibration.join(Some("busy"), f64::from(i));
    }
    let quiet = calibration.judge(Some("quiet"), 1.0, 0.01);
    assert!(matches!(quiet, Judgement::Exceeds { scope: Scope::Group, .. }));
    let busy = calibration.judge(Some("busy"), 1.0, 0.01);
    assert!(matches!(busy, Judgement::Within { scope: Scope::Group, .. }));
    let stranger = calibration.judge(Some("stranger"), 1.0, 0.01);
    assert!(matches!(stranger, Judgement::Within { scope: Scope::Pooled, .. }));
    assert_eq!(calibration.maximum(Some("quiet")), Some(0.199));
}

#[test]
fn groups_past_the_limit_join_the_pooled_set_and_are_counted() {
    let limits = CalibrationLimits { group_capacity: 2, ..CalibrationLimits::default() };
    let mut calibration = Calibration::new(limits);
    for (i, group) in ["a", "b", "c", "d", "a"].into_iter().enumerate() {
        assert!(calibration.join(Some(group), i as f64));
    }
    assert_eq!(calibration.groups().collect::<Vec<_>>(), [("a", 2), ("b", 1)]);
    assert_eq!((calibration.rows(), calibration.ungrouped_rows()), (5, 2));
}

proptest! {
    #[test]
    fn rows_needed_is_the_least_number_that_reaches_the_level(level in 1e-9f64..1.5) {
        let rows = rows_needed(level);
        prop_assert!(1.0 / (rows + 1) as f64 <= level);
        prop_assert!(rows == 0 || 1.0 / rows as f64 > level);
    }

    #[test]
    fn a_score_is_judged_alike_by_threshold_and_by_p_value(
        scores in proptest::collection::vec(0u8..50, 20..200),
        asked in 0u8..50,
        percent in 5u8..90,
    ) {
        let level = f64::from(percent) / 100.0;
        let mut calibration = Calibration::new(CalibrationLimits::default());
        for &s in &scores {
            calibration.join(None, f64::from(s));
        }
        let exceeds = matches!(
            calibration.judge(None, f64::from(asked), level),
            Judgement::Exceeds { .. }
        );
        let threshold = calibration.threshold(None, level).unwrap();
        prop_assert_eq!(exceeds, f64::from(asked) > threshold);
    }
}
