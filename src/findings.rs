//! The log of findings: its name, and its reader.

use std::{
    fs::File,
    io::{BufRead, BufReader, ErrorKind, Read},
    path::{Path, PathBuf},
};

use anyhow::Context;
use hedgerow_event::Finding;

use crate::exit::Failure;

/// Name of the log in the state directory.
pub const FINDINGS: &str = "findings.jsonl";
/// A longer line is none that Hedgerow wrote.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// The log of a daemon with this state directory.
pub fn path(state: &Path) -> PathBuf {
    state.join(FINDINGS)
}

/// Reads the log; a line that a crash cut short is passed over.
pub fn read(state: &Path) -> anyhow::Result<Vec<Finding>> {
    let path = path(state);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(why) => {
            let why = anyhow::Error::from(why).context(format!("can't read {}", path.display()));
            return Err(Failure::file(why).into());
        }
    };
    let mut reader = BufReader::new(file);
    let mut findings = Vec::new();
    while let Some(line) = next_line(&mut reader, &path)? {
        findings.extend(serde_json::from_slice(&line));
    }
    Ok(findings)
}

/// The next whole line; `None` at the end, and for a line that is still being written.
fn next_line(reader: &mut impl BufRead, path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
    read.with_context(|| path.display().to_string()).map_err(Failure::file)?;
    Ok(if line.is_empty() { None } else { Some(line) })
}
