//! Block scoring without traversal: every split is evaluated for a whole block of rows at once.
//!
//! Values only matter by which thresholds they exceed, so a block's values are first replaced by
//! their rank among the forest's thresholds of that column: one byte, exact. A split then compares
//! one byte vector with one byte, and the set of rows that reach a node is a bit mask: the right
//! child's is the parent's and the comparison, the left child's what remains. Leaves write their
//! length class into the rows of their mask. Nothing is gathered and nothing depends on the data,
//! which beats walking while trees are small (about 70 splits at psi = 256): Lucchese et al.'s
//! QuickScorer (SIGIR 2015) inspired the exchange of traversal for masks.
//!
//! A byte holds 255 thresholds of a column, so the forest is cut into groups of consecutive trees
//! which keep to that, each with ranks of its own.

use std::collections::BTreeMap;

use crate::path_length::average_path_length;
use crate::tree::{Node, Tree};

use super::to_fixed;

/// Most thresholds of one column in a group: ranks are 0..=255.
const MAX_THRESHOLDS: usize = 255;

/// Most distinct leaf lengths in a group: what two registers of bytes look up.
pub(super) const MAX_CLASSES: usize = 128;

/// Trees in a group: their sums of bytes fit 16 bits.
const MAX_GROUP_TREES: usize = 257;

/// Largest tree that is worth evaluating whole instead of walking it.
pub(super) const MAX_TREE_NODES: usize = 1024;

/// A split, evaluated for all rows of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct SplitStep {
    /// Mask slot of the node.
    pub slot: u16,
    /// Mask slot of the left child; the right child's is the next.
    pub child: u16,
    /// Position in [`Group::columns`].
    pub column: u16,
    /// A row goes right if its rank is greater.
    pub rank: u8,
}

/// A leaf and the class of its path length.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeafStep {
    /// Mask slot of the node.
    pub slot: u16,
    /// Position in the group's length table.
    pub class: u8,
}

/// Steps of one tree: ranges of [`Group::splits`] and [`Group::leaves`].
#[derive(Debug, Clone, Copy)]
pub(super) struct TreeSteps {
    pub n_splits: u32,
    pub n_leaves: u32,
}

/// A column's thresholds in a group.
#[derive(Debug, Clone)]
pub(super) struct ColumnThresholds {
    /// Column of the rows.
    pub feature: u32,
    /// Levels of the search tree: 2^levels - 1 is at least the number of thresholds.
    pub levels: u32,
    /// The thresholds as an implicit search tree: node k has children 2k and 2k + 1, the root is 1,
    /// +infinity where there is none.
    pub heap: Box<[f32; MAX_THRESHOLDS + 1]>,
}

/// Consecutive trees that share one ranking. Invariants, on which unchecked access rests: slots
/// are below `n_slots`, columns below `columns.len()`, classes below [`MAX_CLASSES`]; the counts
/// in `trees` add up to the numbers of steps.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub columns: Vec<ColumnThresholds>,
    pub splits: Vec<SplitStep>,
    pub leaves: Vec<LeafStep>,
    pub trees: Vec<TreeSteps>,
    /// Byte p of the fixed-point length of each class.
    pub length_bytes: [[u8; MAX_CLASSES]; 4],
}

/// A forest compiled for block scoring.
#[derive(Debug, Clone)]
pub(crate) struct RankedForest {
    pub(super) groups: Vec<Group>,
    pub(super) n_features: usize,
    pub(super) n_slots: usize,
}

impl RankedForest {
    /// Compiles checked trees, or `None` where walking them is the better way: a tree is too large
    /// or has more than 255 thresholds of a column or more than 128 leaf lengths by itself.
    pub(crate) fn new(trees: &[Tree], n_features: usize) -> Option<Self> {
        let n_slots = trees.iter().map(|tree| tree.nodes().len()).max()?;
        if n_slots > MAX_TREE_NODES || u16::try_from(n_features).is_err() {
            return None;
        }
        let mut groups = Vec::new();
        let mut draft = Draft::default();
        for (index, tree) in trees.iter().enumerate() {
            let mut next = draft.clone();
            next.add(tree);
            if next.fits() {
                draft = next;
                continue;
            }
            groups.push(draft.compile(&trees[draft.first..index]));
            draft = Draft { first: index, ..Draft::default() };
            draft.add(tree);
            if !draft.fits() {
                return None;
            }
        }
        groups.push(draft.compile(&trees[draft.first..]));
        Some(RankedForest { groups, n_features, n_slots })
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        let group_bytes = |group: &Group| {
            size_of::<Group>()
                + group.columns.len() * (size_of::<ColumnThresholds>() + 4 * (MAX_THRESHOLDS + 1))
                + group.splits.capacity() * size_of::<SplitStep>()
                + group.leaves.capacity() * size_of::<LeafStep>()
                + group.trees.capacity() * size_of::<TreeSteps>()
        };
        self.groups.iter().map(group_bytes).sum()
    }
}

/// What a group under construction holds: ordered bits of thresholds by column, and leaf lengths.
#[derive(Debug, Clone, Default)]
struct Draft {
    first: usize,
    n_trees: usize,
    thresholds: BTreeMap<u32, Vec<i32>>,
    lengths: Vec<u32>,
}

impl Draft {
    fn add(&mut self, tree: &Tree) {
        self.n_trees += 1;
        for node in tree.nodes() {
            if let Node::Split { feature, threshold, .. } = *node {
                let column = self.thresholds.entry(feature).or_default();
                if let Err(position) = column.binary_search(&ordered_bits(threshold)) {
                    column.insert(position, ordered_bits(threshold));
                }
            }
        }
        for (_, length) in tree.leaf_path_lengths() {
            let length = to_fixed(length) as u32;
            if let Err(position) = self.lengths.binary_search(&length) {
                self.lengths.insert(position, length);
            }
        }
    }

    fn fits(&self) -> bool {
        self.n_trees <= MAX_GROUP_TREES
            && self.lengths.len() <= MAX_CLASSES
            && self.thresholds.values().all(|column| column.len() <= MAX_THRESHOLDS)
    }

    fn compile(&self, trees: &[Tree]) -> Group {
        let mut group = Group {
            columns: self.thresholds.iter().map(|(&f, t)| ColumnThresholds::new(f, t)).collect(),
            splits: Vec::new(),
            leaves: Vec::new(),
            trees: Vec::with_capacity(trees.len()),
            length_bytes: [[0; MAX_CLASSES]; 4],
        };
        for (class, length) in self.lengths.iter().enumerate() {
            for (plane, byte) in length.to_le_bytes().into_iter().enumerate() {
                group.length_bytes[plane][class] = byte;
            }
        }
        let columns: BTreeMap<u32, u16> =
            self.thresholds.keys().enumerate().map(|(slot, &f)| (f, slot as u16)).collect();
        for tree in trees {
            self.push(tree, &columns, &mut group);
        }
        group
    }

    /// Appends a tree's steps. Slots number its nodes in their own order, except that a split's
    /// children must be neighbours, so they are renumbered breadth first.
    fn push(&self, tree: &Tree, columns: &BTreeMap<u32, u16>, group: &mut Group) {
        let (n_splits, n_leaves) = (group.splits.len(), group.leaves.len());
        let mut order = vec![(0_u32, 0_u32)];
        let mut position = 0;
        while position < order.len() {
            let (node, depth) = order[position];
            let slot = position as u16;
            match tree.nodes()[node as usize] {
                Node::Split { feature, threshold, left, right, .. } => {
                    let rank = self.thresholds[&feature].binary_search(&ordered_bits(threshold));
                    let (Ok(rank) | Err(rank)) = rank;
                    let child = order.len() as u16;
                    let column = columns[&feature];
                    group.splits.push(SplitStep { slot, child, column, rank: rank as u8 });
                    order.extend([(left, depth + 1), (right, depth + 1)]);
                }
                Node::Leaf { samples } => {
                    let length = to_fixed(f64::from(depth) + average_path_length(samples)) as u32;
                    let (Ok(class) | Err(class)) = self.lengths.binary_search(&length);
                    group.leaves.push(LeafStep { slot, class: class as u8 });
                }
            }
            position += 1;
        }
        group.trees.push(TreeSteps {
            n_splits: (group.splits.len() - n_splits) as u32,
            n_leaves: (group.leaves.len() - n_leaves) as u32,
        });
    }
}

impl ColumnThresholds {
    fn new(feature: u32, ordered: &[i32]) -> Self {
        let levels = usize::BITS - ordered.len().leading_zeros();
        let mut heap = Box::new([f32::INFINITY; MAX_THRESHOLDS + 1]);
        for level in 0..levels {
            for index in 0..1_usize << level {
                // In-order rank of the heap node among 2^levels - 1 keys.
                let rank = ((2 * index + 1) << (levels - 1 - level)) - 1;
                if let Some(&bits) = ordered.get(rank) {
                    heap[(1 << level) + index] = from_ordered_bits(bits);
                }
            }
        }
        ColumnThresholds { feature, levels, heap }
    }
}

/// Bits that order like the finite float they come from; both zeros are one threshold.
fn ordered_bits(value: f32) -> i32 {
    let bits = (value + 0.0).to_bits() as i32;
    bits ^ (((bits >> 31) as u32) >> 1) as i32
}

fn from_ordered_bits(ordered: i32) -> f32 {
    f32::from_bits((ordered ^ (((ordered >> 31) as u32) >> 1) as i32) as u32)
}
