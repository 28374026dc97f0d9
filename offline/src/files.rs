//! Files that are read whoever made them, and files that are written for their owner alone.

use std::{
    fs::{File, Permissions},
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use crate::{
    Error, Result,
    keys::{EARLY, POLICY, RECORDS, WINDOWS},
    score::FINDINGS,
    scores::SCORES,
};

/// Opens a regular file: opening a FIFO would wait for a writer.
pub(crate) fn open(path: &Path) -> Result<File> {
    let at = |why: std::io::Error| Error::at(path, why);
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(at)?;
    match file.metadata().map_err(at)?.is_file() {
        true => Ok(file),
        false => Err(Error::at(path, "no regular file")),
    }
}

/// Writes what is shown in a browser or read by a table, for its owner: it may say what would be
/// missed.
///
/// # Errors
/// It can't be written.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| {
        // It may have been there, for others to read; but no device changes hands.
        if file.metadata()?.is_file() {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        file.write_all(text.as_bytes())
    });
    written.map_err(|why| Error::at(path, why))
}

/// Refuses a path that can't be written to later, before hours of work.
///
/// # Errors
/// There is no directory for it.
pub fn has_room(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match parent.unwrap_or(Path::new(".")).is_dir() {
        true => Ok(()),
        false => Err(Error::at(path, "there is no directory to write it to")),
    }
}

/// Refuses a directory that holds what a capture or a replay wrote: what is written beside it would
/// count twice, or take its place.
///
/// # Errors
/// Names what is there.
pub(crate) fn is_fresh(directory: &Path) -> Result<()> {
    let holds = |name: &&str| {
        let there = directory.join(name).metadata();
        there.is_ok_and(|there| there.is_dir() || there.len() > 0)
    };
    match [RECORDS, EARLY, POLICY, WINDOWS, SCORES, FINDINGS].into_iter().find(holds) {
        None => Ok(()),
        Some(name) => {
            Err(Error::at(directory, format!("it has `{name}` already; name another directory")))
        }
    }
}
