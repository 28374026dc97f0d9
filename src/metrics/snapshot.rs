//! What the loop publishes after each window: plain numbers, no names that a process chose.

use hedgerow_detect::Phase;
use hedgerow_event::{Class, Level, Loss, Maturity, Origin};
use hedgerow_probe::{HookStatus, Proof, Stats};
use hedgerow_sink::SinkHealth;

use crate::{control::Status, text};

/// What a live entry does, in the order of [`Snapshot::entries`].
pub const EFFECTS: [Level; 5] = [
    Level::Prevents,
    Level::PreventsNetwork,
    Level::KillsBeforeFirstInstruction,
    Level::KillsOneCallLate,
    Level::Counts,
];

/// In the order of [`Snapshot::workloads`].
pub const STATES: [Maturity; 3] = [Maturity::Learning, Maturity::Provisional, Maturity::Mature];

/// Kinds of events, in the order of [`Snapshot::events`].
pub const KINDS: [&str; 8] = ["row", "exec", "fork", "exit", "call", "flow", "signal", "raw"];

/// Place of an event's kind in [`KINDS`].
pub fn kind(origin: &Origin) -> usize {
    match origin {
        Origin::Row(_) => 0,
        Origin::Exec(_) => 1,
        Origin::Fork(_) => 2,
        Origin::Exit(_) => 3,
        Origin::Call(_) => 4,
        Origin::Flow(_) => 5,
        Origin::Signal(_) => 6,
        Origin::Raw(_) => 7,
    }
}

/// Why a workload that is ordered to be enforced, or would be, can't; in the order of
/// [`Snapshot::unenforced`].
pub const REASONS: [&str; 4] = ["immature", "days", "hours", "breaker"];

/// Place of a level in [`EFFECTS`].
pub fn effect(level: Level) -> usize {
    EFFECTS.iter().position(|effect| *effect == level).unwrap_or(EFFECTS.len() - 1)
}

/// Place of a class in `Class::ALL`.
pub fn class(class: Class) -> usize {
    Class::ALL.iter().position(|known| *known == class).unwrap_or_default()
}

/// Closed windows of all subjects, since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Windows {
    pub closed: u64,
    /// Windows of which something is missing: they deny nothing.
    pub incomplete: u64,
    pub loss: Loss,
}

/// A bounded queue.
#[derive(Debug, Clone, Copy)]
pub struct QueueLength {
    pub name: &'static str,
    pub waiting: u64,
    pub most: u64,
    /// What found no room.
    pub lost: u64,
}

/// The daemon as of the last closed window.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub status: Status,
    pub sensor: Stats,
    pub hooks: Vec<HookStatus>,
    /// Events that the engine took, by [`KINDS`].
    pub events: [u64; KINDS.len()],
    pub windows: Windows,
    /// By class; alerted, and closed without that.
    pub findings: [[u64; 2]; 3],
    /// Live entries, and hits of all that ever were, by [`EFFECTS`].
    pub entries: [u64; 5],
    pub hits: [u64; 5],
    /// Workloads by [`STATES`].
    pub workloads: [u64; 3],
    /// Workloads by [`REASONS`].
    pub unenforced: [u64; 4],
    /// Nothing is denied automatically, because too much was wrong.
    pub halted: bool,
    /// Each deny hook, and whether this kernel has it.
    pub deny_hooks: Vec<(&'static str, bool)>,
    pub queues: Vec<QueueLength>,
    pub sinks: Vec<SinkHealth>,
    /// Wall time, Unix nanoseconds.
    pub taken_ns: i64,
    pub learned_ns: Option<i64>,
    pub saved_ns: Option<i64>,
}

impl Snapshot {
    /// Whether scoring goes on, or will.
    pub fn readiness(&self) -> Result<String, String> {
        let with = |proof| self.hooks.iter().filter(move |status| status.proof == proof);
        let gone: Vec<&str> = with(Proof::Gone).map(|status| status.hook.name()).collect();
        if !gone.is_empty() {
            return Err(format!("no longer attached: {}\n", gone.join(", ")));
        }
        let proved = with(Proof::Proved).count();
        if proved == 0 {
            return Err("no hook has shown that it runs\n".to_owned());
        }
        let status = &self.status;
        Ok(match status.phase {
            Phase::Scoring => {
                format!(
                    "scoring ({}) with model {}, {proved} hooks proved\n",
                    status.state, status.model
                )
            }
            _ => format!(
                "learning; scoring starts in {}, {proved} hooks proved\n",
                text::seconds(status.seconds_left)
            ),
        })
    }
}
