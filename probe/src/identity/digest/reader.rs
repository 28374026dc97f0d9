//! The thread that finds files through `/proc`, and reads them.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
};

use hedgerow_event::Digest;
use sha2::Digest as _;

use super::{ContentKey, FILES_MAX, Image, Place, Script};

/// A larger file is not read: its digest stays unknown.
pub const FILE_BYTES_MAX: u64 = 256 << 20;
const READ_BYTES: usize = 256 << 10;
const OVERLAYFS_SUPER_MAGIC: i64 = 0x794c_7630;

/// A file to read.
#[derive(Debug)]
pub enum Job {
    Image(Image),
    /// The program that a process runs already.
    Running(u32, Place),
    Script(Script, u64),
}

/// What came of it.
#[derive(Debug)]
pub enum Outcome {
    Image(ContentKey, Found),
    Running(Place, Digest),
    Script(Place, u64, Found),
}

/// A file's digest, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Digest(Digest),
    /// Too large, or no regular file that can be read.
    Unreadable,
    /// The processes that could lead to it are gone.
    Gone,
}

/// The thread that reads.
pub struct Reader {
    buffer: Vec<u8>,
    /// Scripts that were read, by device, inode, change time and size.
    scripts: HashMap<[u64; 4], Digest>,
}

impl Reader {
    pub fn new() -> Self {
        Self { buffer: vec![0; READ_BYTES], scripts: HashMap::new() }
    }

    /// Reads what a job asks for; nothing where what already runs can't be read.
    pub fn work_on(&mut self, job: Job) -> Option<Outcome> {
        match job {
            Job::Image(image) => {
                let found = find(&image).map_or(Found::Gone, |file| read(&file, &mut self.buffer));
                Some(Outcome::Image(image.key, found))
            }
            Job::Running(tgid, place) => {
                let file = open(&format!("/proc/{tgid}/exe"), |_, _| true)?;
                match read(&file, &mut self.buffer) {
                    Found::Digest(digest) => Some(Outcome::Running(place, digest)),
                    Found::Unreadable | Found::Gone => None,
                }
            }
            Job::Script(script, look) => {
                let found = self.look_at(&script);
                Some(Outcome::Script(script.place, look, found))
            }
        }
    }

    fn look_at(&mut self, script: &Script) -> Found {
        let Script { place: (_, path), tgid, parent_tgid } = script;
        let opened = [tgid, parent_tgid]
            .into_iter()
            .find_map(|process| open(&format!("/proc/{process}/root{path}"), |_, _| true));
        let Some(file) = opened else { return Found::Gone };
        let Ok(metadata) = file.metadata() else { return Found::Unreadable };
        let key = [metadata.dev(), metadata.ino(), ctime_ns(&metadata), metadata.len()];
        if let Some(digest) = self.scripts.get(&key) {
            return Found::Digest(*digest);
        }
        let found = read(&file, &mut self.buffer);
        if let Found::Digest(digest) = found {
            if self.scripts.len() >= FILES_MAX {
                self.scripts.clear();
            }
            self.scripts.insert(key, digest);
        }
        found
    }
}

/// In nanoseconds since the Unix epoch, as the kernel's key has it.
pub fn ctime_ns(metadata: &fs::Metadata) -> u64 {
    metadata.ctime().cast_unsigned().wrapping_mul(1_000_000_000)
        + metadata.ctime_nsec().cast_unsigned()
}

/// Opens the file that the kernel saw executed, whichever way still leads to it.
fn find(image: &Image) -> Option<File> {
    let Image { key, place: (_, path), tgid, parent_tgid } = image;
    let same_time = |metadata: &fs::Metadata| ctime_ns(metadata) == key.ctime_ns;
    // What a process runs can't be written meanwhile; that it is renamed or removed changes its time.
    let running = |metadata: &fs::Metadata, overlay: bool| {
        // overlayfs tells the inode that a file had before it was copied up.
        if overlay { same_time(metadata) } else { metadata.ino() == key.inode }
    };
    let at_path =
        |metadata: &fs::Metadata, overlay: bool| running(metadata, overlay) && same_time(metadata);
    open(&format!("/proc/{tgid}/exe"), running)
        .or_else(|| open(&format!("/proc/{tgid}/root{path}"), at_path))
        .or_else(|| open(&format!("/proc/{parent_tgid}/root{path}"), at_path))
}

/// Opens a regular file for reading if `is_it` says so of its metadata and of whether it lies on
/// overlayfs. Nothing else is ever opened: a device might notice.
fn open(path: &str, is_it: impl Fn(&fs::Metadata, bool) -> bool) -> Option<File> {
    let found = File::options().read(true).custom_flags(libc::O_PATH).open(path).ok()?;
    let metadata = found.metadata().ok()?;
    if !metadata.is_file() || !is_it(&metadata, is_overlay(&found)) {
        return None;
    }
    File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).ok()
}

fn is_overlay(file: &File) -> bool {
    // SAFETY: all zeros is a valid `statfs`, which the call fills.
    unsafe {
        let mut status: libc::statfs = std::mem::zeroed();
        libc::fstatfs(file.as_raw_fd(), &raw mut status) == 0
            && status.f_type == OVERLAYFS_SUPER_MAGIC
    }
}

/// Hashes a file; unreadable where its content changes meanwhile.
fn read(file: &File, buffer: &mut [u8]) -> Found {
    let stamp = || file.metadata().map(|m| (m.len(), m.mtime(), m.mtime_nsec()));
    let Ok(before) = stamp() else { return Found::Unreadable };
    if before.0 > FILE_BYTES_MAX {
        return Found::Unreadable;
    }
    let mut hasher = sha2::Sha256::new();
    let mut limited = file.take(FILE_BYTES_MAX);
    loop {
        match limited.read(buffer) {
            Ok(0) => break,
            Ok(size) => hasher.update(&buffer[..size]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Found::Unreadable,
        }
    }
    match stamp() {
        Ok(after) if after == before => Found::Digest(Digest(hasher.finalize().into())),
        _ => Found::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::identity::digest::tests::image;

    #[test]
    fn a_file_that_is_no_longer_the_one_that_ran_has_no_digest() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "x").unwrap();
        let mut stale = image(file.path());
        stale.key.ctime_ns -= 1;
        assert!(find(&stale).is_none());
        assert!(find(&image(file.path())).is_some());
        assert!(open("/dev/null", |_, _| true).is_none(), "no regular file");
    }

    #[test]
    fn a_large_file_is_not_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(FILE_BYTES_MAX + 1).unwrap();
        assert_eq!(read(file.as_file(), &mut [0; 16]), Found::Unreadable);
    }
}
