//! The columns, one family a file. Order here is order in the schema.

mod classes;
mod errors;
mod files;
mod flows;
mod host;
mod novelty;
mod order;
mod processes;
mod shape;
mod volume;

use crate::column::Column;

pub(crate) fn columns() -> Vec<Column> {
    let mut columns = Vec::new();
    columns.extend_from_slice(volume::COLUMNS);
    columns.extend_from_slice(errors::COLUMNS);
    columns.extend(classes::columns());
    columns.extend_from_slice(shape::COLUMNS);
    columns.extend_from_slice(order::COLUMNS);
    columns.extend_from_slice(processes::COLUMNS);
    columns.extend_from_slice(files::COLUMNS);
    columns.extend_from_slice(flows::COLUMNS);
    columns.extend_from_slice(novelty::COLUMNS);
    columns.extend_from_slice(host::COLUMNS);
    columns
}
