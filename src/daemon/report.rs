//! What a person, or a machine, sees of a running daemon.

use std::{
    io::IsTerminal,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use hedgerow_detect::{EPOCH_SECONDS, Engine, Phase, surprise::notices::Listed};
use hedgerow_event::{Finding, Mode, Remediation, Subject, Workload, gate};
use hedgerow_probe::{Control as Sensor, Proof, Stats};
use serde::Serialize;
use serde_json::json;

use super::{capture::ParquetStatus, outlets::Outlets, tally::Tally};
use crate::{config::Config, control::Status, host::Host, text};

/// Without a terminal, a line about progress is printed this often.
const QUIET: Duration = Duration::from_secs(30);

/// Whether a person sees a line that is renewed.
pub fn is_live(config: &Config) -> bool {
    std::io::stderr().is_terminal() && !config.json
}

pub struct Reporter {
    json: bool,
    /// With a line that is renewed, on a terminal only.
    live: bool,
    outlets: Outlets,
    pub tally: Tally,
    /// Events and time at the last live line.
    last: (u64, Instant),
    last_quiet: Instant,
    started: Instant,
    host: String,
    /// Reports that found no room, as of the last sweep.
    untold: u64,
}

impl Reporter {
    pub fn new(config: &Config, host: &Host, outlets: Outlets) -> Self {
        let now = Instant::now();
        Self {
            json: config.json,
            live: is_live(config),
            outlets,
            tally: Tally::default(),
            last: (0, now),
            last_quiet: now,
            started: now,
            host: host.name.clone(),
            untold: 0,
        }
    }

    /// A terminal shows a line that is renewed every second.
    pub fn is_live(&self) -> bool {
        self.live
    }

    pub fn outlets(&self) -> &Outlets {
        &self.outlets
    }

    /// Prints a line that strangers had a part in: nothing in it is obeyed by a terminal.
    fn print(&self, line: &str) {
        self.outlets.print(gate::shown(line).into_owned());
    }

    fn machine(&self, value: &impl Serialize) {
        match gate::json(value) {
            Ok(line) => self.outlets.print(line),
            Err(why) => self.note(&format!("hedgerow: warning: not told: {why}")),
        }
    }

    /// Notices go to standard error.
    pub fn note(&self, line: &str) {
        self.outlets.note(gate::shown(line).into_owned());
    }

    pub fn warn(&mut self, text: &str) {
        self.note(&format!("hedgerow: warning: {text}"));
    }

    fn status(&self, value: impl Serialize) {
        self.machine(&json!({ "status": value }));
    }

    /// Machines read what it tells.
    pub fn is_machine(&self) -> bool {
        self.json
    }

    /// What is attached, before anything was observed.
    pub fn started(&mut self, sensor: &Sensor, engine: &Engine, mode: Option<Mode>) {
        let hooks = sensor.hooks();
        let with = |proof: Proof| hooks.iter().filter(move |status| status.proof == proof);
        if self.json {
            let named = |proof: Proof| -> Vec<String> {
                with(proof).map(|status| format!("{:?}", status.hook).to_lowercase()).collect()
            };
            return self.status(json!({
                "phase": engine.phase(),
                "proved": named(Proof::Proved),
                "unproved": named(Proof::Unproved),
                "absent": named(Proof::Absent),
                "relearning_seconds": seconds(engine.relearning_epochs()),
            }));
        }
        let named = |proof: Proof| with(proof).map(|status| status.hook.name()).collect();
        let first = First {
            host: &self.host,
            proved: named(Proof::Proved),
            unproved: named(Proof::Unproved),
            absent: named(Proof::Absent),
            model: (engine.phase() == Phase::Scoring).then(|| engine.model_id()),
            seconds_left: seconds(engine.epochs_left()),
            now_ns: hedgerow_responder::now().wall_ns,
            mode,
        };
        first.lines().iter().for_each(|line| self.note(line));
        if engine.phase() == Phase::Scoring && engine.relearning_epochs() > 0 {
            self.note(&text::relearning(seconds(engine.relearning_epochs())));
        }
    }

    /// Where metrics are.
    pub fn serves(&mut self, address: SocketAddr) {
        match self.json {
            true => self.status(json!({ "metrics": address })),
            false => self.note(&format!("Metrics are on http://{address}/metrics.")),
        }
    }

    fn rate(&mut self) -> f64 {
        let now = Instant::now();
        let counted = self.tally.events();
        let (events, then) = std::mem::replace(&mut self.last, (counted, now));
        (counted - events) as f64 / now.duration_since(then).as_secs_f64().max(1e-3)
    }

    fn progress(&mut self, engine: &Engine, sensor: &Sensor) -> String {
        let stats = sensor.stats().unwrap_or_default();
        let programs = engine.programs();
        let rate = self.rate();
        let flow = format!("{} events/s, {} lost", text::count(rate), stats.lost);
        match engine.phase() {
            Phase::Scoring => {
                format!(
                    "scoring ({}): {flow}, {}",
                    engine.state(),
                    text::counted(self.tally.told()[0], "finding", "findings")
                )
            }
            phase => {
                let left = seconds(engine.epochs_left());
                let complete = programs.iter().filter(|(_, windows, once, known)| {
                    *windows >= 10 && (*once as f64) < 0.05 * *known as f64
                });
                format!(
                    "learning ({}), {} left: {}, {} nearly complete, {flow}",
                    text::phase(phase),
                    text::seconds(left),
                    text::counted(programs.len(), "program", "programs"),
                    complete.count()
                )
            }
        }
    }

    /// Renews the live line.
    pub fn live(&mut self, engine: &Engine, sensor: &Sensor) {
        let text = self.progress(engine, sensor);
        self.outlets.live(text);
    }

    /// After each epoch: a status for machines, now and then a line where there is no terminal.
    pub fn epoch(&mut self, engine: &Engine, sensor: &Sensor, status: Option<Status>) {
        if let Some(status) = status {
            return self.status(status);
        }
        if !self.live && self.last_quiet.elapsed() >= QUIET {
            self.last_quiet = Instant::now();
            let text = self.progress(engine, sensor);
            self.note(&text);
        }
    }

    pub fn phase(&mut self, phase: Phase, engine: &Engine, sensor: &Sensor) {
        if self.json {
            let programs = engine.programs().len();
            return self.status(json!({ "phase": phase, "programs": programs }));
        }
        match phase {
            Phase::Fill | Phase::Fit => {}
            Phase::Calibrate => self.note("Detectors fitted; holding windows back to calibrate."),
            Phase::Scoring => self.armed(engine, sensor),
        }
    }

    fn armed(&self, engine: &Engine, sensor: &Sensor) {
        self.note(&format!(
            "Scoring starts: {} profiled, state {}.",
            text::counted(engine.programs().len(), "program", "programs"),
            engine.state(),
        ));
        self.note(&text::promise(&engine.promise()));
        let saturated = sensor.fill().iter().filter(|fill| fill.saturated).count();
        if saturated > 0 {
            self.note(&format!(
                "{}: the order of such says little.",
                text::counted(saturated, "profile is saturated", "profiles are saturated")
            ));
        }
        let distrusted = engine.baseline().distrusted();
        for object in distrusted.iter().take(5) {
            self.note(&format!("Seen while learning, but not trusted until accepted: {object}"));
        }
    }

    /// A program runs from another file than it was learned from.
    pub fn replaced(&mut self, subject: &Subject, windows: u64) {
        if self.json {
            return self.status(json!({ "replaced": subject, "windows": windows }));
        }
        self.note(&format!(
            "Replaced: {subject} has another file than it was learned with. It keeps what is known \
             of it and relearns on probation for {windows} of its windows."
        ));
    }

    pub fn drifted(&mut self, workload: &Workload) {
        if self.json {
            return self.status(json!({ "drifted": workload }));
        }
        self.note(&text::drifted(workload.as_str()));
    }

    pub fn relearned(&mut self, subject: &Subject) {
        if self.json {
            return self.status(json!({ "relearned": subject }));
        }
        self.note(&format!("Relearned: {subject} is judged as before its file was replaced."));
    }

    pub fn saved(&mut self, path: &Path) {
        if !self.json {
            self.note(&format!("Model saved to {}.", path.display()));
        }
    }

    /// Sends a finding everywhere it goes.
    /// `is_owed`: it is given however much of its like there was.
    pub fn finding(&mut self, finding: &Finding, is_owed: bool) {
        self.tally.finding(finding);
        self.outlets.finding(finding, is_owed);
    }

    /// How many cases the last hour brought that nobody was told of, and why.
    pub fn listed(&mut self, listed: &Listed) {
        match self.json {
            true => self.status(json!({ "listed": listed.cases(), "why": listed })),
            false => self.note(&text::listed(listed)),
        }
    }

    pub fn not_denied(&mut self, finding: &Finding, why: &str) {
        if let Some(line) = text::not_denied(finding, why).filter(|_| !self.json) {
            self.print(&line);
        }
    }

    /// What came of asking for a wider entry beside the narrow one.
    pub fn widening(&mut self, what: &str) {
        match self.json {
            true => self.status(json!({ "wider": what })),
            false => self.print(&format!("  wider: {what}")),
        }
    }

    pub fn remediation(&mut self, remediation: &Remediation) {
        self.tally.remediation(remediation);
        self.outlets.remediation(remediation);
    }

    /// Tells that reports were not told, or not kept.
    pub fn sweep(&mut self) {
        let untold = self.outlets.health().untold;
        if untold > self.untold {
            let more = untold - std::mem::replace(&mut self.untold, untold);
            self.warn(&format!(
                "{} no room on the way out, not told",
                text::counted(more, "report found", "reports found")
            ));
        }
        self.outlets.take_untold().iter().for_each(|said| self.warn(said));
    }

    pub fn captured(&mut self, status: &ParquetStatus, dropped: u64) {
        let lost = status.rows_lost + dropped;
        if self.json {
            return self.status(json!({ "captured_rows": status.rows, "capture_lost": lost }));
        }
        self.note(&format!(
            "Captured {} in {}, {lost} lost.",
            text::counted(status.rows, "row", "rows"),
            text::counted(status.files, "file", "files")
        ));
    }

    pub fn summary(&mut self, engine: &Engine, stats: Option<Stats>) {
        let stats = stats.unwrap_or_default();
        let seconds = self.started.elapsed().as_secs();
        self.outlets.bare();
        if self.json {
            return self.status(json!({
                "phase": "stopped",
                "seconds": seconds,
                "records": stats.received,
                "lost": stats.lost,
                "findings": self.tally.told()[0],
            }));
        }
        let promise = engine.promise();
        self.note(&format!(
            "Observed {} for {}: {}, {} lost, {} (asked for at most {} a day when \
             nothing is wrong).",
            self.host,
            text::seconds(seconds),
            text::counted(stats.received, "record", "records"),
            stats.lost,
            text::counted(self.tally.told()[0], "alert", "alerts"),
            promise.asked_per_day,
        ));
    }
}

/// What the first screen is made of.
struct First<'a> {
    host: &'a str,
    proved: Vec<&'static str>,
    unproved: Vec<&'static str>,
    absent: Vec<&'static str>,
    /// Where it scores already.
    model: Option<&'a str>,
    seconds_left: u64,
    now_ns: i64,
    /// `None`: the deny hooks are not loaded.
    mode: Option<Mode>,
}

impl First<'_> {
    /// What is watched, missing, learned, when scoring starts, and what may be refused.
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("Hedgerow observes {}.", self.host),
            format!(
                "  Watched: {}; a child process did each, and it was seen.",
                self.proved.join(", ")
            ),
        ];
        if !self.unproved.is_empty() {
            lines
                .push(format!("  Loaded, and not seen to work yet: {}.", self.unproved.join(", ")));
        }
        lines.push(match self.absent.is_empty() {
            true => "  Missing: nothing.".to_owned(),
            false => format!("  Missing: {} (hedgerow doctor says why).", self.absent.join(", ")),
        });
        match self.model {
            Some(model) => lines.extend([
                format!("  Learned: model {model}."),
                "  Scoring: from now on; findings are told here.".to_owned(),
            ]),
            None => {
                let left = text::seconds(self.seconds_left);
                let left_ns = i64::try_from(self.seconds_left).unwrap_or(0) * 1_000_000_000;
                lines.extend([
                    format!("  Learned: nothing yet; what is normal here is learned for {left}."),
                    format!(
                        "  Scoring: starts in {left}, at {} UTC; nothing is found before.",
                        text::time(self.now_ns + left_ns)
                    ),
                ]);
            }
        }
        lines.push(match self.mode {
            None => "  Refused: nothing, the deny hooks are not loaded.".to_owned(),
            Some(Mode::Observe) => {
                "  Refused: nothing, until you say so (hedgerow mode --help).".to_owned()
            }
            Some(mode) => format!("  Refused: as mode {mode} says (hedgerow mode)."),
        });
        lines.push(
            "  Look: `hedgerow top` in another terminal; once it scores, `hedgerow test` makes one \
             harmless incident."
                .to_owned(),
        );
        lines
    }
}

/// Seconds of so many epochs.
fn seconds(epochs: u32) -> u64 {
    u64::from(epochs) * EPOCH_SECONDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_screen_says_what_is_watched_missing_learned_and_when_it_scores() {
        let mut first = First {
            host: "web-1",
            proved: vec!["system calls", "exec"],
            unproved: vec!["cgroups"],
            absent: vec!["packets"],
            model: None,
            seconds_left: 120,
            now_ns: 0,
            mode: Some(Mode::Observe),
        };
        let said = first.lines().join("\n");
        for told in [
            "observes web-1",
            "Watched: system calls, exec;",
            "not seen to work yet: cgroups",
            "Missing: packets (hedgerow doctor",
            "learned for 2 m.",
            "starts in 2 m, at 1970-01-01 00:02:00 UTC",
            "Refused: nothing, until you say so",
        ] {
            assert!(said.contains(told), "{told} in {said}");
        }
        (first.absent, first.model, first.mode) = (Vec::new(), Some("m1"), None);
        let said = first.lines().join("\n");
        for told in ["Missing: nothing.", "model m1", "from now on", "hooks are not loaded"] {
            assert!(said.contains(told), "{told} in {said}");
        }
        assert!(!said.contains("starts in"), "{said}");
    }
}
