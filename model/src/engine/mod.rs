//! Scoring engines: a forest compiled for the processor.
//!
//! Every engine sums the leaves' path lengths in fixed point ([`FixedLength`]), so all of them give
//! the same bits for the same row.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod compact;
mod missing;
mod ranked;

use std::sync::OnceLock;

use compact::CompactForest;
pub(crate) use missing::MissingForest;
use ranked::RankedForest;

use crate::tree::{Tree, TreeError};

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

/// Rows that are scored together.
pub(crate) const BLOCK_ROWS: usize = 128;

/// Fewest rows for which evaluating whole trees beats walking each row.
#[cfg(target_arch = "x86_64")]
const LEAST_RANKED_ROWS: usize = 16;

/// Which instructions score. The scores are the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Instructions {
    /// The fastest that the processor has.
    #[default]
    Detected,
    /// Plain Rust without intrinsics.
    Portable,
}

/// A forest's engines. The block engine and the one for missing values are compiled when they are
/// first needed, so that fitting and scoring single rows don't pay for them.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    compact: CompactForest,
    ranked: OnceLock<Option<RankedForest>>,
    missing: OnceLock<Box<MissingForest>>,
    instructions: Instructions,
}

/// Working memory of one scoring thread.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    #[cfg(target_arch = "x86_64")]
    avx512: Option<avx512::Scratch>,
    missing: missing::Scratch,
}

impl Engine {
    pub(crate) fn new(trees: &[Tree], n_features: usize) -> Result<Self, (usize, TreeError)> {
        Ok(Engine {
            compact: CompactForest::new(trees, n_features)?,
            ranked: OnceLock::new(),
            missing: OnceLock::new(),
            instructions: Instructions::default(),
        })
    }

    pub(crate) fn set_instructions(&mut self, instructions: Instructions) {
        self.instructions = instructions;
    }

    pub(crate) fn instructions(&self) -> Instructions {
        self.instructions
    }

    /// Adds the path lengths of at most [`BLOCK_ROWS`] rows without missing values to `sums`.
    pub(crate) fn add_complete(
        &self,
        trees: &[Tree],
        rows: &[f32],
        sums: &mut [FixedLength],
        scratch: &mut Scratch,
    ) {
        #[cfg(target_arch = "x86_64")]
        if self.instructions == Instructions::Detected
            && sums.len() >= LEAST_RANKED_ROWS
            && avx512::is_supported()
        {
            const { assert!(BLOCK_ROWS == avx512::BLOCK) };
            let n_features = self.compact.n_features();
            let ranked = self.ranked.get_or_init(|| RankedForest::new(trees, n_features));
            if let Some(ranked) = ranked {
                let scratch = scratch.avx512.get_or_insert_with(|| avx512::Scratch::new(ranked));
                avx512::add_block(ranked, rows, sums, scratch);
                return;
            }
        }
        self.compact.add_path_lengths(rows, sums);
    }

    /// Adds the path lengths of rows, with missing values or not, to `sums`.
    pub(crate) fn add_missing(
        &self,
        trees: &[Tree],
        rows: &[f32],
        sums: &mut [FixedLength],
        scratch: &mut Scratch,
    ) {
        let forest = self.missing.get_or_init(|| Box::new(MissingForest::new(trees)));
        let (instructions, scratch) = (self.instructions, &mut scratch.missing);
        forest.add_path_lengths(trees, rows, sums, instructions, scratch);
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        let ranked = self.ranked.get().and_then(Option::as_ref);
        self.compact.heap_bytes()
            + ranked.map_or(0, RankedForest::heap_bytes)
            + self.missing.get().map_or(0, |forest| forest.heap_bytes())
    }
}
