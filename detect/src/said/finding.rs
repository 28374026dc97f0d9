//! What is said of a case: its finding, in words and shares, and the evidence for the responder.

use std::{collections::BTreeSet, sync::Arc};

use hedgerow_event::{
    Activity, Class, Direction, Disposition, Finding, Loss, Object, Process, Scale, Severity,
    Share, Subject, gate,
};
use hedgerow_features::Window;
use sha2::{Digest, Sha256};

use crate::{
    Engine,
    detector::Scored,
    episodes::Case,
    objects::{Witness, families},
    scale::Learned,
    surprise::tree::{Done, Tree},
};

/// Surprise from which a grave case is critical, in nats.
const CRITICAL_NATS: f64 = 20.0;
/// A floor that isn't solved yet, where a finite number has to be written.
pub(crate) const NO_FLOOR: f64 = 999.0;
/// What the shares of a finding divide: they add up to 1, and times its surprise to its nats.
pub const NATS: &str = "surprise (nats)";
/// What the shares divide by which the forest found the finding's window.
pub const FOREST: &str = "forest's path length";

impl Engine {
    /// The finding of a process tree.
    pub(crate) fn tree_finding(
        &self,
        tree: &Tree,
        class: Class,
        nats: f64,
        window: Option<&Window>,
        now_boot_ns: u64,
    ) -> Finding {
        let counted = tree.counted();
        let gravest = gravest(&counted);
        let subject = gravest
            .map_or_else(|| Arc::new(Subject::host()), |done| Arc::clone(&done.witness.subject));
        let objects = tree.objects();
        let mut finding = self.blank(subject, class, nats, window, now_boot_ns);
        finding.score = window.map_or(0.0, |window| self.forest_score(window));
        if let Some(workload) = tree.workload() {
            finding.floor = self.floors.floor_for(class, workload).min(NO_FLOOR);
        }
        finding.severity = match class {
            Class::Intrinsic if nats >= CRITICAL_NATS => Severity::Critical,
            Class::Intrinsic => Severity::High,
            _ => Severity::Medium,
        };
        finding.families = families(&objects);
        finding.attribution = deed_shares(&counted, class);
        finding.attribution.extend(window.map_or_else(Vec::new, |one| self.explanation(one)));
        finding.process = gravest.map(|done| process(&done.witness));
        finding.reason = tree_reason(&counted, nats, finding.floor);
        finding.objects = objects.into_iter().collect();
        finding
    }

    /// The finding of a window whose measure is surprising.
    pub(crate) fn window_finding(
        &self,
        window: &Window,
        scored: &Scored,
        nats: f64,
        now_boot_ns: u64,
    ) -> Finding {
        let subject = Arc::clone(&window.subject);
        let mut finding = self.blank(subject, Class::Measure, nats, Some(window), now_boot_ns);
        let learned = self.learned.get(&window.time.scale);
        if let Some(learned) = learned {
            let Learned { detector, reference, .. } = learned;
            finding.attribution = detector.attribution(reference, window, scored);
            finding.attribution.extend(detector.explanation(reference, window, scored));
        }
        let counts = learned.map_or_else(Vec::new, |learned| learned.counts.outstanding(window));
        let objects: BTreeSet<Object> = counts.into_iter().take(1).collect();
        finding.score = scored.forest;
        finding.families = families(&objects);
        finding.reason = format!(
            "{} did more, or other work, than ever: expected once in {}{}",
            window.subject.program,
            every(nats),
            told(&objects)
        );
        finding.objects = objects.into_iter().collect();
        finding
    }

    fn blank(
        &self,
        subject: Arc<Subject>,
        class: Class,
        nats: f64,
        window: Option<&Window>,
        now_boot_ns: u64,
    ) -> Finding {
        let mut loss = Loss::default();
        if let Some(window) = window {
            loss = window.loss;
            loss.add(window.time.unattributed);
        }
        let start = window.map_or(now_boot_ns, |window| window.time.start_boot_ns);
        let end = window.map_or(now_boot_ns, |window| window.time.end_boot_ns);
        let floor = self.floors.floor_for(class, &subject.workload).min(NO_FLOOR);
        Finding {
            uid: String::new(),
            activity: Activity::Create,
            sequence: 0,
            first_alert: None,
            host_id: self.settings.host_id.to_string(),
            boot_id: self.settings.boot_id.clone(),
            state: self.state_of(&subject),
            score: 0.0,
            subject,
            scale: window.map_or(Scale::Seconds5, |window| window.time.scale),
            early: window.is_some_and(|window| window.early.is_some()),
            window_start_ns: self.unix_ns(start),
            window_end_ns: self.unix_ns(end),
            time_ns: self.unix_ns(now_boot_ns),
            severity: Severity::Low,
            disposition: Disposition::Alert,
            class,
            surprise: nats,
            floor,
            p_value: Some((-nats).exp()),
            families: Vec::new(),
            objects: Vec::new(),
            attribution: Vec::new(),
            process: None,
            loss,
            model_id: self.model_id.clone(),
            model_digest: self.model_digest,
            model_seed: Some(self.model_seed()),
            claimed_names: Vec::new(),
            vulnerabilities: Vec::new(),
            pod: None,
            peer_pods: Vec::new(),
            reason: String::new(),
        }
    }

    /// The isolation forest's score of a window.
    fn forest_score(&self, window: &Window) -> f64 {
        let learned = self.learned.get(&window.time.scale);
        let scored = learned.map(|learned| {
            learned.detector.score(&learned.reference, std::slice::from_ref(window))
        });
        scored.and_then(|scored| scored.first().map(|scored| scored.forest)).unwrap_or(0.0)
    }

    /// By which columns the forest found a window.
    fn explanation(&self, window: &Window) -> Vec<Share> {
        let Some(learned) = self.learned.get(&window.time.scale) else { return Vec::new() };
        let Learned { detector, reference, .. } = learned;
        let scored = detector.score(reference, std::slice::from_ref(window));
        let explain = |scored| detector.explanation(reference, window, scored);
        scored.first().map_or_else(Vec::new, explain)
    }

    /// A name for a case that begins with this finding. Cases of one subject may begin in one moment: several
    /// trees of it at the end of a window, a tree and a campaign, its windows of two lengths.
    pub(crate) fn name_case(&self, case: &Case, finding: &Finding, now_boot_ns: u64) -> String {
        let settings = &self.settings;
        let mut hasher = Sha256::new();
        for part in [&*settings.host_id, &settings.boot_id, &finding.subject.to_string()] {
            hasher.update(part.as_bytes());
            hasher.update([0]);
        }
        let kind = match case {
            Case::Tree(_) => 0,
            Case::Campaign(_) => 1,
            Case::Amounts(..) => 2,
        };
        hasher.update([kind, finding.class as u8, finding.scale as u8]);
        // Not the number of its tree, which another engine that sees the same counts from elsewhere.
        if let Some(process) = &finding.process {
            hasher.update(process.pid.to_le_bytes());
            hasher.update(process.start_boot_ns.to_le_bytes());
        }
        hasher.update(now_boot_ns.to_le_bytes());
        hex(&hasher.finalize()[..12])
    }

    /// A name for what was learned, the same however it goes on learning: by its seed, its profile and
    /// when. It is no digest of it.
    pub(crate) fn name_model(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(self.settings.seed.to_le_bytes());
        for program in self.profile.iter().flat_map(|profile| &profile.programs) {
            hasher.update(program.path.as_bytes());
            let known = program.six_grams.known.dense();
            known.iter().for_each(|word| hasher.update(word.to_le_bytes()));
        }
        hasher.update(self.held_back.to_le_bytes());
        hasher.update(self.now_boot_ns.to_le_bytes());
        hex(&hasher.finalize()[..8])
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The deed that a finding is named after: the gravest, then the most surprising.
fn gravest<'a>(counted: &[&'a Done]) -> Option<&'a Done> {
    counted.iter().copied().max_by(|a, b| {
        let class = |done: &Done| done.deed().class();
        class(a).cmp(&class(b)).then(a.nats.total_cmp(&b.nats))
    })
}

/// Each deed's share of the surprise that is told, largest first.
fn deed_shares(counted: &[&Done], class: Class) -> Vec<Share> {
    let part_of = |done: &&&Done| match class {
        Class::Intrinsic => true,
        _ => done.deed().class() == class,
    };
    let whole: f64 = counted.iter().filter(part_of).map(|done| done.nats).sum();
    let mut shares: Vec<Share> = counted
        .iter()
        .filter(part_of)
        .map(|done| Share {
            feature: done.deed().row().name.into(),
            value: done.nats,
            usual_low: None,
            usual_high: None,
            direction: Direction::Above,
            share: if whole > 0.0 { done.nats / whole } else { 0.0 },
            of: NATS.into(),
        })
        .collect();
    shares.sort_by(|a, b| b.share.total_cmp(&a.share));
    shares
}

fn process(witness: &Witness) -> Process {
    Process {
        pid: witness.tgid,
        start_boot_ns: witness.start_boot_ns,
        // What an older capture holds never passed the gate.
        command_line: gate::text(&witness.arguments),
        user_id: witness.uid,
        login_user_id: witness.login_uid,
        ..Process::default()
    }
}

pub(crate) fn campaign_reason(whole: &Tree, nats: f64, floor: f64) -> String {
    let mut counted = whole.counted();
    counted.sort_by(|a, b| b.nats.total_cmp(&a.nats));
    let named = counted.iter().take(4).map(|done| done.witness.object.to_string());
    format!(
        "{}; each by a process tree of its own within two hours ({nats:.1} nats, told from \
         {floor:.1})",
        named.collect::<Vec<_>>().join(", ")
    )
}

pub(crate) fn tree_reason(counted: &[&Done], nats: f64, floor: f64) -> String {
    // What is grave by itself is named, whether or not that is what it is told for.
    let mut named: Vec<&&Done> = counted.iter().collect();
    let class_of = |done: &Done| done.deed().class();
    named.sort_by(|a, b| class_of(b).cmp(&class_of(a)).then(b.nats.total_cmp(&a.nats)));
    let objects: Vec<String> =
        named.iter().take(4).map(|done| done.witness.object.to_string()).collect();
    format!(
        "{}; together expected here once in {} ({nats:.1} nats, told from {floor:.1})",
        objects.join(", "),
        every(nats)
    )
}

/// How long one waits for something of such a surprise, of which an hour is the unit.
fn every(nats: f64) -> String {
    // Of one an hour or more there is no saying.
    let hours = 1.0 / -(-(-nats).exp()).ln_1p().min(-1e-300);
    match hours {
        hours if hours < 1.5 => "an hour".to_owned(),
        hours if hours < 48.0 => format!("{hours:.0} hours"),
        hours if hours < 24.0 * 60.0 => format!("{:.0} days", hours / 24.0),
        hours if hours < 24.0 * 730.0 => format!("{:.0} months", hours / 730.0),
        hours if hours < 8760.0 * 100.0 => format!("{:.0} years", hours / 8760.0),
        _ => "more than a hundred years".to_owned(),
    }
}

fn told(objects: &BTreeSet<Object>) -> String {
    objects.iter().map(|object| format!(", {object}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nats_read_as_how_long_one_waits() {
        assert_eq!(every(0.0), "an hour");
        assert_eq!(every(3.2), "24 hours");
        assert_eq!(every(7.1), "50 days");
        assert_eq!(every(60.0), "more than a hundred years");
    }
}
