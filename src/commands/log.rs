//! The logs of findings and decisions, for whoever may read them.

use std::{io::ErrorKind, path::Path};

use hedgerow_event::Finding;
use hedgerow_responder::ledger::{Ledger, Line};

use crate::{
    control,
    exit::Failure,
    findings::{self, FINDINGS},
    host::LEDGER,
    text,
};

/// Who may not read the state directory may ask the daemon.
fn is_refused(state: &Path) -> bool {
    std::fs::read_dir(state).is_err_and(|why| why.kind() == ErrorKind::PermissionDenied)
}

/// All findings, oldest first.
pub fn findings(state: &Path) -> anyhow::Result<Vec<Finding>> {
    if !is_refused(state) {
        return findings::read(state);
    }
    let lines = control::log(state, FINDINGS)?;
    Ok(lines.split(|byte| *byte == b'\n').flat_map(serde_json::from_slice).collect())
}

/// The ledger of a daemon that runs or ran, oldest first.
pub fn decisions(state: &Path) -> anyhow::Result<Vec<Line>> {
    let (lines, torn) = if is_refused(state) {
        Ledger::lines(&*control::log(state, LEDGER)?)?
    } else {
        Ledger::read(&state.join(LEDGER)).map_err(Failure::file)?
    };
    if torn > 0 {
        text::note(&format!("hedgerow: {torn} lines of the ledger can't be read"));
    }
    Ok(lines)
}
