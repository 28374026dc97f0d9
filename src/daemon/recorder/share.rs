//! Where there is no room: who gives how much.

use std::collections::HashMap;

use super::trees::Tree;

/// Who gives how much, so that one part of all is free.
pub struct Share {
    of_tree: HashMap<Tree, usize>,
    /// What all give, in turn, where no tree has much.
    of_all: usize,
}

impl Share {
    /// A tree that has no more than `quiet` is not noisy.
    pub fn new(mut of_tree: HashMap<Tree, usize>, part: usize, quiet: usize) -> Self {
        let all = of_tree.values().sum::<usize>();
        let most = most_each(of_tree.values().copied().collect(), all - all / part).max(quiet);
        of_tree.values_mut().for_each(|has| *has = has.saturating_sub(most));
        let of_all = (all / part).saturating_sub(of_tree.values().sum());
        Self { of_tree, of_all }
    }

    /// Nobody has anything left to give.
    pub fn is_given(&self) -> bool {
        self.of_all == 0 && self.of_tree.values().all(|left| *left == 0)
    }

    pub fn gives(&mut self, tree: Tree, much: usize) -> bool {
        let of_tree = self.of_tree.get_mut(&tree).filter(|left| **left > 0);
        let left = of_tree.or_else(|| Some(&mut self.of_all).filter(|left| **left > 0));
        left.is_some_and(|left| {
            *left = left.saturating_sub(much);
            true
        })
    }
}

/// How much each may have at most, so that all together have no more than `goal`.
fn most_each(mut all: Vec<usize>, goal: usize) -> usize {
    all.sort_unstable();
    let mut left = goal;
    for (at, has) in all.iter().enumerate() {
        let each = left / (all.len() - at);
        if *has > each {
            return each;
        }
        left -= has;
    }
    usize::MAX
}
