//! Windows as the matrix that a forest reads.

use hedgerow_event::Family;
use ndarray::Array2;

use crate::{
    columns::{COLUMNS, MATRIX_COLUMNS},
    window::Window,
};

/// Windows by columns of the matrix, in the order of the schema; NaN is unavailable.
pub fn matrix(windows: &[Window]) -> Array2<f32> {
    let columns = &*MATRIX_COLUMNS;
    Array2::from_shape_fn((windows.len(), columns.len()), |(row, column)| {
        windows[row].values[columns[column]] as f32
    })
}

/// Names of the matrix's columns.
pub fn matrix_names() -> Vec<&'static str> {
    MATRIX_COLUMNS.iter().map(|at| &*COLUMNS[*at].name).collect()
}

/// Families of the matrix's columns.
pub fn matrix_families() -> Vec<Family> {
    MATRIX_COLUMNS.iter().map(|at| COLUMNS[*at].family).collect()
}
