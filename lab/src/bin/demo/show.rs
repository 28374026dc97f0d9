//! What a person reads.

use hedgerow_event::{Action, Direction, Disposition, Finding, Remediation, Share};

/// At most this many features of a finding's attribution are shown.
const SHARES: usize = 5;

pub fn phase(number: &str, text: &str) {
    println!("\n== {number}. {text}");
}

pub fn line(text: &str) {
    println!("   {text}");
}

pub fn promise(text: &str, held: bool) {
    println!("   {} {text}", if held { "kept  " } else { "BROKEN" });
}

/// One line about how the daemon is doing.
pub fn status(status: &serde_json::Value) {
    let phase = status["phase"].as_str().unwrap_or("?");
    let mut text = format!("[daemon] {phase}");
    let fields = [
        ("seconds_left", " s left"),
        ("programs", " programs"),
        ("events_per_second", " events/s"),
        ("lost", " lost"),
    ];
    for (field, unit) in fields {
        if let Some(number) = status[field].as_f64() {
            text.push_str(&format!(", {number:.0}{unit}"));
        }
    }
    line(&text);
}

pub fn finding(finding: &Finding) {
    let kind = match finding.disposition {
        Disposition::Alert => "ALERT",
        Disposition::AlertOverBudget => "ALERT (over budget)",
        Disposition::Suppressed => "kept, not alerted",
    };
    line(&format!("{kind}: {} [{:?}] {}", finding.subject, finding.activity, finding.uid));
    line(&format!(
        "    {} {:.1} nats (told from {:.1}), {}{}",
        finding.class,
        finding.surprise,
        finding.floor,
        finding.state,
        if finding.early { ", before its window closed" } else { "" }
    ));
    line(&format!("    {}", finding.reason));
    for object in &finding.objects {
        line(&format!("    - {object}"));
    }
    if let Some(process) = &finding.process {
        line(&format!("    process {}: {}", process.pid, process.command_line));
        line(&format!("    started by {}", process.ancestors.join(" < ")));
    }
    for share in finding.attribution.iter().take(SHARES) {
        line(&format!("    {}", attribution(share)));
    }
}

fn attribution(share: &Share) -> String {
    let usual = match (share.usual_low, share.usual_high) {
        (Some(low), Some(high)) => format!("usually {low:.4} to {high:.4}"),
        _ => "never seen while learning".to_owned(),
    };
    let direction = match share.direction {
        Direction::Above => "above",
        Direction::Below => "below",
        Direction::Within => "within",
    };
    let percent = share.share * 100.0;
    format!("{percent:4.1} % {} {:.4}, {direction} ({usual})", share.feature, share.value)
}

pub fn remediation(remediation: &Remediation) {
    let seconds = (remediation.expires_ns - remediation.time_ns) as f64 / 1e9;
    match remediation.action {
        Action::Block => line(&format!(
            "ENTRY ({}, {:?}): {} for {seconds:.0} s; {} established sockets cut; {}",
            remediation.mode,
            remediation.level,
            remediation.target,
            remediation.sockets_destroyed,
            remediation.reason
        )),
        Action::Unblock => line(&format!(
            "RELEASED: {} after {} hits; {}",
            remediation.target, remediation.hits, remediation.reason
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_reads_as_a_sentence() {
        let share = Share {
            feature: "order_unseen6_share".into(),
            value: 0.3125,
            usual_low: Some(0.0),
            usual_high: Some(0.01),
            direction: Direction::Above,
            share: 0.421,
            of: "path surprise (bits)".into(),
        };
        assert_eq!(
            attribution(&share),
            "42.1 % order_unseen6_share 0.3125, above (usually 0.0000 to 0.0100)"
        );
    }
}
