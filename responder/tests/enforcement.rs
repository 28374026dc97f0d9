//! docs/enforcement.md is what the table of hooks says.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use hedgerow_responder::hooks::markdown;

#[test]
fn the_documentation_is_that_of_the_hooks() {
    if std::env::var_os("HEDGEROW_UPDATE_DOCS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/enforcement.md");
        return std::fs::write(&path, markdown()).unwrap();
    }
    // As it was built: the guests have the binary alone.
    assert!(
        include_str!("../../docs/enforcement.md") == markdown(),
        "docs/enforcement.md is out of date: HEDGEROW_UPDATE_DOCS=1 cargo test -p \
         hedgerow-responder --test enforcement"
    );
}
