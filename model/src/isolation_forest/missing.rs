//! Path lengths of rows with missing values.

use crate::path_length::average_path_length;
use crate::tree::{MAX_DEPTH, Node, Tree};

/// Expected path length of `row` in `tree`: a split on a missing value is left by both sides,
/// weighted by their training rows.
pub(super) fn expected_path_length(tree: &Tree, row: &[f32]) -> f64 {
    let nodes = tree.nodes();
    let mut stack = Vec::with_capacity(MAX_DEPTH as usize + 1);
    stack.push((0_u32, 0_u32, 1.0_f64));
    let mut expected = 0.0;
    while let Some((slot, depth, weight)) = stack.pop() {
        match nodes[slot as usize] {
            Node::Leaf { samples } => {
                expected += weight * (f64::from(depth) + average_path_length(samples));
            }
            Node::Split { feature, threshold, left, right, samples } => {
                let value = row[feature as usize];
                if value.is_nan() {
                    for child in [left, right] {
                        let share = f64::from(nodes[child as usize].samples()) / f64::from(samples);
                        stack.push((child, depth + 1, weight * share));
                    }
                } else {
                    let child = if value <= threshold { left } else { right };
                    stack.push((child, depth + 1, weight));
                }
            }
        }
    }
    expected
}
