#![allow(clippy::unwrap_used)]
//! The extended isolation forest's and the nearest-neighbour ensemble's contracts.

use hedgerow_model::extended_isolation_forest::ExtendedNode;
use hedgerow_model::{
    ExtendedIsolationForest, ExtendedIsolationForestError, ExtendedIsolationForestParams,
    ExtendedIsolationForestParamsError, ExtendedIsolationForestValidParams, IsolationForest,
    NearestNeighborEnsemble, NearestNeighborEnsembleError, NearestNeighborEnsembleParams,
    NearestNeighborEnsembleParamsError, NearestNeighborEnsembleValidParams,
};
use linfa::ParamGuard;
use linfa::prelude::*;
use ndarray::{Array1, Array2, Axis, array, concatenate};
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

fn extended(rows: &Array2<f64>, seed: u64) -> ExtendedIsolationForest {
    let params = ExtendedIsolationForest::params_with_rng(rng(seed));
    params.fit(&Dataset::from(rows.clone())).unwrap()
}

fn neighbors(rows: &Array2<f64>, seed: u64) -> NearestNeighborEnsemble {
    let params = NearestNeighborEnsemble::params_with_rng(rng(seed));
    params.fit(&Dataset::from(rows.clone())).unwrap()
}

#[test]
fn autotraits() {
    fn has_autotraits<T: Send + Sync + Sized + Unpin>() {}
    has_autotraits::<ExtendedIsolationForest>();
    has_autotraits::<ExtendedIsolationForestError>();
    has_autotraits::<ExtendedIsolationForestParams<Xoshiro256PlusPlus>>();
    has_autotraits::<ExtendedIsolationForestValidParams<Xoshiro256PlusPlus>>();
    has_autotraits::<ExtendedIsolationForestParamsError>();
    has_autotraits::<NearestNeighborEnsemble>();
    has_autotraits::<NearestNeighborEnsembleError>();
    has_autotraits::<NearestNeighborEnsembleParams<Xoshiro256PlusPlus>>();
    has_autotraits::<NearestNeighborEnsembleValidParams<Xoshiro256PlusPlus>>();
    has_autotraits::<NearestNeighborEnsembleParamsError>();
}

#[test]
fn each_parameter_out_of_range_is_named() {
    type Extended = ExtendedIsolationForestParamsError;
    let params = ExtendedIsolationForest::params;
    assert_eq!(params().n_trees(0).check().unwrap_err(), Extended::Trees(0));
    assert_eq!(params().sample_size(0).check().unwrap_err(), Extended::SampleSize(0));
    assert_eq!(params().n_threads(0).check().unwrap_err(), Extended::Threads(0));
    type Neighbors = NearestNeighborEnsembleParamsError;
    let params = NearestNeighborEnsemble::params;
    assert_eq!(params().n_draws(0).check().unwrap_err(), Neighbors::Draws(0));
    assert_eq!(params().sample_size(0).check().unwrap_err(), Neighbors::SampleSize(0));
    assert_eq!(params().n_threads(0).check().unwrap_err(), Neighbors::Threads(0));
    let error = ExtendedIsolationForest::params()
        .extension_level(3)
        .fit(&Dataset::from(normals(9, 3, 0)))
        .unwrap_err();
    assert!(matches!(error, ExtendedIsolationForestError::ExtensionLevel { level: 3, columns: 3 }));
}

/// Rows on a diagonal line with little noise: (2, -2) is usual in each column, not together.
fn diagonal(n_rows: usize) -> Array2<f64> {
    let noise = normals(n_rows, 2, 1) * 0.2;
    let along = normals(n_rows, 1, 2) * 2.0;
    noise + along
}

#[test]
fn hyperplanes_and_distances_see_what_single_columns_do_not() {
    let rows = diagonal(2000);
    let probes = array![[2.0, 2.0], [2.0, -2.0]];
    let extended = extended(&rows, 1).predict(&probes);
    assert!(extended[1] > extended[0] + 0.1, "{extended}");
    let distances = neighbors(&rows, 1).predict(&probes);
    assert!(distances[1] > 3.0 * distances[0], "{distances}");
}

#[test]
fn extension_level_zero_is_the_isolation_forest_in_distribution() {
    let rows = normals(500, 3, 3);
    let dataset = Dataset::from(rows.clone());
    let (mut level_zero, mut axis_parallel) = (Array1::<f64>::zeros(500), Array1::zeros(500));
    for seed in 0..20 {
        let params = ExtendedIsolationForest::params_with_rng(rng(seed)).extension_level(0);
        level_zero += &params.fit(&dataset).unwrap().predict(&rows);
        let params = IsolationForest::params_with_rng(rng(seed));
        axis_parallel += &params.fit(&dataset).unwrap().predict(&rows);
    }
    let gap = (&level_zero - &axis_parallel) / 20.0;
    let largest = gap.iter().fold(0.0_f64, |most, gap| most.max(gap.abs()));
    assert!(largest < 0.02, "{largest}");
}

#[test]
fn hyperplanes_take_as_many_columns_as_asked() {
    for level in 0..4 {
        let forest = ExtendedIsolationForest::params()
            .n_trees(10)
            .extension_level(level)
            .fit(&Dataset::from(normals(300, 4, 4)))
            .unwrap();
        for (columns, weights) in forest.trees().iter().flat_map(|tree| tree.planes()) {
            assert_eq!((columns.len(), weights.len()), (level + 1, level + 1));
            assert!(columns.is_sorted_by(|a, b| a < b));
        }
    }
}

#[test]
fn hyperplanes_of_very_wide_rows_take_part_of_the_columns_unless_all_are_asked_for() {
    let rows = Dataset::from(normals(6, 2500, 5));
    let params = ExtendedIsolationForest::params().n_trees(2);
    for (params, expected) in [(params.clone(), 2048), (params.extension_level(2499), 2500)] {
        let forest = params.fit(&rows).unwrap();
        for (columns, _) in forest.trees().iter().flat_map(|tree| tree.planes()) {
            assert_eq!(columns.len(), expected);
        }
    }
}

#[test]
fn every_split_leaves_rows_on_both_sides() {
    let forest = extended(&normals(400, 6, 5), 1);
    for tree in forest.trees() {
        let samples = |index: u32| match tree.nodes()[index as usize] {
            ExtendedNode::Split { samples, .. } | ExtendedNode::Leaf { samples } => samples,
        };
        for node in tree.nodes() {
            if let ExtendedNode::Split { left, right, samples: all, .. } = *node {
                assert!(samples(left) > 0 && samples(right) > 0);
                assert_eq!(samples(left) + samples(right), all);
            }
        }
    }
}

#[test]
fn threads_types_and_units_do_not_matter() {
    let rows = normals(3000, 5, 6).mapv(|value| f64::from(value as f32));
    let single = rows.mapv(|value| value as f32);
    let scaled = &rows * &array![0.25, 2.0, 1.0, 1024.0, 0.5];
    let dataset = Dataset::from(rows.clone());
    let fit_extended = |n| ExtendedIsolationForest::params().n_threads(n).fit(&dataset).unwrap();
    let fit_neighbors = |n| NearestNeighborEnsemble::params().n_threads(n).fit(&dataset).unwrap();
    let reference: Array1<f64> = fit_extended(1).predict(&rows);
    assert_eq!(reference, fit_extended(5).predict(&rows));
    let of_single: Array1<f32> = fit_extended(1).predict(&single);
    assert_eq!(reference.mapv(|score| score as f32), of_single);
    let of_scaled: Array1<f64> = extended(&scaled, 42).predict(&scaled);
    let gap = (&reference - &of_scaled).iter().fold(0.0_f64, |most, gap| most.max(gap.abs()));
    assert!(gap < 1e-3, "{gap}");
    let reference: Array1<f64> = fit_neighbors(1).predict(&rows);
    assert_eq!(reference, fit_neighbors(5).predict(&rows));
    assert_eq!(reference, neighbors(&scaled, 42).predict(&scaled));
}

#[test]
fn constant_columns_missing_values_and_one_row_are_harmless() {
    let rows = normals(500, 2, 7);
    let padded = concatenate![Axis(1), rows, Array2::from_elem((500, 1), 1e9)];
    let mut holed = padded.clone();
    holed[(3, 0)] = f64::NAN;
    holed[(4, 1)] = f64::INFINITY;
    holed.row_mut(5).fill(f64::NAN);
    for scores in [
        extended(&padded, 1).predict(&holed),
        extended(&holed, 1).predict(&holed),
        neighbors(&padded, 1).predict(&holed),
        neighbors(&holed, 1).predict(&holed),
    ] {
        let scores: Array1<f64> = scores;
        assert!(scores.iter().all(|score| score.is_finite()));
        let above = scores.iter().filter(|&&score| score > scores[4]).count();
        assert!(above < 25, "an infinite value is unusual");
        let above = scores.iter().filter(|&&score| score > scores[5]).count();
        assert!(above > 100, "an unknown row is an average one: {above}");
    }
    let one = array![[1.0, 2.0]];
    assert_eq!(extended(&one, 1).predict(&one), array![0.5]);
    assert_eq!(neighbors(&one, 1).predict(&one), array![0.0]);
}

#[test]
fn distances_agree_with_a_direct_computation_and_their_columns_sum_to_them() {
    let rows = normals(40, 3, 8);
    // Every draw takes all rows, so the score is the distance to the nearest of all.
    let ensemble = NearestNeighborEnsemble::params()
        .sample_size(40)
        .n_draws(3)
        .fit(&Dataset::from(rows.clone()))
        .unwrap();
    let deviations = rows.std_axis(Axis(0), 0.0);
    let probes = normals(20, 3, 9);
    let scores = ensemble.predict(&probes);
    for (probe, score) in probes.rows().into_iter().zip(scores) {
        let distance = |row: ndarray::ArrayView1<f64>| {
            ((&row - &probe) / &deviations).mapv(|gap| gap * gap).sum().sqrt()
        };
        let nearest = rows.rows().into_iter().map(distance).fold(f64::INFINITY, f64::min);
        assert!((score - nearest).abs() < 1e-5 * nearest.max(1.0), "{score} {nearest}");
        let by_column = ensemble.distance_by_column(probe);
        assert!((by_column.sum() - score).abs() < 1e-5 * score.max(1.0));
    }
}

#[test]
fn serialisation_round_trips_and_refuses_contradictions() {
    let rows = normals(200, 3, 10);
    let forest = extended(&rows, 1);
    let text = serde_json::to_string(&forest).unwrap();
    let back: ExtendedIsolationForest = serde_json::from_str(&text).unwrap();
    let (before, after): (Array1<f64>, Array1<f64>) = (forest.predict(&rows), back.predict(&rows));
    assert_eq!(before, after);
    for (from, to) in [("\"left\":1,", "\"left\":0,"), ("\"plane\":0,", "\"plane\":99999,")] {
        let hostile = text.replacen(from, to, 1);
        assert!(text != hostile);
        assert!(serde_json::from_str::<ExtendedIsolationForest>(&hostile).is_err());
    }
    let ensemble = neighbors(&rows, 1);
    let text = serde_json::to_string(&ensemble).unwrap();
    assert!(serde_json::from_str::<NearestNeighborEnsemble>(&text).unwrap() == ensemble);
    let hostile = text.replacen("\"n_draws\":50", "\"n_draws\":51", 1);
    assert!(serde_json::from_str::<NearestNeighborEnsemble>(&hostile).is_err());
}
