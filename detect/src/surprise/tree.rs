//! What one process tree did: its deeds are one case.

use std::collections::{BTreeMap, BTreeSet};

use hedgerow_event::{Aspect, Class, DENIAL_NATS, Deed, Evidence, Finding, Object, Workload};

use super::{
    asked::Asked,
    floors::{Told, by_class},
    rates::{Context, Minutes},
};
use crate::{lineage::ProcessKey, objects::Witness};

/// Deeds of a tree that are named, several of each aspect and class; past them one makes room.
pub(super) const DEEDS_MAX: usize = 64;
/// Surprise by which a tree must have grown to be told again.
const TELLING_NATS: f64 = 0.5;
/// Offenders of a tree that are told one by one, and processes that are known to have done the same.
const OFFENDERS_MAX: usize = 8;
/// Cases of a tree that are remembered.
const UIDS_MAX: usize = 16;

/// One deed of a tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    pub witness: Witness,
    pub context: Context,
    /// Surprise in nats, as it was when it was done.
    pub nats: f64,
    /// Minutes since boot in which it was done.
    pub(super) minutes: Minutes,
    /// Other processes that did the same, where a denial could rest on it.
    pub(super) again: Vec<Witness>,
}

/// What a process tree did.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// The first that did something, its descendants that did, and a parent that joined them, with the
    /// processes that they were forked from.
    pub(super) members: BTreeMap<ProcessKey, Option<ProcessKey>>,
    pub done: Vec<Done>,
    /// Whose first deed it began with, which may have made room since.
    owner: Option<Workload>,
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
    /// The uids of the cases that it was reported as, the newest.
    uids: Vec<String>,
    /// That was confirmed to be an attack.
    pub is_attack: bool,
    /// Something of it was done in maintenance, which is no normal life.
    pub is_maintenance: bool,
}

/// Whose deed it is.
pub fn key(witness: &Witness) -> ProcessKey {
    (witness.tgid, witness.start_boot_ns)
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
    pub(super) fn repeat(&mut self, witness: Witness, asked: &Asked) -> bool {
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
    pub fn begun(boot_ns: u64) -> Self {
        Self { last_boot_ns: boot_ns, ..Self::default() }
    }

    /// What several trees did, as if one had.
    pub fn of(done: Vec<Done>) -> Self {
        let owner = done.first().map(|done| done.witness.subject.workload.clone());
        Self { done, owner, ..Self::default() }
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
        self.report_as(&finding.uid);
        self.case = Some((begun.unwrap_or(now_boot_ns), finding));
    }

    /// Notes the uid of a case that it was reported as.
    pub fn report_as(&mut self, uid: &str) {
        if self.uids.iter().all(|known| known != uid) {
            self.uids.push(uid.to_owned());
        }
        self.uids.drain(..self.uids.len().saturating_sub(UIDS_MAX));
    }

    /// Whether it was reported as one of these cases.
    pub fn is_one_of(&self, cases: &BTreeSet<&str>) -> bool {
        self.uids.iter().any(|uid| cases.contains(&**uid))
    }

    /// What was last told of it, in a case that began after that time.
    pub fn told_since(&self, boot_ns: u64) -> Option<Box<Finding>> {
        let since = self.case.as_ref().filter(|(begun, _)| *begun > boot_ns);
        since.map(|(_, finding)| finding.clone())
    }

    /// Names one more deed. Where there is no more room one that its surprise doesn't rest on makes some, of
    /// the aspect and class that has most: many deeds of one kind take no room from another's, and a grave deed
    /// doesn't drown behind many that are nothing; nor does what a denial could rest on of who was asked about.
    pub(super) fn name(&mut self, done: Done) {
        self.owner.get_or_insert_with(|| done.witness.subject.workload.clone());
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
    pub fn workload(&self) -> Option<&Workload> {
        self.owner.as_ref()
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

    /// What is held back of it; `counted` where the rates have it, too.
    pub fn told(&self, counted: bool) -> Told {
        let told = |done: &Done| (done.deed(), done.context.clone(), done.minutes.count as f64);
        let deeds = self.counted().into_iter().map(told).collect();
        let (workload, cases) = (self.workload().cloned(), self.uids.clone());
        Told { deeds, workload, cases, counted }
    }

    /// Every deed with its context and the minutes in which it was done, to be counted.
    pub fn counts(&self) -> impl Iterator<Item = (Deed, &Context, Minutes)> {
        self.done.iter().map(|done| (done.deed(), &done.context, done.minutes))
    }

    pub fn objects(&self) -> BTreeSet<Object> {
        self.done.iter().map(|done| done.witness.object.clone()).collect()
    }

    pub fn processes(&self) -> impl Iterator<Item = u32> {
        self.members.keys().map(|(tgid, _)| *tgid)
    }
}
