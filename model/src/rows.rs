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

/// Copies rows from `start` on into `block`, row-major, those with missing values behind the
/// others, and returns how many miss none. `slots` gets each row's place in the block, and its
/// length says how many rows.
pub(crate) fn copy_rows<F: Float>(
    records: &ArrayView2<'_, F>,
    start: usize,
    block: &mut [f32],
    slots: &mut [usize],
) -> usize {
    let width = records.ncols();
    let (mut n_complete, mut rest) = (0, slots.len());
    for (offset, slot) in slots.iter_mut().enumerate() {
        let at = n_complete * width..(n_complete + 1) * width;
        if copy_row(&records.row(start + offset), &mut block[at.clone()]) {
            rest -= 1;
            block.copy_within(at, rest * width);
            *slot = rest;
        } else {
            *slot = n_complete;
            n_complete += 1;
        }
    }
    n_complete
}

/// Copies a row and returns whether a value of it is missing.
fn copy_row<F: Float>(row: &ArrayView1<'_, F>, into: &mut [f32]) -> bool {
    let mut any_missing = false;
    let mut copy = |slot: &mut f32, value: F| {
        *slot = to_f32(value);
        any_missing |= slot.is_nan();
    };
    // A slice is copied in vectors.
    match row.as_slice() {
        Some(row) => into.iter_mut().zip(row).for_each(|(slot, &value)| copy(slot, value)),
        None => into.iter_mut().zip(row).for_each(|(slot, &value)| copy(slot, value)),
    }
    any_missing
}
