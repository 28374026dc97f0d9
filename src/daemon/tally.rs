//! What was counted since the start, and can't be read anywhere later.

use std::collections::{BTreeSet, HashMap};

use hedgerow_event::{Action, Activity, Event, Finding, Level, Remediation, Rule, Scale};
use hedgerow_features::Window;

use crate::metrics::{KINDS, Windows, class, effect, kind};

#[derive(Debug, Default)]
pub struct Tally {
    /// Events that the engine took, by kind.
    pub kinds: [u64; KINDS.len()],
    pub windows: Windows,
    /// Cases by class: alerted, and closed without that.
    pub findings: [[u64; 2]; 3],
    /// Open cases that are listed only; the engine opens only so many.
    listed: BTreeSet<String>,
    /// Entries that were made automatically.
    pub blocks: u64,
    /// Hits of all entries that ever were, by effect.
    pub hits: [u64; 5],
    /// Hits of live entries, as counted.
    live: HashMap<String, u64>,
}

impl Tally {
    pub fn count(&mut self, event: &Event) {
        self.kinds[kind(&event.origin)] += 1;
    }

    /// Events of all kinds.
    pub fn events(&self) -> u64 {
        self.kinds.iter().sum()
    }

    pub fn finding(&mut self, finding: &Finding) {
        // What is listed may still be alerted, until it is closed.
        let kept = finding.activity == Activity::Close && !finding.disposition.is_alert();
        if kept || finding.is_first_alert() {
            self.findings[class(finding.class)][usize::from(kept)] += 1;
            self.listed.remove(&finding.uid);
        } else if finding.activity == Activity::Create {
            self.listed.insert(finding.uid.clone());
        }
    }

    /// Alerted, and listed without that.
    pub fn told(&self) -> [u64; 2] {
        let add = |[told, kept]: [u64; 2], [more, other]: &[u64; 2]| [told + more, kept + other];
        self.findings.iter().fold([0, self.listed.len() as u64], add)
    }

    pub fn remediation(&mut self, remediation: &Remediation) {
        let uid = remediation.uid.as_str();
        match remediation.action {
            Action::Block if remediation.rule != Rule::Operator => self.blocks += 1,
            Action::Block => {}
            Action::Unblock => {
                self.hits(uid, remediation.level, remediation.hits);
                self.live.remove(uid);
            }
        }
    }

    /// An entry has that many hits by now.
    pub fn hits(&mut self, uid: &str, level: Level, hits: u64) {
        let before = match self.live.get_mut(uid) {
            Some(before) => std::mem::replace(before, hits),
            None => self.live.insert(uid.to_owned(), hits).unwrap_or_default(),
        };
        self.hits[effect(level)] += hits.saturating_sub(before);
    }

    pub fn windows(&mut self, windows: &[Window]) {
        let closed = windows
            .iter()
            .filter(|window| window.early.is_none() && window.time.scale == Scale::Seconds5);
        for window in closed {
            self.windows.closed += 1;
            self.windows.incomplete += u64::from(!window.is_complete());
            if !window.subject.is_host() {
                self.windows.loss.add(window.loss);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hedgerow_event::{Disposition, Target};

    use super::*;

    #[test]
    fn a_case_is_counted_once_also_where_it_is_listed_first() {
        let mut tally = Tally::default();
        let mut tell = |uid: &str, activity, disposition, first_alert| {
            let first_alert = Some(first_alert);
            let told = super::super::example_finding("w", "r", 1);
            tally.finding(&Finding { uid: uid.into(), activity, disposition, first_alert, ..told });
            (tally.told(), tally.findings.iter().flatten().sum::<u64>())
        };
        let (alert, listed) = (Disposition::Alert, Disposition::Suppressed);
        assert_eq!(tell("a", Activity::Create, listed, false), ([0, 1], 0));
        assert_eq!(tell("a", Activity::Update, listed, false), ([0, 1], 0));
        assert_eq!(tell("a", Activity::Update, alert, true), ([1, 0], 1));
        assert_eq!(tell("a", Activity::Update, alert, false), ([1, 0], 1));
        assert_eq!(tell("a", Activity::Close, alert, false), ([1, 0], 1));
        assert_eq!(tell("b", Activity::Create, listed, false), ([1, 1], 1));
        assert_eq!(tell("b", Activity::Close, listed, false), ([1, 1], 2));
    }

    #[test]
    fn hits_of_an_entry_are_counted_once_also_those_of_its_last_second() {
        let mut tally = Tally::default();
        tally.hits("a", Level::Prevents, 3);
        tally.hits("a", Level::Prevents, 5);
        tally.hits("b", Level::Counts, 1);
        let ended = Remediation {
            uid: "a".into(),
            finding_uid: None,
            action: Action::Unblock,
            target: Target::TaskTree { tgid: 1, start_boot_ns: 1 },
            subject: None,
            rule: Rule::Operator,
            mode: hedgerow_event::Mode::Enforce,
            level: Level::Prevents,
            host_id: String::new(),
            time_ns: 0,
            expires_ns: 0,
            hits: 9,
            sockets_destroyed: 0,
            reason: String::new(),
        };
        tally.remediation(&ended);
        assert_eq!(tally.hits, [9, 0, 0, 0, 1]);
        assert_eq!(tally.live.len(), 1);
    }
}
