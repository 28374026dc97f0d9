//! Who descends from whom, from the kernel's fork and exec records: double forks, sessions and
//! re-parenting don't change it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use hedgerow_event::{Event, FileKey, Origin};

/// A process for good: its id and the start of its first thread.
pub type ProcessKey = (u32, u64);

/// Processes remembered, ended ones too, since their children live on; the oldest are forgotten.
const PROCESSES_MAX: usize = 16_384;
/// Ancestors that are looked at.
const DEPTH_MAX: usize = 32;

/// What an exec said of a process.
#[derive(Debug, Clone)]
pub struct Image {
    /// The process that it was forked from; as exec told it where the fork was not seen.
    pub parent: Option<ProcessKey>,
    pub parent_tgid: u32,
    pub file: FileKey,
    pub of_host: Option<bool>,
    pub uid: u32,
    pub login_uid: Option<u32>,
    pub arguments: Arc<str>,
}

/// Processes by key.
#[derive(Debug, Default)]
pub struct Lineage {
    images: BTreeMap<ProcessKey, Image>,
    /// Processes of which only the fork was seen.
    parents: BTreeMap<ProcessKey, ProcessKey>,
    order: VecDeque<ProcessKey>,
}

impl Lineage {
    /// Notes what a fork or an exec says.
    pub fn observe(&mut self, event: &Event) {
        let actor = &event.actor;
        let key = (actor.tgid, actor.start_boot_ns);
        match &event.origin {
            Origin::Exec(exec) => {
                self.insert(
                    key,
                    Image {
                        parent: self.parents.get(&key).copied(),
                        parent_tgid: exec.parent_tgid,
                        file: exec.file,
                        of_host: exec.of_host,
                        uid: exec.uid,
                        login_uid: (exec.login_uid != u32::MAX).then_some(exec.login_uid),
                        arguments: Arc::clone(&exec.arguments),
                    },
                );
            }
            Origin::Fork(fork) if !fork.thread => {
                let child = (fork.child_tgid, fork.child_start_boot_ns);
                self.remember(child);
                self.parents.insert(child, key);
                if let Some(image) = self.images.get(&key) {
                    let image =
                        Image { parent: Some(key), parent_tgid: actor.tgid, ..image.clone() };
                    self.images.insert(child, image);
                }
            }
            _ => {}
        }
    }

    fn insert(&mut self, key: ProcessKey, image: Image) {
        self.remember(key);
        self.images.insert(key, image);
    }

    fn remember(&mut self, key: ProcessKey) {
        if !self.images.contains_key(&key) && !self.parents.contains_key(&key) {
            self.order.push_back(key);
        }
        while self.order.len() > PROCESSES_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.images.remove(&oldest);
                self.parents.remove(&oldest);
            }
        }
    }

    pub fn image(&self, key: ProcessKey) -> Option<&Image> {
        self.images.get(&key)
    }

    /// The process that a process was forked from, where that was seen.
    pub fn parent(&self, key: ProcessKey) -> Option<ProcessKey> {
        self.parents.get(&key).copied()
    }

    /// Ancestors, nearest first, as far as their forks were seen.
    pub fn ancestors(&self, key: ProcessKey) -> impl Iterator<Item = ProcessKey> {
        std::iter::successors(self.parent(key), |key| self.parent(*key)).take(DEPTH_MAX)
    }
}

#[cfg(test)]
mod tests {
    use hedgerow_event::{Actor, Epoch, Fork, Program, Subject, Workload};

    use super::*;

    fn fork(parent: u32, child: u32) -> Event {
        let actor = Actor {
            subject: Arc::new(Subject::new(Workload::host(), Program::new("/bin/x"))),
            tgid: parent,
            tid: parent,
            start_boot_ns: u64::from(parent),
            cgroup_id: 1,
            program_id: 1,
            slot: 0,
        };
        let fork = Fork {
            child_tgid: child,
            child_tid: child,
            child_start_boot_ns: u64::from(child),
            thread: false,
        };
        Event { epoch: Epoch(1), time_boot_ns: 1, actor, origin: Origin::Fork(fork) }
    }

    #[test]
    fn a_double_fork_stays_in_its_line_and_memory_is_bounded() {
        let mut lineage = Lineage::default();
        lineage.observe(&fork(1, 2));
        lineage.observe(&fork(2, 3));
        let line: Vec<ProcessKey> = lineage.ancestors((3, 3)).collect();
        assert_eq!(line, [(2, 2), (1, 1)]);
        for child in 10..20_000 {
            lineage.observe(&fork(1, child));
        }
        assert_eq!(lineage.parent((3, 3)), None);
        assert!(lineage.parents.len() <= PROCESSES_MAX);
    }
}
