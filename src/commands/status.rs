//! `hedgerow status`: one screen of what is watched, lost, learned and refused.

use std::path::Path;

use hedgerow_detect::Phase;

use super::steer;
use crate::{
    control::{GetStatus, Status, call, socket},
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
    let left = match status.phase {
        Phase::Scoring => format!("scoring with model {}", status.model),
        phase => {
            format!("{}, scores in {}", text::phase(phase), text::seconds(status.seconds_left))
        }
    };
    lines.push(format!(
        "learned: {left}; state {}, {} programs ({} refused, {} on probation), {:.1} hours held back",
        status.state,
        status.programs,
        status.programs_refused,
        status.programs_on_probation,
        status.budget.hours_held_back
    ));
    lines.push(format!(
        "found: {} alerts, {} told in the last day (asked {} a day when nothing is wrong, expected \
         {:.2}), {} suppressed, {} muted",
        status.alerts,
        status.told_today,
        status.budget.asked_per_day,
        status.budget.expected_per_day,
        status.suppressed,
        status.muted
    ));
    lines.push(match (status.mode, status.armed) {
        (None, _) => "refused: nothing; the deny hooks are not loaded (hedgerow doctor)".to_owned(),
        (_, Some(false)) => "refused: nothing; disarmed until `hedgerow arm`".to_owned(),
        _ => format!(
            "refused: {} entries live, {} held, {} made since the start",
            status.entries, status.held, status.blocks
        ),
    });
    if !status.unread.is_empty() {
        lines.push(format!(
            "not read: files of {}, since reading one took too long",
            status.unread.join(", ")
        ));
    }
    lines.extend(status.maintenance.iter().map(|one| {
        let whose = one.workload.as_ref().map_or("the whole host", |workload| workload.as_str());
        format!(
            "maintenance: {whose} until {}: no automatic denial, no learning",
            text::time(one.until_ns)
        )
    }));
    lines
}

#[cfg(test)]
mod tests {
    use hedgerow_detect::surprise::floors::Promise;
    use hedgerow_event::{Maturity, Mode, Workload};

    use super::*;
    use crate::control::{Hook, Maintenance};

    #[test]
    fn it_tells_what_is_wrong_and_what_holds_for_a_while() {
        let hook = |hook: &str, proof: &str| Hook { hook: hook.into(), proof: proof.into() };
        let mut status = Status {
            mode: Some(Mode::Enforce),
            armed: Some(true),
            entries: 2,
            held: 1,
            phase: Phase::Fill,
            state: Maturity::Learning,
            seconds_left: 90,
            programs: 3,
            programs_refused: 0,
            deeds_refused: 0,
            services_refused: 0,
            programs_on_probation: 0,
            sent: 200,
            records: 198,
            lost: 2,
            alerts: 1,
            suppressed: 4,
            blocks: 5,
            unread: Vec::new(),
            findings_waiting: 0,
            findings_unwritten: 0,
            findings_failure: None,
            ledger_waiting: 0,
            ledger_unwritten: 0,
            ledger_failure: None,
            untold: 0,
            unprinted: 0,
            model: "m".into(),
            budget: Promise {
                asked_per_day: 1.0,
                expected_per_day: 0.5,
                hours_held_back: 12.0,
                classes: Vec::new(),
            },
            told_today: 0,
            hooks: vec![hook("Calls", "Proved"), hook("Exec", "Unproved")],
            maintenance: Vec::new(),
            muted: 0,
            modes: None,
        };
        let said = lines(&status).join("\n");
        for told in
            ["unproved: Exec", "2 of 200", "1.000 %", "fill, scores in 1 m 30 s", "2 entries"]
        {
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
