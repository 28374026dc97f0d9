//! From a scored window to a finding: the provisional and the mature rule, episodes, and what is
//! said of them.

use std::{
    collections::{BTreeSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::budget::{
    CountEvidence, Decision, ProvisionalAlert, ProvisionalEvidence, provisional_alert,
};
use hedgerow_event::{
    Activity, Disposition, EpochClose, Evidence, Family, Finding, Loss, Maturity, Object, Process,
    Scale, Severity, Subject,
};
use hedgerow_features::Window;
use sha2::{Digest, Sha256};

use super::{
    Engine, Outcome, WindowScore,
    detector::Scored,
    episodes::{Episode, Joined, Part},
    objects::{self, Witness},
    scale::group,
    valid,
};

/// Features shown with a finding.
const SHARES_MAX: usize = 8;

/// What a window has to say for itself.
struct Case {
    witnesses: Vec<Witness>,
    /// Objects of kinds that the workload's normal life doesn't bring.
    strong: BTreeSet<Object>,
    /// Strong objects and outstanding counts.
    objects: BTreeSet<Object>,
    families: BTreeSet<Family>,
    counts: Vec<CountEvidence>,
    held_back_max: Option<f64>,
}

/// A number for a subject, stable over restarts of the same build.
pub fn subject_key(subject: &Subject) -> u64 {
    let mut hasher = DefaultHasher::new();
    subject.hash(&mut hasher);
    hasher.finish()
}

impl Engine {
    /// Judges the windows of a closed epoch.
    pub(super) fn judge_closed(
        &mut self,
        windows: &[Window],
        close: &EpochClose,
        outcomes: &mut Vec<Outcome>,
    ) {
        let mut relearned = Vec::new();
        for scale in [Scale::Seconds5, Scale::Minute] {
            let mut part = valid(windows, scale);
            part.sort_by_key(|window| self.objects.first_of(&window.subject));
            let scored = self.scored(scale, &part);
            for (window, scored) in part.iter().zip(&scored) {
                let found = self.judge(window, scored, close.end_boot_ns, outcomes);
                outcomes.push(Outcome::Scored(self.window_score(window, scored, found)));
                let clean = found.is_none() && !self.episodes.involves(&window.subject);
                if clean {
                    self.join_calibration(window, scored);
                }
                if scale == Scale::Seconds5 && self.relearns(&window.subject, clean) {
                    relearned.push(Arc::clone(&window.subject));
                }
            }
        }
        self.end_probation(relearned, outcomes);
        let now_s = self.unix_s(close.end_boot_ns);
        self.budget.advance(now_s);
        for episode in self.episodes.expire(close.end_boot_ns) {
            outcomes.extend(self.closing(episode, close.end_boot_ns));
        }
    }

    /// Clean windows go on joining the calibration: that is how a day's level is reached.
    fn join_calibration(&mut self, window: &Window, scored: &Scored) {
        if let Some(learned) = self.learned.get_mut(&window.time.scale) {
            learned.detector.calibration.join(Some(group(&window.subject)), scored.score);
        }
        if window.time.scale == Scale::Seconds5 {
            let now_s = self.unix_s(window.time.end_boot_ns);
            self.budget.join(now_s, scored.score);
        }
    }

    /// Judges one scored window; gives the number of the episode that it is part of.
    pub(super) fn judge(
        &mut self,
        window: &Window,
        scored: &Scored,
        now_boot_ns: u64,
        outcomes: &mut Vec<Outcome>,
    ) -> Option<u64> {
        let case = self.case(window, scored)?;
        let second_family = case.families.len() >= 2;
        // The kernel's own counters are a single family: nothing could ever agree with a flood.
        let flood = window.subject.is_host() && case.counts.iter().any(|c| c.family_beyond);
        let bypass = flood || (!case.strong.is_empty() && second_family);
        let state = self.state_of(&window.subject);
        let reason = match state {
            Maturity::Mature => {
                let threshold = self.budget.threshold().unwrap_or(f64::INFINITY);
                (scored.score > threshold).then(|| mature_reason(&case))
            }
            _ => provisional_alert(&ProvisionalEvidence {
                score: scored.score,
                held_back_max: case.held_back_max,
                has_object: !case.strong.is_empty(),
                second_family_agrees: second_family,
                counts: &case.counts,
            })
            .map(|why| provisional_reason(why, &case)),
        };
        let mut reason = reason?;
        if self.is_on_probation(&window.subject) {
            reason.push_str("; its file was replaced, and it relearns on probation");
        }
        let (id, joined) = self.join_episode(window, scored, &case, now_boot_ns);
        let key = self.episodes.key(id);
        let decision = self.budget.admit(self.unix_s(now_boot_ns), key, scored.score, bypass);
        let (activity, disposition) = match (decision, joined) {
            (Decision::Alert { over_budget: true }, _) => {
                (Activity::Create, Disposition::AlertOverBudget)
            }
            (Decision::Alert { .. }, _) => (Activity::Create, Disposition::Alert),
            (Decision::Merged, Joined::Grown) => (Activity::Update, Disposition::Alert),
            (Decision::Suppressed, Joined::New | Joined::Grown) => {
                (Activity::Create, Disposition::Suppressed)
            }
            _ => return Some(id),
        };
        let mut finding = self.finding(window, scored, &case, now_boot_ns, reason);
        finding.activity = activity;
        finding.disposition = disposition;
        let evidence = self.evidence(window, scored, &case);
        self.report(id, finding, evidence.map(Box::new), outcomes);
        Some(id)
    }

    /// How a window was judged, with the episode that it is part of.
    pub(super) fn window_score(
        &self,
        window: &Window,
        scored: &Scored,
        episode: Option<u64>,
    ) -> WindowScore {
        let learned = self.learned.get(&window.time.scale);
        let workload = Some(window.subject.workload.as_str());
        WindowScore {
            subject: Arc::clone(&window.subject),
            scale: window.time.scale,
            epoch: window.time.epoch.0,
            early: window.early,
            window_start_ns: self.unix_ns(window.time.start_boot_ns),
            window_end_ns: self.unix_ns(window.time.end_boot_ns),
            score: scored.score,
            p_value: learned
                .and_then(|learned| learned.detector.calibration.p_value(workload, scored.score)),
            threshold: match self.state() {
                Maturity::Mature => self.budget.threshold(),
                _ => learned.and_then(|learned| learned.held_back_max(&window.subject)),
            },
            finding_uid: episode.and_then(|id| self.episodes.uid(id)).map(str::to_owned),
        }
    }

    fn case(&self, window: &Window, scored: &Scored) -> Option<Case> {
        let learned = self.learned.get(&window.time.scale)?;
        // Objects belong to the five seconds in which they were seen.
        let witnesses = match window.time.scale {
            Scale::Seconds5 => self.objects.of(&window.subject).to_vec(),
            _ => Vec::new(),
        };
        let strong: BTreeSet<Object> = objects::distinct(witnesses.iter())
            .into_iter()
            .filter(|object| self.first_seen.is_rare(object))
            .collect();
        let deviating = learned.deviating(&scored.deviation);
        let counted = learned.counts.outstanding(window, &deviating);
        let mut families: BTreeSet<Family> = strong.iter().map(objects::family).collect();
        families.extend(deviating.into_iter().filter(|family| *family != Family::Novelty));
        let mut all = strong.clone();
        all.extend(counted.first().map(|(object, _)| object.clone()));
        Some(Case {
            witnesses,
            strong,
            objects: all,
            families,
            counts: counted.into_iter().map(|(_, evidence)| evidence).collect(),
            held_back_max: learned.held_back_max(&window.subject),
        })
    }

    fn join_episode(
        &mut self,
        window: &Window,
        scored: &Scored,
        case: &Case,
        now_boot_ns: u64,
    ) -> (u64, Joined) {
        // A count's value changes from window to window; the column is what it is about.
        let objects: BTreeSet<Object> = case.objects.iter().map(without_values).collect();
        let part = Part {
            subject: &window.subject,
            objects: &objects,
            processes: &case.witnesses.iter().map(|witness| witness.tgid).collect(),
            parents: &case.witnesses.iter().map(|witness| witness.parent_tgid).collect(),
            score: scored.score,
            time_boot_ns: now_boot_ns,
        };
        let settings = &self.settings;
        let epoch = window.time.epoch.0;
        self.episodes.join(&part, || {
            let mut hasher = Sha256::new();
            for part in [&*settings.host_id, &settings.boot_id, &window.subject.to_string()] {
                hasher.update(part.as_bytes());
                hasher.update([0]);
            }
            hasher.update(epoch.to_le_bytes());
            hex(&hasher.finalize()[..12])
        })
    }

    fn finding(
        &self,
        window: &Window,
        scored: &Scored,
        case: &Case,
        now_boot_ns: u64,
        reason: String,
    ) -> Finding {
        let state = self.state_of(&window.subject);
        let group = Some(group(&window.subject));
        let learned = self.learned.get(&window.time.scale);
        let calibration = learned.map(|learned| &learned.detector.calibration);
        let mut attribution = learned.map_or_else(Vec::new, |learned| {
            learned.detector.attribution(&learned.reference, window, scored)
        });
        attribution.truncate(SHARES_MAX);
        let threshold = match state {
            Maturity::Mature => self.budget.threshold(),
            _ => case.held_back_max,
        };
        let mut loss = window.loss;
        loss.add(window.time.unattributed);
        Finding {
            uid: String::new(),
            activity: Activity::Create,
            sequence: 0,
            host_id: self.settings.host_id.to_string(),
            boot_id: self.settings.boot_id.clone(),
            subject: Arc::clone(&window.subject),
            scale: window.time.scale,
            early: window.early.is_some(),
            window_start_ns: self.unix_ns(window.time.start_boot_ns),
            window_end_ns: self.unix_ns(window.time.end_boot_ns),
            time_ns: self.unix_ns(now_boot_ns),
            state,
            severity: severity(case),
            disposition: Disposition::Alert,
            score: scored.score,
            threshold: threshold.unwrap_or(1.0),
            p_value: calibration.and_then(|calibration| calibration.p_value(group, scored.score)),
            level_supported: calibration.map_or(1.0, |c| c.supported_level(group)),
            families: case.families.iter().copied().collect(),
            objects: case.objects.iter().cloned().collect(),
            attribution,
            process: case.witnesses.first().map(process),
            loss,
            model_id: self.model_id.clone(),
            reason,
        }
    }

    /// What the responder may act on: the process behind the strongest object.
    fn evidence(&self, window: &Window, scored: &Scored, case: &Case) -> Option<Evidence> {
        let witness = case
            .witnesses
            .iter()
            .filter(|witness| case.strong.contains(&witness.object))
            .max_by_key(|witness| weight(&witness.object))?;
        let loss = Loss { limited: window.loss.limited, ..window.loss };
        Some(Evidence {
            above_held_back: case.held_back_max.is_some_and(|highest| scored.score > highest),
            complete: loss.is_complete(),
            kernel_owned: true,
            families: case.families.iter().copied().collect(),
            objects: case.strong.iter().cloned().collect(),
            subject: Arc::clone(&window.subject),
            tgid: witness.tgid,
            start_boot_ns: witness.start_boot_ns,
            cgroup_id: witness.cgroup_id,
            program_id: witness.program_id,
            file: witness.file,
            peer: witness.peer,
            uid: witness.uid,
            login_uid: witness.login_uid,
        })
    }

    fn report(
        &mut self,
        id: u64,
        mut finding: Finding,
        evidence: Option<Box<Evidence>>,
        outcomes: &mut Vec<Outcome>,
    ) {
        let Some(episode) = self.episodes.get_mut(id) else { return };
        finding.uid = episode.uid.clone();
        finding.sequence = episode.sequence;
        episode.sequence += 1;
        episode.reported = Some(Box::new(finding.clone()));
        outcomes.push(Outcome::Finding(Box::new(finding), evidence));
    }

    /// The last report of an episode that is over; none where it was never reported.
    pub(super) fn closing(&self, episode: Episode, now_boot_ns: u64) -> Option<Outcome> {
        let mut finding = episode.reported?;
        finding.activity = Activity::Close;
        finding.sequence = episode.sequence;
        finding.time_ns = self.unix_ns(now_boot_ns);
        finding.score = episode.score;
        Some(Outcome::Finding(finding, None))
    }

    /// A name for what was learned: a hash of its profile and calibration.
    pub(super) fn name_model(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(self.settings.seed.to_le_bytes());
        for program in self.profile.iter().flat_map(|profile| &profile.programs) {
            hasher.update(program.path.as_bytes());
            program.six_grams.known.iter().for_each(|word| hasher.update(word.to_le_bytes()));
        }
        for row in &self.held_back {
            hasher.update(row.score.to_le_bytes());
        }
        hex(&hasher.finalize()[..8])
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn without_values(object: &Object) -> Object {
    match object {
        Object::Count { subject, column, .. } => Object::Count {
            subject: Arc::clone(subject),
            column: Arc::clone(column),
            value: 0,
            largest: 0,
        },
        other => other.clone(),
    }
}

fn weight(object: &Object) -> u8 {
    match object {
        Object::NewPeer { .. } => 4,
        Object::ExecMemory { .. } | Object::ExecWritable { .. } => 3,
        Object::Privilege { .. } => 2,
        Object::NewProgram { .. } | Object::NewChild { .. } => 1,
        Object::Did { .. } => 2,
        Object::Count { .. } | Object::Replaced { .. } | Object::Tampered { .. } => 0,
    }
}

fn severity(case: &Case) -> Severity {
    let grave = case.strong.iter().any(|object| weight(object) >= 2);
    match (grave, case.strong.is_empty()) {
        (true, _) => Severity::High,
        (false, false) => Severity::Medium,
        (false, true) => Severity::Low,
    }
}

fn process(witness: &Witness) -> Process {
    Process {
        pid: witness.tgid,
        start_boot_ns: witness.start_boot_ns,
        command_line: witness.arguments.to_string(),
        user_id: witness.uid,
        login_user_id: witness.login_uid,
        ..Process::default()
    }
}

fn mature_reason(case: &Case) -> String {
    if case.strong.is_empty() {
        "the score is above the threshold that the alert budget allows".to_owned()
    } else {
        format!("the score is above the alert budget's threshold, with {}", told(&case.strong))
    }
}

fn provisional_reason(why: ProvisionalAlert, case: &Case) -> String {
    match why {
        ProvisionalAlert::Object => format!(
            "above every held-back window, with {} and {} families that agree",
            told(&case.strong),
            case.families.len()
        ),
        ProvisionalAlert::Count => {
            let counts: BTreeSet<Object> = case
                .objects
                .iter()
                .filter(|object| matches!(object, Object::Count { .. }))
                .cloned()
                .collect();
            format!("beyond every held-back window, with {}", told(&counts))
        }
    }
}

fn told(objects: &BTreeSet<Object>) -> String {
    let words: Vec<String> = objects.iter().take(3).map(Object::to_string).collect();
    let more = objects.len().saturating_sub(3);
    if more > 0 { format!("{} and {more} more", words.join(", ")) } else { words.join(", ") }
}
