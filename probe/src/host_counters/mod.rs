//! Counters of the network stack for what never becomes a flow: floods, closed ports, overflowing
//! listeners. Each network namespace with a process in it is read through one of its processes.

mod devices;
mod namespaces;
mod parse;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

pub use devices::{Counted, DEVICES_MAX, Device, DeviceReader};
use hedgerow_event::HostCounters;
pub use namespaces::{NAMESPACE_LIMIT, PROCESS_LIMIT};
use namespaces::{Namespaces, net_namespace};
use parse::Totals;

/// Increments over one window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Increments {
    pub counters: HostCounters,
    /// Namespaces that were read.
    pub namespaces: usize,
    /// Namespaces that were seen and left out because of [`NAMESPACE_LIMIT`].
    pub skipped: usize,
}

/// Remembers the totals of each namespace between two windows.
///
/// A namespace counts from when it is first seen. One that is gone when the window closes takes
/// the increments of its last window with it: a handle that kept its files open would keep the
/// namespace itself alive.
#[derive(Debug)]
pub struct HostCounterReader {
    namespaces: Namespaces,
    totals: BTreeMap<u64, Totals>,
}

impl Default for HostCounterReader {
    fn default() -> Self {
        Self::new("/proc")
    }
}

impl HostCounterReader {
    /// `proc` is the mount point of procfs.
    pub fn new(proc: impl Into<PathBuf>) -> Self {
        Self { namespaces: Namespaces::new(proc), totals: BTreeMap::new() }
    }

    /// Finds the namespaces of the running processes and sums what was counted in them since the
    /// last call; the first call only notes where the counters stand.
    pub fn read(&mut self) -> Increments {
        let skipped = self.namespaces.find();
        let mut sum = Totals::default();
        let mut alive = BTreeMap::new();
        for (inode, directory) in self.namespaces.each() {
            let Some(totals) = totals(&directory) else { continue };
            if net_namespace(&directory) != Some(inode) {
                continue;
            }
            if let Some(before) = self.totals.get(&inode) {
                add(&mut sum, &since(&totals, before));
            }
            alive.insert(inode, totals);
        }
        let namespaces = alive.len();
        self.totals = alive;
        Increments { counters: parse::named(sum), namespaces, skipped }
    }
}

/// `None` when the process left in the meantime.
fn totals(process: &Path) -> Option<Totals> {
    let net = process.join("net");
    let snmp = fs::read_to_string(net.join("snmp")).ok()?;
    let netstat = fs::read_to_string(net.join("netstat")).ok()?;
    // Absent where IPv6 is disabled.
    let snmp6 = fs::read_to_string(net.join("snmp6")).unwrap_or_default();
    Some(parse::totals(&snmp, &netstat, &snmp6))
}

/// Counters never go back, so where one does the inode number belongs to another namespace now,
/// whose totals are all new.
fn since(now: &Totals, before: &Totals) -> Totals {
    let replaced = now.iter().zip(before).any(|(now, before)| now < before);
    if replaced {
        return *now;
    }
    let mut increments = *now;
    for (value, before) in increments.iter_mut().zip(before) {
        *value = value.map(|now| now - before.unwrap_or(0));
    }
    increments
}

fn add(sum: &mut Totals, increments: &Totals) {
    for (sum, increment) in sum.iter_mut().zip(increments) {
        *sum = parse::sum(&[*sum, *increment]);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    struct FakeProc(tempfile::TempDir);

    impl FakeProc {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }
        fn process(&self, pid: u32, namespace: u64, udp: u64, cookies: u64) {
            let directory = self.0.path().join(pid.to_string());
            fs::remove_dir_all(&directory).ok();
            fs::create_dir_all(directory.join("net")).unwrap();
            fs::create_dir(directory.join("ns")).unwrap();
            symlink(format!("net:[{namespace}]"), directory.join("ns/net")).unwrap();
            let snmp = format!("Udp: InDatagrams NoPorts\nUdp: {udp} 0\n");
            fs::write(directory.join("net/snmp"), snmp).unwrap();
            let netstat = format!("TcpExt: SyncookiesSent\nTcpExt: {cookies}\n");
            fs::write(directory.join("net/netstat"), netstat).unwrap();
        }
        fn gone(&self, pid: u32) {
            fs::remove_dir_all(self.0.path().join(pid.to_string())).unwrap();
        }
        fn reader(&self) -> HostCounterReader {
            HostCounterReader::new(self.0.path())
        }
    }

    #[test]
    fn increments_of_all_namespaces_are_summed_once_each() {
        let proc = FakeProc::new();
        proc.process(1, 10, 100, 0);
        proc.process(2, 10, 100, 0);
        proc.process(3, 20, 7, 1);
        let mut reader = proc.reader();
        assert_eq!(reader.read().counters, HostCounters::default());
        proc.process(1, 10, 150, 0);
        proc.process(2, 10, 150, 0);
        proc.process(3, 20, 8, 3);
        let second = reader.read();
        assert_eq!(second.namespaces, 2);
        assert_eq!(second.counters.udp_in, Some(51));
        assert_eq!(second.counters.syn_cookies, Some(2));
        assert_eq!(second.counters.packets_in, None);
        assert_eq!(reader.read().counters.udp_in, Some(0));
    }

    #[test]
    fn a_namespace_is_followed_when_its_representative_leaves() {
        let proc = FakeProc::new();
        proc.process(5, 10, 100, 0);
        proc.process(6, 10, 100, 0);
        let mut reader = proc.reader();
        reader.read();
        for pid in [5, 6] {
            proc.process(pid, 10, 130, 0);
        }
        let (_, representative) = reader.namespaces.each().next().unwrap();
        fs::remove_dir_all(representative).unwrap();
        assert_eq!(reader.read().counters.udp_in, Some(30));
    }

    #[test]
    fn a_namespace_that_is_gone_or_new_makes_no_jump() {
        let proc = FakeProc::new();
        proc.process(5, 10, 100, 0);
        proc.process(6, 20, 100, 0);
        let mut reader = proc.reader();
        reader.read();
        proc.gone(6);
        proc.process(7, 30, 1_000_000, 0);
        assert_eq!(reader.read().counters.udp_in, Some(0));
        // The inode number of the one that is gone, now with counters of its own.
        proc.process(7, 10, 40, 0);
        proc.gone(5);
        assert_eq!(reader.read().counters.udp_in, Some(40));
    }

    #[test]
    fn too_many_namespaces_are_bounded_and_counted() {
        let proc = FakeProc::new();
        for pid in 0..NAMESPACE_LIMIT as u32 + 3 {
            proc.process(pid + 1, u64::from(pid) + 100, 1, 0);
        }
        let mut reader = proc.reader();
        let first = reader.read();
        assert_eq!((first.namespaces, first.skipped), (NAMESPACE_LIMIT, 3));
        let known: Vec<u64> = reader.totals.keys().copied().collect();
        reader.read();
        assert!(known.iter().eq(reader.totals.keys()));
    }
}
