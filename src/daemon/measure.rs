//! What is published for scrapers after each window.

use std::{collections::BTreeSet, time::Instant};

use hedgerow_event::{Maturity, Workload};
use hedgerow_probe::Item;
use hedgerow_responder::{
    Responder,
    hooks::HOOKS,
    ledger::WAITING_MAX as LEDGER_MAX,
    now,
    policy::{self, Missing},
};

use crossbeam_channel::Receiver;

use super::Daemon;
use crate::metrics::{QueueLength, Snapshot, Stage, effect};

impl Daemon {
    /// Gathers and publishes, where somebody may scrape.
    pub(super) fn publish(&mut self, items: &Receiver<Item>) {
        if !self.scraped {
            return;
        }
        let begun = Instant::now();
        if let Some(responder) = &self.actor.responder {
            for entry in responder.entries() {
                self.reporter.tally.hits(&entry.uid, entry.level(), entry.hits);
            }
        }
        let snapshot = self.snapshot(items);
        self.board.publish(snapshot);
        self.board.stages.of(Stage::Publish).observe(begun.elapsed());
    }

    fn snapshot(&self, items: &Receiver<Item>) -> Snapshot {
        let tally = &self.reporter.tally;
        let responder = self.actor.responder.as_ref();
        let (workloads, unenforced) = self.sure();
        let mut entries = [0; 5];
        for entry in responder.iter().flat_map(|responder| responder.entries()) {
            entries[effect(entry.level())] += 1;
        }
        let there = |name| {
            let loaded = responder.map(|responder| responder.hooks().loaded());
            loaded.is_some_and(|loaded| loaded.iter().any(|hook| hook.name == name))
        };
        let health = self.reporter.outlets().health();
        Snapshot {
            status: self.status(),
            sensor: self.sensor.stats().unwrap_or_default(),
            hooks: self.sensor.hooks(),
            events: tally.kinds,
            windows: tally.windows,
            findings: tally.findings,
            entries,
            hits: tally.hits,
            workloads,
            unenforced,
            halted: responder.is_some_and(|responder| responder.halted(now()).is_some()),
            deny_hooks: HOOKS.iter().map(|hook| (hook.name, there(hook.name))).collect(),
            queues: self.queues(items),
            sinks: [health.findings].into_iter().chain(health.sinks).collect(),
            taken_ns: now().wall_ns,
            learned_ns: self.engine.learned_ns(),
            saved_ns: self.kept.saved_ns(),
        }
    }

    /// Workloads by how sure their learning is, and by why they can't be enforced, where anything can.
    fn sure(&self) -> ([u64; 3], [u64; 4]) {
        let (mut states, mut reasons) = ([0; 3], [0; 4]);
        let responder = self.actor.responder.as_ref();
        let mut all: BTreeSet<&Workload> = self.engine.baseline().workloads().collect();
        if let Some(responder) = responder {
            all.extend(responder.coverage().workloads());
            all.extend(responder.modes().keys());
            reasons[3] = responder.tripped().len() as u64;
        }
        let at = now().wall_ns;
        for workload in all {
            let state = self.engine.state_of_workload(workload);
            states[match state {
                Maturity::Learning => 0,
                Maturity::Provisional => 1,
                Maturity::Mature => 2,
            }] += 1;
            let coverage = responder.map(|responder| responder.coverage().of(workload, at));
            for missing in coverage.into_iter().flat_map(|seen| policy::missing(state, seen)) {
                reasons[match missing {
                    Missing::Maturity(_) => 0,
                    Missing::Days(_) => 1,
                    Missing::Hours(_) => 2,
                }] += 1;
            }
        }
        (states, reasons)
    }

    fn queues(&self, items: &Receiver<Item>) -> Vec<QueueLength> {
        let ledger = self.actor.responder.as_ref().map(Responder::ledger);
        let ledger = ledger.map(|ledger| ledger.written()).unwrap_or_default();
        let mut queues = vec![
            QueueLength {
                name: "events",
                waiting: items.len() as u64,
                most: items.capacity().unwrap_or_default() as u64,
                // The drain thread waits where it is full, and the rings fill.
                lost: 0,
            },
            QueueLength {
                name: "ledger",
                waiting: ledger.waiting as u64,
                most: LEDGER_MAX as u64,
                lost: ledger.lost,
            },
            self.uses.queue(),
        ];
        queues.extend(self.reporter.outlets().queues());
        queues
    }
}
