//! Network namespaces, each with a process in it, through whose directory its files are read.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

/// Network namespaces read per window; more are left out and reported as `skipped`.
pub const NAMESPACE_LIMIT: usize = 128;
/// Processes looked at per window when searching for namespaces; a larger host is searched in
/// turns, so that a new namespace is found within `processes / PROCESS_LIMIT` windows.
pub const PROCESS_LIMIT: usize = 8192;

#[derive(Debug)]
pub struct Namespaces {
    proc: PathBuf,
    /// Inode of the namespace, and a process inside.
    found: BTreeMap<u64, u32>,
    /// Where the next search goes on.
    cursor: u32,
}

impl Namespaces {
    /// `proc` is the mount point of procfs.
    pub fn new(proc: impl Into<PathBuf>) -> Self {
        Self { proc: proc.into(), found: BTreeMap::new(), cursor: 0 }
    }

    /// Those that were found last, with the directory of the process.
    pub fn each(&self) -> impl Iterator<Item = (u64, PathBuf)> {
        self.found.iter().map(|(inode, process)| (*inode, self.directory(*process)))
    }

    fn directory(&self, process: u32) -> PathBuf {
        self.proc.join(process.to_string())
    }

    /// Looks for them anew, and says how many were left out. Known ones keep their place when there are too
    /// many.
    pub fn find(&mut self) -> usize {
        let mut found = std::mem::take(&mut self.found);
        found.retain(|inode, process| net_namespace(&self.directory(*process)) == Some(*inode));
        let mut skipped = HashSet::new();
        for process in self.next_processes() {
            let Some(inode) = net_namespace(&self.directory(process)) else {
                continue;
            };
            if found.len() < NAMESPACE_LIMIT || found.contains_key(&inode) {
                found.entry(inode).or_insert(process);
            } else if skipped.len() < PROCESS_LIMIT {
                skipped.insert(inode);
            }
        }
        self.found = found;
        skipped.len()
    }

    fn next_processes(&mut self) -> Vec<u32> {
        let Ok(entries) = fs::read_dir(&self.proc) else {
            return Vec::new();
        };
        let mut processes: Vec<u32> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        if processes.len() > PROCESS_LIMIT {
            processes.sort_unstable();
            let after = processes.partition_point(|&process| process <= self.cursor);
            processes.rotate_left(after);
            processes.truncate(PROCESS_LIMIT);
            self.cursor = processes.last().copied().unwrap_or(0);
        }
        processes
    }
}

/// Inode of the network namespace of a process, by its directory, out of the link text `net:[4026531840]`.
pub fn net_namespace(process: &Path) -> Option<u64> {
    let link = fs::read_link(process.join("ns/net")).ok()?;
    link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}
