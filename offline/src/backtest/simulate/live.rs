//! Entries while they stand.

use std::collections::BTreeMap;

use hedgerow_event::{Event, Level, Target};
use hedgerow_responder::entry::Entry;

use crate::{backtest::Cut, trees::ProcessKey};

pub(super) struct Live {
    pub entry: Entry,
    /// Its place in the answer.
    pub number: usize,
    pub from_boot_ns: u64,
    pub cuts: BTreeMap<(String, u32), Cut>,
}

impl Live {
    /// Whether a new flow to an address would have been refused. `line` is its process with those
    /// above it.
    pub fn refuses(&self, event: &Event, address: std::net::IpAddr, line: &[ProcessKey]) -> bool {
        match &self.entry.target {
            Target::Peer { address: denied, cgroup_id, program_id, .. } => {
                *denied == address.to_canonical()
                    && [0, event.actor.cgroup_id].contains(cgroup_id)
                    && [0, event.actor.program_id].contains(program_id)
            }
            Target::TaskTree { tgid, start_boot_ns } => line.contains(&(*tgid, *start_boot_ns)),
            Target::Cgroup { cgroup_id, .. } => *cgroup_id == event.actor.cgroup_id,
            // No finding denies a user, nor the network of a program alone.
            Target::Program { .. } | Target::User { .. } => false,
        }
    }
}

/// What every supported kernel does for a target; some do more.
pub(super) fn level(target: &Target) -> Level {
    match target {
        Target::Program { network: false, .. } => Level::KillsBeforeFirstInstruction,
        _ => Level::PreventsNetwork,
    }
}
