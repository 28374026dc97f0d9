#![allow(clippy::unwrap_used)]
//! Labels: their share, their threshold, every detector.

use hedgerow_model::labels::{
    LabelError, LabelParams, LabelParamsError, LabelValidParams, Labelled,
};
use hedgerow_model::{
    CombinedDetector, ExtendedIsolationForest, IsolationForest, IsolationForestError,
    IsolationForestParams, NearestNeighborEnsemble,
};
use linfa::ParamGuard;
use linfa::prelude::*;
use ndarray::{Array1, Array2, array};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

fn rows() -> Array2<f32> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    Array2::from_shape_fn((1000, 2), |_| rng.r#gen::<f32>() + rng.r#gen::<f32>())
}

#[test]
fn autotraits() {
    fn has_autotraits<T: Send + Sync + Sized + Unpin>() {}
    type Params = IsolationForestParams<Xoshiro256PlusPlus>;
    has_autotraits::<Labelled<IsolationForest>>();
    has_autotraits::<LabelError<IsolationForestError>>();
    has_autotraits::<LabelParams<Params>>();
    has_autotraits::<LabelValidParams<Params>>();
    has_autotraits::<LabelParamsError>();
}

#[test]
fn a_contamination_out_of_range_is_named() {
    for share in [0.0, -0.1, 0.51, f64::NAN] {
        let params = LabelParams::new(IsolationForest::params()).contamination(share);
        let error = params.check_ref().unwrap_err();
        assert!(error.to_string().contains(&share.to_string()), "{error}");
        let error = params.fit(&Dataset::from(rows())).unwrap_err();
        assert!(matches!(error, LabelError::Params(_)), "{error}");
    }
}

#[test]
fn the_detectors_own_error_comes_through() {
    let params = LabelParams::new(IsolationForest::params().n_trees(0));
    let error = params.fit(&Dataset::from(rows())).unwrap_err();
    assert!(matches!(error, LabelError::Detector(IsolationForestError::Params(_))), "{error}");
}

/// Fits, and counts the labelled training rows and checks a row far away.
macro_rules! labelled_rows {
    ($params:expr, $contamination:expr) => {{
        let params = LabelParams::new($params).contamination($contamination);
        let labelled = params.fit(&Dataset::from(rows())).unwrap();
        let far: Array1<bool> = labelled.predict(&array![[1.0_f32, 1.0], [40.0, -40.0]]);
        assert_eq!(far, array![false, true]);
        let labels: Array1<bool> = labelled.predict(&rows());
        let scores: Array1<f32> = labelled.detector().predict(&rows());
        let above = scores.iter().map(|&score| f64::from(score) > labelled.threshold());
        assert!(labels.iter().copied().eq(above));
        labels.iter().filter(|&&label| label).count()
    }};
}

#[test]
fn as_many_training_rows_as_asked_are_labelled() {
    // Equal scores can only make them fewer.
    for (contamination, count) in [(0.001, 1), (0.1, 100), (0.5, 500)] {
        let few = |labelled: usize| labelled <= count && labelled >= count - count / 50;
        assert!(few(labelled_rows!(IsolationForest::params(), contamination)));
        assert!(few(labelled_rows!(ExtendedIsolationForest::params(), contamination)));
        assert!(few(labelled_rows!(NearestNeighborEnsemble::params(), contamination)));
    }
    // A statistic of ranks has many ties.
    let combined = labelled_rows!(CombinedDetector::params(), 0.1);
    assert!((50..=100).contains(&combined), "{combined}");
}

#[test]
fn a_threshold_of_ones_own_is_kept() {
    let forest = IsolationForest::params().fit(&Dataset::from(rows())).unwrap();
    let scores: Array1<f32> = forest.predict(&rows());
    let labelled = Labelled::with_threshold(forest, 0.6);
    let labels: Array1<bool> = labelled.predict(&rows());
    assert!(labels.iter().zip(&scores).all(|(&label, &score)| label == (f64::from(score) > 0.6)));
}
