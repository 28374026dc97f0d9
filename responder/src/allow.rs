//! What is let through before any entry is looked at. Pure.

use hedgerow_event::Target;

use crate::{
    Refusal,
    target::{mask, plain},
};

/// No allowance is wider than these, in bits: a wider one would exempt most of what there is.
const WIDEST_V4: u8 = 8;
const WIDEST_V6: u8 = 32;

/// Masks and checks an allowance, or what is taken back of one: that may be of any width, since an
/// earlier version took it.
///
/// # Errors
/// A task tree, a peer for one program, or an address range too wide.
pub(crate) fn canonical(target: Target, allowed: bool) -> Result<Target, Refusal> {
    let bad = |what: &str| Err(Refusal::BadTarget(what.to_owned()));
    match target {
        Target::Peer { address, prefix_length, cgroup_id, program_id } => {
            let (address, prefix_length) = match (plain(address), address) {
                (canonical, given) if canonical.is_ipv4() && given.is_ipv6() => {
                    (canonical, prefix_length.saturating_sub(96))
                }
                (canonical, _) => (canonical, prefix_length),
            };
            if program_id != 0 {
                return bad("an address is allowed for a cgroup or for all, not for a program");
            }
            let (bits, narrowest) =
                if address.is_ipv4() { (32, WIDEST_V4) } else { (128, WIDEST_V6) };
            if prefix_length > bits {
                return bad("the prefix is longer than the address");
            }
            if allowed && prefix_length < narrowest {
                return Err(Refusal::TooWide { length: prefix_length, narrowest });
            }
            let address = mask(address, prefix_length);
            Ok(Target::Peer { address, prefix_length, cgroup_id, program_id })
        }
        Target::TaskTree { .. } => bad("a task tree can't be allowed"),
        Target::User { .. } => bad("a user can't be allowed"),
        Target::Program { network: true, .. } => bad("a program is allowed as a whole"),
        Target::Cgroup { cgroup_id: 0, .. } | Target::Program { cgroup_id: 0, .. } => {
            bad("no cgroup")
        }
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn peer(address: &str, prefix_length: u8) -> Target {
        let address = address.parse().unwrap();
        Target::Peer { address, prefix_length, cgroup_id: 0, program_id: 0 }
    }

    #[test]
    fn no_allowance_exempts_most_of_the_world_but_an_old_one_can_be_taken_back() {
        for (address, length) in
            [("0.0.0.0", 0), ("0.0.0.0", 1), ("10.0.0.0", 7), ("::", 0), ("2001::", 31)]
        {
            let refused = canonical(peer(address, length), true);
            assert!(matches!(refused, Err(Refusal::TooWide { .. })), "{address}/{length}");
            assert!(canonical(peer(address, length), false).is_ok(), "{address}/{length}");
        }
        assert!(canonical(peer("::ffff:0:0", 96), true).is_err(), "all of IPv4");
        assert_eq!(canonical(peer("10.1.2.3", 8), true).unwrap(), peer("10.0.0.0", 8));
        assert_eq!(canonical(peer("2001:db8::1", 32), true).unwrap(), peer("2001:db8::", 32));
    }
}
