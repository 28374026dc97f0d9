//! Whom of a tree the responder was asked about, and when. What it makes of a question is over after a
//! while: who does it again then is asked about again, and so is who calls another peer.

use std::{collections::BTreeMap, net::IpAddr};

use hedgerow_event::Evidence;

use super::tree::{Tree, key};
use crate::{lineage::ProcessKey, objects::Witness};

/// An entry that nobody tries lives for so long.
const AGAIN_NS: u64 = 60_000_000_000;
/// Peers of one process that are asked about within that time: the second costs it its network.
const PEERS_MAX: usize = 2;
/// Processes of a tree, and calls, that are remembered; past them the ones asked about longest ago go.
const PROCESSES_MAX: usize = 256;
const CALLS_MAX: usize = 512;

/// A program within a cgroup, and the address that it called: what an entry for a peer names.
type Called = (u64, u64, IpAddr);

/// What was asked about a process.
#[derive(Debug, Clone, Default)]
struct Process {
    /// How much spoke for it by then.
    grounds: usize,
    /// When it was last asked about.
    last_boot_ns: u64,
    /// With which calls it was last, newest last.
    peers: Vec<(Called, u64)>,
}

/// The questions about one tree.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    processes: BTreeMap<ProcessKey, Process>,
    /// When each call was asked about, by whose it was; other calls that the process had made by then
    /// count as asked about with it.
    calls: BTreeMap<(Called, ProcessKey), u64>,
}

fn called(witness: &Witness) -> Option<Called> {
    witness.peer.map(|peer| (witness.program_id, witness.cgroup_id, peer.address))
}

fn is_over(witness: &Witness, asked_boot_ns: u64) -> bool {
    witness.time_boot_ns >= asked_boot_ns.saturating_add(AGAIN_NS)
}

impl Asked {
    /// Whether it was asked about a process at any time.
    pub fn knows(&self, process: ProcessKey) -> bool {
        self.processes.contains_key(&process)
    }

    /// How much spoke for a question when a process was last asked about.
    pub fn grounds(&self, process: ProcessKey) -> Option<usize> {
        self.processes.get(&process).map(|of| of.grounds)
    }

    /// Who was asked about calls a peer that nobody was asked about with it.
    pub fn is_next(&self, witness: &Witness) -> bool {
        let by = key(witness);
        let new = |called| !self.calls.contains_key(&(called, by));
        self.knows(by) && called(witness).is_some_and(new)
    }

    /// It is to be asked about: a further peer, or what was done once more after what came of asking was
    /// over. What one program calls is the same for each of its processes.
    pub fn is_due(&self, witness: &Witness) -> bool {
        let by = key(witness);
        match (self.processes.get(&by), called(witness)) {
            (Some(of), None) => is_over(witness, of.last_boot_ns),
            (Some(_), Some(called)) => {
                self.calls.get(&(called, by)).is_none_or(|last| is_over(witness, *last))
            }
            (None, Some(called)) => {
                let of_program = (called, ProcessKey::default())..=(called, (u32::MAX, u64::MAX));
                let last = self.calls.range(of_program).map(|(_, last)| *last).max();
                last.is_some_and(|last| is_over(witness, last))
            }
            (None, None) => false,
        }
    }

    /// Whether a process may be asked about with one more peer now.
    pub fn has_room(&self, process: ProcessKey, now_boot_ns: u64) -> bool {
        let peers = self.processes.get(&process).map_or(&[][..], |of| &of.peers);
        peers.iter().filter(|(_, time)| time + AGAIN_NS > now_boot_ns).count() < PEERS_MAX
    }

    /// Notes a question about a process and one of its calls.
    pub fn note(&mut self, witness: &Witness, now_boot_ns: u64) {
        let of = self.processes.entry(key(witness)).or_default();
        of.last_boot_ns = now_boot_ns;
        if let Some(called) = called(witness) {
            of.peers.retain(|(other, _)| *other != called);
            if of.peers.len() >= PEERS_MAX {
                of.peers.remove(0);
            }
            of.peers.push((called, now_boot_ns));
        }
        self.note_call(witness, now_boot_ns);
        while self.processes.len() > PROCESSES_MAX {
            let oldest = self.processes.iter().min_by_key(|(_, of)| of.last_boot_ns);
            let Some(oldest) = oldest.map(|(process, _)| *process) else { break };
            self.processes.remove(&oldest);
        }
    }

    /// Notes that a call was part of one.
    pub fn note_call(&mut self, witness: &Witness, now_boot_ns: u64) {
        let Some(called) = called(witness) else { return };
        self.calls.insert((called, key(witness)), now_boot_ns);
        while self.calls.len() > CALLS_MAX {
            let oldest = self.calls.iter().min_by_key(|(_, time)| **time);
            let Some(oldest) = oldest.map(|(call, _)| *call) else { break };
            self.calls.remove(&oldest);
        }
    }

    /// Notes what the responder was asked, with all that its processes did by now.
    pub fn note_all(&mut self, tree: &Tree, evidence: &[Evidence], now_boot_ns: u64) {
        let own = tree.by_process();
        for of in evidence {
            let process = (of.tgid, of.start_boot_ns);
            let Some(own) = own.get(&process) else { continue };
            let witnesses: Vec<&Witness> = own.done.iter().map(|done| &done.witness).collect();
            let asked = witnesses.iter().find(|witness| witness.peer == of.peer);
            let Some(asked) = asked.or(witnesses.first()) else { continue };
            self.note(asked, now_boot_ns);
            witnesses.iter().for_each(|witness| self.note_call(witness, now_boot_ns));
            if let Some(noted) = self.processes.get_mut(&process) {
                noted.grounds = own.grounds();
            }
        }
    }
}
