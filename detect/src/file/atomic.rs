//! Whole files or none: reading with a limit, replacing atomically.

use super::FileError;
use super::container::MAX_FILE_BYTES;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Reads a regular file of at most [`MAX_FILE_BYTES`].
pub(super) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let io = |action| move |source| FileError::Io { action, path: path.to_owned(), source };
    // Asked before opening: opening a FIFO would wait for a writer.
    let about = std::fs::metadata(path).map_err(io("opening"))?;
    if !about.is_file() {
        return Err(FileError::NotAModelFile);
    }
    if about.len() > MAX_FILE_BYTES {
        return Err(FileError::TooLarge(about.len()));
    }
    let file = File::open(path).map_err(io("opening"))?;
    let mut bytes = Vec::with_capacity(about.len() as usize);
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(io("reading"))?;
    Ok(bytes)
}

/// Replaces a file: after a crash at any point there is the old one or the new one, whole.
///
/// The temporary file (`.NAME.tmp` beside it, mode 0600) is written and synced, renamed over the
/// target, and the directory is synced. Two writers of one path at once get an error.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let io = |action| move |source| FileError::Io { action, path: path.to_owned(), source };
    let temporary = temporary_beside(path).map_err(io("naming"))?;
    // What a crashed writer left.
    match std::fs::remove_file(&temporary) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io("clearing")(e)),
        _ => {}
    }
    let written = write_synced(&temporary, bytes)
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(io("writing"));
    if written.is_err() {
        // The error that matters is the first one.
        let _ = std::fs::remove_file(&temporary);
        return written;
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory).and_then(|d| d.sync_all()).map_err(io("syncing the directory of"))
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn temporary_beside(path: &Path) -> std::io::Result<PathBuf> {
    let name = path.file_name().ok_or(std::io::ErrorKind::InvalidInput)?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(".tmp");
    Ok(path.with_file_name(hidden))
}
