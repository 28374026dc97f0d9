//! Growing one isolation tree from a random sample of rows.

use linfa::Float;
use ndarray::ArrayView2;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::rows::to_f32;
use crate::tree::{Node, Tree};

/// Smallest depth at which a balanced tree separates `samples` rows: ceil(log2 samples).
pub(crate) fn depth_limit(samples: usize) -> u32 {
    samples.max(1).next_power_of_two().trailing_zeros()
}

/// A node that is still to be split: its rows `start..end`, and how many of the tree's columns, in
/// front of `features`, are known to be constant in it.
struct Pending {
    slot: u32,
    start: usize,
    end: usize,
    depth: u32,
    n_constant: usize,
}

/// Working memory of a grower, reused from tree to tree.
pub(super) struct Grower<'a, F> {
    records: ArrayView2<'a, F>,
    features: Vec<u32>,
    rows: Vec<u32>,
    values: Vec<f32>,
    nodes: Vec<Node>,
    stack: Vec<Pending>,
}

/// A column with at least two distinct values in a node, and their range.
struct Choice {
    feature: u32,
    low: f32,
    high: f32,
}

impl<'a, F: Float> Grower<'a, F> {
    pub(super) fn new(records: ArrayView2<'a, F>) -> Self {
        let features = (0..records.ncols() as u32).collect();
        Grower {
            records,
            features,
            rows: Vec::new(),
            values: Vec::new(),
            nodes: Vec::new(),
            stack: Vec::new(),
        }
    }

    /// Grows a tree on `sample_size` rows drawn without replacement. Everything random comes from
    /// `seed`, so a tree is the same whichever thread grows it.
    pub(super) fn grow(&mut self, sample_size: usize, seed: u64) -> Tree {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        self.draw_rows(sample_size, &mut rng);
        for (feature, slot) in self.features.iter_mut().enumerate() {
            *slot = feature as u32;
        }
        self.nodes.clear();
        self.nodes.push(Node::Leaf { samples: 0 });
        self.stack.clear();
        self.stack.push(Pending { slot: 0, start: 0, end: sample_size, depth: 0, n_constant: 0 });
        let limit = depth_limit(sample_size);
        while let Some(mut node) = self.stack.pop() {
            let samples = (node.end - node.start) as u32;
            let choice = if node.depth < limit && samples > 1 {
                self.choose(&mut node, &mut rng)
            } else {
                None
            };
            let Some(choice) = choice else {
                self.nodes[node.slot as usize] = Node::Leaf { samples };
                continue;
            };
            let threshold = draw_threshold(choice.low, choice.high, &mut rng);
            let middle = self.partition(&node, threshold, &mut rng);
            let left = self.nodes.len() as u32;
            self.nodes[node.slot as usize] =
                Node::Split { feature: choice.feature, threshold, left, right: left + 1, samples };
            self.nodes.extend([Node::Leaf { samples: 0 }; 2]);
            for (slot, start, end) in [(left + 1, middle, node.end), (left, node.start, middle)] {
                self.stack.push(Pending {
                    slot,
                    start,
                    end,
                    depth: node.depth + 1,
                    n_constant: node.n_constant,
                });
            }
        }
        // A copy takes only the memory that the nodes need.
        Tree::from_grown(self.nodes.clone())
    }

    /// Draws distinct rows, each set of them with equal probability.
    fn draw_rows(&mut self, sample_size: usize, rng: &mut Xoshiro256PlusPlus) {
        self.rows.clear();
        self.values.resize(sample_size, 0.0);
        let n_rows = self.records.nrows();
        if n_rows / 4 < sample_size {
            let drawn = rand::seq::index::sample(rng, n_rows, sample_size);
            self.rows.extend(drawn.iter().map(|row| row as u32));
            return;
        }
        // Few of many: replacing what was drawn twice is cheaper than a set, and memory is read in
        // order.
        while self.rows.len() < sample_size {
            let missing = sample_size - self.rows.len();
            self.rows.extend((0..missing).map(|_| rng.gen_range(0..n_rows as u32)));
            self.rows.sort_unstable();
            self.rows.dedup();
        }
    }

    /// Draws columns without replacement until one has two distinct values in the node, and leaves
    /// the node's values of it in `self.values`. Constant columns move to the front of
    /// `self.features`, where the node's descendants skip them; what a subtree permutes behind
    /// that front is no concern of its sibling, so nothing needs restoring.
    fn choose(&mut self, node: &mut Pending, rng: &mut Xoshiro256PlusPlus) -> Option<Choice> {
        while node.n_constant < self.features.len() {
            let drawn = rng.gen_range(node.n_constant..self.features.len());
            let feature = self.features[drawn];
            let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
            let values = &mut self.values[node.start..node.end];
            for (slot, &row) in values.iter_mut().zip(&self.rows[node.start..node.end]) {
                let value = to_f32(self.records[(row as usize, feature as usize)]);
                let value = if value.is_infinite() { f32::MAX.copysign(value) } else { value };
                *slot = value;
                // Comparisons with a missing value are false and leave the range alone.
                low = if value < low { value } else { low };
                high = if value > high { value } else { high };
            }
            if low < high {
                return Some(Choice { feature, low, high });
            }
            self.features.swap(drawn, node.n_constant);
            node.n_constant += 1;
        }
        None
    }

    /// Moves the rows at or below `threshold` to the front and returns where the others begin.
    fn partition(&mut self, node: &Pending, threshold: f32, rng: &mut impl Rng) -> usize {
        let (mut n_left, mut n_missing) = (0_usize, 0_usize);
        for value in &self.values[node.start..node.end] {
            n_left += usize::from(*value <= threshold);
            n_missing += usize::from(value.is_nan());
        }
        let n_present = node.end - node.start - n_missing;
        let mut middle = node.start;
        for position in node.start..node.end {
            let value = self.values[position];
            let goes_left = if n_missing > 0 && value.is_nan() {
                rng.gen_range(0..n_present) < n_left
            } else {
                value <= threshold
            };
            if goes_left {
                self.rows.swap(position, middle);
                self.values.swap(position, middle);
                middle += 1;
            }
        }
        middle
    }
}

/// Draws a threshold evenly from [low, high) and rounds it down to f32, so that `low` goes left and
/// `high` goes right.
fn draw_threshold(low: f32, high: f32, rng: &mut impl Rng) -> f32 {
    let (low_wide, high_wide) = (f64::from(low), f64::from(high));
    let exact = low_wide + rng.r#gen::<f64>() * (high_wide - low_wide);
    let mut threshold = exact as f32;
    if f64::from(threshold) > exact {
        threshold = threshold.next_down();
    }
    threshold.clamp(low, high.next_down())
}
