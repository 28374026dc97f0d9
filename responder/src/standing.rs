//! What an operator ordered and what a week has shown: kept over restarts and reboots in one file.
//!
//! Entries are not in it: nothing that is refused comes back after a reboot by itself. The ledger
//! explains, but it is rotated; an order must not be forgotten with an old line.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use hedgerow_event::{Mode, Target, Workload};
use hedgerow_hostfile::sync_parent;
use serde::{Deserialize, Serialize};

use crate::{By, Error, coverage::Coverage};

const VERSION: u32 = 1;
/// Wrong entries count against their budget for so long: 90 days.
pub const WRONG_PERIOD_NS: i64 = 90 * 24 * 3600 * 1_000_000_000;
/// Wrong entries that are remembered; the oldest go first.
const WRONG_MAX: usize = 1024;

/// An automatic entry of which an operator said that it should never have been made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wrong {
    pub uid: String,
    pub workload: Workload,
    /// When it was said, wall time.
    pub time_ns: i64,
}

/// The file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    version: u32,
    /// Mode of workloads without one of their own; `None` where nobody has said.
    pub mode: Option<Mode>,
    pub modes: BTreeMap<Workload, Mode>,
    /// Addresses that are never refused anywhere. What names a cgroup or a file is of its boot and
    /// stays in the ledger.
    pub allowed: Vec<Target>,
    pub wrong: Vec<Wrong>,
    /// Wrong entries from before this wall time are forgiven.
    pub forgiven_ns: i64,
    pub coverage: Coverage,
    /// Workloads whose breaker has tripped.
    #[serde(default)]
    pub tripped: BTreeSet<Workload>,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            version: VERSION,
            mode: None,
            modes: BTreeMap::new(),
            allowed: Vec::new(),
            wrong: Vec::new(),
            forgiven_ns: 0,
            coverage: Coverage::default(),
            tripped: BTreeSet::new(),
        }
    }
}

impl Standing {
    /// Reads the file; what was never written is empty.
    ///
    /// # Errors
    /// It can't be read, or isn't what [`Self::save`] writes: then nothing is guessed.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Error::io(format!("can't read {}", path.display()))(error)),
        };
        let broken = |why: String| Error::Standing { path: path.to_owned(), why };
        let read: Self = serde_json::from_slice(&text).map_err(|why| broken(why.to_string()))?;
        if read.version != VERSION || !read.coverage.is_sound() {
            return Err(broken(format!("version {}, this build has {VERSION}", read.version)));
        }
        Ok(read)
    }

    /// Replaces the file at once and for good: a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// The disk is full, or the directory can't be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let failed = Error::io(format!("can't write {}", path.display()));
        match serde_json::to_vec(self) {
            Ok(text) => replace(path, &text),
            Err(why) => Err(failed(why.into())),
        }
    }

    /// Wrong entries that count now.
    pub fn wrong_now(&self, now_wall_ns: i64) -> usize {
        let counts = |wrong: &&Wrong| {
            wrong.time_ns > self.forgiven_ns
                && now_wall_ns.saturating_sub(wrong.time_ns) < WRONG_PERIOD_NS
        };
        self.wrong.iter().filter(counts).count()
    }

    /// The mode of workloads without one of their own: what an operator set, or less where this run
    /// was started with less, or with nothing set what it was started with, or `otherwise`. A service's
    /// command line doesn't undo an operator's word at its next restart.
    pub fn default_mode(&self, started_with: Option<Mode>, otherwise: Mode) -> Mode {
        match (started_with, self.mode) {
            (Some(started), Some(said)) => started.min(said),
            (started, said) => said.or(started).unwrap_or(otherwise),
        }
    }

    /// Remembers a wrong entry; false where it was known.
    pub fn add_wrong(&mut self, wrong: Wrong) -> bool {
        if self.wrong.iter().any(|known| known.uid == wrong.uid) {
            return false;
        }
        if self.wrong.len() >= WRONG_MAX {
            self.wrong.remove(0);
        }
        self.wrong.push(wrong);
        true
    }
}

/// Puts a file in another's place: a crash leaves the old one or the new one.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    hedgerow_hostfile::replace(path, content)
        .map_err(Error::io(format!("can't write {}", path.display())))
}

/// A file whose existence says that the kill switch is thrown: written by hand, by `disarm` with the
/// daemon dead, or by the daemon; it outlives pins and reboots.
pub(crate) fn set_marker(path: &Path, there: bool) -> Result<(), Error> {
    let done = if there {
        let made = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        made.and_then(|file| file.sync_all())
    } else {
        match fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done,
        }
    };
    done.and_then(|()| sync_parent(path))
        .map_err(Error::io(format!("can't write {}", path.display())))
}

/// The same, with whose order it was.
pub(crate) fn disarmed_by(path: &Path, by: By) -> Result<(), Error> {
    let content = serde_json::to_vec(&by).map_err(|_| Error::Malformed("whose order it was"))?;
    replace(path, &content)
}

/// Whose order `disarm` was; `None` where nobody wrote it down.
pub(crate) fn who_disarmed(path: &Path) -> Option<By> {
    const BYTES_MAX: u64 = 4096;
    let mut content = Vec::new();
    File::open(path).ok()?.take(BYTES_MAX).read_to_end(&mut content).ok()?;
    serde_json::from_slice(&content).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn wrong(uid: &str, time_ns: i64) -> Wrong {
        Wrong { uid: uid.into(), workload: Workload::new("web"), time_ns }
    }

    #[test]
    fn a_start_undoes_no_operators_word() {
        let after = |said, started| {
            Standing { mode: said, ..Standing::default() }.default_mode(started, Mode::Monitor)
        };
        assert_eq!(after(Some(Mode::Observe), Some(Mode::Enforce)), Mode::Observe);
        assert_eq!(after(Some(Mode::Enforce), Some(Mode::Observe)), Mode::Observe);
        assert_eq!(after(Some(Mode::Enforce), None), Mode::Enforce);
        assert_eq!(after(None, Some(Mode::Enforce)), Mode::Enforce);
        assert_eq!(after(None, None), Mode::Monitor);
    }

    #[test]
    fn what_is_saved_is_read_back_and_a_torn_file_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("responder.json");
        assert_eq!(Standing::load(&path).unwrap(), Standing::default());
        let mut standing = Standing { mode: Some(Mode::Monitor), ..Standing::default() };
        standing.modes.insert(Workload::new("web"), Mode::Enforce);
        standing.coverage.watch(495_000 * 3_600_000_000_000, 5, [&Workload::new("web")], |_| false);
        standing.add_wrong(wrong("u", 5));
        standing.tripped.insert(Workload::new("web"));
        standing.save(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        let read = Standing::load(&path).unwrap();
        assert_eq!(serde_json::to_vec(&read).unwrap(), whole);
        assert_eq!((&read.modes, &read.tripped), (&standing.modes, &standing.tripped));
        for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..cut]).unwrap();
            let refused = Standing::load(&path).unwrap_err().to_string();
            assert!(refused.contains("responder.json"), "{refused}");
        }
        let text = String::from_utf8(whole).unwrap();
        for (from, to) in [("\"version\":1", "\"version\":2"), ("\"mode\"", "\"mood\"")] {
            fs::write(&path, text.replacen(from, to, 1)).unwrap();
            assert!(Standing::load(&path).is_err(), "{to}");
        }
    }

    #[test]
    fn wrong_entries_count_once_for_ninety_days_and_until_they_are_forgiven() {
        let mut standing = Standing::default();
        assert!(standing.add_wrong(wrong("a", 100)));
        assert!(!standing.add_wrong(wrong("a", 200)), "said twice of one entry");
        assert!(standing.add_wrong(wrong("b", 300)));
        assert_eq!(standing.wrong_now(400), 2);
        assert_eq!(standing.wrong_now(200 + WRONG_PERIOD_NS), 1);
        assert_eq!(standing.wrong_now(300 + WRONG_PERIOD_NS), 0);
        standing.forgiven_ns = 100;
        assert_eq!(standing.wrong_now(400), 1);
    }
}
