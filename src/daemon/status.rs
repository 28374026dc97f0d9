//! The daemon's health, for `--json` and the control socket.

use hedgerow_detect::{EPOCH_SECONDS, Engine};
use hedgerow_probe::{Control as Sensor, Proof};
use hedgerow_responder::Responder;
use hedgerow_sink::SinkHealth;

use super::{orders::Orders, pulse::Pulse, report::Reporter, respond::Actor, watchdog::Still};
use crate::control::{Hook, SinkNow, Status};

pub fn status(
    engine: &Engine,
    sensor: &Sensor,
    actor: &Actor,
    reporter: &Reporter,
    orders: &Orders,
    still: &Still,
    pulse: &Pulse,
) -> Status {
    let stats = sensor.stats().unwrap_or_default();
    let hooks = sensor.hooks().into_iter().filter(|status| status.proof != Proof::Absent);
    let hooks = hooks.map(|status| Hook {
        hook: format!("{:?}", status.hook),
        proof: format!("{:?}", status.proof),
    });
    let responder = actor.responder.as_ref();
    let ledger = responder.map(|responder| responder.ledger().written()).unwrap_or_default();
    let outlets = reporter.outlets();
    let health = outlets.health();
    let [alerts, suppressed] = reporter.tally.told();
    let mut unread = sensor.refusals().refused();
    unread.extend(actor.unread());
    unread.extend(outlets.refusals().refused());
    unread.sort();
    unread.dedup();
    let forgotten = engine.forgotten();
    Status {
        mode: responder.map(Responder::default_mode),
        armed: responder.and_then(|responder| responder.is_armed().ok()),
        entries: responder.map_or(0, |responder| responder.entries().len()),
        held: responder.map_or(0, |responder| responder.holds().len()),
        phase: engine.phase(),
        state: engine.state(),
        seconds_left: u64::from(engine.epochs_left()) * EPOCH_SECONDS,
        relearning_seconds: u64::from(engine.relearning_epochs()) * EPOCH_SECONDS,
        programs: engine.programs().len(),
        programs_refused: engine.programs_refused(),
        deeds_refused: engine.deeds_refused(),
        trees_forgotten: forgotten.trees,
        cases_forgotten: forgotten.cases,
        processes_forgotten: forgotten.processes,
        services_refused: stats.services_refused,
        workloads_refused: stats.workloads_refused,
        shares_refused: stats.shares_refused,
        names_refused: stats.names_refused,
        digests_refused: stats.digests_refused,
        programs_on_probation: engine.on_probation(),
        drifted: engine.drifted().cloned().collect(),
        sent: stats.sent,
        records: stats.received,
        lost: stats.lost,
        windows_overdue: stats.overdue,
        stands_still: still.names().into_iter().map(str::to_owned).collect(),
        alerts,
        suppressed,
        blocks: reporter.tally.blocks,
        unread,
        sinks: health.sinks.into_iter().map(sink).collect(),
        findings_waiting: usize::try_from(health.findings.waiting).unwrap_or(usize::MAX),
        findings_unwritten: health.findings.overflow,
        findings_failure: health.findings.trouble,
        ledger_waiting: ledger.waiting,
        ledger_unwritten: ledger.lost,
        ledger_failure: ledger.failure,
        untold: health.untold,
        unprinted: health.unprinted,
        left_out: health.left_out,
        model: engine.model_id().to_owned(),
        budget: engine.promise(),
        told_today: engine.told_today(),
        hooks: hooks.collect(),
        maintenance: orders.maintenance.clone(),
        muted: orders.muted.len(),
        recorder_bytes: 0,
        recorder_dropped: 0,
        recorder_forgotten: 0,
        events_per_second: pulse.events_per_second(),
        cost: None,
        modes: None,
        workloads: Vec::new(),
        workloads_more: 0,
    }
}

fn sink(health: SinkHealth) -> SinkNow {
    SinkNow {
        name: health.name.to_owned(),
        up: health.up,
        delivered: health.delivered,
        waiting: health.waiting,
        lost: health.overflow + health.rejected,
        trouble: health.trouble,
    }
}
