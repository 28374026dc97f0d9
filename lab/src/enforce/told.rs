//! What the daemon told of automatic entries, and whose they are: other labs on the host have units of
//! the same names, and what an earlier attack left behind may be denied again while the next one runs.

use std::{collections::HashSet, fs, os::unix::fs::MetadataExt, path::PathBuf};

use hedgerow_event::{Action, Remediation, Rule, Target};

use super::services::ENFORCED;
use crate::{Lab, now_ns};

/// An automatic entry as it was told.
#[derive(Debug)]
pub(super) struct Entry {
    pub told: Remediation,
    /// When it was read: it stands by then (Unix ns).
    pub stood_ns: i64,
}

impl Entry {
    /// It belongs to what was done before: it is against a process that was there then, or its case led to
    /// one of those entries.
    pub fn is_older(&self, boot_ns: u64, before: &[Self]) -> bool {
        let case = |other: &Self| other.told.finding_uid == self.told.finding_uid;
        match self.told.target {
            Target::TaskTree { start_boot_ns, .. } if start_boot_ns < boot_ns => true,
            _ => before.iter().any(case),
        }
    }

    pub fn is_of(&self, unit: &str) -> bool {
        let subject = self.told.subject.as_ref();
        subject.is_some_and(|subject| subject.workload.as_str() == Lab::workload(unit))
    }
}

/// What was told of this lab's units.
#[derive(Debug)]
pub(super) struct Told {
    pub entries: Vec<Entry>,
    cgroups: Vec<PathBuf>,
    cgroup_ids: HashSet<u64>,
    /// Who was seen in them.
    members: HashSet<u32>,
}

impl Told {
    pub fn new(lab: &Lab) -> anyhow::Result<Self> {
        let cgroups = ENFORCED.iter().map(|unit| lab.cgroup(unit));
        let cgroups = cgroups.collect::<Result<Vec<_>, _>>()?;
        let ids = cgroups.iter().map(|path| Ok(fs::metadata(path)?.ino()));
        let cgroup_ids = ids.collect::<std::io::Result<_>>()?;
        Ok(Self { entries: Vec::new(), cgroups, cgroup_ids, members: HashSet::new() })
    }

    /// Notes who runs: where a denied process has ended, its cgroup is not to be had any more.
    pub fn look(&mut self) {
        for path in &self.cgroups {
            let read = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
            self.members.extend(read.lines().filter_map(|line| line.parse::<u32>().ok()));
        }
    }

    /// Takes what is an automatic entry of this lab's; true where it is.
    pub fn remediation(&mut self, told: &Remediation) -> bool {
        let automatic = told.action == Action::Block && told.rule != Rule::Operator;
        if !automatic || !self.is_ours(&told.target) {
            return false;
        }
        self.entries.push(Entry { told: told.clone(), stood_ns: now_ns() });
        true
    }

    fn is_ours(&self, target: &Target) -> bool {
        let Target::TaskTree { tgid, .. } = target else {
            return target.cgroup_id().is_none_or(|id| self.cgroup_ids.contains(&id));
        };
        match fs::read_to_string(format!("/proc/{tgid}/cgroup")) {
            Ok(read) => {
                let path = read.lines().find_map(|line| line.strip_prefix("0::/"));
                let path = path.filter(|path| !path.is_empty());
                path.is_some_and(|path| self.cgroups.iter().any(|cgroup| cgroup.ends_with(path)))
            }
            // It has ended. Where nobody else's it can be, no wrong denial goes unseen.
            Err(_) => self.members.contains(tgid) || self.is_alone(),
        }
    }

    /// No other lab is on the host.
    fn is_alone(&self) -> bool {
        let ours = self.cgroups.first().and_then(|cgroup| cgroup.parent());
        let Some((ours, root)) = ours.and_then(|ours| Some((ours, ours.parent()?))) else {
            return true;
        };
        let all = fs::read_dir(root).into_iter().flatten().flatten();
        let mut others = all.map(|entry| entry.path()).filter(|path| path != ours);
        !others.any(|path| path.join(Lab::workload(ENFORCED[0])).exists())
    }

    /// What was told of a unit's entries.
    pub fn of(&self, unit: &str) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.is_of(unit))
    }
}

/// Nanoseconds since the boot.
pub(super) fn boot_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a plain system call that fills what it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
