//! Is vulnerable code in use here? What scanners report of packages ([`report`]), joined with the
//! files of those packages ([`packages`]), with what was used since a daemon watches ([`record`])
//! and with what runs right now ([`Live`]): a [`verdict`] for each, and how it is told ([`vex`]).
//!
//! Reports, package databases and file names are strangers' words: bounded here, and escaped by
//! whoever shows them.

pub mod known;
mod order;
pub mod packages;
pub mod record;
pub mod report;
pub mod touched;
pub mod verdict;
pub mod vex;

use serde::Serialize;

/// Why there is no answer at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{file}: {field}: {why}")]
    Field { file: String, field: String, why: String },
    #[error(
        "{file} is no report of Trivy, Grype or OSV-Scanner, and no CycloneDX with vulnerabilities"
    )]
    Foreign { file: String },
    #[error("{file} has more than {max} {what}")]
    TooMany { file: String, what: &'static str, max: usize },
}

/// A process, and what it has mapped executable at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Live {
    pub pid: u32,
    /// Path of what it runs.
    pub program: String,
    /// It has a TCP socket that listens, or a bound UDP one.
    pub listens: bool,
    /// UTC.
    pub started_ns: i64,
    /// Where its paths are meant.
    #[serde(skip)]
    pub place: Place,
    #[serde(skip)]
    pub mapped: Vec<Mapping>,
}

/// Where the paths of a process are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In our own mount namespace.
    Here,
    /// In another one, with the tree that is asked about as its root.
    Tree,
    /// In another one.
    Elsewhere,
}

/// A file that is mapped executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    pub path: String,
    /// As `stat` has them.
    pub device: u64,
    pub inode: u64,
    /// The path leads to it no longer.
    pub deleted: bool,
}

/// The executable mappings of a `/proc/PID/maps`; lines that are none of files are left out.
pub fn mappings(maps: &str) -> Vec<Mapping> {
    let mut found: Vec<Mapping> = maps.lines().filter_map(mapping).collect();
    found.dedup();
    found
}

fn mapping(line: &str) -> Option<Mapping> {
    // address perms offset major:minor inode, spaces, path
    let mut rest = line;
    let mut word = || {
        let (word, after) = rest.split_once(' ')?;
        rest = after;
        Some(word)
    };
    let (_, perms, _, device, inode) = (word()?, word()?, word()?, word()?, word()?);
    let path = rest.trim_start();
    if perms.as_bytes().get(2) != Some(&b'x') || !path.starts_with('/') {
        return None;
    }
    let (major, minor) = device.split_once(':')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    let (path, deleted) = match path.strip_suffix(" (deleted)") {
        Some(path) => (path, true),
        None => (path, false),
    };
    Some(Mapping {
        // The kernel writes a line's end in a name as \012.
        path: path.replace("\\012", "\n"),
        device: stat_device(number(major)?, number(minor)?),
        inode: inode.parse().ok()?,
        deleted,
    })
}

/// `st_dev` of a device by its numbers, as glibc's `makedev` makes it.
pub fn stat_device(major: u64, minor: u64) -> u64 {
    (major & 0xfff) << 8 | (major & !0xfff) << 32 | (minor & 0xff) | (minor & !0xff) << 12
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_maps_only_files_that_are_mapped_executable_are_taken() {
        let maps = "\
55d0-55d1 r--p 00000000 fe:01 11                         /usr/bin/a b\n\
55d1-55d2 r-xp 00001000 fe:01 11                         /usr/bin/a b\n\
7f00-7f01 r-xp 00000000 103:12 12                        /usr/lib/x.so.1 (deleted)\n\
7f02-7f03 r-xp 00000000 00:00 0                          [vdso]\n\
7f04-7f05 rwxp 00000000 00:00 0 \n\
garbage\n";
        let mapped = |path: &str, device, inode, deleted| Mapping {
            path: path.into(),
            device,
            inode,
            deleted,
        };
        let expected = [
            mapped("/usr/bin/a b", 0xfe01, 11, false),
            mapped("/usr/lib/x.so.1", 0x1_0312, 12, true),
        ];
        assert_eq!(mappings(maps), expected);
    }
}
