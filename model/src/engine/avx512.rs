//! [`RankedForest`] on AVX-512: 128 rows a block, masks in two machine words.

use std::arch::x86_64::*;

use super::FixedLength;
use super::ranked::{ColumnThresholds, Group, MAX_TREE_NODES, RankedForest};

/// Rows of a vector of bytes.
const LANES: usize = 64;

/// Vectors of rows that go through a tree together: enough independent work to hide latencies.
const VECTORS: usize = 2;

/// Rows of a block.
pub(crate) const BLOCK: usize = LANES * VECTORS;

/// Whether this processor runs the engine.
pub(crate) fn is_supported() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vbmi")
}

/// Working memory of one thread.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// The block's values, column by column.
    values: Vec<[f32; BLOCK]>,
    /// The block's ranks, by column of the group.
    ranks: Vec<[u8; BLOCK]>,
    masks: Box<[[u64; VECTORS]; MAX_TREE_NODES]>,
}

impl Scratch {
    pub(crate) fn new(forest: &RankedForest) -> Self {
        Scratch {
            values: vec![[0.0; BLOCK]; forest.n_features],
            ranks: vec![[0; BLOCK]; forest.n_features],
            masks: Box::new([[0; VECTORS]; MAX_TREE_NODES]),
        }
    }
}

/// Adds path lengths over all trees of up to [`BLOCK`] rows without missing values (row-major) to
/// `sums`.
///
/// # Panics
/// If [`is_supported`] is false, or sizes disagree.
pub(crate) fn add_block(
    forest: &RankedForest,
    rows: &[f32],
    sums: &mut [FixedLength],
    scratch: &mut Scratch,
) {
    assert!(is_supported(), "no AVX-512");
    assert!(sums.len() <= BLOCK, "more rows than a block");
    assert_eq!(rows.len(), sums.len() * forest.n_features, "rows and sums disagree");
    assert_eq!(scratch.values.len(), forest.n_features, "scratch of another forest");
    assert!(forest.n_slots <= MAX_TREE_NODES, "tree too large");
    for (row, values) in rows.chunks_exact(forest.n_features).enumerate() {
        for (column, &value) in scratch.values.iter_mut().zip(values) {
            column[row] = value;
        }
    }
    for group in &forest.groups {
        // SAFETY: the processor has the features, as asserted above.
        unsafe {
            for (slot, column) in group.columns.iter().enumerate() {
                let values = &scratch.values[column.feature as usize];
                rank_column(column, values, &mut scratch.ranks[slot]);
            }
            add_group(group, scratch, sums);
        }
    }
}

/// Ranks a block's values of a column among its thresholds.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn rank_column(column: &ColumnThresholds, values: &[f32; BLOCK], ranks: &mut [u8; BLOCK]) {
    match column.levels {
        0..=4 => rank_levels::<4>(column, values, ranks),
        5 => rank_levels::<5>(column, values, ranks),
        6 => rank_levels::<6>(column, values, ranks),
        7 => rank_levels::<7>(column, values, ranks),
        _ => rank_levels::<8>(column, values, ranks),
    }
}

/// Descends the search tree sixteen values at a time. The whole tree lies in registers: level l is
/// looked up by the low l bits of the heap position, which is what permutes index by.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn rank_levels<const LEVELS: u32>(
    column: &ColumnThresholds,
    values: &[f32; BLOCK],
    ranks: &mut [u8; BLOCK],
) {
    let load = |position: usize| {
        let part: &[f32; 16] = column.heap[position..position + 16].try_into().expect("16 floats");
        // SAFETY: the reference spans the 64 bytes that are read.
        unsafe { _mm512_loadu_ps(part.as_ptr()) }
    };
    let heap: [__m512; 16] = std::array::from_fn(|part| load(16 * part));
    // A column of fewer levels than LEVELS is searched in the top of the same heap.
    let levels = LEVELS.min(column.levels);
    let one = _mm512_set1_epi32(1);
    for (values, ranks) in values.chunks_exact(16).zip(ranks.chunks_exact_mut(16)) {
        // SAFETY: the chunk has 16 floats.
        let x = unsafe { _mm512_loadu_ps(values.as_ptr()) };
        let mut at = one;
        let step = |at: __m512i, threshold: __m512| {
            let right = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(threshold, x);
            let doubled = _mm512_add_epi32(at, at);
            _mm512_mask_or_epi32(doubled, right, doubled, one)
        };
        for _ in 0..levels.min(4) {
            at = step(at, _mm512_permutexvar_ps(at, heap[0]));
        }
        if LEVELS > 4 {
            at = step(at, _mm512_permutexvar_ps(at, heap[1]));
        }
        if LEVELS > 5 {
            at = step(at, _mm512_permutex2var_ps(heap[2], at, heap[3]));
        }
        if LEVELS > 6 {
            let low = _mm512_permutex2var_ps(heap[4], at, heap[5]);
            let high = _mm512_permutex2var_ps(heap[6], at, heap[7]);
            let upper = _mm512_test_epi32_mask(at, _mm512_set1_epi32(32));
            at = step(at, _mm512_mask_blend_ps(upper, low, high));
        }
        if LEVELS > 7 {
            let pair = |part: usize| _mm512_permutex2var_ps(heap[part], at, heap[part + 1]);
            let upper = _mm512_test_epi32_mask(at, _mm512_set1_epi32(32));
            let low = _mm512_mask_blend_ps(upper, pair(8), pair(10));
            let high = _mm512_mask_blend_ps(upper, pair(12), pair(14));
            let upper = _mm512_test_epi32_mask(at, _mm512_set1_epi32(64));
            at = step(at, _mm512_mask_blend_ps(upper, low, high));
        }
        let rank = _mm512_sub_epi32(at, _mm512_set1_epi32(1 << levels));
        // SAFETY: the chunk has 16 bytes.
        unsafe { _mm_storeu_si128(ranks.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(rank)) };
    }
}

/// Sums of the bytes of path lengths, by plane: even and odd rows in 16-bit lanes.
type ByteSums = [[__m512i; 2]; 4];

/// Runs a group's trees over the ranked block.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn add_group(group: &Group, scratch: &mut Scratch, sums: &mut [FixedLength]) {
    let mut byte_sums: [ByteSums; VECTORS] = [[[_mm512_setzero_si512(); 2]; 4]; VECTORS];
    let tables: [[__m512i; 2]; 4] = std::array::from_fn(|plane| {
        let bytes = &group.length_bytes[plane];
        // SAFETY: the table has 128 bytes.
        unsafe {
            [
                _mm512_loadu_si512(bytes.as_ptr().cast()),
                _mm512_loadu_si512(bytes.as_ptr().add(LANES).cast()),
            ]
        }
    });
    let (mut splits, mut leaves) = (&group.splits[..], &group.leaves[..]);
    let masks = &mut scratch.masks[..];
    for tree in &group.trees {
        let (tree_splits, rest) = splits.split_at(tree.n_splits as usize);
        splits = rest;
        let (tree_leaves, rest) = leaves.split_at(tree.n_leaves as usize);
        leaves = rest;
        masks[0] = [u64::MAX; VECTORS];
        for split in tree_splits {
            let child = usize::from(split.child);
            debug_assert!(child + 1 < masks.len());
            // SAFETY: slots are below the forest's `n_slots`, at most `masks.len()`, and columns
            // below the group's number of columns, at most `ranks.len()` (type invariants).
            unsafe {
                let reached = *masks.get_unchecked(usize::from(split.slot));
                let ranks = scratch.ranks.get_unchecked(usize::from(split.column));
                let rank = _mm512_set1_epi8(split.rank as i8);
                for (vector, &reached) in reached.iter().enumerate() {
                    let values = _mm512_loadu_si512(ranks.as_ptr().add(LANES * vector).cast());
                    let right = _mm512_mask_cmpgt_epu8_mask(reached, values, rank);
                    masks.get_unchecked_mut(child)[vector] = reached ^ right;
                    masks.get_unchecked_mut(child + 1)[vector] = right;
                }
            }
        }
        let mut classes = [_mm512_setzero_si512(); VECTORS];
        for leaf in tree_leaves {
            // SAFETY: as above.
            let reached = unsafe { masks.get_unchecked(usize::from(leaf.slot)) };
            let class = _mm512_set1_epi8(leaf.class as i8);
            for (classes, &reached) in classes.iter_mut().zip(reached) {
                *classes = _mm512_mask_mov_epi8(*classes, reached, class);
            }
        }
        for (byte_sums, classes) in byte_sums.iter_mut().zip(classes) {
            add_lengths(&tables, classes, byte_sums);
        }
    }
    for (vector, byte_sums) in byte_sums.iter().enumerate() {
        let start = (LANES * vector).min(sums.len());
        let end = (LANES * (vector + 1)).min(sums.len());
        flush(byte_sums, &mut sums[start..end]);
    }
}

/// Looks up the classes' lengths and adds them, byte by byte.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn add_lengths(tables: &[[__m512i; 2]; 4], classes: __m512i, sums: &mut ByteSums) {
    for (table, sums) in tables.iter().zip(sums) {
        let bytes = _mm512_permutex2var_epi8(table[0], classes, table[1]);
        let even = _mm512_and_si512(bytes, _mm512_set1_epi16(0xff));
        sums[0] = _mm512_add_epi16(sums[0], even);
        sums[1] = _mm512_add_epi16(sums[1], _mm512_srli_epi16::<8>(bytes));
    }
}

/// Adds a vector's byte sums to the rows' totals.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn flush(byte_sums: &ByteSums, sums: &mut [FixedLength]) {
    for (plane, pair) in byte_sums.iter().enumerate() {
        for (parity, &lanes) in pair.iter().enumerate() {
            let mut words = [0_u16; LANES / 2];
            // SAFETY: the array has 64 bytes.
            unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), lanes) };
            for (sum, word) in sums.iter_mut().skip(parity).step_by(2).zip(words) {
                *sum += FixedLength::from(word) << (8 * plane);
            }
        }
    }
}
