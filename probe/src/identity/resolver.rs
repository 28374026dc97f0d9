//! Resolves kernel ids into workloads and subjects, with bounded caches.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs,
    sync::Arc,
};

use hedgerow_bpf::wire;
use hedgerow_event::{Program, Subject, Workload};
use hedgerow_hostfile::Refusals;

use super::{
    aside::{Answer, Aside, Count, Question, Running},
    cgroup::Hierarchy,
    digest::Digests,
    program,
    provenance::Sources,
    service::{Root, ServiceId, Services},
    workload::{self, CgroupOwner, ContainerFacts},
};

/// Cgroups remembered. A full cache forgets those that are gone, the oldest first, and where there
/// are none all, which are resolved anew, and counted.
const CGROUPS_MAX: usize = 4096;
/// Subjects remembered by program and by process, with the same policy.
const SUBJECTS_MAX: usize = 16_384;
/// Distinct workloads that have a number of their own. Full: those that have no process lose theirs;
/// where all have one, what comes gets the number 0, whose programs have no profile, and is counted.
const WORKLOADS_MAX: usize = 1024;
/// Processes, cgroups and services that wait for a name; past it the makeshift name stays.
const WAITING_MAX: usize = 4096;
/// Of a program that is gone before anybody could read its name.
const UNKNOWN: &str = "(unknown)";
/// Of the cgroups that hold no unit.
const HOST_NUMBER: u32 = wire::WIRE_WORKLOAD_HOST;

/// What an exec record says of the new image.
#[derive(Debug, Clone, Copy)]
pub struct ExecFacts<'a> {
    /// From the kernel's walk of the dentry and its mounts.
    pub path: &'a str,
    /// Arguments, `argv[0]` first; claimed.
    pub arguments: &'a [&'a str],
    /// The script that the kernel ran through an interpreter.
    pub script: Option<&'a str>,
    /// The file has no link in any directory (memfd, deleted).
    pub memory: bool,
    /// The kernel's id of the program with its script; 0 where the path can't be trusted.
    pub service: u64,
    /// The file, or its directory, belongs to or can be written by others than root.
    pub writable: bool,
}

/// The process that an id is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProcessKey {
    pub tgid: u32,
    pub start_boot_ns: u64,
    pub program_id: u64,
    pub cgroup_id: u64,
    pub root: Root,
}

/// Of what a better name has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Changed {
    Process(ProcessKey),
    Cgroup(u64),
    Service(ServiceId),
}

/// A service has a number, or none any more.
pub type ServiceNumber = (ServiceId, Option<u32>);

/// Names for kernel ids.
#[derive(Debug)]
pub struct Resolver {
    hierarchy: Hierarchy,
    cgroups: HashMap<u64, (Workload, u32)>,
    /// Of the same cgroups: of one that is gone nobody else tells it.
    paths: HashMap<u64, String>,
    /// Those that are gone, the oldest first.
    gone: VecDeque<u64>,
    numbers: HashMap<Workload, u32>,
    /// The last number that was given; none is given twice.
    last_number: u32,
    /// Times that a workload found no number.
    unnumbered: u64,
    /// Of those, since numbers were last taken back.
    wants_numbers: bool,
    processes: HashMap<ProcessKey, Arc<Subject>>,
    programs: HashMap<(u32, u64), Arc<Subject>>,
    services: Services,
    /// Numbers of services that the kernel hasn't been told yet.
    numbered: Vec<ServiceNumber>,
    /// Of the files that programs run.
    digests: Digests,
    /// Reads what the drain thread must not wait for.
    aside: Aside,
    /// Who goes by a makeshift name until an answer comes, at most [`WAITING_MAX`].
    waiting: HashMap<Question, HashSet<Changed>>,
    /// Times that a full cache was forgotten.
    forgotten: u64,
}

impl Resolver {
    /// Opens the cgroup hierarchy, and starts the threads that read programs' files and the host's
    /// database of packages.
    pub fn open() -> std::io::Result<Self> {
        Self::with(Sources::host())
    }

    /// The same with a database of packages that lies elsewhere.
    pub fn with(packages: Sources) -> std::io::Result<Self> {
        let digests = Digests::start(packages)?;
        let aside = Aside::start(digests.refusals().clone())?;
        Ok(Self {
            hierarchy: Hierarchy::open()?,
            cgroups: HashMap::new(),
            paths: HashMap::new(),
            gone: VecDeque::new(),
            numbers: HashMap::from([(Workload::host(), HOST_NUMBER)]),
            last_number: HOST_NUMBER,
            unnumbered: 0,
            wants_numbers: false,
            processes: HashMap::new(),
            programs: HashMap::new(),
            services: Services::default(),
            numbered: Vec::new(),
            digests,
            aside,
            waiting: HashMap::new(),
            forgotten: 0,
        })
    }

    /// Times that a full cache was forgotten and resolved anew.
    pub fn forgotten(&self) -> u64 {
        self.forgotten + self.digests.forgotten()
    }

    /// How far the thread aside is.
    pub fn names(&self) -> Arc<Count> {
        self.aside.count()
    }

    /// Names that could not be asked for.
    pub fn names_refused(&self) -> u64 {
        self.aside.refused()
    }

    /// Whose files are not read, because one took too long.
    pub fn refusals(&self) -> Refusals {
        self.digests.refusals().clone()
    }

    /// Processes that were the host's because there was no room for their service.
    pub fn services_refused(&self) -> u64 {
        self.services.refused()
    }

    /// Digests of programs' files.
    pub fn digests(&mut self) -> &mut Digests {
        &mut self.digests
    }

    /// The workload of a cgroup and its number (from 1; 0 past [`WORKLOADS_MAX`]). A cgroup that
    /// is gone is named by its process, and is the host's when that is gone, too.
    pub fn workload(&mut self, cgroup_id: u64, tgid: u32) -> (Workload, u32) {
        if let Some(known) = self.cgroups.get(&cgroup_id) {
            return known.clone();
        }
        let path = self.paths.get(&cgroup_id).cloned().or_else(|| {
            self.hierarchy.path(cgroup_id).or_else(|| {
                let lines = fs::read(format!("/proc/{tgid}/cgroup")).ok()?;
                workload::unified_path(&String::from_utf8_lossy(&lines)).map(str::to_owned)
            })
        });
        let name = match path.as_deref().map(workload::owner) {
            None | Some(CgroupOwner::Host) => Workload::host(),
            Some(CgroupOwner::Unit(unit)) => Workload::new(unit),
            Some(CgroupOwner::Container { id, runtime, .. }) => {
                let facts = match self
                    .ask(Question::Container { id, runtime }, Changed::Cgroup(cgroup_id))
                {
                    Some(Answer::Container(facts)) => *facts,
                    _ => ContainerFacts::default(),
                };
                workload::container_workload(&facts)
            }
        };
        let number = self.number(&name);
        if let Some(path) = path {
            self.made(cgroup_id, path);
            self.cgroups.insert(cgroup_id, (name.clone(), number));
        }
        (name, number)
    }

    /// A cgroup was made at this path, as the kernel told when it happened.
    pub fn made(&mut self, cgroup_id: u64, path: String) {
        while self.paths.len() >= CGROUPS_MAX && !self.paths.contains_key(&cgroup_id) {
            if let Some(gone) = self.gone.pop_front() {
                self.paths.remove(&gone);
                self.cgroups.remove(&gone);
            } else {
                self.paths.clear();
                self.cgroups.clear();
                self.forgotten += 1;
            }
        }
        self.paths.insert(cgroup_id, path);
    }

    /// The same where the path was too long to be told whole. Of one that is gone by now the head is all
    /// that is known: it names the unit or the container that stands there, and never the host.
    pub fn made_deep(&mut self, cgroup_id: u64, head: String) {
        let path = self.hierarchy.path(cgroup_id).unwrap_or(head);
        self.made(cgroup_id, path);
    }

    /// A cgroup is gone. What its processes did may come later, so its name stays while there is
    /// room.
    pub fn removed(&mut self, cgroup_id: u64) {
        if self.paths.contains_key(&cgroup_id) {
            self.gone.push_back(cgroup_id);
        }
    }

    /// The workload of a process and its number: that of its cgroup, and where this holds no unit,
    /// that of its service.
    pub fn place(&mut self, key: &ProcessKey) -> (Workload, u32) {
        let (workload, number) = self.workload(key.cgroup_id, key.tgid);
        // A cgroup that is gone says nothing of what it was.
        if number != HOST_NUMBER || !self.cgroups.contains_key(&key.cgroup_id) {
            return (workload, number);
        }
        let known = self.services.known(&key.root).cloned();
        let Some(service) = known.clone().or_else(|| self.service(&key.root)) else {
            return (workload, number);
        };
        let number = self.number(&service);
        if known.is_none() {
            self.numbered.push((key.root.id(), Some(number)));
        }
        (service, number)
    }

    /// Names a service, by the process at its root where nobody saw what that executed.
    fn service(&mut self, root: &Root) -> Option<Workload> {
        if !self.services.wants(root) {
            return self.services.name(root, None);
        }
        let running = self.running(root.tgid, root.start_boot_ns, Changed::Service(root.id()))?;
        self.services.name(root, running)
    }

    /// Whether a process's login uid was set by a login: it is in a session's workload, or somebody
    /// logged in below the program at its root and that one is sshd or login. The number alone says
    /// nothing: whoever has none may write himself any.
    pub fn is_of_login(&mut self, workload: &Workload, root: &Root) -> bool {
        if workload.is_of_login() {
            return true;
        }
        if root.login_uid == u32::MAX || root.service == 0 {
            return false;
        }
        if self.services.admits(root.service).is_none()
            && let Some(Some(Running { program, trusted, .. })) =
                self.running(root.tgid, root.start_boot_ns, Changed::Service(root.id()))
        {
            self.services.executed(root.service, &program, trusted);
        }
        self.services.admits(root.service) == Some(true)
    }

    fn running(&mut self, tgid: u32, start_boot_ns: u64, who: Changed) -> Option<Option<Running>> {
        match self.ask(Question::Program { tgid, start_boot_ns }, who)? {
            Answer::Program(running) => Some(running),
            Answer::Container(_) => None,
        }
    }

    /// Asks the thread aside. Where the answer takes too long, `who` is told once it has come.
    fn ask(&mut self, question: Question, who: Changed) -> Option<Answer> {
        let answer = self.aside.ask(&question);
        if answer.is_none() && self.waiting.len() < WAITING_MAX {
            let waiting = self.waiting.entry(question).or_default();
            if waiting.len() < WAITING_MAX {
                waiting.insert(who);
            }
        }
        answer
    }

    /// Of whom a better name has come since the last call; it is found by asking again.
    pub fn take_changed(&mut self) -> Vec<Changed> {
        let answered = self.aside.take_answered();
        let changed: Vec<Changed> = answered
            .iter()
            .filter_map(|question| self.waiting.remove(question))
            .flatten()
            .collect();
        for changed in &changed {
            match changed {
                Changed::Process(key) => drop(self.processes.remove(key)),
                Changed::Cgroup(id) => drop(self.cgroups.remove(id)),
                Changed::Service(_) => {}
            }
        }
        changed
    }

    /// The subject of a process whose workload has a better name; its program is the same.
    pub fn moved(&mut self, key: ProcessKey, subject: &Subject) -> Arc<Subject> {
        let (workload, number) = self.place(&key);
        let moved = Subject::new(workload, subject.program.clone());
        // Its name is still asked for, and what is remembered is asked for no more.
        if &*moved.program.path == UNKNOWN {
            return Arc::new(moved);
        }
        let moved = self.shared(moved, number, key.program_id);
        self.processes.insert(key, Arc::clone(&moved));
        moved
    }

    /// Numbers of services for the kernel.
    pub fn take_numbered(&mut self) -> Vec<ServiceNumber> {
        std::mem::take(&mut self.numbered)
    }

    /// Whether ids of services that nobody has should be forgotten.
    pub fn is_full_of_services(&self) -> bool {
        self.services.is_full()
    }

    /// Forgets the ids of services that no process has.
    pub fn retain_services(&mut self, used: &HashSet<ServiceId>) {
        let gone = self.services.retain(used);
        self.numbered.extend(gone.into_iter().map(|id| (id, None)));
        self.forgotten += 1;
    }

    fn number(&mut self, workload: &Workload) -> u32 {
        if let Some(number) = self.numbers.get(workload) {
            return *number;
        }
        if self.numbers.len() >= WORKLOADS_MAX {
            self.wants_numbers = true;
            self.unnumbered += 1;
            return 0;
        }
        self.last_number += 1;
        self.numbers.insert(workload.clone(), self.last_number);
        self.last_number
    }

    /// Times that a workload was given no number because all were taken.
    pub fn workloads_refused(&self) -> u64 {
        self.unnumbered
    }

    /// Whether numbers should be taken from workloads that nobody needs any more.
    pub fn is_full_of_workloads(&self) -> bool {
        self.wants_numbers
    }

    /// The number of the workload that a process was last seen in; asks nobody.
    pub fn known_number(&self, key: &ProcessKey) -> Option<u32> {
        let (_, number) = self.cgroups.get(&key.cgroup_id)?;
        if *number != HOST_NUMBER {
            return Some(*number);
        }
        let service = self.services.known(&key.root);
        service.and_then(|service| self.numbers.get(service)).copied().or(Some(HOST_NUMBER))
    }

    /// Takes the numbers that are not `used` from their workloads; gives those. Services are few, and
    /// keep theirs.
    pub fn retain_workloads(&mut self, used: &HashSet<u32>) -> HashSet<u32> {
        self.wants_numbers = false;
        let services = &self.services;
        let is_gone = |workload: &Workload, number: &mut u32| {
            !used.contains(number) && !services.is_named(workload)
        };
        let gone: HashSet<u32> =
            self.numbers.extract_if(is_gone).map(|(_, number)| number).collect();
        // Those without one ask again, too.
        self.cgroups.retain(|_, (_, number)| *number != 0 && !gone.contains(number));
        self.programs.retain(|(number, _), _| !gone.contains(number));
        gone
    }

    /// The subject that a process stands for. `exec` is given with an exec record and renews what
    /// was known of the process; without it a process that is already gone takes the name that its
    /// program last had in its workload.
    pub fn subject(&mut self, key: ProcessKey, exec: Option<ExecFacts<'_>>) -> Arc<Subject> {
        if exec.is_none()
            && let Some(known) = self.processes.get(&key)
        {
            return Arc::clone(known);
        }
        let named = exec.map(|facts| match facts {
            facts if facts.memory && facts.path.is_empty() => Program::new(program::MEMORY),
            facts => program::name(facts.path, facts.arguments, facts.script),
        });
        if let (Some(facts), Some(program)) = (exec, &named) {
            let lasts = !facts.memory && facts.service == key.root.service;
            self.services.executed(if lasts { facts.service } else { 0 }, program, !facts.writable);
        }
        let (workload, number) = self.place(&key);
        let subject = match named {
            Some(program) => self.shared(Subject::new(workload, program), number, key.program_id),
            None => match self.named(number, key.program_id) {
                // Forked from a known program, or known by an earlier run of it; what runs
                // scripts may run another one.
                Some(known) if !program::takes_script(&known.program.path) => known,
                known => {
                    let who = Changed::Process(key);
                    let found = self.running(key.tgid, key.start_boot_ns, who);
                    let Some(Running { program, file, .. }) = found.flatten() else {
                        let unknown = || Subject::new(workload, Program::new(UNKNOWN));
                        return known.unwrap_or_else(|| Arc::new(unknown()));
                    };
                    if let Some(file) = file {
                        self.digests.running(key.tgid, (workload.clone(), file));
                    }
                    self.shared(Subject::new(workload, program), number, key.program_id)
                }
            },
        };
        if self.processes.len() >= SUBJECTS_MAX {
            self.processes.clear();
            self.forgotten += 1;
        }
        self.processes.insert(key, Arc::clone(&subject));
        subject
    }

    /// The subject that a process's program stood for last, as far as that was found out: nobody is asked.
    pub fn known(&self, key: &ProcessKey) -> Arc<Subject> {
        let number = self.known_number(key).unwrap_or(0);
        let unknown = || Subject::new(self.known_workload(key), Program::new(UNKNOWN));
        self.named(number, key.program_id).unwrap_or_else(|| Arc::new(unknown()))
    }

    fn known_workload(&self, key: &ProcessKey) -> Workload {
        match self.cgroups.get(&key.cgroup_id) {
            Some((of_cgroup, HOST_NUMBER)) => {
                self.services.known(&key.root).unwrap_or(of_cgroup).clone()
            }
            Some((of_cgroup, _)) => of_cgroup.clone(),
            None => Workload::new(UNKNOWN),
        }
    }

    /// The subject that a program stood for last.
    fn named(&self, number: u32, program_id: u64) -> Option<Arc<Subject>> {
        let known = self.programs.get(&(number, program_id)).filter(|_| program_id != 0);
        known.cloned()
    }

    /// One allocation for equal subjects of a program id.
    fn shared(&mut self, subject: Subject, number: u32, program_id: u64) -> Arc<Subject> {
        if let Some(known) = self.programs.get(&(number, program_id))
            && **known == subject
        {
            return Arc::clone(known);
        }
        if self.programs.len() >= SUBJECTS_MAX {
            self.programs.clear();
            self.forgotten += 1;
        }
        let subject = Arc::new(subject);
        self.programs.insert((number, program_id), Arc::clone(&subject));
        subject
    }

    /// Forgets a process that ended.
    pub fn forget(&mut self, key: &ProcessKey) {
        self.processes.remove(key);
    }
}

#[cfg(test)]
mod tests;
