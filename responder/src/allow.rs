//! What is let through before any entry is looked at. Pure.

use hedgerow_event::Target;

use crate::{Refusal, target::mask};

/// Masks and checks an allowance: as for entries, but of any width except everything.
///
/// # Errors
/// A task tree, a peer for one program, or `/0`.
pub(crate) fn canonical(target: Target) -> Result<Target, Refusal> {
    let bad = |what: &str| Err(Refusal::BadTarget(what.to_owned()));
    match target {
        Target::Peer { address, prefix_length, cgroup_id, program_id } => {
            let (address, prefix_length) = match (address.to_canonical(), address) {
                (canonical, given) if canonical.is_ipv4() && given.is_ipv6() => {
                    (canonical, prefix_length.saturating_sub(96))
                }
                (canonical, _) => (canonical, prefix_length),
            };
            if program_id != 0 {
                return bad("an address is allowed for a cgroup or for all, not for a program");
            }
            if prefix_length == 0 || prefix_length > if address.is_ipv4() { 32 } else { 128 } {
                return bad("the prefix is everything, or longer than the address");
            }
            let address = mask(address, prefix_length);
            Ok(Target::Peer { address, prefix_length, cgroup_id, program_id })
        }
        Target::TaskTree { .. } => bad("a task tree can't be allowed"),
        Target::Cgroup { cgroup_id: 0, .. } | Target::Program { cgroup_id: 0, .. } => {
            bad("no cgroup")
        }
        other => Ok(other),
    }
}
