//! What is decided and done: targets, verdicts, remediations.

use std::{fmt, net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{Deed, Object, Peer, Subject};

/// How far a workload's responder may go.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing is installed.
    #[default]
    Observe,
    /// Entries are installed and their hits counted; nothing is refused.
    Monitor,
    /// The kernel refuses.
    Enforce,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Observe => "observe",
            Self::Monitor => "monitor",
            Self::Enforce => "enforce",
        })
    }
}

/// The kernel's cache key of a program's file: the *real* inode (below overlayfs), without `ctime`
/// and script, as deny entries use it.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct FileKey {
    /// Kernel-internal `dev_t` (`super_block::s_dev`), not `stat`'s.
    pub device: u64,
    pub inode: u64,
    pub generation: u32,
}

/// Least surprise of a process tree that a denial may rest on, in nats: expected once in four months
/// at most. Fixed: neither the alert budget nor feedback moves it.
pub const DENIAL_NATS: f64 = 8.0;

/// What a denial may rest on, gathered from complete windows and kernel-owned copies.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// How surprising the offender's process tree is, in nats.
    pub surprise: f64,
    /// The deeds that this is the sum of, one of each aspect.
    pub deeds: Vec<Deed>,
    /// No record of the offender's own threads is lost or late.
    pub complete: bool,
    /// Every fact below comes from kernel-owned copies, none is claimed.
    pub kernel_owned: bool,
    pub objects: Vec<Object>,
    pub subject: Arc<Subject>,
    /// The offending process; names a task tree.
    pub tgid: u32,
    pub start_boot_ns: u64,
    pub cgroup_id: u64,
    pub program_id: u64,
    pub file: Option<FileKey>,
    /// Its path is what it says, see [`crate::Exec::of_host`]; `None` where its exec was not seen.
    pub of_host: Option<bool>,
    /// The peer that the offending process used, where the object is one.
    pub peer: Option<Peer>,
    /// User id of the process, and a login uid where one is set.
    pub uid: u32,
    pub login_uid: Option<u32>,
}

/// Whom an entry stops, narrowest first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Target {
    /// An address or prefix. With a `cgroup_id` for that cgroup and its descendants only, with a
    /// `program_id` for that program only; 0 means any.
    Peer { address: IpAddr, prefix_length: u8, cgroup_id: u64, program_id: u64 },
    /// A process and everything it forks.
    TaskTree { tgid: u32, start_boot_ns: u64 },
    /// A program's file within a workload's cgroup. With `network` it runs, and is refused the network
    /// alone; its `cgroup_id` may then be 0, which means any.
    Program {
        cgroup_id: u64,
        file: FileKey,
        path: Arc<str>,
        #[serde(default, skip_serializing_if = "is_false")]
        network: bool,
    },
    /// A cgroup with its descendants.
    Cgroup { cgroup_id: u64, path: Arc<str> },
    /// Whoever has this real user id, as the host counts: what he asks of the network, and the sockets that
    /// he made.
    User { uid: u32 },
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl Target {
    /// The cgroup that it is confined to, where it names one.
    pub fn cgroup_id(&self) -> Option<u64> {
        match self {
            Self::Peer { cgroup_id, .. }
            | Self::Program { cgroup_id, .. }
            | Self::Cgroup { cgroup_id, .. } => Some(*cgroup_id).filter(|id| *id != 0),
            Self::TaskTree { .. } | Self::User { .. } => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer { address, prefix_length, cgroup_id, program_id } => {
                write!(f, "peer {address}/{prefix_length}")?;
                if *program_id != 0 {
                    write!(f, " for program {program_id:016x}")?;
                }
                if *cgroup_id != 0 {
                    write!(f, " in cgroup {cgroup_id}")?;
                }
                Ok(())
            }
            Self::TaskTree { tgid, .. } => write!(f, "task tree of process {tgid}"),
            Self::Program { path, cgroup_id, network, .. } => {
                let of = if *network { "network of " } else { "" };
                write!(f, "{of}program {path}")?;
                if *cgroup_id != 0 {
                    write!(f, " in cgroup {cgroup_id}")?;
                }
                Ok(())
            }
            Self::Cgroup { path, .. } => write!(f, "cgroup {path}"),
            Self::User { uid } => write!(f, "user {uid}"),
        }
    }
}

/// Why an entry exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// A new program under its workload used a new peer.
    NewProgramNewPeer,
    /// A program ran from memory or a writable place.
    ExecUntrusted,
    /// A process changed its privileges.
    PrivilegeChange,
    /// A deed that is grave by itself, with another.
    GraveDeed,
    /// An operator said so.
    Operator,
}

/// What the kernel does for a target, told truthfully.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The operation is refused.
    Prevents,
    /// Every call and packet of IPv4 and IPv6 that the target could reach the network by is refused.
    /// Files, programs, local sockets, and where LSM programs don't load other families, are not.
    PreventsNetwork,
    /// A new image dies before its first instruction.
    KillsBeforeFirstInstruction,
    /// The process dies after the call that was noticed.
    KillsOneCallLate,
    /// Nothing is refused; hits are counted.
    Counts,
}

/// The policy's answer to one finding: pure data, acted on by the responder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Report only, with the reason for not acting.
    Report { reason: String },
    /// Install an entry for `seconds`, extended while it is hit.
    Deny { target: Target, rule: Rule, seconds: u32, reason: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Block,
    Unblock,
}

/// One block or unblock, as the ledger and the sinks carry it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remediation {
    /// Identifies the entry; the same for its block and its unblock.
    pub uid: String,
    /// The finding that led here; `None` for an operator's entry.
    pub finding_uid: Option<String>,
    pub action: Action,
    pub target: Target,
    pub subject: Option<Arc<Subject>>,
    pub rule: Rule,
    pub mode: Mode,
    pub level: Level,
    pub host_id: String,
    /// Wall time, Unix nanoseconds.
    pub time_ns: i64,
    /// When the entry expires by itself, Unix nanoseconds.
    pub expires_ns: i64,
    pub hits: u64,
    /// Established sockets that were cut.
    pub sockets_destroyed: u32,
    pub reason: String,
}

impl Remediation {
    /// The id by which consumers deduplicate: unique for each report.
    pub fn report_uid(&self) -> String {
        let action = match self.action {
            Action::Block => 1,
            Action::Unblock => 2,
        };
        format!("{}-{action}-{}", self.uid, self.time_ns)
    }
}
