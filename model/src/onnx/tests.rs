#![allow(clippy::unwrap_used)]
use super::ensemble::{rounded_down, samples_with_average_path_length};
use super::proto::*;
use super::*;
use crate::{IsolationForest, Node, Tree, average_path_length};
use linfa::prelude::*;
use ndarray::{Array1, Array2};
use ndarray_npy::ReadNpyExt;
use proptest::prelude::*;
use prost::Message;
use std::io::Cursor;

const SKL2ONNX: &[u8] = include_bytes!("../../tests/fixtures/onnx/skl2onnx.onnx");
const COMPACT: &[u8] = include_bytes!("../../tests/fixtures/onnx/compact.onnx");
const ROWS: &[u8] = include_bytes!("../../tests/fixtures/onnx/rows.npy");
const SKLEARN: &[u8] = include_bytes!("../../tests/fixtures/onnx/sklearn_scores.npy");
const ONNXRUNTIME: &[u8] = include_bytes!("../../tests/fixtures/onnx/compact_scores.npy");

fn rows() -> Array2<f32> {
    Array2::read_npy(Cursor::new(ROWS)).unwrap()
}

fn scores(forest: &IsolationForest, rows: &Array2<f32>) -> Array1<f64> {
    let lengths = forest.mean_path_lengths(rows.view());
    lengths.mapv(|length| forest.score_of_path_length(length))
}

fn assert_close(ours: &Array1<f64>, theirs: &Array1<f64>) {
    assert_eq!(ours.len(), theirs.len());
    for (row, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() < 1e-6, "row {row}: {a} and {b}");
    }
}

/// A forest with deep and shallow trees, duplicates and wide ranges.
fn forest(sample_size: usize) -> IsolationForest {
    let rows = Array2::from_shape_fn((600, 4), |(i, j)| {
        let x = ((i * (2 * j + 3)) as f32 * 0.61).sin();
        [x, (x * 3.0).round(), x * 1e-20, x * 1e20][j]
    });
    let params = IsolationForest::params().n_trees(12).sample_size(sample_size);
    params.fit(&Dataset::from(rows)).unwrap()
}

#[test]
fn a_forest_of_scikit_learn_scores_alike_here() {
    let forest = import(SKL2ONNX).unwrap();
    assert_eq!((forest.trees().len(), forest.sample_size(), forest.n_features()), (8, 64, 5));
    let expected = Array1::<f64>::read_npy(Cursor::new(SKLEARN)).unwrap();
    assert_close(&scores(&forest, &rows()), &expected);
}

#[test]
fn our_export_scores_alike_in_onnxruntime() {
    // These are the bytes that onnxruntime scored.
    let forest = import(SKL2ONNX).unwrap();
    let ours = ModelProto::decode(export(&forest).unwrap().as_slice()).unwrap();
    let scored = ModelProto::decode(COMPACT).unwrap();
    assert_eq!(ours.graph, scored.graph);
    assert_eq!(ours.opset_import, scored.opset_import);
    let expected = Array1::<f32>::read_npy(Cursor::new(ONNXRUNTIME)).unwrap();
    assert_close(&scores(&forest, &rows()), &expected.mapv(f64::from));
    assert_close(&scores(&import(COMPACT).unwrap(), &rows()), &expected.mapv(f64::from));
}

#[test]
fn the_compact_graph_has_three_nodes() {
    let model = ModelProto::decode(export(&forest(256)).unwrap().as_slice()).unwrap();
    let graph = model.graph.unwrap();
    let operators: Vec<&str> = graph.node.iter().map(|n| n.op_type.as_str()).collect();
    assert_eq!(operators, ["TreeEnsembleRegressor", "Mul", "Pow"]);
}

#[test]
fn a_forest_comes_back_from_its_export_with_the_same_scores() {
    for sample_size in [2, 3, 17, 256, 600] {
        let forest = forest(sample_size);
        let back = import(&export(&forest).unwrap()).unwrap();
        assert_eq!(back.sample_size(), forest.sample_size());
        let mut rows = Array2::from_shape_fn((500, 4), |(i, j)| ((i + 7 * j) as f32).sin());
        // Values exactly on thresholds, and the next ones above.
        let splits = forest.trees().iter().flat_map(Tree::nodes);
        for (row, split) in rows.rows_mut().into_iter().zip(splits) {
            if let Node::Split { feature, threshold, .. } = *split {
                let mut row = row;
                let above = row[0] > 0.0;
                row[feature as usize] = if above { threshold.next_up() } else { threshold };
            }
        }
        let before = scores(&forest, &rows);
        assert_eq!(scores(&back, &rows), before, "samples of {sample_size}");
    }
}

#[test]
fn single_row_samples_have_no_export() {
    assert!(matches!(export(&forest(1)), Err(OnnxError::SingleRowSamples)));
}

#[test]
fn a_threshold_of_f64_is_rounded_down() {
    let between = f64::from(1.0_f32) + f64::from(f32::EPSILON) * 0.9;
    assert_eq!(rounded_down(between), 1.0);
    assert_eq!(rounded_down(-between), (-1.0_f32).next_down());
    assert_eq!(rounded_down(0.1), 0.1_f32.next_down());
    assert_eq!(rounded_down(f64::from(0.1_f32)), 0.1_f32);
}

#[test]
fn thresholds_stored_as_f64_are_read() {
    let mut model = ModelProto::decode(COMPACT).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let attributes = &mut graph.node[0].attribute;
    let values = attributes.iter_mut().find(|a| a.name == "nodes_values").unwrap();
    // Half a step above each threshold: rounding down must find it again.
    let doubles = values.floats.drain(..).map(|t| {
        let step = f64::from(t.next_up()) - f64::from(t);
        f64::from(t) + step / 2.0
    });
    let tensor =
        TensorProto { data_type: TENSOR_DOUBLE, double_data: doubles.collect(), ..<_>::default() };
    values.name = "nodes_values_as_tensor".into();
    values.t = Some(tensor);
    let forest = import(&model.encode_to_vec()).unwrap();
    assert_eq!(forest, import(COMPACT).unwrap());
}

/// Changes the compact fixture and returns why it is refused.
fn refusal(change: impl Fn(&mut GraphProto)) -> String {
    let mut model = ModelProto::decode(COMPACT).unwrap();
    change(model.graph.as_mut().unwrap());
    import(&model.encode_to_vec()).unwrap_err().to_string()
}

fn attribute<'a>(graph: &'a mut GraphProto, name: &str) -> &'a mut AttributeProto {
    graph.node[0].attribute.iter_mut().find(|a| a.name == name).unwrap()
}

#[test]
fn what_is_no_isolation_forest_is_refused_by_name() {
    let cases = [
        (refusal(|g| g.node.clear()), "TreeEnsembleRegressor"),
        (refusal(|g| g.node[2].op_type = "Exp".into()), "no power of two"),
        (refusal(|g| g.initializer[1].float_data[0] = 3.0), "no power of two"),
        (refusal(|g| g.initializer[0].float_data[0] = 1.0), "not an average path length"),
        (refusal(|g| g.initializer[0].float_data[0] = f32::NAN), "not an average path length"),
        (refusal(|g| attribute(g, "target_weights").floats[0] += 0.3), "is no path length"),
        (refusal(|g| attribute(g, "nodes_modes").strings[0] = b"BRANCH_GT".into()), "BRANCH_GT"),
        (refusal(|g| attribute(g, "n_targets").i = Some(2)), "one target"),
        (refusal(|g| attribute(g, "nodes_values").floats.truncate(3)), "differ in length"),
        (refusal(|g| attribute(g, "nodes_featureids").ints[0] = 5), "tree 0"),
        (refusal(|g| attribute(g, "nodes_truenodeids").ints[0] = 0), "is no path length"),
        (refusal(|g| attribute(g, "nodes_truenodeids").ints[0] = 9_999), "malformed tree"),
        (refusal(|g| attribute(g, "nodes_values").floats[0] = f32::NAN), "tree 0"),
        (refusal(|g| g.input.clear()), "one input"),
    ];
    for (message, expected) in cases {
        assert!(message.contains(expected), "{message:?} does not say {expected:?}");
    }
}

#[test]
fn every_truncation_is_an_error_or_a_whole_forest() {
    for bytes in [COMPACT, SKL2ONNX] {
        for end in (0..bytes.len()).step_by(13) {
            let _ = import(&bytes[..end]);
        }
        assert!(import(&bytes[..bytes.len() / 2]).is_err());
    }
}

proptest! {
    #[test]
    fn samples_are_found_from_their_path_length(n in 1u32..200_000, depth in 0u32..20) {
        let weight = (f64::from(depth) + average_path_length(n)) as f32;
        let value = f64::from(weight) - f64::from(depth);
        let found = samples_with_average_path_length(value, 1e-5).unwrap();
        let error = (average_path_length(found) - average_path_length(n)).abs();
        prop_assert!(error < 4e-6, "{} for {}", found, n);
        prop_assert!(n > 10_000 || found == n);
    }

    #[test]
    fn rounding_down_keeps_every_comparison(threshold in -1e6f64..1e6, steps in -3i32..4) {
        let mut x = threshold as f32;
        for _ in 0..steps.abs() {
            x = if steps > 0 { x.next_up() } else { x.next_down() };
        }
        prop_assert_eq!(f64::from(x) <= threshold, x <= rounded_down(threshold));
    }

    #[test]
    fn damaged_files_never_panic(
        at in any::<prop::sample::Index>(),
        bytes in proptest::collection::vec(any::<u8>(), 1..8),
        skl in any::<bool>(),
    ) {
        let mut damaged = if skl { SKL2ONNX } else { COMPACT }.to_vec();
        let at = at.index(damaged.len());
        let end = (at + bytes.len()).min(damaged.len());
        damaged[at..end].copy_from_slice(&bytes[..end - at]);
        if let Ok(forest) = import(&damaged) {
            let rows = Array2::<f32>::zeros((2, forest.n_features().min(1 << 16)));
            if rows.ncols() == forest.n_features() {
                let scored = scores(&forest, &rows);
                prop_assert!(scored.iter().all(|s| *s > 0.0 && *s <= 1.0));
            }
        }
    }
}
