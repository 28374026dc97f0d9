//! Who descends from whom in a recording, and what each process ran: which processes are the lab's,
//! what the root of their tree is, and which are an act's.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use hedgerow_event::{Event, Exec, Origin, Subject, Workload};

use super::marks::{Mark, Whose};
use crate::Lab;

/// Process id and start: a process of this boot.
pub type ProcessKey = (u32, u64);

/// A process that the lab started, directly or not.
#[derive(Debug)]
struct Process {
    parent: Option<ProcessKey>,
    /// Of [`Lineage::roots`].
    root: u32,
    born_ns: u64,
    died_ns: Option<u64>,
    /// Words of its arguments, exec by exec.
    arguments: Vec<Arc<str>>,
    /// What it was, with and without units.
    subjects: Vec<[Arc<Subject>; 2]>,
}

/// What the lab itself started: the root of a service or of a session.
#[derive(Debug, Default)]
struct Root {
    /// Its first program, by which it is called where there are no units.
    bare: Option<Workload>,
    /// The attacker's own machine would be another host.
    foreign: bool,
}

/// Every process of the lab.
#[derive(Debug)]
pub struct Lineage {
    harness: u32,
    processes: HashMap<ProcessKey, Process>,
    /// The latest process of each number.
    latest: HashMap<u32, ProcessKey>,
    roots: Vec<Root>,
    bare: HashMap<(u32, Arc<Subject>), Arc<Subject>>,
}

/// Subjects of an exec's `previous` and `parent` where there are no units.
pub type Before = [Option<Arc<Subject>>; 2];

impl Lineage {
    pub fn new(harness: u32) -> Self {
        Self {
            harness,
            processes: HashMap::new(),
            latest: HashMap::new(),
            roots: Vec::new(),
            bare: HashMap::new(),
        }
    }

    /// Follows forks, execs and exits; whether the event is one of the lab's services. An exec loses
    /// what it says of the lab's own program.
    pub fn follow(&mut self, event: &mut Event) -> bool {
        let key = key(event);
        let known = self.processes.contains_key(&key);
        match &mut event.origin {
            Origin::Fork(fork) if !fork.thread && (known || key.0 == self.harness) => {
                let child = (fork.child_tgid, fork.child_start_boot_ns);
                self.born(child, key, event.time_boot_ns);
            }
            Origin::Exec(exec) if known => {
                self.became(key, &event.actor.subject, exec);
            }
            Origin::Exit(exit) if exit.process => {
                if let Some(process) = self.processes.get_mut(&key) {
                    process.died_ns = Some(event.time_boot_ns);
                }
            }
            _ => {}
        }
        self.is_of_a_service(key)
    }

    fn born(&mut self, child: ProcessKey, parent: ProcessKey, born_ns: u64) {
        let root = match self.processes.get(&parent) {
            Some(parent) => parent.root,
            None => {
                self.roots.push(Root::default());
                u32::try_from(self.roots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let subjects = self.processes.get(&parent).map(|parent| parent.subjects.last().cloned());
        let process = Process {
            parent: Some(parent).filter(|parent| parent.0 != self.harness),
            root,
            born_ns,
            died_ns: None,
            arguments: Vec::new(),
            subjects: subjects.flatten().into_iter().collect(),
        };
        self.processes.insert(child, process);
        self.latest.insert(child.0, child);
    }

    fn became(&mut self, key: ProcessKey, subject: &Arc<Subject>, exec: &mut Exec) {
        let Some(root) = self.processes.get(&key).map(|process| process.root as usize) else {
            return;
        };
        if self.roots[root].bare.is_none() {
            // The lab's own image stands for init.
            exec.previous = None;
            self.roots[root] = Root {
                bare: Some(Workload::new(subject.program.to_string())),
                foreign: subject.workload.as_str() == Lab::workload("attacker"),
            };
        }
        if !self.latest.get(&exec.parent_tgid).is_some_and(|parent| self.is_of_a_service(*parent)) {
            exec.parent = None;
        }
        let bare = self.bare(key, subject);
        if let Some(process) = self.processes.get_mut(&key) {
            process.arguments.push(exec.arguments.clone());
            process.subjects.push([subject.clone(), bare]);
        }
    }

    fn is_of_a_service(&self, key: ProcessKey) -> bool {
        self.processes.get(&key).is_some_and(|process| {
            let root = &self.roots[process.root as usize];
            root.bare.is_some() && !root.foreign
        })
    }

    /// The subject as it would be called in no unit.
    pub fn bare(&mut self, key: ProcessKey, subject: &Arc<Subject>) -> Arc<Subject> {
        let Some(process) = self.processes.get(&key) else { return subject.clone() };
        // Whoever logged in is called so in a unit or in none.
        if subject.workload.as_str().starts_with("login:") {
            return subject.clone();
        }
        let root = process.root;
        let Some(workload) = &self.roots[root as usize].bare else { return subject.clone() };
        let named = || Arc::new(Subject::new(workload.clone(), subject.program.clone()));
        self.bare.entry((root, subject.clone())).or_insert_with(named).clone()
    }

    /// What an exec says of before, as it would be called in no unit.
    pub fn bare_before(&mut self, key: ProcessKey, exec: &Exec) -> Before {
        let parent = self.latest.get(&exec.parent_tgid).copied();
        let previous = exec.previous.as_ref().map(|previous| self.bare(key, previous));
        [previous, exec.parent.as_ref().zip(parent).map(|(parent, key)| self.bare(key, parent))]
    }

    /// The processes of an act.
    pub fn tree(&self, mark: &Mark) -> Tree {
        let of = |process: &Process, whose: &Whose| match whose {
            Whose::Token(token) => process.arguments.iter().any(|text| text.contains(token)),
            Whose::Unit(unit) => {
                let unit = Lab::workload(unit);
                let lived = process.born_ns <= mark.ended_boot_ns
                    && process.died_ns.is_none_or(|died| died >= mark.begun_boot_ns);
                let last = process.subjects.last();
                lived && last.is_some_and(|[subject, _]| subject.workload.as_str() == unit)
            }
            Whose::Kernel => false,
        };
        let mut tree = Tree::default();
        if mark.whose.contains(&Whose::Kernel) {
            tree.subjects.insert(Arc::new(Subject::host()));
        }
        for (key, process) in &self.processes {
            let mut next = Some(*key);
            while let Some(process) = next.and_then(|next| self.processes.get(&next)) {
                if mark.whose.iter().any(|whose| of(process, whose)) {
                    tree.processes.insert(*key);
                    break;
                }
                next = process.parent;
            }
            if tree.processes.contains(key) {
                tree.subjects.extend(process.subjects.iter().flatten().cloned());
            }
        }
        tree
    }
}

/// An act's processes and what they ran.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    pub processes: HashSet<ProcessKey>,
    pub subjects: BTreeSet<Arc<Subject>>,
}

/// The process of an event.
pub fn key(event: &Event) -> ProcessKey {
    (event.actor.tgid, event.actor.start_boot_ns)
}
