//! `hedgerow status`: one screen of what is watched, lost, learned and refused.

use std::path::Path;

use hedgerow_detect::Phase;
use hedgerow_event::Workload;

use super::steer;
use crate::{
    control::{Cost, GetStatus, KubernetesNow, SinkNow, Status, call, socket},
    text,
};

pub fn run(state: &Path, json: bool) -> anyhow::Result<()> {
    let status = call(&socket(state), &GetStatus {})?;
    if json {
        return text::json(&status);
    }
    for line in lines(&status) {
        text::say(&line);
    }
    if let Some(modes) = &status.modes {
        steer::print_modes("mode: ", modes);
    }
    Ok(())
}

/// What is to be said of everything but the modes, a line for each subject.
fn lines(status: &Status) -> Vec<String> {
    let unproved: Vec<&str> = status
        .hooks
        .iter()
        .filter(|hook| hook.proof != "Proved")
        .map(|hook| hook.hook.as_str())
        .collect();
    let proved = status.hooks.len() - unproved.len();
    let mut lines = vec![match unproved.is_empty() {
        true => format!("watched: {proved} hooks, all proved"),
        false => format!("watched: {proved} hooks proved, unproved: {}", unproved.join(", ")),
    }];
    let share = status.lost as f64 / (status.sent.max(1) as f64) * 100.0;
    lines.push(format!(
        "lost: {} of {} records ({share:.3} %)",
        status.lost,
        text::count(status.sent as f64)
    ));
    lines.extend(learned(status));
    let budget = &status.budget;
    lines.push(format!(
        "alerts: asked for at most {} a day when nothing is wrong, {:.2} expected, {} in the last day",
        budget.asked_per_day, budget.expected_per_day, status.told_today
    ));
    lines.extend(text::floors(budget));
    lines.push(format!(
        "found since the start: {}, {} more listed only (findings list --all), {} muted",
        text::counted(status.alerts, "alert", "alerts"),
        status.suppressed,
        status.muted
    ));
    lines.push(match (status.mode, status.armed) {
        (None, _) => "refused: nothing; the deny hooks are not loaded (hedgerow doctor)".to_owned(),
        (_, Some(false)) => "refused: nothing; disarmed until `hedgerow arm`".to_owned(),
        _ => format!(
            "refused: {}, {} held, {} made since the start",
            text::counted(status.entries, "entry live", "entries live"),
            status.held,
            status.blocks
        ),
    });
    lines.push(format!(
        "recorded: {:.1} MiB of the last half minute; {} dropped for room since the start",
        status.recorder_bytes as f64 / f64::from(1 << 20),
        text::counted(status.recorder_dropped, "record was", "records were")
    ));
    lines.extend(status.cost.as_ref().map(cost));
    lines.extend(status.kubernetes.as_ref().map(kubernetes));
    lines.extend(delivered(status));
    lines.extend(trouble(status));
    lines.extend(status.maintenance.iter().map(|one| {
        let whose = one.workload.as_ref().map_or("the whole host", |workload| workload.as_str());
        format!(
            "maintenance: {whose} until {}: no automatic denial, no learning",
            text::time(one.until_ns)
        )
    }));
    lines
}

fn learned(status: &Status) -> Vec<String> {
    let left = match status.phase {
        Phase::Scoring => format!("scoring with model {}", status.model),
        phase => {
            format!("{}, scores in {}", text::phase(phase), text::seconds(status.seconds_left))
        }
    };
    let mut lines = vec![format!(
        "learned: {left}; state {}, {}, {} on probation, {:.1} hours held back",
        status.state,
        text::counted(status.programs, "program", "programs"),
        status.programs_on_probation,
        status.budget.hours_held_back
    )];
    if status.relearning_seconds > 0 {
        lines.push(text::relearning(status.relearning_seconds));
    }
    if !status.drifted.is_empty() {
        let drifted: Vec<&str> = status.drifted.iter().map(Workload::as_str).collect();
        lines.push(text::drifted(&drifted.join(", ")));
    }
    lines
}

/// What it costs, and what is not seen for that.
fn cost(cost: &Cost) -> String {
    let cpu = cost.minute.zip(cost.budget).map(|(minute, budget)| {
        let (minute, budget) = (text::percent(minute), text::percent(budget));
        format!("{minute} of a core in the last minute, of {budget} that may be used")
    });
    let memory = cost.memory.zip(cost.memory_budget).map(|(held, budget)| {
        let held = held as f64 / f64::from(1 << 20);
        format!("{held:.1} MiB of memory, of {} that may be held", text::size(budget))
    });
    let shed = match cost.shed.is_empty() {
        true => "everything is seen".to_owned(),
        false => format!("not seen: {}", cost.shed.join(", ")),
    };
    let said: Vec<String> = cpu.into_iter().chain(memory).chain([shed]).collect();
    format!("cost: {}", said.join("; "))
}

/// Whether pods have what the API says of them.
fn kubernetes(now: &KubernetesNow) -> String {
    let pods = text::counted(now.pods, "pod", "pods");
    let mut said = match &now.down {
        None => format!("{pods} of node {}, as the API says", now.node),
        Some(why) => {
            let heard = now.heard_ns.map_or_else(|| "never".to_owned(), text::time);
            format!(
                "the API is not there: {why}; heard of last: {heard}. Pods have the names that the \
                 container runtime says; of {pods} it is known what the API said before"
            )
        }
    };
    if let Some(why) = &now.missing {
        said += &format!("; not answered: {why}");
    }
    if now.pods_refused + now.asks_refused > 0 {
        said += &format!(
            "; no room: {} and {}",
            text::counted(now.pods_refused, "pod", "pods"),
            text::counted(now.asks_refused, "question", "questions")
        );
    }
    format!("kubernetes: {said}")
}

/// What each sink got.
fn delivered(status: &Status) -> Option<String> {
    let sink = |sink: &SinkNow| {
        let state = if sink.up { "up" } else { "down" };
        let reports = text::counted(sink.delivered, "report", "reports");
        let wait = text::counted(sink.waiting, "waits", "wait");
        format!("{} {state}, {reports}, {wait}", sink.name)
    };
    let sinks: Vec<String> = status.sinks.iter().map(sink).collect();
    (!sinks.is_empty()).then(|| format!("delivered: {}", sinks.join("; ")))
}

/// What found no room or no way out; nothing where all is well.
pub(super) fn trouble(status: &Status) -> Vec<String> {
    let mut lines = Vec::new();
    if !status.stands_still.is_empty() {
        lines.push(format!(
            "stands still: {}; restart the daemon if that lasts",
            status.stands_still.join(", ")
        ));
    }
    if status.windows_overdue > 0 {
        lines.push(format!(
            "not whole: {} in vain for a record that was begun, and denied nothing",
            text::counted(status.windows_overdue, "window waited", "windows waited")
        ));
    }
    if status.shares_refused > 0 {
        lines.push(format!(
            "floods: {} past their workload's share of a ring; that workload's windows are \
             not whole and deny nothing, the others lost nothing by it",
            text::counted(status.shares_refused, "record was", "records were")
        ));
    }
    lines.extend(full(status));
    if !status.unread.is_empty() {
        lines.push(format!(
            "not read: files of {}, since reading one took too long",
            status.unread.join(", ")
        ));
    }
    lines.extend(unwritten(status));
    lines.extend(undelivered(status));
    if status.untold + status.unprinted > 0 {
        lines.push(format!(
            "not told: {} no room on the way out, {} not read",
            text::counted(status.untold, "report found", "reports found"),
            text::counted(status.unprinted, "line was", "lines were")
        ));
    }
    if status.left_out > 0 {
        lines.push(format!(
            "not kept: {} that nobody was to be told of, past their workloads' share",
            text::counted(status.left_out, "finding", "findings")
        ));
    }
    lines
}

/// Tables that were full.
fn full(status: &Status) -> Option<String> {
    let full = [
        (status.programs_refused, "profiles"),
        (status.deeds_refused, "deeds"),
        (status.trees_forgotten, "process trees"),
        (status.cases_forgotten, "cases"),
        (status.processes_forgotten, "processes"),
        (status.services_refused, "services"),
        (status.workloads_refused, "workloads"),
        (status.names_refused, "names"),
        (status.digests_refused, "digests"),
    ];
    let full: Vec<String> = full
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    (!full.is_empty()).then(|| format!("no room for: {}; they are judged without", full.join(", ")))
}

/// What the disk didn't take.
fn unwritten(status: &Status) -> Vec<String> {
    let mut lines = Vec::new();
    for (what, waiting, lost, failure) in [
        ("findings", status.findings_waiting, status.findings_unwritten, &status.findings_failure),
        ("ledger lines", status.ledger_waiting, status.ledger_unwritten, &status.ledger_failure),
    ] {
        if let Some(why) = failure {
            lines.push(format!("not written: {waiting} {what} wait in memory: {why}"));
        }
        if lost > 0 {
            lines.push(format!("not written: {lost} {what} found no room in memory either"));
        }
    }
    lines
}

/// What sinks didn't take: those that are away, then those that are back.
fn undelivered(status: &Status) -> Vec<String> {
    let away = status.sinks.iter().filter(|one| !one.up).map(|sink| {
        let SinkNow { name, trouble, waiting, lost, .. } = sink;
        let why = trouble.as_deref().unwrap_or("it does not say why");
        let waiting = text::counted(*waiting, "report waits", "reports wait");
        let lost = text::counted(*lost, "is lost", "are lost");
        format!("not delivered: {name}: {waiting}, {lost}: {why}")
    });
    let back = status.sinks.iter().filter(|one| one.up && one.lost > 0).map(|sink| {
        let lost = text::counted(sink.lost, "report", "reports");
        format!("not delivered: {} lost {lost} since the start", sink.name)
    });
    away.chain(back).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Maintenance, examples};

    #[test]
    fn what_the_api_says_is_told_and_that_it_says_nothing() {
        let mut now = KubernetesNow {
            node: "n-1".into(),
            pods: 1,
            down: None,
            missing: None,
            heard_ns: None,
            pods_refused: 0,
            asks_refused: 0,
        };
        assert_eq!(kubernetes(&now), "kubernetes: 1 pod of node n-1, as the API says");
        now.down = Some("connection refused".into());
        now.missing = Some("forbidden: jobs".into());
        now.asks_refused = 2;
        let said = kubernetes(&now);
        for told in ["connection refused; heard of last: never", "forbidden: jobs", "2 questions"] {
            assert!(said.contains(told), "{told} in {said}");
        }
    }

    #[test]
    fn it_tells_what_is_wrong_and_what_holds_for_a_while() {
        let mut status = examples::status();
        let said = lines(&status).join("\n");
        for told in
            ["unproved: Exec", "2 of 200", "1.000 %", "fill, scores in 1 m 30 s", "2 entries"]
        {
            assert!(said.contains(told), "{told} in {said}");
        }
        let floors = "told: intrinsic from 9.5 nats, a campaign from 14.5 nats";
        for told in
            ["at most 1 a day", "0.50 expected", "3 in the last day", floors, "for 2 h more"]
        {
            assert!(said.contains(told), "{told} in {said}");
        }
        let cost = "cost: 1.80 % of a core in the last minute, of 2.00 % that may be used; 61.0 MiB of memory, of \
                    100MiB that may be held; not seen: recorder";
        assert!(said.contains(cost), "{said}");
        assert!(trouble(&status).is_empty(), "all is well: {said}");
        status.drifted.push(Workload::new("batch.service"));
        assert!(lines(&status).join("\n").contains("Drifted: batch.service:"));
        status.deeds_refused = 7;
        status.trees_forgotten = 8;
        status.windows_overdue = 6;
        status.stands_still = vec!["the ledger".into()];
        status.ledger_waiting = 5;
        status.ledger_failure = Some("no space left".into());
        status.unprinted = 9;
        let said = lines(&status).join("\n");
        for told in [
            "7 deeds",
            "8 process trees",
            "stands still: the ledger",
            "6 windows",
            "5 ledger lines wait in memory: no space left",
            "9 lines",
        ] {
            assert!(said.contains(told), "{told} in {said}");
        }
        status.sinks = vec![
            SinkNow {
                name: "kafka".into(),
                up: false,
                delivered: 8,
                waiting: 3,
                lost: 0,
                trouble: Some("no broker".into()),
            },
            SinkNow {
                name: "jsonl".into(),
                up: true,
                delivered: 9,
                waiting: 0,
                lost: 2,
                trouble: None,
            },
        ];
        let said = lines(&status).join("\n");
        for told in [
            "delivered: kafka down, 8 reports, 3 wait; jsonl up, 9 reports, 0 wait",
            "not delivered: kafka: 3 reports wait, 0 are lost: no broker",
            "not delivered: jsonl lost 2 reports",
        ] {
            assert!(said.contains(told), "{told} in {said}");
        }
        status.sinks[0].waiting = 1;
        status.sinks[0].lost = 1;
        status.alerts = 1;
        let said = lines(&status).join("\n");
        for told in ["kafka: 1 report waits, 1 is lost: no broker", "since the start: 1 alert,"] {
            assert!(said.contains(told), "{told} in {said}");
        }
        status.armed = Some(false);
        status.maintenance.push(Maintenance {
            workload: Some(Workload::new("web.service")),
            until_ns: 0,
            by: None,
        });
        let said = lines(&status).join("\n");
        assert!(said.contains("disarmed") && said.contains("web.service until 1970"), "{said}");
        status.mode = None;
        assert!(lines(&status).join("\n").contains("not loaded"));
    }
}
