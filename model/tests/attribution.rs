#![allow(clippy::unwrap_used)]
//! Attributions: exactness against brute force, scikit-learn and shap, and their worth on planted
//! anomalies.

use hedgerow_model::attribution::{Direction, Explanation, Quantity};
use hedgerow_model::columns::summarise_columns;
use hedgerow_model::{IsolationForest, Node, Tree, average_path_length};
use linfa::prelude::*;
use ndarray::{Array1, Array2, ArrayView1, array};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

fn rng(seed: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(seed)
}

fn normal(rng: &mut impl Rng) -> f64 {
    (0..12).map(|_| rng.r#gen::<f64>()).sum::<f64>() - 6.0
}

fn normals(n_rows: usize, n_columns: usize, seed: u64) -> Array2<f64> {
    let mut rng = rng(seed);
    Array2::from_shape_fn((n_rows, n_columns), |_| normal(&mut rng))
}

fn small_forest(n_columns: usize, seed: u64) -> IsolationForest {
    IsolationForest::params_with_rng(rng(seed))
        .n_trees(10)
        .sample_size(64)
        .fit(&Dataset::from(normals(300, n_columns, seed)))
        .unwrap()
}

/// Expected path length when only the columns in the bit set `known` are known.
fn conditional_length(tree: &Tree, row: &[f64], known: u32) -> f64 {
    fn below(tree: &Tree, at: u32, depth: u32, row: &[f64], known: u32) -> f64 {
        match tree.nodes()[at as usize] {
            Node::Leaf { samples } => f64::from(depth) + average_path_length(samples),
            Node::Split { feature, threshold, left, right, samples } => {
                let value = row[feature as usize] as f32;
                let next = |child| below(tree, child, depth + 1, row, known);
                if known >> feature & 1 == 1 && !value.is_nan() {
                    next(if value <= threshold { left } else { right })
                } else {
                    let share = |child: u32| {
                        f64::from(tree.nodes()[child as usize].samples()) / f64::from(samples)
                    };
                    share(left) * next(left) + share(right) * next(right)
                }
            }
        }
    }
    below(tree, 0, 0, row, known)
}

/// Shapley values by their definition, over all sets of columns.
fn brute_force(forest: &IsolationForest, row: &[f64]) -> Vec<f64> {
    let n = row.len();
    let lengths: Vec<f64> = (0..1_u32 << n)
        .map(|known| {
            let sum: f64 = forest.trees().iter().map(|t| conditional_length(t, row, known)).sum();
            sum / forest.trees().len() as f64
        })
        .collect();
    let factorial = |k: usize| (1..=k).map(|i| i as f64).product::<f64>();
    (0..n)
        .map(|column| {
            (0..1_usize << n)
                .filter(|set| set >> column & 1 == 0)
                .map(|set| {
                    let size = set.count_ones() as usize;
                    let weight = factorial(size) * factorial(n - size - 1) / factorial(n);
                    weight * (lengths[set | 1 << column] - lengths[set])
                })
                .sum()
        })
        .collect()
}

#[test]
fn shap_values_equal_brute_force() {
    for seed in 0..6 {
        let n_columns = 1 + seed as usize;
        let forest = small_forest(n_columns, seed);
        let mut probes = normals(8, n_columns, seed + 100) * 2.0;
        probes[(3, 0)] = f64::NAN;
        for probe in probes.rows() {
            let shap = forest.shap_values(probe);
            let expected = brute_force(&forest, &probe.to_vec());
            for (value, expected) in shap.values.iter().zip(expected) {
                assert!((value - expected).abs() < 1e-9, "{value} {expected}");
            }
        }
    }
}

#[test]
fn shap_values_sum_to_the_path_length() {
    let forest = IsolationForest::params().fit(&Dataset::from(normals(2000, 12, 1))).unwrap();
    let mut probes = normals(30, 12, 2) * 2.0;
    probes[(0, 3)] = f64::NAN;
    let lengths = forest.mean_path_lengths(probes.view());
    for (probe, length) in probes.rows().into_iter().zip(lengths) {
        let shap = forest.shap_values(probe);
        // Path lengths themselves are kept to 2^-25.
        assert!((shap.baseline + shap.values.sum() - length).abs() < 1e-7);
        for (value, shap) in probe.iter().zip(&shap.values) {
            assert!(!value.is_nan() || shap.abs() < 1e-12, "a missing value says nothing");
        }
    }
}

#[test]
fn path_surprise_telescopes_to_its_total() {
    let forest = small_forest(4, 3);
    for probe in (normals(30, 4, 4) * 2.0).rows() {
        let total: f64 = forest
            .trees()
            .iter()
            .map(|tree| {
                let (mut at, mut depth) = (0, 0);
                loop {
                    match tree.nodes()[at] {
                        Node::Leaf { samples } => {
                            break (64.0 / f64::from(samples)).log2() - f64::from(depth);
                        }
                        Node::Split { feature, threshold, left, right, .. } => {
                            let goes_left = probe[feature as usize] as f32 <= threshold;
                            at = if goes_left { left } else { right } as usize;
                            depth += 1;
                        }
                    }
                }
            })
            .sum::<f64>()
            / 10.0;
        let surprise = forest.path_surprise(probe);
        assert!((surprise.sum() - total).abs() < 1e-9);
    }
    let unknown = Array1::from_elem(4, f64::NAN);
    assert_eq!(forest.path_surprise(unknown.view()), Array1::<f64>::zeros(4));
}

#[cfg(feature = "serde")]
#[test]
fn an_imported_scikit_learn_forest_gives_its_scores_and_shap_values() {
    #[derive(serde::Deserialize)]
    struct Fixture {
        forest: IsolationForest,
        probes: Vec<Vec<f64>>,
        scores: Vec<f64>,
        shap_baseline: f64,
        shap_values: Vec<Vec<f64>>,
    }
    let text = include_str!("data/sklearn_forest.json");
    let fixture: Fixture = serde_json::from_str(text).unwrap();
    for (row, probe) in fixture.probes.iter().enumerate() {
        let probe = Array1::from(probe.clone());
        let score: Array1<f64> =
            fixture.forest.predict(&probe.clone().insert_axis(ndarray::Axis(0)));
        assert!((score[0] - fixture.scores[row]).abs() < 1e-6, "{row}: {score}");
        let shap = fixture.forest.shap_values(probe.view());
        assert!((shap.baseline - fixture.shap_baseline).abs() < 1e-9);
        for (value, expected) in shap.values.iter().zip(&fixture.shap_values[row]) {
            assert!((value - expected).abs() < 1e-9, "{row}: {value} {expected}");
        }
    }
}

/// Rows of eight Gaussian clusters in 32 columns.
struct Clusters {
    centres: Array2<f64>,
    deviations: Array2<f64>,
}

impl Clusters {
    fn new(rng: &mut impl Rng) -> Self {
        Clusters {
            centres: Array2::from_shape_fn((8, 32), |_| 3.0 * normal(rng)),
            deviations: Array2::from_shape_fn((8, 32), |_| rng.gen_range(0.5..2.0)),
        }
    }

    fn row(&self, rng: &mut impl Rng) -> Array1<f64> {
        let cluster = rng.gen_range(0..8);
        let noise = Array1::from_shape_fn(32, |_| normal(rng));
        &self.centres.row(cluster) + &self.deviations.row(cluster) * &noise
    }
}

/// Rank of `column` among the amounts, 0 for the greatest.
fn rank_of(column: usize, amounts: ArrayView1<f64>) -> usize {
    amounts.iter().filter(|&&amount| amount > amounts[column]).count()
}

/// 3,000 rows that leave the usual range in one column: surprise finds it about as often as exact
/// Shapley values do.
#[test]
fn surprise_finds_planted_columns_about_as_often_as_shap() {
    let mut rng = rng(5);
    let clusters = Clusters::new(&mut rng);
    let mut rows = Array2::zeros((4000, 32));
    for mut row in rows.rows_mut() {
        row.assign(&clusters.row(&mut rng));
    }
    let usual = summarise_columns(rows.view(), &mut rng);
    let forest = IsolationForest::params().fit(&Dataset::from(rows)).unwrap();
    let planted: Vec<(usize, Array1<f64>)> = (0..3000)
        .map(|_| {
            let column = rng.gen_range(0..32);
            let mut row = clusters.row(&mut rng);
            let beyond = rng.gen_range(0.5..3.0) * f64::from(usual[column].deviation);
            row[column] = if rng.gen_bool(0.5) {
                f64::from(usual[column].high) + beyond
            } else {
                f64::from(usual[column].low) - beyond
            };
            (column, row)
        })
        .collect();
    // [surprise, SHAP] x [top 1, top 3].
    let hits = |part: &[(usize, Array1<f64>)]| {
        let mut hits = [[0_u32; 2]; 2];
        for (column, row) in part {
            let surprise = forest.path_surprise(row.view());
            let shortening = -forest.shap_values(row.view()).values;
            for (hits, amounts) in hits.iter_mut().zip([surprise, shortening]) {
                let rank = rank_of(*column, amounts.view());
                hits[0] += u32::from(rank < 1);
                hits[1] += u32::from(rank < 3);
            }
        }
        hits
    };
    let (front, back) = planted.split_at(1500);
    let (front, back) = std::thread::scope(|scope| {
        let front = scope.spawn(|| hits(front));
        (hits(back), front.join().unwrap())
    });
    for top in 0..2 {
        let [surprise, shap] =
            [0, 1].map(|method| f64::from(front[method][top] + back[method][top]) / 3000.0);
        println!("top-{}: surprise {surprise:.3}, SHAP {shap:.3}", 2 * top + 1);
        assert!(surprise > shap - 0.06, "top-{}: {surprise} {shap}", 2 * top + 1);
        assert!(shap > 0.5, "the planted columns can be found at all");
    }
}

#[test]
fn an_explanation_names_value_range_direction_and_share() {
    let rows = normals(1000, 4, 6);
    let usual = summarise_columns(rows.view(), &mut rng(1));
    let row = array![9.0, 0.0, -9.0, f64::NAN];
    let amounts = array![3.0, -1.0, 1.0, 0.0];
    let explanation = Explanation::new(Quantity::PathShortening, &amounts, row.view(), &usual);
    assert_eq!(explanation.total, 3.0);
    let order: Vec<usize> = explanation.columns.iter().map(|column| column.column).collect();
    assert_eq!(order, [0, 2, 3, 1]);
    let directions = explanation.columns.iter().map(|column| column.direction);
    let expected = [Direction::Above, Direction::Below, Direction::Missing, Direction::Within];
    assert!(directions.eq(expected));
    let shares: Vec<f64> = explanation.columns.iter().map(|column| column.share).collect();
    assert_eq!(shares, [0.75, 0.25, 0.0, 0.0]);
    let first = explanation.columns[0];
    assert!(first.usual_low < -1.9 && first.usual_high > 1.9 && first.usual.abs() < 0.2);
    assert_eq!(first.value, 9.0);
    let none = Explanation::new(Quantity::Distance, &Array1::zeros(4), row.view(), &usual);
    assert!(none.columns.iter().all(|column| column.share == 0.0));
}

#[test]
fn column_summaries_are_order_statistics() {
    let mut rows = Array2::from_shape_fn((101, 3), |(i, _)| i as f64);
    rows[(7, 1)] = f64::NAN;
    rows.column_mut(2).fill(f64::NAN);
    rows[(50, 0)] = f64::INFINITY;
    let usual = summarise_columns(rows.view(), &mut rng(1));
    assert_eq!((usual[0].minimum, usual[0].median, usual[0].maximum), (0.0, 51.0, f32::MAX));
    assert_eq!((usual[1].low, usual[1].high), (0.0, 99.0));
    assert!((usual[1].missing_share - 1.0 / 101.0).abs() < 1e-6);
    assert_eq!((usual[2].missing_share, usual[2].median), (1.0, 0.0));
}
