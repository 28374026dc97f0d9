#![allow(clippy::unwrap_used)]
//! The combiner's contract: its false-alarm rate, whatever the dependence, and its estimator's.

use hedgerow_model::CombinedDetector;
use hedgerow_model::combiner::{
    CombinedDetectorError, CombinedDetectorParams, CombinedDetectorParamsError,
    CombinedDetectorValidParams, CombinerError, FisherCombiner,
};
use linfa::ParamGuard;
use linfa::prelude::*;
use ndarray::{Array1, Array2, array, s};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

fn rng(seed: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(seed)
}

fn normals(n_rows: usize, n_columns: usize, seed: u64) -> Array2<f64> {
    let mut rng = rng(seed);
    Array2::from_shape_fn((n_rows, n_columns), |_| {
        (0..12).map(|_| rng.r#gen::<f64>()).sum::<f64>() - 6.0
    })
}

/// Scores of three detectors that share `shared` of their variance.
fn dependent_scores(n_rows: usize, shared: f64, seed: u64) -> Array2<f64> {
    let common = normals(n_rows, 1, seed) * shared.sqrt();
    normals(n_rows, 3, seed + 1) * (1.0 - shared).sqrt() + common
}

#[test]
fn autotraits() {
    fn has_autotraits<T: Send + Sync + Sized + Unpin>() {}
    has_autotraits::<FisherCombiner>();
    has_autotraits::<CombinerError>();
    has_autotraits::<CombinedDetector>();
    has_autotraits::<CombinedDetectorError>();
    has_autotraits::<CombinedDetectorParams<Xoshiro256PlusPlus>>();
    has_autotraits::<CombinedDetectorValidParams<Xoshiro256PlusPlus>>();
    has_autotraits::<CombinedDetectorParamsError>();
}

#[test]
fn false_alarms_keep_their_rate_however_dependent_the_detectors_are() {
    for shared in [0.0, 0.5, 0.95] {
        for level in [0.01, 0.1] {
            let mut alarms = 0;
            for repeat in 0..40 {
                let combiner =
                    FisherCombiner::new(dependent_scores(500, shared, 1000 * repeat).view());
                let combiner = combiner.unwrap();
                let fresh = dependent_scores(500, shared, 1000 * repeat + 500);
                alarms += (fresh.rows().into_iter())
                    .filter(|&row| combiner.p_value(row) <= level)
                    .count();
            }
            let ratio = alarms as f64 / (40.0 * 500.0 * level);
            // 20,000 rows against 40 calibration sets: the deviation of the ratio is about 10 % at
            // a level of 1 %.
            assert!((0.65..1.35).contains(&ratio), "{shared} {level}: {ratio}");
        }
    }
}

#[test]
fn the_statistic_orders_like_the_p_value_and_goes_on_beyond_the_calibration() {
    let combiner = FisherCombiner::new(dependent_scores(300, 0.3, 1).view()).unwrap();
    let line = |at: f64| array![at, at, at];
    let grid: Vec<f64> = (-400..800).map(|step| f64::from(step) / 100.0).collect();
    for pair in grid.windows(2) {
        let (low, high) = (line(pair[0]), line(pair[1]));
        assert!(combiner.p_value(low.view()) >= combiner.p_value(high.view()));
        assert!(combiner.statistic(low.view()) <= combiner.statistic(high.view()));
    }
    assert!(combiner.statistic(line(9.0).view()) > combiner.statistic(line(8.0).view()));
    assert_eq!(combiner.p_value(line(9.0).view()), 1.0 / 301.0);
    assert_eq!(combiner.p_value(line(-9.0).view()), 1.0);
}

#[test]
fn scores_that_calibrate_nothing_are_refused() {
    let new = |scores: Array2<f64>| FisherCombiner::new(scores.view()).unwrap_err();
    assert_eq!(new(Array2::zeros((0, 2))), CombinerError::Empty);
    assert_eq!(new(Array2::zeros((2, 0))), CombinerError::Empty);
    assert_eq!(
        new(array![[0.0, 1.0], [0.0, f64::NAN]]),
        CombinerError::NotFinite { row: 1, detector: 1 }
    );
}

#[test]
fn equal_scores_are_no_evidence() {
    let combiner = FisherCombiner::new(Array2::zeros((50, 2)).view()).unwrap();
    assert_eq!(combiner.p_value(array![0.0, 0.0].view()), 1.0);
    assert_eq!(combiner.statistic(array![0.0, 0.0].view()), 0.0);
    assert!(combiner.statistic(array![1.0, 1.0].view()).is_finite());
}

#[test]
fn each_parameter_out_of_range_is_named() {
    type Error = CombinedDetectorParamsError;
    let params = CombinedDetector::params;
    assert_eq!(params().n_folds(1).check().unwrap_err(), Error::Folds(1));
    assert_eq!(params().calibration_rows(0).check().unwrap_err(), Error::CalibrationRows(0));
    let error = params().n_trees(0).fit(&Dataset::from(normals(20, 2, 1))).unwrap_err();
    assert!(matches!(error, CombinedDetectorError::Forest(_)), "{error}");
}

#[test]
fn cross_calibrated_p_values_are_uniform_on_fresh_rows() {
    let rows = normals(1500, 4, 2);
    let detector = CombinedDetector::params()
        .n_trees(50)
        .fit(&Dataset::from(rows.slice(s![..1000, ..]).to_owned()))
        .unwrap();
    let p_values = detector.p_values(normals(4000, 4, 3).view());
    for level in [0.05, 0.2, 0.5] {
        let share = p_values.iter().filter(|&&p| p <= level).count() as f64 / 4000.0;
        assert!((share / level - 1.0).abs() < 0.35, "{level}: {share}");
    }
    let mut split = detector.clone();
    split.recalibrate(rows.slice(s![1000.., ..])).unwrap();
    assert_eq!(split.combiner().n_rows(), 500);
    let p_values = split.p_values(normals(4000, 4, 4).view());
    let share = p_values.iter().filter(|&&p| p <= 0.1).count() as f64 / 4000.0;
    assert!((0.05..0.15).contains(&share), "{share}");
}

#[test]
fn small_training_sets_and_threads_do_not_matter() {
    for n_rows in [1, 2, 4, 5, 7] {
        let rows = normals(n_rows, 2, 5);
        let detector = CombinedDetector::params().fit(&Dataset::from(rows.clone())).unwrap();
        let scores: Array1<f64> = detector.predict(&rows);
        assert!(scores.iter().all(|score| score.is_finite()));
        assert_eq!(detector.combiner().n_rows(), n_rows);
    }
    let rows = normals(600, 3, 6);
    let fit = |n| CombinedDetector::params().n_threads(n).fit(&Dataset::from(rows.clone()));
    let (one, three): (Array1<f64>, Array1<f64>) =
        (fit(1).unwrap().predict(&rows), fit(3).unwrap().predict(&rows));
    assert_eq!(one, three);
}

#[test]
fn serialisation_round_trips_to_the_same_bits() {
    let rows = normals(200, 3, 7);
    let detector = CombinedDetector::params().fit(&Dataset::from(rows.clone())).unwrap();
    let text = serde_json::to_string(&detector).unwrap();
    let back: CombinedDetector = serde_json::from_str(&text).unwrap();
    assert!(detector == back);
    let (before, after): (Array1<f64>, Array1<f64>) =
        (detector.predict(&rows), back.predict(&rows));
    assert_eq!(before, after);
}
