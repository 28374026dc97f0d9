//! Words for people.

mod notes;

use std::{
    fmt::Display,
    io::{IsTerminal, Write},
};

use chrono::DateTime;
use hedgerow_event::{
    Action, Activity, ApiOwner, ApiPod, CATALOGUE, Direction, Disposition, Finding,
    KnownVulnerability, Level, PeerPod, Remediation, Scale, Severity, Share, Subject, Target, gate,
};

use hedgerow_detect::{
    FOREST, NATS, Phase,
    surprise::{floors::Promise, notices::Listed},
};

pub use self::notes::{Priority, is_journal, note, noted, notes_as_json, prioritised};

/// Features shown with a finding in a list of them.
const SHARES: usize = 4;

/// Prints a line that strangers had a part in: nothing in it is obeyed by a terminal. A closed pipe
/// is no reason to end.
pub fn say(line: &str) {
    out(&gate::shown(line));
}

/// Prints what was made fit for a terminal where it was put together.
pub fn out(text: &str) {
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}

/// Prints a value as one line of JSON.
///
/// # Errors
/// It can't be written as JSON.
pub fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    out(&gate::json(value)?);
    Ok(())
}

/// `1 hit`, `3 hits`.
pub fn counted<N: Display + PartialEq + From<u8>>(count: N, one: &str, more: &str) -> String {
    let what = if count == N::from(1) { one } else { more };
    format!("{count} {what}")
}

/// `1 d 2 h`, `3 m 5 s`, `12 s`.
pub fn seconds(seconds: u64) -> String {
    let parts = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let mut rest = seconds;
    let mut words = Vec::new();
    for (size, unit) in parts {
        if rest >= size && words.len() < 2 {
            words.push(format!("{} {unit}", rest / size));
            rest %= size;
        }
    }
    if words.is_empty() { "0 s".to_owned() } else { words.join(" ") }
}

/// A rounded rate: `870`, `12.3 k`, `1.4 M`.
pub fn count(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.1} M", value / 1e6),
        value if value >= 1e4 => format!("{:.1} k", value / 1e3),
        value => format!("{value:.0}"),
    }
}

/// A part of a core.
pub fn percent(cores: f64) -> String {
    let digits = if cores < 0.1 { 2 } else { 1 };
    format!("{:.digits$} %", cores * 100.0)
}

/// Bytes in the largest unit that has a whole number of them.
pub fn size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB")];
    let unit = units.into_iter().find(|(unit, _)| bytes.is_multiple_of(*unit));
    let (unit, name) = unit.unwrap_or((1 << 10, "KiB"));
    format!("{}{name}", bytes / unit)
}

/// UTC, `2026-11-23 01:02:03`.
pub fn time(unix_ns: i64) -> String {
    DateTime::from_timestamp_nanos(unix_ns).format("%Y-%m-%d %H:%M:%S").to_string()
}

pub fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Fill => "fill",
        Phase::Fit => "fit",
        Phase::Calibrate => "calibrate",
        Phase::Scoring => "scoring",
    }
}

/// What the budget asks, what is expected, and on what that rests.
pub fn promise(promise: &Promise) -> String {
    let supported: Vec<&str> = promise
        .classes
        .iter()
        .filter(|class| class.supported)
        .map(|class| class.class.name())
        .collect();
    let rests = match supported.len() {
        0 => "by the rates alone".to_owned(),
        3 => "by what was held back".to_owned(),
        _ => format!("by what was held back for {}, by the rates else", supported.join(", ")),
    };
    format!(
        "Alert budget: {} a day asked, {:.2} expected when nothing is wrong, {rests} ({:.1} h held \
         back).",
        promise.asked_per_day, promise.expected_per_day, promise.hours_held_back
    )
}

/// From how much surprise on each class is told, and what several process trees did together; nothing
/// while nothing is.
pub fn floors(promise: &Promise) -> Option<String> {
    let floor = |name: &str, floor: Option<f64>| match floor {
        Some(floor) => format!("{name} from {floor:.1} nats"),
        None => format!("{name} never"),
    };
    let classes = promise.classes.iter().map(|class| {
        let only = match promise.only_listed.contains(&class.class) {
            true => format!(
                " (alone only listed, until this host is known for {:.0} h more)",
                promise.hours_missing
            ),
            false => String::new(),
        };
        floor(class.class.name(), class.floor) + &only
    });
    let floors: Vec<String> =
        classes.chain([floor("a campaign", promise.campaign_floor)]).collect();
    (!promise.classes.is_empty()).then(|| format!("told: {}", floors.join(", ")))
}

/// Cases that were listed in the last hour and that nobody was told of, with why.
pub fn listed(listed: &Listed) -> String {
    let cases = counted(listed.cases(), "case was", "cases were");
    let unknown = format!(
        "of amounts alone, of programs that must be known for up to {:.0} h more",
        listed.hours_missing
    );
    let whys = [
        (listed.no_room, "for which the alert budget had no room"),
        (listed.little_known, unknown.as_str()),
        (listed.below_floor, "below their floors, put to the responder only"),
    ];
    let whys: Vec<String> = whys
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, why)| format!("{count} {why}"))
        .collect();
    format!(
        "In the last hour {cases} listed only: {} (`hedgerow findings list --all --since 1h`).",
        whys.join("; ")
    )
}

/// A model that lacks what newer versions learn.
pub fn relearning(left: u64) -> String {
    format!(
        "The model is of an older version: for {} more, what a program does for the first time is \
         learned and not told.",
        seconds(left)
    )
}

/// Workloads that are others than were learned.
pub fn drifted(workloads: &str) -> String {
    format!(
        "Drifted: {workloads}: hours of it are no longer like those that were learned; if that is as \
         it should be, have it learned anew (hedgerow run --learn 1d)."
    )
}

/// Whom an entry stops, with the workload and program that ids alone would name.
pub fn whom(target: &Target, subject: Option<&Subject>) -> String {
    let by_name = matches!(target, Target::Peer { cgroup_id: 0, program_id: 0, .. });
    match subject.filter(|_| !by_name) {
        Some(subject) => format!("{target} ({subject})"),
        None => target.to_string(),
    }
}

/// What became of an entry, on a line.
pub fn remediation(remediation: &Remediation) -> String {
    let what = match (remediation.action, remediation.level) {
        (Action::Block, Level::Counts) => "WOULD DENY",
        (Action::Block, _) => "DENIED",
        (Action::Unblock, _) => "RELEASED",
    };
    format!(
        "{} {what} {} ({}), {}, {} [{}]",
        time(remediation.time_ns),
        whom(&remediation.target, remediation.subject.as_deref()),
        remediation.reason,
        counted(remediation.hits, "hit", "hits"),
        counted(remediation.sockets_destroyed, "socket cut", "sockets cut"),
        remediation.uid,
    )
}

/// A share of what is told: in nats where those are what is shared.
pub fn part(finding: &Finding, share: &Share) -> String {
    let percent = format!("{:>3.0} %", 100.0 * share.share);
    let nats = match &*share.of == NATS {
        true => format!("{:.1} nats", share.share * finding.surprise),
        false => String::new(),
    };
    if let Some(row) = CATALOGUE.iter().find(|row| row.name == &*share.feature) {
        return format!("{percent} {} ({nats})", row.words);
    }
    let usual = match (share.usual_low, share.usual_high) {
        (Some(low), Some(high)) if low == high => format!("usually {}", number(low)),
        (Some(low), Some(high)) => format!("usually {} to {}", number(low), number(high)),
        _ => "never seen before".to_owned(),
    };
    let direction = match share.direction {
        Direction::Above => "above",
        Direction::Below => "below",
        Direction::Within => "within",
    };
    let nats = if nats.is_empty() { nats } else { format!("; {nats}") };
    format!("{percent} {} = {} ({direction}; {usual}{nats})", share.feature, number(share.value))
}

/// What a finding's surprise is the sum of, and by which columns the forest found its window.
pub fn explained(finding: &Finding) -> Vec<String> {
    let of = |what: &'static str| finding.attribution.iter().filter(move |one| &*one.of == what);
    let whole: f64 = of(NATS).map(|share| share.share * finding.surprise).sum();
    let mut lines = Vec::new();
    if of(NATS).next().is_some() {
        lines.push(format!("  its {:.1} nats are the sum of:", finding.surprise));
        lines.extend(of(NATS).map(|share| format!("    {}", part(finding, share))));
        lines.push(format!("    together {whole:.1} nats, told from {:.1}", finding.floor));
    }
    if of(FOREST).next().is_some() {
        lines.push(format!(
            "  the forest's score of its window, {:.3}, by exact Shapley values of the path (what \
             is negative speaks for it):",
            finding.score
        ));
        lines.extend(of(FOREST).map(|share| format!("    {}", part(finding, share))));
    }
    if lines.is_empty() {
        lines.push("  nothing more is known: it was written by an older version".to_owned());
    }
    lines
}

/// Whether a terminal shows a report at all.
pub fn is_shown(finding: &Finding) -> bool {
    finding.disposition.is_alert() && finding.activity != Activity::Close
}

/// Why nothing was denied for a finding, below it; nothing where it isn't shown.
pub fn not_denied(finding: &Finding, why: &str) -> Option<String> {
    is_shown(finding).then(|| format!("  not denied: {why}"))
}

/// A finding on a few lines, in colour on a terminal.
pub fn finding(finding: &Finding) -> String {
    let what = match (finding.activity, finding.disposition) {
        (Activity::Close, _) => "CLOSED",
        (_, Disposition::AlertOverBudget) if finding.is_first_alert() => "ALERT (over budget)",
        _ if finding.is_first_alert() => "ALERT",
        (Activity::Update, _) => "UPDATE",
        (Activity::Create, _) => "suppressed",
    };
    let when = match (finding.early, finding.scale) {
        (true, _) => "early".to_owned(),
        (_, Scale::Seconds5) => "5 s".to_owned(),
        (_, scale) => format!("{} s", scale.epochs() * 5),
    };
    let mut lines =
        vec![format!("{} {what} {} [{}]", time(finding.time_ns), finding.subject, finding.uid)];
    lines.push(format!(
        "  {} ({when}, forest {:.3}), {}: {}",
        finding.class, finding.score, finding.state, finding.reason
    ));
    if let Some(process) = &finding.process {
        let user = process.user.clone().unwrap_or_else(|| process.user_id.to_string());
        lines.push(format!("  process {} of {user}: {}", process.pid, process.command_line));
        if !process.ancestors.is_empty() {
            lines.push(format!("  started by {}", process.ancestors.join(" < ")));
        }
    }
    lines.extend(finding.pod.as_ref().map(pod));
    lines.extend(finding.peer_pods.iter().map(|peer| {
        let owner = of_owner(peer.owner.as_ref());
        let PeerPod { address, namespace, name, .. } = peer;
        format!("  {address} is pod {namespace}/{name}{owner} (as the Kubernetes API says)")
    }));
    let names = finding.claimed_names.iter();
    lines.extend(
        names.map(|one| format!("  {} was asked for as {} (claimed)", one.address, one.name)),
    );
    let known = finding.vulnerabilities.iter();
    lines.extend(known.map(|one| format!("  known vulnerability: {}", vulnerability(one))));
    let told = finding.attribution.iter().filter(|share| &*share.of != FOREST);
    lines.extend(told.take(SHARES).map(|share| format!("  {}", part(finding, share))));
    let mut lines = lines.iter().map(|line| gate::shown(line));
    let first = lines.next().unwrap_or_default();
    let first = first.replacen(what, &painted(what, finding), 1);
    std::iter::once(first.into()).chain(lines).collect::<Vec<_>>().join("\n")
}

/// What the API says of a finding's pod.
fn pod(pod: &ApiPod) -> String {
    let ApiPod { namespace, name, owner, labels, labels_more, .. } = pod;
    let name = name.as_deref().unwrap_or("?");
    let labels: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let labels = match (labels.is_empty(), labels_more) {
        (true, _) => String::new(),
        (false, more) => {
            format!(", labels {}{}", labels.join(","), if *more { " and more" } else { "" })
        }
    };
    let owner = of_owner(owner.as_ref());
    format!("  pod {namespace}/{name}{owner}{labels} (as the Kubernetes API says)")
}

fn of_owner(owner: Option<&ApiOwner>) -> String {
    owner.map_or_else(String::new, |owner| format!(" of {} {}", owner.kind, owner.name))
}

/// As it was found when it was asked last.
fn vulnerability(known: &KnownVulnerability) -> String {
    let KnownVulnerability { id, severity, package, installed, fixed, as_of_ns } = known;
    let severity = severity.map(|severity| format!(" ({severity:?})").to_lowercase());
    let fixed = fixed.as_ref().map_or_else(String::new, |fixed| format!(", fixed in {fixed}"));
    let day = DateTime::from_timestamp_nanos(*as_of_ns).format("%Y-%m-%d");
    format!("{id}{} in {package} {installed}{fixed}; as of {day}", severity.unwrap_or_default())
}

/// Whole numbers as they are, others with three decimals.
fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

fn painted(what: &str, finding: &Finding) -> String {
    if !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some() {
        return what.to_owned();
    }
    let colour = match finding.severity {
        Severity::High | Severity::Critical => 31,
        Severity::Medium => 33,
        Severity::Low | Severity::Informational => 36,
    };
    format!("\u{1b}[1;{colour}m{what}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_with_the_names_behind_them() {
        let workload = hedgerow_event::Workload::new("web.service");
        let subject = Subject::new(workload, hedgerow_event::Program::new("/bin/sh"));
        let address = [192, 0, 2, 1].into();
        let peer = |cgroup_id, program_id| Target::Peer {
            address,
            prefix_length: 32,
            cgroup_id,
            program_id,
        };
        let of_program = whom(&peer(7, 9), Some(&subject));
        assert!(of_program.ends_with("in cgroup 7 (web.service:/bin/sh)"), "{of_program}");
        assert_eq!(whom(&peer(0, 0), Some(&subject)), "peer 192.0.2.1/32");
        assert_eq!(whom(&peer(7, 0), None), "peer 192.0.2.1/32 in cgroup 7");
    }

    #[test]
    fn a_name_with_control_characters_forges_no_line() {
        let forged = "x\n2026-11-26 12:00:00 RELEASED peer\u{1b}[2J\u{202e}";
        let program = hedgerow_event::Program::new(forged);
        let subject = hedgerow_event::Subject::new(hedgerow_event::Workload::new(forged), program);
        let process = hedgerow_event::Process {
            command_line: forged.into(),
            ancestors: vec![forged.into()],
            user: Some(forged.into()),
            ..Default::default()
        };
        let told = Finding {
            uid: forged.into(),
            subject: subject.into(),
            process: Some(process),
            claimed_names: vec![hedgerow_event::ClaimedName {
                address: [192, 0, 2, 1].into(),
                name: forged.into(),
            }],
            vulnerabilities: vec![KnownVulnerability {
                id: forged.into(),
                severity: Some(Severity::High),
                package: forged.into(),
                installed: forged.into(),
                fixed: Some(forged.into()),
                as_of_ns: 0,
            }],
            pod: Some(ApiPod {
                namespace: forged.into(),
                name: Some(forged.into()),
                owner: Some(ApiOwner { kind: forged.into(), name: forged.into() }),
                labels: [(forged.to_owned(), forged.to_owned())].into(),
                labels_more: true,
                as_of_ns: 0,
            }),
            peer_pods: vec![PeerPod {
                address: [192, 0, 2, 1].into(),
                namespace: forged.into(),
                name: forged.into(),
                owner: None,
                as_of_ns: 0,
            }],
            reason: forged.into(),
            ..crate::daemon::example_finding("w", "", 0)
        };
        let said = finding(&told);
        assert_eq!(said.lines().count(), 8, "{said}");
        assert!(said.contains("(high) in x") && said.contains("as of 1970-01-01"), "{said}");
        assert!(!said.chars().any(|letter| letter != '\n' && letter.is_control()), "{said:?}");
        assert!(said.contains("\\n2026-11-26") && said.contains("\\u{202e}"), "{said}");
    }

    #[test]
    fn an_explanation_adds_up_to_the_nats_that_were_told() {
        let mut finding = crate::daemon::example_finding("w", "", 0);
        let share = |feature: &str, share: f64, of: &str| Share {
            feature: feature.into(),
            value: 7.5,
            usual_low: None,
            usual_high: None,
            direction: Direction::Above,
            share,
            of: of.into(),
        };
        (finding.surprise, finding.score) = (10.0, 0.62);
        finding.attribution = vec![
            share("secret", 0.75, NATS),
            share("new_peer", 0.25, NATS),
            share("files_opens_count", 1.2, FOREST),
            share("flows_out_bytes", -0.2, FOREST),
        ];
        let said = explained(&finding).join("\n");
        for told in ["its 10.0 nats", "75 % opened secrets (7.5 nats)", "together 10.0 nats"] {
            assert!(said.contains(told), "{told} in {said}");
        }
        assert!(said.contains("score of its window, 0.620") && said.contains("-20 %"), "{said}");
    }

    #[test]
    fn what_is_listed_is_told_with_why() {
        let one = Listed { no_room: 1, ..Listed::default() };
        let said = listed(&one);
        assert!(said.contains("1 case was listed only: 1 for which"), "{said}");
        let all = Listed { no_room: 2, little_known: 4, below_floor: 1, hours_missing: 59.4 };
        let said = listed(&all);
        assert!(said.contains("7 cases were listed only: 2 for which"), "{said}");
        assert!(said.contains("; 4 of amounts alone") && said.contains("59 h more"), "{said}");
        assert!(said.contains("; 1 below their floors"), "{said}");
    }

    #[test]
    fn why_nothing_was_denied_stands_only_below_a_finding_that_is_shown() {
        let mut finding = crate::daemon::example_finding("w", "", 0);
        finding.disposition = Disposition::Alert;
        let said = not_denied(&finding, "the mode is observe");
        assert_eq!(said.as_deref(), Some("  not denied: the mode is observe"));
        let suppressed = Finding { disposition: Disposition::Suppressed, ..finding.clone() };
        assert_eq!(not_denied(&suppressed, "the mode is observe"), None);
        let closed = Finding { activity: Activity::Close, ..finding };
        assert_eq!(not_denied(&closed, "the mode is observe"), None);
    }

    #[test]
    fn times_and_counts_read_well() {
        assert_eq!(time(0), "1970-01-01 00:00:00");
        assert_eq!(time(1_795_391_999_000_000_000), "2026-11-22 23:59:59");
        assert_eq!(time(951_782_400_000_000_000), "2000-02-29 00:00:00");
        assert_eq!(counted(1_u64, "hit", "hits"), "1 hit");
        assert_eq!(counted(0_u32, "hit", "hits"), "0 hits");
        assert_eq!(counted(21_usize, "hit", "hits"), "21 hits");
        assert_eq!(seconds(90), "1 m 30 s");
        assert_eq!(seconds(0), "0 s");
        assert_eq!(seconds(86_400), "1 d");
        assert_eq!(count(12_345.0), "12.3 k");
        assert_eq!(count(870.4), "870");
        assert_eq!([number(3.0), number(0.12345)], ["3", "0.123"]);
        assert!(relearning(86_400).contains("for 1 d more"));
    }
}
