//! Findings that belong together are one episode: of one process tree, or of one workload with the
//! same objects, with gaps of at most five minutes.

use std::{
    collections::{BTreeMap, BTreeSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::Arc,
};

use hedgerow_event::{Object, Subject, Workload};

/// Windows further apart than this are episodes of their own.
pub const GAP_NS: u64 = 300_000_000_000;
/// Open episodes; past it the one seen longest ago is closed.
const OPEN_MAX: usize = 1024;
/// Processes remembered of an episode's tree.
const TREE_MAX: usize = 1024;

/// An episode that can still grow.
#[derive(Debug, Clone)]
pub struct Episode {
    pub uid: String,
    pub subjects: BTreeSet<Arc<Subject>>,
    pub workload: Workload,
    pub objects: BTreeSet<Object>,
    pub processes: BTreeSet<u32>,
    /// Who started them.
    pub parents: BTreeSet<u32>,
    pub score: f64,
    pub last_boot_ns: u64,
    pub sequence: u32,
    /// What was last reported, repeated when the episode closes.
    pub reported: Option<Box<hedgerow_event::Finding>>,
}

/// Open episodes by their number.
#[derive(Debug, Default)]
pub struct Episodes {
    open: BTreeMap<u64, Episode>,
    next: u64,
}

/// What a window brings to an episode.
#[derive(Debug)]
pub struct Part<'a> {
    pub subject: &'a Arc<Subject>,
    pub objects: &'a BTreeSet<Object>,
    /// Offending processes and their parents.
    pub processes: &'a BTreeSet<u32>,
    pub parents: &'a BTreeSet<u32>,
    pub score: f64,
    pub time_boot_ns: u64,
}

/// Where a window's finding went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    New,
    /// It brought an object, or a subject, that the episode didn't have.
    Grown,
    Same,
}

impl Episodes {
    /// Puts a finding into the episode it belongs to, or into a new one with the uid that `name`
    /// makes. A deed never seen in an episode of the same workload is a new episode, so that a
    /// benign one doesn't hide it; within one process tree it is the same.
    pub fn join(&mut self, part: &Part<'_>, name: impl FnOnce() -> String) -> (u64, Joined) {
        let recent =
            |episode: &Episode| part.time_boot_ns <= episode.last_boot_ns.saturating_add(GAP_NS);
        let find = |belongs: fn(&Episode, &Part<'_>) -> bool| {
            let mut open = self.open.iter().filter(|(_, episode)| recent(episode));
            open.find(|(_, episode)| belongs(episode, part)).map(|(id, _)| *id)
        };
        let (tree, workload) = (find(is_of_tree), find(is_of_workload));
        let Some(id) = tree.or(workload) else {
            return (self.open(part, name()), Joined::New);
        };
        let Some(episode) = self.open.get_mut(&id) else {
            return (self.open(part, name()), Joined::New);
        };
        let before = (episode.objects.len(), episode.subjects.len());
        episode.objects.extend(part.objects.iter().cloned());
        episode.subjects.insert(Arc::clone(part.subject));
        // What only resembles the episode doesn't bring its processes: their further deeds may not.
        if tree.is_some() && episode.processes.len() < TREE_MAX {
            episode.processes.extend(part.processes);
            episode.parents.extend(part.parents);
        }
        episode.score = episode.score.max(part.score);
        episode.last_boot_ns = part.time_boot_ns;
        let grown = before != (episode.objects.len(), episode.subjects.len());
        (id, if grown { Joined::Grown } else { Joined::Same })
    }

    fn open(&mut self, part: &Part<'_>, uid: String) -> u64 {
        if self.open.len() >= OPEN_MAX {
            let oldest = self.open.iter().min_by_key(|(_, episode)| episode.last_boot_ns);
            if let Some(id) = oldest.map(|(id, _)| *id) {
                self.open.remove(&id);
            }
        }
        let id = self.next;
        self.next += 1;
        let episode = Episode {
            uid,
            subjects: BTreeSet::from([Arc::clone(part.subject)]),
            workload: part.subject.workload.clone(),
            objects: part.objects.clone(),
            processes: part.processes.clone(),
            parents: part.parents.clone(),
            score: part.score,
            last_boot_ns: part.time_boot_ns,
            sequence: 0,
            reported: None,
        };
        self.open.insert(id, episode);
        id
    }

    pub fn uid(&self, id: u64) -> Option<&str> {
        self.open.get(&id).map(|episode| episode.uid.as_str())
    }

    /// A number for an episode that no other has, in this run or another: the budget is saved with
    /// the episodes that it let alert, while ids begin anew with each run.
    pub fn key(&self, id: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.uid(id).hash(&mut hasher);
        hasher.finish()
    }

    pub fn get_mut(&mut self, id: u64) -> Option<&mut Episode> {
        self.open.get_mut(&id)
    }

    /// A subject of an open episode: its windows are neither learned nor calibrated on.
    pub fn involves(&self, subject: &Subject) -> bool {
        self.open.values().any(|episode| episode.subjects.contains(subject))
    }

    /// Takes out the episodes that are over at a time.
    pub fn expire(&mut self, now_boot_ns: u64) -> Vec<Episode> {
        let over: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, episode)| episode.last_boot_ns + GAP_NS < now_boot_ns)
            .map(|(id, _)| *id)
            .collect();
        over.iter().filter_map(|id| self.open.remove(id)).collect()
    }

    /// Takes out all of them, at the end.
    pub fn drain(&mut self) -> Vec<Episode> {
        std::mem::take(&mut self.open).into_values().collect()
    }
}

fn is_of_tree(episode: &Episode, part: &Part<'_>) -> bool {
    let known = |process: &u32| *process > 1 && episode.processes.contains(process);
    let starter = |process: &u32| *process > 1 && episode.parents.contains(process);
    part.processes.iter().chain(part.parents).any(known) || part.processes.iter().any(starter)
}

/// The kernel's own counters are no deed of the programs that run in no unit, nor the other way round.
fn is_of_workload(episode: &Episode, part: &Part<'_>) -> bool {
    let of_kernel = episode.subjects.iter().any(|subject| subject.is_host());
    episode.workload == part.subject.workload
        && of_kernel == part.subject.is_host()
        && part.objects.iter().all(|object| is_covered(object, episode))
}

/// An episode covers an object that it has. A new program and a count are also covered by another of
/// these: one piece of unusual work starts several programs and makes several bursts, and each
/// report of it still names them. A new peer, an exec from memory or a writable place and a change
/// of privileges are covered only by themselves, so that such work doesn't hide them.
fn is_covered(object: &Object, episode: &Episode) -> bool {
    let is_weak = |object: &Object| {
        matches!(object, Object::NewProgram { .. } | Object::NewChild { .. } | Object::Count { .. })
    };
    episode.objects.contains(object) || (is_weak(object) && episode.objects.iter().any(is_weak))
}

#[cfg(test)]
mod tests {
    use hedgerow_event::Program;

    use super::*;

    fn subject(program: &str) -> Arc<Subject> {
        let of_host = program.starts_with('/') || program == Subject::KERNEL;
        let workload = if of_host { Workload::HOST } else { "db.service" };
        Arc::new(Subject::new(Workload::new(workload), Program::new(program)))
    }

    fn join(
        episodes: &mut Episodes,
        program: &str,
        object: Object,
        tree: [u32; 2],
    ) -> (u64, Joined) {
        let subject = subject(program);
        let part = Part {
            subject: &subject,
            objects: &BTreeSet::from([object]),
            processes: &BTreeSet::from([tree[0]]),
            parents: &BTreeSet::from([tree[1]]),
            score: 0.7,
            time_boot_ns: 1,
        };
        episodes.join(&part, || program.to_owned())
    }

    fn new_program(program: &str) -> Object {
        Object::NewProgram { subject: subject(program) }
    }

    #[test]
    fn unusual_work_is_one_episode_and_does_not_hide_an_attack() {
        let mut episodes = Episodes::default();
        let (work, joined) = join(&mut episodes, "dump", new_program("dump"), [10, 9]);
        assert_eq!(joined, Joined::New);
        // Another tool, of another tree, then a shell that so far is no more than that.
        assert_eq!(join(&mut episodes, "ctl", new_program("ctl"), [20, 9]), (work, Joined::Grown));
        assert_eq!(join(&mut episodes, "sh", new_program("sh"), [30, 5]), (work, Joined::Grown));
        // It runs from memory: nothing of the work was like that.
        let memory = Object::ExecMemory { subject: subject("sh") };
        let (attack, joined) = join(&mut episodes, "sh", memory, [30, 5]);
        assert_eq!(joined, Joined::New);
        // What it starts belongs to it, though the work would cover it, too.
        assert_eq!(join(&mut episodes, "id", new_program("id"), [31, 30]), (attack, Joined::Grown));
    }

    #[test]
    fn what_the_kernel_counts_is_no_part_of_what_programs_do() {
        let mut episodes = Episodes::default();
        let (id, _) = join(&mut episodes, "/bin/a", new_program("/bin/a"), [10, 9]);
        assert_eq!(join(&mut episodes, "/bin/b", new_program("/bin/b"), [20, 9]).0, id);
        let flood = Object::Count {
            subject: subject(Subject::KERNEL),
            column: "host_closed_ports_count".into(),
            value: 0,
            largest: 0,
        };
        assert_eq!(join(&mut episodes, Subject::KERNEL, flood, [0, 0]).1, Joined::New);
    }

    #[test]
    fn one_process_tree_is_one_episode() {
        let mut episodes = Episodes::default();
        let (id, _) = join(&mut episodes, "sh", new_program("sh"), [30, 5]);
        let memory = Object::ExecMemory { subject: subject("sh") };
        assert_eq!(join(&mut episodes, "sh", memory, [30, 5]), (id, Joined::Grown));
    }
}
