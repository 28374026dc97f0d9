//! Reading by a thread that is left behind when it takes too long.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{Refused, Whose, inside};

/// Threads of one reader that may be left behind, each in a file that doesn't come. Past it nothing
/// is read until one comes back.
pub const HUNG_MAX: usize = 4;
/// A file has so long, and one second more for each [`BYTES_PER_SECOND`] that came of it: a slow
/// disk is no attack, a file that drips is one.
const PATIENCE: Duration = Duration::from_secs(2);
const BYTES_PER_SECOND: u64 = 4 << 20;
/// The wait for a file is looked at this often.
const LOOK: Duration = Duration::from_millis(50);
/// Files of an owner who made us wait are not read for so long, and for as long as that thread hangs.
const REFUSED_FOR: Duration = Duration::from_secs(600);
/// Owners refused; past it the one refused first is tried again early.
const REFUSED_MAX: usize = 256;
/// Refusals that wait to be told; past it they are only counted in [`Refusals::refused`].
const UNTOLD_MAX: usize = 64;
const CHUNK: usize = 64 << 10;

const RUNNING: u8 = 0;
const DONE: u8 = 1;
const ABANDONED: u8 = 2;

/// How far the read is, as the one who waits sees it. Written by the thread that reads, read by the
/// one that waits.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: AtomicU64,
    state: AtomicU8,
}

impl Progress {
    /// Notes bytes that came.
    ///
    /// # Errors
    /// [`Refused::Hung`]: nobody waits any more.
    pub fn add(&self, bytes: usize) -> Result<(), Refused> {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        match self.state.load(Ordering::Acquire) {
            ABANDONED => Err(Refused::Hung),
            _ => Ok(()),
        }
    }

    fn allowed(&self, patience: Duration) -> Duration {
        let bytes = self.bytes.load(Ordering::Relaxed);
        patience + Duration::from_millis(bytes.saturating_mul(1000) / BYTES_PER_SECOND)
    }

    /// Ends as `state`, unless the other side was faster.
    fn end(&self, state: u8) -> bool {
        self.state.compare_exchange(RUNNING, state, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// The content of a file, at most `bytes_max` of it.
///
/// # Errors
/// It is larger, can't be read, or nobody waits any more.
pub fn content(file: File, bytes_max: u64, progress: &Progress) -> Result<Vec<u8>, Refused> {
    if file.metadata()?.len() > bytes_max {
        return Err(Refused::TooLarge(bytes_max));
    }
    // It may be growing.
    let found = start(file, bytes_max.saturating_add(1), progress)?;
    if found.len() as u64 > bytes_max { Err(Refused::TooLarge(bytes_max)) } else { Ok(found) }
}

/// Which version of which file it is, as far as its file system tells without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

/// The content of a file of another version than the known one.
fn new_content(
    file: File,
    bytes_max: u64,
    known: Option<Version>,
    progress: &Progress,
) -> Result<Option<(Vec<u8>, Version)>, Refused> {
    // Before it is read: what is written meanwhile makes another one.
    let version = Version::of(&file)?;
    match known {
        Some(known) if known == version => Ok(None),
        _ => Ok(Some((content(file, bytes_max, progress)?, version))),
    }
}

fn bytes_of(found: Option<(Vec<u8>, Version)>) -> Vec<u8> {
    found.map(|(bytes, _)| bytes).unwrap_or_default()
}

/// The first bytes of a file, all of it where it is shorter.
fn start(file: File, bytes_max: u64, progress: &Progress) -> Result<Vec<u8>, Refused> {
    let mut found = Vec::new();
    let mut chunk = vec![0; CHUNK];
    let mut limited = file.take(bytes_max);
    loop {
        match limited.read(&mut chunk) {
            Ok(0) => return Ok(found),
            Ok(size) => {
                found.extend_from_slice(&chunk[..size]);
                progress.add(size)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[derive(Debug)]
struct Refusal {
    whose: Whose,
    until: Instant,
    /// Threads that have not come back.
    hanging: usize,
}

#[derive(Debug, Default)]
struct Table {
    refusals: Vec<Refusal>,
    hung: usize,
    untold: Vec<String>,
}

/// Who is refused, for whoever tells it; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<Mutex<Table>>);

impl Refusals {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Owners whose files are not read, by name.
    pub fn refused(&self) -> Vec<String> {
        let now = Instant::now();
        let table = self.table();
        let live = table.refusals.iter().filter(|refusal| refusal.is_live(now));
        live.map(|refusal| refusal.whose.to_string()).collect()
    }

    /// Threads that were left behind and have not come back.
    pub fn hung(&self) -> usize {
        self.table().hung
    }

    /// What was refused since the last call, a sentence each.
    pub fn take_untold(&self) -> Vec<String> {
        std::mem::take(&mut self.table().untold)
    }

    fn admit(&self, whose: &Whose) -> Result<(), Refused> {
        let now = Instant::now();
        let mut table = self.table();
        table.refusals.retain(|refusal| refusal.is_live(now));
        if table.refusals.iter().any(|refusal| refusal.whose.is_same(whose)) {
            return Err(Refused::Owner(whose.to_string()));
        }
        if table.hung >= HUNG_MAX { Err(Refused::Spent) } else { Ok(()) }
    }

    fn hang(&self, name: &str, whose: &Whose) {
        let until = Instant::now() + REFUSED_FOR;
        let mut table = self.table();
        table.hung += 1;
        if table.refusals.len() >= REFUSED_MAX {
            table.refusals.remove(0);
        }
        table.refusals.push(Refusal { whose: whose.clone(), until, hanging: 1 });
        if table.untold.len() < UNTOLD_MAX {
            let minutes = REFUSED_FOR.as_secs() / 60;
            let mut line = format!(
                "{name}: a file of {whose} took too long to read; its files are not read for \
                 {minutes} minutes at least"
            );
            if table.hung >= HUNG_MAX {
                line +=
                    &format!("; {HUNG_MAX} such reads hang, and nothing is read until one ends");
            }
            table.untold.push(line);
        }
    }

    fn came_back(&self, whose: &Whose) {
        let mut table = self.table();
        table.hung = table.hung.saturating_sub(1);
        let refusal = table.refusals.iter_mut().find(|refusal| refusal.whose == *whose);
        if let Some(refusal) = refusal {
            refusal.hanging = refusal.hanging.saturating_sub(1);
        }
    }
}

impl Refusal {
    fn is_live(&self, now: Instant) -> bool {
        self.hanging > 0 || now < self.until
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// Reads for one thread, which waits for it.
#[derive(Debug)]
pub struct Reader {
    name: &'static str,
    patience: Duration,
    /// None before the first file, and after one that didn't come.
    worker: Option<Sender<Job>>,
    refusals: Refusals,
}

impl Reader {
    /// `name` says what it reads, in what is told and in the names of its threads.
    pub fn new(name: &'static str) -> Self {
        Self::sharing(name, Refusals::default())
    }

    /// The same; who makes one of several readers wait is refused by all.
    pub fn sharing(name: &'static str, refusals: Refusals) -> Self {
        Self { name, patience: PATIENCE, worker: None, refusals }
    }

    /// Who is refused.
    pub fn refusals(&self) -> Refusals {
        self.refusals.clone()
    }

    /// Reads a regular file by its path in a process's root.
    ///
    /// # Errors
    /// Any [`Refused`].
    pub fn read(&mut self, process: u32, path: &str, bytes_max: u64) -> Result<Vec<u8>, Refused> {
        self.read_new(process, path, bytes_max, None).map(bytes_of)
    }

    /// The same with its version; nothing where that is still the one that is `known`.
    ///
    /// # Errors
    /// Any [`Refused`].
    pub fn read_new(
        &mut self,
        process: u32,
        path: &str,
        bytes_max: u64,
        known: Option<Version>,
    ) -> Result<Option<(Vec<u8>, Version)>, Refused> {
        let whose = Whose::process(process, path);
        let (root, path) = (format!("/proc/{process}/root"), path.to_owned());
        self.run(&whose, move |progress| {
            new_content(inside(Path::new(&root), Path::new(&path))?, bytes_max, known, progress)
        })
    }

    /// Reads a regular file of the host.
    ///
    /// # Errors
    /// Any [`Refused`].
    pub fn read_host(&mut self, path: &Path, bytes_max: u64) -> Result<Vec<u8>, Refused> {
        self.read_host_new(path, bytes_max, None).map(bytes_of)
    }

    /// The same with its version; nothing where that is still the one that is `known`.
    ///
    /// # Errors
    /// Any [`Refused`].
    pub fn read_host_new(
        &mut self,
        path: &Path,
        bytes_max: u64,
        known: Option<Version>,
    ) -> Result<Option<(Vec<u8>, Version)>, Refused> {
        let whose = Whose::host(&path.to_string_lossy());
        let path = path.to_owned();
        self.run(&whose, move |progress| {
            new_content(inside(Path::new("/"), &path)?, bytes_max, known, progress)
        })
    }

    /// Reads the first bytes of the kernel's own file `/proc/PID/name`. Of `cmdline` and `environ` the process may have
    /// put the pages where they are never found.
    ///
    /// # Errors
    /// Any [`Refused`].
    pub fn read_proc(
        &mut self,
        process: u32,
        name: &str,
        bytes_max: u64,
    ) -> Result<Vec<u8>, Refused> {
        let path = format!("/proc/{process}/{name}");
        let whose = Whose::process(process, &path);
        self.run(&whose, move |progress| start(File::open(path)?, bytes_max, progress))
    }

    /// Whether a process's paths are meant in another root than the host's; `None` where its root doesn't
    /// answer. A service with a mount namespace of its own (`PrivateTmp=`, `ProtectSystem=`) has the host's
    /// root. One that is gone is taken for the host's.
    pub fn elsewhere(&mut self, process: u32) -> Option<bool> {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        let Some(own) = namespace(&process.to_string()) else { return Some(false) };
        let host = ["1", "self"].into_iter().find(|pid| namespace(pid).is_some())?;
        if namespace(host).is_none_or(|host| own == host) {
            return Some(false);
        }
        let id = |root: String| fs::metadata(root).map(|found| (found.dev(), found.ino()));
        let whose = Whose::process(process, "/");
        let root = self.run(&whose, move |_| Ok(id(format!("/proc/{process}/root/"))?));
        match (root, id(format!("/proc/{host}/root/"))) {
            (Ok(own), Ok(host)) => Some(own != host),
            (Err(Refused::Io(why)), _) if why.kind() == io::ErrorKind::NotFound => Some(false),
            _ => None,
        }
    }

    /// Has work done that may wait for a file of `whose`; what it reads it adds to the progress.
    ///
    /// # Errors
    /// It took too long, or an earlier one did, or no thread can be made; else what the work says.
    pub fn run<T: Send + 'static>(
        &mut self,
        whose: &Whose,
        work: impl FnOnce(&Progress) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Refused> {
        self.refusals.admit(whose)?;
        let progress = Arc::new(Progress::default());
        let (done, answer) = channel();
        let job = {
            let (progress, refusals, whose) =
                (Arc::clone(&progress), self.refusals.clone(), whose.clone());
            move || {
                let found = work(&progress);
                if progress.end(DONE) {
                    // The other side waits until it has seen this end.
                    drop(done.send(found));
                } else {
                    refusals.came_back(&whose);
                }
            }
        };
        self.submit(Box::new(job))?;
        let began = Instant::now();
        loop {
            match answer.recv_timeout(LOOK) {
                Ok(found) => return found,
                Err(RecvTimeoutError::Disconnected) => {
                    // It panicked, and its thread with it.
                    self.worker = None;
                    return Err(io::Error::other("the reading thread ended").into());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            let spent = began.elapsed() > progress.allowed(self.patience);
            if spent {
                // Counted first, so that a thread that comes back finds itself counted.
                self.refusals.hang(self.name, whose);
                if progress.end(ABANDONED) {
                    // It ends when its file comes.
                    self.worker = None;
                    return Err(Refused::Hung);
                }
                self.refusals.came_back(whose);
            }
        }
    }

    fn submit(&mut self, job: Job) -> io::Result<()> {
        let job = match &self.worker {
            Some(worker) => match worker.send(job) {
                Ok(()) => return Ok(()),
                Err(back) => back.0,
            },
            None => job,
        };
        let (worker, jobs): (Sender<Job>, Receiver<Job>) = channel();
        thread::Builder::new()
            .name(format!("read-{}", self.name))
            .spawn(move || jobs.iter().for_each(|job| job()))?;
        // The thread holds the other end.
        drop(worker.send(job));
        self.worker = Some(worker);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc::SyncSender;

    use super::*;

    /// With the time, on a loaded machine, for what doesn't hang.
    fn impatient() -> Reader {
        Reader { patience: Duration::from_millis(300), ..Reader::new("test") }
    }

    /// Work that doesn't end before its sender is dropped.
    fn hanging() -> (SyncSender<()>, impl FnOnce(&Progress) -> Result<(), Refused> + Send) {
        let (end, ended) = std::sync::mpsc::sync_channel::<()>(0);
        (end, move |_: &Progress| {
            let _ = ended.recv();
            Ok(())
        })
    }

    fn eventually(what: &str, mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done() {
            assert!(Instant::now() < deadline, "not within 20 s: {what}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn who_hangs_is_refused_and_others_are_read() {
        let mut reader = impatient();
        let refusals = reader.refusals();
        let (end, work) = hanging();
        assert!(matches!(reader.run(&Whose::host("/a"), work), Err(Refused::Hung)));
        assert!(matches!(reader.run(&Whose::host("/a"), |_| Ok(())), Err(Refused::Owner(_))));
        reader.run(&Whose::host("/b"), |_| Ok(())).unwrap();
        assert_eq!((refusals.hung(), refusals.refused().len()), (1, 1));
        let told = refusals.take_untold();
        assert!(told[0].contains("\"/a\"") && told.len() == 1, "{told:?}");
        assert!(refusals.take_untold().is_empty(), "told once");
        drop(end);
        eventually("it comes back", || refusals.hung() == 0);
        // Not at once: it would hang again.
        assert!(matches!(reader.run(&Whose::host("/a"), |_| Ok(())), Err(Refused::Owner(_))));
        refusals.table().refusals[0].until = Instant::now();
        reader.run(&Whose::host("/a"), |_| Ok(())).unwrap();
    }

    #[test]
    fn a_file_is_read_again_once_it_is_another_one_or_was_written_to() {
        let home = tempfile::tempdir().unwrap();
        let (path, next) = (home.path().join("file"), home.path().join("next"));
        let mut reader = Reader::new("test");
        let mut known = None;
        let mut read = || {
            let found = reader.read_host_new(&path, 100, known).unwrap();
            known = found.as_ref().map(|(_, version)| *version).or(known);
            found.map(|(bytes, _)| String::from_utf8(bytes).unwrap())
        };
        fs::write(&path, "one").unwrap();
        assert_eq!((read().as_deref(), read()), (Some("one"), None));
        // As who edits a table of users does.
        fs::write(&next, "two").unwrap();
        fs::rename(&next, &path).unwrap();
        assert_eq!((read().as_deref(), read()), (Some("two"), None));
        fs::write(&path, "three").unwrap();
        assert_eq!((read().as_deref(), read()), (Some("three"), None));
        // A time that was set back.
        fs::write(&path, "trees").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!((read().as_deref(), read()), (Some("trees"), None));
    }

    #[test]
    fn no_more_than_four_are_left_behind() {
        let mut reader = impatient();
        let refusals = reader.refusals();
        let mut ends = Vec::new();
        for number in 0..HUNG_MAX {
            let (end, work) = hanging();
            ends.push(end);
            let whose = Whose::host(&number.to_string());
            assert!(matches!(reader.run(&whose, work), Err(Refused::Hung)));
        }
        let other = Whose::host("other");
        assert!(matches!(reader.run(&other, |_| Ok(())), Err(Refused::Spent)));
        assert!(refusals.take_untold()[HUNG_MAX - 1].contains("nothing is read"));
        ends.pop();
        eventually("one comes back", || refusals.hung() < HUNG_MAX);
        reader.run(&other, |_| Ok(())).unwrap();
    }

    #[test]
    fn what_drips_is_left_behind_and_what_is_only_long_is_not() {
        let mut reader = impatient();
        let drip = |progress: &Progress| -> Result<(), Refused> {
            loop {
                progress.add(1)?;
                thread::sleep(Duration::from_millis(1));
            }
        };
        assert!(matches!(reader.run(&Whose::host("/drip"), drip), Err(Refused::Hung)));
        let refusals = reader.refusals();
        eventually("it notices", || refusals.hung() == 0);
        let long = |progress: &Progress| {
            for _ in 0..20 {
                progress.add(BYTES_PER_SECOND as usize)?;
                thread::sleep(Duration::from_millis(10));
            }
            Ok(())
        };
        reader.run(&Whose::host("/long"), long).unwrap();
    }

    #[test]
    fn work_that_panics_ends_its_thread_only() {
        let mut reader = Reader::new("test");
        let whose = Whose::host("/a");
        let work = |_: &Progress| -> Result<(), Refused> { panic!("on purpose") };
        assert!(matches!(reader.run(&whose, work), Err(Refused::Io(_))));
        reader.run(&whose, |_| Ok(())).unwrap();
    }

    #[test]
    fn the_own_command_line_is_read_up_to_a_bound() {
        let mut reader = Reader::new("test");
        let own = std::process::id();
        let line = reader.read_proc(own, "cmdline", 1 << 20).unwrap();
        assert!(line.ends_with(b"\0") || !line.is_empty());
        assert_eq!(reader.read_proc(own, "cmdline", 1).unwrap().len(), 1);
        assert!(reader.read_host(Path::new("/etc/passwd"), 1 << 20).is_ok());
        assert!(reader.read(own, "/etc/passwd", 1 << 20).is_ok());
    }
}
