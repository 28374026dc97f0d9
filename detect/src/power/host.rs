//! What would be told of the host as a whole: no program of a workload does it.

use hedgerow_event::{Deed, HostCounters, Program, Subject, Workload};

use super::{DeedPower, Miss, trial::Trial};
use crate::Engine;

/// Connections that nobody took: a scan of every port, a small flood.
const UNTAKEN: u64 = 100_000;
const HOW: &str = "100,000 connections";

impl Engine {
    /// Floods and scans from outside, by the kernel's own counters, and what is done to Hedgerow
    /// itself, which is told whatever the budget says.
    pub(super) fn power_of_host(&self, now_boot_ns: Option<u64>) -> Vec<DeedPower> {
        vec![flood(&mut Trial::new(self, now_boot_ns)), of(Deed::Tampered, None)]
    }
}

fn of(deed: Deed, miss: Option<Miss>) -> DeedPower {
    DeedPower {
        deed,
        class: deed.class(),
        alerts: miss.is_none(),
        tried: 1,
        missed: usize::from(miss.is_some()),
        misses: miss.into_iter().collect(),
    }
}

fn flood(trial: &mut Trial<'_>) -> DeedPower {
    let deed = Deed::Flood;
    let counters = HostCounters { closed_ports: Some(UNTAKEN), ..HostCounters::default() };
    let judged = trial.judge_counters(&counters);
    let miss = judged.told.is_none().then(|| {
        let nats = judged.nats.get(&deed.class()).copied().unwrap_or_default();
        let context = trial.engine.context(&Subject::host());
        Miss {
            program: Program::new(Subject::KERNEL),
            how: HOW.into(),
            why: trial.why(None, deed, &judged),
            nats,
            floor: trial
                .engine
                .floors
                .floor_for(deed.class(), &Workload::host())
                .min(crate::said::finding::NO_FLOOR),
            per_hour: trial.engine.rates.per_hour(deed, &context, 0.0),
            with: Vec::new(),
        }
    });
    of(deed, miss)
}
