//! What ran lately and whom it talked to: by this an operator's names become the kernel's numbers.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use hedgerow_event::{Event, FileKey, Origin, Subject, Workload};

use crate::cli::Prefix;

/// Programs in cgroups, and peers, that are remembered; past it all are forgotten and seen anew.
const SEEN_MAX: usize = 16_384;

/// A program in a cgroup.
#[derive(Debug, Clone)]
pub struct Sight {
    pub subject: Arc<Subject>,
    pub cgroup_id: u64,
    pub program_id: u64,
    /// The process that was seen last.
    pub tgid: u32,
    /// Its file, where the exec was seen.
    pub file: Option<FileKey>,
}

#[derive(Debug, Default)]
pub struct Seen {
    /// By cgroup and program.
    sights: HashMap<(u64, u64), Sight>,
    peers: HashMap<IpAddr, BTreeSet<Workload>>,
}

impl Seen {
    /// Notes who did something; a cgroup that was not known before is given back.
    pub fn observe(&mut self, event: &Event) -> Option<(Workload, u64)> {
        let actor = &event.actor;
        let mut fresh = None;
        if actor.cgroup_id != 0 && actor.program_id != 0 {
            if self.sights.len() >= SEEN_MAX {
                self.sights.clear();
            }
            let sight = self.sights.entry((actor.cgroup_id, actor.program_id));
            let sight = sight.or_insert_with(|| {
                fresh = Some((actor.subject.workload.clone(), actor.cgroup_id));
                Sight {
                    subject: Arc::clone(&actor.subject),
                    cgroup_id: actor.cgroup_id,
                    program_id: actor.program_id,
                    tgid: actor.tgid,
                    file: None,
                }
            });
            if actor.tgid != 0 {
                sight.tgid = actor.tgid;
            }
            if let Origin::Exec(exec) = &event.origin {
                sight.file = Some(exec.file);
            }
        }
        if let Origin::Flow(flow) = &event.origin {
            if self.peers.len() >= SEEN_MAX {
                self.peers.clear();
            }
            let users = self.peers.entry(flow.peer.address).or_default();
            users.insert(actor.subject.workload.clone());
        }
        fresh
    }

    pub fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.sights.values().map(|sight| &sight.subject.workload)
    }

    /// The workload that a cgroup was seen with.
    pub fn workload(&self, cgroup_id: u64) -> Option<&Workload> {
        let in_it = self.sights.values().find(|sight| sight.cgroup_id == cgroup_id);
        in_it.map(|sight| &sight.subject.workload)
    }

    /// The cgroups that a workload was seen in.
    pub fn cgroups(&self, workload: &Workload) -> BTreeSet<u64> {
        let of = self.sights.values().filter(|sight| &sight.subject.workload == workload);
        of.map(|sight| sight.cgroup_id).collect()
    }

    /// Programs with this path, or this path or script, where a workload is given only its own.
    pub fn programs(&self, path: &str, workload: Option<&Workload>) -> Vec<&Sight> {
        let of = |sight: &&Sight| {
            let program = &sight.subject.program;
            let named = &*program.path == path || program.script.as_deref() == Some(path);
            named && workload.is_none_or(|workload| workload == &sight.subject.workload)
        };
        self.sights.values().filter(of).collect()
    }

    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.sights.values().map(|sight| &*sight.subject.program.path)
    }

    /// Workloads that used an address of the prefix.
    pub fn users(&self, prefix: Prefix) -> BTreeSet<Workload> {
        let of = self.peers.iter().filter(|(address, _)| prefix.holds(**address));
        of.flat_map(|(_, users)| users).cloned().collect()
    }
}
