//! The one table of metrics. A row is a metric: what it is called, what it says, in which unit, and
//! where it is read from. The exposition and docs/metrics.md follow it.
//!
//! A label's values are of a closed set that stands in our own code: never a name that a process,
//! a file or a peer chose.

use std::time::{SystemTime, UNIX_EPOCH};

use hedgerow_detect::Phase;
use hedgerow_event::{Class, Mode};
use hedgerow_probe::Proof;

use super::{
    Board, Snapshot, Stage,
    encode::Samples,
    run_time::Programs,
    snapshot::{EFFECTS, KINDS, REASONS, STATES},
};
use crate::{levers::LEVERS, text};

/// How values of a metric behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from 0 at the start of the daemon.
    Counter,
    Gauge,
    Histogram,
    Info,
}

/// Who counts, which is also who updates it how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    Kernel,
    Sensor,
    Engine,
    Responder,
    Outlets,
    Loop,
    Sampler,
    Server,
}

#[cfg(test)]
impl From {
    const ALL: [Self; 8] = [
        Self::Kernel,
        Self::Sensor,
        Self::Engine,
        Self::Responder,
        Self::Outlets,
        Self::Loop,
        Self::Sampler,
        Self::Server,
    ];

    fn words(self) -> &'static str {
        match self {
            Self::Kernel => "the BPF programs' own counters, as of the last closed window",
            Self::Sensor => "the sensor, as of the last closed window",
            Self::Engine => "the engine, as of the last closed window",
            Self::Responder => "the responder, as of the last closed window",
            Self::Outlets => "queues and sinks, as of the last closed window",
            Self::Loop => "the main loop, at once",
            Self::Sampler => {
                "the kernel's run-time statistics, on for 100 ms in 10 s, in 5 s where `[governor]` has a budget"
            }
            Self::Server => "whoever answers the scrape, at once",
        }
    }
}

/// What rows read.
#[derive(Debug)]
pub struct Source<'a> {
    board: &'a Board,
    snapshot: Option<std::sync::Arc<Snapshot>>,
    programs: std::sync::Arc<Programs>,
}

impl<'a> Source<'a> {
    pub fn of(board: &'a Board) -> Self {
        let (snapshot, programs) = (board.snapshot.load_full(), board.programs.load_full());
        Self { board, snapshot, programs }
    }
}

pub struct Row {
    /// Without prefix, unit and `_total`.
    pub name: &'static str,
    pub help: &'static str,
    pub unit: Option<&'static str>,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    /// For the documentation.
    #[cfg_attr(not(test), expect(dead_code))]
    pub from: From,
    pub read: fn(&Source<'_>, &mut Samples),
}

impl Row {
    #[cfg(test)]
    /// As it is asked for; a histogram's series end in `_bucket`, `_sum` and `_count`.
    pub fn full_name(&self) -> String {
        let unit = self.unit.map(|unit| format!("_{unit}")).unwrap_or_default();
        let end = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        format!("{}_{}{unit}{end}", super::encode::PREFIX, self.name)
    }
}

macro_rules! rows {
    ($($kind:ident $name:literal $([$($label:literal),*])? $($unit:ident)? , $from:ident, $help:literal, $read:expr;)*) => {
        pub const ROWS: &[Row] = &[$(Row {
            name: $name,
            help: $help,
            unit: rows!(@unit $($unit)?),
            kind: Kind::$kind,
            labels: &[$($($label),*)?],
            from: From::$from,
            read: $read,
        },)*];
    };
    (@unit) => { None };
    (@unit $unit:ident) => { Some(stringify!($unit)) };
}

/// Reads of the last snapshot; a row of it has no series before the first window has closed.
macro_rules! of {
    (|$s:ident, $out:ident| $body:expr) => {
        |source, $out| {
            if let Some($s) = &source.snapshot {
                $body;
            }
        }
    };
}

rows! {
    // The process.
    Info "build" ["version"], Server, "The daemon that answers", |_, out| out.gauge(&[env!("CARGO_PKG_VERSION")], 1);
    Gauge "snapshot_timestamp" seconds, Loop, "Unix time of the snapshot that most metrics are from: one a window of 5 s", of!(|s, out| out.gauge(&[], unix(s.taken_ns)));
    Counter "loop_turns", Loop, "Turns of the main loop", |source, out| out.count(&[], source.board.turns.load(std::sync::atomic::Ordering::Relaxed));
    Gauge "loop_still" seconds, Loop, "Time since the main loop turned last", |source, out| out.gauge(&[], source.board.still().as_secs_f64());
    Gauge "stages_still", Loop, "Stages that have work and got nothing done for 10 s", of!(|s, out| out.number(&[], s.status.stands_still.len() as u64));
    Histogram "stage_duration" ["stage"] seconds, Loop, "How long stages take, a stretch of work at a time", |source, out| {
        for stage in Stage::ALL {
            out.histogram(&[stage.name()], source.board.stages.of(stage).read());
        }
    };
    Counter "scrapes", Server, "Requests for these metrics", |source, out| out.count(&[], source.board.scrapes.load(std::sync::atomic::Ordering::Relaxed));
    Counter "scrape_connections_cut", Server, "Connections to this server that were cut to make room for newer ones", |source, out| out.count(&[], source.board.cut_off.load(std::sync::atomic::Ordering::Relaxed));

    // What comes from the kernel, and what doesn't.
    Counter "records_sent", Kernel, "Records that the kernel wrote to the rings", of!(|s, out| out.count(&[], s.sensor.sent));
    Counter "records_received", Sensor, "Records that came out of the rings", of!(|s, out| out.count(&[], s.sensor.received));
    Counter "events" ["kind"], Engine, "Events that the engine took, decoded records with names: row (what a thread called in a window), exec, fork, exit, call (one that tells something by itself), flow, signal (something unseen was found), raw (every call, with --full)", of!(|s, out| {
        for (kind, count) in KINDS.into_iter().zip(s.events) {
            out.count(&[kind], count);
        }
    });
    Counter "events_missing" ["class"], Kernel, "What is not in the windows that it belongs to: lost (a ring was full), late (it came after its window), limited (held back by design, a token bucket), skipped (the kernel skipped a hook), uncounted (calls without a row)", of!(|s, out| {
        for (class, count) in [
            ("lost", s.sensor.lost),
            ("late", s.windows.loss.late),
            ("limited", s.windows.loss.limited),
            ("skipped", s.sensor.skipped),
            ("uncounted", s.sensor.calls_uncounted),
        ] {
            out.count(&[class], count);
        }
    });
    Counter "records_uncharged", Kernel, "Of the lost, the records that no thread could be charged with: any window of that time may have the hole", of!(|s, out| out.count(&[], s.sensor.uncharged));
    Counter "refused" ["table"], Sensor, "What found no room in a bounded table, and is judged by less", of!(|s, out| {
        for (table, count) in [
            ("profiles", s.sensor.profiles_refused),
            ("services", s.sensor.services_refused),
            ("workloads", s.sensor.workloads_refused),
            ("names", s.sensor.names_refused),
            ("digests", s.sensor.digests_refused),
            ("flow_peers", s.sensor.flow_peers_refused),
            ("answers", s.sensor.answers_refused),
            ("ring_shares", s.sensor.shares_refused),
            ("peer_names", s.sensor.peer_names_evicted),
            ("used", s.sensor.used_untold),
            ("usage", s.sensor.usage_refused),
            ("programs", s.status.programs_refused),
            ("deeds", s.status.deeds_refused),
            ("trees", s.status.trees_forgotten),
            ("cases", s.status.cases_forgotten),
            ("lineage", s.status.processes_forgotten),
        ] {
            out.count(&[table], count);
        }
    });
    Counter "signals", Kernel, "Early signals: something unseen was found", of!(|s, out| out.count(&[], s.sensor.signals));
    Counter "rows_spilled", Kernel, "Rows of threads that were added to their program's sums, because a ring was full", of!(|s, out| out.count(&[], s.sensor.spilled));
    Gauge "hook" ["hook", "state"], Sensor, "Hooks of the sensor: 1 for the state that each is in", of!(|s, out| {
        for status in &s.hooks {
            for (proof, state) in PROOFS {
                out.gauge(&[status.hook.name(), state], f64::from(u8::from(status.proof == proof)));
            }
        }
    });

    // Windows.
    Counter "windows", Engine, "Windows of 5 s that were closed, one for each subject that did something", of!(|s, out| out.count(&[], s.windows.closed));
    Counter "windows_incomplete", Engine, "Of those, the ones of which something is missing: they may alert, and where records of the subject were lost or late no denial rests on them", of!(|s, out| out.count(&[], s.windows.incomplete));
    Counter "windows_overdue", Sensor, "Epochs that were closed although a record of them was begun and not finished", of!(|s, out| out.count(&[], s.sensor.overdue));

    // Learning.
    Gauge "phase" ["phase"], Engine, "1 for the phase of learning that runs", of!(|s, out| out.one_of(PHASES.map(text::phase), text::phase(s.status.phase)));
    Gauge "scoring_starts_in" seconds, Engine, "Time until scoring starts; 0 once it has", of!(|s, out| out.number(&[], s.status.seconds_left));
    Gauge "host_state" ["state"], Engine, "1 for how sure the host's learning is as a whole", of!(|s, out| out.one_of(STATES.map(state_name), &s.status.state.to_string()));
    Gauge "workloads" ["state"], Engine, "Workloads by how sure their learning is", of!(|s, out| {
        for (state, count) in STATES.into_iter().zip(s.workloads) {
            out.number(&[state_name(state)], count);
        }
    });
    Gauge "programs", Engine, "Programs that have a profile", of!(|s, out| out.number(&[], s.status.programs as u64));
    Gauge "programs_on_probation", Engine, "Programs whose file was replaced and that relearn", of!(|s, out| out.number(&[], s.status.programs_on_probation as u64));
    Gauge "workloads_drifted", Engine, "Workloads that do something else than what was learned of them", of!(|s, out| out.number(&[], s.status.drifted.len() as u64));
    Gauge "relearning" seconds, Engine, "First uses are learned and not told for so long: the model is of an older version", of!(|s, out| out.number(&[], s.status.relearning_seconds));
    Gauge "model_learned_timestamp" seconds, Engine, "Unix time at which the model's learning ended; none while it goes on", of!(|s, out| s.learned_ns.into_iter().for_each(|ns| out.gauge(&[], unix(ns))));
    Gauge "model_saved_timestamp" seconds, Engine, "Unix time at which the model was saved last; none before", of!(|s, out| s.saved_ns.into_iter().for_each(|ns| out.gauge(&[], unix(ns))));

    // The budget.
    Gauge "budget_asked_alerts_per_day", Engine, "Alerts a day that are acceptable when nothing is wrong", of!(|s, out| out.gauge(&[], s.status.budget.asked_per_day));
    Gauge "budget_expected_alerts_per_day", Engine, "Alerts a day that are expected when nothing is wrong", of!(|s, out| out.gauge(&[], s.status.budget.expected_per_day));
    Gauge "budget_spent_alerts", Engine, "Alerts within the last day", of!(|s, out| out.number(&[], s.status.told_today as u64));
    Gauge "budget_held_back" seconds, Engine, "Time of normal life that the expectation rests on", of!(|s, out| out.gauge(&[], s.status.budget.hours_held_back * 3600.0));
    Gauge "budget_class_expected_alerts_per_day" ["class"], Engine, "The expectation by class", of!(|s, out| {
        for class in &s.status.budget.classes {
            out.gauge(&[class.class.name()], class.expected_per_day);
        }
    });
    Gauge "budget_class_supported" ["class"], Engine, "1 where held-back hours support the expectation by themselves, 0 where rates extrapolate", of!(|s, out| {
        for class in &s.status.budget.classes {
            out.gauge(&[class.class.name()], f64::from(u8::from(class.supported)));
        }
    });
    Gauge "budget_class_floor" ["class"] nats, Engine, "Least surprise that alerts; none where nothing of the class does", of!(|s, out| {
        for class in &s.status.budget.classes {
            class.floor.into_iter().for_each(|floor| out.gauge(&[class.class.name()], floor));
        }
    });
    Counter "findings" ["class", "disposition"], Engine, "Cases, each once: alerted, or closed without an alert", of!(|s, out| {
        for (class, [told, suppressed]) in Class::ALL.into_iter().zip(s.findings) {
            out.count(&[class.name(), "alert"], told);
            out.count(&[class.name(), "suppressed"], suppressed);
        }
    });
    Gauge "findings_muted", Engine, "Findings that an operator muted", of!(|s, out| out.number(&[], s.status.muted as u64));
    Gauge "maintenance", Engine, "Maintenances that run: no automatic denial and no learning", of!(|s, out| out.number(&[], s.status.maintenance.len() as u64));

    // Response.
    Gauge "mode" ["mode"], Responder, "1 for the default mode; all 0 where the deny hooks can't be loaded", of!(|s, out| {
        let mode = s.status.mode.map(|mode| mode.to_string()).unwrap_or_default();
        out.one_of(MODES.map(|(_, name)| name), &mode);
    });
    Gauge "armed", Responder, "0 after `hedgerow disarm`, and where the deny hooks can't be loaded", of!(|s, out| out.gauge(&[], f64::from(u8::from(s.status.armed == Some(true)))));
    Gauge "halted", Responder, "1 while nothing is denied automatically, because too many entries were wrong", of!(|s, out| out.gauge(&[], f64::from(u8::from(s.halted))));
    Gauge "entries" ["effect"], Responder, "Live entries by what the kernel does for them", of!(|s, out| {
        for (effect, count) in EFFECTS.into_iter().zip(s.entries) {
            out.number(&[effect_name(effect)], count);
        }
    });
    Counter "entry_hits" ["effect"], Responder, "What met an entry, by what the kernel did", of!(|s, out| {
        for (effect, count) in EFFECTS.into_iter().zip(s.hits) {
            out.count(&[effect_name(effect)], count);
        }
    });
    Gauge "entries_held", Responder, "Wide entries that wait before they are installed", of!(|s, out| out.number(&[], s.status.held as u64));
    Counter "blocks", Responder, "Entries that were made automatically", of!(|s, out| out.count(&[], s.status.blocks));
    Gauge "workloads_unenforceable" ["reason"], Responder, "Workloads of which automatic entries don't enforce, and why: the profile is immature, days or hours of the week are missing, or the breaker tripped; one may have several reasons", of!(|s, out| {
        for (reason, count) in REASONS.into_iter().zip(s.unenforced) {
            out.number(&[reason], count);
        }
    });
    Gauge "deny_hook" ["hook"], Responder, "1 for each deny hook that is attached, 0 for what this kernel lacks (`hedgerow doctor` says why)", of!(|s, out| {
        for (hook, there) in &s.deny_hooks {
            out.gauge(&[hook], f64::from(u8::from(*there)));
        }
    });

    // What it may cost.
    Gauge "cpu_budget_ratio", Loop, "CPU that may be used, as a part of a core; none without `[governor] cpu`", of!(|s, out| s.status.cost.iter().filter_map(|cost| cost.budget).for_each(|budget| out.gauge(&[], budget)));
    Gauge "cpu_used_ratio" ["by"], Loop, "CPU that the last window used, as a part of a core: own (our threads), bpf (our programs, sampled); none without `[governor]`", of!(|s, out| {
        if let Some(cost) = &s.status.cost {
            out.gauge(&["own"], cost.own);
            out.gauge(&["bpf"], cost.bpf);
        }
    });
    Gauge "memory_budget" bytes, Loop, "Memory that may be held, BPF maps included; none without `[governor] memory`", of!(|s, out| s.status.cost.iter().filter_map(|cost| cost.memory_budget).for_each(|bytes| out.number(&[], bytes)));
    Gauge "memory_held" bytes, Loop, "Memory that is held, BPF maps included, as of the last minute; none without `[governor] memory`", of!(|s, out| s.status.cost.iter().filter_map(|cost| cost.memory).for_each(|bytes| out.number(&[], bytes)));
    Gauge "shed" ["lever"], Loop, "1 for what is not looked at at present, so that the budget holds; none without `[governor]`", of!(|s, out| {
        for lever in s.status.cost.iter().flat_map(|_| &LEVERS) {
            let shed = s.status.cost.iter().any(|cost| cost.shed.iter().any(|shed| shed == lever.name));
            out.gauge(&[lever.name], f64::from(u8::from(shed)));
        }
    });
    Counter "sheds", Loop, "Times that something was shed; 0 without `[governor]`", of!(|s, out| out.count(&[], s.status.cost.as_ref().map_or(0, |cost| cost.sheds)));
    Counter "recorder_processes_forgotten", Loop, "Processes that forked so much that the flight recorder forgot whose tree they are of", of!(|s, out| out.count(&[], s.status.recorder_forgotten));
    Counter "recorder_records_dropped", Loop, "Records of the last half minute that the flight recorder had no room for", of!(|s, out| out.count(&[], s.status.recorder_dropped));

    // The way out.
    Gauge "queue_length" ["queue"], Outlets, "What waits in a bounded queue", of!(|s, out| s.queues.iter().for_each(|queue| out.number(&[queue.name], queue.waiting)));
    Gauge "queue_limit" ["queue"], Outlets, "What fits into it", of!(|s, out| s.queues.iter().for_each(|queue| out.number(&[queue.name], queue.most)));
    Counter "queue_overflow" ["queue"], Outlets, "What found no room in it", of!(|s, out| s.queues.iter().for_each(|queue| out.count(&[queue.name], queue.lost)));
    Counter "findings_left_out", Outlets, "Findings that nobody was to be told of and that no file and no sink has, because their workloads had had their share of the hour", of!(|s, out| out.count(&[], s.status.left_out));
    Gauge "sink_up" ["sink"], Outlets, "1 while the sink's other side takes what it is given", of!(|s, out| s.sinks.iter().for_each(|sink| out.gauge(&[sink.name], f64::from(u8::from(sink.up)))));
    Counter "sink_delivered" ["sink"], Outlets, "Reports that a sink has delivered", of!(|s, out| s.sinks.iter().for_each(|sink| out.count(&[sink.name], sink.delivered)));
    Gauge "sink_waiting" ["sink"], Outlets, "Reports that a sink has not delivered yet", of!(|s, out| s.sinks.iter().for_each(|sink| out.number(&[sink.name], sink.waiting)));
    Counter "sink_lost" ["sink", "reason"], Outlets, "Reports that a sink lost: overflow (queue and spool were full), rejected (refused for good)", of!(|s, out| {
        for sink in &s.sinks {
            out.count(&[sink.name, "overflow"], sink.overflow);
            out.count(&[sink.name, "rejected"], sink.rejected);
        }
    });
    Counter "sink_resent" ["sink"], Outlets, "Reports that were sent again", of!(|s, out| s.sinks.iter().for_each(|sink| out.count(&[sink.name], sink.resent)));
    Counter "sink_unspooled" ["sink"], Outlets, "Reports that a sink sent from memory, because its spool took none", of!(|s, out| s.sinks.iter().for_each(|sink| out.count(&[sink.name], sink.unspooled)));
    Gauge "sink_spool" ["sink"] bytes, Outlets, "What a sink's spool holds on disk", of!(|s, out| s.sinks.iter().for_each(|sink| {
        sink.disk_bytes.into_iter().for_each(|(held, _)| out.number(&[sink.name], held));
    }));
    Gauge "sink_spool_limit" ["sink"] bytes, Outlets, "What it may hold", of!(|s, out| s.sinks.iter().for_each(|sink| {
        sink.disk_bytes.into_iter().for_each(|(_, most)| out.number(&[sink.name], most));
    }));

    // What the programs cost.
    Counter "bpf_sampled" seconds, Sampler, "Time during which run times were measured", |source, out| out.sum(&[], source.programs.sampled.as_secs_f64());
    Counter "bpf_samples_refused", Sampler, "Times that the kernel refused to measure", |source, out| out.count(&[], source.programs.refused);
    Counter "bpf_program_run" ["program"] seconds, Sampler, "Run time of each of our BPF programs within the measured time; divided by that it is CPUs", |source, out| {
        for (name, ran) in &source.programs.programs {
            out.sum(&[name], ran.ns as f64 / 1e9);
        }
    };
    Counter "bpf_program_runs" ["program"], Sampler, "Its runs within the measured time", |source, out| {
        for (name, ran) in &source.programs.programs {
            out.count(&[name], ran.runs);
        }
    };
}

const PHASES: [Phase; 4] = [Phase::Fill, Phase::Fit, Phase::Calibrate, Phase::Scoring];
const MODES: [(Mode, &str); 3] =
    [(Mode::Observe, "observe"), (Mode::Monitor, "monitor"), (Mode::Enforce, "enforce")];
const PROOFS: [(Proof, &str); 4] = [
    (Proof::Proved, "proved"),
    (Proof::Unproved, "unproved"),
    (Proof::Absent, "absent"),
    (Proof::Gone, "gone"),
];

fn state_name(state: hedgerow_event::Maturity) -> &'static str {
    use hedgerow_event::Maturity;
    match state {
        Maturity::Learning => "learning",
        Maturity::Provisional => "provisional",
        Maturity::Mature => "mature",
    }
}

fn effect_name(level: hedgerow_event::Level) -> &'static str {
    use hedgerow_event::Level;
    match level {
        Level::Prevents => "prevents",
        Level::PreventsNetwork => "prevents_network",
        Level::KillsBeforeFirstInstruction => "kills_before_first_instruction",
        Level::KillsOneCallLate => "kills_one_call_late",
        Level::Counts => "counts",
    }
}

fn unix(ns: i64) -> f64 {
    ns as f64 / 1e9
}

/// Wall time, Unix nanoseconds.
pub fn unix_ns(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// docs/metrics.md.
#[cfg(test)]
pub fn markdown() -> String {
    let mut text = HEAD.to_owned();
    text += "## Metrics\n\n| metric | kind | labels | meaning | from |\n|---|---|---|---|---|\n";
    for row in ROWS {
        let labels: Vec<String> = row.labels.iter().map(|label| format!("`{label}`")).collect();
        let kind = format!("{:?}", row.kind).to_lowercase();
        let from = format!("{:?}", row.from).to_lowercase();
        text += &format!(
            "| `{}` | {kind} | {} | {} | {from} |\n",
            row.full_name(),
            labels.join(", "),
            row.help,
        );
    }
    text += "\nWho counts:\n\n| from | what that is |\n|---|---|\n";
    for from in From::ALL {
        text += &format!("| {} | {} |\n", format!("{from:?}").to_lowercase(), from.words());
    }
    text += "\nStages of `hedgerow_stage_duration_seconds`:\n\n| stage | what takes time |\n|---|---|\n";
    for stage in Stage::ALL {
        text += &format!("| `{}` | {} |\n", stage.name(), stage.words());
    }
    text
}

#[cfg(test)]
const HEAD: &str = "\
# Metrics

This file is generated from the table in `src/metrics/table.rs`; `HEDGEROW_UPDATE_DOCS=1 cargo test --workspace
--bin hedgerow documentation` writes it.

```toml
# /etc/hedgerow/hedgerow.toml
[metrics]
listen = \"127.0.0.1:9469\"
```

Nothing is listened on without that, and an address that is not of loopback is refused: metrics tell what
a host doesn't see. A scraper elsewhere comes through a tunnel or a proxy that asks who it is.

| path | answer |
|---|---|
| `/metrics` | OpenMetrics 1.0 text |
| `/healthz` | 200 while the main loop has turned within 10 s, else 503 with how long it stands still |
| `/readyz` | 200 once hooks have shown that they run and a window has closed, with whether it learns or scores; 503 before, and where a hook is no longer attached |

A scrape reads what the loop published after the last window of 5 s, so that neither waits for the other. It is
rendered once a second at most, however often somebody asks: what that takes counts as what Hedgerow costs.
At most 8 connections at once, 8 KiB a request, 10 s a connection. A ninth takes the place of the oldest, which is
closed and counted, so that nobody keeps a scraper out by holding on.

Any user of the host can take the port before the daemon does, and tell a scraper what he likes. The daemon says so
in its log, tries again each second, and does everything else meanwhile. So a liveness probe asks
`hedgerow status`, whose socket only root and its readers reach, and not `/healthz`.

Labels are of closed sets: no workload, program, peer or file is named. Counters begin at 0 with the daemon.

`packaging/prometheus/hedgerow.rules.yml` has alerts, whose meaning and way out are in the
[runbook](runbook.md#prometheus-alerts), `packaging/grafana/hedgerow.json` a dashboard; packages have them as
`/usr/share/doc/hedgerow/prometheus/hedgerow.rules.yml` and `/usr/share/doc/hedgerow/grafana/hedgerow.json`. `make
metrics-test` runs each query of both on Debian's Prometheus beside a live daemon, and each alert on made-up
hosts (`hedgerow.test.yml`): one on which it fires, one on which it doesn't.

```yaml
scrape_configs:
  - job_name: hedgerow
    static_configs: [{ targets: [\"127.0.0.1:9469\"] }]
```

";
