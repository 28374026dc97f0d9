#![allow(clippy::unwrap_used)]
//! The nearest-neighbour ensemble's contract.

use hedgerow_model::{
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

fn neighbors(rows: &Array2<f64>, seed: u64) -> NearestNeighborEnsemble {
    let params = NearestNeighborEnsemble::params_with_rng(rng(seed));
    params.fit(&Dataset::from(rows.clone())).unwrap()
}

#[test]
fn autotraits() {
    fn has_autotraits<T: Send + Sync + Sized + Unpin>() {}
    has_autotraits::<NearestNeighborEnsemble>();
    has_autotraits::<NearestNeighborEnsembleError>();
    has_autotraits::<NearestNeighborEnsembleParams<Xoshiro256PlusPlus>>();
    has_autotraits::<NearestNeighborEnsembleValidParams<Xoshiro256PlusPlus>>();
    has_autotraits::<NearestNeighborEnsembleParamsError>();
}

#[test]
fn each_parameter_out_of_range_is_named() {
    type Params = NearestNeighborEnsembleParamsError;
    let params = NearestNeighborEnsemble::params;
    assert_eq!(params().n_draws(0).check().unwrap_err(), Params::Draws(0));
    assert_eq!(params().sample_size(0).check().unwrap_err(), Params::SampleSize(0));
    assert_eq!(params().n_threads(0).check().unwrap_err(), Params::Threads(0));
}

/// Rows on a diagonal line with little noise: (2, -2) is usual in each column, not together.
fn diagonal(n_rows: usize) -> Array2<f64> {
    let noise = normals(n_rows, 2, 1) * 0.2;
    let along = normals(n_rows, 1, 2) * 2.0;
    noise + along
}

#[test]
fn distances_see_what_single_columns_do_not() {
    let rows = diagonal(2000);
    let distances = neighbors(&rows, 1).predict(&array![[2.0, 2.0], [2.0, -2.0]]);
    assert!(distances[1] > 3.0 * distances[0], "{distances}");
}

#[test]
fn threads_types_and_units_do_not_matter() {
    let rows = normals(3000, 5, 6).mapv(|value| f64::from(value as f32));
    let scaled = &rows * &array![0.25, 2.0, 1.0, 1024.0, 0.5];
    let single = rows.mapv(|value| value as f32);
    let dataset = Dataset::from(rows.clone());
    let fit = |n| NearestNeighborEnsemble::params().n_threads(n).fit(&dataset).unwrap();
    let reference: Array1<f64> = fit(1).predict(&rows);
    assert_eq!(reference, fit(5).predict(&rows));
    assert_eq!(reference, neighbors(&scaled, 42).predict(&scaled));
    let of_single: Array1<f32> = fit(1).predict(&single);
    assert_eq!(reference.mapv(|score| score as f32), of_single);
}

#[test]
fn constant_columns_missing_values_and_one_row_are_harmless() {
    let rows = normals(500, 2, 7);
    let padded = concatenate![Axis(1), rows, Array2::from_elem((500, 1), 1e9)];
    let mut holed = padded.clone();
    holed[(3, 0)] = f64::NAN;
    holed[(4, 1)] = f64::INFINITY;
    holed.row_mut(5).fill(f64::NAN);
    for fitted in [&padded, &holed] {
        let scores: Array1<f64> = neighbors(fitted, 1).predict(&holed);
        assert!(scores.iter().all(|score| score.is_finite()));
        let above = scores.iter().filter(|&&score| score > scores[4]).count();
        assert!(above < 25, "an infinite value is unusual");
        let above = scores.iter().filter(|&&score| score > scores[5]).count();
        assert!(above > 100, "an unknown row is an average one: {above}");
    }
    let one = array![[1.0, 2.0]];
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
    let ensemble = neighbors(&normals(200, 3, 10), 1);
    let text = serde_json::to_string(&ensemble).unwrap();
    assert!(serde_json::from_str::<NearestNeighborEnsemble>(&text).unwrap() == ensemble);
    let hostile = text.replacen("\"n_draws\":50", "\"n_draws\":51", 1);
    assert!(text != hostile);
    assert!(serde_json::from_str::<NearestNeighborEnsemble>(&hostile).is_err());
}
