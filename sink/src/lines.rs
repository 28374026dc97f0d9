//! Files of JSON lines, one value a line: rotated, capped, and patient with a full disk.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hedgerow_event::gate;
use hedgerow_hostfile::append;
use serde::Serialize;

use crate::SinkError;

/// When a file is rotated and how many old ones are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// A line that would make the file larger goes to a new one.
    pub file_bytes: u64,
    /// Old files kept as `NAME.1` (the latest) to `NAME.N`; older ones are deleted.
    pub keep: u32,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { file_bytes: 64 << 20, keep: 4 }
    }
}

/// A file of lines, 0600. Each line is one `write`, so that a reader that follows the file sees whole ones.
#[derive(Debug)]
pub struct LineFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    healed: u64,
    rotation: Rotation,
}

impl LineFile {
    /// Appends to `path`, which is no link. A line that an earlier run left half written is taken away
    /// first, which works on a full disk, too, so that it spoils no other.
    pub fn open(path: &Path, rotation: Rotation) -> Result<Self, SinkError> {
        let mut file = append::open(path).map_err(SinkError::io(path))?;
        let (bytes, healed) = append::heal(&mut file).map_err(SinkError::io(path))?;
        Ok(Self { path: path.to_owned(), file, bytes, healed, rotation })
    }

    /// Writes one value as one line.
    pub fn write(&mut self, value: &impl Serialize) -> Result<(), SinkError> {
        let mut line = gate::json(value)?.into_bytes();
        line.push(b'\n');
        self.write_line(&line)
    }

    /// Writes a line that ends with its newline.
    fn write_line(&mut self, line: &[u8]) -> Result<(), SinkError> {
        let with_it = self.bytes + line.len() as u64;
        if self.bytes > 0 && with_it > self.rotation.file_bytes {
            match rotate(&self.path, self.rotation.keep) {
                Ok(new) => (self.file, self.bytes) = (new, 0),
                Err(error) if with_it / 2 > self.rotation.file_bytes => {
                    return Err(SinkError::io(&self.path)(error));
                }
                // There is no room for a new file: the old one goes on, up to twice its length.
                Err(_) => {}
            }
        }
        if let Err(error) = self.file.write_all(line) {
            // Half a line on a full disk would join the next one.
            let _ = self.file.set_len(self.bytes);
            return Err(SinkError::io(&self.path)(error));
        }
        self.bytes += line.len() as u64;
        Ok(())
    }
}

/// Lines that wait in memory for room on the disk, and their bytes: whom a line is about chose much of how
/// long it is. Full: what comes is counted as lost.
pub const WAITING_MAX: usize = 2048;
pub const WAITING_BYTES: usize = 16 << 20;

/// How much of that is for a line: the last quarter is for what somebody is told of, and for decisions.
pub(crate) fn room(most: usize, is_listed: bool) -> usize {
    if is_listed { most / 4 * 3 } else { most }
}

/// A file that could not be written is tried again after this time.
const RETRY: Duration = Duration::from_secs(1);

/// A file whose lines wait in memory while the disk takes none, and while it can't be opened.
#[derive(Debug)]
pub struct PatientLines {
    path: PathBuf,
    rotation: Rotation,
    /// None where it could not be opened yet.
    file: Option<LineFile>,
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    tried: Instant,
    written: u64,
    lost: u64,
    failure: Option<String>,
}

impl PatientLines {
    /// A file that can't be opened is tried again like one that can't be written.
    #[must_use]
    pub fn new(path: &Path, rotation: Rotation) -> Self {
        let mut lines = Self {
            path: path.to_owned(),
            rotation,
            file: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            tried: Instant::now(),
            written: 0,
            lost: 0,
            failure: None,
        };
        lines.flush();
        lines
    }

    /// Bytes of a half-written line that an earlier run left.
    #[must_use]
    pub fn healed(&self) -> u64 {
        self.file.as_ref().map_or(0, |file| file.healed)
    }

    /// Writes a value behind those that wait; false where it found no room in memory either. What is only
    /// listed leaves the last quarter of that to the rest.
    ///
    /// # Errors
    /// The value can't be encoded.
    pub fn write(&mut self, value: &impl Serialize, is_listed: bool) -> Result<bool, SinkError> {
        Ok(self.write_json(gate::json(value)?.into_bytes(), is_listed))
    }

    /// The same of one line of JSON.
    pub fn write_json(&mut self, mut line: Vec<u8>, is_listed: bool) -> bool {
        line.push(b'\n');
        if !self.has_room(line.len(), is_listed) {
            self.retry();
        }
        if !self.has_room(line.len(), is_listed) {
            self.lost += 1;
            return false;
        }
        self.waiting_bytes += line.len();
        self.waiting.push_back(line);
        if self.waiting.len() == 1 {
            self.flush();
        } else {
            self.retry();
        }
        true
    }

    /// Whether a line of this length may wait. One that is alone may: it is tried at once.
    fn has_room(&self, bytes: usize, is_listed: bool) -> bool {
        let fits = self.waiting_bytes + bytes <= room(WAITING_BYTES, is_listed);
        self.waiting.is_empty() || (fits && self.waiting.len() < room(WAITING_MAX, is_listed))
    }

    /// Opens the file and writes what waits, where the last try is long enough ago.
    pub fn retry(&mut self) {
        let is_done = self.file.is_some() && self.waiting.is_empty();
        if !is_done && self.tried.elapsed() >= RETRY {
            self.flush();
        }
    }

    /// Writes what waits.
    pub fn flush(&mut self) {
        self.tried = Instant::now();
        self.failure = self.try_flush().err().map(|why| why.to_string());
    }

    fn try_flush(&mut self) -> Result<(), SinkError> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(LineFile::open(&self.path, self.rotation)?),
        };
        while let Some(line) = self.waiting.front() {
            file.write_line(line)?;
            self.waiting_bytes -= line.len();
            self.waiting.pop_front();
            self.written += 1;
        }
        Ok(())
    }

    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Their bytes, each with its newline.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Lines that found no room in memory.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Why lines wait, or would.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}

/// Where the file at `path` was moved to so many rotations ago.
pub fn rotated(path: &Path, number: u32) -> PathBuf {
    beside(path, &number.to_string())
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(end);
    name.into()
}

/// Makes a new file, moves every other one number up, as far as there is none missing, the last one away,
/// and puts the new one in the place of the first. It is made before any is moved: where there is no room
/// for it, the others stay where they are.
fn rotate(path: &Path, keep: u32) -> io::Result<File> {
    let is_there = |path: &Path| match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        found => found.map(|_| true),
    };
    let new = beside(path, "new");
    let file = append::open(&new)?;
    if keep > 0 && is_there(path)? {
        let mut free = 1;
        while free < keep && is_there(&rotated(path, free))? {
            free += 1;
        }
        for number in (1..free).rev() {
            fs::rename(rotated(path, number), rotated(path, number + 1))?;
        }
        fs::rename(path, rotated(path, 1))?;
    }
    fs::rename(&new, path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use hedgerow_lab::Disk;

    use super::*;

    fn lines(path: &Path) -> Vec<String> {
        fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_are_appended_over_runs_and_a_torn_one_spoils_no_other() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("findings.jsonl");
        LineFile::open(&path, Rotation::default()).unwrap().write(&1).unwrap();
        append::open(&path).unwrap().write_all(b"{\"half").unwrap();
        let mut sink = LineFile::open(&path, Rotation::default()).unwrap();
        sink.write(&["a\nb"]).unwrap();
        assert_eq!(sink.healed, 6);
        assert_eq!(lines(&path), ["1", r#"["a\nb"]"#]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn lines_wait_for_the_disk_in_order_and_what_finds_no_room_is_counted() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("lines.jsonl");
        let mut lines = PatientLines::new(&path, Rotation { file_bytes: 3, keep: 1 });
        assert!(lines.write(&"full", false).unwrap());
        // The next line is for a new file, and a directory stands in the way of the old one.
        fs::create_dir_all(rotated(&path, 1).join("stays")).unwrap();
        for number in 0..WAITING_MAX {
            assert!(lines.write_json(number.to_string().into_bytes(), false));
        }
        assert!(!lines.write_json(b"more".to_vec(), false));
        assert_eq!((lines.waiting(), lines.lost()), (WAITING_MAX, 1));
        assert!(lines.failure().unwrap().contains("lines.jsonl"));
        fs::remove_dir_all(rotated(&path, 1)).unwrap();
        lines.flush();
        assert_eq!((lines.waiting(), lines.written(), lines.failure()), (0, 2049, None));
        assert_eq!(super::tests::lines(&path), ["2047"]);
    }

    #[test]
    fn a_file_that_can_not_be_opened_is_opened_later() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("later/lines.jsonl");
        let mut lines = PatientLines::new(&path, Rotation::default());
        assert!(lines.failure().unwrap().contains("lines.jsonl"));
        assert!(lines.write(&1, false).unwrap() && lines.write(&2, false).unwrap());
        fs::create_dir(home.path().join("later")).unwrap();
        lines.flush();
        assert_eq!((lines.waiting(), lines.written(), lines.failure()), (0, 2, None));
        assert_eq!(super::tests::lines(&path), ["1", "2"]);
    }

    #[test]
    fn what_is_only_listed_leaves_the_last_quarter_to_the_rest() {
        let home = tempfile::tempdir().unwrap();
        for bytes in [10, 100_000] {
            let mut lines = PatientLines::new(&home.path().join("no/l"), Rotation::default());
            let mut taken = |is_listed| {
                let all = 0..=WAITING_MAX;
                all.filter(|_| lines.write_json(vec![b'1'; bytes], is_listed)).count()
            };
            let all = WAITING_MAX.min(WAITING_BYTES / (bytes + 1));
            let (listed, alerts) = (taken(true), taken(false));
            assert_eq!((listed, listed + alerts), (all * 3 / 4, all), "{bytes} bytes");
        }
    }

    #[test]
    fn few_long_lines_take_no_more_memory_than_many_short_ones() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("lines.jsonl");
        let mut lines = PatientLines::new(&path, Rotation { file_bytes: 1, keep: 1 });
        assert!(lines.write(&1, false).unwrap());
        fs::create_dir_all(rotated(&path, 1).join("stays")).unwrap();
        let long = vec![b'1'; 700_000];
        let taken = (0..WAITING_MAX).filter(|_| lines.write_json(long.clone(), false)).count();
        assert_eq!(taken, WAITING_BYTES / (long.len() + 1));
        assert_eq!((lines.waiting(), lines.lost()), (taken, (WAITING_MAX - taken) as u64));
        fs::remove_dir_all(rotated(&path, 1)).unwrap();
        lines.flush();
        assert_eq!((lines.waiting(), lines.written()), (0, 1 + taken as u64));
        assert!(lines.write_json(long, false), "there is room again");
    }

    #[test]
    fn a_new_file_that_can_not_be_made_costs_none_of_the_others() {
        let disk = Disk::mount("mode=700,size=1m,nr_inodes=32").unwrap();
        let path = disk.path().join("findings.jsonl");
        let rotation = Rotation { file_bytes: 2, keep: 4 };
        let mut sink = LineFile::open(&path, rotation).unwrap();
        (0..3).for_each(|number| sink.write(&number).unwrap());
        let fillers = disk.take_files();
        // The old one goes on, for a while, and who starts meanwhile finds it.
        sink.write(&3).unwrap();
        let mut sink = LineFile::open(&path, rotation).unwrap();
        for _ in 0..6 {
            let why = sink.write(&4).unwrap_err().to_string();
            assert!(why.contains("findings.jsonl"), "{why}");
        }
        assert_eq!(lines(&path), ["2", "3"]);
        fillers.iter().for_each(|filler| fs::remove_file(filler).unwrap());
        sink.write(&4).unwrap();
        let kept = [path.clone(), rotated(&path, 1), rotated(&path, 2), rotated(&path, 3)];
        let kept = kept.map(|path| lines(&path).concat());
        assert_eq!(kept, ["4", "23", "1", "0"]);
    }

    #[test]
    fn rotation_keeps_the_newest_files() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("findings.jsonl");
        let mut sink = LineFile::open(&path, Rotation { file_bytes: 4, keep: 2 }).unwrap();
        for number in 0..8 {
            sink.write(&number).unwrap();
        }
        assert_eq!(lines(&path), ["6", "7"]);
        assert_eq!(lines(&rotated(&path, 1)), ["4", "5"]);
        assert_eq!(lines(&rotated(&path, 2)), ["2", "3"]);
        assert!(!rotated(&path, 3).exists());
        // A line longer than a file gets one of its own.
        sink.write(&"longer than four bytes").unwrap();
        sink.write(&8).unwrap();
        assert_eq!(lines(&path), ["8"]);
    }
}
