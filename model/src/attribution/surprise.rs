//! Path surprise: an additive attribution that a single walk yields.

use linfa::Float;
use ndarray::{Array1, ArrayView1};

use crate::isolation_forest::IsolationForest;
use crate::rows::to_f32;
use crate::tree::{Node, Tree};

impl IsolationForest {
    /// Surprise of each column, in bits: the mean over the trees of
    ///
    /// Σ log2(n_parent / n_child) - 1
    ///
    /// over the splits of the row's path on that column, where n counts training rows. A split that
    /// halves its rows is worth 0, one that sets the row apart with 1 of 256 is worth 7, one that
    /// leaves it with the many is worth almost -1. Over all columns the terms telescope: their sum
    /// is the mean over the trees of log2(psi / n_leaf) - depth, how much sooner than by halving
    /// the row is isolated. A split on a missing value is followed both ways in proportion, and
    /// credited to no column.
    ///
    /// # Panics
    /// If `row` has other than [`IsolationForest::n_features`] values.
    #[must_use]
    pub fn path_surprise<F: Float>(&self, row: ArrayView1<'_, F>) -> Array1<f64> {
        assert_eq!(
            row.len(),
            self.n_features(),
            "the forest was fitted on another number of columns"
        );
        let row: Vec<f32> = row.iter().map(|&value| to_f32(value)).collect();
        let mut surprise = Array1::zeros(row.len());
        let mut stack = Vec::new();
        for tree in self.trees() {
            add_surprise(tree, &row, &mut surprise, &mut stack);
        }
        surprise / self.trees().len() as f64
    }
}

fn add_surprise(tree: &Tree, row: &[f32], surprise: &mut Array1<f64>, stack: &mut Vec<(u32, f64)>) {
    let nodes = tree.nodes();
    stack.clear();
    stack.push((0, 1.0));
    while let Some((at, weight)) = stack.pop() {
        let Node::Split { feature, threshold, left, right, samples } = nodes[at as usize] else {
            continue;
        };
        let share = |child: u32| f64::from(nodes[child as usize].samples()) / f64::from(samples);
        let value = row[feature as usize];
        if value.is_nan() {
            stack.extend([left, right].map(|child| (child, weight * share(child))));
        } else {
            let child = if value <= threshold { left } else { right };
            surprise[feature as usize] += weight * (-share(child).log2() - 1.0);
            stack.push((child, weight));
        }
    }
}
