//! The columns' documentation as text, from the columns themselves.

use std::fmt::Write;

use crate::{
    batch::{SCHEMA_VERSION, key_docs},
    column::{Kind, Source},
    columns::{COLUMNS, MATRIX_COLUMNS},
};

/// Markdown that describes every column of the windows' schema, in order.
pub fn columns_markdown() -> String {
    let mut text = format!(
        "# Columns of a window\n\n\
         Schema version {SCHEMA_VERSION}: one row for each subject and window; {} feature columns, \
         {} of which the forest sees. This file is generated from the columns' definitions and \
         checked by `cargo test -p hedgerow-features`; \
         `HEDGEROW_UPDATE_DOCS=1 cargo test -p hedgerow-features` writes it.\n\n\
         An empty cell means *unavailable*, which is not zero: the sensor doesn't deliver on this \
         host, or the formula has nothing to divide by. Counts are exact up to 2^53.\n\n\
         ## Keys\n\n| column | type | meaning |\n|---|---|---|\n",
        COLUMNS.len(),
        MATRIX_COLUMNS.len(),
    );
    for (name, data_type, doc) in key_docs() {
        // Writing to a String does not fail.
        let _ = writeln!(text, "| `{name}` | {data_type} | {doc} |");
    }
    let mut family = None;
    for column in COLUMNS.iter() {
        if family != Some(column.family) {
            family = Some(column.family);
            let name = column.family.to_string();
            let _ = write!(
                text,
                "\n## {}{}\n\n| column | type | needs | forest | formula |\n|---|---|---|---|---|\n",
                name[..1].to_uppercase(),
                &name[1..],
            );
        }
        let kind = match column.kind {
            Kind::Count => "UInt64",
            Kind::Measure => "Float64",
        };
        let source = match column.source {
            Source::Rows => "rows",
            Source::Processes => "processes",
            Source::Calls => "calls",
            Source::Flows => "flows",
            Source::Host => "host",
        };
        let forest = if column.matrix { "yes" } else { "" };
        let (name, doc) = (&column.name, &column.doc);
        let _ = writeln!(text, "| `{name}` | {kind} | {source} | {forest} | {doc} |");
    }
    text
}
