//! Programs whose file was replaced after they were learned. They keep the profile that they
//! inherit, are judged no surer than provisional, and relearn: what their clean windows bring joins
//! the profile once they were watched for as many windows as the profile was learned from.

use std::{collections::BTreeMap, sync::Arc};

use crate::file::{Profile, ProgramProfile};
use hedgerow_event::{GramReport, Object, Subject};
use serde::{Deserialize, Serialize};

use crate::{Engine, Outcome, grams};

/// A program that relearns.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Trial {
    /// Windows that it is to be watched for.
    windows: u64,
    /// What its clean windows brought that the profile lacks.
    learned: ProgramProfile,
    /// An operator said that the replacement is as it should be: its findings are learned, too.
    accepted: bool,
    /// What the open epoch brought.
    #[serde(skip)]
    open: Vec<GramReport>,
}

/// Programs that relearn; no more than have a profile.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Trial>", into = "Vec<Trial>")]
pub struct Probation(BTreeMap<Arc<Subject>, Trial>);

impl From<Vec<Trial>> for Probation {
    fn from(trials: Vec<Trial>) -> Self {
        Self(trials.into_iter().map(|t| (Arc::new(grams::subject(&t.learned)), t)).collect())
    }
}

impl From<Probation> for Vec<Trial> {
    fn from(probation: Probation) -> Self {
        probation.0.into_values().collect()
    }
}

impl Probation {
    /// Begins with a program that was replaced, or begins anew; tells for how many windows. One
    /// without a profile has nothing to inherit.
    pub fn begin(&mut self, subject: &Arc<Subject>, profile: &Profile) -> Option<u64> {
        let ProgramProfile { architecture, workload, path, script, windows, .. } =
            profile.programs.iter().find(|program| grams::is_of(program, subject))?;
        let mut learned =
            ProgramProfile::empty(architecture.clone(), workload.clone(), path.clone());
        learned.script.clone_from(script);
        let windows = *windows;
        let trial = Trial { windows, learned, accepted: false, open: Vec::new() };
        self.0.insert(Arc::clone(subject), trial);
        Some(windows)
    }

    pub fn covers(&self, subject: &Subject) -> bool {
        self.0.contains_key(subject)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Notes what a program did that its profile lacks.
    pub fn note(&mut self, report: &GramReport) {
        if let Some(trial) = self.0.get_mut(&report.subject) {
            trial.open.push(report.clone());
        }
    }

    /// Forgets what the epoch brought that no window was closed for: its program was merged with
    /// others, or nothing is judged yet.
    pub fn end_epoch(&mut self) {
        self.0.values_mut().for_each(|trial| trial.open.clear());
    }

    /// Closes a window of a program, clean where no finding is or was about it lately. Gives what
    /// it learned once it was watched for long enough.
    pub fn close(&mut self, subject: &Subject, clean: bool) -> Option<ProgramProfile> {
        let trial = self.0.get_mut(subject)?;
        let open = std::mem::take(&mut trial.open);
        if !clean && !trial.accepted {
            return None;
        }
        grams::add_window(&mut trial.learned, open.iter());
        if trial.learned.windows < trial.windows {
            return None;
        }
        self.0.remove(subject).map(|trial| trial.learned)
    }

    /// An operator accepts a finding's object.
    pub fn accept(&mut self, object: &Object) {
        if let Object::Replaced { subject } = object
            && let Some(trial) = self.0.get_mut(subject)
        {
            trial.accepted = true;
        }
    }
}

impl Engine {
    /// A program is on probation from the exec that showed its replacement.
    pub(crate) fn is_on_probation(&self, subject: &Subject) -> bool {
        self.probation.covers(subject) || self.replaced.contains(subject)
    }

    /// Programs on probation.
    pub fn on_probation(&self) -> usize {
        self.probation.len()
    }

    /// Begins with what was replaced in the epoch that closes.
    pub(crate) fn begin_probation(&mut self, outcomes: &mut Vec<Outcome>) {
        let replaced = std::mem::take(&mut self.replaced);
        let Some(profile) = &self.profile else { return };
        for subject in replaced {
            if let Some(windows) = self.probation.begin(&subject, profile) {
                outcomes.push(Outcome::Replaced { subject, windows });
            }
        }
    }

    /// Takes a closed window of a program; true where it was the last one of its probation.
    pub(crate) fn relearns(&mut self, subject: &Subject, clean: bool) -> bool {
        let Some(learned) = self.probation.close(subject, clean) else { return false };
        let Some(profile) = &mut self.profile else { return false };
        grams::merge(Arc::make_mut(profile), &learned, subject);
        self.daily.forget(subject);
        self.daily.follow(profile);
        true
    }

    /// The kernel gets to know what programs have relearned, once for all: a package replaces many.
    pub(crate) fn end_probation(
        &mut self,
        subjects: Vec<Arc<Subject>>,
        outcomes: &mut Vec<Outcome>,
    ) {
        let Some(profile) = self.profile.as_ref().filter(|_| !subjects.is_empty()) else { return };
        outcomes.push(Outcome::Arm(Arc::clone(profile)));
        outcomes.push(Outcome::Relearned { subjects });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hedgerow_event::{Epoch, Program, Workload};
    use hedgerow_features::ItemKey;

    use super::*;

    fn subject(path: &str) -> Arc<Subject> {
        Arc::new(Subject::new(Workload::new("web.service"), Program::new(path)))
    }

    fn report(subject: &Arc<Subject>, gram: u32) -> GramReport {
        let subject = Arc::clone(subject);
        let grams = || vec![gram];
        GramReport { epoch: Epoch(1), subject, grams2: grams(), grams3: grams(), grams6: grams() }
    }

    /// A program learned for three windows, in which it made this call sequence.
    fn learned(subject: &Arc<Subject>, gram: u32) -> Profile {
        let mut learner = grams::GramLearner::new(ItemKey(7));
        (0..3).for_each(|_| learner.add(&report(subject, gram)));
        Arc::unwrap_or_clone(learner.end(1))
    }

    #[test]
    fn a_program_relearns_for_as_many_clean_windows_as_it_was_learned_from() {
        let worker = subject("/usr/bin/worker");
        let mut profile = learned(&worker, 1);
        let mut probation = Probation::default();
        assert_eq!(probation.begin(&subject("/usr/bin/other"), &profile), None, "nothing learned");
        assert_eq!(probation.begin(&worker, &profile), Some(3));
        probation.note(&report(&worker, 2));
        probation.note(&report(&worker, 3));
        assert_eq!(probation.close(&worker, true), None);
        // A quiet window counts; one that a finding is about does not, nor what it brought.
        assert_eq!(probation.close(&worker, true), None);
        probation.note(&report(&worker, 4));
        assert_eq!(probation.close(&worker, false), None);
        // Nor does what came in an epoch without a window of it.
        probation.note(&report(&worker, 0));
        probation.end_epoch();
        let later = probation.close(&worker, true).unwrap();
        assert!(!probation.covers(&worker));
        grams::merge(&mut profile, &later, &worker);
        let known = profile.programs[0].six_grams.known.word(0);
        assert_eq!(known & 0b11111, 0b01110);
        assert_eq!(profile.programs[0].windows, 6);
    }

    #[test]
    fn a_second_replacement_begins_anew_and_an_accepted_one_learns_its_findings() {
        let worker = subject("/usr/bin/worker");
        let profile = learned(&worker, 1);
        let mut probation = Probation::default();
        probation.begin(&worker, &profile);
        probation.note(&report(&worker, 2));
        probation.close(&worker, true);
        probation.begin(&worker, &profile);
        probation.accept(&Object::Replaced { subject: Arc::clone(&worker) });
        // As a daemon does that ends and starts again.
        let mut bytes = Vec::new();
        ciborium::into_writer(&probation, &mut bytes).unwrap();
        let mut probation: Probation = ciborium::from_reader(bytes.as_slice()).unwrap();
        probation.note(&report(&worker, 5));
        assert_eq!(probation.close(&worker, false), None);
        assert_eq!(probation.close(&worker, false), None);
        let later = probation.close(&worker, false).unwrap();
        assert_eq!(later.six_grams.known.word(0) & 0b111111, 0b100000);
    }
}
