//! Distinct counts that are exact while small, bounded when large, and merge in any order.
//!
//! A *bottom-k* sketch (Cohen and Kaplan 2007; as a distinct counter KMV, Bar-Yossef et al. 2002)
//! keeps the k items with the smallest hashes, each with the sum of its weights. An item that was
//! dropped can't return, since the largest kept hash only falls; so the sums of the kept items are
//! complete, and neither the order of arrival nor the order of merging changes anything.

use smallvec::SmallVec;

/// Items that a sketch keeps. Up to here counts are exact; above, the standard error is about
/// `1 / sqrt(k - 2)`, 4.4 %.
pub const SKETCH_LIMIT: usize = 512;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sketch {
    /// (hash, weight), sorted by hash. Mostly there is one, and a row has a dozen sketches.
    items: SmallVec<[(u64, u64); 1]>,
    /// Something was dropped, so that counts are estimates.
    overflowed: bool,
}

impl Sketch {
    /// Adds `weight` to an item; the item counts once, whatever its weight.
    pub fn add(&mut self, hash: u64, weight: u64) {
        match self.items.binary_search_by_key(&hash, |item| item.0) {
            Ok(at) => self.items[at].1 = self.items[at].1.saturating_add(weight),
            Err(at) if at >= SKETCH_LIMIT => self.overflowed = true,
            Err(at) => {
                if self.items.len() == SKETCH_LIMIT {
                    self.items.pop();
                    self.overflowed = true;
                }
                self.items.insert(at, (hash, weight));
            }
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.overflowed |= other.overflowed;
        if self.items.is_empty() {
            self.items.clone_from(&other.items);
            return;
        }
        for &(hash, weight) in &other.items {
            self.add(hash, weight);
        }
    }

    /// Distinct items: exact up to [`SKETCH_LIMIT`], else (k - 1) / (k-th smallest hash / 2^64).
    pub fn count(&self) -> f64 {
        match self.items.last() {
            Some(&(largest, _)) if self.overflowed => {
                let fraction = (largest as f64 + 1.0) / 2f64.powi(64);
                ((self.items.len() - 1) as f64 / fraction).round()
            }
            _ => self.items.len() as f64,
        }
    }

    /// How many distinct items satisfy `wanted`, scaled up from the kept ones after an overflow.
    pub fn count_where(&self, mut wanted: impl FnMut(u64) -> bool) -> f64 {
        let hits = self.items.iter().filter(|item| wanted(item.0)).count() as f64;
        self.scaled(hits)
    }

    /// Sum of the weights of the items that satisfy `wanted`, scaled up after an overflow.
    pub fn weight_where(&self, mut wanted: impl FnMut(u64) -> bool) -> f64 {
        let sum: u64 = self
            .items
            .iter()
            .filter(|item| wanted(item.0))
            .fold(0u64, |sum, item| sum.saturating_add(item.1));
        self.scaled(sum as f64)
    }

    /// The largest weight of a kept item.
    pub fn weight_max(&self) -> u64 {
        self.items.iter().map(|item| item.1).max().unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What was found in the kept items, as it is in all of them.
    fn scaled(&self, found: f64) -> f64 {
        if !self.overflowed {
            return found;
        }
        (found * (self.count() / self.items.len() as f64)).round()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn mixed(value: u64) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&value.to_le_bytes())
    }

    #[test]
    fn counts_are_exact_up_to_the_limit_and_close_above() {
        let mut sketch = Sketch::default();
        for value in 0..SKETCH_LIMIT as u64 {
            sketch.add(mixed(value), 1);
            sketch.add(mixed(value), 1);
        }
        assert_eq!(sketch.count(), SKETCH_LIMIT as f64);
        assert_eq!(sketch.weight_where(|_| true), 2.0 * SKETCH_LIMIT as f64);
        for value in 0..100_000 {
            sketch.add(mixed(value), 1);
        }
        // Five standard errors.
        assert!((sketch.count() / 100_000.0 - 1.0).abs() < 0.22, "{}", sketch.count());
        assert!(sketch.items.len() <= SKETCH_LIMIT);
        let half = sketch.count_where(|hash| hash % 2 == 0) / sketch.count();
        assert!((half - 0.5).abs() < 0.12, "{half}");
    }

    proptest! {
        #[test]
        fn neither_order_nor_partition_matters(
            mut items in prop::collection::vec((0u64..3_000, 0u64..10), 0..2_000),
            cut in 0usize..2_000,
        ) {
            let add = |items: &[(u64, u64)]| {
                let mut sketch = Sketch::default();
                items.iter().for_each(|&(item, weight)| sketch.add(mixed(item), weight));
                sketch
            };
            let whole = add(&items);
            let (left, right) = items.split_at(cut.min(items.len()));
            let (mut ab, mut ba) = (add(left), add(right));
            let right = ba.clone();
            ba.merge(&ab);
            ab.merge(&right);
            prop_assert_eq!(&ab, &whole);
            prop_assert_eq!(&ba, &whole);
            items.reverse();
            prop_assert_eq!(&add(&items), &whole);
        }
    }
}
