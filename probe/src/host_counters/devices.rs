//! What each interface of each network namespace has counted.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::namespaces::{Namespaces, net_namespace};

/// Of a namespace's table; some two thousand interfaces. More are left out.
const TABLE_BYTES_MAX: u64 = 256 << 10;
const LOOPBACK: &str = "lo";

/// One way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    pub bytes: u64,
    pub packets: u64,
}

/// Totals of an interface other than loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub netns: u32,
    /// Whoever is root in that namespace chose it.
    pub name: String,
    pub received: Counted,
    pub sent: Counted,
}

/// Reads through a process in each namespace, as [`super::HostCounterReader`] does.
#[derive(Debug)]
pub struct DeviceReader(Namespaces);

impl Default for DeviceReader {
    fn default() -> Self {
        Self::new("/proc")
    }
}

impl DeviceReader {
    /// `proc` is the mount point of procfs.
    pub fn new(proc: impl Into<PathBuf>) -> Self {
        Self(Namespaces::new(proc))
    }

    /// As they stand now.
    pub fn read(&mut self) -> Vec<Device> {
        self.0.find();
        let mut devices = Vec::new();
        for (inode, process) in self.0.each() {
            let (Ok(text), Ok(netns)) = (table(&process), u32::try_from(inode)) else { continue };
            // The process may have left, and another have its number.
            if net_namespace(&process) == Some(inode) {
                devices.extend(text.lines().filter_map(|line| device(netns, line)));
            }
        }
        devices
    }

    /// The host's own network namespace: init's, or ours where init may not be looked at.
    pub fn of_host() -> Option<u32> {
        let of = |process| net_namespace(Path::new(process));
        u32::try_from(of("/proc/1").or_else(|| of("/proc/self"))?).ok()
    }
}

fn table(process: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(process.join("net/dev"))?.take(TABLE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A line as `eth0: BYTES PACKETS ... BYTES PACKETS ...`, eight numbers each way. Headings are none.
fn device(netns: u32, line: &str) -> Option<Device> {
    let (name, numbers) = line.split_once(':')?;
    let numbers: Option<Vec<u64>> =
        numbers.split_whitespace().map(|number| number.parse().ok()).collect();
    let numbers = numbers.filter(|numbers| numbers.len() >= 16)?;
    let name = name.trim();
    let counted = |at: usize| Counted { bytes: numbers[at], packets: numbers[at + 1] };
    let device = || Device { netns, name: name.to_owned(), received: counted(0), sent: counted(8) };
    (name != LOOPBACK).then(device)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn each_interface_but_loopback_is_read_and_what_is_no_line_is_left_out() {
        let proc = tempfile::tempdir().unwrap();
        for (process, namespace) in [(5, 10), (6, 10), (7, 20)] {
            let directory = proc.path().join(process.to_string());
            fs::create_dir_all(directory.join("net")).unwrap();
            fs::create_dir(directory.join("ns")).unwrap();
            symlink(format!("net:[{namespace}]"), directory.join("ns/net")).unwrap();
            let lines = "Inter-|   Receive  |  Transmit\n face |bytes packets|bytes packets\n    \
                         lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n\
                         e\u{1b}[2J:1000 10 0 0 0 0 0 0 500 5 0 0 0 0 0 0\n  cut: 1 2 3\n";
            fs::write(directory.join("net/dev"), lines).unwrap();
        }
        let counted = |bytes, packets| Counted { bytes, packets };
        let device = |netns| Device {
            netns,
            name: "e\u{1b}[2J".into(),
            received: counted(1000, 10),
            sent: counted(500, 5),
        };
        assert_eq!(DeviceReader::new(proc.path()).read(), [device(10), device(20)]);
        assert!(DeviceReader::of_host().is_some());
    }
}
