//! What all lives found, added up.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use serde::Serialize;

use super::{
    judge::{Rule, State, Tried},
    marks::Class,
    stats::{mcnemar, poisson_interval, share_interval},
    tape::Naming,
};

/// One line: a kind, or all of a class, in one naming after one learning time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub class: Class,
    /// `None` for the class as a whole.
    pub kind: Option<String>,
    pub naming: Naming,
    pub learn_s: u64,
    /// Executions; each counts once, in however many lives it was.
    pub n: usize,
    /// Attacks found, or benign acts that alerted.
    pub found: usize,
    pub share: f64,
    /// Clopper-Pearson, 95 %.
    pub low: f64,
    pub high: f64,
    /// Of the found ones, seconds from begin to alert.
    pub median_s: Option<f64>,
}

/// Plain life in one naming after one learning time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plain {
    pub naming: Naming,
    pub learn_s: u64,
    pub hours: f64,
    pub alerts: usize,
    /// Alerts a day with an exact Poisson interval, 95 %.
    pub per_day: f64,
    pub low: f64,
    pub high: f64,
}

/// The same attacks after a short and after a longer learning time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    pub class: Class,
    pub naming: Naming,
    pub from_s: u64,
    pub to_s: u64,
    /// Found after the short time only, and after the longer one only.
    pub lost: usize,
    pub gained: usize,
    /// McNemar, exact, two-sided.
    pub p: f64,
}

/// Plain life in which so many alerts were asked for that some are expected.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Asked {
    pub per_day: f64,
    pub plain: Vec<Plain>,
}

/// What a part of the rule finds: each class as a whole, and plain life.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part {
    pub rule: Rule,
    pub rows: Vec<Row>,
    pub plain: Vec<Plain>,
}

/// The whole table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table {
    pub budget_per_day: f64,
    pub rows: Vec<Row>,
    pub plain: Vec<Plain>,
    pub changes: Vec<Change>,
    pub parts: Vec<Part>,
    pub asked: Vec<Asked>,
    /// Learning times of which blocks were drawn anew, with the length of a block in seconds.
    pub redrawn: BTreeMap<u64, u64>,
    pub states: Vec<State>,
}

impl Table {
    /// Adds up what the whole rule found, what parts of it did, and what it found with other
    /// budgets.
    pub fn new(
        states: Vec<State>,
        parts: Vec<(Rule, Vec<State>)>,
        asked: Vec<(f64, Vec<State>)>,
        budget_per_day: f64,
    ) -> Self {
        let rows = rows(&states);
        let plain = plain(&states);
        let redrawn = states
            .iter()
            .filter(|state| (state.block_epochs as u64) < state.learn_s / 5)
            .map(|state| (state.learn_s, state.block_epochs as u64 * 5))
            .collect();
        let changes = changes(&states);
        let parts = parts.into_iter().map(|(rule, states)| Part {
            rule,
            rows: self::rows(&states).into_iter().filter(|row| row.kind.is_none()).collect(),
            plain: self::plain(&states),
        });
        let parts = parts.collect();
        let asked = asked
            .into_iter()
            .map(|(per_day, states)| Asked { per_day, plain: self::plain(&states) })
            .collect();
        Self { budget_per_day, rows, plain, changes, parts, asked, redrawn, states }
    }

    /// Learning times and namings, as columns.
    fn columns(&self) -> Vec<(Naming, u64)> {
        let all: BTreeSet<_> = self.rows.iter().map(|row| (row.naming, row.learn_s)).collect();
        all.into_iter().collect()
    }

    /// Kinds in the order of their class, each class as a whole before them.
    fn kinds(&self) -> Vec<(Class, Option<&str>)> {
        let all: BTreeSet<_> =
            self.rows.iter().map(|row| (row.class, row.kind.as_deref())).collect();
        all.into_iter().collect()
    }

    fn cell(&self, class: Class, kind: Option<&str>, at: (Naming, u64)) -> Option<&Row> {
        self.rows.iter().find(|row| {
            row.class == class && row.kind.as_deref() == kind && (row.naming, row.learn_s) == at
        })
    }

    /// Markdown: a table of shares, one of plain life, and what was missed.
    pub fn markdown(&self) -> String {
        let columns = self.columns();
        let mut text = String::from("| what |");
        for (naming, learn_s) in &columns {
            let _ = write!(text, " {}, {} |", naming.name(), duration(*learn_s));
        }
        text.push_str("\n|---|");
        text.push_str(&"---|".repeat(columns.len()));
        text.push('\n');
        for (class, kind) in self.kinds() {
            let name = kind.map_or_else(
                || {
                    format!(
                        "**{}{}**",
                        class.name(),
                        if class.is_attack() { "" } else { ": alerts" }
                    )
                },
                str::to_owned,
            );
            let _ = write!(text, "| {name} |");
            for at in &columns {
                match self.cell(class, kind, *at) {
                    Some(row) if kind.is_none() => {
                        let Row { found, n, low, high, .. } = row;
                        let _ = write!(text, " **{found} of {n}** ({low:.2} to {high:.2}) |");
                    }
                    Some(row) => {
                        let Row { found, n, .. } = row;
                        let _ = write!(text, " {found} of {n} |");
                    }
                    None => text.push_str("  |"),
                }
            }
            text.push('\n');
        }
        if !self.changes.is_empty() {
            text.push_str("\n| longer learning | lost | gained | McNemar p |\n|---|---|---|---|\n");
        }
        for one in &self.changes {
            let Change { class, naming, from_s, to_s, lost, gained, p } = one;
            let (from, to) = (duration(*from_s), duration(*to_s));
            let _ = writeln!(
                text,
                "| {}, {}, {from} to {to} | {lost} | {gained} | {p:.3} |",
                class.name(),
                naming.name()
            );
        }
        for (learn_s, block_s) in &self.redrawn {
            let (whole, block) = (duration(*learn_s), duration(*block_s));
            let _ = write!(text, "\n{whole} are drawn from blocks of {block}.\n");
        }
        text.push_str("\n| plain life | hours | alerts | a day | 95 % |\n|---|---|---|---|---|\n");
        for one in &self.plain {
            let Plain { naming, learn_s, hours, alerts, per_day, low, high } = one;
            let _ = writeln!(
                text,
                "| {}, {} learned | {hours:.2} | {alerts} | {per_day:.1} | {low:.1} to {high:.1} |",
                naming.name(),
                duration(*learn_s)
            );
        }
        for Asked { per_day, plain } in &self.asked {
            for Plain { naming, learn_s, hours, alerts, per_day: had, low, high } in plain {
                let _ = writeln!(
                    text,
                    "| {}, {} learned, {per_day} a day asked | {hours:.2} | {alerts} | {had:.1} | {low:.1} to {high:.1} |",
                    naming.name(),
                    duration(*learn_s)
                );
            }
        }
        self.parts_markdown(&mut text);
        text
    }

    fn parts_markdown(&self, text: &mut String) {
        let Some(first) = self.parts.first() else { return };
        text.push_str("\n| part of the rule |");
        for row in &first.rows {
            let _ = write!(text, " {}, {} |", row.class.name(), duration(row.learn_s));
        }
        text.push_str(" plain life, alerts a day |\n|---|");
        text.push_str(&"---|".repeat(first.rows.len() + 1));
        for part in &self.parts {
            let _ = write!(text, "\n| {} |", part.rule.name());
            for Row { found, n, .. } in &part.rows {
                let _ = write!(text, " {found} of {n} |");
            }
            for one in &part.plain {
                let _ = write!(text, " {:.1} ({:.1} to {:.1}) |", one.per_day, one.low, one.high);
            }
        }
        text.push('\n');
    }

    /// The same for a terminal, with what was missed and what alerted.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (class, kind) in self.kinds() {
            let name = kind.map_or_else(|| class.name().to_uppercase(), |kind| format!("  {kind}"));
            let _ = write!(text, "{name:26}");
            for at in self.columns() {
                let cell = self.cell(class, kind, at).map_or(String::new(), |row| {
                    format!("{}/{} [{:.2} {:.2}]", row.found, row.n, row.low, row.high)
                });
                let _ = write!(text, " {cell:>20}");
            }
            text.push('\n');
        }
        for Asked { per_day, plain } in &self.asked {
            for Plain { naming, alerts, hours, .. } in plain {
                let expected = per_day * hours / 24.0;
                let _ = writeln!(
                    text,
                    "plain life, {}, {per_day} a day asked: {alerts} alerts in {hours:.2} h, {expected:.1} asked",
                    naming.name()
                );
            }
        }
        let mut head = format!("{:26}", "");
        for (naming, learn_s) in self.columns() {
            let _ = write!(head, " {:>20}", format!("{}, {}", naming.name(), duration(learn_s)));
        }
        text.insert_str(0, &(head + "\n"));
        for one in &self.plain {
            let _ = writeln!(
                text,
                "plain life, {}, {} learned: {} alerts in {:.2} h, {:.1} a day ({:.1} to {:.1})",
                one.naming.name(),
                duration(one.learn_s),
                one.alerts,
                one.hours,
                one.per_day,
                one.low,
                one.high
            );
        }
        text
    }

    /// One line for each act in each life, and each alert of plain life.
    pub fn details(&self) -> String {
        let mut text = String::new();
        for state in &self.states {
            let at = format!("{}, {}", state.naming.name(), duration(state.learn_s));
            for tried in &state.tried {
                let found = match (tried.found_s, tried.alerted) {
                    (Some(seconds), _) => format!("found after {seconds:.1} s"),
                    (None, true) => "alerted".to_owned(),
                    (None, false) => "nothing".to_owned(),
                };
                let said = tried.said.as_deref().unwrap_or("");
                let Tried { kind, load, processes, .. } = tried;
                let _ = writeln!(
                    text,
                    "{at}: {kind} via {load} ({processes} processes): {found}: {said}"
                );
            }
            for alert in &state.plain_alerts {
                let _ = writeln!(text, "{at}: plain life: {alert}");
            }
        }
        text
    }
}

/// Shares by class and kind.
fn rows(states: &[State]) -> Vec<Row> {
    type Key = (Naming, u64, Class, Option<String>);
    let mut sums: BTreeMap<Key, Vec<(bool, Option<f64>)>> = BTreeMap::new();
    for state in states {
        for tried in &state.tried {
            let hit = match tried.class.is_attack() {
                true => tried.found_s.is_some(),
                false => tried.alerted,
            };
            for kind in [None, Some(tried.kind.clone())] {
                let key = (state.naming, state.learn_s, tried.class, kind);
                sums.entry(key).or_default().push((hit, tried.found_s));
            }
        }
    }
    let rows = sums.into_iter().map(|((naming, learn_s, class, kind), tried)| {
        let (n, found) = (tried.len(), tried.iter().filter(|(hit, _)| *hit).count());
        let (low, high) = share_interval(found, n);
        let mut times: Vec<f64> = tried.iter().filter_map(|(_, time)| *time).collect();
        times.sort_by(f64::total_cmp);
        let median_s = times.get(times.len() / 2).copied();
        let share = found as f64 / n as f64;
        Row { class, kind, naming, learn_s, n, found, share, low, high, median_s }
    });
    rows.collect()
}

/// Each learning time against the shortest, by class and naming.
fn changes(states: &[State]) -> Vec<Change> {
    let Some(from_s) = states.iter().map(|state| state.learn_s).min() else { return Vec::new() };
    let mut first = BTreeMap::new();
    for state in states.iter().filter(|state| state.learn_s == from_s) {
        let found = state.tried.iter().map(|one| ((state.naming, one.mark), one.found_s.is_some()));
        first.extend(found);
    }
    let mut sums: BTreeMap<(Naming, u64, Class), (usize, usize)> = BTreeMap::new();
    for state in states.iter().filter(|state| state.learn_s != from_s) {
        for tried in state.tried.iter().filter(|tried| tried.class.is_attack()) {
            let Some(before) = first.get(&(state.naming, tried.mark)) else { continue };
            let sum = sums.entry((state.naming, state.learn_s, tried.class)).or_default();
            sum.0 += usize::from(*before && tried.found_s.is_none());
            sum.1 += usize::from(!*before && tried.found_s.is_some());
        }
    }
    let all = sums.into_iter().map(|((naming, to_s, class), (lost, gained))| Change {
        class,
        naming,
        from_s,
        to_s,
        lost,
        gained,
        p: mcnemar(lost, gained),
    });
    all.collect()
}

fn plain(states: &[State]) -> Vec<Plain> {
    let mut sums: BTreeMap<(Naming, u64), (f64, usize)> = BTreeMap::new();
    for state in states {
        let sum = sums.entry((state.naming, state.learn_s)).or_default();
        sum.0 += state.plain_hours;
        sum.1 += state.plain_alerts.len();
    }
    let rows = sums.into_iter().map(|((naming, learn_s), (hours, alerts))| {
        let days = hours / 24.0;
        let (low, high) = poisson_interval(alerts);
        Plain {
            naming,
            learn_s,
            hours,
            alerts,
            per_day: alerts as f64 / days,
            low: low / days,
            high: high / days,
        }
    });
    rows.collect()
}

/// `2 min`, `1 h`, `7 d`.
pub fn duration(seconds: u64) -> String {
    match seconds {
        s if s >= 86_400 && s % 86_400 == 0 => format!("{} d", s / 86_400),
        s if s >= 3_600 && s % 3_600 == 0 => format!("{} h", s / 3_600),
        s if s >= 60 && s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}
