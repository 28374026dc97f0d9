//! A back-test for people.

use std::fmt::Write;

use chrono_tz::Tz;
use hedgerow_event::gate;

use super::{Backtest, Cut, Stood};
use crate::time;

impl Backtest {
    /// For a terminal: entries with whom they would have cut, then findings that led to none.
    pub fn text(&self, zone: Tz) -> String {
        let mut out = format!(
            "model {}, {:.2} days: {} findings, {} entries\n",
            self.model,
            self.days,
            self.findings.len(),
            self.entries.len()
        );
        // Writing to a String does not fail.
        for (number, stood) in self.entries.iter().enumerate() {
            let _ = write!(out, "\nentry {number}: {}", stood_line(stood, zone));
            for cut in &stood.cuts {
                let _ = write!(out, "  {}", cut_line(cut, stood, zone));
            }
        }
        out.push('\n');
        for decided in &self.findings {
            let finding = &decided.finding;
            let label = match &decided.label {
                Some(class) => format!(", labelled {class}"),
                None => String::new(),
            };
            let became = match (decided.entry, &decided.reason) {
                (Some(number), _) => format!("entry {number}"),
                (None, reason) => reason.clone().unwrap_or_default(),
            };
            let marks = decided.counterfactual.then_some("counterfactual").into_iter();
            let marks = marks.chain(decided.hangs_on.iter().map(|missing| missing.told()));
            let marked: String = marks.flat_map(|mark| [", ", mark]).collect();
            let _ = writeln!(
                out,
                "{} {} {:?} {:.1} nats{label}{marked}: {became}",
                time::show(finding.time_ns, zone),
                finding.subject,
                finding.class,
                finding.surprise
            );
        }
        out.push_str("\nnot available:\n");
        for missing in &self.unavailable {
            let _ = writeln!(out, "  {missing}");
        }
        out.lines().map(|line| format!("{}\n", gate::shown(line))).collect()
    }
}

fn stood_line(stood: &Stood, zone: Tz) -> String {
    format!(
        "{} of {} on {}, {} ({:?}), {} for {:.0} s, {} hits{}{}\n  {}\n",
        stood.name,
        stood.subject,
        stood.host,
        stood.mode,
        stood.level,
        time::show(stood.from_ns, zone),
        stood.seconds,
        stood.hits,
        if stood.wide { ", wide: held for a minute before" } else { "" },
        if stood.counterfactual { ", counterfactual" } else { "" },
        stood.reason
    )
}

fn cut_line(cut: &Cut, stood: &Stood, zone: Tz) -> String {
    let would = match stood.mode {
        hedgerow_event::Mode::Enforce => "cut",
        _ => "counted",
    };
    let labels = match cut.benign_by_labels {
        Some(0) | None => String::new(),
        Some(benign) => format!(", {benign} benign by the labels"),
    };
    let past = if cut.benign_by_past { ", as it did before" } else { "" };
    format!(
        "{would} {} (process {}) {} times, {} to {}{labels}{past}\n",
        cut.subject,
        cut.tgid,
        cut.hits,
        time::show(cut.first_ns, zone),
        time::show(cut.last_ns, zone)
    )
}
