//! The graph that skl2onnx writes for scikit-learn's `IsolationForest`.
//!
//! For each tree:
//!
//! ```text
//! X -> Gather(columns) -> TreeEnsembleRegressor -> leaf number
//!   -> Cast -> LabelEncoder -> Reshape -> samples of the leaf -> Greater, Equal ... -> c(samples)
//!   -> Cast -> LabelEncoder -> Reshape -> nodes on the path (depth + 1)
//! ```
//!
//! and then `Sum` over the trees, `Div` by trees * c(psi), `Neg`, `Pow` with base 2. Only the
//! trees, the label encoders and the divisor carry data; the arithmetic between them is the same
//! for every forest, so it is recognised by its ends and not followed.

use super::OnnxError;
use super::ensemble::{self, Leaf, psi};
use super::proto::{GraphProto, NodeProto, TensorProto};
use crate::tree::Tree;
use crate::{IsolationForest, Node};
use std::collections::{BTreeMap, HashMap};

/// Nodes by the name of a value that they read, and of one that they write; constants by name.
struct Wires<'a> {
    constants: HashMap<&'a str, &'a TensorProto>,
    readers: HashMap<&'a str, Vec<&'a NodeProto>>,
    writers: HashMap<&'a str, &'a NodeProto>,
}

impl<'a> Wires<'a> {
    fn of(graph: &'a GraphProto) -> Self {
        let constants = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
        let mut wires = Wires { constants, readers: HashMap::new(), writers: HashMap::new() };
        for node in &graph.node {
            for input in &node.input {
                wires.readers.entry(input).or_default().push(node);
            }
            for output in &node.output {
                wires.writers.insert(output, node);
            }
        }
        wires
    }

    /// The value of a constant with one element.
    fn scalar(&self, name: &str) -> Option<f64> {
        self.constants.get(name)?.scalar()
    }

    /// The nodes of a type that read any output of a node.
    fn after(&self, node: &'a NodeProto, op_type: &str) -> Vec<&'a NodeProto> {
        let read = |output: &'a String| self.readers.get(output.as_str());
        let behind = node.output.iter().filter_map(read).flatten();
        behind.copied().filter(|n| n.op_type == op_type).collect()
    }
}

pub(super) fn import(
    graph: &GraphProto,
    ensembles: &[&NodeProto],
    n_features: usize,
) -> Result<IsolationForest, OnnxError> {
    let wires = Wires::of(graph);
    let trees = ensembles
        .iter()
        .enumerate()
        .map(|(index, node)| read_tree(&wires, node, index, n_features));
    let trees = trees.collect::<Result<Vec<_>, _>>()?;
    let sum = graph.node.iter().find(|n| n.op_type == "Sum" && n.input.len() == trees.len());
    let division = sum.and_then(|sum| wires.after(sum, "Div").first().copied());
    let divisor = division
        .and_then(|d| d.input.get(1))
        .and_then(|name| wires.scalar(name))
        .ok_or(OnnxError::UnknownForm("path lengths that are not summed and divided"))?;
    let is_power = division.is_some_and(|division| {
        let negated = wires.after(division, "Neg");
        negated.iter().any(|negated| {
            wires
                .after(negated, "Pow")
                .iter()
                .any(|power| power.input.first().and_then(|base| wires.scalar(base)) == Some(2.0))
        })
    });
    if !is_power {
        return Err(OnnxError::UnknownForm("no power of two behind the mean path length"));
    }
    let sample_size = psi(divisor / trees.len() as f64)?;
    Ok(IsolationForest::from_trees(sample_size, n_features, trees)?)
}

fn read_tree(
    wires: &Wires<'_>,
    node: &NodeProto,
    index: usize,
    n_features: usize,
) -> Result<Tree, OnnxError> {
    let raw = ensemble::read(node)?;
    let Some((_, raw)) = raw.first_key_value().filter(|_| raw.len() == 1) else {
        return Err(OnnxError::UnknownForm("several trees in one of several ensembles"));
    };
    let (samples, path_nodes) = leaf_tables(wires, node)?;
    let columns = gathered_columns(wires, node)?;
    let tree = raw.lay_out(columns.as_ref().map_or(n_features, Vec::len), index, |leaf| {
        let Leaf { depth, weight } = leaf;
        let number = weight as i64;
        if path_nodes.get(&number) != Some(&(f64::from(depth) + 1.0)) {
            return Err(OnnxError::UnknownForm("leaves whose depth is not that of their tree"));
        }
        let samples = samples.get(&number).copied().unwrap_or(0.0);
        let whole = samples >= 1.0 && samples <= f64::from(u32::MAX) && samples.fract() == 0.0;
        if whole { Ok(samples as u32) } else { Err(OnnxError::Ensemble("a leaf without samples")) }
    })?;
    match columns {
        Some(columns) => renumber(&tree, &columns, n_features, index),
        None => Ok(tree),
    }
}

/// The two tables from leaf number to samples and to nodes on the path.
type LeafTables = (BTreeMap<i64, f64>, BTreeMap<i64, f64>);

fn leaf_tables(wires: &Wires<'_>, node: &NodeProto) -> Result<LeafTables, OnnxError> {
    let (mut samples, mut path_nodes) = (None, None);
    for cast in wires.after(node, "Cast") {
        for encoder in wires.after(cast, "LabelEncoder") {
            let reshaped = wires.after(encoder, "Reshape");
            let compared = reshaped.iter().any(|r| !wires.after(r, "Greater").is_empty());
            let table = table(encoder)?;
            *(if compared { &mut samples } else { &mut path_nodes }) = Some(table);
        }
    }
    samples.zip(path_nodes).ok_or(OnnxError::UnknownForm("trees without tables of their leaves"))
}

fn table(encoder: &NodeProto) -> Result<BTreeMap<i64, f64>, OnnxError> {
    let keys = encoder.ints("keys_int64s");
    let values = encoder.attribute("values_floats").map_or(&[][..], |a| &a.floats);
    if keys.is_empty() || keys.len() != values.len() {
        return Err(OnnxError::UnknownForm("a label encoder that is no table of floats"));
    }
    Ok(keys.iter().copied().zip(values.iter().copied().map(f64::from)).collect())
}

/// The columns of X that a tree reads, where the graph gathers them first.
fn gathered_columns(wires: &Wires<'_>, node: &NodeProto) -> Result<Option<Vec<i64>>, OnnxError> {
    let input = node.input.first().map_or("", String::as_str);
    let Some(gather) = wires.writers.get(input) else { return Ok(None) };
    let unknown = OnnxError::UnknownForm("trees behind other than a Gather of columns");
    let along_columns = gather.attribute("axis").and_then(|a| a.i) == Some(1);
    if gather.op_type != "Gather" || !along_columns {
        return Err(unknown);
    }
    let indices = gather.input.get(1).ok_or(unknown)?;
    let columns = wires.constants.get(indices.as_str()).and_then(|t| t.ints());
    columns.map(Some).ok_or(OnnxError::UnknownForm("a Gather without constant columns"))
}

/// The tree over the columns of X instead of the gathered ones.
fn renumber(
    tree: &Tree,
    columns: &[i64],
    n_features: usize,
    index: usize,
) -> Result<Tree, OnnxError> {
    let mut nodes = tree.nodes().to_vec();
    for node in &mut nodes {
        if let Node::Split { feature, .. } = node {
            let column = columns.get(*feature as usize).copied().unwrap_or(-1);
            *feature = u32::try_from(column)
                .map_err(|_| OnnxError::Ensemble("a gathered column out of range"))?;
        }
    }
    Tree::new(nodes, n_features).map_err(|source| OnnxError::Tree { index, source })
}
