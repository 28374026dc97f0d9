//! Exact Shapley values of the path length.
//!
//! Path-dependent TreeSHAP (Lundberg et al., "From local explanations to global understanding with
//! explainable AI for trees", Nature Machine Intelligence 2020, algorithm 2): the value of a set of
//! known columns is the expected path length when a split on an unknown column is left by both
//! sides in proportion to the training rows. O(leaves · depth²) a tree instead of 2^columns.

use linfa::Float;
use ndarray::{Array1, ArrayView1};

use crate::isolation_forest::IsolationForest;
use crate::path_length::average_path_length;
use crate::rows::to_f32;
use crate::tree::{MAX_DEPTH, Node, Tree};

/// Shapley values of a row's mean path length: `baseline + values.sum()` is the row's mean path
/// length (to rounding).
#[derive(Debug, Clone, PartialEq)]
pub struct ShapValues {
    /// Mean path length when no column is known: that of the trees' own training rows.
    pub baseline: f64,
    /// By how much each column lengthens (positive) or shortens (negative) the mean path; a
    /// shorter path is more anomalous. A missing value's is 0.
    pub values: Array1<f64>,
}

impl IsolationForest {
    /// Exact Shapley values of the mean path length E\[h(x)\] of `row`.
    ///
    /// # Panics
    /// If `row` has other than [`IsolationForest::n_features`] values.
    #[must_use]
    pub fn shap_values<F: Float>(&self, row: ArrayView1<'_, F>) -> ShapValues {
        assert_eq!(
            row.len(),
            self.n_features(),
            "the forest was fitted on another number of columns"
        );
        let row: Vec<f32> = row.iter().map(|&value| to_f32(value)).collect();
        let mut values = Array1::zeros(row.len());
        let mut baseline = 0.0;
        let mut paths = vec![Path::default(); MAX_DEPTH as usize + 2];
        for tree in self.trees() {
            let root_samples = f64::from(tree.samples());
            for (leaf, length) in tree.leaf_path_lengths() {
                baseline += length * f64::from(tree.nodes()[leaf].samples()) / root_samples;
            }
            let mut walk = Walk { tree, row: &row, values: &mut values, paths: &mut paths };
            walk.visit(0, 0, Entry::ROOT);
        }
        let n_trees = self.trees().len() as f64;
        ShapValues { baseline: baseline / n_trees, values: values / n_trees }
    }
}

/// A distinct column on the way to a node.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The column; `u32::MAX` for the root's placeholder.
    feature: u32,
    /// Share of paths that come this way when the column is unknown.
    unknown: f64,
    /// 1 if the row's value comes this way, 0 if not; the unknown share for a missing value.
    known: f64,
    /// Sum of the permutation weights of the column sets of this position's size.
    weight: f64,
}

impl Entry {
    const ROOT: Entry = Entry { feature: u32::MAX, unknown: 1.0, known: 1.0, weight: 1.0 };
}

/// The distinct columns on the way to a node, behind the root's placeholder.
#[derive(Debug, Clone, Default)]
struct Path {
    entries: Vec<Entry>,
}

impl Path {
    /// Appends a column (EXTEND).
    fn extend(&mut self, unknown: f64, known: f64, feature: u32) {
        let depth = self.entries.len();
        let weight = if depth == 0 { 1.0 } else { 0.0 };
        self.entries.push(Entry { feature, unknown, known, weight });
        let n = (depth + 1) as f64;
        for index in (0..depth).rev() {
            let weight = self.entries[index].weight;
            self.entries[index + 1].weight += known * weight * (index + 1) as f64 / n;
            self.entries[index].weight = unknown * weight * (depth - index) as f64 / n;
        }
    }

    /// Sum of the weights after taking out the column at `position` (UNWIND without the removal).
    fn weight_without(&self, position: usize) -> f64 {
        let depth = self.entries.len() - 1;
        let Entry { known, unknown, .. } = self.entries[position];
        let n = (depth + 1) as f64;
        let mut next = self.entries[depth].weight;
        let mut total = 0.0;
        for index in (0..depth).rev() {
            if known != 0.0 {
                let weight = next * n / ((index + 1) as f64 * known);
                total += weight;
                let rest = unknown * (depth - index) as f64 / n;
                next = self.entries[index].weight - weight * rest;
            } else {
                total += self.entries[index].weight * n / (unknown * (depth - index) as f64);
            }
        }
        total
    }

    /// Takes out the column at `position` (UNWIND).
    fn remove(&mut self, position: usize) {
        let depth = self.entries.len() - 1;
        let Entry { known, unknown, .. } = self.entries[position];
        let n = (depth + 1) as f64;
        let mut next = self.entries[depth].weight;
        for index in (0..depth).rev() {
            let weight = self.entries[index].weight;
            if known != 0.0 {
                let unwound = next * n / ((index + 1) as f64 * known);
                self.entries[index].weight = unwound;
                next = weight - unwound * unknown * (depth - index) as f64 / n;
            } else {
                self.entries[index].weight = weight * n / (unknown * (depth - index) as f64);
            }
        }
        for index in position..depth {
            let Entry { feature, unknown, known, .. } = self.entries[index + 1];
            let weight = self.entries[index].weight;
            self.entries[index] = Entry { feature, unknown, known, weight };
        }
        self.entries.truncate(depth);
    }
}

/// A walk over all of a tree's leaves for one row.
struct Walk<'a> {
    tree: &'a Tree,
    row: &'a [f32],
    values: &'a mut Array1<f64>,
    /// The path to the node at depth d is the one at d + 1; the first stays empty.
    paths: &'a mut [Path],
}

impl Walk<'_> {
    /// Visits the subtree at `node`, which a split described by `entry` leads to. Recursion is
    /// bounded by [`MAX_DEPTH`].
    fn visit(&mut self, node: u32, depth: u32, entry: Entry) {
        let (parents, paths) = self.paths.split_at_mut(depth as usize + 1);
        let path = &mut paths[0];
        path.entries.clone_from(&parents[depth as usize].entries);
        path.extend(entry.unknown, entry.known, entry.feature);
        match self.tree.nodes()[node as usize] {
            Node::Leaf { samples } => {
                let length = f64::from(depth) + average_path_length(samples);
                for position in 1..path.entries.len() {
                    let Entry { feature, known, unknown, .. } = path.entries[position];
                    self.values[feature as usize] +=
                        path.weight_without(position) * (known - unknown) * length;
                }
            }
            Node::Split { feature, threshold, left, right, samples } => {
                let (mut unknown, mut known) = (1.0, 1.0);
                let mut entries = path.entries.iter().skip(1);
                if let Some(position) = entries.position(|entry| entry.feature == feature) {
                    unknown = path.entries[position + 1].unknown;
                    known = path.entries[position + 1].known;
                    path.remove(position + 1);
                }
                let value = self.row[feature as usize];
                for child in [left, right] {
                    let child_samples = f64::from(self.tree.nodes()[child as usize].samples());
                    let share = child_samples / f64::from(samples);
                    let taken = if value.is_nan() {
                        share
                    } else {
                        f64::from((value <= threshold) == (child == left))
                    };
                    let (unknown, known) = (unknown * share, known * taken);
                    self.visit(child, depth + 1, Entry { feature, unknown, known, weight: 0.0 });
                }
            }
        }
    }
}
