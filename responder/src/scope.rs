//! What the kernel must look up for a cgroup, derived from all entries and allowances. Pure.

use hedgerow_bpf::wire;
use hedgerow_event::Target;

use crate::entry::Entry;

/// The cgroup under which a target is looked up; 0 is every cgroup.
pub(crate) fn cgroup_of(target: &Target) -> Option<u64> {
    match target {
        Target::Peer { cgroup_id, .. }
        | Target::Program { cgroup_id, .. }
        | Target::Cgroup { cgroup_id, .. } => Some(*cgroup_id),
        Target::TaskTree { .. } | Target::User { .. } => None,
    }
}

/// Id of the cgroup's own entry, and flags of what else to look up.
pub(crate) fn scope<'a>(
    cgroup_id: u64,
    entries: impl Iterator<Item = &'a Entry>,
    allowed: impl Iterator<Item = &'a Target>,
) -> (u64, u32) {
    let here = |target: &&Target| cgroup_of(target) == Some(cgroup_id);
    let (mut id, mut flags) = (0, 0);
    for entry in entries.filter(|entry| here(&&entry.target)) {
        match entry.target {
            Target::Peer { program_id: 0, .. } => flags |= wire::DENY_SCOPE_PEERS,
            Target::Peer { .. } => flags |= wire::DENY_SCOPE_PROGRAM_PEERS,
            Target::Program { network: false, .. } => flags |= wire::DENY_SCOPE_PROGRAMS,
            Target::Program { .. } => flags |= wire::DENY_SCOPE_PROGRAM_NETWORKS,
            Target::Cgroup { .. } => id = entry.id,
            Target::TaskTree { .. } | Target::User { .. } => {}
        }
    }
    for target in allowed.filter(here) {
        match target {
            Target::Peer { .. } => flags |= wire::DENY_SCOPE_ALLOW_PEERS,
            Target::Program { .. } => flags |= wire::DENY_SCOPE_ALLOW_PROGRAMS,
            Target::Cgroup { .. } => flags |= wire::DENY_SCOPE_ALLOWED,
            Target::TaskTree { .. } | Target::User { .. } => {}
        }
    }
    (id, flags)
}
