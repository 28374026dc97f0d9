//! What is kept of a scoring run for its evaluation.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hedgerow_detect::Outcome;
use hedgerow_event::{Activity, Class, Event, Finding, Scale, Subject};

use crate::{labels::Label, trees::Trees};

const HOUR_NS: i64 = 3_600_000_000_000;

/// A case by what was said of it first, or first as an alert.
#[derive(Debug, Clone)]
pub struct Alert {
    pub finding: Finding,
    /// Somebody was notified; else it was listed.
    pub told: bool,
    /// Processes that labels name, of which it is about one or a descendant.
    around: Vec<u32>,
}

impl Alert {
    pub(super) fn is_of(&self, label: &Label) -> bool {
        label.explains(&self.finding, &self.around)
    }
}

/// One window of five seconds, small.
#[derive(Debug, Clone, Copy)]
struct Row {
    host: u32,
    subject: u32,
    case: u32,
    start_ns: i64,
    end_ns: i64,
    surprise: f32,
}

/// A window beside the labels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    pub host: u32,
    pub hour: i64,
    pub surprise: f32,
    pub positive: bool,
}

/// All windows that count, how many are ignored, and how many each label covers.
#[derive(Debug, Default)]
pub struct JudgedAll {
    pub rows: Vec<Judged>,
    pub ignored: u64,
    pub covered: Vec<u64>,
}

/// Labels of each host by time, so that a window is held against those near it alone: start, latest end
/// so far, and place.
struct Timetable<'a>(HashMap<&'a str, Vec<(i64, i64, usize)>>);

impl<'a> Timetable<'a> {
    fn of(labels: &'a [Label]) -> Self {
        let mut hosts: HashMap<&str, Vec<_>> = HashMap::new();
        for (at, label) in labels.iter().enumerate() {
            hosts.entry(&label.host).or_default().push((label.start_ns, label.end_ns, at));
        }
        for labels in hosts.values_mut() {
            labels.sort_unstable();
            let mut latest = i64::MIN;
            for (_, end, _) in labels {
                latest = latest.max(*end);
                *end = latest;
            }
        }
        Self(hosts)
    }

    /// The places of those that may cover a time.
    fn about(&self, host: &str, start_ns: i64, end_ns: i64) -> impl Iterator<Item = usize> {
        let labels = self.0.get(host).map_or(&[][..], Vec::as_slice);
        let begun = &labels[..labels.partition_point(|(start, ..)| *start < end_ns)];
        let open = begun.iter().rev().take_while(move |(_, latest, _)| *latest > start_ns);
        open.map(|(.., at)| *at)
    }
}

/// Windows and findings of all runs that were scored.
#[derive(Debug, Default)]
pub struct Collected {
    pub hosts: Vec<String>,
    current: usize,
    subjects: Vec<Arc<Subject>>,
    by_subject: HashMap<Arc<Subject>, u32>,
    rows: Vec<Row>,
    pub alerts: Vec<Alert>,
    by_uid: BTreeMap<String, u32>,
    /// The highest surprise that a case was told or listed with.
    highest: Vec<f64>,
    epochs: u64,
    trees: Trees,
}

impl Collected {
    /// What follows is of this host.
    pub fn host(&mut self, name: &str, labels: &[Label]) {
        self.trees = Trees::of(name, labels);
        let known = self.hosts.iter().position(|known| known == name);
        self.current = known.unwrap_or_else(|| {
            self.hosts.push(name.to_owned());
            self.hosts.len() - 1
        });
    }

    pub fn observe(&mut self, event: &Event) {
        self.trees.observe(event);
    }

    pub fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Windows(_) => self.epochs += 1,
            Outcome::Finding(finding, _) => self.finding(finding),
            Outcome::Scored(score) if score.scale == Scale::Seconds5 && score.early.is_none() => {
                let case = score.finding_uid.as_ref().map_or(u32::MAX, |uid| self.case(uid));
                let subject = self.subject(&score.subject);
                self.rows.push(Row {
                    host: self.current as u32,
                    subject,
                    case,
                    start_ns: score.window_start_ns,
                    end_ns: score.window_end_ns,
                    surprise: score.surprise.unwrap_or(0.0) as f32,
                });
            }
            _ => {}
        }
    }

    fn subject(&mut self, subject: &Arc<Subject>) -> u32 {
        if let Some(known) = self.by_subject.get(subject) {
            return *known;
        }
        let number = self.subjects.len() as u32;
        self.subjects.push(Arc::clone(subject));
        self.by_subject.insert(Arc::clone(subject), number);
        number
    }

    fn case(&mut self, uid: &str) -> u32 {
        if let Some(known) = self.by_uid.get(uid) {
            return *known;
        }
        let number = self.highest.len() as u32;
        self.highest.push(0.0);
        self.by_uid.insert(uid.to_owned(), number);
        number
    }

    fn finding(&mut self, finding: &Finding) {
        if finding.activity == Activity::Close {
            return;
        }
        let case = self.case(&finding.uid) as usize;
        self.highest[case] = self.highest[case].max(finding.surprise);
        let told = finding.disposition.is_alert();
        let new = || {
            let around = self.trees.around_finding(finding);
            Alert { finding: finding.clone(), told, around }
        };
        match self.alerts.iter_mut().rev().find(|alert| alert.finding.uid == finding.uid) {
            None => self.alerts.push(new()),
            // When somebody was notified counts.
            Some(alert) if told && !alert.told => *alert = new(),
            Some(alert) => {
                alert.finding.objects.extend(finding.objects.iter().cloned());
                alert.finding.window_end_ns =
                    alert.finding.window_end_ns.max(finding.window_end_ns);
            }
        }
    }

    /// Time that was judged, all hosts together.
    pub fn seconds(&self) -> f64 {
        (self.epochs * hedgerow_detect::EPOCH_SECONDS) as f64
    }

    pub(super) fn judge(&self, labels: &[Label]) -> JudgedAll {
        self.judge_without(labels, None)
    }

    /// Windows beside the labels, ranked without what a class brought.
    pub(super) fn judge_without(&self, labels: &[Label], without: Option<Class>) -> JudgedAll {
        let mut classes: Vec<Option<Class>> = vec![None; self.highest.len()];
        for alert in &self.alerts {
            if let Some(case) = self.by_uid.get(&alert.finding.uid) {
                classes[*case as usize] = Some(alert.finding.class);
            }
        }
        let timetable = Timetable::of(labels);
        let mut all = JudgedAll { covered: vec![0; labels.len()], ..JudgedAll::default() };
        for row in &self.rows {
            let (host, subject) =
                (&self.hosts[row.host as usize], &self.subjects[row.subject as usize]);
            let (mut positive, mut ignored) = (false, false);
            for at in timetable.about(host, row.start_ns, row.end_ns) {
                let label = &labels[at];
                if label.covers(host, subject, row.start_ns, row.end_ns) {
                    all.covered[at] += 1;
                    ignored |= label.is_ignored();
                    positive |= !label.is_ignored();
                }
            }
            if ignored && !positive {
                all.ignored += 1;
                continue;
            }
            let case = self.highest.get(row.case as usize).copied();
            let class = classes.get(row.case as usize).copied().flatten();
            let case = case.filter(|_| without.is_none() || class != without);
            let measure = if without == Some(Class::Measure) { 0.0 } else { row.surprise };
            all.rows.push(Judged {
                host: row.host,
                hour: row.start_ns.div_euclid(HOUR_NS),
                surprise: measure.max(case.unwrap_or(0.0) as f32),
                positive,
            });
        }
        all
    }

    /// How many of these alerts there were in each hour that was judged.
    pub(super) fn by_hour(&self, alerts: &[&Alert]) -> Vec<f64> {
        let mut hours: BTreeMap<(&str, i64), f64> = BTreeMap::new();
        for row in &self.rows {
            let hour = row.start_ns.div_euclid(HOUR_NS);
            hours.entry((self.hosts[row.host as usize].as_str(), hour)).or_default();
        }
        for Alert { finding, .. } in alerts {
            let hour = finding.window_start_ns.div_euclid(HOUR_NS);
            *hours.entry((finding.host_id.as_str(), hour)).or_default() += 1.0;
        }
        hours.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_held_against_the_labels_that_overlap_it() {
        let label = |host: &str, start_ns, end_ns| Label {
            start_ns,
            end_ns,
            host: host.to_owned(),
            workload: None,
            program: None,
            tree: None,
            class: String::new(),
        };
        let labels = [label("a", 50, 60), label("a", 0, 100), label("b", 0, 9), label("a", 60, 61)];
        let timetable = Timetable::of(&labels);
        for (host, start, end) in
            [("a", 55, 58), ("a", 0, 1), ("a", 99, 200), ("a", 60, 61), ("b", 9, 10), ("c", 0, 9)]
        {
            let mut found: Vec<usize> = timetable.about(host, start, end).collect();
            found.sort_unstable();
            let covers =
                |label: &Label| label.host == host && start < label.end_ns && end > label.start_ns;
            let covering: Vec<usize> =
                (0..labels.len()).filter(|at| covers(&labels[*at])).collect();
            assert!(
                covering.iter().all(|at| found.contains(at)),
                "{host} {start} {end}: {found:?}"
            );
        }
        assert_eq!(timetable.about("a", 200, 300).count(), 0);
    }
}
