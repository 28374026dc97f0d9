//! What is asked and answered: the same types on both ends.

#[cfg(test)]
pub mod examples;

use std::{collections::BTreeSet, path::PathBuf};

use hedgerow_detect::{Phase, surprise::floors::Promise};
use hedgerow_event::{Finding, Maturity, Mode, Object, Remediation, Target, Workload};
use hedgerow_responder::{By, hold::Hold};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::cli::Prefix;

/// A request with the answer that it gets.
pub trait Ask: Clone + Into<Request> {
    type Answer: Serialize + DeserializeOwned;
}

macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident -> $answer:ty;)*) => {
        /// What a command asks of the daemon.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "request", rename_all = "snake_case")]
        pub enum Request {
            $($(#[$doc])* $name($name),)*
        }

        $(impl Ask for $name {
            type Answer = $answer;
        }

        impl From<$name> for Request {
            fn from(asked: $name) -> Self {
                Self::$name(asked)
            }
        })*
    };
}

requests! {
    /// One screen of health.
    GetStatus -> Status;
    /// What is live and what waits.
    GetEntries -> Entries;
    /// Refuse something, or say what that would do.
    Deny -> Denied;
    /// Lift or withdraw entries.
    Remove -> Removed;
    /// Never refuse a peer, or let it be refused again.
    Allow -> Allowances;
    /// What is never refused.
    GetAllowed -> Allowances;
    /// How far the responder may go.
    GetModes -> Modes;
    SetMode -> Modes;
    /// End `disarm`.
    Arm -> Armed;
    /// No automatic denial and no learning for a while.
    Maintain -> Maintenances;
    /// A word on a finding.
    Judge -> Judged;
    /// Save the model now, to work out what it would miss.
    GetModel -> ModelNow;
    /// The program that asks, which is the daemon's own, loads probes for a moment: no deed of its.
    Probe -> Probing;
}

impl Request {
    /// Whether it changes nothing, and tells nothing of what would go unseen.
    pub fn only_reads(&self) -> bool {
        match self {
            Self::GetStatus(_) | Self::GetEntries(_) | Self::GetAllowed(_) | Self::GetModes(_) => {
                true
            }
            Self::Deny(_)
            | Self::Remove(_)
            | Self::Allow(_)
            | Self::SetMode(_)
            | Self::Arm(_)
            | Self::Maintain(_)
            | Self::Judge(_)
            | Self::GetModel(_)
            | Self::Probe(_) => false,
        }
    }
}

/// Requests without anything to say: an empty object, so that unknown keys are refused.
macro_rules! empty {
    ($($name:ident)*) => {$(
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {}
    )*};
}

empty! { GetStatus GetEntries GetAllowed GetModes Arm GetModel Probe }

/// For how long that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probing {
    pub seconds: u64,
}

/// The model as it was saved for a command, which only root can read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelNow {
    pub path: PathBuf,
    /// It is in its file; else it is still being written, and is to be asked for again.
    pub written: bool,
    /// Time since boot.
    pub now_boot_ns: u64,
    /// Alerts a day that are asked for.
    pub budget_per_day: f64,
}

/// The daemon's health.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The default mode; `None` where the deny hooks can't be loaded.
    pub mode: Option<Mode>,
    pub armed: Option<bool>,
    /// Entries live and waiting.
    pub entries: usize,
    pub held: usize,
    pub phase: Phase,
    pub state: Maturity,
    /// Until scoring starts.
    pub seconds_left: u64,
    /// First uses are learned and not told for so long: the model is of an older version.
    pub relearning_seconds: u64,
    pub programs: usize,
    pub programs_refused: u64,
    /// Deeds and services that found no room.
    pub deeds_refused: u64,
    pub services_refused: u64,
    /// Process trees, cases and living processes that were forgotten for others.
    #[serde(default)]
    pub trees_forgotten: u64,
    #[serde(default)]
    pub cases_forgotten: u64,
    #[serde(default)]
    pub processes_forgotten: u64,
    /// Names of workloads that found no room.
    #[serde(default)]
    pub workloads_refused: u64,
    /// Records past their workload's share of a ring that was half full.
    #[serde(default)]
    pub shares_refused: u64,
    /// Names of processes and containers, and files of programs, that could not be asked for.
    #[serde(default)]
    pub names_refused: u64,
    #[serde(default)]
    pub digests_refused: u64,
    pub programs_on_probation: usize,
    /// Workloads that do something else than what was learned of them.
    pub drifted: Vec<Workload>,
    /// Records that the kernel sent, and that it lost.
    pub sent: u64,
    pub records: u64,
    pub lost: u64,
    /// Windows that closed although not everything of them had come.
    #[serde(default)]
    pub windows_overdue: u64,
    /// Stages that have work and get nothing done.
    #[serde(default)]
    pub stands_still: Vec<String>,
    /// Findings of this run: told, and kept without being told.
    pub alerts: u64,
    pub suppressed: u64,
    pub blocks: u64,
    /// Whose files are not read, because reading one took too long.
    pub unread: Vec<String>,
    /// Where reports go.
    #[serde(default)]
    pub sinks: Vec<SinkNow>,
    /// Findings that wait for their file, found no room in memory either, and why they wait.
    pub findings_waiting: usize,
    pub findings_unwritten: u64,
    pub findings_failure: Option<String>,
    /// The same of the ledger's lines.
    pub ledger_waiting: usize,
    pub ledger_unwritten: u64,
    pub ledger_failure: Option<String>,
    /// Reports that found no room on their way out, and lines that nobody read.
    pub untold: u64,
    pub unprinted: u64,
    /// Findings that nobody was to be told of, past their workloads' share of the log.
    #[serde(default)]
    pub left_out: u64,
    pub model: String,
    /// What the alert budget asks, expects and had, class by class.
    pub budget: Promise,
    /// Notices of the last day.
    pub told_today: usize,
    pub hooks: Vec<Hook>,
    pub maintenance: Vec<Maintenance>,
    /// Findings that are muted.
    pub muted: usize,
    /// What the flight recorder holds, and what had to make room in it.
    #[serde(default)]
    pub recorder_bytes: usize,
    #[serde(default)]
    pub recorder_dropped: u64,
    /// Processes whose tree had to be forgotten.
    #[serde(default)]
    pub recorder_forgotten: u64,
    /// Records of all workloads, in the window that closed last.
    #[serde(default)]
    pub events_per_second: f64,
    /// What it costs, where that has a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// The API of Kubernetes, where it is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesNow>,
    /// How far the responder may go, workload by workload; only where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modes: Option<Modes>,
    /// The busiest workloads, and how many more there are; only where it was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<WorkloadNow>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub workloads_more: usize,
}

/// What the daemon and its BPF programs cost, in cores and bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// What may be used, and was in the last minute.
    pub budget: Option<f64>,
    pub minute: Option<f64>,
    /// Of the last window, our threads and our programs.
    pub own: f64,
    pub bpf: f64,
    /// What may be held, and is.
    pub memory_budget: Option<u64>,
    pub memory: Option<u64>,
    /// What is not looked at, so that the budget holds.
    pub shed: Vec<String>,
    /// How often something was.
    pub sheds: u64,
}

/// How asking the API of Kubernetes fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesNow {
    pub node: String,
    /// Pods of the node that are known.
    pub pods: usize,
    /// Why the API is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<String>,
    /// The latest question that it refused, or that had no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// Wall time at which it was heard of last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_ns: Option<i64>,
    /// Pods that found no room or had no name, and questions that found none.
    pub pods_refused: u64,
    pub asks_refused: u64,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// What a workload does now: in the window of five seconds that closed last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadNow {
    pub workload: Workload,
    pub state: Maturity,
    /// Records that the kernel sent, and the system calls that they count.
    pub events_per_second: f64,
    pub calls_per_second: f64,
    /// Of its most surprising window, in nats, where one was judged last; `None` before that.
    pub surprise: Option<f64>,
}

/// How a sink fares, as of a second ago; counts are since the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkNow {
    pub name: String,
    /// The other side takes what it is given.
    pub up: bool,
    pub delivered: u64,
    /// In its queue and its spool.
    pub waiting: u64,
    pub lost: u64,
    /// Why it isn't up, or else the latest that went wrong.
    pub trouble: Option<String>,
}

/// A hook of the sensor and how sure it is that it works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    pub hook: String,
    pub proof: String,
}

/// What a daemon has live and what it holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Entries {
    pub live: Vec<Remediation>,
    pub held: Vec<Hold>,
    /// `false`: none of it acts, see `disarm`; `None` where the deny hooks can't be loaded.
    pub armed: Option<bool>,
}

/// Refuse a peer, a program or a workload: what is named together is meant together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deny {
    pub peer: Option<Prefix>,
    pub program: Option<String>,
    pub workload: Option<String>,
    /// By name or number; alone.
    #[serde(default)]
    pub user: Option<String>,
    /// Pods of this node: `NAMESPACE/NAME`, or those of a namespace that a selector of labels means.
    #[serde(default)]
    pub pod: Option<String>,
    #[serde(default)]
    pub selector: Option<String>,
    #[serde(default)]
    pub namespace: Option<String>,
    /// The program runs, and is refused the network.
    #[serde(default)]
    pub network: bool,
    pub seconds: u32,
    pub reason: Option<String>,
    /// Also what the host itself needs.
    #[serde(default)]
    pub force: bool,
    /// Change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Denied {
    /// What was installed; empty after a dry run.
    pub entries: Vec<Remediation>,
    /// What was or would be refused.
    pub targets: Vec<Target>,
    /// Of which pods that is, where some were named: `NAMESPACE/NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<String>,
    /// Workloads that used the peer lately.
    pub used_by: BTreeSet<Workload>,
    /// And others: only so many are named.
    #[serde(default)]
    pub used_by_more: bool,
}

/// Which entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// The one whose uid begins so.
    Uid(String),
    Workload(String),
    All,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    pub which: Which,
    /// They should never have been made.
    #[serde(default)]
    pub wrong: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Removed {
    pub lifted: Vec<Remediation>,
    /// Uids of what was not installed yet.
    pub withdrawn: Vec<String>,
    pub wrong: Vec<Blamed>,
}

/// What came of calling an entry wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blamed {
    pub workload: Workload,
    pub mode: Mode,
    /// Wrong entries that count now, of so many that are acceptable in 90 days.
    pub counted: usize,
    pub budget: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    pub peer: Prefix,
    pub workload: Option<String>,
    /// For this long; without it until it is taken back.
    pub seconds: Option<u64>,
    /// `false`: no longer.
    pub allowed: bool,
}

/// A peer that is never refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowance {
    pub peer: Prefix,
    /// For this workload only.
    pub workload: Option<Workload>,
    /// Wall time; `None`: until it is taken back.
    pub until_ns: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowances {
    pub allowed: Vec<Allowance>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetMode {
    pub mode: Mode,
    pub workload: Option<String>,
}

/// How far the responder may go, and what is missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Modes {
    pub mode: Mode,
    pub armed: bool,
    pub enforce_provisional: bool,
    pub halted: Option<String>,
    pub tripped: Vec<Workload>,
    pub workloads: Vec<WorkloadMode>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadMode {
    pub workload: Workload,
    /// As ordered, and whether for this workload alone.
    pub mode: Mode,
    pub own: bool,
    pub in_force: Mode,
    pub missing: Vec<String>,
    pub days: u32,
    pub hours: u32,
}

impl WorkloadMode {
    /// A mode of its own, or one that waits for what is missing: worth a line of its own.
    pub fn is_ordered(&self) -> bool {
        self.own || self.mode != self.in_force
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Armed {
    pub armed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintain {
    /// Only this workload.
    pub workload: Option<String>,
    /// For so long from now on; `None` ends it.
    pub seconds: Option<u64>,
}

/// Work of people on a workload, or on all of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    pub workload: Option<Workload>,
    /// Wall time at which it ends by itself.
    pub until_ns: i64,
    pub by: Option<By>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenances {
    pub maintenance: Vec<Maintenance>,
}

/// What an operator says of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// It was seen.
    Ack,
    /// It was an attack: its deeds are no part of the life that floors are solved over; its measures are.
    Attack,
    /// What is like it is not told for so long; it is judged and denied as before.
    Mute { seconds: u64 },
    /// It is normal here: learned and no longer reported.
    Accept,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judge {
    /// As the log of findings has it: the daemon keeps none.
    pub finding: Box<Finding>,
    pub word: Word,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    pub uid: String,
    pub word: Word,
    pub objects: Vec<Object>,
    /// Of an attack: trees of processes that were held back and no longer are; measures stay.
    #[serde(default)]
    pub taken_out: usize,
}
