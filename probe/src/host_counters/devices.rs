//! What each interface of each network namespace has counted.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::namespaces::{Namespaces, net_namespace};

/// Interfaces of all namespaces together. The host's own may have half of them, the others equal shares of the
/// rest. Of a namespace with more those stay that move; the others are left out, and counted.
pub const DEVICES_MAX: usize = 4096;
/// So many times as many are looked at as may stay; what a table has behind them is not read.
const LOOKED_AT: usize = 8;
/// Of a line, about.
const LINE_BYTES: usize = 128;
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

impl Device {
    fn packets(&self) -> u64 {
        self.received.packets.saturating_add(self.sent.packets)
    }
}

/// Reads through a process in each namespace, as [`super::HostCounterReader`] does.
#[derive(Debug)]
pub struct DeviceReader {
    namespaces: Namespaces,
    /// Those that were told last, by namespace and name, with all packets that they had counted.
    told: HashMap<(u32, String), u64>,
    left_out: usize,
}

impl Default for DeviceReader {
    fn default() -> Self {
        Self::new("/proc")
    }
}

impl DeviceReader {
    /// `proc` is the mount point of procfs.
    pub fn new(proc: impl Into<PathBuf>) -> Self {
        Self { namespaces: Namespaces::new(proc), told: HashMap::new(), left_out: 0 }
    }

    /// As they stand now.
    pub fn read(&mut self) -> Vec<Device> {
        self.namespaces.find();
        let (host, each) = (Self::of_host(), DEVICES_MAX / 2);
        let others = self.namespaces.each().count().saturating_sub(1).max(1);
        let mut devices = Vec::new();
        self.left_out = 0;
        for (inode, process) in self.namespaces.each() {
            let Ok(netns) = u32::try_from(inode) else { continue };
            let most = if host == Some(netns) { each } else { each / others };
            let bytes_max = most * LOOKED_AT * LINE_BYTES;
            let Ok(text) = table(&process, bytes_max) else { continue };
            // The process may have left, and another have its number.
            if net_namespace(&process) == Some(inode) {
                let of_it = text.lines().filter_map(|line| device(netns, line)).collect();
                let (stay, left_out) = self.those_that_move(of_it, most);
                devices.extend(stay);
                self.left_out += left_out + usize::from(text.len() >= bytes_max);
            }
        }
        let place = |device: &Device| ((device.netns, device.name.clone()), device.packets());
        self.told = devices.iter().map(place).collect();
        devices
    }

    /// Interfaces that found no room when they were read last, of each table that is too long at least one.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// So many of a namespace, and how many it has besides: first those that moved since they were told, then
    /// those that were not told and may move.
    fn those_that_move(&self, mut devices: Vec<Device>, most: usize) -> (Vec<Device>, usize) {
        let left_out = devices.len().saturating_sub(most);
        if left_out > 0 {
            devices.sort_by_cached_key(|device| {
                match self.told.get(&(device.netns, device.name.clone())) {
                    Some(before) if *before != device.packets() => 0,
                    None if device.packets() > 0 => 1,
                    _ => 2,
                }
            });
            devices.truncate(most);
        }
        (devices, left_out)
    }

    /// The host's own network namespace: init's, or ours where init may not be looked at.
    pub fn of_host() -> Option<u32> {
        let of = |process| net_namespace(Path::new(process));
        u32::try_from(of("/proc/1").or_else(|| of("/proc/self"))?).ok()
    }
}

fn table(process: &Path, bytes_max: usize) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(process.join("net/dev"))?.take(bytes_max as u64).read_to_end(&mut bytes)?;
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

    /// A namespace whose interfaces have sent so many packets.
    fn namespace(proc: &Path, process: u32, namespace: u32, sent: &[u64]) {
        let directory = proc.join(process.to_string());
        fs::create_dir_all(directory.join("net")).unwrap();
        if fs::read_link(directory.join("ns/net")).is_err() {
            fs::create_dir_all(directory.join("ns")).unwrap();
            symlink(format!("net:[{namespace}]"), directory.join("ns/net")).unwrap();
        }
        let line = |(at, packets): (usize, &u64)| {
            format!("veth{at}: 0 0 0 0 0 0 0 0 {packets}00 {packets} 0 0 0 0 0 0\n")
        };
        let lines: String = sent.iter().enumerate().map(line).collect();
        fs::write(directory.join("net/dev"), lines).unwrap();
    }

    #[test]
    fn of_too_many_interfaces_those_stay_that_move_and_no_namespace_takes_the_room_of_another() {
        let proc = tempfile::tempdir().unwrap();
        let share = DEVICES_MAX / 2;
        let mut sent = vec![1; share + 100];
        namespace(proc.path(), 5, 10, &sent);
        let mut reader = DeviceReader::new(proc.path());
        assert_eq!((reader.read().len(), reader.left_out()), (share, 100));
        // One that was left out, and one that was told.
        (sent[share + 50], sent[7]) = (2, 2);
        namespace(proc.path(), 5, 10, &sent);
        let read = reader.read();
        let has = |at: usize| read.iter().any(|device| device.name == format!("veth{at}"));
        assert!(has(share + 50) && has(7) && read.len() == share);
        // A table that is too long is read in part.
        sent.resize(6 * LOOKED_AT * share, 1);
        namespace(proc.path(), 5, 10, &sent);
        assert_eq!(reader.read().len(), share);
        assert!(reader.left_out() < (6 * LOOKED_AT - 1) * share);
        sent.truncate(share + 100);
        namespace(proc.path(), 5, 10, &sent);
        for other in 0..3 {
            namespace(proc.path(), 6 + other, 11 + other, &[1; 3]);
        }
        let read = reader.read();
        let of = |netns| read.iter().filter(|device| device.netns == netns).count();
        assert_eq!([10, 11, 12, 13].map(of), [share / 3, 3, 3, 3]);
        assert_eq!(reader.left_out(), share + 100 - share / 3);
        assert_eq!(reader.told.len(), read.len());
    }

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
