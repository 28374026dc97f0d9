//! Records of any float type as f32 rows.

use linfa::Float;
use ndarray::ArrayView2;

/// The f32 nearest to `value`, as scikit-learn casts its rows.
#[inline]
pub(crate) fn to_f32<F: Float>(value: F) -> f32 {
    // `to_f32` of f32 and f64 always succeeds; NaN is the missing value.
    value.to_f32().unwrap_or(f32::NAN)
}

/// Copies `records[start..start + n]` into `block`, row-major, and returns whether a value of them
/// is missing.
pub(crate) fn copy_rows<F: Float>(
    records: &ArrayView2<'_, F>,
    start: usize,
    n: usize,
    block: &mut [f32],
) -> bool {
    let width = records.ncols();
    let mut any_missing = false;
    for (offset, into) in block.chunks_exact_mut(width).take(n).enumerate() {
        let row = records.row(start + offset);
        if let Some(row) = row.as_slice() {
            for (slot, &value) in into.iter_mut().zip(row) {
                *slot = to_f32(value);
                any_missing |= slot.is_nan();
            }
        } else {
            for (slot, &value) in into.iter_mut().zip(row) {
                *slot = to_f32(value);
                any_missing |= slot.is_nan();
            }
        }
    }
    any_missing
}
