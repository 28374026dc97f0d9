//! The log of findings: its name, and its reader.

use std::{
    fs::File,
    io::{BufRead, BufReader, ErrorKind, Read},
    path::{Path, PathBuf},
};

use anyhow::Context;
use hedgerow_event::Finding;

use crate::{control, exit::Failure};

/// Name of the log in the state directory.
pub const FINDINGS: &str = "findings.jsonl";
/// A longer line is none that Hedgerow wrote.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// The log of a daemon with this state directory.
pub fn path(state: &Path) -> PathBuf {
    state.join(FINDINGS)
}

/// Reads the log with the older files that were rotated away, oldest first; a line that a crash cut
/// short is passed over.
pub fn read(state: &Path) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    // Who may not read the state directory may ask the daemon.
    let refused = |why: std::io::Error| why.kind() == ErrorKind::PermissionDenied;
    if std::fs::read_dir(state).is_err_and(refused) {
        let lines = control::findings(state)?;
        findings.extend(lines.split(|byte| *byte == b'\n').flat_map(serde_json::from_slice));
        return Ok(findings);
    }
    // All are open before any is read: what is rotated meanwhile is read where it was.
    for (path, file) in files(&path(state))?.into_iter().rev() {
        let mut reader = BufReader::new(file);
        while let Some(line) = next_line(&mut reader, &path)? {
            findings.extend(serde_json::from_slice(&line));
        }
    }
    Ok(findings)
}

/// The file at `path`, then `path.1` and so on, as far as there are any.
fn files(path: &Path) -> anyhow::Result<Vec<(PathBuf, File)>> {
    let mut found = Vec::new();
    for number in 0.. {
        let mut name = path.as_os_str().to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        let one = PathBuf::from(name);
        match File::open(&one) {
            Ok(file) => found.push((one, file)),
            // The newest may be missing for a moment, while it is rotated.
            Err(why) if why.kind() == ErrorKind::NotFound && number == 0 => {}
            Err(why) if why.kind() == ErrorKind::NotFound => break,
            Err(why) => {
                let why = anyhow::Error::from(why).context(format!("can't read {}", one.display()));
                return Err(Failure::file(why).into());
            }
        }
    }
    Ok(found)
}

/// The next whole line; `None` at the end, and for a line that is still being written.
fn next_line(reader: &mut impl BufRead, path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
    read.with_context(|| path.display().to_string()).map_err(Failure::file)?;
    Ok(if line.is_empty() { None } else { Some(line) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rotated_files_are_read_oldest_first_up_to_the_first_that_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let log = path(directory.path());
        assert!(files(&log).unwrap().is_empty());
        for number in ["", ".1", ".2", ".4"] {
            std::fs::write(format!("{}{number}", log.display()), number).unwrap();
        }
        let mut said = Vec::new();
        for (_, mut file) in files(&log).unwrap().into_iter().rev() {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            said.push(text);
        }
        assert_eq!(said, [".2", ".1", ""]);
        std::fs::remove_file(&log).unwrap();
        assert_eq!(files(&log).unwrap().len(), 2);
    }
}
