//! What ran lately and whom it talked to: by this an operator's names become the kernel's numbers.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use hedgerow_event::{Event, FileKey, Origin, Subject, Target, Workload};
use hedgerow_probe::identity::workload::UNNAMED;

use crate::cli::Prefix;

/// Programs in cgroups, and who used which peer, that are remembered. Past it some of the workloads with the most are
/// forgotten, and seen anew: by what is known here an operator's entry meets nobody else.
const SEEN_MAX: usize = 16_384;
/// So many places are made free at once.
const ROOM: usize = SEEN_MAX / 16;
/// Workloads that are named of those that used a peer.
const USERS_MAX: usize = 64;

/// Who used a peer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Users {
    pub workloads: BTreeSet<Workload>,
    /// There are others.
    pub more: bool,
}

impl Users {
    /// Whether one more is named.
    fn add(&mut self, workload: &Workload) -> bool {
        let is_new = !self.workloads.contains(workload);
        let has_room = self.workloads.len() < USERS_MAX;
        self.more |= is_new && !has_room;
        is_new && has_room && self.workloads.insert(workload.clone())
    }
}

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

impl Sight {
    /// It runs from this file, or from one of this path.
    fn runs(&self, file: FileKey, path: &str) -> bool {
        self.file == Some(file) || *self.subject.program.path == *path
    }
}

#[derive(Debug, Default)]
pub struct Seen {
    /// By cgroup and program.
    sights: HashMap<(u64, u64), Sight>,
    /// Cgroups of programs that were seen before their container's name was known.
    unnamed: HashSet<u64>,
    peers: HashMap<IpAddr, Users>,
    /// Workloads that are named of peers, over all.
    users: usize,
}

impl Seen {
    /// Notes who did something; a cgroup that was not known before is given back.
    pub fn observe(&mut self, event: &Event) -> Option<(Workload, u64)> {
        let actor = &event.actor;
        let mut fresh = None;
        if actor.cgroup_id != 0 && actor.program_id != 0 {
            let key = (actor.cgroup_id, actor.program_id);
            if self.sights.len() >= SEEN_MAX && !self.sights.contains_key(&key) {
                self.forget_sights();
            }
            let sight = self.sights.entry(key);
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
            let is_named = actor.subject.workload.as_str() != UNNAMED;
            if is_named && sight.subject.workload.as_str() == UNNAMED {
                sight.subject = Arc::clone(&actor.subject);
                fresh = Some((actor.subject.workload.clone(), actor.cgroup_id));
            }
            if let Origin::Exec(exec) = &event.origin {
                sight.file = Some(exec.file);
            }
            if fresh.is_some() && is_named {
                self.name(actor.cgroup_id, &actor.subject.workload);
            } else if fresh.is_some() {
                self.unnamed.insert(actor.cgroup_id);
            }
        }
        if let Origin::Flow(flow) = &event.origin {
            if self.users >= SEEN_MAX {
                self.forget_users();
            }
            let users = self.peers.entry(flow.peer.address).or_default();
            self.users += usize::from(users.add(&actor.subject.workload));
        }
        fresh
    }

    /// Makes room where the workloads with the most programs are.
    fn forget_sights(&mut self) {
        let mut left = shares(self.sights.values().map(|sight| &sight.subject.workload));
        self.sights.retain(|_, sight| keeps(&mut left, &sight.subject.workload));
        let unnamed =
            self.sights.values().filter(|sight| sight.subject.workload.as_str() == UNNAMED);
        self.unnamed = unnamed.map(|sight| sight.cgroup_id).collect();
    }

    /// Makes room where the workloads with the most peers are.
    fn forget_users(&mut self) {
        let mut left = shares(self.peers.values().flat_map(|users| &users.workloads));
        self.peers.retain(|_, users| {
            let before = users.workloads.len();
            users.workloads.retain(|workload| keeps(&mut left, workload));
            users.more |= users.workloads.len() < before;
            !users.workloads.is_empty()
        });
        self.users = self.peers.values().map(|users| users.workloads.len()).sum();
    }

    /// A container's name came: what was seen in it before is its, too, and nobody else's.
    fn name(&mut self, cgroup_id: u64, workload: &Workload) {
        if !self.unnamed.remove(&cgroup_id) {
            return;
        }
        for sight in self.sights.values_mut() {
            let subject = &sight.subject;
            if sight.cgroup_id == cgroup_id && subject.workload.as_str() == UNNAMED {
                sight.subject = Arc::new(Subject::new(workload.clone(), subject.program.clone()));
            }
        }
    }

    pub fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.sights.values().map(|sight| &sight.subject.workload)
    }

    /// What a target of one cgroup meets.
    pub fn met_by<'a, 'b>(
        &'a self,
        target: &'b Target,
    ) -> impl Iterator<Item = &'a Sight> + use<'a, 'b> {
        let meant = move |sight: &&'a Sight| {
            let anywhere = matches!(target, Target::Program { .. });
            target.cgroup_id().map_or(anywhere, |cgroup_id| cgroup_id == sight.cgroup_id)
                && match target {
                    Target::Peer { program_id, .. } => {
                        *program_id == 0 || sight.program_id == *program_id
                    }
                    Target::Program { file, path, .. } => sight.runs(*file, path),
                    Target::TaskTree { .. } | Target::Cgroup { .. } | Target::User { .. } => true,
                }
        };
        self.sights.values().filter(meant)
    }

    /// The workload that a target is confined to; `None` where it meets several, or all.
    pub fn whose(&self, target: &Target) -> Option<&Workload> {
        let mut met = self.met_by(target).map(|sight| &sight.subject.workload);
        let first = met.next()?;
        met.all(|other| other == first).then_some(first)
    }

    /// Another workload that a target against this one would meet, since they share a cgroup.
    pub fn met(&self, target: &Target, workload: &Workload) -> Option<&Workload> {
        let cgroup_id = target.cgroup_id()?;
        let meant = |sight: &&Sight| {
            let runs = match target {
                Target::Program { file, path, .. } => sight.runs(*file, path),
                _ => true,
            };
            sight.cgroup_id == cgroup_id && runs && sight.subject.workload != *workload
        };
        self.sights.values().find(meant).map(|sight| &sight.subject.workload)
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
    pub fn users(&self, prefix: Prefix) -> Users {
        let mut all = Users::default();
        for (_, users) in self.peers.iter().filter(|(address, _)| prefix.holds(**address)) {
            all.more |= users.more;
            for workload in &users.workloads {
                all.add(workload);
            }
        }
        all
    }
}

/// How many of the full table's places each owner of workloads keeps: the same for all, as many as leave a part of
/// the table free.
fn shares<'a>(places: impl Iterator<Item = &'a Workload>) -> HashMap<String, usize> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for owner in places.map(Workload::owner) {
        match counts.get_mut(owner) {
            Some(count) => *count += 1,
            None => drop(counts.insert(owner.to_owned(), 1)),
        }
    }
    let mut share = counts.values().copied().max().unwrap_or(0);
    let freed =
        |share| counts.values().map(|count: &usize| count.saturating_sub(share)).sum::<usize>();
    while share > 0 && freed(share) < ROOM {
        share /= 2;
    }
    counts.into_keys().map(|workload| (workload, share)).collect()
}

/// Takes one of the places that a workload's owner keeps, where there is one left.
fn keeps(left: &mut HashMap<String, usize>, workload: &Workload) -> bool {
    let Some(left) = left.get_mut(workload.owner()) else { return false };
    let keeps = *left > 0;
    *left -= usize::from(keeps);
    keeps
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hedgerow_event::{Actor, Epoch, Flow, FlowDirection, Peer, Program, Signal};

    use super::*;

    #[test]
    fn a_target_is_of_a_workload_only_where_it_meets_no_other() {
        let mut seen = Seen::default();
        for (workload, path, cgroup_id, program_id) in [
            ("web", "/usr/sbin/web", 7, 1),
            ("web", "/usr/bin/bash", 8, 2),
            ("job", "/usr/bin/bash", 8, 3),
            ("job", "/usr/bin/job", 8, 4),
        ] {
            let subject = Subject::new(Workload::new(workload), Program::new(path)).into();
            let sight = Sight { subject, cgroup_id, program_id, tgid: 1, file: None };
            seen.sights.insert((cgroup_id, program_id), sight);
        }
        let peer = |cgroup_id, program_id| Target::Peer {
            address: [192, 0, 2, 9].into(),
            prefix_length: 32,
            cgroup_id,
            program_id,
        };
        let program = |path: &str| Target::Program {
            cgroup_id: 8,
            file: FileKey::default(),
            path: path.into(),
            network: false,
        };
        let (web, job) = (Workload::new("web"), Workload::new("job"));
        assert_eq!(seen.whose(&peer(7, 0)), Some(&web));
        assert_eq!(seen.whose(&peer(8, 0)), None, "two share it");
        assert_eq!(seen.whose(&peer(8, 3)), Some(&job), "a program tells them apart");
        assert_eq!(seen.whose(&peer(0, 0)), None, "all are met");
        assert_eq!(seen.whose(&program("/usr/bin/job")), Some(&job));
        assert_eq!(seen.met(&peer(7, 0), &web), None);
        assert_eq!(seen.met(&peer(8, 0), &web), Some(&job));
        assert_eq!(seen.met(&program("/usr/bin/bash"), &web), Some(&job));
        assert_eq!(seen.met(&program("/usr/bin/job"), &job), None);
        // A second name of the file, which is what an entry is of.
        let file = FileKey { inode: 5, ..FileKey::default() };
        let linked = Target::Program { cgroup_id: 8, file, path: "/opt/j".into(), network: false };
        assert_eq!((seen.whose(&linked), seen.met(&linked, &job)), (None, None));
        seen.sights.get_mut(&(8, 2)).unwrap().file = Some(file);
        assert_eq!((seen.whose(&linked), seen.met(&linked, &job)), (Some(&web), Some(&web)));
    }

    #[test]
    fn who_runs_too_much_or_calls_too_many_is_forgotten_before_others() {
        let mut seen = Seen::default();
        let mut run = |workload: &str, number: u32| {
            let actor = Actor {
                subject: Arc::new(Subject::new(Workload::new(workload), Program::new("/bin/x"))),
                tgid: 1,
                tid: 1,
                start_boot_ns: 1,
                cgroup_id: 1 + u64::from(workload == "web"),
                program_id: 1 + u64::from(number),
                slot: 0,
            };
            let peer = Peer { address: std::net::Ipv4Addr::from(number).into(), port: 443 };
            let origin = Origin::Flow(Flow::start(FlowDirection::Outbound, peer, peer).into());
            seen.observe(&Event { epoch: Epoch(1), time_boot_ns: 1, actor, origin });
        };
        run("web", 0);
        (1..2 * SEEN_MAX as u32).for_each(|number| run("job", number));
        for number in 0..SEEN_MAX as u32 {
            run(&format!("user@1.service/{number}.service"), 100_000 + number);
        }
        assert!(seen.sights.len() <= SEEN_MAX && seen.users <= SEEN_MAX);
        let web = Workload::new("web");
        assert_eq!(seen.cgroups(&web), BTreeSet::from([2]));
        assert!(seen.users("0.0.0.0/32".parse().unwrap()).workloads.contains(&web));
        let cgroup = Target::Cgroup { cgroup_id: 1, path: "/c".into() };
        assert!(seen.met(&cgroup, &web).is_some());
        assert!(seen.workloads().any(|workload| workload.as_str() == "job"));
    }

    #[test]
    fn of_those_who_used_a_peer_so_many_are_named_and_so_many_are_kept() {
        let mut seen = Seen::default();
        let mut call = |number: u32, address: u32| {
            let workload = Workload::new(format!("{number}.service"));
            let actor = Actor {
                subject: Arc::new(Subject::new(workload, Program::new("/bin/x"))),
                tgid: 1,
                tid: 1,
                start_boot_ns: 1,
                cgroup_id: 1,
                program_id: 1,
                slot: 0,
            };
            let peer = Peer { address: std::net::Ipv4Addr::from(address).into(), port: 443 };
            let origin = Origin::Flow(Flow::start(FlowDirection::Outbound, peer, peer).into());
            seen.observe(&Event { epoch: Epoch(1), time_boot_ns: 1, actor, origin });
            assert!(
                seen.peers.values().map(|users| users.workloads.len()).sum::<usize>() <= SEEN_MAX
            );
        };
        for address in 0..300 {
            (0..USERS_MAX as u32 + 2).for_each(|number| call(number, address));
        }
        let users = |prefix: &str| seen.users(prefix.parse().unwrap());
        assert!(users("0.0.1.43/32").more);
        let all = users("0.0.0.0/0");
        assert_eq!((all.workloads.len(), all.more), (USERS_MAX, true));
        assert_eq!(users("192.0.2.1/32"), Users::default());
    }

    #[test]
    fn what_was_seen_of_a_container_before_its_name_was_known_is_its() {
        let mut seen = Seen::default();
        let mut observe = |workload: &str, cgroup_id, program_id| {
            let actor = Actor {
                subject: Arc::new(Subject::new(Workload::new(workload), Program::new("/bin/x"))),
                tgid: 1,
                tid: 1,
                start_boot_ns: 1,
                cgroup_id,
                program_id,
                slot: 0,
            };
            let origin = Origin::Signal(Signal { unseen6: 0, calls: 0 });
            seen.observe(&Event { epoch: Epoch(1), time_boot_ns: 1, actor, origin })
        };
        let name = "k8s:shop/web/client";
        for program_id in [1, 2] {
            assert!(observe(UNNAMED, 7, program_id).is_some());
        }
        assert!(observe(UNNAMED, 8, 1).is_some());
        assert_eq!(observe(name, 7, 1), Some((Workload::new(name), 7)));
        assert_eq!(observe(name, 7, 1), None);
        let (named, cgroup) =
            (Workload::new(name), Target::Cgroup { cgroup_id: 7, path: "/c".into() });
        assert_eq!((seen.met(&cgroup, &named), seen.whose(&cgroup)), (None, Some(&named)));
        assert_eq!(seen.cgroups(&Workload::new(UNNAMED)), BTreeSet::from([8]));
    }
}
