//! Scoring engines: a forest compiled for the processor.
//!
//! Every engine sums the leaves' path lengths in fixed point ([`FixedLength`]), so all of them give
//! the same bits for the same row.

mod compact;

pub(crate) use compact::CompactForest;

/// Path length in units of 2^-24. Leaves fit u32 (depth <= 64 and c(n) <= 44.2), sums fit u64.
pub(crate) type FixedLength = u64;

const FIXED_ONE: f64 = (1_u64 << 24) as f64;

/// Rounds a path length to fixed point.
pub(crate) fn to_fixed(length: f64) -> FixedLength {
    (length * FIXED_ONE).round() as FixedLength
}

/// A sum of fixed-point path lengths as their mean over `n_trees`.
pub(crate) fn mean_length(sum: FixedLength, n_trees: usize) -> f64 {
    sum as f64 / (FIXED_ONE * n_trees as f64)
}
