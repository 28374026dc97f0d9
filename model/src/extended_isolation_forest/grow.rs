//! Growing one extended isolation tree.

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::algorithm::{ExtendedNode, ExtendedTree, project};
use crate::isolation_forest::depth_limit;

/// A node that is still to be split: its rows `start..end` of the sample.
struct Pending {
    slot: u32,
    start: usize,
    end: usize,
    depth: u32,
}

/// Grows a tree on `sample`, whole rows of `n_columns` finite values, whose splits take at most
/// `n_drawn` columns.
pub(super) fn grow(sample: &[f32], n_columns: usize, n_drawn: usize, seed: u64) -> ExtendedTree {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let n_rows = sample.len() / n_columns;
    let row = |index: u32| &sample[index as usize * n_columns..][..n_columns];
    let mut rows: Vec<u32> = (0..n_rows as u32).collect();
    let mut tree = ExtendedTree::with_root();
    let mut stack = vec![Pending { slot: 0, start: 0, end: n_rows, depth: 0 }];
    let mut projections = vec![0.0_f64; n_rows];
    let limit = depth_limit(n_rows);
    while let Some(node) = stack.pop() {
        let members = &mut rows[node.start..node.end];
        let samples = members.len() as u32;
        tree.nodes[node.slot as usize] = ExtendedNode::Leaf { samples };
        if node.depth == limit || samples < 2 {
            continue;
        }
        let (columns, weights) = draw_hyperplane(members, &row, n_columns, n_drawn, &mut rng);
        let projections = &mut projections[node.start..node.end];
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for (projection, &member) in projections.iter_mut().zip(&*members) {
            *projection = project(&columns, &weights, row(member));
            low = low.min(*projection);
            high = high.max(*projection);
        }
        if columns.is_empty() || low >= high {
            continue;
        }
        let drawn = low + rng.r#gen::<f64>() * (high - low);
        let threshold = if drawn < high { drawn } else { low };
        let mut middle = 0;
        for position in 0..members.len() {
            if projections[position] <= threshold {
                members.swap(position, middle);
                projections.swap(position, middle);
                middle += 1;
            }
        }
        let left = tree.nodes.len() as u32;
        let plane = tree.push_plane(&columns, &weights);
        tree.nodes[node.slot as usize] =
            ExtendedNode::Split { plane, threshold, left, right: left + 1, samples };
        tree.nodes.extend([ExtendedNode::Leaf { samples: 0 }; 2]);
        let middle = node.start + middle;
        for (slot, start, end) in [(left + 1, middle, node.end), (left, node.start, middle)] {
            stack.push(Pending { slot, start, end, depth: node.depth + 1 });
        }
    }
    tree
}

/// Draws `n_drawn` of the columns that vary among the rows and a coefficient for each, in units of
/// the column's standard deviation there. Empty if no column varies.
fn draw_hyperplane<'a>(
    members: &[u32],
    row: &impl Fn(u32) -> &'a [f32],
    n_columns: usize,
    n_drawn: usize,
    rng: &mut Xoshiro256PlusPlus,
) -> (Vec<u32>, Vec<f32>) {
    let deviations = deviations(members, row, n_columns);
    let mut columns: Vec<u32> =
        (0..n_columns as u32).filter(|&column| deviations[column as usize] > 0.0).collect();
    if columns.len() > n_drawn {
        for position in 0..n_drawn {
            let other = rng.gen_range(position..columns.len());
            columns.swap(position, other);
        }
        columns.truncate(n_drawn);
        columns.sort_unstable();
    }
    let weights = (columns.iter())
        .map(|&column| (standard_normal(rng) / deviations[column as usize]) as f32)
        .map(|weight| weight.clamp(f32::MIN, f32::MAX))
        .collect();
    (columns, weights)
}

/// Standard deviation of each column over the rows, exactly 0 for a constant column.
fn deviations<'a>(members: &[u32], row: &impl Fn(u32) -> &'a [f32], n_columns: usize) -> Vec<f64> {
    // Around the first row, so that a constant column sums exact zeros.
    let origin = row(members[0]);
    let mut sums = vec![(0.0_f64, 0.0_f64); n_columns];
    for &member in members {
        for ((sum, &value), &origin) in sums.iter_mut().zip(row(member)).zip(origin) {
            let offset = f64::from(value) - f64::from(origin);
            sum.0 += offset;
            sum.1 += offset * offset;
        }
    }
    let n = members.len() as f64;
    let deviation = |(sum, squares): (f64, f64)| {
        let variance = (squares - sum * sum / n) / n;
        if squares == 0.0 { 0.0 } else { variance.max(squares * 1e-12 / n).sqrt() }
    };
    sums.into_iter().map(deviation).collect()
}

/// A standard normal number by the polar method (Marsaglia, Bray 1964).
fn standard_normal(rng: &mut Xoshiro256PlusPlus) -> f64 {
    loop {
        let u = rng.gen_range(-1.0..1.0_f64);
        let v = rng.gen_range(-1.0..1.0_f64);
        let square = u * u + v * v;
        if square > 0.0 && square < 1.0 {
            return u * (-2.0 * square.ln() / square).sqrt();
        }
    }
}
