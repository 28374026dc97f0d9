//! What an operator said is normal: bound to the workload that it was said of, and to the file that
//! its program ran from. Another file at the same path is excused nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hedgerow_event::{Digest, Event, Finding, Object, Origin, Provenance, Subject};
use hedgerow_features::fair;
use serde::{Deserialize, Serialize};

use crate::{Engine, grams};

/// Programs with something accepted; past them the one that comes first goes, and is told again.
const PROGRAMS_MAX: usize = 4096;
/// Objects accepted of one of them.
const OBJECTS_MAX: usize = 256;
/// Programs whose file's digest is known; past them those make room that were run longest ago, of who has most.
/// One whose file is unknown is bound at its next exec.
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
    files: Files,
}

/// Files that programs were last seen to run from, saved in the order in which they were.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<(Arc<Subject>, Option<Digest>)>", into = "Vec<(Arc<Subject>, Option<Digest>)>")]
pub struct Files {
    /// When it was, and the digest; `None` of one that can't be read.
    known: BTreeMap<Arc<Subject>, (u64, Option<Digest>)>,
    runs: u64,
}

impl From<Vec<(Arc<Subject>, Option<Digest>)>> for Files {
    fn from(saved: Vec<(Arc<Subject>, Option<Digest>)>) -> Self {
        let mut files = Self::default();
        saved.into_iter().for_each(|(subject, digest)| files.note(&subject, digest));
        files
    }
}

impl From<Files> for Vec<(Arc<Subject>, Option<Digest>)> {
    fn from(files: Files) -> Self {
        let mut known: Vec<_> = files.known.into_iter().collect();
        known.sort_unstable_by_key(|(_, (run, _))| *run);
        known.into_iter().map(|(subject, (_, digest))| (subject, digest)).collect()
    }
}

impl Files {
    fn note(&mut self, subject: &Arc<Subject>, digest: Option<Digest>) {
        if self.known.len() >= FILES_MAX && !self.known.contains_key(subject) {
            let all = self.known.iter();
            let all = all
                .map(|(subject, (run, _))| (subject.workload.owner(), *run, Arc::clone(subject)));
            for gone in fair::make_room(all, fair::room(FILES_MAX)) {
                self.known.remove(&gone);
            }
        }
        self.runs += 1;
        self.known.insert(Arc::clone(subject), (self.runs, digest));
    }
}

impl From<Vec<Bound>> for Accepted {
    fn from(bound: Vec<Bound>) -> Self {
        let bound = bound.into_iter().map(|one| (Arc::clone(&one.subject), one)).collect();
        Self { bound, files: Files::default() }
    }
}

impl From<Accepted> for Vec<Bound> {
    fn from(accepted: Accepted) -> Self {
        accepted.bound.into_values().collect()
    }
}

impl Accepted {
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Goes on with the files that were known when it was saved.
    pub fn with_files(self, files: Files) -> Self {
        Self { files, ..self }
    }

    /// Binds an object to its program's file; gives what had to go for it.
    fn bind(&mut self, object: &Object, digest: Option<Digest>) -> BTreeSet<Object> {
        let subject = object.subject();
        let mut gone = BTreeSet::new();
        if self.bound.len() >= PROGRAMS_MAX
            && !self.bound.contains_key(subject)
            && let Some((_, bound)) = self.bound.pop_first()
        {
            gone = bound.objects;
        }
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
        self.files.note(subject, Some(digest));
        let Some(bound) = self.bound.get_mut(subject) else { return BTreeSet::new() };
        if bound.digest.is_none_or(|known| known == digest || packaged) {
            bound.digest = Some(digest);
            return BTreeSet::new();
        }
        self.take_back(subject)
    }

    /// A program's file was replaced by one that can't be read; gives what was accepted of the one before.
    fn lose(&mut self, subject: &Arc<Subject>) -> BTreeSet<Object> {
        self.files.note(subject, None);
        self.take_back(subject)
    }

    fn take_back(&mut self, subject: &Arc<Subject>) -> BTreeSet<Object> {
        self.bound.remove(subject).map(|bound| bound.objects).unwrap_or_default()
    }
}

impl Engine {
    /// Learns what an operator says is normal, of this workload and file.
    pub fn accept(&mut self, finding: &Finding) {
        for object in &finding.objects {
            self.baseline.accept(object);
            self.deeds.learn(object);
            self.probation.accept(object);
            let digest = self.file_of(object.subject());
            for gone in self.accepted.bind(object, digest) {
                self.forget(&gone);
            }
        }
    }

    /// The file that what is accepted of a program is bound to: the one that it was last seen to run from,
    /// else the one that it was learned from. `None` where it runs from one that can't be read.
    pub(crate) fn file_of(&self, subject: &Subject) -> Option<Digest> {
        if let Some((_, seen)) = self.accepted.files.known.get(subject) {
            return *seen;
        }
        let programs = &self.profile.as_ref()?.programs;
        let program = programs.iter().find(|program| grams::is_of(program, subject))?;
        program.digest.map(Digest)
    }

    /// Takes back what was accepted of a file that is another one now.
    pub(crate) fn note_file(&mut self, event: &Event) {
        let Origin::Exec(exec) = &event.origin else { return };
        let (subject, packaged) = (&event.actor.subject, exec.provenance == Provenance::Package);
        let gone = match exec.digest {
            Some(digest) => self.accepted.note(subject, digest, packaged),
            None if exec.replaced && !packaged => self.accepted.lose(subject),
            None => return,
        };
        gone.iter().for_each(|object| self.forget(object));
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
