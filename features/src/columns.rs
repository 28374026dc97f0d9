//! All columns, and a window's values of them.

use std::sync::LazyLock;

use crate::{
    accumulate::Accumulator,
    column::{Available, Column, Context, Rule},
    families,
};

/// Every column, in the order of the schema.
pub static COLUMNS: LazyLock<Vec<Column>> = LazyLock::new(families::columns);

/// Indices into [`COLUMNS`] of what the forest sees, in order.
pub static MATRIX_COLUMNS: LazyLock<Vec<usize>> = LazyLock::new(|| {
    COLUMNS.iter().enumerate().filter(|(_, column)| column.matrix).map(|(at, _)| at).collect()
});

/// Index of a column by its name.
pub fn column_index(name: &str) -> Option<usize> {
    COLUMNS.iter().position(|column| column.name == name)
}

/// Those of [`COLUMNS`].
static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| COLUMNS.iter().map(Rule::of).collect());

/// One value a column, in the order of [`COLUMNS`].
pub(crate) fn values(accumulator: &Accumulator, context: &Context<'_>) -> Box<[f64]> {
    let available = Available::of(accumulator, context);
    RULES.iter().map(|rule| rule.value(accumulator, context, available)).collect()
}
