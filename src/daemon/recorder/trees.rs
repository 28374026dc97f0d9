//! Whose tree each process is of.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use hedgerow_event::{Subject, Workload};

use super::{ROOM_PART, share::Share};

/// Processes whose tree is remembered. Full: those of the trees that have most are forgotten, and belong
/// to trees of their own until they execute a program again.
pub const PROCESSES_MAX: usize = 65_536;

/// A tree, by the first process that is known of it.
pub type Tree = (u32, u64);

/// Hashes a process's number. The kernel gives them out in turn, from a range so small that no one can
/// have many that collide; those that began one after another lie side by side.
#[derive(Debug, Default)]
struct ByNumber(u64);

impl Hasher for ByNumber {
    fn write_u32(&mut self, number: u32) {
        // The low bits say where it lies. By the high ones neighbours are told apart: the golden ratio's.
        self.0 = u64::from(number.wrapping_mul(0x9e37_79b9)) << 32 | u64::from(number);
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = (self.0 << 8 | u64::from(*byte)).wrapping_mul(31));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Of what did not end.
const ALIVE: u64 = u64::MAX;

/// A process: its tree, and the workload that this was found in. One that ended is remembered as long as
/// its records: its finding may come later.
#[derive(Debug)]
struct Member {
    tree: Tree,
    workload: Workload,
    ended_ns: u64,
}

#[derive(Debug, Default)]
pub struct Trees {
    processes: HashMap<u32, Member, BuildHasherDefault<ByNumber>>,
    forgotten: u64,
}

impl Trees {
    /// The tree of a process that did something. An exec tells the kernel's word for it, a child is of
    /// its parent's, and who comes to another workload begins one.
    pub fn of(&mut self, process: Tree, subject: &Subject, told: Option<Tree>) -> Tree {
        let known = self.processes.get_mut(&process.0);
        let known = known.filter(|known| known.workload == subject.workload);
        let tree = told.or(known.as_ref().map(|known| known.tree));
        let tree = tree.unwrap_or(process);
        match known {
            Some(known) => known.tree = tree,
            None => self.enter(process.0, tree, subject),
        }
        tree
    }

    pub fn of_process(&self, tgid: u32) -> Option<Tree> {
        self.processes.get(&tgid).map(|member| member.tree)
    }

    /// The tree that both are of.
    pub fn forked(&mut self, process: Tree, subject: &Subject, child_tgid: u32) -> Tree {
        let tree = self.of(process, subject, None);
        self.enter(child_tgid, tree, subject);
        tree
    }

    fn enter(&mut self, tgid: u32, tree: Tree, subject: &Subject) {
        if self.processes.len() >= PROCESSES_MAX {
            self.make_room();
        }
        let workload = subject.workload.clone();
        self.processes.insert(tgid, Member { tree, workload, ended_ns: ALIVE });
    }

    pub fn ended(&mut self, tgid: u32, ended_ns: u64) {
        if let Some(member) = self.processes.get_mut(&tgid) {
            member.ended_ns = ended_ns;
        }
    }

    /// Forgets those that ended before.
    pub fn forget_ended(&mut self, from_ns: u64) {
        self.processes.retain(|_, member| member.ended_ns >= from_ns);
    }

    /// Makes room for a part of all processes; those that ended go first.
    fn make_room(&mut self) {
        let mut of_tree = HashMap::<Tree, usize>::new();
        self.processes.values().for_each(|member| *of_tree.entry(member.tree).or_default() += 1);
        let before = self.processes.len();
        let mut share = Share::new(of_tree, ROOM_PART, 1);
        for with_living in [false, true] {
            self.processes.retain(|_, member| {
                member.ended_ns == ALIVE && !with_living || !share.gives(member.tree, 1)
            });
        }
        self.forgotten += (before - self.processes.len()) as u64;
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.processes.len()
    }

    /// Processes that had to make room.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Without processes.
    pub fn cleared(self) -> Self {
        Self { forgotten: self.forgotten, ..Self::default() }
    }
}
