#![allow(clippy::unwrap_used)]
//! The isolation forest's contract: limits, scores, invariances, reproducibility.

use hedgerow_model::{
    Instructions, IsolationForest, IsolationForestError, IsolationForestParams,
    IsolationForestParamsError, IsolationForestValidParams, Node, Replacement, Tree, TreeError,
    average_path_length,
};
use linfa::ParamGuard;
use linfa::prelude::*;
use linfa::traits::FitWith;
use ndarray::{Array1, Array2, Axis, ShapeBuilder, array, concatenate, s};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

fn rng(seed: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(seed)
}

/// Rows of independent standard normals (sum of twelve uniforms).
fn normals(n_rows: usize, n_columns: usize, seed: u64) -> Array2<f64> {
    let mut rng = rng(seed);
    Array2::from_shape_fn((n_rows, n_columns), |_| {
        (0..12).map(|_| rng.r#gen::<f64>()).sum::<f64>() - 6.0
    })
}

fn fit(rows: &Array2<f64>, seed: u64) -> IsolationForest {
    IsolationForest::params_with_rng(rng(seed)).fit(&Dataset::from(rows.clone())).unwrap()
}

fn scores(forest: &IsolationForest, rows: &Array2<f64>) -> Array1<f64> {
    forest.predict(rows)
}

#[test]
fn autotraits() {
    fn has_autotraits<T: Send + Sync + Sized + Unpin>() {}
    has_autotraits::<IsolationForest>();
    has_autotraits::<IsolationForestError>();
    has_autotraits::<IsolationForestParams<Xoshiro256PlusPlus>>();
    has_autotraits::<IsolationForestValidParams<Xoshiro256PlusPlus>>();
    has_autotraits::<IsolationForestParamsError>();
}

#[test]
fn each_parameter_out_of_range_is_named() {
    type Error = IsolationForestParamsError;
    let params = IsolationForest::params;
    assert_eq!(params().n_trees(0).check().unwrap_err(), Error::Trees(0));
    assert_eq!(params().sample_size(0).check().unwrap_err(), Error::SampleSize(0));
    assert_eq!(params().n_threads(0).check().unwrap_err(), Error::Threads(0));
    for share in [0.0, -1.0, 1.1, f64::NAN] {
        assert!(matches!(
            params().replaced_share(share).check().unwrap_err(),
            Error::ReplacedShare(_)
        ));
    }
    assert!(params().check().is_ok());
}

#[test]
fn no_rows_or_no_columns_is_an_error() {
    for (shape, no_rows) in [((0, 3), true), ((3, 0), false)] {
        let dataset = Dataset::from(Array2::<f64>::zeros(shape));
        let error = IsolationForest::params().fit(&dataset).unwrap_err();
        match error {
            IsolationForestError::NoRows => assert!(no_rows),
            IsolationForestError::NoColumns => assert!(!no_rows),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn an_outlier_scores_above_every_inlier() {
    let rows = normals(2000, 4, 1);
    let forest = fit(&rows, 1);
    let inliers = scores(&forest, &rows);
    let outlier = scores(&forest, &array![[7.0, -7.0, 7.0, -7.0]])[0];
    assert!(inliers.iter().all(|&score| score < outlier));
    assert!(outlier > 0.7, "{outlier}");
    let mean = inliers.mean().unwrap();
    assert!((0.35..0.5).contains(&mean), "{mean}");
}

#[test]
fn f32_and_f64_records_give_the_same_forest_and_scores() {
    let single = normals(500, 3, 2).mapv(|value| value as f32);
    let double = single.mapv(f64::from);
    let of_single = (IsolationForest::params().fit(&Dataset::from(single.clone()))).unwrap();
    let of_double = (IsolationForest::params().fit(&Dataset::from(double.clone()))).unwrap();
    assert!(of_single == of_double);
    let from_single: Array1<f32> = of_single.predict(&single);
    let from_double: Array1<f64> = of_double.predict(&double);
    assert_eq!(from_single, from_double.mapv(|score| score as f32));
}

#[test]
fn memory_order_and_strides_do_not_matter() {
    let rows = normals(700, 6, 3);
    let mut fortran = Array2::zeros((700, 6).f());
    fortran.assign(&rows);
    assert!(fit(&rows, 5) == fit(&fortran, 5));
    let forest = fit(&rows, 5);
    assert_eq!(scores(&forest, &rows), scores(&forest, &fortran));
    let reversed = rows.slice(s![..;-1, ..]);
    let of_reversed: Array1<f64> = forest.predict(&reversed.to_owned());
    let of_view: Array1<f64> = forest.predict(&reversed);
    assert_eq!(of_reversed, of_view);
}

#[test]
fn any_number_of_threads_gives_the_same_forest_and_scores() {
    let rows = normals(5000, 5, 4);
    let dataset = Dataset::from(rows.clone());
    let fit = |n| IsolationForest::params().n_threads(n).fit(&dataset).unwrap();
    let one = fit(1);
    for n_threads in [2, 3, 7, 64] {
        let many = fit(n_threads);
        assert!(one == many);
        assert_eq!(scores(&one, &rows), scores(&many, &rows));
    }
}

#[test]
fn another_seed_gives_another_forest() {
    let rows = normals(500, 3, 5);
    assert!(fit(&rows, 1) == fit(&rows, 1));
    assert!(fit(&rows, 1) != fit(&rows, 2));
}

#[test]
fn a_single_row_scores_one_half() {
    let rows = array![[1.0, 2.0]];
    let forest = fit(&rows, 1);
    assert_eq!(forest.sample_size(), 1);
    assert_eq!(scores(&forest, &array![[1.0, 2.0], [50.0, f64::NAN]]), array![0.5, 0.5]);
}

#[test]
fn a_sample_larger_than_the_training_set_takes_all_of_it() {
    let rows = normals(50, 2, 6);
    let forest = fit(&rows, 1);
    assert_eq!(forest.sample_size(), 50);
    assert!(forest.trees().iter().all(|tree| tree.samples() == 50));
}

#[test]
fn samples_are_drawn_without_replacement() {
    // With all 200 distinct rows drawn once and no depth limit in the way (a chain of 200 would
    // need 8 levels at least), every leaf above the limit holds exactly one row.
    let rows = Array2::from_shape_fn((200, 1), |(i, _)| i as f64);
    let forest = IsolationForest::params().sample_size(199).fit(&Dataset::from(rows)).unwrap();
    for tree in forest.trees() {
        let depths = tree.depths();
        for (node, depth) in tree.nodes().iter().zip(depths) {
            if let Node::Leaf { samples } = node {
                assert!(*samples == 1 || depth == 8);
            }
        }
    }
}

#[test]
fn constant_columns_are_never_split() {
    let mut rows = normals(300, 4, 7);
    rows.column_mut(1).fill(3.5);
    rows.column_mut(3).fill(f64::NAN);
    let forest = fit(&rows, 1);
    for node in forest.trees().iter().flat_map(Tree::nodes) {
        if let Node::Split { feature, .. } = node {
            assert!([0, 2].contains(feature));
        }
    }
}

#[test]
fn identical_rows_make_trees_of_one_leaf() {
    let forest = fit(&Array2::from_elem((100, 3), 1.5), 1);
    assert!(forest.trees().iter().all(|tree| tree.nodes().len() == 1));
    let score = scores(&forest, &array![[1.5, 1.5, 1.5]])[0];
    assert!((score - 0.5).abs() < 1e-7);
}

#[test]
fn duplicate_columns_leave_the_scores_alone_in_distribution() {
    let rows = normals(1000, 2, 8);
    let doubled = concatenate![Axis(1), rows, rows];
    let (mut single, mut double) = (Array1::zeros(1000), Array1::zeros(1000));
    for seed in 0..10 {
        single += &scores(&fit(&rows, seed), &rows);
        double += &scores(&fit(&doubled, seed), &doubled);
    }
    let largest = (&single - &double).iter().fold(0.0_f64, |most, gap| most.max(gap.abs() / 10.0));
    assert!(largest < 0.03, "{largest}");
}

#[test]
fn infinite_values_count_as_the_largest() {
    let mut rows = normals(300, 2, 9);
    rows[(0, 0)] = f64::INFINITY;
    rows[(1, 1)] = f64::NEG_INFINITY;
    rows[(2, 0)] = 1e300;
    let forest = fit(&rows, 1);
    let found = scores(&forest, &rows);
    assert_eq!(
        scores(&forest, &array![[f64::from(f32::MAX), 0.0], [f64::INFINITY, 0.0]]).to_vec()[0],
        scores(&forest, &array![[f64::INFINITY, 0.0]])[0]
    );
    let median = found.iter().filter(|&&score| score < found[0]).count();
    assert!(median > 290);
}

#[test]
fn a_missing_value_alone_makes_no_row_anomalous() {
    let rows = normals(2000, 8, 10);
    let forest = fit(&rows, 1);
    let mut holed = rows.clone();
    holed.column_mut(3).fill(f64::NAN);
    let (whole, holed) = (scores(&forest, &rows), scores(&forest, &holed));
    let shift = holed.mean().unwrap() - whole.mean().unwrap();
    assert!(shift.abs() < 0.01, "{shift}");
    let all_missing = scores(&forest, &Array2::from_elem((1, 8), f64::NAN))[0];
    assert!((all_missing - 0.5).abs() < 0.08, "an unknown row is an average one: {all_missing}");
}

#[test]
fn training_rows_with_missing_values_are_used() {
    let mut rows = normals(1000, 3, 11);
    let mut rng = rng(1);
    rows.mapv_inplace(|value| if rng.gen_bool(0.2) { f64::NAN } else { value });
    let forest = fit(&rows, 1);
    for tree in forest.trees() {
        tree.check(3).unwrap();
        assert_eq!(tree.samples(), 256);
    }
    let tested = scores(&forest, &array![[0.0, 0.0, 0.0], [8.0, -8.0, f64::NAN]]);
    assert!(tested[1] > tested[0] + 0.1, "{tested}");
}

fn split(feature: u32, threshold: f32, left: u32, right: u32, samples: u32) -> Node {
    Node::Split { feature, threshold, left, right, samples }
}

fn leaf(samples: u32) -> Node {
    Node::Leaf { samples }
}

#[test]
fn scores_follow_the_formula() {
    // h = 1 left of 0 (one row), 1 + c(3) right of it.
    let tree = Tree::new(vec![split(0, 0.0, 1, 2, 4), leaf(1), leaf(3)], 1).unwrap();
    let forest = IsolationForest::from_trees(4, 1, vec![tree]).unwrap();
    let found = scores(&forest, &array![[0.0], [0.5]]);
    let c = hedgerow_model::average_path_length;
    let expected = [(-1.0 / c(4)).exp2(), (-(1.0 + c(3)) / c(4)).exp2()];
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-7, "{found} {expected}");
    }
}

#[test]
fn each_malformed_tree_is_refused() {
    let check = |nodes: Vec<Node>| Tree::new(nodes, 2).unwrap_err();
    assert_eq!(check(vec![]), TreeError::Empty);
    let bad_child = |child| TreeError::BadChild { node: 0, child };
    assert_eq!(check(vec![split(0, 0.0, 0, 0, 2)]), bad_child(0));
    assert_eq!(check(vec![split(0, 0.0, 1, u32::MAX, 2), leaf(1)]), bad_child(u32::MAX));
    assert_eq!(check(vec![split(0, 0.0, 1, 1, 2), leaf(1)]), TreeError::NotATree(1));
    assert_eq!(check(vec![leaf(1), leaf(1)]), TreeError::NotATree(1));
    assert_eq!(
        check(vec![split(2, 0.0, 1, 2, 2), leaf(1), leaf(1)]),
        TreeError::BadFeature { node: 0, feature: 2, n_features: 2 }
    );
    for threshold in [f32::NAN, f32::INFINITY] {
        assert_eq!(
            check(vec![split(0, threshold, 1, 2, 2), leaf(1), leaf(1)]),
            TreeError::BadThreshold(0)
        );
    }
    assert_eq!(check(vec![leaf(0)]), TreeError::BadCount(0));
    assert_eq!(check(vec![split(0, 0.0, 1, 2, 3), leaf(1), leaf(1)]), TreeError::BadCount(0));
    let chain = |depth: u32| {
        let mut nodes = Vec::new();
        for level in 0..depth {
            let next = 2 * level + 1;
            nodes.push(split(0, 0.0, next, next + 1, depth + 1 - level));
            nodes.push(leaf(1));
        }
        nodes.push(leaf(1));
        nodes
    };
    assert!(Tree::new(chain(64), 2).is_ok());
    assert!(matches!(check(chain(65)), TreeError::TooDeep(_)));
}

#[test]
fn a_forest_too_wide_to_pack_is_refused() {
    let tree = Tree::new(vec![split(0, 0.0, 1, 2, 2), leaf(1), leaf(1)], 1).unwrap();
    let error = IsolationForest::from_trees(2, 1 << 31, vec![tree]).unwrap_err();
    assert!(matches!(
        error,
        IsolationForestError::Tree { source: TreeError::DoesNotPack { .. }, .. }
    ));
}

#[test]
fn serialisation_round_trips_to_the_same_bits() {
    let rows = normals(400, 3, 12);
    let forest = fit(&rows, 3);
    let text = serde_json::to_string(&forest).unwrap();
    let back: IsolationForest = serde_json::from_str(&text).unwrap();
    assert!(forest == back);
    assert_eq!(scores(&forest, &rows), scores(&back, &rows));
    let hostile = text.replacen("\"left\":1,", "\"left\":0,", 1);
    assert!(text != hostile);
    assert!(serde_json::from_str::<IsolationForest>(&hostile).is_err());
}

#[test]
fn an_update_replaces_the_asked_share_of_trees() {
    let old = Dataset::from(normals(1000, 2, 20));
    let new = Dataset::from(normals(1000, 2, 21) + 6.0);
    let params = IsolationForest::params();
    let forest = params.fit(&old).unwrap();
    assert!(params.fit_with(None, &old).unwrap() == forest);
    let updated = params.fit_with(Some(forest.clone()), &new).unwrap();
    assert_eq!(updated.trees()[..80], forest.trees()[20..]);
    let again = params.fit_with(Some(updated.clone()), &new).unwrap();
    assert_eq!(again.trees()[..60], forest.trees()[40..]);
    assert!(again.trees()[80..] != again.trees()[60..80], "every update draws new seeds");

    // Judged by the new rows, the trees of the old rows are the worst: after five updates hardly
    // one is left, although some of the new ones are older by then than the latest.
    let params = params.replacement(Replacement::Worst);
    let mut changing = updated.clone();
    for _ in 0..4 {
        changing = params.fit_with(Some(changing), &new).unwrap();
    }
    let left = forest.trees().iter().filter(|tree| changing.trees().contains(tree)).count();
    assert!(left <= 5, "{left}");
    let score = |forest: &IsolationForest| scores(forest, &array![[6.0, 6.0]])[0];
    assert!(score(&changing) < 0.5 && score(&forest) > 0.6);
    assert!(score(&updated) < score(&forest));
}

#[test]
fn updates_refuse_other_columns_and_too_few_rows() {
    let params = IsolationForest::params();
    let forest = params.fit(&Dataset::from(normals(1000, 2, 22))).unwrap();
    let update = |rows| params.fit_with(Some(forest.clone()), &Dataset::from(rows)).unwrap_err();
    assert!(matches!(
        update(normals(500, 3, 1)),
        IsolationForestError::ColumnMismatch { expected: 2, found: 3 }
    ));
    assert!(matches!(
        update(normals(100, 2, 1)),
        IsolationForestError::TooFewRows { needed: 256, found: 100 }
    ));
}

/// Path length by the rule for missing values: both sides of a split on one, by training rows.
fn expected_length(tree: &Tree, node: u32, depth: u32, row: &[f32]) -> f64 {
    let nodes = tree.nodes();
    match nodes[node as usize] {
        Node::Leaf { samples } => f64::from(depth) + average_path_length(samples),
        Node::Split { feature, threshold, left, right, samples } => {
            let value = row[feature as usize];
            let child = |child| expected_length(tree, child, depth + 1, row);
            if value.is_nan() {
                let share =
                    |child: u32| f64::from(nodes[child as usize].samples()) / f64::from(samples);
                share(left) * child(left) + share(right) * child(right)
            } else {
                child(if value <= threshold { left } else { right })
            }
        }
    }
}

/// The processor's fastest instructions and plain Rust, on shapes that take every path of both: one
/// column (many thresholds each, so several groups), many, trees too large for the block engine,
/// blocks that are not full, values on thresholds.
#[test]
fn every_engine_gives_the_same_bits() {
    for (n_columns, psi, n_trees) in
        [(1, 256, 100), (2, 64, 300), (5, 2, 7), (40, 256, 100), (3, 1000, 30), (300, 128, 20)]
    {
        let rows = normals(1500, n_columns, 14).mapv(|value| (value * 64.0).round() / 64.0);
        let forest = IsolationForest::params()
            .n_trees(n_trees)
            .sample_size(psi)
            .fit(&Dataset::from(rows.clone()))
            .unwrap();
        let portable = forest.clone().with_instructions(Instructions::Portable);
        let mut probes = concatenate![Axis(0), rows, &rows * 2.0];
        for (row, node) in forest.trees().iter().flat_map(Tree::nodes).enumerate().take(3000) {
            if let Node::Split { feature, threshold, .. } = *node {
                probes[(row, feature as usize)] = f64::from(threshold);
            }
        }
        probes[(5, 0)] = f64::NAN;
        probes[(6, 0)] = f64::INFINITY;
        probes[(7, 0)] = f64::NEG_INFINITY;
        for n in [1, 15, 16, 17, 127, 128, 129, 3000] {
            let part = probes.slice(s![..n, ..]).to_owned();
            assert_eq!(scores(&forest, &part), scores(&portable, &part), "{n_columns} {psi} {n}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn scores_lie_in_zero_to_one_and_fall_with_path_length(
        seed: u64, n_rows in 1_usize..400, n_columns in 1_usize..6, psi in 1_usize..300,
    ) {
        let rows = normals(n_rows, n_columns, seed);
        let forest = IsolationForest::params_with_rng(rng(seed))
            .n_trees(20)
            .sample_size(psi)
            .fit(&Dataset::from(rows.clone()))
            .unwrap();
        let probes = &rows * 3.0;
        let found = scores(&forest, &probes);
        let lengths = forest.mean_path_lengths(probes.view());
        let mut pairs: Vec<(f64, f64)> = lengths.into_iter().zip(found).collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (_, score) in &pairs {
            prop_assert!(*score > 0.0 && *score <= 1.0);
        }
        for pair in pairs.windows(2) {
            prop_assert!(pair[0].1 >= pair[1].1);
        }
    }

    #[test]
    fn scaling_by_powers_of_two_changes_no_bit(seed: u64, exponents in prop::array::uniform3(-20_i32..20)) {
        let rows = normals(300, 3, seed).mapv(|value| f64::from(value as f32));
        let factors = Array1::from_iter(exponents.map(|exponent| 2.0_f64.powi(exponent)));
        let scaled = &rows * &factors;
        prop_assert_eq!(
            scores(&fit(&rows, seed), &rows),
            scores(&fit(&scaled, seed), &scaled)
        );
    }

    #[test]
    fn rows_with_missing_values_score_by_the_rule_and_alike_from_every_engine(
        seed: u64,
        n_rows in 1_usize..300,
        n_columns in 1_usize..40,
        // The last makes trees that are too large to be swept.
        psi in prop::sample::select(vec![1_usize, 2, 64, 256, 1500]),
        missing_rows in 0.0..1.0_f64,
        missing_values in 0.0..1.0_f64,
    ) {
        let train = normals(2000, n_columns, seed);
        let forest = IsolationForest::params_with_rng(rng(seed))
            .n_trees(20)
            .sample_size(psi)
            .fit(&Dataset::from(train))
            .unwrap();
        let mut probes = normals(n_rows, n_columns, seed ^ 1) * 2.0;
        let mut draws = rng(seed ^ 2);
        for mut row in probes.rows_mut() {
            if draws.gen_bool(missing_rows) {
                row.mapv_inplace(|v| if draws.gen_bool(missing_values) { f64::NAN } else { v });
            }
        }
        let batch = forest.mean_path_lengths(probes.view());
        let portable = forest.clone().with_instructions(Instructions::Portable);
        let plain = portable.mean_path_lengths(probes.view());
        for (index, row) in probes.rows().into_iter().enumerate() {
            let alone = forest.mean_path_lengths(row.insert_axis(Axis(0)))[0];
            prop_assert_eq!(batch[index].to_bits(), alone.to_bits());
            prop_assert_eq!(plain[index].to_bits(), alone.to_bits());
            let row: Vec<f32> = row.iter().map(|&value| value as f32).collect();
            let lengths = forest.trees().iter().map(|tree| expected_length(tree, 0, 0, &row));
            prop_assert!((lengths.sum::<f64>() / 20.0 - alone).abs() < 2e-7);
        }
    }

    #[test]
    fn a_batch_scores_like_its_rows_one_by_one(seed: u64, n_rows in 1_usize..40) {
        let train = normals(500, 3, seed);
        let forest = fit(&train, seed);
        let rows = normals(n_rows, 3, seed ^ 1);
        let batch = scores(&forest, &rows);
        for (row, score) in rows.rows().into_iter().zip(batch) {
            let alone = scores(&forest, &row.to_owned().insert_axis(Axis(0)));
            prop_assert_eq!(alone[0].to_bits(), score.to_bits());
        }
    }
}

/// Mean scores over many forests, whose randomness averages out.
fn averaged(rows: &Array2<f64>, seeds: std::ops::Range<u64>) -> Array1<f64> {
    let n = (seeds.end - seeds.start) as f64;
    seeds.fold(Array1::zeros(rows.nrows()), |sum, seed| sum + scores(&fit(rows, seed), rows)) / n
}

fn largest_gap(a: &Array1<f64>, b: &Array1<f64>) -> f64 {
    (a - b).iter().fold(0.0, |most, gap| most.max(gap.abs()))
}

#[test]
fn column_order_scale_and_constant_columns_are_harmless_in_distribution() {
    let rows = normals(600, 4, 13);
    let reference = averaged(&rows, 0..20);
    let noise = largest_gap(&reference, &averaged(&rows, 100..120));
    let mut permuted = rows.clone();
    for (to, from) in [2, 0, 3, 1].into_iter().enumerate() {
        permuted.column_mut(to).assign(&rows.column(from));
    }
    let scaled = &rows * &array![1e-3, 3.7, 1.0, 1e4] + &array![5.0, -2.0, 0.1, 0.0];
    let padded = concatenate![Axis(1), rows, Array2::from_elem((600, 3), 7.0)];
    for changed in [permuted, scaled, padded] {
        let gap = largest_gap(&reference, &averaged(&changed, 200..220));
        assert!(gap < 2.0 * noise + 0.005, "{gap} against {noise}");
    }
}
