//! JSON lines: one value a line, to a file or to standard output.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use hedgerow_event::gate;
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

/// Each line is one `write`, so that a reader that follows the file sees whole lines.
#[derive(Debug)]
pub struct JsonLinesSink(Destination);

#[derive(Debug)]
enum Destination {
    Stdout,
    File { path: PathBuf, file: File, bytes: u64, healed: u64, rotation: Rotation },
}

impl JsonLinesSink {
    #[must_use]
    pub fn stdout() -> Self {
        Self(Destination::Stdout)
    }

    /// Appends to `path` (0600), which is no link. A line that an earlier run left half written is
    /// taken away first, which works on a full disk, too, so that it spoils no other.
    pub fn file(path: &Path, rotation: Rotation) -> Result<Self, SinkError> {
        let mut file = open(path).map_err(SinkError::io(path))?;
        let (bytes, healed) = heal(&mut file).map_err(SinkError::io(path))?;
        Ok(Self(Destination::File { path: path.to_owned(), file, bytes, healed, rotation }))
    }

    /// Bytes that were taken away of a half-written line.
    #[must_use]
    pub fn healed(&self) -> u64 {
        match &self.0 {
            Destination::Stdout => 0,
            Destination::File { healed, .. } => *healed,
        }
    }

    /// Writes one value as one line.
    pub fn write(&mut self, value: &impl Serialize) -> Result<(), SinkError> {
        let mut line = gate::json(value)?.into_bytes();
        line.push(b'\n');
        match &mut self.0 {
            Destination::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(&line)
                    .and_then(|()| out.flush())
                    .map_err(SinkError::io("standard output".as_ref()))
            }
            Destination::File { path, file, bytes, rotation, .. } => {
                if *bytes > 0 && *bytes + line.len() as u64 > rotation.file_bytes {
                    *file = rotate(path, rotation.keep).map_err(SinkError::io(path))?;
                    *bytes = 0;
                }
                if let Err(error) = file.write_all(&line) {
                    // Half a line on a full disk would join the next one.
                    let _ = file.set_len(*bytes);
                    return Err(SinkError::io(path)(error));
                }
                *bytes += line.len() as u64;
                Ok(())
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).read(true).append(true).mode(0o600);
    options.custom_flags(libc::O_NOFOLLOW).open(path)
}

/// Longest line that is looked for at the end of a file that was cut short.
const TORN_MAX: u64 = 16 << 20;

/// Takes a last line without newline away; returns the file's length, and how much went.
fn heal(file: &mut File) -> io::Result<(u64, u64)> {
    let bytes = file.seek(SeekFrom::End(0))?;
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(bytes.saturating_sub(TORN_MAX)))?;
    (&mut *file).take(TORN_MAX).read_to_end(&mut end)?;
    let whole = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let torn = (end.len() - whole) as u64;
    if torn > 0 {
        file.set_len(bytes - torn)?;
    }
    Ok((bytes - torn, torn))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Moves every file one number up, the last one away, and opens a new one.
fn rotate(path: &Path, keep: u32) -> io::Result<File> {
    let absent = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    if keep == 0 {
        absent(fs::remove_file(path))?;
        return open(path);
    }
    for number in (1..keep).rev() {
        absent(fs::rename(numbered(path, number), numbered(path, number + 1)))?;
    }
    absent(fs::rename(path, numbered(path, 1)))?;
    open(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn lines(path: &Path) -> Vec<String> {
        fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_are_appended_over_runs_and_a_torn_one_spoils_no_other() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("findings.jsonl");
        JsonLinesSink::file(&path, Rotation::default()).unwrap().write(&1).unwrap();
        open(&path).unwrap().write_all(b"{\"half").unwrap();
        let mut sink = JsonLinesSink::file(&path, Rotation::default()).unwrap();
        sink.write(&["a\nb"]).unwrap();
        assert_eq!(sink.healed(), 6);
        assert_eq!(lines(&path), ["1", r#"["a\nb"]"#]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn rotation_keeps_the_newest_files() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("findings.jsonl");
        let mut sink = JsonLinesSink::file(&path, Rotation { file_bytes: 4, keep: 2 }).unwrap();
        for number in 0..8 {
            sink.write(&number).unwrap();
        }
        assert_eq!(lines(&path), ["6", "7"]);
        assert_eq!(lines(&numbered(&path, 1)), ["4", "5"]);
        assert_eq!(lines(&numbered(&path, 2)), ["2", "3"]);
        assert!(!numbered(&path, 3).exists());
        // A line longer than a file gets one of its own.
        sink.write(&"longer than four bytes").unwrap();
        sink.write(&8).unwrap();
        assert_eq!(lines(&path), ["8"]);
    }
}
