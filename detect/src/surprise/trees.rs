//! What process trees did lately: the deeds of one tree within five minutes are one case.

use std::collections::{BTreeMap, BTreeSet};

use hedgerow_event::{Aspect, Class, DENIAL_NATS, Deed, Evidence, Finding, Object};

use super::{
    asked::Asked,
    floors::{Told, by_class},
    rates::Context,
};
use crate::{
    lineage::{Lineage, ProcessKey},
    objects::Witness,
};

/// A tree that did nothing for so long is over.
pub const QUIET_NS: u64 = 300_000_000_000;
/// Trees followed at once; past them one of the owner of workloads that has most is over.
const TREES_MAX: usize = 1024;
/// Processes of a tree that are told apart; further ones add nothing new.
const MEMBERS_MAX: usize = 1024;
/// Deeds of a tree that are named, several of each aspect and class; past them one makes room.
const DEEDS_MAX: usize = 64;
/// Surprise by which a tree must have grown to be told again.
const TELLING_NATS: f64 = 0.5;
/// Offenders of a tree that are told one by one, and processes that are known to have done the same.
const OFFENDERS_MAX: usize = 8;

/// One deed of a tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    pub witness: Witness,
    pub context: Context,
    /// Surprise in nats, as it was when it was done.
    pub nats: f64,
    /// Minutes since boot in which it was done.
    minutes: BTreeSet<u64>,
    /// Other processes that did the same, where a denial could rest on it.
    again: Vec<Witness>,
}

/// What a process tree did.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// The first that did something, its descendants that did, and a parent that joined them.
    members: BTreeSet<ProcessKey>,
    pub done: Vec<Done>,
    pub last_boot_ns: u64,
    /// Surprise in the gravest class that it has, as of its last deed.
    weight: f64,
    /// Something was added since it was judged.
    pub grown: bool,
    /// It was above its floor, notified of or not: what it did isn't learned.
    suspected: bool,
    /// Its surprise, and how many processes and peers there were to be denied, when it was last told
    /// or put to the responder.
    told: Option<(f64, usize)>,
    /// What the responder was asked.
    pub asked: Asked,
    /// It is to be asked something as soon as there is room.
    pub waits: bool,
    /// When its last case was opened, and what was last told of it.
    case: Option<(u64, Box<Finding>)>,
}

/// Whose deed it is.
pub fn key(witness: &Witness) -> ProcessKey {
    (witness.tgid, witness.start_boot_ns)
}

/// Trees by number.
#[derive(Debug, Default)]
pub struct Trees {
    open: BTreeMap<u64, Tree>,
    next: u64,
    over: Vec<(u64, Tree)>,
    /// Trees that had to go for others.
    forgotten: u64,
}

impl Done {
    pub fn deed(&self) -> Deed {
        self.witness.object.deed()
    }

    /// A denial can rest on it.
    pub fn decides(&self) -> bool {
        self.deed().may_deny() || self.deed() == Deed::NewPeer
    }

    /// Who did it.
    pub fn witnesses(&self) -> impl Iterator<Item = &Witness> {
        std::iter::once(&self.witness).chain(&self.again)
    }

    /// Notes that it was done once more; true where that is to be asked about: another process did it, or
    /// what came of asking is over.
    fn repeat(&mut self, witness: Witness, asked: &Asked) -> bool {
        if !self.decides() {
            return false;
        }
        let is_due = asked.is_due(&witness);
        let mut known = std::iter::once(&mut self.witness).chain(&mut self.again);
        if let Some(same) = known.find(|known| key(known) == key(&witness)) {
            if is_due {
                *same = witness;
            }
            return is_due;
        }
        if self.again.len() + 1 < OFFENDERS_MAX {
            self.again.push(witness);
            return true;
        }
        // Who nothing was asked about, and did it longest ago, makes room.
        let oldest = self.again.iter_mut().filter(|_| is_due);
        let oldest = oldest.min_by_key(|other| (asked.knows(key(other)), other.time_boot_ns));
        oldest.map(|oldest| *oldest = witness).is_some()
    }
}

impl Tree {
    /// What several trees did, as if one had.
    pub fn of(done: Vec<Done>) -> Self {
        Self { done, ..Self::default() }
    }

    /// The most surprising deed of each aspect: what the tree's surprise is the sum of.
    pub fn counted(&self) -> Vec<&Done> {
        let mut best: BTreeMap<Aspect, &Done> = BTreeMap::new();
        for done in &self.done {
            let best = best.entry(done.deed().aspect()).or_insert(done);
            if done.nats > best.nats {
                *best = done;
            }
        }
        best.into_values().collect()
    }

    /// It is above its floor, or was.
    pub fn is_suspected(&self) -> bool {
        self.suspected
    }

    /// Whether it is more surprising than when it was last told, or above its floor for the first time.
    pub fn is_graver(&self, nats: f64, above: bool) -> bool {
        let more = |(told, _)| nats > told + TELLING_NATS;
        (above && !self.suspected) || self.told.is_none_or(more)
    }

    /// Whether somebody else, or another peer, is to be denied than when it was last told.
    pub fn has_more_offenders(&self) -> bool {
        self.told.is_none_or(|(_, offenders)| self.offenders() > offenders)
    }

    /// Notes that it was told, or put to the responder from below its floor.
    pub fn tell(&mut self, nats: f64, above: bool) {
        let offenders = self.offenders();
        self.suspected |= above;
        self.told = Some((nats, offenders));
    }

    /// What each of its processes did by itself: what one did speaks for no denial of another.
    pub fn by_process(&self) -> BTreeMap<ProcessKey, Self> {
        let mut own: BTreeMap<ProcessKey, Self> = BTreeMap::new();
        for done in &self.done {
            for witness in done.witnesses() {
                let done = Done { witness: witness.clone(), again: Vec::new(), ..done.clone() };
                own.entry(key(witness)).or_default().done.push(done);
            }
        }
        own
    }

    /// How much speaks for asking about it: one peer more than another adds nothing.
    pub fn grounds(&self) -> usize {
        let (peers, other): (Vec<&Done>, Vec<&Done>) =
            self.done.iter().partition(|done| done.deed() == Deed::NewPeer);
        other.len() + peers.len().min(1)
    }

    /// Notes what the responder was asked.
    pub fn ask(&mut self, evidence: &[Evidence], now_boot_ns: u64) {
        let mut asked = std::mem::take(&mut self.asked);
        asked.note_all(self, evidence, now_boot_ns);
        self.asked = asked;
    }

    /// Notes what was last told of it, and of a fresh case when that began.
    pub fn report(&mut self, finding: Box<Finding>, is_fresh: bool, now_boot_ns: u64) {
        let begun = self.case.as_ref().map(|(begun, _)| *begun).filter(|_| !is_fresh);
        self.case = Some((begun.unwrap_or(now_boot_ns), finding));
    }

    /// What was last told of it, in a case that began after that time.
    pub fn told_since(&self, boot_ns: u64) -> Option<Box<Finding>> {
        let since = self.case.as_ref().filter(|(begun, _)| *begun > boot_ns);
        since.map(|(_, finding)| finding.clone())
    }

    /// Names one more deed. Where there is no more room one that its surprise doesn't rest on makes some, of
    /// the aspect and class that has most: many deeds of one kind take no room from another's, and a grave deed
    /// doesn't drown behind many that are nothing; nor does what a denial could rest on of who was asked about.
    fn name(&mut self, done: Done) {
        if self.done.len() >= DEEDS_MAX {
            let kind = |done: &Done| (done.deed().aspect(), done.deed().class());
            let own = kind(&done);
            let mut of = BTreeMap::from([(own, 1)]);
            for known in &self.done {
                *of.entry(kind(known)).or_insert(0) += 1;
            }
            let counts: Vec<*const Done> =
                self.counted().into_iter().map(std::ptr::from_ref).collect();
            let spare = || {
                let known = self.done.iter().enumerate();
                known.filter(|(_, other)| !counts.contains(&std::ptr::from_ref(*other)))
            };
            let most = spare()
                .map(|(_, other)| kind(other))
                .max_by_key(|of_it| (of[of_it], *of_it == own));
            let least = spare().filter(|(_, other)| Some(kind(other)) == most);
            let least = least.min_by(|(_, a), (_, b)| {
                let grave = |done: &Done| done.deed().may_deny();
                grave(a).cmp(&grave(b)).then(a.nats.total_cmp(&b.nats))
            });
            let is_due = done.decides() && self.asked.knows(key(&done.witness));
            let least =
                least.filter(|(_, least)| is_due || most != Some(own) || least.nats < done.nats);
            let Some((at, _)) = least else { return };
            self.done.remove(at);
        }
        self.grown = true;
        self.done.push(done);
        self.weight = self.nats().into_values().next_back().unwrap_or(0.0);
    }

    /// A denial could rest on it.
    pub fn is_grave(&self) -> bool {
        self.weight >= DENIAL_NATS
    }

    /// Whose first deed it began with.
    fn owner(&self) -> Option<&str> {
        self.done.first().map(|done| done.witness.subject.workload.owner())
    }

    /// Processes with a deed that a denial can rest on, and peers.
    fn offenders(&self) -> usize {
        let grave = self
            .done
            .iter()
            .filter(|done| done.deed().class() == Class::Intrinsic || done.deed() == Deed::NewPeer);
        let named: BTreeSet<_> = grave.map(|done| (done.witness.tgid, done.witness.peer)).collect();
        named.len().min(OFFENDERS_MAX)
    }

    /// Surprise by class.
    pub fn nats(&self) -> BTreeMap<Class, f64> {
        let counted = self.counted();
        by_class(counted.iter().map(|done| (done.deed(), done.nats)))
    }

    /// The gravest of its classes.
    pub fn class(&self) -> Class {
        self.done.iter().map(|done| done.deed().class()).max().unwrap_or(Class::Measure)
    }

    /// What is held back of it.
    pub fn told(&self) -> Told {
        let told = |done: &Done| (done.deed(), done.context.clone(), done.minutes.len() as f64);
        Told { deeds: self.counted().into_iter().map(told).collect() }
    }

    /// Every deed with its context and the minutes in which it was done, to be counted.
    pub fn counts(&self) -> impl Iterator<Item = (Deed, &Context, u64)> {
        self.done.iter().flat_map(|done| {
            done.minutes.iter().map(|minute| (done.deed(), &done.context, *minute))
        })
    }

    pub fn objects(&self) -> BTreeSet<Object> {
        self.done.iter().map(|done| done.witness.object.clone()).collect()
    }

    pub fn processes(&self) -> impl Iterator<Item = u32> {
        self.members.iter().map(|(tgid, _)| *tgid)
    }
}

impl Trees {
    /// Puts a deed into the tree of the process that did it; gives the tree's number.
    pub fn add(&mut self, lineage: &Lineage, witness: Witness, context: Context, nats: f64) -> u64 {
        let key = key(&witness);
        let now = witness.time_boot_ns;
        let id = self.of(lineage, key, &witness).unwrap_or_else(|| self.open(now));
        let Some(tree) = self.open.get_mut(&id) else { return id };
        if tree.members.len() < MEMBERS_MAX {
            tree.members.insert(key);
        }
        tree.last_boot_ns = tree.last_boot_ns.max(now);
        let minute = now / 60_000_000_000;
        if let Some(known) = tree.done.iter_mut().find(|d| d.witness.object == witness.object) {
            known.minutes.insert(minute);
            tree.grown |= known.repeat(witness, &tree.asked);
            return id;
        }
        let minutes = BTreeSet::from([minute]);
        tree.name(Done { witness, context, nats, minutes, again: Vec::new() });
        id
    }

    /// The tree that holds the process, one of its ancestors, or a child of it. What the kernel
    /// counts belongs to no process: its trees are told apart by their subject.
    fn of(&self, lineage: &Lineage, key: ProcessKey, witness: &Witness) -> Option<u64> {
        let recent =
            |tree: &&Tree| witness.time_boot_ns <= tree.last_boot_ns.saturating_add(QUIET_NS);
        let trees = || self.open.iter().filter(|(_, tree)| recent(tree));
        if key.0 == 0 {
            let subject = witness.object.subject();
            let same = |tree: &Tree| {
                tree.members.contains(&key)
                    && tree.done.iter().any(|done| done.witness.object.subject() == subject)
            };
            return trees().find(|(_, tree)| same(tree)).map(|(id, _)| *id);
        }
        let line: Vec<ProcessKey> = lineage.ancestors(key).collect();
        let holds = |member: &ProcessKey| {
            trees().find(|(_, tree)| tree.members.contains(member)).map(|(id, _)| *id)
        };
        std::iter::once(&key).chain(&line).find_map(holds).or_else(|| {
            let child_of = |tree: &Tree| {
                tree.members.iter().any(|member| lineage.parent(*member) == Some(key))
            };
            trees().find(|(_, tree)| child_of(tree)).map(|(id, _)| *id)
        })
    }

    fn open(&mut self, now_boot_ns: u64) -> u64 {
        if self.open.len() >= TREES_MAX {
            self.make_room();
        }
        let id = self.next;
        self.next += 1;
        self.open.insert(id, Tree { last_boot_ns: now_boot_ns, ..Tree::default() });
        id
    }

    /// Ends a tree of the owner that has most, so that nobody ends another's: first such as no denial could
    /// rest on, of them the one that has been quiet longest.
    fn make_room(&mut self) {
        let mut of: BTreeMap<Option<&str>, usize> = BTreeMap::new();
        for tree in self.open.values() {
            *of.entry(tree.owner()).or_default() += 1;
        }
        let most = of.into_iter().max_by_key(|(_, count)| *count).and_then(|(owner, _)| owner);
        let own = self.open.iter().filter(|(_, tree)| tree.owner() == most);
        let grave = |tree: &Tree| tree.suspected || tree.is_grave();
        let least = own.min_by_key(|(_, tree)| (grave(tree), tree.last_boot_ns));
        if let Some(id) = least.map(|(id, _)| *id) {
            self.over.extend(self.open.remove_entry(&id));
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
        found.extend(over.iter().filter_map(|id| self.open.remove_entry(id)));
        found
    }

    /// Takes out all of them, at the end.
    pub fn drain(&mut self) -> Vec<(u64, Tree)> {
        let mut found = std::mem::take(&mut self.over);
        found.extend(std::mem::take(&mut self.open));
        found
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hedgerow_event::{Program, Subject, Workload};

    use super::*;

    fn add(trees: &mut Trees, object: Object, nats: f64) -> u64 {
        add_by(trees, (7, 1), object, nats)
    }

    fn add_by(trees: &mut Trees, (tgid, at): (u32, u64), object: Object, nats: f64) -> u64 {
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
        trees.add(&Lineage::default(), witness, context, nats)
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
        assert_eq!((trees.open.len(), trees.forgotten()), (TREES_MAX, 2001 - TREES_MAX as u64));
        assert_eq!(trees.over(3000).len() as u64, trees.forgotten(), "what they did is held back");
    }
}
