//! Whom the responder is asked about for what a tree did.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use hedgerow_event::{Aspect, Class, DENIAL_NATS, Deed, Evidence, Loss, Object, Scale, Subject};
use hedgerow_features::Window;

use crate::{
    Engine,
    lineage::ProcessKey,
    objects::Witness,
    surprise::{
        asked::Asked,
        tree::{Done, Tree, key},
    },
};

/// The class of a tree that a denial may rest on, and its surprise.
pub(crate) fn deniable(tree: &Tree) -> Option<(Class, f64)> {
    let gravest = tree.nats().into_iter().next_back();
    gravest.filter(|(_, nats)| *nats >= DENIAL_NATS)
}

/// The window that a tree's latest deed which has one was done in.
pub(crate) fn window_of<'a>(tree: &Tree, windows: &'a [Window]) -> Option<&'a Window> {
    tree.counted().iter().rev().find_map(|done| {
        windows.iter().find(|window| {
            window.subject == done.witness.subject && window.time.scale == Scale::Seconds5
        })
    })
}

/// Whom a denial would stop: who used a new peer as a new program, which is the narrowest target;
/// else who did the gravest deed.
fn offender(tree: &Tree) -> Option<&Witness> {
    let is_new = |subject: &Subject| {
        tree.done.iter().any(|done| {
            matches!(&done.witness.object, Object::NewProgram { subject: new } if **new == *subject)
        })
    };
    let caller =
        tree.done.iter().find(|done| done.deed() == Deed::NewPeer && is_new(&done.witness.subject));
    let grave = tree.counted().into_iter().filter(|done| done.deed().may_deny());
    let found = caller.or_else(|| grave.max_by(|a, b| a.nats.total_cmp(&b.nats)));
    found.map(|done| &done.witness)
}

/// Whether no record is missing of who did it: by the window of his subject, or the one that it was merged
/// into. Where there is none nothing was charged to him, and what was charged to nobody may be his; an early
/// row of another subject tells what it can.
fn is_complete(witness: &Witness, windows: &[Window]) -> bool {
    let of = |subject: &Subject| {
        let own = |window: &&Window| *window.subject == *subject;
        windows.iter().filter(|window| window.time.scale == Scale::Seconds5).find(own)
    };
    // What a bucket held back by design is none of the records that decide.
    let is_whole = |loss: Loss| loss.lost == 0 && loss.late == 0;
    let subject = &witness.subject;
    let own = of(subject).or_else(|| of(&Subject::other(subject.workload.clone())));
    match (own, windows.first()) {
        (Some(own), _) => is_whole(own.loss),
        (None, Some(early)) if early.early.is_some() => is_whole(early.loss),
        (None, Some(any)) => is_whole(any.time.unattributed),
        (None, None) => false,
    }
}

/// What the responder may act on: a process, and what speaks for its denial.
fn evidence(tree: &Tree, witness: &Witness, windows: &[Window]) -> Evidence {
    let counted = tree.counted();
    Evidence {
        surprise: counted.iter().map(|done| done.nats).sum(),
        deeds: counted.iter().map(|done| done.deed()).collect(),
        complete: is_complete(witness, windows),
        kernel_owned: true,
        objects: tree.objects().into_iter().collect(),
        subject: Arc::clone(&witness.subject),
        tgid: witness.tgid,
        start_boot_ns: witness.start_boot_ns,
        cgroup_id: witness.cgroup_id,
        program_id: witness.program_id,
        file: witness.file,
        of_host: witness.of_host,
        peer: witness.peer,
        uid: witness.uid,
        login_uid: witness.login_uid,
    }
}

/// What the responder is to be asked about a tree.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    /// The gravest first.
    pub evidence: Vec<Evidence>,
    /// Somebody is asked about for the first time, or for more than before.
    pub news: bool,
    /// Some have to wait.
    pub waits: bool,
}

impl Engine {
    /// Whom the responder is to be asked about: the gravest with what the whole tree did, where that is
    /// `more` than before, each other process by what it did itself, and who was asked about already with
    /// his next peer, or since he does it again.
    pub(crate) fn questions(
        &self,
        tree: &Tree,
        more: bool,
        windows: &[Window],
        now_boot_ns: u64,
    ) -> Questions {
        let gravest = offender(tree);
        let first = gravest.map(key);
        let own = tree.by_process();
        let mut asking = Asking {
            tree,
            own: &own,
            gravest: first,
            asked: tree.asked.clone(),
            windows,
            now_boot_ns,
            found: Questions::default(),
        };
        let news = gravest.filter(|witness| more || !tree.asked.knows(key(witness)));
        news.into_iter().for_each(|witness| asking.put(tree, witness));
        for (key, own) in &own {
            if self.is_other_offender(tree, *key, own, first)
                && let Some(witness) = offender(own)
            {
                asking.put(own, witness);
            }
        }
        asking.found.news = !asking.found.evidence.is_empty();
        asking.also();
        asking.found
    }

    /// Processes of a tree beside its gravest that could be denied for what they did by themselves, and
    /// that nothing was asked about since: the gravest may have exited. Each must have done something
    /// grave: a service that is started anew is a new program with a new peer, too. What a process starts
    /// goes with it, unless it talks to somebody itself.
    fn is_other_offender(
        &self,
        tree: &Tree,
        key: ProcessKey,
        own: &Tree,
        gravest: Option<ProcessKey>,
    ) -> bool {
        let has = |what: fn(Deed) -> bool| own.done.iter().any(|done| what(done.deed()));
        let goes_with = || {
            let mut line = self.lineage.ancestors(key);
            line.any(|above| Some(above) == gravest || tree.asked.knows(above))
        };
        Some(key) != gravest
            && key.0 != 0
            && may_be_denied(own)
            && tree.asked.grounds(key) != Some(own.grounds())
            && (has(|deed| deed.aspect() == Aspect::Peer) || !goes_with())
    }
}

/// A denial can rest on what one process did itself.
fn may_be_denied(own: &Tree) -> bool {
    deniable(own).is_some() && is_grave(own)
}

fn is_grave(tree: &Tree) -> bool {
    tree.done.iter().any(|done| done.deed().may_deny())
}

/// Questions as they are put together.
struct Asking<'a> {
    tree: &'a Tree,
    /// What each process did itself.
    own: &'a BTreeMap<ProcessKey, Tree>,
    gravest: Option<ProcessKey>,
    /// With those that are asked now.
    asked: Asked,
    windows: &'a [Window],
    now_boot_ns: u64,
    found: Questions,
}

impl Asking<'_> {
    /// Asks about a process by what speaks for it.
    fn put(&mut self, of: &Tree, witness: &Witness) {
        self.found.evidence.push(evidence(of, witness, self.windows));
        self.asked.note(witness, self.now_boot_ns);
        if witness.peer.is_none() {
            // Who is asked about as a whole is so with whomever he called.
            let own = self.own.get(&key(witness)).into_iter().flat_map(|own| &own.done);
            own.for_each(|done| self.asked.note_call(&done.witness, self.now_boot_ns));
        }
    }

    /// Adds who was asked about and calls another peer, or does again what he was asked about: who is denied
    /// one peer takes the next, and waits until an entry is over. The latest goes first. What is merely new
    /// speaks for no further peer, and what others did for nobody but the gravest.
    fn also(&mut self) {
        let (tree, own) = (self.tree, self.own);
        let decides = tree.done.iter().filter(|done| done.decides());
        let mut did: Vec<(&Done, &Witness)> =
            decides.flat_map(|done| done.witnesses().map(move |witness| (done, witness))).collect();
        did.sort_by_key(|(_, witness)| Reverse(witness.time_boot_ns));
        for (done, witness) in did {
            if !self.asked.is_due(witness) {
                continue;
            }
            // Another process of the program calls the same: that is asked of who was asked about.
            let known = |witness: &&Witness| self.asked.knows(key(witness));
            let who = std::iter::once(witness).chain(done.witnesses()).find(known);
            let Some(who) = who else { continue };
            let of = match own.get(&key(who)) {
                _ if Some(key(who)) == self.gravest => tree,
                Some(own) if may_be_denied(own) => own,
                _ => continue,
            };
            if self.asked.is_next(witness) && !is_grave(of) {
                continue;
            }
            if !self.asked.has_room(key(who), self.now_boot_ns) {
                self.found.waits = true;
                continue;
            }
            self.put(of, who);
        }
    }
}
