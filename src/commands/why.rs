//! Explains what the responder decided, from its ledger.

use std::path::Path;

use hedgerow_event::{Action, Mode, Remediation};
use hedgerow_responder::ledger::{Decision, Ledger, Line};

use crate::{daemon::LEDGER, exit::Failure, text};

/// Decisions that are shown beside those on live entries, unless all are asked for.
const RECENT: usize = 20;

/// Reads the ledger of a daemon that runs or ran.
pub fn read(state: &Path) -> anyhow::Result<Vec<Line>> {
    let (lines, torn) = Ledger::read(&state.join(LEDGER)).map_err(Failure::file)?;
    if torn > 0 {
        eprintln!("hedgerow: {torn} lines of the ledger can't be read");
    }
    Ok(lines)
}

/// The decisions about one entry, oldest first.
pub fn of_entry(lines: &[Line], uid: &str) -> Vec<String> {
    lines.iter().filter(|line| entry_of(&line.decision) == Some(uid)).map(told).collect()
}

/// The newest decisions, or all, about anything but the entries that are named; how many there are.
pub fn others(lines: &[Line], live: &[&str], all: bool) -> (Vec<String>, usize) {
    let concerned = |line: &&Line| entry_of(&line.decision).is_none_or(|uid| !live.contains(&uid));
    let found: Vec<&Line> = lines.iter().filter(concerned).collect();
    let skipped = if all { 0 } else { found.len().saturating_sub(RECENT) };
    (found[skipped..].iter().map(|line| told(line)).collect(), found.len())
}

fn entry_of(decision: &Decision) -> Option<&str> {
    match decision {
        Decision::Block { entry, .. }
        | Decision::Extend { entry, .. }
        | Decision::Unblock { entry } => Some(&entry.uid),
        Decision::Hold { hold } => Some(&hold.uid),
        Decision::Withdraw { uid, .. } | Decision::Wrong { uid, .. } => Some(uid),
        _ => None,
    }
}

/// One decision for a person: when, what, whom, why.
pub fn told(line: &Line) -> String {
    let what = match &line.decision {
        Decision::Block { entry, period_s } => {
            let verb = if entry.mode == Mode::Enforce { "denied" } else { "would deny" };
            format!("{verb} {} for {period_s} s{}", entry.target, because(entry))
        }
        Decision::Extend { entry, .. } => {
            format!("kept on {} ({}): {}", entry.target, entry.mode, entry.reason)
        }
        Decision::Unblock { entry } => {
            let hits = entry.hits;
            format!("released {} after {hits} hits: {} [{}]", entry.target, entry.reason, entry.uid)
        }
        Decision::Hold { hold } => {
            let until = text::time(hold.until_ns);
            format!("held until {until}: {}: {} [{}]", hold.target, hold.reason, hold.uid)
        }
        Decision::Withdraw { uid, reason } => format!("withdrew what was held: {reason} [{uid}]"),
        Decision::Refuse { target, rule, finding_uid, reason } => {
            format!("no entry against {target} by rule {}: {reason}{}", name(rule), of(finding_uid))
        }
        Decision::Report { finding_uid, reason } => {
            format!("no entry: {reason} (finding {finding_uid})")
        }
        Decision::Wrong { uid, workload, counted, budget } => format!(
            "an operator said that it was wrong; {workload} goes back to monitor ({counted} wrong in \
             90 days, {budget} is acceptable) [{uid}]"
        ),
        Decision::Halt { halted: true, reason } => reason.clone(),
        Decision::Halt { halted: false, reason } => format!("automatic entries go on: {reason}"),
        Decision::Breaker { workload, reason } => format!("{workload}: {reason}"),
        Decision::Mode { workload, mode } if workload == "*" => {
            format!("an operator set all workloads to {mode}")
        }
        Decision::Mode { workload, mode } => format!("{workload} was set to {mode}"),
        Decision::Allow { target, allowed: true } => format!("an operator allowed {target}"),
        Decision::Allow { target, .. } => format!("an operator allows {target} no longer"),
        Decision::Armed { armed: true } => "an operator ended disarm".to_owned(),
        Decision::Armed { .. } => "disarmed: nothing is refused".to_owned(),
        Decision::Foreign { id } => {
            format!("removed entry {id:016x} from the kernel: no decision explains it")
        }
    };
    format!("{} {what}", text::time(line.time_ns))
}

fn because(entry: &Remediation) -> String {
    debug_assert_eq!(entry.action, Action::Block);
    let (rule, finding) = (name(&entry.rule), of(&entry.finding_uid));
    format!(" by rule {rule}: {}{finding} [{}]", entry.reason, entry.uid)
}

fn of(finding_uid: &Option<String>) -> String {
    finding_uid.as_ref().map_or_else(String::new, |uid| format!(" (finding {uid})"))
}

/// As in JSON, so that it can be looked for there.
fn name(rule: &hedgerow_event::Rule) -> String {
    let name = serde_json::to_value(rule).ok();
    name.as_ref().and_then(serde_json::Value::as_str).unwrap_or("?").to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hedgerow_event::{Level, Rule, Target};

    use super::*;

    fn entry(uid: &str, reason: &str) -> Remediation {
        Remediation {
            uid: uid.into(),
            finding_uid: Some("f00d".into()),
            action: Action::Block,
            target: Target::TaskTree { tgid: 7, start_boot_ns: 9 },
            subject: None,
            rule: Rule::ExecUntrusted,
            mode: Mode::Enforce,
            level: Level::Prevents,
            host_id: "h".into(),
            time_ns: 0,
            expires_ns: 60,
            hits: 3,
            sockets_destroyed: 0,
            reason: reason.into(),
        }
    }

    fn line(decision: Decision) -> Line {
        Line { time_ns: 0, boot_id: "b".into(), decision }
    }

    #[test]
    fn each_decision_says_whom_and_why() {
        let uid = "u1".to_owned();
        let (workload, reason) = ("web".to_owned(), "since it is".to_owned());
        let target = Target::TaskTree { tgid: 7, start_boot_ns: 9 };
        let finding_uid = "f00d".to_owned();
        let block = entry("u1", "ran from memory");
        let hold = hedgerow_responder::ledger::Decision::Report {
            finding_uid: finding_uid.clone(),
            reason: reason.clone(),
        };
        let cases: Vec<(Decision, &[&str])> = vec![
            (
                Decision::Block { entry: block.clone(), period_s: 60 },
                &["denied task tree of process 7 for 60 s", "exec_untrusted", "memory", "f00d"],
            ),
            (Decision::Extend { entry: block.clone(), period_s: 120 }, &["kept on", "enforce"]),
            (Decision::Unblock { entry: block.clone() }, &["released", "3 hits", "u1"]),
            (Decision::Withdraw { uid: uid.clone(), reason: reason.clone() }, &["withdrew", "is"]),
            (
                Decision::Refuse {
                    target: target.clone(),
                    rule: Rule::ExecUntrusted,
                    finding_uid: Some(finding_uid.clone()),
                    reason: reason.clone(),
                },
                &["no entry against task tree", "since it is", "f00d"],
            ),
            (hold, &["no entry: since it is", "f00d"]),
            (
                Decision::Wrong { uid, workload: workload.clone(), counted: 1, budget: 1 },
                &["wrong", "web goes back to monitor", "1 is acceptable"],
            ),
            (Decision::Halt { halted: true, reason: reason.clone() }, &["since it is"]),
            (Decision::Breaker { workload: workload.clone(), reason }, &["web: since"]),
            (Decision::Mode { workload: "*".into(), mode: Mode::Monitor }, &["all", "monitor"]),
            (Decision::Mode { workload, mode: Mode::Monitor }, &["web was set to monitor"]),
            (Decision::Allow { target, allowed: true }, &["allowed task tree"]),
            (Decision::Armed { armed: false }, &["disarmed"]),
            (Decision::Foreign { id: 255 }, &["00000000000000ff", "no decision explains it"]),
        ];
        for (decision, words) in cases {
            let said = told(&line(decision));
            assert!(said.starts_with("1970-01-01 00:00:00 "), "{said}");
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
        }
        let counting = Remediation { mode: Mode::Monitor, ..block };
        let said = told(&line(Decision::Block { entry: counting, period_s: 60 }));
        assert!(said.contains("would deny"), "{said}");
    }

    #[test]
    fn live_entries_have_their_own_story_and_the_rest_is_cut_to_the_newest() {
        let block = |uid: &str| Decision::Block { entry: entry(uid, "why"), period_s: 60 };
        let mut lines = vec![line(block("live")), line(block("ended"))];
        lines.push(line(Decision::Extend { entry: entry("live", "hit"), period_s: 120 }));
        assert_eq!(of_entry(&lines, "live").len(), 2);
        assert_eq!(others(&lines, &["live"], false).0.len(), 1);
        for number in 0..RECENT {
            lines.push(line(Decision::Foreign { id: number as u64 }));
        }
        let (shown, whole) = others(&lines, &["live"], false);
        assert_eq!((shown.len(), whole), (RECENT, RECENT + 1));
        assert!(!shown[0].contains("ended"), "the oldest is left out: {}", shown[0]);
        assert_eq!(others(&lines, &["live"], true).0.len(), RECENT + 1);
    }
}
