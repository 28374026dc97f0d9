//! Resolves kernel ids into workloads and subjects, with bounded caches.

use std::{collections::HashMap, fs, path::Path, sync::Arc};

use hedgerow_event::{Program, Subject, Workload};
use hedgerow_hostfile::Refusals;

use super::{
    cgroup::Hierarchy,
    container,
    digest::Digests,
    program,
    provenance::Sources,
    workload::{self, CgroupOwner},
};

/// Cgroups remembered; a full cache is forgotten as a whole and resolved anew, and counted.
const CGROUPS_MAX: usize = 4096;
/// Subjects remembered by program and by process, with the same policy.
const SUBJECTS_MAX: usize = 16_384;
/// Distinct workloads that get a number of their own; those past it share the number 0, whose
/// programs have no profile.
const WORKLOADS_MAX: usize = 1024;

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
}

/// The process that an id is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProcessKey {
    pub tgid: u32,
    pub start_boot_ns: u64,
    pub program_id: u64,
    pub cgroup_id: u64,
}

/// Names for kernel ids.
#[derive(Debug)]
pub struct Resolver {
    hierarchy: Hierarchy,
    cgroups: HashMap<u64, (Workload, u32)>,
    numbers: HashMap<Workload, u32>,
    processes: HashMap<ProcessKey, Arc<Subject>>,
    programs: HashMap<(u32, u64), Arc<Subject>>,
    /// Of the files that programs run.
    digests: Digests,
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
        Ok(Self {
            hierarchy: Hierarchy::open()?,
            cgroups: HashMap::new(),
            numbers: HashMap::from([(Workload::host(), 1)]),
            processes: HashMap::new(),
            programs: HashMap::new(),
            digests: Digests::start(packages)?,
            forgotten: 0,
        })
    }

    /// Times that a full cache was forgotten and resolved anew.
    pub fn forgotten(&self) -> u64 {
        self.forgotten + self.digests.forgotten()
    }

    /// Whose files are not read, because one took too long.
    pub fn refusals(&self) -> Refusals {
        self.digests.refusals().clone()
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
        let path = self.hierarchy.path(cgroup_id).or_else(|| {
            let lines = fs::read_to_string(format!("/proc/{tgid}/cgroup")).ok()?;
            workload::unified_path(&lines).map(str::to_owned)
        });
        let name = match path.as_deref().map(workload::owner) {
            None | Some(CgroupOwner::Host) => Workload::host(),
            Some(CgroupOwner::Unit(unit)) => Workload::new(unit),
            Some(CgroupOwner::Container { id, runtime, .. }) => {
                workload::container_workload(&container::describe(Path::new("/"), &id, runtime))
            }
        };
        let number = self.number(&name);
        if path.is_some() {
            if self.cgroups.len() >= CGROUPS_MAX {
                self.cgroups.clear();
                self.forgotten += 1;
            }
            self.cgroups.insert(cgroup_id, (name.clone(), number));
        }
        (name, number)
    }

    fn number(&mut self, workload: &Workload) -> u32 {
        if let Some(number) = self.numbers.get(workload) {
            return *number;
        }
        if self.numbers.len() >= WORKLOADS_MAX {
            return 0;
        }
        let number = u32::try_from(self.numbers.len() + 1).unwrap_or(0);
        self.numbers.insert(workload.clone(), number);
        number
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
        let (workload, number) = self.workload(key.cgroup_id, key.tgid);
        let named = match exec {
            Some(facts) if facts.memory && facts.path.is_empty() => {
                Some(Program::new(program::MEMORY))
            }
            Some(facts) => Some(program::name(facts.path, facts.arguments, facts.script)),
            None => None,
        };
        let subject = match named {
            Some(program) => self.shared(Subject::new(workload, program), number, key.program_id),
            None => match self.named(number, key.program_id) {
                // Forked from a known program, or known by an earlier run of it; what runs
                // scripts may run another one.
                Some(known) if !program::takes_script(&known.program.path) => known,
                known => {
                    let Some((program, file)) = running(key.tgid) else {
                        let unknown = || Subject::new(workload, Program::new("(unknown)"));
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

/// Names a running process by `/proc`, with the path of its file where it has one; a process
/// without an image is a kernel thread.
fn running(tgid: u32) -> Option<(Program, Option<Arc<str>>)> {
    let directory = format!("/proc/{tgid}");
    if !Path::new(&directory).exists() {
        return None;
    }
    let Ok(path) = fs::read_link(format!("{directory}/exe")) else {
        return Some((Program::new("(kernel thread)"), None));
    };
    let command = fs::read(format!("{directory}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command);
    let arguments: Vec<&str> = command.trim_end_matches('\0').split('\0').collect();
    let path = path.to_string_lossy();
    let named = program::name(&path, &arguments, None);
    let linked = path.starts_with('/') && !path.ends_with(" (deleted)");
    Some((named, linked.then(|| path.into())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(tgid: u32, program_id: u64, cgroup_id: u64) -> ProcessKey {
        ProcessKey { tgid, start_boot_ns: 1, program_id, cgroup_id }
    }

    #[test]
    fn this_process_is_named_by_proc() {
        let mut resolver = Resolver::open().unwrap();
        let id = resolver.hierarchy.id("/").unwrap();
        let subject = resolver.subject(key(std::process::id(), 7, id), None);
        let exe = std::env::current_exe().unwrap();
        assert_eq!(&*subject.program.path, exe.to_str().unwrap());
        assert!(Arc::ptr_eq(&subject, &resolver.subject(key(1, 7, id), None)), "one allocation");
    }

    #[test]
    fn an_exec_renews_what_was_known_and_a_gone_process_keeps_its_programs_name() {
        let mut resolver = Resolver::open().unwrap();
        let facts = |path| ExecFacts { path, arguments: &["x"], script: None, memory: false };
        let gone = u32::MAX;
        let first = resolver.subject(key(gone, 1, 1), Some(facts("/bin/a")));
        assert_eq!(&*first.program.path, "/bin/a");
        let second = resolver.subject(key(gone, 2, 1), Some(facts("/bin/b")));
        assert_eq!(&*second.program.path, "/bin/b");
        assert_eq!(resolver.subject(key(gone - 1, 1, 1), None), first);
        let unknown = resolver.subject(key(gone, 3, 1), None);
        assert_eq!(&*unknown.program.path, "(unknown)");
    }

    #[test]
    fn caches_stay_bounded() {
        let mut resolver = Resolver::open().unwrap();
        let facts = ExecFacts { path: "/bin/a", arguments: &[], script: None, memory: false };
        for id in 0..SUBJECTS_MAX as u64 + 10 {
            resolver.subject(key(u32::MAX, id, 1), Some(facts));
        }
        assert!(resolver.processes.len() <= SUBJECTS_MAX);
        assert!(resolver.programs.len() <= SUBJECTS_MAX);
        assert!(resolver.forgotten() > 0);
    }
}
