//! What can be wrong with stored windows, records and baselines.

use arrow::error::ArrowError;

/// Why a batch could not be read or written. Each message names the column.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("column `{0}` is missing")]
    MissingColumn(String),
    #[error("column `{column}` has type {found}, which can't be read as {wanted}")]
    ColumnType { column: String, found: String, wanted: String },
    #[error("column `{column}` is empty in row {row}")]
    Null { column: String, row: usize },
    #[error("column `{column}` holds `{value}` in row {row}, which is {problem}")]
    Value { column: String, row: usize, value: String, problem: &'static str },
    #[error("schema version {found} can't be read; this build reads version {wanted}")]
    Version { found: String, wanted: u32 },
    #[error(
        "the batch's columns differ from schema version {version} (hash {found}, not {wanted})"
    )]
    Hash { version: u32, found: String, wanted: String },
    #[error("a batch could not be built")]
    Arrow(#[from] ArrowError),
}

impl Error {
    /// The row that is wrong, for whoever knows of what it is a part.
    pub fn row(&self) -> Option<usize> {
        match self {
            Self::Null { row, .. } | Self::Value { row, .. } => Some(*row),
            _ => None,
        }
    }

    /// The same with the row counted from so many rows before.
    #[must_use]
    pub fn behind(mut self, rows: usize) -> Self {
        if let Self::Null { row, .. } | Self::Value { row, .. } = &mut self {
            *row += rows;
        }
        self
    }
}
