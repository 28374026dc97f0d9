//! Path lengths of rows with missing values.
//!
//! The rule: a split on a missing value is left by both sides, weighted by their training rows, so
//! that the length is the expectation over what the value could have been. It is worked out from
//! the leaves up: a leaf's value is its path length, a split's is one child's, or, where the row
//! misses its column,
//!
//! left + (right - left) n_right / n
//!
//! in fixed point, rounded at each such split. That order is the only one, so that a single row's
//! walk and a block's sweep give the same bits.
//!
//! The sweep evaluates every node for sixteen rows at a time, whichever values they miss: plain
//! loops that the compiler turns into the processor's vectors. For trees of psi = 256 (about 70
//! splits) that costs less than walking both sides of three splits.

use crate::path_length::average_path_length;
use crate::tree::{Node, Tree};

use super::{FixedLength, Instructions, to_fixed};

/// Rows that are swept together.
pub(super) const LANES: usize = 16;

/// Fewer rows than this are walked one by one.
const LEAST_SWEPT_ROWS: usize = 3;

/// Larger trees are walked: a sweep visits every node, and keeps a value of each.
const MAX_SWEPT_NODES: usize = 1024;

/// A split, as a walk and a sweep read it. The right child lies behind the left one.
#[derive(Debug, Clone, Copy)]
struct Split {
    slot: u32,
    child: u32,
    feature: u32,
    threshold: f32,
    /// Share of the training rows that went right, in units of 2^-32; never 0.
    right_share: u32,
}

/// What a walk finds at a node.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Position in [`SweptTree::splits`].
    Split(u32),
    /// Path length.
    Leaf(u32),
}

/// A tree, its nodes numbered breadth first.
#[derive(Debug, Clone)]
struct SweptTree {
    steps: Vec<Step>,
    /// Parents before children.
    splits: Vec<Split>,
    /// (slot, path length) of each leaf.
    leaves: Vec<(u32, u32)>,
}

/// A forest compiled for rows with missing values.
#[derive(Debug, Clone)]
pub(crate) struct MissingForest {
    trees: Vec<SweptTree>,
    n_features: usize,
    /// Nodes of the largest tree.
    n_slots: usize,
}

/// Working memory of one thread.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Sixteen rows, column by column.
    columns: Vec<[f32; LANES]>,
    /// Whether one of them misses the column.
    any_missing: Vec<bool>,
    /// The value of each node of a tree.
    values: Vec<[u32; LANES]>,
}

impl MissingForest {
    /// Compiles checked trees.
    pub(crate) fn new(trees: &[Tree], n_features: usize) -> Self {
        MissingForest {
            trees: trees.iter().map(SweptTree::new).collect(),
            n_features,
            n_slots: trees.iter().map(|tree| tree.nodes().len()).max().unwrap_or(0),
        }
    }

    /// Adds the path lengths over all trees of rows (row-major) to `sums`.
    pub(super) fn add_path_lengths(
        &self,
        rows: &[f32],
        sums: &mut [FixedLength],
        instructions: Instructions,
        scratch: &mut Scratch,
    ) {
        assert_eq!(rows.len(), sums.len() * self.n_features, "rows and sums disagree");
        if self.n_slots > MAX_SWEPT_NODES {
            return self.walk_rows(rows, sums);
        }
        scratch.columns.resize(self.n_features, [0.0; LANES]);
        scratch.any_missing.resize(self.n_features, false);
        scratch.values.resize(self.n_slots, [0; LANES]);
        let parts = rows.chunks(LANES * self.n_features).zip(sums.chunks_mut(LANES));
        for (rows, sums) in parts {
            if sums.len() < LEAST_SWEPT_ROWS {
                self.walk_rows(rows, sums);
            } else {
                self.sweep(rows, sums, instructions, scratch);
            }
        }
    }

    fn walk_rows(&self, rows: &[f32], sums: &mut [FixedLength]) {
        for (row, sum) in rows.chunks_exact(self.n_features).zip(sums) {
            *sum += self.path_lengths(row).map(FixedLength::from).sum::<FixedLength>();
        }
    }

    /// Path length of a row in each tree, in fixed point.
    pub(crate) fn path_lengths(&self, row: &[f32]) -> impl Iterator<Item = u32> {
        self.trees.iter().map(|tree| tree.walk(0, row))
    }

    /// Sums the path lengths of at most [`LANES`] rows.
    fn sweep(
        &self,
        rows: &[f32],
        sums: &mut [FixedLength],
        instructions: Instructions,
        scratch: &mut Scratch,
    ) {
        scratch.any_missing.fill(false);
        for (lane, row) in rows.chunks_exact(self.n_features).enumerate() {
            let columns = scratch.columns.iter_mut().zip(&mut scratch.any_missing);
            for ((column, any_missing), &value) in columns.zip(row) {
                column[lane] = value;
                *any_missing |= value.is_nan();
            }
        }
        let mut lanes = [0; LANES];
        #[cfg(target_arch = "x86_64")]
        match instructions {
            Instructions::Detected if has_avx512() => {
                // SAFETY: the processor has the features.
                unsafe { sweep_avx512(&self.trees, scratch, &mut lanes) };
            }
            Instructions::Detected if is_x86_feature_detected!("avx2") => {
                // SAFETY: the processor has the feature.
                unsafe { sweep_avx2(&self.trees, scratch, &mut lanes) };
            }
            _ => sweep_trees(&self.trees, scratch, &mut lanes),
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = instructions;
            sweep_trees(&self.trees, scratch, &mut lanes);
        }
        for (sum, lane) in sums.iter_mut().zip(lanes) {
            *sum += lane;
        }
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        let tree_bytes = |tree: &SweptTree| {
            size_of::<SweptTree>()
                + tree.steps.capacity() * size_of::<Step>()
                + tree.splits.capacity() * size_of::<Split>()
                + tree.leaves.capacity() * size_of::<(u32, u32)>()
        };
        self.trees.iter().map(tree_bytes).sum()
    }
}

impl SweptTree {
    fn new(tree: &Tree) -> Self {
        let nodes = tree.nodes();
        let n_leaves = nodes.len() / 2 + 1;
        let mut swept = SweptTree {
            steps: Vec::with_capacity(nodes.len()),
            splits: Vec::with_capacity(nodes.len() - n_leaves),
            leaves: Vec::with_capacity(n_leaves),
        };
        let mut order = Vec::with_capacity(nodes.len());
        order.push((0_u32, 0_u32));
        while let Some(&(node, depth)) = order.get(swept.steps.len()) {
            let slot = swept.steps.len() as u32;
            match nodes[node as usize] {
                Node::Split { feature, threshold, left, right, samples } => {
                    let right_rows = u64::from(nodes[right as usize].samples());
                    let right_share = ((right_rows << 32) / u64::from(samples)) as u32;
                    let child = order.len() as u32;
                    swept.steps.push(Step::Split(swept.splits.len() as u32));
                    swept.splits.push(Split { slot, child, feature, threshold, right_share });
                    order.extend([(left, depth + 1), (right, depth + 1)]);
                }
                Node::Leaf { samples } => {
                    let length = to_fixed(f64::from(depth) + average_path_length(samples)) as u32;
                    swept.steps.push(Step::Leaf(length));
                    swept.leaves.push((slot, length));
                }
            }
        }
        swept
    }

    /// Value of a node for one row. Recursion is bounded by [`crate::tree::MAX_DEPTH`].
    fn walk(&self, mut slot: u32, row: &[f32]) -> u32 {
        loop {
            let split = match self.steps[slot as usize] {
                Step::Leaf(length) => return length,
                Step::Split(at) => self.splits[at as usize],
            };
            let value = row[split.feature as usize];
            if value.is_nan() {
                let (left, right) = (self.walk(split.child, row), self.walk(split.child + 1, row));
                return mean(left, right, split.right_share);
            }
            slot = split.child + u32::from(value > split.threshold);
        }
    }
}

/// `left + (right - left) * right_share / 2^32`, rounded. Both shares are positive and sum to
/// 2^32, so nothing overflows.
#[inline(always)]
fn mean(left: u32, right: u32, right_share: u32) -> u32 {
    let left_share = right_share.wrapping_neg();
    let weighted =
        u64::from(left) * u64::from(left_share) + u64::from(right) * u64::from(right_share);
    ((weighted + (1 << 31)) >> 32) as u32
}

/// Sums the value of each tree's root. Built once for each width of vectors.
#[inline(always)]
fn sweep_trees(trees: &[SweptTree], scratch: &mut Scratch, sums: &mut [FixedLength; LANES]) {
    let Scratch { columns, any_missing, values } = scratch;
    for tree in trees {
        for &(slot, length) in &tree.leaves {
            values[slot as usize] = [length; LANES];
        }
        // Children lie behind their parent, so they have their values before it.
        for split in tree.splits.iter().rev() {
            let (left, right) = (values[split.child as usize], values[split.child as usize + 1]);
            let column = &columns[split.feature as usize];
            let into = &mut values[split.slot as usize];
            for lane in 0..LANES {
                let goes_right = column[lane] > split.threshold;
                into[lane] = if goes_right { right[lane] } else { left[lane] };
            }
            if any_missing[split.feature as usize] {
                for lane in 0..LANES {
                    let both = mean(left[lane], right[lane], split.right_share);
                    into[lane] = if column[lane].is_nan() { both } else { into[lane] };
                }
            }
        }
        for (sum, &value) in sums.iter_mut().zip(&values[0]) {
            *sum += FixedLength::from(value);
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn sweep_avx512(trees: &[SweptTree], scratch: &mut Scratch, sums: &mut [FixedLength; LANES]) {
    sweep_trees(trees, scratch, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sweep_avx2(trees: &[SweptTree], scratch: &mut Scratch, sums: &mut [FixedLength; LANES]) {
    sweep_trees(trees, scratch, sums);
}
