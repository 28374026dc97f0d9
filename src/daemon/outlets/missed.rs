//! What the ledger holds and no sink was given: a daemon that is killed between a decision and its
//! report leaves it, and the next one sends it.
//!
//! A mark in the state directory names the last remediation that the sinks were given. What the ledger
//! has behind it is sent again, with the uid that it had.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use hedgerow_event::Remediation;
use hedgerow_responder::ledger::{Decision, Ledger, Line};

/// Name of the mark in the state directory.
const MARK: &str = "reported";
/// A mark is filled up to this, so that one write in its place replaces all of it, on a full disk, too.
const MARK_BYTES: usize = 256;

#[derive(Debug)]
pub struct Mark(File);

impl Mark {
    fn open(state: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).mode(0o600);
        options.custom_flags(libc::O_NOFOLLOW);
        options.open(state.join(MARK)).map(Self)
    }

    fn read(&self) -> io::Result<String> {
        let mut text = String::new();
        (&self.0).take(MARK_BYTES as u64).read_to_string(&mut text)?;
        Ok(text.trim().to_owned())
    }

    /// Nothing is synced: after a power cut more is sent again, and nothing less.
    pub fn set(&self, uid: &str) -> io::Result<()> {
        let line = format!("{uid:<width$}\n", width = MARK_BYTES - 1);
        self.0.write_all_at(line.as_bytes(), 0)
    }
}

/// The mark, and what an earlier daemon decided and didn't hand over, oldest first: at most `most`, the
/// newest. Where no daemon had sinks, nothing.
pub fn read(state: &Path, ledger: &Path, most: usize) -> anyhow::Result<(Mark, Vec<Remediation>)> {
    let is_new = match state.join(MARK).symlink_metadata() {
        Err(why) if why.kind() == ErrorKind::NotFound => true,
        Err(why) => return Err(why.into()),
        Ok(_) => false,
    };
    let (lines, _torn) = Ledger::read(ledger)?;
    let mark = Mark::open(state)?;
    if is_new {
        let last = lines.iter().rev().find_map(reported);
        mark.set(&last.map(Remediation::report_uid).unwrap_or_default())?;
        return Ok((mark, Vec::new()));
    }
    let missed = behind(&lines, &mark.read()?, most);
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
    use hedgerow_responder::ledger::NOT_INSTALLED;

    use super::{super::killed::decided, *};

    #[test]
    fn what_is_behind_the_mark_is_missed_the_newest_of_too_much_and_nothing_at_first() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("ledger.jsonl");
        let append = |numbers: std::ops::Range<u32>| {
            let ledger = Ledger::open(&path, 1 << 20).unwrap();
            numbers.for_each(|number| ledger.append(decided(number).0));
        };
        let missed = |most| {
            let (mark, missed) = read(home.path(), &path, most).unwrap();
            (mark, missed.iter().map(Remediation::report_uid).collect::<Vec<_>>())
        };
        let uids = |numbers: std::ops::Range<u32>| -> Vec<String> {
            numbers.map(|number| decided(number).1.report_uid()).collect()
        };
        append(0..3);
        assert!(missed(10).1.is_empty(), "there were no sinks");
        append(3..6);
        let (mark, told) = missed(10);
        assert_eq!(told, uids(3..6));
        mark.set(&uids(4..5)[0]).unwrap();
        assert_eq!(missed(10).1, uids(5..6));
        // A mark that is in no line any more.
        mark.set("x").unwrap();
        assert_eq!(missed(2).1, uids(4..6));
        // An entry that never stood was no block.
        append(6..7);
        let (mut line, mut entry) = decided(6);
        entry.action = Action::Unblock;
        NOT_INSTALLED.clone_into(&mut entry.reason);
        line.decision = Decision::Unblock { entry };
        Ledger::open(&path, 1 << 20).unwrap().append(line);
        assert_eq!(missed(2).1, uids(4..6));
    }
}
