//! The log of findings, for whoever may read it.

use std::{io::ErrorKind, path::Path};

use hedgerow_event::Finding;

use crate::{control, findings};

/// All findings, oldest first. Who may not read the state directory may ask the daemon.
pub fn read(state: &Path) -> anyhow::Result<Vec<Finding>> {
    let refused = |why: std::io::Error| why.kind() == ErrorKind::PermissionDenied;
    if !std::fs::read_dir(state).is_err_and(refused) {
        return findings::read(state);
    }
    let lines = control::findings(state)?;
    Ok(lines.split(|byte| *byte == b'\n').flat_map(serde_json::from_slice).collect())
}
