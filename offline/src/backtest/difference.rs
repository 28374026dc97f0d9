//! What two back-tests of the same past differ in.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Backtest, Decided, Stood};

const MINUTE_NS: i64 = 60_000_000_000;

/// What only one of two has, each by a line for a person.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub findings_only_first: Vec<String>,
    pub findings_only_second: Vec<String>,
    pub entries_only_first: Vec<String>,
    pub entries_only_second: Vec<String>,
}

/// Another model names its findings otherwise: the same is the same subject, class and minute.
fn finding(decided: &Decided) -> String {
    let finding = &decided.finding;
    let told = if finding.disposition.is_alert() { "alert" } else { "listed" };
    format!(
        "{} {} {:?} at minute {} ({told})",
        finding.host_id,
        finding.subject,
        finding.class,
        finding.window_start_ns.div_euclid(MINUTE_NS)
    )
}

fn entry(stood: &Stood) -> String {
    format!(
        "{} {} of {} ({}) from minute {}",
        stood.host,
        stood.name,
        stood.subject,
        stood.mode,
        stood.from_ns.div_euclid(MINUTE_NS)
    )
}

impl Difference {
    pub fn of(first: &Backtest, second: &Backtest) -> Self {
        let findings =
            |of: &Backtest| -> BTreeSet<String> { of.findings.iter().map(finding).collect() };
        let entries =
            |of: &Backtest| -> BTreeSet<String> { of.entries.iter().map(entry).collect() };
        let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect();
        let (f1, f2) = (findings(first), findings(second));
        let (e1, e2) = (entries(first), entries(second));
        Self {
            findings_only_first: only(&f1, &f2),
            findings_only_second: only(&f2, &f1),
            entries_only_first: only(&e1, &e2),
            entries_only_second: only(&e2, &e1),
        }
    }

    pub fn text(&self) -> String {
        let parts = [
            ("findings of the first only", &self.findings_only_first),
            ("findings of the second only", &self.findings_only_second),
            ("entries of the first only", &self.entries_only_first),
            ("entries of the second only", &self.entries_only_second),
        ];
        let mut out = String::new();
        for (name, lines) in parts {
            out += &format!("{name}: {}\n", lines.len());
            out.extend(
                lines.iter().map(|line| format!("  {}\n", hedgerow_event::gate::shown(line))),
            );
        }
        out
    }
}
