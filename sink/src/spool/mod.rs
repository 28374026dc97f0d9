//! What waits on disk for a broker: records in order, each kept until its delivery is confirmed.
//!
//! A spool is a directory (0700) of numbered segments (0600). A record is appended before it is
//! sent; a segment goes when all of its records are confirmed. The records of a topic are read in the
//! order of appending, over restarts too. When the limit is reached the newest record is refused and the
//! oldest are kept: how an incident began is worth more than how it went on.

mod patient;
mod segment;

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::fd::AsRawFd,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hedgerow_hostfile::{own, replace};
pub use patient::PatientSpool;
use segment::Segment;

use crate::{SinkError, message::Topic};

/// A segment is closed when it reaches this size.
pub const SEGMENT_BYTES: u64 = 1 << 20;
/// The smallest useful limit of a spool.
pub const SPOOL_BYTES_LEAST: u64 = 4096;

/// Whoever holds the lock may have let it go for good, but for a child of his that is on its way to
/// exec: after this the spool is busy.
const LOCK_WAIT: Duration = Duration::from_secs(1);
const LOCK_POLL: Duration = Duration::from_millis(10);

/// When appended records are forced to the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fsync {
    /// Once per batch of appended records; survives a power cut.
    #[default]
    Always,
    /// Never; survives a crash of the process, not of the machine.
    Never,
}

/// Names a record: its segment and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordId {
    segment: u64,
    index: usize,
}

/// What an earlier run left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Records that wait for delivery.
    pub records: u64,
    /// Bytes of torn or damaged records, cut off.
    pub torn_bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    limit_bytes: u64,
    fsync: Fsync,
    segments: VecDeque<Segment>,
    next_number: u64,
    /// Where the next record of each topic is looked for.
    cursors: [RecordId; Topic::ALL.len()],
    /// A segment was created since the last sync, so that the directory needs one too.
    created: bool,
    _lock: File,
}

impl Spool {
    /// Opens the spool, creating it if need be, and cuts off what a crash left half written.
    ///
    /// # Errors
    /// When the directory can't be used, others can change what lies in it, or another process has it open.
    pub fn open(
        directory: &Path,
        limit_bytes: u64,
        fsync: Fsync,
    ) -> Result<(Self, Recovered), SinkError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(SinkError::io(directory))?;
        // Its records are sent as this host's, and its segments are cut.
        own::unchangeable(directory, own::user()).map_err(|why| {
            SinkError::io(directory)(io::Error::new(io::ErrorKind::PermissionDenied, why))
        })?;
        let lock = lock(directory)?;
        let mut recovered = Recovered::default();
        let mut segments = VecDeque::new();
        for (number, path) in segment_files(directory)? {
            let (segment, torn_bytes) = Segment::open(number, path)?;
            recovered.torn_bytes += torn_bytes;
            segments.push_back(segment);
        }
        let next_number = segments.back().map_or(1, |last| last.number + 1);
        let mut spool = Self {
            directory: directory.to_owned(),
            limit_bytes,
            fsync,
            segments,
            next_number,
            cursors: [RecordId { segment: 0, index: 0 }; Topic::ALL.len()],
            created: false,
            _lock: lock,
        };
        spool.skip_confirmed()?;
        recovered.records = spool.waiting();
        Ok((spool, recovered))
    }

    /// Records that are not confirmed.
    pub fn waiting(&self) -> u64 {
        self.segments.iter().map(Segment::waiting).sum()
    }

    /// Bytes on disk, confirmed records of unfinished segments included.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Appends a record. After an error the spool is as it was before.
    pub fn append(&mut self, payload: &[u8]) -> Result<(), SinkError> {
        let frame = segment::frame(payload);
        let held = self.bytes();
        if held + frame.len() as u64 > self.limit_bytes {
            return Err(SinkError::SpoolFull { held, limit: self.limit_bytes });
        }
        if self.segments.back().is_none_or(|last| last.bytes >= SEGMENT_BYTES) {
            let path = self.directory.join(format!("{:016}.spool", self.next_number));
            self.segments.push_back(Segment::create(self.next_number, path)?);
            self.next_number += 1;
            self.created = true;
        }
        let Some(last) = self.segments.back_mut() else { return Ok(()) };
        last.append(&frame)
    }

    /// The same of what gives way to the rest: the last quarter is kept for that.
    pub fn append_listed(&mut self, payload: &[u8]) -> Result<(), SinkError> {
        let (held, limit) = (self.bytes(), self.limit_bytes);
        match held + payload.len() as u64 > limit / 4 * 3 {
            true => Err(SinkError::SpoolKept { held, limit }),
            false => self.append(payload),
        }
    }

    /// Forces what was appended to the disk, as the policy says; call once per batch.
    pub fn sync(&mut self) -> Result<(), SinkError> {
        if self.fsync == Fsync::Never {
            return Ok(());
        }
        // A batch that fills a segment goes on in the next.
        self.segments.iter_mut().try_for_each(Segment::sync)?;
        if self.created {
            File::open(&self.directory)
                .and_then(|directory| directory.sync_all())
                .map_err(SinkError::io(&self.directory))?;
        }
        self.created = false;
        Ok(())
    }

    /// The next record of the topic in order that was not read since the spool was opened. One that
    /// can't be read is given up with the error.
    pub fn read_next(&mut self, topic: Topic) -> Result<Option<(RecordId, Vec<u8>)>, SinkError> {
        let cursor = &mut self.cursors[topic as usize];
        for segment in &self.segments {
            if segment.number < cursor.segment {
                continue;
            }
            let from = if segment.number == cursor.segment { cursor.index } else { 0 };
            let Some(index) = segment.next(topic, from) else {
                *cursor = RecordId { segment: segment.number, index: segment.records() };
                continue;
            };
            *cursor = RecordId { segment: segment.number, index: index + 1 };
            let id = RecordId { segment: segment.number, index };
            let payload = segment.read(index);
            if payload.is_err() {
                // It can't be read later either, and would hold its segment for ever.
                self.confirm(id)?;
            }
            return payload.map(|payload| Some((id, payload)));
        }
        Ok(None)
    }

    /// Confirms a record; its segment goes with its last one.
    pub fn confirm(&mut self, id: RecordId) -> Result<(), SinkError> {
        let Some(place) = self.segments.iter().position(|segment| segment.number == id.segment)
        else {
            return Ok(());
        };
        self.segments[place].confirm(id.index);
        if self.segments[place].waiting() > 0 {
            return Ok(());
        }
        match self.segments.remove(place) {
            Some(done) => fs::remove_file(&done.path).map_err(SinkError::io(&done.path)),
            None => Ok(()),
        }
    }

    /// Notes how far the oldest segment is confirmed, so that the next run doesn't resend it.
    /// All else that is confirmed in a segment of which a record waits is sent again.
    pub fn close(mut self) -> Result<(), SinkError> {
        self.sync()?;
        let Some(first) = self.segments.front() else { return Ok(()) };
        let path = self.directory.join(CONFIRMED_FILE);
        let note = format!("{} {}\n", first.number, first.confirmed_prefix());
        replace(&path, note.as_bytes()).map_err(SinkError::io(&path))
    }

    /// Applies what [`Spool::close`] noted. The note is good for one run only: numbers of segments
    /// are used again once all are gone.
    fn skip_confirmed(&mut self) -> Result<(), SinkError> {
        let note = self.directory.join(CONFIRMED_FILE);
        let mut text = String::new();
        let read = own::open(&note, OpenOptions::new().read(true))
            .and_then(|file| file.take(NOTE_BYTES_MAX).read_to_string(&mut text));
        match read {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(SinkError::io(&note)(error));
            }
            _ => {}
        }
        if let Some((number, count)) = text.trim().split_once(' ')
            && let (Ok(segment), Ok(count)) = (number.parse(), count.parse::<usize>())
        {
            let known = self.segments.iter().find(|known| known.number == segment);
            for index in 0..count.min(known.map_or(0, Segment::records)) {
                self.confirm(RecordId { segment, index })?;
            }
        }
        while let Some(place) = self.segments.iter().position(|segment| segment.waiting() == 0) {
            if let Some(empty) = self.segments.remove(place) {
                fs::remove_file(&empty.path).map_err(SinkError::io(&empty.path))?;
            }
        }
        if text.is_empty() { Ok(()) } else { fs::remove_file(&note).map_err(SinkError::io(&note)) }
    }
}

const CONFIRMED_FILE: &str = "confirmed";
/// Two numbers.
const NOTE_BYTES_MAX: u64 = 64;

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600)
}

fn segment_files(directory: &Path) -> Result<Vec<(u64, PathBuf)>, SinkError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(SinkError::io(directory))? {
        let path = entry.map_err(SinkError::io(directory))?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".spool")?.parse::<u64>().ok());
        if let Some(number) = number {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn lock(directory: &Path) -> Result<File, SinkError> {
    let path = directory.join("lock");
    let mut options = OpenOptions::new();
    let file = own::open(&path, private(options.create(true).write(true).truncate(false)))
        .map_err(SinkError::io(&path))?;
    let until = Instant::now() + LOCK_WAIT;
    // SAFETY: flock takes no pointers, and the descriptor is open for as long as `file` lives.
    while unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::WouldBlock {
            return Err(SinkError::io(&path)(error));
        }
        if Instant::now() > until {
            return Err(SinkError::SpoolBusy(directory.to_owned()));
        }
        std::thread::sleep(LOCK_POLL);
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
