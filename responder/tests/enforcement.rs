//! docs/enforcement.md is what the table of hooks says.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use hedgerow_responder::hooks::markdown;

#[test]
fn the_documentation_is_that_of_the_hooks() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/enforcement.md");
    if std::env::var_os("HEDGEROW_UPDATE_DOCS").is_some() {
        std::fs::write(&path, markdown()).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == markdown(),
        "docs/enforcement.md is out of date: HEDGEROW_UPDATE_DOCS=1 cargo test -p \
         hedgerow-responder --test enforcement"
    );
}
