//! Reading a forest, in either of two forms.

use super::ensemble::{self, psi, samples_with_average_path_length};
use super::proto::{GraphProto, ModelProto, NodeProto};
use super::{MAX_ONNX_BYTES, OnnxError, skl2onnx};
use crate::IsolationForest;
use prost::Message;

/// Reads an isolation forest from the bytes of an ONNX model: the compact graph of
/// [`export`](super::export), or what skl2onnx writes for scikit-learn's `IsolationForest`.
///
/// The forest scores rows as the graph does, within the rounding of the graph's f32.
///
/// # Errors
/// Says why the bytes are no such model.
pub fn import(bytes: &[u8]) -> Result<IsolationForest, OnnxError> {
    if bytes.len() > MAX_ONNX_BYTES {
        return Err(OnnxError::TooLarge(bytes.len()));
    }
    let model = ModelProto::decode(bytes).map_err(|e| OnnxError::NotOnnx(e.to_string()))?;
    let graph = model.graph.ok_or_else(|| OnnxError::NotOnnx("no graph".into()))?;
    let ensembles: Vec<&NodeProto> =
        graph.node.iter().filter(|n| n.op_type == "TreeEnsembleRegressor").collect();
    if ensembles.is_empty() {
        return Err(OnnxError::UnknownForm("no TreeEnsembleRegressor"));
    }
    let n_features = input_columns(&graph)?;
    if ensembles.len() == 1 && graph.node.len() == 3 {
        import_compact(&graph, ensembles[0], n_features)
    } else {
        skl2onnx::import(&graph, &ensembles, n_features)
    }
}

/// Columns of the graph's only input.
fn input_columns(graph: &GraphProto) -> Result<usize, OnnxError> {
    let [input] = graph.input.as_slice() else {
        return Err(OnnxError::UnknownForm("other than one input"));
    };
    let tensor = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let dimensions = tensor.and_then(|t| t.shape.as_ref()).map(|s| s.dim.as_slice());
    match dimensions {
        Some([_, columns]) => columns
            .dim_value
            .and_then(|n| usize::try_from(n).ok())
            .filter(|&n| n > 0)
            .ok_or(OnnxError::UnknownForm("an input of unknown width")),
        _ => Err(OnnxError::UnknownForm("an input that is no matrix")),
    }
}

fn import_compact(
    graph: &GraphProto,
    node: &NodeProto,
    n_features: usize,
) -> Result<IsolationForest, OnnxError> {
    let sum = node.output.first().map_or("", String::as_str);
    let multiply = graph.node.iter().find(|n| n.op_type == "Mul");
    let multiply = multiply.ok_or(OnnxError::UnknownForm("no Mul behind the trees"))?;
    let factor = constant_beside(graph, multiply, sum)
        .ok_or(OnnxError::UnknownForm("trees that are not multiplied by a constant"))?;
    let power = graph.node.iter().find(|n| n.op_type == "Pow");
    let base = power.and_then(|power| match power.input.as_slice() {
        [base, exponent] if multiply.output.first() == Some(exponent) => scalar(graph, base),
        _ => None,
    });
    if base != Some(2.0) {
        return Err(OnnxError::UnknownForm("no power of two behind the trees"));
    }
    let raw = ensemble::read(node)?;
    let normaliser = -1.0 / (factor * raw.len() as f64);
    let sample_size = psi(normaliser)?;
    let trees = raw.values().enumerate().map(|(index, tree)| {
        tree.lay_out(n_features, index, |leaf| {
            let (weight, depth) = (leaf.weight, leaf.depth);
            // The weight was rounded to f32: c(n) is only known to that many digits.
            let tolerance = (weight.abs() * f64::from(f32::EPSILON)).max(1e-6);
            samples_with_average_path_length(weight - f64::from(depth), tolerance)
                .ok_or(OnnxError::LeafWeight { weight, depth })
        })
    });
    let trees = trees.collect::<Result<Vec<_>, _>>()?;
    Ok(IsolationForest::from_trees(sample_size, n_features, trees)?)
}

/// The constant that an operator of two inputs combines with the value `with`.
fn constant_beside(graph: &GraphProto, operator: &NodeProto, with: &str) -> Option<f64> {
    match operator.input.as_slice() {
        [a, b] if a == with => scalar(graph, b),
        [a, b] if b == with => scalar(graph, a),
        _ => None,
    }
}

/// The value of an initializer with one element.
fn scalar(graph: &GraphProto, name: &str) -> Option<f64> {
    graph.initializer.iter().find(|t| t.name == name)?.scalar()
}
