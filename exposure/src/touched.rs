//! Which findings were about which programs. Pure.

use std::collections::{BTreeSet, HashMap};

use hedgerow_event::{Finding, Subject};
use serde::Serialize;

use crate::record::{BEFORE, User};

/// Findings that are looked at. Full: those that are older are left out.
pub const FINDINGS_MAX: usize = 16_384;

/// A finding about a program, whatever of it was reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Touch {
    pub uid: String,
    /// Of its latest report, UTC.
    pub time_ns: i64,
    /// Somebody was alerted.
    pub alerted: bool,
}

/// Findings by who did what they tell.
#[derive(Debug, Default)]
pub struct Touched {
    /// Newest first.
    findings: Vec<Touch>,
    by_user: HashMap<User, BTreeSet<usize>>,
    /// Whatever the workload and the script.
    by_path: HashMap<String, BTreeSet<usize>>,
}

impl Touched {
    /// Of all reports, oldest first.
    pub fn of(reports: &[Finding]) -> Self {
        let mut touched = Self::default();
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        for report in reports.iter().rev() {
            let number = match numbers.get(&*report.uid) {
                Some(number) => *number,
                None if touched.findings.len() >= FINDINGS_MAX => continue,
                None => {
                    let (uid, time_ns) = (report.uid.clone(), report.time_ns);
                    touched.findings.push(Touch { uid, time_ns, alerted: false });
                    numbers.insert(&report.uid, touched.findings.len() - 1);
                    touched.findings.len() - 1
                }
            };
            touched.findings[number].alerted |= report.disposition.is_alert();
            touched.note(&report.subject, number);
            report.objects.iter().for_each(|object| touched.note(object.subject(), number));
        }
        touched
    }

    fn note(&mut self, subject: &Subject, number: usize) {
        self.by_user.entry(User::of(subject)).or_default().insert(number);
        self.by_path.entry(subject.program.path.to_string()).or_default().insert(number);
    }

    /// The findings about any of these, newest first.
    pub fn by<'a>(&self, users: impl Iterator<Item = &'a User>) -> Vec<&Touch> {
        let of = |user: &User| match user.workload == BEFORE {
            true => self.by_path.get(&user.program),
            false => self.by_user.get(user),
        };
        let numbers: BTreeSet<usize> = users.filter_map(of).flatten().copied().collect();
        numbers.into_iter().map(|number| &self.findings[number]).collect()
    }
}
