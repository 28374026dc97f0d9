//! Writing a forest as the compact graph.

use super::OnnxError;
use super::proto::*;
use crate::{IsolationForest, Node, average_path_length};
use prost::Message;

/// Versions that the graph needs: ir 8 with opset 15 and ai.onnx.ml 3 are read by every runtime
/// since 2022.
const IR_VERSION: i64 = 8;
const OPSET: i64 = 15;
const ML_OPSET: i64 = 3;

/// The forest as an ONNX model: see the [module](super) for its graph.
///
/// # Errors
/// [`OnnxError::SingleRowSamples`] for a forest whose samples have one row.
pub fn export(forest: &IsolationForest) -> Result<Vec<u8>, OnnxError> {
    let normaliser = average_path_length(forest.sample_size());
    if normaliser == 0.0 {
        return Err(OnnxError::SingleRowSamples);
    }
    let exponent = -1.0 / (forest.trees().len() as f64 * normaliser);
    let graph = GraphProto {
        name: "isolation_forest".into(),
        node: vec![
            ensemble(forest),
            operator("Mul", ["path_length_sum", "per_path_length"], "exponent"),
            operator("Pow", ["two", "exponent"], "scores"),
        ],
        initializer: vec![scalar("per_path_length", exponent as f32), scalar("two", 2.0)],
        input: vec![matrix("X", forest.n_features())],
        output: vec![matrix("scores", 1)],
    };
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "hedgerow-model".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: format!("isolation forest, psi = {}", forest.sample_size()),
        graph: Some(graph),
        opset_import: vec![
            OperatorSetIdProto { domain: String::new(), version: OPSET },
            OperatorSetIdProto { domain: "ai.onnx.ml".into(), version: ML_OPSET },
        ],
    };
    Ok(model.encode_to_vec())
}

fn ensemble(forest: &IsolationForest) -> NodeProto {
    let mut columns = Columns::default();
    for (tree_id, tree) in forest.trees().iter().enumerate() {
        let depths = tree.depths();
        for (node_id, node) in tree.nodes().iter().enumerate() {
            columns.tree_ids.push(tree_id as i64);
            columns.node_ids.push(node_id as i64);
            let (feature, threshold, left, right, mode) = match *node {
                Node::Split { feature, threshold, left, right, .. } => {
                    (i64::from(feature), threshold, i64::from(left), i64::from(right), "BRANCH_LEQ")
                }
                Node::Leaf { samples } => {
                    let length = f64::from(depths[node_id]) + average_path_length(samples);
                    columns.target_tree_ids.push(tree_id as i64);
                    columns.target_node_ids.push(node_id as i64);
                    columns.weights.push(length as f32);
                    (0, 0.0, 0, 0, "LEAF")
                }
            };
            columns.features.push(feature);
            columns.thresholds.push(threshold);
            columns.trues.push(left);
            columns.falses.push(right);
            columns.modes.push(mode.into());
        }
    }
    NodeProto {
        input: vec!["X".into()],
        output: vec!["path_length_sum".into()],
        name: "trees".into(),
        op_type: "TreeEnsembleRegressor".into(),
        domain: "ai.onnx.ml".into(),
        attribute: columns.into_attributes(),
    }
}

/// The parallel arrays of a `TreeEnsembleRegressor`.
#[derive(Default)]
struct Columns {
    tree_ids: Vec<i64>,
    node_ids: Vec<i64>,
    features: Vec<i64>,
    thresholds: Vec<f32>,
    trues: Vec<i64>,
    falses: Vec<i64>,
    modes: Vec<Vec<u8>>,
    target_tree_ids: Vec<i64>,
    target_node_ids: Vec<i64>,
    weights: Vec<f32>,
}

impl Columns {
    fn into_attributes(self) -> Vec<AttributeProto> {
        let zeros = |n: usize| vec![0; n];
        vec![
            string("aggregate_function", "SUM"),
            AttributeProto { i: Some(1), ..attribute("n_targets", ATTRIBUTE_INT) },
            ints("nodes_falsenodeids", self.falses),
            ints("nodes_featureids", self.features),
            ints("nodes_missing_value_tracks_true", zeros(self.node_ids.len())),
            AttributeProto { strings: self.modes, ..attribute("nodes_modes", ATTRIBUTE_STRINGS) },
            ints("nodes_nodeids", self.node_ids),
            ints("nodes_treeids", self.tree_ids),
            ints("nodes_truenodeids", self.trues),
            floats("nodes_values", self.thresholds),
            string("post_transform", "NONE"),
            ints("target_ids", zeros(self.weights.len())),
            ints("target_nodeids", self.target_node_ids),
            ints("target_treeids", self.target_tree_ids),
            floats("target_weights", self.weights),
        ]
    }
}

fn attribute(name: &str, kind: i32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: kind, ..AttributeProto::default() }
}

fn ints(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto { ints, ..attribute(name, ATTRIBUTE_INTS) }
}

fn floats(name: &str, floats: Vec<f32>) -> AttributeProto {
    AttributeProto { floats, ..attribute(name, ATTRIBUTE_FLOATS) }
}

fn string(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.into()), ..attribute(name, ATTRIBUTE_STRING) }
}

fn operator(op_type: &str, input: [&str; 2], output: &str) -> NodeProto {
    NodeProto {
        input: input.map(String::from).to_vec(),
        output: vec![output.into()],
        name: output.into(),
        op_type: op_type.into(),
        ..NodeProto::default()
    }
}

fn scalar(name: &str, value: f32) -> TensorProto {
    TensorProto {
        dims: vec![1],
        data_type: TENSOR_FLOAT,
        float_data: vec![value],
        name: name.into(),
        ..TensorProto::default()
    }
}

fn matrix(name: &str, columns: usize) -> ValueInfoProto {
    let rows = Dimension { dim_param: Some("rows".into()), ..Dimension::default() };
    let columns = Dimension { dim_value: Some(columns as i64), ..Dimension::default() };
    let shape = TensorShapeProto { dim: vec![rows, columns] };
    let tensor_type = TensorType { elem_type: TENSOR_FLOAT, shape: Some(shape) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}
