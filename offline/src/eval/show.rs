//! An evaluation for people, tables and browsers.

use std::fmt::Write;

use chrono_tz::Tz;
use hedgerow_event::gate;

use super::{Evaluation, Figure};
use crate::{
    page::{Page, number},
    time,
};

fn told(figure: Figure) -> String {
    let Figure { value: Some(value), low, high } = figure else {
        return "not available".to_owned();
    };
    match (low, high) {
        (Some(low), Some(high)) => {
            format!("{} ({} to {})", number(value), number(low), number(high))
        }
        _ => number(value),
    }
}

fn maybe(value: Option<f64>) -> String {
    value.map_or_else(|| "not available".to_owned(), number)
}

impl Evaluation {
    fn figures(&self) -> [(&'static str, Figure); 6] {
        let plain = |value| Figure { value, low: None, high: None };
        [
            ("AUROC of windows", self.auroc),
            ("average precision of windows", self.average_precision),
            ("recall of incidents at the budget", self.recall),
            ("false alerts a day", self.false_alerts_a_day),
            ("alerts a day", plain(Some(self.alerts_a_day))),
            ("seconds to detect, median", plain(self.seconds_to_detect_median)),
        ]
    }

    fn scope(&self) -> String {
        format!(
            "{} windows of 5 s on {} hosts in {:.2} days, {} of them positive, {} ignored ({} labels \
             `ignore` match none); budget {} a day. In brackets 95 % bootstrap intervals over hours and incidents.",
            self.windows,
            self.hosts.len(),
            self.days,
            self.positive_windows,
            self.ignored_windows,
            self.ignored_unmatched,
            self.budget_per_day
        )
    }

    fn rows(&self, zone: Tz) -> Vec<Vec<String>> {
        let row = |incident: &super::Incident| {
            let became = match (&incident.finding_uid, incident.windows, incident.listed) {
                (Some(uid), ..) => uid.clone(),
                (None, 0, _) => "unmatched: no window is of it".to_owned(),
                (None, _, 0) => "missed".to_owned(),
                (None, _, listed) => format!("listed only, {listed} times"),
            };
            vec![
                incident.class.clone(),
                incident.host.clone(),
                time::show(incident.start_ns, zone),
                incident.windows.to_string(),
                incident.seconds_to_detect.map(number).unwrap_or_default(),
                became,
            ]
        };
        self.incidents.iter().map(row).collect()
    }

    /// For a terminal.
    pub fn text(&self, zone: Tz) -> String {
        let mut out = format!("model {}\n{}\n\n", self.model, self.scope());
        // Writing to a String does not fail.
        for (name, figure) in self.figures() {
            let _ = writeln!(out, "{name:36} {}", told(figure));
        }
        for (class, (found, all)) in &self.recall_by_class {
            let _ = writeln!(out, "{:36} {found} of {all}", format!("found of class {class}"));
        }
        let _ = writeln!(out, "\nwithout{:29} recall  alerts a day  AUROC  AP", "");
        for ablation in &self.ablations {
            let _ = writeln!(
                out,
                "{:36} {}  {}  {}  {}",
                ablation.without,
                maybe(ablation.recall),
                number(ablation.alerts_a_day),
                maybe(ablation.auroc),
                maybe(ablation.average_precision)
            );
        }
        out.push('\n');
        for row in self.rows(zone) {
            let _ = writeln!(out, "{}", row.join("  "));
        }
        out.lines().map(|line| format!("{}\n", gate::shown(line))).collect()
    }

    /// One figure a row.
    pub fn csv(&self) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let cell = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        let mut row = |name: &str, figure: Figure| {
            // Writing to memory does not fail.
            let _ = writer.write_record([
                name,
                &cell(figure.value),
                &cell(figure.low),
                &cell(figure.high),
            ]);
        };
        let plain = |value| Figure { value, low: None, high: None };
        row("figure", Figure::default());
        for (name, figure) in self.figures() {
            row(name, figure);
        }
        for (class, (found, all)) in &self.recall_by_class {
            row(&format!("found of class {class}"), plain(Some(*found as f64)));
            row(&format!("incidents of class {class}"), plain(Some(*all as f64)));
        }
        for ablation in &self.ablations {
            let name = |what: &str| format!("{what} without {}", ablation.without);
            row(&name("recall"), plain(ablation.recall));
            row(&name("alerts a day"), plain(Some(ablation.alerts_a_day)));
            row(&name("AUROC"), plain(ablation.auroc));
            row(&name("average precision"), plain(ablation.average_precision));
        }
        let bytes = writer.into_inner().unwrap_or_default();
        String::from_utf8_lossy(&bytes).replacen("figure,,,", "figure,value,low,high", 1)
    }

    /// A self-contained page; times are in `zone`, which it names.
    pub fn html(&self, zone: Tz) -> String {
        let mut page = Page::default();
        page.note(&format!("Model {}. Times are in {zone}.", self.model)).text(&self.scope());
        page.heading("Figures");
        let figures = self.figures().map(|(name, figure)| vec![name.to_owned(), told(figure)]);
        page.table(&["figure", "#value"], &figures);
        page.heading("Windows");
        page.lines("ROC", ("false-positive rate", "recall"), &[("", &self.roc)]);
        page.lines(
            "Precision and recall",
            ("recall", "precision"),
            &[("", &self.precision_recall)],
        );
        page.heading("Incidents");
        let head = ["class", "host", "start", "#windows", "#seconds to detect", "became"];
        page.table(&head, &self.rows(zone));
        page.heading("What is left without");
        let rows: Vec<Vec<String>> = self
            .ablations
            .iter()
            .map(|ablation| {
                vec![
                    ablation.without.clone(),
                    maybe(ablation.recall),
                    number(ablation.alerts_a_day),
                    maybe(ablation.auroc),
                    maybe(ablation.average_precision),
                ]
            })
            .collect();
        let head =
            ["without", "#recall", "#alerts a day", "#AUROC of windows", "#average precision"];
        page.table(&head, &rows);
        page.note(
            "Without a class its findings fall away, and windows lose what it brought to their rank. \
             Without a family those findings fall away that rest on it alone.",
        );
        page.html("Evaluation")
    }
}
