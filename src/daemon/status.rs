//! The daemon's health, for `--json` and the control socket.

use hedgerow_detect::EPOCH_SECONDS;
use hedgerow_probe::Proof;
use hedgerow_responder::Responder;
use hedgerow_sink::SinkHealth;

use super::{Daemon, governor::Governor};
use crate::{
    control::{Hook, SinkNow, Status},
    kubernetes::Kubernetes,
};

impl Daemon {
    /// With what is told of each workload, and its mode.
    pub(super) fn whole_status(&self) -> Status {
        let (workloads, workloads_more) = self.pulse.told(&self.engine);
        Status { modes: self.modes().ok(), workloads, workloads_more, ..self.status() }
    }

    pub(super) fn status(&self) -> Status {
        let stats = self.sensor.stats().unwrap_or_default();
        let responder = self.actor.responder.as_ref();
        let ledger = responder.map(|responder| responder.ledger().written()).unwrap_or_default();
        let health = self.reporter.outlets().health();
        let [alerts, suppressed] = self.reporter.tally.told();
        let (forgotten, recorded) = (self.engine.forgotten(), self.recorder.recorded());
        Status {
            mode: responder.map(Responder::default_mode),
            armed: responder.and_then(|responder| responder.is_armed().ok()),
            entries: responder.map_or(0, |responder| responder.entries().len()),
            held: responder.map_or(0, |responder| responder.holds().len()),
            phase: self.engine.phase(),
            state: self.engine.state(),
            seconds_left: u64::from(self.engine.epochs_left()) * EPOCH_SECONDS,
            relearning_seconds: u64::from(self.engine.relearning_epochs()) * EPOCH_SECONDS,
            programs: self.engine.programs().len(),
            programs_refused: self.engine.programs_refused(),
            deeds_refused: self.engine.deeds_refused(),
            trees_forgotten: forgotten.trees,
            cases_forgotten: forgotten.cases,
            processes_forgotten: forgotten.processes,
            services_refused: stats.services_refused,
            workloads_refused: stats.workloads_refused,
            shares_refused: stats.shares_refused,
            names_refused: stats.names_refused,
            digests_refused: stats.digests_refused,
            programs_on_probation: self.engine.on_probation(),
            drifted: self.engine.drifted().cloned().collect(),
            sent: stats.sent,
            records: stats.received,
            lost: stats.lost,
            windows_overdue: stats.overdue,
            stands_still: self.watchdog.still.names().into_iter().map(str::to_owned).collect(),
            alerts,
            suppressed,
            blocks: self.reporter.tally.blocks,
            unread: self.unread(),
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
            model: self.engine.model_id().to_owned(),
            budget: self.engine.promise(),
            told_today: self.engine.told_today(),
            hooks: self.hooks(),
            maintenance: self.orders.maintenance.clone(),
            muted: self.orders.muted.len(),
            recorder_bytes: recorded.bytes,
            recorder_dropped: recorded.dropped,
            recorder_forgotten: recorded.forgotten,
            events_per_second: self.pulse.events_per_second(),
            cost: self.governor.as_ref().map(Governor::told),
            kubernetes: self.kubernetes.as_ref().map(Kubernetes::now),
            modes: None,
            workloads: Vec::new(),
            workloads_more: 0,
        }
    }

    fn hooks(&self) -> Vec<Hook> {
        let hooks = self.sensor.hooks().into_iter().filter(|status| status.proof != Proof::Absent);
        let hooks = hooks.map(|status| Hook {
            hook: format!("{:?}", status.hook),
            proof: format!("{:?}", status.proof),
        });
        hooks.collect()
    }

    /// Owners whose files are not read, because one took too long.
    fn unread(&self) -> Vec<String> {
        let mut unread = self.sensor.refusals().refused();
        unread.extend(self.actor.unread());
        unread.extend(self.reporter.outlets().refusals().refused());
        unread.sort();
        unread.dedup();
        unread
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
