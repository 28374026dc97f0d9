//! Execs, forks and exits.

use hedgerow_event::{Actor, Exec, Exit, Fork, Subject};

use crate::{item::ItemKey, sketch::Sketch};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessCounts {
    /// Execs that made this subject.
    pub execs: u64,
    pub execs_memory: u64,
    pub execs_writable: u64,
    pub execs_replaced: u64,
    /// Execs with a privileged file, or after which the effective user id differs.
    pub privilege_changes: u64,
    /// (program, uid before, uid after) of those.
    pub privileges: Sketch,
    /// Execs out of this subject: a process of it, or its child, became another program.
    pub children: u64,
    /// (this program, child program) of those.
    pub child_pairs: Sketch,
    /// (parent program, this program) of execs that made this subject.
    pub parent_pairs: Sketch,
    pub forks: u64,
    pub threads: u64,
    pub exits: u64,
    /// Processes that ended with a status other than 0.
    pub exits_failed: u64,
    /// Processes that a signal ended.
    pub exits_signal: u64,
}

impl ProcessCounts {
    pub fn observe_exec(&mut self, actor: &Actor, exec: &Exec, key: ItemKey) {
        self.execs += 1;
        self.execs_memory += u64::from(exec.memory);
        self.execs_writable += u64::from(exec.writable);
        self.execs_replaced += u64::from(exec.replaced);
        if exec.privileged || exec.uid_before != exec.uid {
            self.privilege_changes += 1;
            let program = &actor.subject.program;
            self.privileges.add(key.privilege(program, exec.uid_before, exec.uid), 1);
        }
    }

    /// The parent's side of an exec.
    pub fn observe_child(&mut self, parent: &Subject, child: &Subject, key: ItemKey) {
        self.children += 1;
        self.child_pairs.add(key.child(&parent.program, &child.program), 1);
    }

    /// The child's side of the same exec.
    pub fn observe_parent(&mut self, parent: &Subject, child: &Subject, key: ItemKey) {
        self.parent_pairs.add(key.child(&parent.program, &child.program), 1);
    }

    pub fn observe_fork(&mut self, fork: &Fork) {
        self.threads += u64::from(fork.thread);
        self.forks += u64::from(!fork.thread);
    }

    pub fn observe_exit(&mut self, exit: &Exit) {
        if exit.process {
            self.exits += 1;
            self.exits_signal += u64::from(exit.code & 0x7f != 0);
            self.exits_failed += u64::from(exit.code & 0x7f == 0 && exit.code >> 8 & 0xff != 0);
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.execs += other.execs;
        self.execs_memory += other.execs_memory;
        self.execs_writable += other.execs_writable;
        self.execs_replaced += other.execs_replaced;
        self.privilege_changes += other.privilege_changes;
        self.privileges.merge(&other.privileges);
        self.children += other.children;
        self.child_pairs.merge(&other.child_pairs);
        self.parent_pairs.merge(&other.parent_pairs);
        self.forks += other.forks;
        self.threads += other.threads;
        self.exits += other.exits;
        self.exits_failed += other.exits_failed;
        self.exits_signal += other.exits_signal;
    }
}
