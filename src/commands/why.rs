//! `hedgerow why`: explains from the ledger and the log of findings, whether a daemon answers or not.

use std::{collections::BTreeSet, net::IpAddr, path::Path};

use hedgerow_event::{Action, Finding, Mode, Object, Remediation, Target};
use hedgerow_responder::ledger::{Decision, Line};

use super::log;
use crate::{cli::Prefix, exit::Failure, names, text};

/// Decisions that are shown unless all are asked for.
const RECENT: usize = 20;

/// The whole uid of an entry, live or ended, that begins so.
pub fn whole_uid(state: &Path, uid: &str) -> anyhow::Result<String> {
    let lines = log::decisions(state)?;
    let all = lines.iter().filter_map(|line| entry_of(&line.decision));
    Ok(names::begun("an entry", uid, all).map_err(Failure::Usage)?.to_owned())
}

/// Explains an entry, a finding or a peer; without one what was decided last.
pub fn run(what: Option<&str>, all: bool, state: &Path, json: bool) -> anyhow::Result<()> {
    log::is_there(state)?;
    let lines = log::decisions(state)?;
    let findings = log::findings(state)?;
    let story = match what {
        None => Story { lines: newest(&lines, all), findings: Vec::new() },
        Some(what) => match what.parse::<Prefix>() {
            Ok(peer) => of_peer(&lines, &findings, peer),
            Err(_) => of_uid(&lines, &findings, what).map_err(Failure::Usage)?,
        },
    };
    if json {
        return text::json(&serde_json::json!({
            "decisions": story.lines, "findings": story.findings
        }));
    }
    story.print(what);
    if what.is_none() && story.lines.len() < lines.len() {
        let (shown, whole) = (story.lines.len(), lines.len());
        text::note(&format!("The newest {shown} of {whole} decisions; --all shows all."));
    }
    Ok(())
}

/// Decisions, oldest first, and the findings that they go back to: the last report of each.
#[derive(Debug, Default)]
struct Story<'a> {
    lines: Vec<&'a Line>,
    findings: Vec<&'a Finding>,
}

impl Story<'_> {
    fn print(&self, what: Option<&str>) {
        if self.lines.is_empty() && self.findings.is_empty() {
            let of = what.map_or_else(String::new, |what| format!(" about {what}"));
            text::note(&format!("Nothing was found or decided{of}."));
        }
        for line in &self.lines {
            text::say(&told(line));
        }
        for finding in &self.findings {
            text::out(&text::finding(finding));
            for deed in &finding.objects {
                text::say(&format!("  deed: {deed}"));
                text::say(&format!("    known by: {}", deed.deed().row().evidence));
            }
        }
    }
}

fn newest(lines: &[Line], all: bool) -> Vec<&Line> {
    let skipped = if all { 0 } else { lines.len().saturating_sub(RECENT) };
    lines[skipped..].iter().collect()
}

/// What is known of an entry or a finding: each leads to the other.
fn of_uid<'a>(
    lines: &'a [Line],
    findings: &'a [Finding],
    given: &str,
) -> Result<Story<'a>, String> {
    let uids = lines
        .iter()
        .flat_map(|line| [entry_of(&line.decision), finding_of(&line.decision)])
        .flatten()
        .chain(findings.iter().map(|finding| &*finding.uid));
    let whole = names::begun("an entry or finding", given, uids)?;
    let mut meant: BTreeSet<&str> = [whole].into();
    // From an entry to its finding, and from a finding to its entries.
    for line in lines {
        let both = (entry_of(&line.decision), finding_of(&line.decision));
        if let (Some(entry), Some(finding)) = both
            && (entry == whole || finding == whole)
        {
            meant.extend([entry, finding]);
        }
    }
    Ok(told_of(lines, findings, &meant))
}

/// What was decided about a peer, and where it was found.
fn of_peer<'a>(lines: &'a [Line], findings: &'a [Finding], peer: Prefix) -> Story<'a> {
    let meets = |address: IpAddr, length: u8| {
        peer.holds(address) || Prefix { address, length }.holds(peer.address)
    };
    let mut meant = BTreeSet::new();
    for line in lines {
        if let Some(Target::Peer { address, prefix_length, .. }) = target_of(&line.decision)
            && meets(*address, *prefix_length)
        {
            let both = [entry_of(&line.decision), finding_of(&line.decision)];
            meant.extend(both.into_iter().flatten());
        }
    }
    for finding in findings {
        let is_peer = |object: &Object| matches!(object, Object::NewPeer { peer: other, .. } if peer.holds(other.address));
        if finding.objects.iter().any(is_peer) {
            meant.insert(&*finding.uid);
        }
    }
    let mut story = told_of(lines, findings, &meant);
    let allowed = lines.iter().filter(|line| {
        matches!(&line.decision, Decision::Allow { target: Target::Peer { address, prefix_length, .. }, .. }
            if meets(*address, *prefix_length))
    });
    story.lines.extend(allowed);
    story.lines.sort_by_key(|line| line.time_ns);
    story
}

fn told_of<'a>(lines: &'a [Line], findings: &'a [Finding], meant: &BTreeSet<&str>) -> Story<'a> {
    let is_meant = |uid: Option<&str>| uid.is_some_and(|uid| meant.contains(uid));
    let lines = lines
        .iter()
        .filter(|line| is_meant(entry_of(&line.decision)) || is_meant(finding_of(&line.decision)));
    let mut last: Vec<&Finding> = Vec::new();
    for finding in findings.iter().filter(|finding| meant.contains(&*finding.uid)) {
        match last.iter_mut().find(|other| other.uid == finding.uid) {
            // A closing says less of the deed than what it closes.
            Some(other) if finding.objects.len() >= other.objects.len() => *other = finding,
            Some(_) => {}
            None => last.push(finding),
        }
    }
    Story { lines: lines.collect(), findings: last }
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

fn finding_of(decision: &Decision) -> Option<&str> {
    match decision {
        Decision::Block { entry, .. }
        | Decision::Extend { entry, .. }
        | Decision::Unblock { entry } => entry.finding_uid.as_deref(),
        Decision::Hold { hold } => hold.finding_uid.as_deref(),
        Decision::Refuse { finding_uid, .. } => finding_uid.as_deref(),
        Decision::Report { finding_uid, .. } | Decision::Finding { finding_uid, .. } => {
            Some(finding_uid)
        }
        _ => None,
    }
}

fn target_of(decision: &Decision) -> Option<&Target> {
    match decision {
        Decision::Block { entry, .. }
        | Decision::Extend { entry, .. }
        | Decision::Unblock { entry } => Some(&entry.target),
        Decision::Hold { hold } => Some(&hold.target),
        Decision::Refuse { target, .. } => Some(target),
        _ => None,
    }
}

fn whom(entry: &Remediation) -> String {
    text::whom(&entry.target, entry.subject.as_deref())
}

/// One decision for a person: when, what, whom, why.
pub fn told(line: &Line) -> String {
    let what = match &line.decision {
        Decision::Block { entry, period_s } => {
            let verb = if entry.mode == Mode::Enforce { "denied" } else { "would deny" };
            format!("{verb} {} for {period_s} s{}", whom(entry), because(entry))
        }
        Decision::Extend { entry, .. } => {
            format!("kept on {} ({}): {}", whom(entry), entry.mode, entry.reason)
        }
        Decision::Unblock { entry } => {
            let hits = text::counted(entry.hits, "hit", "hits");
            format!("released {} after {hits}: {} [{}]", whom(entry), entry.reason, entry.uid)
        }
        Decision::Hold { hold } => {
            let until = text::time(hold.until_ns);
            let whom = text::whom(&hold.target, hold.subject.as_deref());
            format!("held until {until}: {whom}: {} [{}]", hold.reason, hold.uid)
        }
        Decision::Withdraw { uid, reason } => format!("withdrew what was held: {reason} [{uid}]"),
        Decision::Refuse { target, rule, finding_uid, reason } => {
            format!("no entry against {target} by rule {}: {reason}{}", name(rule), of(finding_uid))
        }
        Decision::Report { finding_uid, reason } => {
            format!("no entry: {reason} (finding {finding_uid})")
        }
        Decision::LeftOut { owner, lines } => {
            format!(
                "no entry {lines} times more within a minute, of {owner}: not written one by one"
            )
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
        Decision::Maintenance { workload, until_ns } => {
            let whose = if workload == "*" { "the host" } else { workload };
            match until_ns {
                Some(until_ns) => format!("maintenance of {whose} until {}", text::time(*until_ns)),
                None => format!("the maintenance of {whose} was ended"),
            }
        }
        Decision::Finding { finding_uid, word, until_ns } => {
            let until =
                until_ns.map_or_else(String::new, |ns| format!(" until {}", text::time(ns)));
            format!("an operator said {word}{until} (finding {finding_uid})")
        }
        Decision::Foreign { id } => {
            format!("removed entry {id:016x} from the kernel: no decision explains it")
        }
    };
    let by = line.by.map_or_else(String::new, |by| format!(" (by {by})"));
    format!("{} {what}{by}", text::time(line.time_ns))
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
        Line { time_ns: 0, boot_id: "b".into(), by: None, decision }
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
            (Decision::LeftOut { owner: workload.clone(), lines: 7 }, &["7 times", "web"]),
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
    fn an_entry_leads_to_its_finding_and_a_peer_to_both() {
        let peer = |address: &str| Target::Peer {
            address: address.parse().unwrap(),
            prefix_length: 32,
            cgroup_id: 1,
            program_id: 2,
        };
        let block = |uid: &str, finding: &str, target: Target| {
            let entry =
                Remediation { target, finding_uid: Some(finding.into()), ..entry(uid, "why") };
            line(Decision::Block { entry, period_s: 60 })
        };
        let report = |uid: &str| {
            line(Decision::Report { finding_uid: uid.into(), reason: "no second family".into() })
        };
        let lines = [
            block("aa11", "f1", peer("192.0.2.9")),
            block("aa22", "f2", peer("192.0.2.77")),
            report("f1"),
            report("f3"),
        ];
        let count = |given: &str| of_uid(&lines, &[], given).map(|story| story.lines.len());
        assert_eq!(count("aa11"), Ok(2), "the entry and what was said of its finding");
        assert_eq!(count("f1"), Ok(2));
        assert_eq!(count("f3"), Ok(1));
        assert!(count("aa").is_err_and(|why| why.contains("aa11, aa22")));
        assert!(count("b").is_err());
        let of = |peer: &str| of_peer(&lines, &[], peer.parse().unwrap()).lines.len();
        assert_eq!([of("192.0.2.9"), of("192.0.2.0/24"), of("198.51.100.1")], [2, 3, 0]);
        assert_eq!(newest(&lines, false).len(), 4);
    }

    #[test]
    fn an_order_says_whose_it_is() {
        let by = hedgerow_responder::By { uid: 0, pid: 7, login_uid: Some(1000) };
        let order = Line { by: Some(by), ..line(Decision::Armed { armed: true }) };
        assert!(told(&order).contains("(by uid 0, logged in as uid 1000, process 7)"));
    }
}
