//! What a window adds up for one subject: bounded, and mergeable in any order.

mod calls;
mod files;
mod flows;
mod processes;

use std::sync::Arc;

pub use calls::CallCounts;
pub use files::FileCounts;
pub use flows::FlowCounts;
use hedgerow_event::{Event, HostCounters, Loss, Origin, Program, Subject};
pub use processes::ProcessCounts;

use crate::{item::ItemKey, sketch::Sketch};

/// Everything that one subject did in one window. Two of them merge into the accumulator of all
/// their events, whichever came first; only the name (`subject`) is the receiver's.
#[derive(Debug, Clone, PartialEq)]
pub struct Accumulator {
    pub subject: Arc<Subject>,
    /// Programs counted in here: the subject's own, and those merged into it.
    pub programs: Sketch,
    /// A hard signal was seen; never merged into `other`.
    pub hard: bool,
    /// Events counted here, each of them once.
    pub records: u64,
    pub loss: Loss,
    pub calls: CallCounts,
    pub processes: ProcessCounts,
    pub files: FileCounts,
    pub flows: FlowCounts,
    /// Only the host subject has them.
    pub host: Option<HostCounts>,
}

/// The host-wide part of the host subject's window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostCounts {
    pub counters: HostCounters,
    /// Subjects that were active, summed over the window's epochs.
    pub subjects: u64,
    /// Subjects of the window that were merged into their workload's `other`.
    pub merged: u64,
}

impl Accumulator {
    pub fn new(subject: Arc<Subject>, key: ItemKey) -> Self {
        let mut programs = Sketch::default();
        if names_a_program(&subject.program) {
            programs.add(key.program(&subject.program), 1);
        }
        Self {
            subject,
            programs,
            hard: false,
            records: 0,
            loss: Loss::default(),
            calls: CallCounts::default(),
            processes: ProcessCounts::default(),
            files: FileCounts::default(),
            flows: FlowCounts::default(),
            host: None,
        }
    }

    /// Adds an event whose actor is this subject.
    pub fn observe(&mut self, event: &Event, key: ItemKey) {
        self.records += 1;
        match &event.origin {
            Origin::Row(row) => {
                self.loss.lost += row.lost;
                self.loss.limited += row.limited;
                self.calls.observe(&event.actor, row, key);
            }
            Origin::Exec(exec) => {
                self.hard |= exec.memory || exec.writable || exec.privileged || exec.replaced;
                self.processes.observe_exec(&event.actor, exec, key);
            }
            Origin::Fork(fork) => self.processes.observe_fork(fork),
            Origin::Exit(exit) => self.processes.observe_exit(exit),
            Origin::Call(call) => self.files.observe(call, key),
            Origin::Flow(flow) => self.flows.observe(flow, event.time_boot_ns, key),
            Origin::Signal(_) => self.hard = true,
            // Rows have counted it.
            Origin::Raw(_) => {}
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.programs.merge(&other.programs);
        self.hard |= other.hard;
        self.records += other.records;
        self.loss.add(other.loss);
        self.calls.merge(&other.calls);
        self.processes.merge(&other.processes);
        self.files.merge(&other.files);
        self.flows.merge(&other.flows);
        if let Some(theirs) = &other.host {
            self.host.get_or_insert_default().merge(theirs);
        }
    }
}

impl HostCounts {
    fn merge(&mut self, other: &Self) {
        let add = |mine: &mut Option<u64>, theirs: Option<u64>| {
            if let Some(theirs) = theirs {
                *mine = Some(mine.unwrap_or(0) + theirs);
            }
        };
        let (mine, theirs) = (&mut self.counters, &other.counters);
        add(&mut mine.syn_cookies, theirs.syn_cookies);
        add(&mut mine.listen_overflows, theirs.listen_overflows);
        add(&mut mine.closed_ports, theirs.closed_ports);
        add(&mut mine.icmp_in, theirs.icmp_in);
        add(&mut mine.udp_in, theirs.udp_in);
        add(&mut mine.tcp_in_segments, theirs.tcp_in_segments);
        add(&mut mine.packets_in, theirs.packets_in);
        self.subjects += other.subjects;
        self.merged += other.merged;
    }
}

/// `(other)`, `(kernel)`, `(unknown)` and `(kernel thread)` name no program.
pub(crate) fn names_a_program(program: &Program) -> bool {
    !program.path.starts_with('(')
}
