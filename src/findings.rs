//! The log of findings: its name, and its reader.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{BufRead, BufReader, ErrorKind, Read},
    path::{Path, PathBuf},
};

use anyhow::Context;
use hedgerow_event::{Activity, Finding};
use hedgerow_sink::rotated;
use serde::Deserialize;

use crate::exit::Failure;

/// Name of the log in the state directory.
pub const FINDINGS: &str = "findings.jsonl";
/// A longer line is none that Hedgerow wrote.
pub const LINE_BYTES_MAX: u64 = 1 << 20;
/// Files that a daemon looks into for what was left open: the newest, and one that was rotated away
/// just before.
const FILES_OF_LATE: usize = 2;
/// Findings that are closed for an earlier daemon, and bytes of what was said of them last: whom one is
/// about chose much of how long it is. Past them the oldest stay open.
const LEFT_OPEN_MAX: usize = 1024;
const LEFT_OPEN_BYTES: usize = 16 << 20;

/// The log of a daemon with this state directory.
pub fn path(state: &Path) -> PathBuf {
    state.join(FINDINGS)
}

/// Reads the log with the older files that were rotated away, oldest first; a line that a crash cut
/// short is passed over.
pub fn read(state: &Path) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    // All are open before any is read: what is rotated meanwhile is read where it was.
    for (path, file) in files(&path(state))?.into_iter().rev() {
        let mut reader = BufReader::new(file);
        while let Some(line) = next_line(&mut reader, &path)? {
            findings.extend(serde_json::from_slice(&line));
        }
    }
    Ok(findings)
}

/// The last reports of cases that are open, the oldest first.
#[derive(Default)]
struct Open {
    numbers: HashMap<String, u64>,
    reports: BTreeMap<u64, (String, Vec<u8>)>,
    bytes: usize,
}

impl Open {
    fn close(&mut self, uid: &str) {
        let number = self.numbers.remove(uid);
        let report = number.and_then(|number| self.reports.remove(&number));
        self.bytes -= report.map_or(0, |(_, line)| line.len());
    }

    fn report(&mut self, number: u64, uid: String, line: Vec<u8>) {
        self.close(&uid);
        self.bytes += line.len();
        self.numbers.insert(uid.clone(), number);
        self.reports.insert(number, (uid, line));
        while self.reports.len() > LEFT_OPEN_MAX || self.bytes > LEFT_OPEN_BYTES {
            let Some((uid, _)) = self.reports.values().next() else { break };
            let oldest = uid.clone();
            self.close(&oldest);
        }
    }
}

/// The closes that an earlier daemon owes, oldest first: it was killed, or what it told is of no case
/// that ends. Who keeps incidents would have them open for ever.
pub fn left_open(state: &Path, now_ns: i64) -> anyhow::Result<impl Iterator<Item = Finding>> {
    #[derive(Deserialize)]
    struct Head {
        uid: String,
        activity: Activity,
    }
    let mut open = Open::default();
    let mut number = 0;
    let files = files(&path(state))?;
    for (path, file) in files.into_iter().take(FILES_OF_LATE).rev() {
        let mut reader = BufReader::new(file);
        while let Some(line) = next_line(&mut reader, &path)? {
            let Ok(head) = serde_json::from_slice::<Head>(&line) else { continue };
            number += 1;
            match head.activity {
                Activity::Close => open.close(&head.uid),
                _ => open.report(number, head.uid, line),
            }
        }
    }
    let reports = open.reports.into_values();
    let reports = reports.flat_map(|(_, line)| serde_json::from_slice::<Finding>(&line));
    Ok(reports.map(move |last| Finding {
        activity: Activity::Close,
        first_alert: Some(false),
        sequence: last.sequence.saturating_add(1),
        time_ns: now_ns,
        ..last
    }))
}

/// The file at `path`, then those that it was rotated to, as far as there are any.
pub fn files(path: &Path) -> anyhow::Result<Vec<(PathBuf, File)>> {
    let mut found = Vec::new();
    for number in 0.. {
        let one = if number == 0 { path.to_owned() } else { rotated(path, number) };
        match File::open(&one) {
            Ok(file) => found.push((one, file)),
            // The newest may be missing for a moment, while it is rotated.
            Err(why) if why.kind() == ErrorKind::NotFound && number == 0 => {}
            Err(why) if why.kind() == ErrorKind::NotFound => break,
            Err(why) => {
                let why = anyhow::Error::from(why).context(format!("can't read {}", one.display()));
                return Err(Failure::file(why).into());
            }
        }
    }
    Ok(found)
}

/// The next line, or a part of one that is too long; `None` at the end, and for a line that is still
/// being written.
fn next_line(reader: &mut impl BufRead, path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
    read.with_context(|| path.display().to_string()).map_err(Failure::file)?;
    let whole = line.ends_with(b"\n") || line.len() as u64 == LINE_BYTES_MAX;
    Ok(Some(line).filter(|_| whole))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rotated_files_are_read_oldest_first_up_to_the_first_that_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let log = path(directory.path());
        assert!(files(&log).unwrap().is_empty());
        for number in ["", ".1", ".2", ".4"] {
            std::fs::write(format!("{}{number}", log.display()), number).unwrap();
        }
        let mut said = Vec::new();
        for (_, mut file) in files(&log).unwrap().into_iter().rev() {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            said.push(text);
        }
        assert_eq!(said, [".2", ".1", ""]);
        std::fs::remove_file(&log).unwrap();
        assert_eq!(files(&log).unwrap().len(), 2);
    }

    fn write(path: &Path, reports: &[Finding]) {
        let lines = reports.iter().map(|report| serde_json::to_string(report).unwrap() + "\n");
        std::fs::write(path, lines.collect::<String>()).unwrap();
    }

    #[test]
    fn what_nobody_closed_is_closed_once_with_what_was_said_last() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path();
        let left_open = |now_ns| left_open(state, now_ns).unwrap().collect::<Vec<Finding>>();
        assert!(left_open(9).is_empty());
        let told = |uid: &str, activity, sequence| Finding {
            uid: uid.to_owned(),
            activity,
            sequence,
            ..crate::daemon::example_finding("w", "", 0)
        };
        let rotated = PathBuf::from(format!("{}.1", path(state).display()));
        write(&rotated, &[told("old", Activity::Create, 0), told("both", Activity::Create, 0)]);
        let mut newest = vec![
            told("over", Activity::Create, 0),
            told("both", Activity::Update, 1),
            told("over", Activity::Close, 1),
        ];
        write(&path(state), &newest);
        let mut torn = std::fs::read(path(state)).unwrap();
        torn.extend(b"{\"uid\":\"torn\",\"act");
        std::fs::write(path(state), torn).unwrap();
        let closes = left_open(9);
        let said: Vec<(&str, Activity, u32, i64)> = closes
            .iter()
            .map(|close| (&*close.uid, close.activity, close.sequence, close.time_ns))
            .collect();
        assert_eq!(said, [("old", Activity::Close, 1, 9), ("both", Activity::Close, 2, 9)]);

        newest.extend(closes);
        write(&path(state), &newest);
        assert!(left_open(10).is_empty(), "they are closed");

        let many: Vec<Finding> =
            (0..LEFT_OPEN_MAX + 8).map(|n| told(&n.to_string(), Activity::Create, 0)).collect();
        write(&path(state), &many);
        std::fs::remove_file(&rotated).unwrap();
        let closes = left_open(9);
        assert_eq!((closes.len(), &*closes[0].uid), (LEFT_OPEN_MAX, "8"));

        let long = |n: usize| Finding {
            reason: "a".repeat(1 << 19),
            ..told(&n.to_string(), Activity::Create, 0)
        };
        write(&path(state), &(0..40).map(long).collect::<Vec<_>>());
        let closes = left_open(9);
        assert_eq!((closes.len(), &*closes[30].uid), (31, "39"), "31 fit into 16 MiB");
    }
}
