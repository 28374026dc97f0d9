//! Learning which system-call n-grams a program makes, and in how many windows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    file::{Profile, ProgramProfile},
    maturity::Incidence,
};
use hedgerow_event::{Digest, Epoch, Event, GramReport, Grams, Origin, Subject};
use hedgerow_features::{ItemKey, fair};

/// Programs with a profile. Past them a program that is seen again gets one of who has most of them, of his the
/// one that made calls in the fewest windows: names that are made up, each of which runs once, take none of a
/// program that stays.
pub const PROFILES_MAX: usize = 255;

/// Programs without a profile that are known again in the next window.
const WAITING_MAX: usize = 65_536;

/// Programs whose file's digest is kept; a further one has none in the model.
pub const DIGESTS_MAX: usize = 4096;

/// Profiles in the making, and the digests that programs were last seen to have.
#[derive(Debug, Clone)]
pub struct GramLearner {
    key: ItemKey,
    programs: BTreeMap<Arc<Subject>, ProgramProfile>,
    digests: BTreeMap<Arc<Subject>, Digest>,
    /// What found no room in the last window and finds none in this one, by a keyed hash.
    waiting: [BTreeSet<u64>; 2],
    epoch: Epoch,
    refused: u64,
}

impl GramLearner {
    /// `key` decides between programs of as many windows: no name is made to stay.
    pub fn new(key: ItemKey) -> Self {
        Self {
            key,
            programs: BTreeMap::new(),
            digests: BTreeMap::new(),
            waiting: Default::default(),
            epoch: Epoch(0),
            refused: 0,
        }
    }

    /// Adds one program's grams of one window.
    pub fn add(&mut self, report: &GramReport) {
        if !self.programs.contains_key(&report.subject) && self.programs.len() >= PROFILES_MAX {
            let known = self.key.path(&report.subject.to_string());
            if !self.waits(known, report.epoch) {
                self.refused += 1;
                return;
            }
            self.make_room();
        }
        let profile = self.programs.entry(Arc::clone(&report.subject)).or_insert_with(|| {
            let subject = &report.subject;
            let mut profile = ProgramProfile::empty(
                std::env::consts::ARCH.to_owned(),
                subject.workload.to_string(),
                subject.program.path.to_string(),
            );
            profile.script = subject.program.script.as_deref().map(str::to_owned);
            profile
        });
        add_window(profile, std::iter::once(report));
    }

    /// Whether a program without a profile was there in the window before.
    fn waits(&mut self, program: u64, epoch: Epoch) -> bool {
        let [before, now] = &mut self.waiting;
        if self.epoch != epoch {
            self.epoch = epoch;
            *before = std::mem::take(now);
        }
        if now.len() < WAITING_MAX {
            now.insert(program);
        }
        before.contains(&program)
    }

    fn make_room(&mut self) {
        let key = self.key;
        let all = self.programs.iter().map(|(subject, profile)| {
            let rank = (profile.windows, key.path(&subject.to_string()));
            (subject.workload.owner(), rank, Arc::clone(subject))
        });
        for subject in fair::make_room(all, 1) {
            self.programs.remove(&subject);
            self.refused += 1;
        }
    }

    /// Notes the digest of a program's own file; of one that runs through its loader there is none.
    /// What was learned is changed by a replacement only, so that it is told once over restarts too.
    pub fn note_digest(&mut self, event: &Event, learned: bool) {
        let Origin::Exec(exec) = &event.origin else { return };
        if learned && !exec.replaced {
            return;
        }
        let subject = &event.actor.subject;
        let Some(digest) = exec.digest.filter(|_| exec.path == subject.program.path) else {
            return;
        };
        if self.digests.len() < DIGESTS_MAX || self.digests.contains_key(subject) {
            self.digests.insert(Arc::clone(subject), digest);
        }
    }

    /// Puts the digests last seen into a profile; one that has them stays shared.
    pub fn put_digests(&self, profile: &mut Arc<Profile>) {
        let newer = |program: &ProgramProfile| {
            let seen = self.digests.get(&subject(program))?.0;
            (program.digest != Some(seen)).then_some(seen)
        };
        let newer: Vec<_> = profile.programs.iter().map(newer).collect();
        if newer.iter().all(Option::is_none) {
            return;
        }
        let programs = &mut Arc::make_mut(profile).programs;
        for (program, digest) in programs.iter_mut().zip(newer).filter(|(_, new)| new.is_some()) {
            program.digest = digest;
        }
    }

    /// Programs, and their windows, learned so far.
    pub fn programs(&self) -> impl Iterator<Item = (&Arc<Subject>, &ProgramProfile)> {
        self.programs.iter()
    }

    /// Programs that found no room, or had to go for others.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// What was learned so far.
    pub fn profile(&self, gram_hash_key: u64) -> Arc<Profile> {
        self.clone().end(gram_hash_key)
    }

    /// The same, and the learner keeps nothing of it but the digests: bitmaps are large.
    pub fn end(&mut self, gram_hash_key: u64) -> Arc<Profile> {
        let programs = std::mem::take(&mut self.programs).into_values().collect();
        let mut profile = Arc::new(Profile { gram_hash_key, programs });
        self.put_digests(&mut profile);
        profile
    }
}

/// Adds one window of a program: all that was reported of it, which may be nothing.
pub fn add_window<'a>(
    profile: &mut ProgramProfile,
    reports: impl Iterator<Item = &'a GramReport> + Clone,
) {
    let grams2 = reports.clone().flat_map(|report| &report.grams2);
    let grams3 = reports.clone().flat_map(|report| &report.grams3);
    let grams6 = reports.flat_map(|report| &report.grams6);
    profile.two_grams.add_window(grams2);
    profile.three_grams.add_window(grams3);
    profile.six_grams.add_window(grams6);
    profile.windows += 1;
}

/// Adds what a program learned later to its profile.
pub fn merge(profile: &mut Profile, later: &ProgramProfile, of: &Subject) {
    let Some(program) = profile.programs.iter_mut().find(|program| is_of(program, of)) else {
        return;
    };
    add(program, later);
}

/// Adds the windows of another profile of the same program.
pub fn add(program: &mut ProgramProfile, other: &ProgramProfile) {
    program.two_grams.merge(&other.two_grams);
    program.three_grams.merge(&other.three_grams);
    program.six_grams.merge(&other.six_grams);
    program.windows += other.windows;
    program.calls += other.calls;
}

pub fn is_of(program: &ProgramProfile, subject: &Subject) -> bool {
    program.workload == subject.workload.as_str()
        && program.path == *subject.program.path
        && program.script.as_deref() == subject.program.script.as_deref()
}

/// In how many windows a subject's 6-grams were seen; `None` for one without a profile.
pub fn incidence(profile: &Profile, of: &Subject) -> Option<Incidence> {
    let found = profile.programs.iter().find(|program| is_of(program, of));
    found.map(|program| program.six_grams.incidence())
}

/// What the kernel is to take for known, by subject.
pub fn known(profile: &Profile) -> Vec<(Arc<Subject>, Grams)> {
    profile
        .programs
        .iter()
        .map(|program| {
            let grams = Grams {
                grams2: program.two_grams.known.dense(),
                grams3: program.three_grams.known.dense(),
                grams6: program.six_grams.known.dense(),
            };
            (Arc::new(subject(program)), grams)
        })
        .collect()
}

/// Digests of the files that the profile was learned from.
pub fn digests(profile: &Profile) -> impl Iterator<Item = (Subject, Digest)> {
    profile.programs.iter().filter_map(|program| Some((subject(program), Digest(program.digest?))))
}

pub fn subject(program: &ProgramProfile) -> Subject {
    let mut named = hedgerow_event::Program::new(program.path.as_str());
    named.script = program.script.as_deref().map(Arc::from);
    Subject::new(hedgerow_event::Workload::new(program.workload.as_str()), named)
}

#[cfg(test)]
mod tests {
    use hedgerow_event::{Exec, Program, Workload};

    use super::*;
    use crate::common;

    fn exec(subject: &Arc<Subject>, path: &str, digest: u8, replaced: bool) -> Event {
        let exec = Exec {
            path: path.into(),
            digest: Some(Digest([digest; 32])),
            replaced,
            ..common::exec(None)
        };
        common::event(subject, 1, 1, Origin::Exec(Box::new(exec)))
    }

    /// Whatever names come and go in a service, in each epoch more than there are profiles: what stays in it has
    /// one, and no other workload's is touched.
    #[test]
    fn names_that_run_once_take_no_profile_of_what_stays() {
        let subject = |workload: &str, path: &str| {
            Arc::new(Subject::new(Workload::new(workload), Program::new(path)))
        };
        let [web, last] = ["/usr/bin/web", "/zz/web"].map(|path| subject("web.service", path));
        let db = subject("db.service", "/usr/bin/db");
        let mut learner = GramLearner::new(ItemKey(7));
        for epoch in 0..20 {
            let made = (0..2 * PROFILES_MAX)
                .map(|at| subject("web.service", &format!("/{}/{epoch}-{at}", ["a", "z"][at % 2])));
            let mut named: BTreeSet<Arc<Subject>> = made.collect();
            named.extend([&web, &last].map(Arc::clone));
            // Once, before all of them.
            named.extend((epoch == 0).then(|| Arc::clone(&db)));
            for subject in named {
                let (grams2, grams3, grams6) = (vec![1], vec![1], vec![1]);
                learner.add(&GramReport { epoch: Epoch(epoch), subject, grams2, grams3, grams6 });
            }
            assert!(learner.programs.len() <= PROFILES_MAX);
        }
        let windows = |of| learner.programs.get(of).map_or(0, |profile| profile.windows);
        assert_eq!(windows(&db), 1);
        assert!(windows(&web) > 8 && windows(&last) > 8, "{}", windows(&web));
        assert!(learner.refused() > 5_000);
    }

    #[test]
    fn a_profile_holds_the_digest_that_its_program_was_last_seen_to_have() {
        let subject = Arc::new(Subject::new(Workload::host(), Program::new("/bin/x")));
        let mut learner = GramLearner::new(ItemKey(7));
        learner.add(&GramReport {
            epoch: Epoch(1),
            subject: Arc::clone(&subject),
            grams2: vec![1],
            grams3: vec![1],
            grams6: vec![1],
        });
        let told = |profile: &Profile| digests(profile).map(|(_, digest)| digest.0[0]).collect();
        let of = |learner: &GramLearner| -> Vec<u8> { told(&learner.profile(1)) };
        assert!(of(&learner).is_empty());
        learner.note_digest(&exec(&subject, "/bin/x", 1, false), false);
        learner.note_digest(&exec(&subject, "/lib/ld.so", 2, false), false);
        assert_eq!(of(&learner), [1], "its own file, not its loader's");
        let mut saved = learner.profile(1);
        // A daemon that starts with the model, and sees the file replaced.
        let mut scoring = GramLearner::new(ItemKey(7));
        scoring.put_digests(&mut saved);
        assert_eq!(told(&saved) as Vec<u8>, [1]);
        scoring.note_digest(&exec(&subject, "/bin/x", 2, false), true);
        scoring.put_digests(&mut saved);
        assert_eq!(told(&saved) as Vec<u8>, [1]);
        scoring.note_digest(&exec(&subject, "/bin/x", 3, true), true);
        scoring.put_digests(&mut saved);
        assert_eq!(told(&saved) as Vec<u8>, [3]);
    }
}
