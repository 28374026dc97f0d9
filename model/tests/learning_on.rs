#![allow(clippy::unwrap_used)]
//! Following a stream: trees replaced from a sliding reservoir against fitting anew.

use hedgerow_model::reservoir::SlidingReservoir;
use hedgerow_model::{IsolationForest, Replacement};
use linfa::DatasetBase;
use linfa::traits::{Fit, FitWith, Predict};
use ndarray::{Array1, Array2};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

const STEPS: usize = 12;
const ROWS: usize = 500;
const COLUMNS: usize = 4;

fn normal(rng: &mut impl Rng) -> f32 {
    (0..12).map(|_| rng.r#gen::<f32>()).sum::<f32>() - 6.0
}

/// Rows of one step, whose mean moves by a fifth of a deviation a step; one in twenty is an
/// anomaly, three deviations off in two columns.
fn step(number: usize, rng: &mut impl Rng) -> (Array2<f32>, Vec<bool>) {
    let mean = 0.2 * number as f32;
    let mut rows = Array2::from_shape_fn((ROWS, COLUMNS), |_| mean + normal(rng));
    let anomalous: Vec<bool> = (0..ROWS).map(|_| rng.gen_bool(0.05)).collect();
    for (mut row, _) in rows.rows_mut().into_iter().zip(&anomalous).filter(|(_, a)| **a) {
        row[0] += 3.0;
        row[1] -= 3.0;
    }
    (rows, anomalous)
}

/// Share of pairs of an anomaly and a normal row that the scores order rightly.
fn auroc(scores: &Array1<f32>, anomalous: &[bool]) -> f64 {
    let of = |wanted| scores.iter().zip(anomalous).filter(move |(_, a)| **a == wanted);
    let (mut right, mut pairs) = (0.0, 0.0);
    for (high, _) in of(true) {
        for (low, _) in of(false) {
            pairs += 1.0;
            right += if high > low { 1.0 } else { f64::from(u8::from(high == low)) / 2.0 };
        }
    }
    right / pairs
}

/// Mean AUROC over the stream, every step scored before it is learned: of a forest that is never
/// updated, of one whose trees are replaced, and of one fitted anew at every step.
fn follow(replacement: Replacement, seed: u64) -> [f64; 3] {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let params = IsolationForest::params_with_rng(rng.clone()).replacement(replacement);
    let mut reservoir = SlidingReservoir::new(1000, COLUMNS, 1000, seed).unwrap();
    let mut learn = |rows: &Array2<f32>| {
        rows.rows().into_iter().for_each(|row| reservoir.push(row.as_slice().unwrap()).unwrap());
        DatasetBase::from(reservoir.rows().to_owned())
    };
    let first = params.fit(&learn(&step(0, &mut rng).0)).unwrap();
    let mut forests = [first.clone(), first.clone(), first];
    let mut sums = [0.0; 3];
    for number in 1..=STEPS {
        let (rows, anomalous) = step(number, &mut rng);
        for (sum, forest) in sums.iter_mut().zip(&forests) {
            *sum += auroc(&forest.predict(&rows), &anomalous) / STEPS as f64;
        }
        let recent = learn(&rows);
        let [stale, replaced, _] = forests;
        let replaced = params.fit_with(Some(replaced), &recent).unwrap();
        forests = [stale, replaced, params.fit(&recent).unwrap()];
    }
    sums
}

#[test]
fn replacing_a_fifth_of_the_trees_follows_a_drift_as_well_as_fitting_anew() {
    for replacement in [Replacement::Oldest, Replacement::Worst] {
        let runs: Vec<[f64; 3]> = (0..3).map(|seed| follow(replacement, seed)).collect();
        let mean = |which: usize| runs.iter().map(|run| run[which]).sum::<f64>() / 3.0;
        let [stale, replaced, anew] = [0, 1, 2].map(mean);
        println!("{replacement:?}: stale {stale:.3}, replaced {replaced:.3}, anew {anew:.3}");
        assert!(replaced > anew - 0.03, "{replacement:?}: {replaced} against {anew}");
        assert!(replaced > stale + 0.02, "{replacement:?}: {replaced} against {stale}");
    }
}
