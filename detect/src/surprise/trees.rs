//! Process trees of late: the deeds of one tree, each within five minutes of the one before, are one case.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hedgerow_event::{Subject, Workload};
use hedgerow_features::fair;

use super::{
    rates::{Context, Minutes},
    tree::{Done, Tree, key},
};
use crate::{
    lineage::{Lineage, ProcessKey},
    objects::Witness,
};

/// A tree that did nothing for so long is over.
pub const QUIET_NS: u64 = 300_000_000_000;
/// Trees followed at once; past them some of the owner of workloads that has most are over.
const TREES_MAX: usize = 1024;
/// Processes of a tree that are told apart; further ones add nothing new.
const MEMBERS_MAX: usize = 1024;
/// Processes of all trees together. Past them a tree has these few, where its owner has a share of them.
const MEMBERS_OF_ALL: usize = 65_536;
const MEMBERS_SHARE: usize = MEMBERS_OF_ALL / 8;
const MEMBERS_LEAST: usize = 16;

/// Trees by number.
#[derive(Debug, Default)]
pub struct Trees {
    open: BTreeMap<u64, Tree>,
    /// The tree of each member, and of what the kernel counts of each subject: what is done by a host that
    /// is full of trees costs no more to place than by a quiet one.
    of: BTreeMap<ProcessKey, u64>,
    of_kernel: BTreeMap<Arc<Subject>, u64>,
    /// What each member was forked from, with its tree.
    parents: BTreeSet<(ProcessKey, u64)>,
    next: u64,
    over: Vec<(u64, Tree)>,
    /// Trees that had to go for others.
    forgotten: u64,
}

impl Trees {
    /// Puts a deed into the tree of the process that did it; gives the tree's number.
    pub fn add(&mut self, lineage: &Lineage, witness: Witness, context: Context, nats: f64) -> u64 {
        let key = key(&witness);
        let now = witness.time_boot_ns;
        let id = self.of(lineage, key, &witness).unwrap_or_else(|| self.open(now));
        // Most deeds are of members: only a new one is worth a look at all trees.
        let is_new = self.open.get(&id).is_some_and(|tree| !tree.members.contains_key(&key));
        let most = if is_new { self.members_max(id) } else { 0 };
        let Some(tree) = self.open.get_mut(&id) else { return id };
        if key.0 == 0 {
            self.of_kernel.insert(Arc::clone(witness.object.subject()), id);
        }
        if tree.members.len() < most {
            let parent = lineage.parent(key);
            tree.members.insert(key, parent);
            if key.0 != 0 {
                self.of.insert(key, id);
                self.parents.extend(parent.map(|parent| (parent, id)));
            }
        }
        tree.last_boot_ns = tree.last_boot_ns.max(now);
        let minute = now / 60_000_000_000;
        if let Some(known) = tree.done.iter_mut().find(|d| d.witness.object == witness.object) {
            known.minutes.add(minute);
            tree.grown |= known.repeat(witness, &tree.asked);
            return id;
        }
        let minutes = Minutes::of(minute);
        tree.name(Done { witness, context, nats, minutes, again: Vec::new() });
        id
    }

    /// How many processes a tree may have: who fills the table has no more than a few in each.
    fn members_max(&self, id: u64) -> usize {
        fn owner(tree: &Tree) -> Option<&str> {
            tree.workload().map(Workload::owner)
        }
        let Some(own) = self.open.get(&id).filter(|_| self.of.len() >= MEMBERS_OF_ALL) else {
            return MEMBERS_MAX;
        };
        let of_owner = self.open.values().filter(|tree| owner(tree) == owner(own));
        let has = of_owner.map(|tree| tree.members.len()).sum::<usize>();
        if has < MEMBERS_SHARE { MEMBERS_MAX } else { MEMBERS_LEAST }
    }

    /// The tree that holds the process, one of its ancestors, or a child of it. What the kernel
    /// counts belongs to no process: its trees are told apart by their subject.
    fn of(&self, lineage: &Lineage, key: ProcessKey, witness: &Witness) -> Option<u64> {
        let is_recent = |id: &u64| {
            let tree = self.open.get(id);
            tree.is_some_and(|tree| {
                witness.time_boot_ns <= tree.last_boot_ns.saturating_add(QUIET_NS)
            })
        };
        if key.0 == 0 {
            return self.of_kernel.get(witness.object.subject()).copied().filter(is_recent);
        }
        let holds = |member: ProcessKey| self.of.get(&member).copied().filter(is_recent);
        std::iter::once(key).chain(lineage.ancestors(key)).find_map(holds).or_else(|| {
            let children = self.parents.range((key, 0)..=(key, u64::MAX));
            children.map(|(_, id)| *id).find(is_recent)
        })
    }

    /// Takes out a tree, and who leads to it.
    fn close(&mut self, id: u64) -> Option<(u64, Tree)> {
        let tree = self.open.remove(&id)?;
        for (member, parent) in &tree.members {
            // Who went on later is in a later one.
            if self.of.get(member) == Some(&id) {
                self.of.remove(member);
            }
            if let Some(parent) = parent {
                self.parents.remove(&(*parent, id));
            }
        }
        self.of_kernel.retain(|_, own| *own != id);
        Some((id, tree))
    }

    fn open(&mut self, now_boot_ns: u64) -> u64 {
        if self.open.len() >= TREES_MAX {
            self.make_room();
        }
        let id = self.next;
        self.next += 1;
        self.open.insert(id, Tree::begun(now_boot_ns));
        id
    }

    /// Ends trees of the owner that has most, so that nobody ends another's: first such as no denial could
    /// rest on, of them those that have been quiet longest.
    fn make_room(&mut self) {
        let all = self.open.iter().map(|(id, tree)| {
            let is_grave = tree.is_suspected() || tree.is_grave();
            (tree.workload().map(Workload::owner), (is_grave, tree.last_boot_ns), *id)
        });
        for id in fair::make_room(all, fair::room(TREES_MAX)) {
            let over = self.close(id);
            self.over.extend(over);
            self.forgotten += 1;
        }
    }

    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    pub fn get(&self, id: u64) -> Option<&Tree> {
        self.open.get(&id)
    }

    pub fn get_mut(&mut self, id: u64) -> Option<&mut Tree> {
        self.open.get_mut(&id)
    }

    /// What had to wait to be asked is judged once more.
    pub fn wake(&mut self) {
        self.open.values_mut().for_each(|tree| tree.grown |= std::mem::take(&mut tree.waits));
    }

    /// Those that were reported as one of these cases are an attack's; gives how many.
    pub fn confirm(&mut self, cases: &BTreeSet<&str>) -> usize {
        let of = self.open.values_mut().filter(|tree| !tree.is_attack && tree.is_one_of(cases));
        of.map(|tree| tree.is_attack = true).count()
    }

    /// Trees that something was added to since they were judged.
    pub fn unjudged(&self) -> impl Iterator<Item = &Tree> {
        self.open.values().filter(|tree| tree.grown)
    }

    /// The same by number; they are taken to be judged now.
    pub fn grown(&mut self) -> Vec<u64> {
        let grown = self.open.iter_mut().filter(|(_, tree)| tree.grown);
        grown
            .map(|(id, tree)| {
                tree.grown = false;
                *id
            })
            .collect()
    }

    /// Takes out the trees that are over at a time.
    pub fn over(&mut self, now_boot_ns: u64) -> Vec<(u64, Tree)> {
        let over: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, tree)| tree.last_boot_ns.saturating_add(QUIET_NS) < now_boot_ns)
            .map(|(id, _)| *id)
            .collect();
        let mut found = std::mem::take(&mut self.over);
        found.extend(over.into_iter().filter_map(|id| self.close(id)));
        found
    }

    /// Takes out all of them, at the end.
    pub fn drain(&mut self) -> Vec<(u64, Tree)> {
        let mut found = std::mem::take(&mut self.over);
        found.extend(std::mem::take(&mut self.open));
        self.of.clear();
        self.of_kernel.clear();
        self.parents.clear();
        found
    }
}

#[cfg(test)]
mod tests {
    use hedgerow_event::{Aspect, Class, DENIAL_NATS, Deed, Object, Program};

    use super::{super::tree::DEEDS_MAX, *};

    fn add(trees: &mut Trees, object: Object, nats: f64) -> u64 {
        add_by(trees, (7, 1), object, nats)
    }

    fn add_by(trees: &mut Trees, by: (u32, u64), object: Object, nats: f64) -> u64 {
        add_in(trees, &Lineage::default(), by, object, nats)
    }

    fn add_in(
        trees: &mut Trees,
        lineage: &Lineage,
        (tgid, at): (u32, u64),
        object: Object,
        nats: f64,
    ) -> u64 {
        let subject = Arc::clone(object.subject());
        let witness = Witness {
            object,
            subject,
            time_boot_ns: at,
            tgid,
            parent_tgid: 1,
            start_boot_ns: 1,
            cgroup_id: 1,
            program_id: 1,
            file: None,
            of_host: None,
            peer: None,
            uid: 0,
            login_uid: None,
            arguments: "".into(),
        };
        let context = Context { workload: Workload::new("web.service"), program: 1 };
        trees.add(lineage, witness, context, nats)
    }

    fn subject(name: usize) -> Arc<Subject> {
        Arc::new(Subject::new(Workload::new("web.service"), Program::new(format!("/bin/{name}"))))
    }

    #[test]
    fn a_grave_deed_does_not_drown_behind_many_that_are_nothing() {
        let mut trees = Trees::default();
        let mut id = 0;
        for name in 0..2 * DEEDS_MAX {
            id = add(&mut trees, Object::NewProgram { subject: subject(name) }, 0.5);
        }
        trees.grown();
        trees.get_mut(id).into_iter().for_each(|tree| tree.tell(0.5, true));
        let grave = Object::ExecMemory { subject: subject(0) };
        assert_eq!(add(&mut trees, grave, 9.0), id);
        assert_eq!(trees.grown(), [id]);
        let tree = trees.get(id).cloned().unwrap_or_default();
        assert_eq!(tree.done.len(), DEEDS_MAX);
        assert!(tree.nats()[&Class::Intrinsic] >= 9.0 && tree.is_graver(9.0, true));
        // What is less surprising than all that is named finds no room.
        add(&mut trees, Object::NewProgram { subject: subject(999) }, 0.1);
        assert_eq!(trees.grown(), Vec::<u64>::new());
    }

    /// Whoever reads a secret of each of many processes first is no less found to send it away: equally
    /// grave deeds of one aspect leave room for those of others, and for a new peer.
    #[test]
    fn deeds_of_one_aspect_take_no_room_from_anothers() {
        let mut trees = Trees::default();
        let did = |deed: Deed, what: String| Object::Did {
            subject: subject(0),
            deed,
            what: what.into(),
            contact: None,
        };
        let mut id = 0;
        for name in 0..2 * DEEDS_MAX {
            id = add(&mut trees, did(Deed::Secret, format!("/proc/{name}/environ")), 9.0);
        }
        add(&mut trees, did(Deed::Outflow, "10 GB".into()), 9.0);
        let peer = hedgerow_event::Peer { address: [192, 0, 2, 9].into(), port: 443 };
        add(&mut trees, Object::NewPeer { subject: subject(0), peer, protocol: None }, 3.0);
        assert_eq!(trees.grown(), [id]);
        // Nor do many that are merely new, and more surprising, hide one that is grave by itself.
        add(&mut trees, Object::ExecMemory { subject: subject(0) }, 8.0);
        for name in 0..2 * DEEDS_MAX {
            add(&mut trees, did(Deed::RuntimeCode, name.to_string()), 8.5);
        }
        let tree = trees.get(id).cloned().unwrap_or_default();
        assert_eq!(tree.done.len(), DEEDS_MAX);
        let aspects: BTreeSet<Aspect> =
            tree.counted().iter().map(|done| done.deed().aspect()).collect();
        let all = [Aspect::Image, Aspect::Secrets, Aspect::Peer, Aspect::Outflow];
        assert_eq!(aspects, all.into());
        assert!(tree.done.iter().any(|done| done.deed() == Deed::ExecMemory));
        assert!(tree.is_grave());
        // What is no more surprising than all of its own finds no room, and is nothing to judge.
        trees.grown();
        add(&mut trees, did(Deed::RuntimeCode, "more".into()), 8.5);
        assert_eq!(trees.grown(), Vec::<u64>::new());
    }

    /// However many processes all trees have, those of who has no share of them have all of theirs, and those of
    /// who has one the first, by which they go on.
    #[test]
    fn a_host_full_of_members_leaves_a_tree_its_first() {
        let (mut trees, mut lineage) = (Trees::default(), Lineage::default());
        let pid = |at: u64| u32::try_from(at).unwrap_or_default();
        let others = || (0..MEMBERS_OF_ALL as u64).map(|at| (pid(at + 1_000), 9));
        trees.of.extend(others().map(|member| (member, u64::MAX)));
        let who = subject(0);
        let first = add_by(&mut trees, (7, 1), Object::ExecMemory { subject: subject(1) }, 9.0);
        assert_eq!(trees.members_max(first), MEMBERS_MAX);
        let second = add_by(&mut trees, (6, 1), Object::ExecMemory { subject: subject(1) }, 9.0);
        if let Some(second) = trees.open.get_mut(&second) {
            second.members.extend(others().take(MEMBERS_SHARE).map(|member| (member, None)));
        }
        for child in 8..60 {
            let mut event = crate::common::event(&who, 1, 4 * 7, crate::common::fork(child));
            event.actor.start_boot_ns = 1;
            if let hedgerow_event::Origin::Fork(fork) = &mut event.origin {
                fork.child_start_boot_ns = 1;
            }
            lineage.observe(&event);
            let object = Object::NewProgram { subject: subject(child as usize) };
            assert_eq!(add_in(&mut trees, &lineage, (child, 1), object, 1.0), first);
        }
        assert_eq!(trees.get(first).map(|tree| tree.members.len()), Some(MEMBERS_LEAST));
    }

    /// Whoever is drawn into a tree that goes on for long doesn't take it over, nor is it judged by his floor.
    #[test]
    fn a_tree_stays_his_whose_first_deed_it_began_with() {
        let mut trees = Trees::default();
        let read = |subject: &Arc<Subject>, what: usize| Object::Did {
            subject: Arc::clone(subject),
            deed: Deed::Secret,
            what: what.to_string().into(),
            contact: None,
        };
        let id = add(&mut trees, read(&subject(0), 0), 0.1);
        let other = Arc::new(Subject::new(Workload::new("other.service"), Program::new("/bin/x")));
        for what in 0..2 * DEEDS_MAX {
            assert_eq!(add(&mut trees, read(&other, what), 9.0), id);
        }
        let tree = trees.get(id).cloned().unwrap_or_default();
        assert!(tree.done.iter().all(|done| *done.witness.subject == *other));
        assert_eq!(tree.workload().map(Workload::as_str), Some("web.service"));
        assert_eq!(tree.told(false).workload.as_ref().map(Workload::as_str), Some("web.service"));
    }

    /// As where what is grave lies below its floor, and what is merely new above its own.
    #[test]
    fn the_reason_names_what_is_grave_first() {
        let mut trees = Trees::default();
        let id = add(&mut trees, Object::NewProgram { subject: subject(0) }, 9.0);
        let peer = hedgerow_event::Peer { address: [192, 0, 2, 9].into(), port: 443 };
        add(&mut trees, Object::NewPeer { subject: subject(0), peer, protocol: None }, 9.0);
        add(&mut trees, Object::ExecMemory { subject: subject(0) }, 6.0);
        let tree = trees.get(id).cloned().unwrap_or_default();
        let reason = crate::said::finding::tree_reason(&tree.counted(), 18.0, 12.0);
        let first = Object::ExecMemory { subject: subject(0) }.to_string();
        assert!(reason.starts_with(&first), "{reason}");
    }

    /// Which tree a deed belongs to, by looking at all of them.
    fn looked_for(trees: &Trees, lineage: &Lineage, key: ProcessKey, now: u64) -> Option<u64> {
        let recent = || {
            let open = trees.open.iter();
            open.filter(|(_, tree)| now <= tree.last_boot_ns.saturating_add(QUIET_NS))
        };
        let line: Vec<ProcessKey> = std::iter::once(key).chain(lineage.ancestors(key)).collect();
        let holds = |member: &ProcessKey| {
            recent().find(|(_, tree)| tree.members.contains_key(member)).map(|(id, _)| *id)
        };
        line.iter().find_map(holds).or_else(|| {
            let child_of = |tree: &Tree| {
                tree.members.keys().any(|member| lineage.parent(*member) == Some(key))
            };
            recent().find(|(_, tree)| child_of(tree)).map(|(id, _)| *id)
        })
    }

    /// Deeds of many processes, some of which are quiet for long, are placed as by looking at all trees,
    /// and who leads to them is forgotten with them.
    #[test]
    fn a_deed_finds_its_tree_without_looking_at_all() {
        let (mut trees, mut lineage) = (Trees::default(), Lineage::default());
        let mut seed = 7u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let who = subject(0);
        for child in 2..400u32 {
            let parent = 1 + random(u64::from(child) - 1) as u32;
            let mut event = crate::common::event(&who, 1, 4 * parent, crate::common::fork(child));
            event.actor.start_boot_ns = 1;
            if let hedgerow_event::Origin::Fork(fork) = &mut event.origin {
                fork.child_start_boot_ns = 1;
            }
            lineage.observe(&event);
        }
        let mut now = 1;
        for at in 0..4000 {
            now += random(QUIET_NS / 8);
            let tgid = 1 + random(399) as u32;
            let object = Object::NewProgram { subject: subject(at) };
            let expected = looked_for(&trees, &lineage, (tgid, 1), now);
            let next = trees.next;
            let id = add_in(&mut trees, &lineage, (tgid, now), object, 1.0);
            assert_eq!(id, expected.unwrap_or(next), "{at}");
            if at % 64 == 0 {
                trees.over(now);
                let members: usize = trees.open.values().map(|tree| tree.members.len()).sum();
                assert!(trees.of.len() <= members && trees.parents.len() <= members);
            }
        }
        trees.over(now + 2 * QUIET_NS);
        assert!(trees.of.is_empty() && trees.parents.is_empty() && trees.open.is_empty());
    }

    /// Who opens many trees ends his own, in however many units of his he does: neither another workload's, nor
    /// one of his that a denial could rest on.
    #[test]
    fn a_flood_of_trees_ends_those_of_who_floods() {
        let mut trees = Trees::default();
        let web = add(&mut trees, Object::NewProgram { subject: subject(0) }, 2.0);
        let job = |name: usize| {
            let program = Program::new(format!("/bin/{name}"));
            let unit = format!("user@1000.service/{}.service", name % 1024);
            Arc::new(Subject::new(Workload::new(unit), program))
        };
        let grave = Object::ExecMemory { subject: job(0) };
        let grave = add_by(&mut trees, (8, 2), grave, DENIAL_NATS);
        for name in 1..2000 {
            let object = Object::NewProgram { subject: job(name) };
            add_by(&mut trees, (10 + name as u32, 2 + name as u64), object, 2.0);
        }
        assert!(trees.get(web).is_some() && trees.get(grave).is_some());
        let gone = trees.forgotten();
        assert_eq!(trees.open.len() as u64, 2001 - gone);
        assert!(
            trees.open.len() <= TREES_MAX && trees.open.len() > TREES_MAX - fair::room(TREES_MAX)
        );
        assert_eq!(trees.over(3000).len() as u64, gone, "what they did is held back");
    }
}
