//! Network Remediation Activity (class 7004) for peers, Process Remediation Activity (7003) for
//! programs, tasks, cgroups and users.

use hedgerow_event::{Action, Level, Mode, Remediation, Target};
use serde::{Deserialize, Serialize};

use super::object::{ConnectionInfo, Observable, OcsfProcess, Outcome, User};
use super::{Base, Class, Head, milliseconds};

const CATEGORY: (u32, &str) = (7, "Remediation");
const PROCESS: Class = Class {
    uid: 7003,
    name: "Process Remediation Activity",
    category_uid: CATEGORY.0,
    category_name: CATEGORY.1,
};
const NETWORK: Class = Class {
    uid: 7004,
    name: "Network Remediation Activity",
    category_uid: CATEGORY.0,
    category_name: CATEGORY.1,
};

const PROFILES: &[&str] = &["host", "security_control"];

/// An event of either class: `connection_info` is set for peers, `process` for all else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemediationActivity {
    #[serde(flatten)]
    pub base: Base,
    /// Identifies the deny entry; the same for its block and its unblock.
    pub command_uid: String,
    pub status_id: u8,
    pub status: String,
    #[serde(flatten)]
    pub outcome: Outcome,
    pub countermeasures: Vec<Countermeasure>,
    pub remediation: Description,
    pub firewall_rule: FirewallRule,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_info: Option<ConnectionInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<OcsfProcess>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observables: Vec<Observable>,
    pub unmapped: Unmapped,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    pub desc: String,
}

/// The deny entry: `condition` is its target, `duration` its life in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FirewallRule {
    pub uid: String,
    pub name: String,
    pub condition: String,
    pub desc: String,
    pub duration: i64,
}

/// A countermeasure in the terms of MITRE D3FEND.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Countermeasure {
    pub d3f_tactic: D3fend,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub d3f_technique: Option<D3fend>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct D3fend {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unmapped {
    pub remediation: Remediation,
}

/// D3FEND's tactics, which the schema takes as activities.
#[derive(Clone, Copy)]
enum Tactic {
    Isolate,
    Evict,
    Restore,
}

impl Tactic {
    fn of(remediation: &Remediation) -> Self {
        match (remediation.action, remediation.level) {
            (Action::Unblock, _) => Self::Restore,
            (Action::Block, Level::Prevents | Level::PreventsNetwork | Level::Counts) => {
                Self::Isolate
            }
            (Action::Block, Level::KillsBeforeFirstInstruction | Level::KillsOneCallLate) => {
                Self::Evict
            }
        }
    }

    fn activity(self) -> (u8, &'static str) {
        match self {
            Self::Isolate => (1, "Isolate"),
            Self::Evict => (2, "Evict"),
            Self::Restore => (3, "Restore"),
        }
    }

    fn countermeasure(self, network: bool) -> Countermeasure {
        let technique = match (self, network) {
            (Self::Isolate | Self::Evict, true) => Some(("D3-NTF", "Network Traffic Filtering")),
            (Self::Isolate, false) => Some(("D3-KBPI", "Kernel-based Process Isolation")),
            (Self::Evict, false) => Some(("D3-PT", "Process Termination")),
            (Self::Restore, true) => Some(("D3-RNA", "Restore Network Access")),
            (Self::Restore, false) => None,
        };
        Countermeasure {
            d3f_tactic: D3fend { uid: None, name: self.activity().1.into() },
            d3f_technique: technique
                .map(|(uid, name)| D3fend { uid: Some(uid.into()), name: name.into() }),
        }
    }
}

/// Encodes a block or an unblock as an OCSF remediation activity.
#[must_use]
pub fn remediation_to_ocsf(remediation: &Remediation) -> RemediationActivity {
    let network = matches!(remediation.target, Target::Peer { .. });
    let tactic = Tactic::of(remediation);
    let verb = match remediation.action {
        Action::Block => "block",
        Action::Unblock => "unblock",
    };
    let message = format!("{verb} {} ({})", remediation.target, remediation.mode);
    let class = if network { NETWORK } else { PROCESS };
    RemediationActivity {
        base: class.base(Head {
            activity: tactic.activity(),
            severity: (1, "Informational"),
            time_ns: remediation.time_ns,
            message,
            uid: remediation.report_uid(),
            correlation_uid: remediation.finding_uid.clone(),
            sequence: None,
            host_id: &remediation.host_id,
            boot_id: None,
            profiles: PROFILES,
        }),
        command_uid: remediation.uid.clone(),
        status_id: 1,
        status: "Success".into(),
        outcome: outcome(remediation),
        countermeasures: vec![tactic.countermeasure(network)],
        remediation: Description { desc: remediation.reason.clone() },
        firewall_rule: FirewallRule {
            uid: remediation.uid.clone(),
            name: "Hedgerow deny entry".into(),
            condition: remediation.target.to_string(),
            desc: remediation.reason.clone(),
            duration: milliseconds(remediation.expires_ns.saturating_sub(remediation.time_ns))
                .max(0),
        },
        connection_info: connection_info(&remediation.target),
        process: process(&remediation.target),
        observables: observables(&remediation.target),
        unmapped: Unmapped { remediation: remediation.clone() },
    }
}

/// Only an enforced entry that really refuses is *denied*; a counting one is *observed*.
fn outcome(remediation: &Remediation) -> Outcome {
    let enforced = remediation.mode == Mode::Enforce && remediation.level != Level::Counts;
    match (remediation.action, enforced) {
        (Action::Block, true) => Outcome::denied(),
        (Action::Block, false) => Outcome::observed(),
        (Action::Unblock, _) => Outcome::allowed(),
    }
}

fn connection_info(target: &Target) -> Option<ConnectionInfo> {
    let Target::Peer { address, .. } = target else { return None };
    Some(ConnectionInfo::with(*address))
}

/// The class has no file, no cgroup and no user of its own: a program's, cgroup's or user's processes are one
/// process without a number, whose `uid` (`any:CGROUP` with the file's device, inode and generation, or
/// `any:user:UID`) says which.
fn process(target: &Target) -> Option<OcsfProcess> {
    match target {
        Target::Peer { .. } => None,
        Target::TaskTree { tgid, start_boot_ns } => Some(OcsfProcess::task(*tgid, *start_boot_ns)),
        Target::Program { cgroup_id, file, path, .. } => {
            let uid = format!("any:{cgroup_id}:{}:{}:{}", file.device, file.inode, file.generation);
            Some(OcsfProcess { uid: Some(uid), ..OcsfProcess::program(path) })
        }
        Target::Cgroup { cgroup_id, path } => {
            Some(OcsfProcess::any(format!("any:{cgroup_id}"), path))
        }
        Target::User { uid } => {
            let user = Some(User { uid: uid.to_string(), name: None });
            let any = OcsfProcess::any(format!("any:user:{uid}"), &format!("user {uid}"));
            Some(OcsfProcess { user, ..any })
        }
    }
}

fn observables(target: &Target) -> Vec<Observable> {
    match target {
        Target::Peer { address, .. } => {
            vec![Observable::address("unmapped.remediation.target.address", address.to_string())]
        }
        _ => Vec::new(),
    }
}
