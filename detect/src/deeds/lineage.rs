//! Who descends from whom, from the kernel's fork and exec records: double forks, sessions and
//! re-parenting don't change it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use hedgerow_event::{Event, FileKey, Origin};

/// A process for good: its id and the start of its first thread.
pub type ProcessKey = (u32, u64);

/// Processes remembered. Past them those that ended are forgotten, then the oldest.
const PROCESSES_MAX: usize = 65_536;
/// Of them, ones that ended: their children live on.
const ENDED_MAX: usize = 16_384;
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
    known: BTreeMap<ProcessKey, Known>,
    /// As they came; some of them ended, or are gone.
    order: VecDeque<ProcessKey>,
    /// As they ended.
    ended: VecDeque<ProcessKey>,
    forgotten: u64,
}

/// What is known of a process.
#[derive(Debug, Default)]
struct Known {
    /// From its exec, or from its parent's.
    image: Option<Image>,
    /// Where its fork was seen.
    parent: Option<ProcessKey>,
    ended: bool,
}

impl Lineage {
    /// Notes what a fork or an exec says.
    pub fn observe(&mut self, event: &Event) {
        let actor = &event.actor;
        let key = (actor.tgid, actor.start_boot_ns);
        match &event.origin {
            Origin::Exec(exec) => {
                let image = Image {
                    parent: self.parent(key),
                    parent_tgid: exec.parent_tgid,
                    file: exec.file,
                    of_host: exec.of_host,
                    uid: exec.uid,
                    login_uid: (exec.login_uid != u32::MAX).then_some(exec.login_uid),
                    arguments: Arc::clone(&exec.arguments),
                };
                self.remember(key).image = Some(image);
            }
            Origin::Fork(fork) if !fork.thread => {
                let image = self.image(key).map(|image| Image {
                    parent: Some(key),
                    parent_tgid: actor.tgid,
                    ..image.clone()
                });
                let child = self.remember((fork.child_tgid, fork.child_start_boot_ns));
                child.parent = Some(key);
                child.image = image.or(child.image.take());
            }
            Origin::Exit(exit) if exit.process => self.end(key),
            _ => {}
        }
    }

    fn remember(&mut self, key: ProcessKey) -> &mut Known {
        if !self.known.contains_key(&key) {
            if self.known.len() >= PROCESSES_MAX {
                self.make_room();
            }
            // Many short lives leave their keys behind.
            if self.order.len() >= 2 * self.known.len().max(ENDED_MAX) {
                self.order.retain(|key| self.known.get(key).is_some_and(|known| !known.ended));
            }
            self.order.push_back(key);
        }
        self.known.entry(key).or_default()
    }

    fn end(&mut self, key: ProcessKey) {
        let Some(known) = self.known.get_mut(&key) else { return };
        if !std::mem::replace(&mut known.ended, true) {
            self.ended.push_back(key);
        }
        if self.ended.len() > ENDED_MAX {
            self.forget_ended();
        }
    }

    fn forget_ended(&mut self) -> bool {
        self.ended.pop_front().is_some_and(|oldest| self.known.remove(&oldest).is_some())
    }

    /// Who lives is forgotten last, and that is counted: his image says whether his path is what it says.
    fn make_room(&mut self) {
        if self.forget_ended() {
            return;
        }
        while let Some(oldest) = self.order.pop_front() {
            if self.known.remove(&oldest).is_some() {
                self.forgotten += 1;
                return;
            }
        }
    }

    /// Processes that had to go for others while they lived.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    pub fn image(&self, key: ProcessKey) -> Option<&Image> {
        self.known.get(&key)?.image.as_ref()
    }

    /// The process that a process was forked from, where that was seen.
    pub fn parent(&self, key: ProcessKey) -> Option<ProcessKey> {
        self.known.get(&key)?.parent
    }

    /// Ancestors, nearest first, as far as their forks were seen.
    pub fn ancestors(&self, key: ProcessKey) -> impl Iterator<Item = ProcessKey> {
        std::iter::successors(self.parent(key), |key| self.parent(*key)).take(DEPTH_MAX)
    }
}

#[cfg(test)]
mod tests {
    use hedgerow_event::{Actor, Epoch, Exec, Exit, Fork, Program, Subject, Workload};

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
        for child in 10..100_000 {
            lineage.observe(&fork(1, child));
        }
        assert_eq!(lineage.parent((3, 3)), None);
        assert!(lineage.known.len() <= PROCESSES_MAX);
        assert_eq!(lineage.forgotten(), 100_000 - 10 + 2 - PROCESSES_MAX as u64);
    }

    /// Whoever forks a lot makes nobody forget what a process that lives was started from: without that
    /// a container's program would pass for the host's by its path.
    #[test]
    fn many_short_lives_take_no_living_process_its_image() {
        let mut lineage = Lineage::default();
        let exec = Exec { of_host: Some(false), ..Exec::of("/usr/bin/conmon") };
        let mut exec_event = fork(1, 2);
        exec_event.origin = Origin::Exec(Box::new(exec));
        (exec_event.actor.tgid, exec_event.actor.start_boot_ns) = (2, 2);
        lineage.observe(&fork(1, 2));
        lineage.observe(&exec_event);
        for child in 10..300_000 {
            lineage.observe(&fork(3, child));
            let mut exit = fork(child, 0);
            exit.origin = Origin::Exit(Exit { code: 0, process: true });
            lineage.observe(&exit);
        }
        assert_eq!(lineage.image((2, 2)).and_then(|image| image.of_host), Some(false));
        assert_eq!((lineage.parent((2, 2)), lineage.forgotten()), (Some((1, 1)), 0));
        assert!(lineage.known.len() <= ENDED_MAX + 2);
        assert!(lineage.order.len() <= 2 * (ENDED_MAX + 2));
    }
}
