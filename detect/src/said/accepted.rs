//! What an operator said is normal: bound to the workload that it was said of, and to the file that
//! its program ran from. Another file at the same path is excused nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hedgerow_event::{Digest, Event, Finding, Object, Origin, Provenance, Subject};
use serde::{Deserialize, Serialize};

use crate::Engine;

/// Programs with something accepted; past them the one that comes first goes, and is told again.
const PROGRAMS_MAX: usize = 4096;
/// Objects accepted of one of them.
const OBJECTS_MAX: usize = 256;
/// Programs whose file's digest is known; a further one is bound at its next exec.
const FILES_MAX: usize = 4096;

/// What was accepted of one program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Bound {
    subject: Arc<Subject>,
    /// Of the file that it ran from; unknown until an exec of it tells.
    digest: Option<Digest>,
    #[serde(with = "crate::text")]
    objects: BTreeSet<Object>,
}

/// What was accepted, by program.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<Bound>", into = "Vec<Bound>")]
pub struct Accepted {
    bound: BTreeMap<Arc<Subject>, Bound>,
    /// Files that programs were last seen to run from.
    files: BTreeMap<Arc<Subject>, Digest>,
}

impl From<Vec<Bound>> for Accepted {
    fn from(bound: Vec<Bound>) -> Self {
        let bound = bound.into_iter().map(|one| (Arc::clone(&one.subject), one)).collect();
        Self { bound, files: BTreeMap::new() }
    }
}

impl From<Accepted> for Vec<Bound> {
    fn from(accepted: Accepted) -> Self {
        accepted.bound.into_values().collect()
    }
}

impl Accepted {
    /// Binds an object to its program's file; gives what had to go for it.
    fn bind(&mut self, object: &Object) -> BTreeSet<Object> {
        let subject = object.subject();
        let mut gone = BTreeSet::new();
        if self.bound.len() >= PROGRAMS_MAX
            && !self.bound.contains_key(subject)
            && let Some((_, bound)) = self.bound.pop_first()
        {
            gone = bound.objects;
        }
        let digest = self.files.get(subject).copied();
        let bound = self.bound.entry(Arc::clone(subject)).or_insert_with(|| Bound {
            subject: Arc::clone(subject),
            digest,
            objects: BTreeSet::new(),
        });
        bound.objects.insert(object.clone());
        if bound.objects.len() > OBJECTS_MAX {
            gone.extend(bound.objects.pop_first());
        }
        gone
    }

    /// Notes the file that a program runs from; gives what was accepted of another one. An upgrade
    /// by the package that it belongs to is the same program.
    fn note(&mut self, subject: &Arc<Subject>, digest: Digest, packaged: bool) -> BTreeSet<Object> {
        if self.files.len() < FILES_MAX || self.files.contains_key(subject) {
            self.files.insert(Arc::clone(subject), digest);
        }
        let Some(bound) = self.bound.get_mut(subject) else { return BTreeSet::new() };
        if bound.digest.is_none_or(|known| known == digest || packaged) {
            bound.digest = Some(digest);
            return BTreeSet::new();
        }
        self.bound.remove(subject).map(|bound| bound.objects).unwrap_or_default()
    }

    /// The file that what is accepted of a program is bound to.
    pub fn file_of(&self, subject: &Subject) -> Option<Digest> {
        self.files.get(subject).copied()
    }
}

impl Engine {
    /// Learns what an operator says is normal, of this workload and file.
    pub fn accept(&mut self, finding: &Finding) {
        for object in &finding.objects {
            self.baseline.accept(object);
            self.deeds.learn(object);
            self.probation.accept(object);
            for gone in self.accepted.bind(object) {
                self.forget(&gone);
            }
        }
    }

    /// Takes back what was accepted of a file that is another one now.
    pub(crate) fn note_file(&mut self, event: &Event) {
        let Origin::Exec(exec) = &event.origin else { return };
        let Some(digest) = exec.digest else { return };
        let packaged = exec.provenance == Provenance::Package;
        for object in self.accepted.note(&event.actor.subject, digest, packaged) {
            self.forget(&object);
        }
    }

    fn forget(&mut self, object: &Object) {
        self.baseline.forget(object);
        self.deeds.forget(object);
    }

    /// Whether an object would be none if it were done again.
    pub(crate) fn knows(&self, object: &Object) -> bool {
        self.baseline.knows(object) || self.deeds.knows(object)
    }
}
