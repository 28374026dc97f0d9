//! Finds the files that programs and scripts lie in, while the processes that lead there are left,
//! and how they lie to the host. Their content is read elsewhere, later.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crossbeam_channel::Sender;
use hedgerow_hostfile::{Refused, Whose, image as running, inside};

use super::{
    Found, Image, Outcome, Place, Script,
    reader::{Read, Scripts, What},
};
use crate::identity::provenance::{self, Layer, Origin, Ownership};

/// Network file systems and FUSE, as `is_remote` of `layer.bpf.h` has them: their servers
/// may answer each reader differently, or never.
const REMOTE: [i64; 10] = [
    0x6573_5546,
    0x6969,
    0xfe53_4d42,
    0x0102_1997,
    0x00c3_6400,
    0x5346_414f,
    0x6b41_4653,
    0x7375_7245,
    0x4750_4653,
    0x0bd0_0bd0,
];

/// A file to find.
#[derive(Debug)]
pub enum Job {
    /// Its content is wanted, too, where it is not known.
    Image {
        image: Image,
        content: bool,
    },
    /// The program that a process runs already.
    Running(u32, Place),
    Script(Script, u64),
}

/// What finds.
#[derive(Debug)]
pub struct Finder {
    pub files: hedgerow_hostfile::Reader,
    pub ownership: Arc<Ownership>,
    pub reads: Sender<Read>,
    pub outcomes: Sender<Outcome>,
    pub scripts: Arc<Mutex<Scripts>>,
    /// Files that found the reader's queue full.
    pub refused: Arc<AtomicU64>,
}

impl Finder {
    pub fn work_on(&mut self, job: Job) {
        match job {
            Job::Image { image, content } => self.image(&image, content),
            Job::Running(tgid, place) => {
                let whose = whose([tgid; 2], &place.1);
                let found = self.files.run(&whose, move |_| local(running(tgid)?));
                if let Ok(file) = found {
                    self.read(Read { file, whose, what: What::Running(place) });
                }
            }
            Job::Script(script, look) => self.script(script, look),
        }
    }

    fn image(&mut self, image: &Image, content: bool) {
        let Image { key, place: (_, path), tgid, parent_tgid, layer } = image;
        let whose = whose([*tgid, *parent_tgid], path);
        let (wanted, ownership) = (image.clone(), Arc::clone(&self.ownership));
        let found = self.files.run(&whose, move |_| {
            let Image { place: (_, path), tgid, parent_tgid, .. } = &wanted;
            let file = find(&wanted).ok_or_else(not_found)?;
            let host = ownership.host();
            let setting = host.setting(path, &file.metadata()?, *tgid, Some(*parent_tgid));
            Ok((file, setting))
        });
        let Ok((file, setting)) = found else {
            self.tell(Outcome::Image(*key, Arc::clone(path), Found::Gone));
            return;
        };
        let origin = Origin { layer: *layer, setting };
        self.ownership.settle(path, origin, None);
        self.tell(Outcome::Placed(*key, Arc::clone(path), setting));
        if content {
            let what = What::Image(*key, Arc::clone(path), origin);
            self.read(Read { file, whose, what });
        }
    }

    fn script(&mut self, script: Script, look: u64) {
        let Script { place, tgid, parent_tgid } = script;
        let whose = whose([tgid, parent_tgid], &place.1);
        let (path, ownership) = (Arc::clone(&place.1), Arc::clone(&self.ownership));
        let found = self.files.run(&whose, move |_| {
            let mut found = [tgid, parent_tgid]
                .into_iter()
                .filter_map(|process| Some((process, in_root(process, &path)?)));
            let (process, file) = found.next().ok_or_else(not_found)?;
            let file = local(file)?;
            let metadata = file.metadata()?;
            let key = [metadata.dev(), metadata.ino(), ctime_ns(&metadata), metadata.len()];
            let real = real_path(&file).filter(|_| metadata.nlink() > 0);
            let at = real.map(|real| {
                let setting = ownership.host().setting(&real, &metadata, process, None);
                (real, Origin { layer: Layer::None, setting })
            });
            Ok((file, key, at))
        });
        let Ok((file, key, at)) = found else {
            self.tell(Outcome::Script(place, look, Found::Gone));
            return;
        };
        if let Some((real, origin)) = &at {
            self.ownership.settle(real, *origin, None);
            self.tell(Outcome::ScriptPlaced(look, Arc::clone(real), *origin));
        }
        let known = self.scripts.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        let Some(content) = known else {
            self.read(Read { file, whose, what: What::Script { place, look, key, at } });
            return;
        };
        if let Some((real, origin)) = &at {
            self.ownership.settle(real, *origin, Some(content.md5));
        }
        self.tell(Outcome::Script(place, look, Found::Content(content)));
    }

    fn read(&self, read: Read) {
        if let Err(refused) = self.reads.try_send(read) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            if let Some(outcome) = refused.into_inner().what.outcome(Found::Gone) {
                self.tell(outcome);
            }
        }
    }

    /// Full: waits until the next exec takes them out.
    fn tell(&self, outcome: Outcome) {
        // Nobody wants to know any more.
        let _ = self.outcomes.send(outcome);
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
    let Image { key, place: (_, path), tgid, parent_tgid, .. } = wanted;
    let is_it = |file: &File, running: bool| {
        let Ok(metadata) = file.metadata() else { return false };
        let same_time = ctime_ns(&metadata) == key.ctime_ns;
        // overlayfs tells the inode that a file had before it was copied up.
        let overlay = provenance::magic(file) == provenance::OVERLAYFS_SUPER_MAGIC;
        let same_file = if overlay { same_time } else { metadata.ino() == key.inode };
        // What a process runs can't be written meanwhile; that it is renamed or removed changes its
        // time.
        same_file && (running || same_time)
    };
    let by_path = || {
        let found = [tgid, parent_tgid].into_iter().filter_map(|process| in_root(*process, path));
        found.into_iter().find(|file| is_it(file, false))
    };
    running(*tgid).ok().filter(|file| is_it(file, true)).or_else(by_path)
}

fn in_root(process: u32, path: &str) -> Option<File> {
    inside(Path::new(&format!("/proc/{process}/root")), Path::new(path)).ok()
}

/// A file that this host's kernel answers for.
fn local(file: File) -> Result<File, Refused> {
    if REMOTE.contains(&provenance::magic(&file)) { Err(Refused::Pseudo) } else { Ok(file) }
}

/// The path without links by which the file was found.
fn real_path(file: &File) -> Option<Arc<str>> {
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    Some(path.to_str()?.into())
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
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
}
