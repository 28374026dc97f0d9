//! What all estimators do with the matrices they are given.

use linfa::Float;
use ndarray::{Array1, ArrayView1, ArrayView2};

/// The f32 nearest to `value`, as scikit-learn casts its rows.
#[inline]
pub(crate) fn to_f32<F: Float>(value: F) -> f32 {
    // `to_f32` of f32 and f64 always succeeds; NaN is the missing value.
    value.to_f32().unwrap_or(f32::NAN)
}

/// (rows, columns) of training records, or the error of the estimator that got none of either.
pub(crate) fn training_shape<F, E>(
    records: &ArrayView2<'_, F>,
    no_rows: E,
    no_columns: E,
) -> Result<(usize, usize), E> {
    match records.dim() {
        (0, _) => Err(no_rows),
        (_, 0) => Err(no_columns),
        shape => Ok(shape),
    }
}

/// Has `score` fill linfa's target with the scores of the rows of `records`.
///
/// # Panics
/// If there is not one target for each row.
pub(crate) fn predict_into<'a, F: Float>(
    records: ArrayView2<'a, F>,
    y: &mut Array1<F>,
    score: impl FnOnce(ArrayView2<'a, F>, &mut [F]),
) {
    assert_eq!(
        records.nrows(),
        y.len(),
        "The number of data points must match the number of output targets."
    );
    if let Some(targets) = y.as_slice_mut() {
        score(records, targets);
    } else {
        let mut scores = vec![F::zero(); y.len()];
        score(records, &mut scores);
        y.assign(&ArrayView1::from(&scores));
    }
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
