//! The daemon's health as JSON, for `--json` and the control socket.

use hedgerow_probe::{Control as Sensor, Proof};
use serde_json::{Value, json};

use super::{act::Actor, outlets::Outlets};
use hedgerow_detect::{EPOCH_SECONDS, Engine};

pub fn status(engine: &Engine, sensor: &Sensor, actor: &Actor, outlets: &Outlets) -> Value {
    let stats = sensor.stats().unwrap_or_default();
    let programs = engine.programs();
    let promise = engine.promise();
    let hooks: Vec<Value> = sensor
        .hooks()
        .into_iter()
        .filter(|status| status.proof != Proof::Absent)
        .map(|status| json!({ "hook": format!("{:?}", status.hook), "proof": format!("{:?}", status.proof) }))
        .collect();
    let responder = actor.responder.as_ref();
    let health = outlets.health();
    let ledger = responder.map(|responder| responder.ledger().written()).unwrap_or_default();
    let mut unread = sensor.refusals().refused();
    unread.extend(actor.unread());
    unread.extend(outlets.refusals().refused());
    unread.sort();
    unread.dedup();
    json!({
        "mode": responder.map(|responder| responder.default_mode()),
        "armed": responder.and_then(|responder| responder.is_armed().ok()),
        "entries": responder.map_or(0, |responder| responder.entries().len()),
        "held": responder.map_or(0, |responder| responder.holds().len()),
        "phase": engine.phase(),
        "state": engine.state(),
        "seconds_left": u64::from(engine.epochs_left()) * EPOCH_SECONDS,
        "programs": programs.len(),
        "programs_refused": engine.programs_refused(),
        "deeds_refused": engine.deeds_refused(),
        "services_refused": stats.services_refused,
        "programs_on_probation": engine.on_probation(),
        "sent": stats.sent,
        "records": stats.received,
        "lost": stats.lost,
        "alerts": actor.alerts,
        "suppressed": actor.suppressed,
        "blocks": actor.blocks,
        "unread": unread,
        "findings_waiting": health.findings.waiting,
        "findings_unwritten": health.findings.lost,
        "findings_failure": health.findings.failure,
        "ledger_waiting": ledger.waiting,
        "ledger_unwritten": ledger.lost,
        "ledger_failure": ledger.failure,
        "untold": health.untold,
        "unprinted": health.unprinted,
        "model": engine.model_id(),
        "budget": promise,
        "told_today": engine.told_today(),
        "hooks": hooks,
    })
}
