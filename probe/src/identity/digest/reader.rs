//! The thread that finds files through `/proc`, and has them read.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::Path,
};

use hedgerow_event::Digest;
use hedgerow_hostfile::{Progress, Refusals, Refused, Whose, image, inside};
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
    /// The processes that could lead to it are gone, or its owner is refused.
    Gone,
}

/// What the thread works with.
pub struct Reader {
    files: hedgerow_hostfile::Reader,
    /// Scripts that were read, by device, inode, change time and size.
    scripts: HashMap<[u64; 4], Digest>,
}

impl Reader {
    pub fn new() -> Self {
        Self { files: hedgerow_hostfile::Reader::new("digests"), scripts: HashMap::new() }
    }

    /// Whose files are not read.
    pub fn refusals(&self) -> Refusals {
        self.files.refusals()
    }

    /// Reads what a job asks for; nothing where what already runs can't be read.
    pub fn work_on(&mut self, job: Job) -> Option<Outcome> {
        match job {
            Job::Image(wanted) => {
                let key = wanted.key;
                let whose = whose([wanted.tgid, wanted.parent_tgid], &wanted.place.1);
                let found = self.files.run(&whose, move |progress| {
                    Ok(find(&wanted).map_or(Found::Gone, |file| read(&file, progress)))
                });
                Some(Outcome::Image(key, found.unwrap_or(Found::Gone)))
            }
            Job::Running(tgid, place) => {
                let whose = whose([tgid; 2], &place.1);
                let found =
                    self.files.run(&whose, move |progress| Ok(read(&image(tgid)?, progress)));
                match found {
                    Ok(Found::Digest(digest)) => Some(Outcome::Running(place, digest)),
                    _ => None,
                }
            }
            Job::Script(script, look) => {
                let found = self.look_at(&script).unwrap_or(Found::Gone);
                Some(Outcome::Script(script.place, look, found))
            }
        }
    }

    fn look_at(&mut self, script: &Script) -> Result<Found, Refused> {
        let Script { place: (_, path), tgid, parent_tgid } = script;
        let processes = [*tgid, *parent_tgid];
        let whose = whose(processes, path);
        let path = path.clone();
        let (file, key) = self.files.run(&whose, move |_| {
            let file = processes.into_iter().find_map(|process| in_root(process, &path));
            let file = file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            let metadata = file.metadata()?;
            let key = [metadata.dev(), metadata.ino(), ctime_ns(&metadata), metadata.len()];
            Ok((file, key))
        })?;
        if let Some(digest) = self.scripts.get(&key) {
            return Ok(Found::Digest(*digest));
        }
        let found = self.files.run(&whose, move |progress| Ok(read(&file, progress)))?;
        if let Found::Digest(digest) = found {
            if self.scripts.len() >= FILES_MAX {
                self.scripts.clear();
            }
            self.scripts.insert(key, digest);
        }
        Ok(found)
    }
}

/// The owner of a file that one of these processes leads to.
fn whose(processes: [u32; 2], path: &str) -> Whose {
    let alive = |process: &u32| Path::new("/proc").join(process.to_string()).exists();
    Whose::process(processes.into_iter().find(alive).unwrap_or(processes[0]), path)
}

/// In nanoseconds since the Unix epoch, as the kernel's key has it.
pub fn ctime_ns(metadata: &fs::Metadata) -> u64 {
    metadata.ctime().cast_unsigned().wrapping_mul(1_000_000_000)
        + metadata.ctime_nsec().cast_unsigned()
}

/// Opens the file that the kernel saw executed, whichever way still leads to it.
fn find(wanted: &Image) -> Option<File> {
    let Image { key, place: (_, path), tgid, parent_tgid } = wanted;
    let is_it = |file: &File, running: bool| {
        let Ok(metadata) = file.metadata() else { return false };
        let same_time = ctime_ns(&metadata) == key.ctime_ns;
        // overlayfs tells the inode that a file had before it was copied up.
        let same_file = if is_overlay(file) { same_time } else { metadata.ino() == key.inode };
        // What a process runs can't be written meanwhile; that it is renamed or removed changes its
        // time.
        same_file && (running || same_time)
    };
    let by_path = || {
        let found = [tgid, parent_tgid].into_iter().filter_map(|process| in_root(*process, path));
        found.into_iter().find(|file| is_it(file, false))
    };
    image(*tgid).ok().filter(|file| is_it(file, true)).or_else(by_path)
}

fn in_root(process: u32, path: &str) -> Option<File> {
    inside(Path::new(&format!("/proc/{process}/root")), Path::new(path)).ok()
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
fn read(mut file: &File, progress: &Progress) -> Found {
    let stamp = || file.metadata().map(|m| (m.len(), m.mtime(), m.mtime_nsec()));
    let Ok(before) = stamp() else { return Found::Unreadable };
    if before.0 > FILE_BYTES_MAX {
        return Found::Unreadable;
    }
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    // What grows past what it was is not what ran.
    let mut limited = (&mut file).take(FILE_BYTES_MAX);
    loop {
        match limited.read(&mut buffer) {
            Ok(0) => break,
            Ok(size) => {
                hasher.update(&buffer[..size]);
                if progress.add(size).is_err() {
                    return Found::Unreadable;
                }
            }
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
        assert!(in_root(std::process::id(), "/dev/null").is_none(), "no regular file");
    }

    #[test]
    fn a_large_file_is_not_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(FILE_BYTES_MAX + 1).unwrap();
        assert_eq!(read(file.as_file(), &Progress::default()), Found::Unreadable);
    }
}
