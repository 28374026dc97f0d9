//! A short part of `make truth`: recorded, spliced, judged.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use hedgerow_lab::truth::{Naming, quick};

#[test]
fn real_attacks_are_recorded_spliced_and_found() {
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: needs root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let hedgerow = Path::new(env!("CARGO_BIN_EXE_hedgerow"));
    let table = quick(hedgerow, directory.path(), |line| eprintln!("{line}")).unwrap();
    let said = format!("{}{}", table.text(), table.details());
    for kind in ["fileless-python", "reverse-shell-bash"] {
        let rows: Vec<_> =
            table.rows.iter().filter(|row| row.kind.as_deref() == Some(kind)).collect();
        assert_eq!(rows.len(), Naming::ALL.len(), "{said}");
        assert!(rows.iter().all(|row| row.found > 0), "{kind}: {said}");
    }
    assert_eq!(table.plain.len(), Naming::ALL.len(), "{said}");
    let markdown = table.markdown();
    assert!(markdown.contains("| fileless-python |"), "{markdown}");
}
