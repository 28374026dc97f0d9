//! Reads files that were found, and keeps what their content is.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt,
    sync::{Arc, Mutex, PoisonError},
};

use crossbeam_channel::Sender;
use hedgerow_event::Digest;
use hedgerow_hostfile::{Progress, Whose};
use sha2::Digest as _;

use super::{Content, ContentKey, FILES_MAX, Found, Outcome, Place};
use crate::identity::provenance::{Origin, Ownership, is_settled, now_ns};

/// A larger file is not read: its digest stays unknown.
pub const FILE_BYTES_MAX: u64 = 256 << 20;
const READ_BYTES: usize = 256 << 10;

/// Scripts that were read, by device, inode, change time and size.
pub type Scripts = HashMap<[u64; 4], Content>;

/// A file to read.
#[derive(Debug)]
pub struct Read {
    pub file: File,
    pub whose: Whose,
    pub what: What,
}

/// What it is read for.
#[derive(Debug)]
pub enum What {
    Image(ContentKey, Arc<str>, Origin),
    Running(Place),
    Script { place: Place, look: u64, key: [u64; 4], at: Option<(Arc<str>, Origin)> },
}

impl What {
    /// Nothing where what already runs can't be read.
    pub fn outcome(self, found: Found) -> Option<Outcome> {
        match self {
            Self::Image(key, path, _) => Some(Outcome::Image(key, path, found)),
            Self::Script { place, look, .. } => Some(Outcome::Script(place, look, found)),
            Self::Running(place) => match found {
                Found::Content(content) => Some(Outcome::Running(place, content.digest)),
                Found::Unreadable | Found::Gone => None,
            },
        }
    }
}

/// What reads.
#[derive(Debug)]
pub struct Reader {
    pub files: hedgerow_hostfile::Reader,
    pub ownership: Arc<Ownership>,
    pub outcomes: Sender<Outcome>,
    pub scripts: Arc<Mutex<Scripts>>,
}

impl Reader {
    pub fn work_on(&mut self, read: Read) {
        let Read { file, whose, what } = read;
        let begun_ns = now_ns();
        let read = self.files.run(&whose, move |progress| Ok(content(&file, progress)));
        let found = read.unwrap_or(Found::Gone);
        if let Found::Content(content) = found {
            match &what {
                What::Image(_, path, origin) => {
                    self.ownership.settle(path, *origin, Some(content.md5));
                }
                What::Script { key, at, .. } => {
                    self.keep(*key, content, begun_ns);
                    if let Some((path, origin)) = at {
                        self.ownership.settle(path, *origin, Some(content.md5));
                    }
                }
                What::Running(_) => {}
            }
        }
        if let Some(outcome) = what.outcome(found) {
            // Nobody wants to know any more.
            let _ = self.outcomes.send(outcome);
        }
    }

    /// Not one that had just changed: it may change once more under the same key.
    fn keep(&self, key: [u64; 4], content: Content, begun_ns: i128) {
        if !is_settled(key[2].into(), begun_ns) {
            return;
        }
        let mut scripts = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
        if scripts.len() >= FILES_MAX {
            scripts.clear();
        }
        scripts.insert(key, content);
    }
}

/// Hashes a file in one reading; unreadable where its content changes meanwhile.
fn content(file: &File, progress: &Progress) -> Found {
    let stamp = || file.metadata().map(|m| (m.len(), m.mtime(), m.mtime_nsec()));
    let Ok(before) = stamp() else { return Found::Unreadable };
    if before.0 > FILE_BYTES_MAX {
        return Found::Unreadable;
    }
    let (mut sha, mut md5) = (sha2::Sha256::new(), md5::Md5::new());
    let mut buffer = vec![0; READ_BYTES.min(usize::try_from(before.0).unwrap_or(READ_BYTES) + 1)];
    let mut limited = file.take(FILE_BYTES_MAX);
    loop {
        match limited.read(&mut buffer) {
            Ok(0) => break,
            Ok(size) => {
                sha.update(&buffer[..size]);
                md5.update(&buffer[..size]);
                if progress.add(size).is_err() {
                    return Found::Unreadable;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Found::Unreadable,
        }
    }
    match stamp() {
        Ok(after) if after == before => Found::Content(Content {
            digest: Digest(sha.finalize().into()),
            md5: md5.finalize().into(),
        }),
        _ => Found::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_large_file_is_not_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(FILE_BYTES_MAX + 1).unwrap();
        assert_eq!(content(file.as_file(), &Progress::default()), Found::Unreadable);
    }
}
