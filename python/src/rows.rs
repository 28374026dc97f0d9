//! A matrix that Python holds, read where it lies.

use ndarray::{ArrayView2, ShapeBuilder};
use pyo3::{
    buffer::{Element, PyBuffer},
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
};

/// A buffer of two dimensions.
pub enum Rows {
    F32(PyBuffer<f32>),
    F64(PyBuffer<f64>),
}

impl Rows {
    /// # Errors
    /// It is no buffer of aligned f32 or f64 in two dimensions whose strides go forward.
    pub fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let rows = match PyBuffer::get(object) {
            Ok(buffer) => Self::F32(buffer),
            Err(_) => Self::F64(PyBuffer::get(object).map_err(|why| {
                PyTypeError::new_err(format!("rows are a buffer of float32 or float64: {why}"))
            })?),
        };
        match &rows {
            Self::F32(buffer) => check(buffer)?,
            Self::F64(buffer) => check(buffer)?,
        }
        Ok(rows)
    }
}

fn check<T: Element>(buffer: &PyBuffer<T>) -> PyResult<()> {
    let forward =
        |stride: &isize| *stride >= 0 && stride.unsigned_abs().is_multiple_of(size_of::<T>());
    if buffer.dimensions() != 2 || !buffer.strides().iter().all(forward) {
        return Err(PyValueError::new_err("rows have two dimensions, whose strides go forward"));
    }
    Ok(())
}

/// The buffer as a view; `check` has passed on it.
pub fn view<T: Element>(buffer: &PyBuffer<T>) -> ArrayView2<'_, T> {
    let [rows, columns] = [buffer.shape()[0], buffer.shape()[1]];
    let [down, right] = [0, 1].map(|at| buffer.strides()[at].unsigned_abs() / size_of::<T>());
    // SAFETY: `PyBuffer` holds the exporter's memory, of this element type and aligned for it, for as
    // long as the view borrows it; shape and strides are the exporter's own. Any bits are a float.
    // Who writes to an array while another thread fits or scores it gets what he asked for, as in
    // NumPy.
    unsafe {
        ArrayView2::from_shape_ptr(
            (rows, columns).strides((down, right)),
            buffer.buf_ptr().cast::<T>().cast_const(),
        )
    }
}

/// Fills a float64 array of Python's.
///
/// # Errors
/// It has another type, another number of elements, can't be written, or isn't contiguous.
pub fn fill(out: &Bound<'_, PyAny>, values: &[f64]) -> PyResult<()> {
    PyBuffer::<f64>::get(out)?.copy_from_slice(out.py(), values)
}
