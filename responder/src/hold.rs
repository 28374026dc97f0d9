//! Wide entries wait before they are installed, so that they can be withdrawn meanwhile. Pure.

use std::sync::Arc;

use hedgerow_event::{Mode, Rule, Subject, Target, Workload};
use serde::{Deserialize, Serialize};

use crate::entry::Process;

/// An automatic entry that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The uid that the entry will have.
    pub uid: String,
    pub finding_uid: Option<String>,
    pub target: Target,
    pub subject: Option<Arc<Subject>>,
    pub rule: Rule,
    /// The highest mode that the entry may act in.
    pub ceiling: Mode,
    /// How long it will live at first.
    pub seconds: u32,
    /// When it is installed, wall time; `due_boot_ns` decides.
    pub until_ns: i64,
    #[serde(skip)]
    pub(crate) due_boot_ns: u64,
    #[serde(skip)]
    pub(crate) id: u64,
    #[serde(skip)]
    pub(crate) process: Option<Process>,
    pub reason: String,
}

impl Hold {
    /// The workload whose mode and breaker it falls under.
    pub fn workload(&self) -> Workload {
        self.subject.as_deref().map_or_else(Workload::host, |subject| subject.workload.clone())
    }
}

/// A peer for one program in one workload, or a task tree: what stops so little that it needs no
/// second thought, unless a service hangs on the process. Programs, cgroups, and peers of more than one program or address are wide.
pub fn is_narrow(target: &Target) -> bool {
    match target {
        Target::TaskTree { .. } => true,
        Target::Peer { address, prefix_length, cgroup_id, program_id } => {
            let whole = if address.is_ipv4() { 32 } else { 128 };
            *prefix_length == whole && *cgroup_id != 0 && *program_id != 0
        }
        Target::Program { .. } | Target::Cgroup { .. } | Target::User { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hedgerow_event::FileKey;

    use super::*;

    fn peer(address: &str, prefix_length: u8, cgroup_id: u64, program_id: u64) -> Target {
        Target::Peer { address: address.parse().unwrap(), prefix_length, cgroup_id, program_id }
    }

    #[test]
    fn one_program_with_one_peer_and_a_task_tree_are_narrow_and_nothing_else_is() {
        assert!(is_narrow(&peer("192.0.2.1", 32, 7, 9)));
        assert!(is_narrow(&peer("2001:db8::1", 128, 7, 9)));
        assert!(is_narrow(&Target::TaskTree { tgid: 7, start_boot_ns: 9 }));
        for wide in [
            peer("192.0.2.0", 31, 7, 9),
            peer("2001:db8::", 64, 7, 9),
            peer("192.0.2.1", 32, 7, 0),
            peer("192.0.2.1", 32, 0, 9),
            Target::Program {
                cgroup_id: 7,
                file: FileKey::default(),
                path: "/x".into(),
                network: false,
            },
            Target::User { uid: 1000 },
            Target::Cgroup { cgroup_id: 7, path: "/x".into() },
        ] {
            assert!(!is_narrow(&wide), "{wide}");
        }
    }
}
