//! Portable traversal: 8-byte nodes, children adjacent, no branch on a comparison.
//!
//! Each tree is a run of nodes of {threshold, link}; the link packs the column and the index of the
//! left child. The right child follows the left, so a step is `child + (value > threshold)`. A leaf
//! is its own left child behind a threshold that nothing exceeds, so every row takes as many steps
//! as the tree is deep and no step depends on whether it is in a leaf yet. That threshold is NaN,
//! whose payload says which path length the leaf has. Rows (or, for a single row, trees) are walked
//! eight at a time, which hides the latency of the dependent loads.

use std::collections::HashMap;

use crate::path_length::average_path_length;
use crate::tree::{Node, Tree, TreeError};

use super::{FixedLength, to_fixed};

/// Independent walks in flight.
const LANES: usize = 8;

/// Bits of the NaN that stands in a leaf for the threshold, with an empty payload.
const LEAF_BITS: u32 = 0x7fc0_0000;

/// Most distinct path lengths: what the payload of a NaN tells apart.
const MAX_LENGTHS: usize = 1 << 22;

#[derive(Debug, Clone, Copy)]
struct PackedNode {
    /// In a leaf `LEAF_BITS | position of its path length`.
    threshold: f32,
    /// `left child << feature_bits | feature`; the child is relative to the tree's first node.
    link: u32,
}

const _: () = assert!(size_of::<PackedNode>() == 8);

impl PackedNode {
    /// Position of a leaf's path length.
    fn length(self) -> usize {
        (self.threshold.to_bits() ^ LEAF_BITS) as usize
    }
}

#[derive(Debug, Clone, Copy)]
struct TreeSpan {
    start: usize,
    depth: u32,
}

/// A forest packed for traversal. Holds these invariants, on which the unchecked loads rest: every
/// link names a column below `n_features` and a child inside its own tree's span; a child whose
/// parent can be left to the right has a right neighbour in the span.
#[derive(Debug, Clone)]
pub(crate) struct CompactForest {
    nodes: Vec<PackedNode>,
    /// Path lengths of the leaves, each once.
    lengths: Vec<u32>,
    spans: Vec<TreeSpan>,
    feature_bits: u32,
    n_features: usize,
}

impl CompactForest {
    /// Packs checked trees.
    pub(crate) fn new(trees: &[Tree], n_features: usize) -> Result<Self, (usize, TreeError)> {
        let feature_bits = usize::BITS - (n_features - 1).leading_zeros();
        let n_nodes = trees.iter().map(|tree| tree.nodes().len()).sum();
        let mut forest = CompactForest {
            nodes: Vec::with_capacity(n_nodes),
            lengths: Vec::new(),
            spans: Vec::with_capacity(trees.len()),
            feature_bits,
            n_features,
        };
        let mut known = HashMap::new();
        for (index, tree) in trees.iter().enumerate() {
            let nodes = tree.nodes().len();
            let does_not_pack = Err((index, TreeError::DoesNotPack { nodes, n_features }));
            if (nodes as u64) << feature_bits > 1 << 32 {
                return does_not_pack;
            }
            forest.push(tree, &mut known);
            if forest.lengths.len() > MAX_LENGTHS {
                return does_not_pack;
            }
        }
        Ok(forest)
    }

    pub(crate) fn n_features(&self) -> usize {
        self.n_features
    }

    /// Appends a tree, breadth first so that siblings lie side by side. `known` has the position of
    /// each path length by depth and rows of the leaf.
    fn push(&mut self, tree: &Tree, known: &mut HashMap<(u32, u32), u32>) {
        let start = self.nodes.len();
        let mut order = vec![0_u32];
        let mut depths = vec![0_u32];
        let mut position = 0;
        while position < order.len() {
            let depth = depths[position];
            match tree.nodes()[order[position] as usize] {
                Node::Split { feature, threshold, left, right, .. } => {
                    let child = order.len() as u32;
                    order.extend([left, right]);
                    depths.extend([depth + 1; 2]);
                    let link = child << self.feature_bits | feature;
                    self.nodes.push(PackedNode { threshold, link });
                }
                Node::Leaf { samples } => {
                    let length = *known.entry((depth, samples)).or_insert_with(|| {
                        let length = f64::from(depth) + average_path_length(samples);
                        self.lengths.push(to_fixed(length) as u32);
                        self.lengths.len() as u32 - 1
                    });
                    self.nodes.push(PackedNode {
                        threshold: f32::from_bits(LEAF_BITS | length),
                        link: (position as u32) << self.feature_bits,
                    });
                }
            }
            position += 1;
        }
        let depth = depths.last().copied().unwrap_or(0);
        self.spans.push(TreeSpan { start, depth });
    }

    /// Adds each row's path lengths over all trees to `sums`. `rows` is row-major, without missing
    /// values, one row for each sum.
    pub(crate) fn add_path_lengths(&self, rows: &[f32], sums: &mut [FixedLength]) {
        let width = self.n_features;
        assert_eq!(rows.len(), sums.len() * width, "rows and sums disagree");
        let whole = sums.len() - sums.len() % LANES;
        for span in &self.spans {
            for first in (0..whole).step_by(LANES) {
                let starts = std::array::from_fn(|lane| (first + lane) * width);
                let ends = self.walk_rows(span, rows, &starts);
                for (lane, end) in ends.into_iter().enumerate() {
                    sums[first + lane] += self.leaf_length(end);
                }
            }
        }
        for row in whole..sums.len() {
            sums[row] += self.path_length_of(&rows[row * width..(row + 1) * width]);
        }
    }

    /// Path length of one row summed over all trees, eight trees at a time.
    pub(crate) fn path_length_of(&self, row: &[f32]) -> FixedLength {
        assert_eq!(row.len(), self.n_features, "row has another width");
        let mut sum = 0;
        for spans in self.spans.chunks(LANES) {
            let mut starts = [spans[0].start; LANES];
            let mut depth = 0;
            for (lane, span) in spans.iter().enumerate() {
                starts[lane] = span.start;
                depth = depth.max(span.depth);
            }
            let ends = self.walk_trees(&starts, depth, row);
            for end in ends.into_iter().take(spans.len()) {
                sum += self.leaf_length(end);
            }
        }
        sum
    }

    /// Path length of the leaf at `end`.
    #[inline]
    fn leaf_length(&self, end: usize) -> FixedLength {
        FixedLength::from(self.lengths[self.nodes[end].length()])
    }

    /// Walks eight rows, which begin at `starts` in `rows`, down one tree to their leaves.
    #[inline]
    fn walk_rows(&self, span: &TreeSpan, rows: &[f32], starts: &[usize; LANES]) -> [usize; LANES] {
        let feature_mask = (1_u32 << self.feature_bits) - 1;
        let mut at = [span.start; LANES];
        for _ in 0..span.depth {
            for lane in 0..LANES {
                // SAFETY: `at` holds the span's first node or what a link of the span leads to, and
                // links stay inside their span (type invariant).
                let node = unsafe { *self.nodes.get_unchecked(at[lane]) };
                let feature = (node.link & feature_mask) as usize;
                debug_assert!(starts[lane] + feature < rows.len());
                // SAFETY: columns are below `n_features` (type invariant) and the callers pass
                // starts of whole rows of that width.
                let value = unsafe { *rows.get_unchecked(starts[lane] + feature) };
                let child = (node.link >> self.feature_bits) as usize;
                at[lane] = span.start + child + usize::from(value > node.threshold);
            }
        }
        at
    }

    /// Walks one row down eight trees, whose roots are `starts` and which are at most `depth` deep.
    #[inline]
    fn walk_trees(&self, starts: &[usize; LANES], depth: u32, row: &[f32]) -> [usize; LANES] {
        let feature_mask = (1_u32 << self.feature_bits) - 1;
        let mut at = *starts;
        for _ in 0..depth {
            for lane in 0..LANES {
                // SAFETY: as in `walk_rows`; a leaf leads to itself, so more steps than the tree is
                // deep stay in the leaf.
                let node = unsafe { *self.nodes.get_unchecked(at[lane]) };
                let feature = (node.link & feature_mask) as usize;
                // SAFETY: columns are below `n_features`, the length of `row` (asserted by the
                // caller).
                let value = unsafe { *row.get_unchecked(feature) };
                let child = (node.link >> self.feature_bits) as usize;
                at[lane] = starts[lane] + child + usize::from(value > node.threshold);
            }
        }
        at
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<PackedNode>()
            + self.lengths.capacity() * size_of::<u32>()
            + self.spans.capacity() * size_of::<TreeSpan>()
    }
}
