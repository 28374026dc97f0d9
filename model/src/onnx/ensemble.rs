//! Reading the parallel arrays of a `TreeEnsembleRegressor` into trees.

use super::OnnxError;
use super::proto::NodeProto;
use crate::tree::{MAX_DEPTH, MAX_NODES};
use crate::{Node, Tree, average_path_length};
use std::collections::BTreeMap;

/// One node as it stands in the arrays.
#[derive(Debug, Clone, Copy)]
pub(super) enum Raw {
    Split { feature: i64, threshold: f32, on_true: i64, on_false: i64 },
    Leaf,
}

/// Nodes of one tree by node id, and the weights of its leaves.
#[derive(Debug, Default)]
pub(super) struct RawTree {
    pub nodes: BTreeMap<i64, Raw>,
    pub weights: BTreeMap<i64, f64>,
}

/// A leaf while the tree is laid out.
pub(super) struct Leaf {
    pub depth: u32,
    pub weight: f64,
}

/// The trees of an ensemble by tree id.
pub(super) fn read(node: &NodeProto) -> Result<BTreeMap<i64, RawTree>, OnnxError> {
    let targets = node.attribute("n_targets").and_then(|a| a.i);
    if targets != Some(1) {
        return Err(OnnxError::UnknownForm("a tree ensemble with other than one target"));
    }
    let sums = node.attribute("aggregate_function").is_none_or(|a| a.s.as_deref() == Some(b"SUM"));
    let plain = node.attribute("post_transform").is_none_or(|a| a.s.as_deref() == Some(b"NONE"));
    let based = node.attribute("base_values").is_some_and(|a| !a.floats.is_empty());
    if !sums || !plain || based {
        return Err(OnnxError::UnknownForm("a tree ensemble that does more than sum its leaves"));
    }
    let ids = node.ints("nodes_treeids");
    if ids.is_empty() || ids.len() > MAX_NODES {
        return Err(OnnxError::Ensemble("no nodes, or too many"));
    }
    let mut trees: BTreeMap<i64, RawTree> = BTreeMap::new();
    let arrays = NodeArrays::of(node, ids.len())?;
    for (at, &tree_id) in ids.iter().enumerate() {
        let nodes = &mut trees.entry(tree_id).or_default().nodes;
        if nodes.insert(arrays.node_ids[at], arrays.node(at)?).is_some() {
            return Err(OnnxError::Ensemble("a node id appears twice"));
        }
    }
    read_weights(node, &mut trees)?;
    Ok(trees)
}

struct NodeArrays<'a> {
    node_ids: &'a [i64],
    features: &'a [i64],
    on_true: &'a [i64],
    on_false: &'a [i64],
    modes: &'a [Vec<u8>],
    thresholds: Vec<f32>,
}

impl<'a> NodeArrays<'a> {
    fn of(node: &'a NodeProto, length: usize) -> Result<Self, OnnxError> {
        let modes = node.attribute("nodes_modes").map_or(&[][..], |a| &a.strings);
        let arrays = NodeArrays {
            node_ids: node.ints("nodes_nodeids"),
            features: node.ints("nodes_featureids"),
            on_true: node.ints("nodes_truenodeids"),
            on_false: node.ints("nodes_falsenodeids"),
            modes,
            thresholds: values(node, "nodes_values")?.into_iter().map(rounded_down).collect(),
        };
        let ids = [arrays.node_ids, arrays.features, arrays.on_true, arrays.on_false];
        let same = ids.iter().all(|a| a.len() == length)
            && arrays.modes.len() == length
            && arrays.thresholds.len() == length;
        if same { Ok(arrays) } else { Err(OnnxError::Ensemble("arrays differ in length")) }
    }

    fn node(&self, at: usize) -> Result<Raw, OnnxError> {
        match self.modes[at].as_slice() {
            b"BRANCH_LEQ" => Ok(Raw::Split {
                feature: self.features[at],
                threshold: self.thresholds[at],
                on_true: self.on_true[at],
                on_false: self.on_false[at],
            }),
            b"LEAF" => Ok(Raw::Leaf),
            other => {
                let shown = &other[..other.len().min(32)];
                Err(OnnxError::Mode(String::from_utf8_lossy(shown).into_owned()))
            }
        }
    }
}

/// Floats of an attribute, or of its f64 twin `NAME_as_tensor`.
fn values(node: &NodeProto, name: &str) -> Result<Vec<f64>, OnnxError> {
    let twin = format!("{name}_as_tensor");
    if let Some(tensor) = node.attribute(&twin).and_then(|a| a.t.as_ref()) {
        return tensor.floats().ok_or(OnnxError::Ensemble("values that are not floats"));
    }
    let floats = node.attribute(name).map_or(&[][..], |a| &a.floats);
    Ok(floats.iter().copied().map(f64::from).collect())
}

/// The largest f32 that is not above a value: for every f32 `x`, `x <= value` is `x <= rounded`.
pub(super) fn rounded_down(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest) > value { nearest.next_down() } else { nearest }
}

fn read_weights(node: &NodeProto, trees: &mut BTreeMap<i64, RawTree>) -> Result<(), OnnxError> {
    let tree_ids = node.ints("target_treeids");
    let node_ids = node.ints("target_nodeids");
    let weights = values(node, "target_weights")?;
    if tree_ids.len() != node_ids.len() || tree_ids.len() != weights.len() {
        return Err(OnnxError::Ensemble("arrays of leaves differ in length"));
    }
    for ((tree_id, &node_id), weight) in tree_ids.iter().zip(node_ids).zip(weights) {
        let tree = trees.get_mut(tree_id).ok_or(OnnxError::Ensemble("a leaf of no tree"))?;
        if tree.weights.insert(node_id, weight).is_some() {
            return Err(OnnxError::Ensemble("a leaf with two weights"));
        }
    }
    Ok(())
}

impl RawTree {
    /// Lays the tree out, root first and children behind their parents. `samples_of` says how many
    /// rows a leaf stands for; splits get the sum of their children.
    pub fn lay_out(
        &self,
        n_features: usize,
        index: usize,
        samples_of: impl Fn(Leaf) -> Result<u32, OnnxError>,
    ) -> Result<Tree, OnnxError> {
        let root = self.root()?;
        let mut nodes: Vec<Node> = Vec::with_capacity(self.nodes.len());
        // (node id, depth, slot of the parent and whether it is its left child)
        let mut waiting = vec![(root, 0_u32, None)];
        while let Some((id, depth, parent)) = waiting.pop() {
            let slot = nodes.len() as u32;
            if nodes.len() >= self.nodes.len() || depth > MAX_DEPTH {
                return Err(OnnxError::Ensemble("nodes that form no tree, or too deep a one"));
            }
            if let Some((parent, is_left)) = parent {
                set_child(&mut nodes, parent, is_left, slot);
            }
            let raw = self.nodes.get(&id).ok_or(OnnxError::Ensemble("a child that is missing"))?;
            match *raw {
                Raw::Split { feature, threshold, on_true, on_false } => {
                    let feature = u32::try_from(feature)
                        .map_err(|_| OnnxError::Ensemble("a feature out of range"))?;
                    nodes.push(Node::Split { feature, threshold, left: 0, right: 0, samples: 0 });
                    waiting.push((on_false, depth + 1, Some((slot, false))));
                    waiting.push((on_true, depth + 1, Some((slot, true))));
                }
                Raw::Leaf => {
                    let weight = *self
                        .weights
                        .get(&id)
                        .ok_or(OnnxError::Ensemble("a leaf without a weight"))?;
                    nodes.push(Node::Leaf { samples: samples_of(Leaf { depth, weight })? });
                }
            }
        }
        if nodes.len() != self.nodes.len() {
            return Err(OnnxError::Ensemble("nodes that no path reaches"));
        }
        sum_samples(&mut nodes)?;
        Tree::new(nodes, n_features).map_err(|source| OnnxError::Tree { index, source })
    }

    /// The node that is nobody's child.
    fn root(&self) -> Result<i64, OnnxError> {
        let mut candidates: std::collections::BTreeSet<i64> = self.nodes.keys().copied().collect();
        for raw in self.nodes.values() {
            if let Raw::Split { on_true, on_false, .. } = raw {
                candidates.remove(on_true);
                candidates.remove(on_false);
            }
        }
        match (candidates.pop_first(), candidates.is_empty()) {
            (Some(root), true) => Ok(root),
            _ => Err(OnnxError::Ensemble("a tree without a single root")),
        }
    }
}

fn set_child(nodes: &mut [Node], parent: u32, is_left: bool, child: u32) {
    if let Some(Node::Split { left, right, .. }) = nodes.get_mut(parent as usize) {
        *(if is_left { left } else { right }) = child;
    }
}

/// Gives each split the sum of its children, which lie behind it.
fn sum_samples(nodes: &mut [Node]) -> Result<(), OnnxError> {
    for at in (0..nodes.len()).rev() {
        let Node::Split { left, right, .. } = nodes[at] else { continue };
        let sum = nodes[left as usize].samples().checked_add(nodes[right as usize].samples());
        let sum = sum.ok_or(OnnxError::Ensemble("too many samples"))?;
        if let Node::Split { samples, .. } = &mut nodes[at] {
            *samples = sum;
        }
    }
    Ok(())
}

/// Psi from c(psi), which went through f32.
pub(super) fn psi(normaliser: f64) -> Result<u32, OnnxError> {
    let tolerance = (normaliser.abs() * 1e-6).max(1e-6);
    samples_with_average_path_length(normaliser, tolerance)
        .filter(|&psi| psi > 1)
        .ok_or(OnnxError::Normaliser(normaliser))
}

/// The number of rows `n` with c(n) nearest to a value, if that is within `tolerance`. c rises
/// with n, from c(1) = 0 and c(2) = 1.
pub(super) fn samples_with_average_path_length(value: f64, tolerance: f64) -> Option<u32> {
    if value.is_nan() {
        return None;
    }
    let (mut low, mut high) = (1_u32, u32::MAX);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if average_path_length(middle) <= value {
            low = middle;
        } else {
            high = middle;
        }
    }
    let off = |n: u32| (average_path_length(n) - value).abs();
    let nearest = if off(high) < off(low) { high } else { low };
    (off(nearest) <= tolerance).then_some(nearest)
}
