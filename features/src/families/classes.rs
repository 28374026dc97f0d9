//! What kinds of calls: every class as a count.

use hedgerow_event::{CLASSES, Family};

use crate::column::{Column, Formula, Kind, Source};

pub(super) fn columns() -> Vec<Column> {
    (0..CLASSES)
        .map(|class| Column {
            name: format!("classes_{class:02}_count").into(),
            family: Family::Classes,
            kind: Kind::Count,
            source: Source::Rows,
            matrix: false,
            doc: format!("calls of class {class}").into(),
            formula: Formula::Class(class),
        })
        .collect()
}
