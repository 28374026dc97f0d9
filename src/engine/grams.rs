//! Learning which system-call n-grams a program makes, and in how many windows.

use std::{collections::BTreeMap, sync::Arc};

use hedgerow_event::{GramReport, Grams, Subject};
use hedgerow_model::{
    file::{GramSet, Profile, ProgramProfile},
    maturity::Incidence,
};

/// Programs with a profile; a program past them stays unprofiled, and is counted.
pub const PROFILES_MAX: usize = 255;

/// Profiles in the making.
#[derive(Debug, Clone)]
pub struct GramLearner {
    programs: BTreeMap<Arc<Subject>, ProgramProfile>,
    refused: u64,
}

impl GramLearner {
    pub fn new() -> Self {
        Self { programs: BTreeMap::new(), refused: 0 }
    }

    /// Adds one program's grams of one window.
    pub fn add(&mut self, report: &GramReport) {
        if !self.programs.contains_key(&report.subject) && self.programs.len() >= PROFILES_MAX {
            self.refused += 1;
            return;
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
        add_window(&mut profile.two_grams, &report.grams2);
        add_window(&mut profile.three_grams, &report.grams3);
        add_window(&mut profile.six_grams, &report.grams6);
        profile.windows += 1;
    }

    /// Programs, and their windows, learned so far.
    pub fn programs(&self) -> impl Iterator<Item = (&Arc<Subject>, &ProgramProfile)> {
        self.programs.iter()
    }

    /// Reports of programs that found no room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    pub fn profile(&self, gram_hash_key: u64) -> Profile {
        Profile { gram_hash_key, programs: self.programs.values().cloned().collect() }
    }
}

fn add_window(set: &mut GramSet, positions: &[u32]) {
    let mut words = vec![0u64; set.known.len()];
    for position in positions {
        if let Some(word) = words.get_mut(*position as usize / 64) {
            *word |= 1 << (position % 64);
        }
    }
    set.add_window(&words);
}

/// In how many windows a subject's 6-grams were seen; `None` for one without a profile.
pub fn incidence(profile: &Profile, of: &Subject) -> Option<Incidence> {
    let found = profile.programs.iter().find(|program| {
        program.workload == of.workload.as_str()
            && program.path == *of.program.path
            && program.script.as_deref() == of.program.script.as_deref()
    });
    found.map(|program| program.six_grams.incidence())
}

/// What the kernel is to take for known, by subject.
pub fn known(profile: &Profile) -> Vec<(Arc<Subject>, Grams)> {
    profile
        .programs
        .iter()
        .map(|program| {
            let grams = Grams {
                grams2: program.two_grams.known.clone(),
                grams3: program.three_grams.known.clone(),
                grams6: program.six_grams.known.clone(),
            };
            (Arc::new(subject(program)), grams)
        })
        .collect()
}

fn subject(program: &ProgramProfile) -> Subject {
    let mut named = hedgerow_event::Program::new(program.path.as_str());
    named.script = program.script.as_deref().map(Arc::from);
    Subject::new(hedgerow_event::Workload::new(program.workload.as_str()), named)
}
