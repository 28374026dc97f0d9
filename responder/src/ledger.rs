//! The ledger: one JSON line a decision, with its reason.
//!
//! A thread of its own appends and syncs the lines, so that a slow or full disk holds up no decision.
//! Lines that it can't write wait in memory, and are written when there is room, or a file to be had;
//! what a crash or a full disk has lost of an entry is in the kernel beside it, see [`crate::note`].

use std::{
    fmt,
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use hedgerow_event::{Mode, Remediation, Rule, Target};
use hedgerow_hostfile::append;
use serde::{Deserialize, Serialize};

use crate::{Error, hold::Hold};

/// Lines that wait for the disk, and their bytes: whom a line is about chose much of how long it is.
/// Full: what comes is counted as lost, and told.
pub const WAITING_MAX: usize = 8192;
pub const WAITING_BYTES: usize = 16 << 20;
/// Lines that are written and synced at once.
const BATCH: usize = 256;
/// A file that could not be opened, or written, is tried again after this time.
const RETRY: Duration = Duration::from_secs(1);
/// The end waits so long for the lines that are left.
const FLUSH: Duration = Duration::from_secs(5);

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Wall time, Unix nanoseconds.
    pub time_ns: i64,
    /// Entries of another boot are gone.
    pub boot_id: String,
    /// Whose order it follows; `None` where nobody gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    #[serde(flatten)]
    pub decision: Decision,
}

/// Who gave an order, as the kernel says of the other end of the control socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    pub uid: u32,
    pub pid: u32,
    /// The audit login uid, which `sudo` and `su` don't change; `None` where none is set.
    pub login_uid: Option<u32>,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}", self.uid)?;
        match self.login_uid {
            Some(login) => write!(f, ", logged in as uid {login}")?,
            None => f.write_str(", no login")?,
        }
        write!(f, ", process {}", self.pid)
    }
}

/// What was decided or done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// An entry was installed.
    Block { entry: Remediation, period_s: u32 },
    /// A wide entry waits before it is installed.
    Hold { hold: Hold },
    /// An entry that waited will not be installed.
    Withdraw { uid: String, reason: String },
    /// It was hit and lives longer.
    Extend { entry: Remediation, period_s: u32 },
    /// It is gone.
    Unblock { entry: Remediation },
    /// No entry was made although one was asked for.
    Refuse { target: Target, rule: Rule, finding_uid: Option<String>, reason: String },
    /// A finding was only reported.
    Report { finding_uid: String, reason: String },
    /// So many more of an owner's workloads were refused or only reported within a minute than are written.
    LeftOut { owner: String, lines: u64 },
    /// An operator said that an automatic entry should never have been made; the `counted`th in the
    /// period of the budget.
    Wrong { uid: String, workload: String, counted: usize, budget: usize },
    /// Automatic entries stopped, or go on, for all workloads.
    Halt { halted: bool, reason: String },
    /// A workload's breaker tripped.
    Breaker { workload: String, reason: String },
    /// A workload's mode was set.
    Mode { workload: String, mode: Mode },
    /// Addresses or programs that are never refused.
    Allow { target: Target, allowed: bool },
    /// The kill switch.
    Armed { armed: bool },
    /// No automatic denial and no learning until then, or no longer; `*` is all of the host.
    Maintenance { workload: String, until_ns: Option<i64> },
    /// An operator's word on a finding: `ack`, `mute`, `accept`.
    Finding { finding_uid: String, word: String, until_ns: Option<i64> },
    /// An entry in the kernel that no line explains was removed.
    Foreign { id: u64 },
}

/// The reason of an `unblock` whose `block` was written ahead and never came to stand: nobody is told
/// of the two, but in the ledger.
pub const NOT_INSTALLED: &str = "could not be installed";

impl Decision {
    /// The uid of an entry that never stood, where this line says so.
    pub fn undone(&self) -> Option<&str> {
        match self {
            Self::Unblock { entry } if entry.reason == NOT_INSTALLED => Some(&entry.uid),
            _ => None,
        }
    }
}

/// How the file fares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Lines that are not on the disk yet, and their bytes.
    pub waiting: usize,
    pub waiting_bytes: usize,
    /// Lines that found no room in memory either.
    pub lost: u64,
    /// Why they wait, or would.
    pub failure: Option<String>,
    /// Bytes of a last line that a crash had cut short; known once the file is open.
    pub healed: u64,
}

/// Append-only file of [`Line`]s, mode 0600. Past `bytes_max` it is renamed to [`rotated`] (which is
/// replaced) and begun anew: between one and two times `bytes_max` of history remain.
#[derive(Debug)]
pub struct Ledger {
    /// As they are written. Taken at the end.
    lines: Option<SyncSender<Vec<u8>>>,
    written: Arc<Mutex<Written>>,
    /// No more lines come: one that can't be written is given up.
    ending: Arc<AtomicBool>,
    /// Disconnected once the thread has ended.
    ended: Receiver<()>,
}

impl Ledger {
    /// Opens or makes the file, and starts the thread. A last line that a crash cut short is taken
    /// away, so that the next one starts on its own. A file that can't be opened is tried again, like
    /// one that can't be written: see [`Self::written`].
    ///
    /// # Errors
    /// No thread can be made.
    pub fn open(path: &Path, bytes_max: u64) -> Result<Self, Error> {
        let failed = |verb| Error::io(format!("can't {verb} the ledger {}", path.display()));
        let written = Arc::new(Mutex::new(Written::default()));
        let ending = Arc::new(AtomicBool::new(false));
        let mut writer = Writer {
            path: path.to_owned(),
            file: None,
            bytes: 0,
            bytes_max: bytes_max.max(1),
            waiting: Vec::new(),
            written: Arc::clone(&written),
            ending: Arc::clone(&ending),
        };
        writer.write();
        let (lines, queue) = sync_channel(WAITING_MAX);
        let (end, ended) = sync_channel(0);
        thread::Builder::new()
            .name("ledger".into())
            .spawn(move || {
                writer.run(&queue);
                drop::<SyncSender<()>>(end);
            })
            .map_err(failed("start the thread of"))?;
        Ok(Self { lines: Some(lines), written, ending, ended })
    }

    /// Hands a line over. Never waits: one that finds no room is counted.
    pub fn append(&self, line: &Line) {
        // One that can't be encoded is lost, too.
        let line = serde_json::to_vec(line).map(|json| [json, b"\n".to_vec()].concat()).ok();
        let bytes = line.as_ref().map_or(0, Vec::len);
        let mut written = lock(&self.written);
        // One that is alone is tried, however long it is.
        let fits = written.waiting == 0 || written.waiting_bytes + bytes <= WAITING_BYTES;
        let sent = line.filter(|_| fits).zip(self.lines.as_ref());
        // Still locked: the thread takes nothing off the counts before it is in them.
        if sent.is_some_and(|(line, lines)| lines.try_send(line).is_ok()) {
            written.waiting += 1;
            written.waiting_bytes += bytes;
        } else {
            written.lost += 1;
        }
    }

    /// How the file fares.
    pub fn written(&self) -> Written {
        lock(&self.written).clone()
    }

    /// All lines, oldest first, and how many could not be read (a torn one after a crash).
    ///
    /// # Errors
    /// A file exists but can't be read.
    pub fn read(path: &Path) -> Result<(Vec<Line>, usize), Error> {
        let (mut lines, mut torn) = (Vec::new(), 0);
        for (path, file) in Self::files(path)? {
            let (more, cut) = Self::lines(BufReader::new(file)).map_err(unreadable(&path))?;
            lines.extend(more);
            torn += cut;
        }
        Ok((lines, torn))
    }

    /// The files that are there, the oldest lines first.
    ///
    /// # Errors
    /// A file exists but can't be read.
    pub fn files(path: &Path) -> Result<Vec<(PathBuf, File)>, Error> {
        let mut found = Vec::new();
        for path in [rotated(path), path.to_owned()] {
            match File::open(&path) {
                Ok(file) => found.push((path, file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(unreadable(&path)(error)),
            }
        }
        Ok(found)
    }

    /// Lines as they were written, and how many could not be read.
    ///
    /// # Errors
    /// The reader's.
    pub fn lines(reader: impl BufRead) -> io::Result<(Vec<Line>, usize)> {
        let (mut lines, mut torn) = (Vec::new(), 0);
        for bytes in reader.split(b'\n') {
            let bytes = bytes?;
            match serde_json::from_slice(&bytes) {
                Ok(line) => lines.push(line),
                Err(_) if bytes.is_empty() => {}
                Err(_) => torn += 1,
            }
        }
        Ok((lines, torn))
    }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    Error::io(format!("can't read the ledger {}", path.display()))
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
        drop(self.lines.take());
        // A disk that doesn't come back keeps what is left, and nobody.
        let _ = self.ended.recv_timeout(FLUSH);
    }
}

fn lock(written: &Mutex<Written>) -> MutexGuard<'_, Written> {
    written.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the thread works with.
struct Writer {
    path: PathBuf,
    /// None where it could not be opened yet.
    file: Option<File>,
    /// All whole lines.
    bytes: u64,
    bytes_max: u64,
    /// At most [`BATCH`]: the others wait in the queue, whose room is the limit.
    waiting: Vec<Vec<u8>>,
    written: Arc<Mutex<Written>>,
    ending: Arc<AtomicBool>,
}

impl Writer {
    fn run(mut self, queue: &Receiver<Vec<u8>>) {
        loop {
            if self.waiting.is_empty() {
                let next = match self.file {
                    Some(_) => queue.recv().map_err(RecvTimeoutError::from),
                    // It is opened once it can be, whether there is a line for it or not.
                    None => queue.recv_timeout(RETRY),
                };
                match next {
                    Ok(line) => self.waiting.push(line),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            let room = BATCH.saturating_sub(self.waiting.len());
            self.waiting.extend(queue.try_iter().take(room));
            if !self.write() {
                if self.ending.load(Ordering::Acquire) {
                    return;
                }
                thread::sleep(RETRY);
            }
        }
    }

    /// Opens the file, where that isn't done, and writes what waits, in one piece; false where it goes on
    /// waiting.
    fn write(&mut self) -> bool {
        let count = self.waiting.len();
        let bytes: usize = self.waiting.iter().map(Vec::len).sum();
        let done = self.try_write();
        match &self.file {
            // Half a line on a full disk would join the next one.
            Some(file) if done.is_err() => drop(file.set_len(self.bytes)),
            _ if done.is_err() => {}
            _ => self.waiting.clear(),
        }
        let mut written = lock(&self.written);
        if done.is_ok() {
            written.waiting = written.waiting.saturating_sub(count);
            written.waiting_bytes = written.waiting_bytes.saturating_sub(bytes);
        }
        let ok = done.is_ok();
        written.failure = done.err().map(|why| why.to_string());
        ok
    }

    fn open(&mut self) -> Result<(), Error> {
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent)
                .map_err(Error::io(format!("can't make {}", parent.display())))?;
        }
        let mut file = open(&self.path)?;
        let (bytes, healed) = append::heal(&mut file).map_err(self.failed("read"))?;
        (self.file, self.bytes) = (Some(file), bytes);
        lock(&self.written).healed = healed;
        Ok(())
    }

    fn try_write(&mut self) -> Result<(), Error> {
        if self.file.is_none() {
            self.open()?;
        }
        // Whoever opened it reads both files first: without a line to write it is not rotated.
        if self.waiting.is_empty() {
            return Ok(());
        }
        // Without room for a new file the old one goes on, up to twice its length.
        if self.bytes >= self.bytes_max
            && let Err(why) = self.rotate()
            && self.bytes / 2 >= self.bytes_max
        {
            return Err(why);
        }
        let bytes = self.waiting.concat();
        if let Some(mut file) = self.file.as_ref() {
            file.write_all(&bytes).map_err(self.failed("write"))?;
            file.sync_data().map_err(self.failed("sync"))?;
            self.bytes += bytes.len() as u64;
        }
        Ok(())
    }

    /// The new file is made before the old one is moved: there is always one for the next run to open.
    fn rotate(&mut self) -> Result<(), Error> {
        let new = self.path.with_extension("new");
        let file = open(&new)?;
        match fs::rename(&self.path, rotated(&self.path)) {
            // Somebody took it away, or an earlier try came no further.
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            moved => moved.map_err(self.failed("rotate"))?,
        }
        fs::rename(&new, &self.path).map_err(self.failed("rotate"))?;
        (self.file, self.bytes) = (Some(file), 0);
        Ok(())
    }

    fn failed(&self, verb: &str) -> impl FnOnce(io::Error) -> Error + use<> {
        Error::io(format!("can't {verb} the ledger {}", self.path.display()))
    }
}

/// Where the ledger of this path goes when it is full.
pub fn rotated(path: &Path) -> PathBuf {
    path.with_extension("1")
}

fn open(path: &Path) -> Result<File, Error> {
    append::open(path).map_err(Error::io(format!("can't open the ledger {}", path.display())))
}

#[cfg(test)]
mod tests;
