//! The ledger: one JSON line a decision, with its reason, appended and synced before it is reported.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use hedgerow_event::{Mode, Remediation, Rule, Target};
use serde::{Deserialize, Serialize};

use crate::{Error, hold::Hold};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Wall time, Unix nanoseconds.
    pub time_ns: i64,
    /// Entries of another boot are gone.
    pub boot_id: String,
    #[serde(flatten)]
    pub decision: Decision,
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
    /// An entry in the kernel that no line explains was removed.
    Foreign { id: u64 },
}

/// Append-only file of [`Line`]s, mode 0600. Past `bytes_max` it is renamed to `NAME.1` (which is
/// replaced) and begun anew: between one and two times `bytes_max` of history remain.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
}

impl Ledger {
    /// Opens or makes the file. A last line that a crash cut short is closed, so that the next one
    /// starts on its own.
    ///
    /// # Errors
    /// The file, or its directory, can't be made or written.
    pub fn open(path: &Path, bytes_max: u64) -> Result<Self, Error> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .map_err(Error::io(format!("can't make {}", parent.display())))?;
        }
        let mut ledger = Self {
            path: path.to_owned(),
            file: open(path)?,
            bytes: 0,
            bytes_max: bytes_max.max(1),
        };
        let content = fs::read(path).map_err(ledger.failed("read"))?;
        ledger.bytes = content.len() as u64;
        if content.last().is_some_and(|byte| *byte != b'\n') {
            ledger.write(b"\n")?;
        }
        Ok(ledger)
    }

    /// Appends a line and syncs it.
    ///
    /// # Errors
    /// The file can't be written: the disk is full, or was taken away.
    pub fn append(&mut self, line: &Line) -> Result<(), Error> {
        if self.bytes >= self.bytes_max {
            let old = self.path.with_extension("1");
            fs::rename(&self.path, old).map_err(self.failed("rotate"))?;
            self.file = open(&self.path)?;
            self.bytes = 0;
        }
        let mut bytes = serde_json::to_vec(line)
            .map_err(|error| self.failed("encode a line for")(error.into()))?;
        bytes.push(b'\n');
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(self.failed("write"))?;
        self.file.sync_data().map_err(self.failed("sync"))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn failed(&self, verb: &str) -> impl FnOnce(std::io::Error) -> Error + use<> {
        Error::io(format!("can't {verb} the ledger {}", self.path.display()))
    }

    /// All lines, oldest first, and how many could not be read (a torn one after a crash).
    ///
    /// # Errors
    /// A file exists but can't be read.
    pub fn read(path: &Path) -> Result<(Vec<Line>, usize), Error> {
        let (mut lines, mut torn) = (Vec::new(), 0);
        for path in [path.with_extension("1"), path.to_owned()] {
            let failed = || Error::io(format!("can't read the ledger {}", path.display()));
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed()(error)),
            };
            for bytes in BufReader::new(file).split(b'\n') {
                let bytes = bytes.map_err(failed())?;
                match serde_json::from_slice(&bytes) {
                    Ok(line) => lines.push(line),
                    Err(_) if bytes.is_empty() => {}
                    Err(_) => torn += 1,
                }
            }
        }
        Ok((lines, torn))
    }
}

fn open(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::io(format!("can't open the ledger {}", path.display())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn line(time_ns: i64) -> Line {
        let target = Target::Peer {
            address: "192.0.2.1".parse().unwrap(),
            prefix_length: 32,
            cgroup_id: 7,
            program_id: 9,
        };
        let reason = "it is the gateway".to_owned();
        let decision =
            Decision::Refuse { target, rule: Rule::NewProgramNewPeer, finding_uid: None, reason };
        Line { time_ns, boot_id: "b".into(), decision }
    }

    #[test]
    fn lines_survive_a_torn_one_and_the_file_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.jsonl");
        Ledger::open(&path, 1 << 20).unwrap().append(&line(1)).unwrap();
        let whole = fs::read(&path).unwrap();
        let mut torn = whole.clone();
        torn.extend(&whole[..20]);
        fs::write(&path, torn).unwrap();
        Ledger::open(&path, 1 << 20).unwrap().append(&line(2)).unwrap();
        let (lines, unread) = Ledger::read(&path).unwrap();
        assert_eq!(lines, [line(1), line(2)]);
        assert_eq!(unread, 1);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn its_size_is_capped_by_rotation() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.jsonl");
        let mut ledger = Ledger::open(&path, 1000).unwrap();
        for time in 0..100 {
            ledger.append(&line(time)).unwrap();
        }
        let (lines, _) = Ledger::read(&path).unwrap();
        assert_eq!(lines.last(), Some(&line(99)));
        assert!(lines.windows(2).all(|pair| pair[0].time_ns + 1 == pair[1].time_ns));
        let size: u64 = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!((1000..3000).contains(&size), "{size}");
    }
}
