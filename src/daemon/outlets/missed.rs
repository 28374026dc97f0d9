//! What the ledger holds and no sink was given: a daemon that is killed between a decision and its
//! report leaves it, and the next one sends it.
//!
//! A mark in the state directory names the last remediation that the sinks were given. What the ledger
//! has behind it is sent again, with the uid that it had. A mark that can't be written is tried again.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use hedgerow_event::Remediation;
use hedgerow_responder::ledger::{Decision, Ledger, Line};

/// Name of the mark in the state directory.
const MARK: &str = "reported";
/// A mark is filled up to this, so that one write in its place replaces all of it, on a full disk, too.
const MARK_BYTES: usize = 256;

#[derive(Debug)]
pub struct Mark {
    path: PathBuf,
    file: Option<File>,
    /// What it is to name, and doesn't yet.
    due: Option<String>,
    failure: Option<String>,
}

impl Mark {
    /// The mark, and the uid that it names; none where no daemon had sinks.
    fn read(state: &Path) -> io::Result<(Self, Option<String>)> {
        let mut mark = Self { path: state.join(MARK), file: None, due: None, failure: None };
        let file = match open(&mark.path, false) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok((mark, None)),
            file => file?,
        };
        let mut text = Vec::new();
        (&file).take(MARK_BYTES as u64).read_to_end(&mut text)?;
        mark.file = Some(file);
        // A disk that was full took the file, and nothing in it.
        let named = (!text.is_empty()).then(|| String::from_utf8_lossy(&text).trim().to_owned());
        Ok((mark, named))
    }

    /// Nothing is synced: after a power cut more is sent again, and nothing less.
    pub fn set(&mut self, uid: String) {
        self.due = Some(uid);
        self.retry();
    }

    /// Writes what is due.
    pub fn retry(&mut self) {
        let Some(uid) = self.due.take() else { return };
        self.failure = self.write(&uid).err().map(|why| format!("{}: {why}", self.path.display()));
        self.due = self.failure.is_some().then_some(uid);
    }

    fn write(&mut self, uid: &str) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(open(&self.path, true)?),
        };
        let line = format!("{uid:<width$}\n", width = MARK_BYTES - 1);
        file.write_all_at(line.as_bytes(), 0)
    }

    /// Why it does not name what it should.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(create).truncate(false).read(true).write(true).mode(0o600);
    options.custom_flags(libc::O_NOFOLLOW).open(path)
}

/// The mark, and what an earlier daemon decided and didn't hand over, oldest first: at most `most`, the
/// newest. Where no daemon had sinks, nothing.
pub fn read(state: &Path, ledger: &Path, most: usize) -> anyhow::Result<(Mark, Vec<Remediation>)> {
    let (lines, _torn) = Ledger::read(ledger)?;
    let (mut mark, uid) = Mark::read(state)?;
    let missed = match uid {
        Some(uid) => behind(&lines, &uid, most),
        None => {
            let last = lines.iter().rev().find_map(reported);
            mark.set(last.map(Remediation::report_uid).unwrap_or_default());
            Vec::new()
        }
    };
    Ok((mark, missed))
}

/// What is to be reported of the lines behind that of this uid.
fn behind(lines: &[Line], uid: &str, most: usize) -> Vec<Remediation> {
    let undone: HashSet<&str> = lines.iter().filter_map(|line| line.decision.undone()).collect();
    let newest = lines.iter().rev().filter_map(reported);
    let newest = newest.filter(|told| !undone.contains(&*told.uid));
    let mut missed: Vec<Remediation> =
        newest.take_while(|told| told.report_uid() != uid).take(most).cloned().collect();
    missed.reverse();
    missed
}

fn reported(line: &Line) -> Option<&Remediation> {
    match &line.decision {
        Decision::Block { entry, .. }
        | Decision::Extend { entry, .. }
        | Decision::Unblock { entry } => Some(entry),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hedgerow_event::Action;
    use hedgerow_lab::Disk;
    use hedgerow_responder::ledger::NOT_INSTALLED;

    use super::{super::killed::decided, *};

    #[test]
    fn what_is_behind_the_mark_is_missed_the_newest_of_too_much_and_nothing_at_first() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("ledger.jsonl");
        let append = |numbers: std::ops::Range<u32>| {
            let ledger = Ledger::open(&path, 1 << 20).unwrap();
            numbers.for_each(|number| ledger.append(&decided(number).0));
        };
        let missed = |most| {
            let (mark, missed) = read(home.path(), &path, most).unwrap();
            (mark, missed.iter().map(Remediation::report_uid).collect::<Vec<_>>())
        };
        let uids = |numbers: std::ops::Range<u32>| -> Vec<String> {
            numbers.map(|number| decided(number).1.report_uid()).collect()
        };
        append(0..3);
        // As a disk that was full leaves it.
        std::fs::write(home.path().join(MARK), "").unwrap();
        assert!(missed(10).1.is_empty(), "there were no sinks");
        append(3..6);
        let (mut mark, told) = missed(10);
        assert_eq!(told, uids(3..6));
        mark.set(uids(4..5)[0].clone());
        assert_eq!(missed(10).1, uids(5..6));
        // A mark that is in no line any more.
        mark.set("x".into());
        assert_eq!(missed(2).1, uids(4..6));
        // An entry that never stood was no block.
        append(6..7);
        let (mut line, mut entry) = decided(6);
        entry.action = Action::Unblock;
        NOT_INSTALLED.clone_into(&mut entry.reason);
        line.decision = Decision::Unblock { entry };
        Ledger::open(&path, 1 << 20).unwrap().append(&line);
        assert_eq!(missed(2).1, uids(4..6));
    }

    #[test]
    fn a_mark_that_can_not_be_made_is_made_later_and_names_what_was_handed_over_last() {
        // The directory itself is one.
        let disk = Disk::mount("mode=700,nr_inodes=1").unwrap();
        let ledger = disk.path().join("ledger.jsonl");
        let (mut mark, missed) = read(disk.path(), &ledger, 10).unwrap();
        assert!(missed.is_empty() && mark.failure().unwrap().contains(MARK));
        mark.set("first".into());
        mark.set("second".into());
        mark.retry();
        assert!(mark.failure().is_some());
        disk.remount("nr_inodes=2").unwrap();
        mark.retry();
        assert_eq!(mark.failure(), None);
        assert_eq!(Mark::read(disk.path()).unwrap().1.unwrap(), "second");
    }
}
