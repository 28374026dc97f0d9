//! A short part of `make truth`: recorded, spliced, judged.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use hedgerow_lab::truth::{Naming, Table, quick};

/// Recordings in which a machine with other work may lose records, or tell an attack too late, before the
/// test gives up.
const RECORDINGS: usize = 3;
const KINDS: [&str; 2] = ["fileless-python", "reverse-shell-bash"];

fn are_found(table: &Table) -> bool {
    let asked = |kind: &Option<String>| kind.as_deref().is_some_and(|kind| KINDS.contains(&kind));
    table.rows.iter().filter(|row| asked(&row.kind)).all(|row| row.found > 0)
}

fn whole_table() -> Table {
    let hedgerow = Path::new(env!("CARGO_BIN_EXE_hedgerow"));
    for recording in 1..=RECORDINGS {
        let directory = tempfile::tempdir().unwrap();
        match quick(hedgerow, directory.path(), |line| eprintln!("{line}")) {
            Ok(table) if are_found(&table) => return table,
            Ok(table) => eprintln!("recording {recording}: {}", table.text()),
            Err(why) => eprintln!("recording {recording}: {why:#}"),
        }
    }
    panic!("no whole recording in which all was found, of {RECORDINGS}");
}

#[test]
fn real_attacks_are_recorded_spliced_and_found() {
    // SAFETY: geteuid has no preconditions.
    assert_eq!(unsafe { libc::geteuid() }, 0, "needs root");
    let table = whole_table();
    let said = format!("{}{}", table.text(), table.details());
    for kind in KINDS {
        let rows: Vec<_> =
            table.rows.iter().filter(|row| row.kind.as_deref() == Some(kind)).collect();
        assert_eq!(rows.len(), Naming::ALL.len(), "{said}");
    }
    assert_eq!(table.plain.len(), Naming::ALL.len(), "{said}");
    let markdown = table.markdown();
    assert!(markdown.contains("| fileless-python |"), "{markdown}");
}
