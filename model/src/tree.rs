//! Isolation trees as plain data: what fitting produces, files and ONNX carry, and engines compile.

use thiserror::Error;

use crate::path_length::average_path_length;

/// Deepest tree that is accepted. Fitting stops at ceil(log2 psi) <= 32; the rest is room for
/// forests grown elsewhere. Bounds every recursion and every fixed-depth loop over a tree.
pub const MAX_DEPTH: u32 = 64;

/// Largest number of nodes in one tree, so that hostile input can't ask for unbounded memory.
pub const MAX_NODES: usize = 1 << 24;

/// One node of an isolation tree.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Node {
    /// Rows with `row[feature] <= threshold` go `left`, the others `right`.
    Split {
        /// Column that is compared.
        feature: u32,
        /// Finite threshold; rows are compared as f32.
        threshold: f32,
        /// Index of the left child in [`Tree::nodes`].
        left: u32,
        /// Index of the right child in [`Tree::nodes`].
        right: u32,
        /// Training rows that reached the node.
        samples: u32,
    },
    /// End of a path; its length is depth + c(samples).
    Leaf {
        /// Training rows that reached the leaf.
        samples: u32,
    },
}

impl Node {
    /// Training rows that reached the node.
    #[must_use]
    pub fn samples(&self) -> u32 {
        match *self {
            Node::Split { samples, .. } | Node::Leaf { samples } => samples,
        }
    }
}

/// Why a list of nodes is not an isolation tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TreeError {
    /// The list is empty.
    #[error("a tree needs at least one node")]
    Empty,
    /// More than [`MAX_NODES`] nodes.
    #[error("{0} nodes, more than {MAX_NODES}")]
    TooManyNodes(usize),
    /// A child index is out of range or does not lie behind its parent.
    #[error("node {node} has child {child}, which is not behind it in the list")]
    BadChild {
        /// The parent.
        node: usize,
        /// The index it names.
        child: u32,
    },
    /// A node is the child of two splits, or of none.
    #[error("node {0} does not have exactly one parent")]
    NotATree(usize),
    /// A path longer than [`MAX_DEPTH`].
    #[error("node {0} lies deeper than {MAX_DEPTH}")]
    TooDeep(usize),
    /// A split on a column that the forest does not have.
    #[error("node {node} splits column {feature} of {n_features}")]
    BadFeature {
        /// The split.
        node: usize,
        /// The column it names.
        feature: u32,
        /// Columns of the forest.
        n_features: usize,
    },
    /// A threshold that is infinite or not a number.
    #[error("node {0} has a threshold that is not finite")]
    BadThreshold(usize),
    /// A count that is zero or not the sum of its children's counts.
    #[error("node {0} has a sample count of zero or other than the sum of its children's")]
    BadCount(usize),
    /// Columns and nodes together, or the leaves' path lengths (more than 2^22 distinct ones up to
    /// this tree), don't fit the packed form.
    #[error("{nodes} nodes with {n_features} columns don't fit a packed node")]
    DoesNotPack {
        /// Nodes of the tree.
        nodes: usize,
        /// Columns of the forest.
        n_features: usize,
    },
}

/// One isolation tree. Node 0 is the root and every child lies behind its parent, so the nodes can
/// be walked without a visited set.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    /// Wraps `nodes` after [`Tree::check`] accepted them.
    ///
    /// # Errors
    /// A [`TreeError`] naming the first node that is wrong.
    pub fn new(nodes: Vec<Node>, n_features: usize) -> Result<Self, TreeError> {
        let tree = Tree { nodes };
        tree.check(n_features)?;
        Ok(tree)
    }

    /// Wraps nodes that the grower made, which hold the invariants by construction.
    pub(crate) fn from_grown(nodes: Vec<Node>) -> Self {
        Tree { nodes }
    }

    /// The nodes, root first.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Training rows of the tree.
    #[must_use]
    pub fn samples(&self) -> u32 {
        self.nodes.first().map_or(0, Node::samples)
    }

    /// Depth of each node, the root's being 0. The tree must have been checked.
    #[must_use]
    pub fn depths(&self) -> Vec<u32> {
        let mut depths = vec![0_u32; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            if let Node::Split { left, right, .. } = *node {
                depths[left as usize] = depths[index] + 1;
                depths[right as usize] = depths[index] + 1;
            }
        }
        depths
    }

    /// Leaves as (node index, path length = depth + c(samples)).
    pub fn leaf_path_lengths(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        let depths = self.depths();
        (self.nodes.iter().enumerate()).filter_map(move |(index, node)| match *node {
            Node::Leaf { samples } => {
                let length = f64::from(depths[index]) + average_path_length(samples);
                Some((index, length))
            }
            Node::Split { .. } => None,
        })
    }

    /// Checks every invariant that scoring and explaining rely on, in one pass over the nodes.
    ///
    /// # Errors
    /// A [`TreeError`] naming the first node that is wrong.
    pub fn check(&self, n_features: usize) -> Result<(), TreeError> {
        let nodes = &self.nodes;
        if nodes.is_empty() {
            return Err(TreeError::Empty);
        }
        if nodes.len() > MAX_NODES {
            return Err(TreeError::TooManyNodes(nodes.len()));
        }
        // 0 marks "no parent seen"; otherwise depth + 1.
        let mut depth_plus_one = vec![0_u32; nodes.len()];
        depth_plus_one[0] = 1;
        for (index, node) in nodes.iter().enumerate() {
            let depth = depth_plus_one[index];
            if depth == 0 {
                return Err(TreeError::NotATree(index));
            }
            if depth > MAX_DEPTH + 1 {
                return Err(TreeError::TooDeep(index));
            }
            let Node::Split { left, right, samples, .. } = *node else {
                if node.samples() == 0 {
                    return Err(TreeError::BadCount(index));
                }
                continue;
            };
            check_split(index, node, n_features)?;
            let mut children_samples = 0_u64;
            for child in [left, right] {
                let slot = child as usize;
                if slot <= index || slot >= nodes.len() {
                    return Err(TreeError::BadChild { node: index, child });
                }
                if depth_plus_one[slot] != 0 {
                    return Err(TreeError::NotATree(slot));
                }
                depth_plus_one[slot] = depth + 1;
                children_samples += u64::from(nodes[slot].samples());
            }
            if u64::from(samples) != children_samples {
                return Err(TreeError::BadCount(index));
            }
        }
        Ok(())
    }
}

fn check_split(index: usize, node: &Node, n_features: usize) -> Result<(), TreeError> {
    if let Node::Split { feature, threshold, .. } = *node {
        if feature as usize >= n_features {
            return Err(TreeError::BadFeature { node: index, feature, n_features });
        }
        if !threshold.is_finite() {
            return Err(TreeError::BadThreshold(index));
        }
    }
    Ok(())
}
