//! The logs of findings and decisions, for whoever may read them.

use std::{io::ErrorKind, path::Path};

use hedgerow_event::Finding;
use hedgerow_responder::ledger::{Ledger, Line};

use crate::{
    control::{self, GetStatus, call, socket},
    exit::Failure,
    findings::{self, FINDINGS},
    host::LEDGER,
    text,
};

/// Who may not read the state directory may ask the daemon.
fn is_refused(state: &Path) -> bool {
    std::fs::read_dir(state).is_err_and(|why| why.kind() == ErrorKind::PermissionDenied)
}

/// Where there is no state directory, no daemon ran that could have found anything.
///
/// # Errors
/// As when a daemon is asked: none answers.
pub fn is_there(state: &Path) -> anyhow::Result<()> {
    match std::fs::metadata(state) {
        Err(why) if why.kind() == ErrorKind::NotFound => {
            call(&socket(state), &GetStatus {}).map(drop)
        }
        _ => Ok(()),
    }
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
