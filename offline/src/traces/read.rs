//! A directory of files, one trace each.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use super::{Trace, mapping::Mapping};
use crate::{Error, Result};

/// A larger file is no trace of one process, or one that nobody has the memory for.
pub const FILE_BYTES_MAX: u64 = 64 << 20;
/// Files of a directory and below it.
pub const FILES_MAX: usize = 1_000_000;
/// A directory is at most so far below the one that is read.
const DEPTH_MAX: usize = 16;
/// Longest thing that stands for a call.
const TOKEN_MAX: usize = 64;
/// Longest piece of a file that is held at a time.
const LINE_MAX: u64 = 1 << 20;

/// Reads all traces below a directory, by name. Calls are separated by blanks, ends of lines, `,`,
/// `;` or `|`. Links and files whose name begins with a dot are passed over.
///
/// # Errors
/// There is no trace; a file is too large, has no call, or one that the mapping doesn't know: the
/// message names file and line.
pub fn directory(path: &Path, mapping: &Mapping) -> Result<Vec<Trace>> {
    let files = files(path)?;
    if files.is_empty() {
        return Err(Error::at(path, "no file below it: one file a trace is wanted"));
    }
    let traces = files.iter().map(|file| {
        let name = file.strip_prefix(path).unwrap_or(file).display().to_string();
        Ok(Trace { name, calls: self::file(file, mapping)? })
    });
    traces.collect()
}

/// Reads the calls of one trace.
///
/// # Errors
/// As [`directory`].
pub fn file(path: &Path, mapping: &Mapping) -> Result<Vec<i32>> {
    let at = |why: std::io::Error| Error::at(path, why);
    let file = File::open(path).map_err(at)?;
    let length = file.metadata().map_err(at)?.len();
    if length > FILE_BYTES_MAX {
        let most = FILE_BYTES_MAX >> 20;
        return Err(Error::at(path, format!("{} MiB: a trace has {most} at most", length >> 20)));
    }
    let mut calls = Vec::new();
    // The file may grow while it is read.
    let mut rest = BufReader::new(file.take(FILE_BYTES_MAX));
    let mut line = Vec::new();
    let mut number = 1u64;
    loop {
        line.clear();
        let taken = rest.by_ref().take(LINE_MAX).read_until(b'\n', &mut line).map_err(at)?;
        if taken == 0 {
            break;
        }
        // A piece of a longer line ends between two calls.
        while taken as u64 >= LINE_MAX && line.last().is_some_and(|last| !separates(*last)) {
            let before = line.len();
            rest.by_ref().take(1).read_to_end(&mut line).map_err(at)?;
            if line.len() == before || line.len() - taken > TOKEN_MAX {
                break;
            }
        }
        let tokens = line.split(|byte| separates(*byte)).filter(|token| !token.is_empty());
        for token in tokens {
            let wrong = |why: String| Error::at(path, format!("line {number}: {why}"));
            let shown = String::from_utf8_lossy(&token[..token.len().min(TOKEN_MAX)]);
            let known = std::str::from_utf8(token).ok().and_then(|token| mapping.number(token));
            let Some(call) = known else {
                return Err(wrong(format!("{shown:?} is not in {}", mapping.name())));
            };
            calls.push(call);
        }
        number += u64::from(line.last() == Some(&b'\n'));
    }
    if calls.is_empty() {
        return Err(Error::at(path, "line 1: no call in it"));
    }
    Ok(calls)
}

fn separates(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b',' | b';' | b'|')
}

fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![(path.to_owned(), 0)];
    while let Some((directory, depth)) = pending.pop() {
        let entries = fs::read_dir(&directory).map_err(|why| Error::at(&directory, why))?;
        for entry in entries {
            let entry = entry.map_err(|why| Error::at(&directory, why))?;
            let kind = entry.file_type().map_err(|why| Error::at(&entry.path(), why))?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if kind.is_dir() && depth < DEPTH_MAX {
                pending.push((entry.path(), depth + 1));
            } else if kind.is_file() {
                found.push(entry.path());
            }
            if found.len() > FILES_MAX {
                return Err(Error::at(path, format!("more than {FILES_MAX} files")));
            }
        }
    }
    found.sort();
    Ok(found)
}
