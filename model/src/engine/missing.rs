//! Path lengths of rows with missing values.
//!
//! The rule: a split on a missing value is left by both sides, weighted by their training rows, so
//! that the length is the expectation over what the value could have been. It is worked out from
//! the leaves up: a leaf's value is its path length, a split's is one child's, or, where the row
//! misses its column,
//!
//! (left n_left + right n_right) / n
//!
//! in fixed point, rounded at each such split. That order is the only one, so that a single row's
//! walk and a block's sweep give the same bits.
//!
//! The sweep evaluates every split for [`LANES`] rows at a time, whichever values they miss: plain
//! loops that the compiler turns into the processor's vectors. For small trees (about 70 splits at
//! psi = 256) that costs less than to walk both sides of a few splits.

use std::collections::HashMap;

use crate::path_length::average_path_length;
use crate::tree::{Node, Tree};

use super::{FixedLength, Instructions, to_fixed};

/// Rows that are swept together.
const LANES: usize = 64;

/// Fewer rows than this are walked one by one.
const LEAST_SWEPT_ROWS: usize = 4;

/// Trees of more nodes than this, and forests of more distinct leaf lengths, are walked.
const MAX_SWEPT_NODES: usize = 1024;

/// Sample counts up to this have their c(n) at hand.
const MAX_KNOWN_SAMPLES: u32 = 1024;

/// A split, as a sweep reads it. Slots are places of values.
#[derive(Debug, Clone, Copy)]
struct SplitStep {
    feature: u32,
    threshold: f32,
    /// Share of the training rows that went right, in units of 2^-32; never 0.
    right_share: u32,
    /// First slot below the split's own level of the tree.
    below: u16,
    into: u16,
    left: u16,
    right: u16,
}

/// A tree's part of [`Sweep::splits`], and the slot that its root's value ends in.
#[derive(Debug, Clone, Copy)]
struct TreeSteps {
    n_splits: u32,
    root: u16,
}

/// A forest compiled for sweeping. Each level of a tree has a slot for a left and one for a right
/// child, the deeper the later; behind them each distinct leaf length has one.
#[derive(Debug, Clone)]
struct Sweep {
    /// Children before parents.
    splits: Vec<SplitStep>,
    trees: Vec<TreeSteps>,
    lengths: Vec<u32>,
    /// Slots of values that are worked out.
    n_levels: usize,
}

/// A forest compiled for rows with missing values.
#[derive(Debug, Clone)]
pub(crate) struct MissingForest {
    /// c(n) by n.
    corrections: Vec<f64>,
    sweep: Option<Sweep>,
}

/// Working memory of one thread.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The rows, column by column.
    columns: Vec<[f32; LANES]>,
    /// Whether one of them misses the column.
    any_missing: Vec<bool>,
    /// Values by slot.
    values: Vec<[u32; LANES]>,
}

impl MissingForest {
    /// Compiles checked trees.
    pub(crate) fn new(trees: &[Tree]) -> Self {
        let most = trees.iter().map(Tree::samples).max().unwrap_or(0).min(MAX_KNOWN_SAMPLES);
        MissingForest {
            corrections: (0..=most).map(average_path_length).collect(),
            sweep: Sweep::new(trees),
        }
    }

    /// Adds the path lengths over all trees of rows (row-major) to `sums`.
    pub(super) fn add_path_lengths(
        &self,
        trees: &[Tree],
        rows: &[f32],
        sums: &mut [FixedLength],
        instructions: Instructions,
        scratch: &mut Scratch,
    ) {
        let width = rows.len() / sums.len();
        for (rows, sums) in rows.chunks(LANES * width).zip(sums.chunks_mut(LANES)) {
            match &self.sweep {
                Some(sweep) if sums.len() >= LEAST_SWEPT_ROWS => {
                    scratch.take_in(sweep, rows, width);
                    let found = sweep.run(instructions, scratch);
                    sums.iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
                }
                _ => {
                    for (row, sum) in rows.chunks_exact(width).zip(sums) {
                        let lengths = trees.iter().map(|tree| self.path_length(tree, row));
                        *sum += lengths.map(FixedLength::from).sum::<FixedLength>();
                    }
                }
            }
        }
    }

    /// Path length of a row in one tree, in fixed point.
    pub(crate) fn path_length(&self, tree: &Tree, row: &[f32]) -> u32 {
        self.walk(tree.nodes(), 0, 0, row)
    }

    /// Value of a node for one row. Recursion is bounded by [`crate::tree::MAX_DEPTH`].
    fn walk(&self, nodes: &[Node], mut node: u32, mut depth: u32, row: &[f32]) -> u32 {
        loop {
            match nodes[node as usize] {
                Node::Leaf { samples } => {
                    let known = self.corrections.get(samples as usize).copied();
                    let correction = known.unwrap_or_else(|| average_path_length(samples));
                    return to_fixed(f64::from(depth) + correction) as u32;
                }
                Node::Split { feature, threshold, left, right, samples } => {
                    let value = row[feature as usize];
                    depth += 1;
                    if value.is_nan() {
                        let right_share = share(nodes[right as usize].samples(), samples);
                        let left = self.walk(nodes, left, depth, row);
                        return mean(left, self.walk(nodes, right, depth, row), right_share);
                    }
                    node = if value > threshold { right } else { left };
                }
            }
        }
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        let sweep_bytes = |sweep: &Sweep| {
            sweep.splits.capacity() * size_of::<SplitStep>()
                + sweep.trees.capacity() * size_of::<TreeSteps>()
                + sweep.lengths.capacity() * size_of::<u32>()
        };
        self.corrections.capacity() * size_of::<f64>() + self.sweep.as_ref().map_or(0, sweep_bytes)
    }
}

impl Sweep {
    /// Compiles checked trees, or `None` where walking them is the better way.
    fn new(trees: &[Tree]) -> Option<Self> {
        if trees.iter().any(|tree| tree.nodes().len() > MAX_SWEPT_NODES) {
            return None;
        }
        let deepest = trees.iter().flat_map(Tree::depths).max().unwrap_or(0);
        let mut sweep = Sweep {
            splits: Vec::new(),
            trees: Vec::with_capacity(trees.len()),
            lengths: Vec::new(),
            n_levels: 2 * (deepest as usize + 1),
        };
        let mut known = HashMap::new();
        for tree in trees {
            let before = sweep.splits.len();
            let root = sweep.push(tree.nodes(), 0, (0, 0), &mut known);
            sweep.trees.push(TreeSteps { n_splits: (sweep.splits.len() - before) as u32, root });
        }
        sweep.splits.shrink_to_fit();
        (sweep.lengths.len() <= MAX_SWEPT_NODES).then_some(sweep)
    }

    /// Appends the splits of a subtree and returns the slot of its value. A node's slot is its
    /// level's and side's: whoever is next to take that one comes after the node's parent, which
    /// has read it then. `known` has the slot of each leaf length.
    fn push(
        &mut self,
        nodes: &[Node],
        node: u32,
        (depth, side): (u32, u32),
        known: &mut HashMap<u32, u16>,
    ) -> u16 {
        match nodes[node as usize] {
            Node::Leaf { samples } => {
                let length = to_fixed(f64::from(depth) + average_path_length(samples)) as u32;
                let next = (self.n_levels + self.lengths.len()) as u16;
                *known.entry(length).or_insert_with(|| {
                    self.lengths.push(length);
                    next
                })
            }
            Node::Split { feature, threshold, left, right, samples } => {
                let right_share = share(nodes[right as usize].samples(), samples);
                let left = self.push(nodes, left, (depth + 1, 0), known);
                let right = self.push(nodes, right, (depth + 1, 1), known);
                let (into, below) = ((2 * depth + side) as u16, (2 * depth + 2) as u16);
                let step = SplitStep { feature, threshold, right_share, below, into, left, right };
                self.splits.push(step);
                into
            }
        }
    }

    /// The path lengths over all trees of the rows that `scratch` has taken in.
    fn run(&self, instructions: Instructions, scratch: &mut Scratch) -> [FixedLength; LANES] {
        let mut sums = [0; LANES];
        #[cfg(target_arch = "x86_64")]
        if instructions == Instructions::Detected {
            if has_avx512() {
                // SAFETY: the processor has the features.
                unsafe { add_lengths_avx512(self, scratch, &mut sums) };
                return sums;
            }
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has the feature.
                unsafe { add_lengths_avx2(self, scratch, &mut sums) };
                return sums;
            }
        }
        add_lengths(self, scratch, &mut sums);
        sums
    }
}

impl Scratch {
    /// Takes in at most [`LANES`] rows; what other lanes hold is of no account.
    fn take_in(&mut self, sweep: &Sweep, rows: &[f32], width: usize) {
        self.columns.resize(width, [0.0; LANES]);
        self.any_missing.clear();
        self.any_missing.resize(width, false);
        self.values.resize(sweep.n_levels, [0; LANES]);
        self.values.extend(sweep.lengths.iter().map(|&length| [length; LANES]));
        self.values.truncate(sweep.n_levels + sweep.lengths.len());
        for (lane, row) in rows.chunks_exact(width).enumerate() {
            let columns = self.columns.iter_mut().zip(&mut self.any_missing);
            for ((column, any_missing), &value) in columns.zip(row) {
                column[lane] = value;
                *any_missing |= value.is_nan();
            }
        }
    }
}

/// Share of `samples` in units of 2^-32; in checked trees it is neither 0 nor 1.
fn share(part: u32, samples: u32) -> u32 {
    ((u64::from(part) << 32) / u64::from(samples)) as u32
}

/// `left` and `right`, weighted and rounded. The shares add up to 2^32, so nothing overflows.
#[inline(always)]
fn mean(left: u32, right: u32, right_share: u32) -> u32 {
    let left_share = u64::from(right_share.wrapping_neg());
    // Wrapping, because a check for overflow is a branch that no vector has.
    let left = u64::from(left).wrapping_mul(left_share);
    let right = u64::from(right).wrapping_mul(u64::from(right_share));
    (left.wrapping_add(right).wrapping_add(1 << 31) >> 32) as u32
}

/// `yes` if `condition`, else `no`, without a branch or a choice of addresses.
#[inline(always)]
fn choose(condition: bool, yes: u32, no: u32) -> u32 {
    no ^ ((no ^ yes) & u32::from(condition).wrapping_neg())
}

/// Adds the value of each tree's root. Compiled once for each width of vectors.
#[inline(always)]
fn add_lengths(sweep: &Sweep, scratch: &mut Scratch, sums: &mut [FixedLength; LANES]) {
    let Scratch { columns, any_missing, values } = scratch;
    let mut splits = &sweep.splits[..];
    for tree in &sweep.trees {
        let (tree_splits, rest) = splits.split_at(tree.n_splits as usize);
        splits = rest;
        for split in tree_splits {
            let &SplitStep { feature, threshold, right_share, below, into, left, right } = split;
            let (above, values) = values.split_at_mut(usize::from(below));
            let left = &values[usize::from(left - below)];
            let right = &values[usize::from(right - below)];
            let into = &mut above[usize::from(into)];
            let column = &columns[feature as usize];
            if any_missing[feature as usize] {
                for lane in 0..LANES {
                    let value = column[lane];
                    let both = mean(left[lane], right[lane], right_share);
                    let one = choose(value > threshold, right[lane], left[lane]);
                    into[lane] = choose(value.is_nan(), both, one);
                }
            } else {
                for lane in 0..LANES {
                    into[lane] = choose(column[lane] > threshold, right[lane], left[lane]);
                }
            }
        }
        for (sum, &length) in sums.iter_mut().zip(&values[usize::from(tree.root)]) {
            *sum = sum.wrapping_add(FixedLength::from(length));
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
fn add_lengths_avx512(sweep: &Sweep, scratch: &mut Scratch, sums: &mut [FixedLength; LANES]) {
    add_lengths(sweep, scratch, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn add_lengths_avx2(sweep: &Sweep, scratch: &mut Scratch, sums: &mut [FixedLength; LANES]) {
    add_lengths(sweep, scratch, sums);
}
