//! What accepting a finding would hide: findings of the past, and kinds of deed that would no
//! longer be told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hedgerow_event::{Aspect, Class, Deed, Digest, Finding, Program, Subject, Workload};
use serde::{Deserialize, Serialize};

use super::{
    Miss,
    acts::{self, Stage},
    trial::Trial,
};
use crate::{Engine, Result, SavedModel, Settings, surprise::floors::by_class};

/// What would no longer be told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hidden {
    /// Findings that would not have been told, by uid.
    pub findings: Vec<String>,
    pub deeds: Vec<HiddenDeed>,
    /// Programs that it is said of, with the file that it is bound to; one of which no file is
    /// known is bound at its next exec.
    pub programs: Vec<BoundProgram>,
}

/// A kind of deed that would no longer be told of a program in its workload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HiddenDeed {
    pub workload: Workload,
    pub program: Program,
    pub deed: Deed,
    /// How it is done, where that makes a difference.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub how: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoundProgram {
    pub subject: Arc<Subject>,
    pub digest: Option<Digest>,
}

impl Hidden {
    /// What accepting a finding would hide, of what was found before and of what a saved model would
    /// tell.
    pub fn by(
        finding: &Finding,
        past: &[Finding],
        saved: &SavedModel,
        settings: &Settings,
    ) -> Result<Self> {
        let before = Engine::scoring(settings.clone(), saved.clone())?;
        let mut after = Engine::scoring(settings.clone(), saved.clone())?;
        after.accept(finding);
        let told = |finding: &&Finding| finding.disposition.is_alert();
        let hidden: BTreeSet<&String> = past
            .iter()
            .filter(told)
            .filter(|one| before.would_tell(one) && !after.would_tell(one))
            .map(|one| &one.uid)
            .collect();
        let subjects: BTreeSet<&Arc<Subject>> =
            finding.objects.iter().map(|object| object.subject()).collect();
        let programs = subjects.iter().map(|subject| BoundProgram {
            subject: Arc::clone(subject),
            digest: before.file_of(subject),
        });
        Ok(Self {
            findings: hidden.into_iter().cloned().collect(),
            deeds: newly_missed(&before, &after, &subjects),
            programs: programs.collect(),
        })
    }
}

impl Engine {
    /// Whether what a finding is about would be told if it were done again: what of it is still new,
    /// by the rates and floors of now. Amounts are measured, not accepted.
    fn would_tell(&self, finding: &Finding) -> bool {
        if finding.class == Class::Measure {
            return true;
        }
        let mut best: BTreeMap<Aspect, (Deed, f64)> = BTreeMap::new();
        for object in finding.objects.iter().filter(|object| !self.knows(object)) {
            let deed = object.deed();
            let nats = self.rates.surprise(deed, &self.context(object.subject()), 0.0);
            let best = best.entry(deed.aspect()).or_insert((deed, nats));
            if nats > best.1 {
                *best = (deed, nats);
            }
        }
        let classes = by_class(best.into_values().collect::<Vec<_>>().into_iter());
        let workload = &finding.subject.workload;
        classes.into_iter().any(|(class, nats)| nats >= self.floors.floor_for(class, workload))
    }
}

/// Kinds that are told before and not after, of programs and of one that was never seen.
fn newly_missed(
    before: &Engine,
    after: &Engine,
    subjects: &BTreeSet<&Arc<Subject>>,
) -> Vec<HiddenDeed> {
    let workloads: BTreeSet<&Workload> = subjects.iter().map(|subject| &subject.workload).collect();
    let mut hidden = BTreeSet::new();
    for workload in workloads {
        let own = subjects.iter().filter(|subject| subject.workload == *workload);
        let mut concerned: Vec<Arc<Subject>> = own.map(|subject| Arc::clone(subject)).collect();
        concerned.push(Arc::new(Subject::new(workload.clone(), acts::unseen())));
        let missed = |engine: &Engine| -> BTreeSet<HiddenDeed> {
            let mut trial = Trial::new(engine, None);
            let stages = concerned.iter().map(|subject| {
                Stage::new(Arc::clone(subject), &concerned, &engine.baseline, trial.now_boot_ns())
            });
            let stages: Vec<Stage> = stages.collect();
            let mut named = BTreeSet::new();
            for stage in &stages {
                for act in acts::ACTS {
                    let Some(Miss { program, how, .. }) = trial.miss(act, stage) else { continue };
                    let workload = workload.clone();
                    named.insert(HiddenDeed { workload, program, deed: act.deed, how });
                }
            }
            named
        };
        hidden.extend(missed(after).difference(&missed(before)).cloned());
    }
    hidden.into_iter().collect()
}
