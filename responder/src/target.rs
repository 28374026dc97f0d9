//! Targets made canonical and checked for what no entry may ever be. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hedgerow_event::Target;

use crate::Refusal;

/// No entry is wider than these, in bits.
pub const NARROWEST_V4: u8 = 24;
pub const NARROWEST_V6: u8 = 64;

/// Id of the root of the cgroup v2 hierarchy.
pub(crate) const ROOT_CGROUP: u64 = 1;

/// Masks host bits, turns v4-mapped addresses into v4, and refuses what can't be meant.
///
/// # Errors
/// A prefix too wide or too long, the root cgroup, init or the kernel as a task tree, root, empty ids.
pub(crate) fn canonical(target: Target) -> Result<Target, Refusal> {
    let bad = |what: &str| Err(Refusal::BadTarget(what.to_owned()));
    match target {
        Target::Peer { address, prefix_length, cgroup_id, program_id } => {
            let (address, prefix_length) = unmap(address, prefix_length)?;
            let (bits, narrowest) =
                if address.is_ipv4() { (32, NARROWEST_V4) } else { (128, NARROWEST_V6) };
            if prefix_length > bits {
                return bad("the prefix is longer than the address");
            }
            if prefix_length < narrowest {
                return Err(Refusal::TooWide { length: prefix_length, narrowest });
            }
            let address = mask(address, prefix_length);
            Ok(Target::Peer { address, prefix_length, cgroup_id, program_id })
        }
        Target::TaskTree { tgid: 0, .. } => bad("process 0"),
        Target::TaskTree { tgid: 1, .. } => Err(Refusal::Protected("init".into())),
        Target::TaskTree { start_boot_ns: 0, .. } => bad("a process without its start time"),
        Target::Program { file, .. } if file.inode == 0 => bad("a program without its file"),
        Target::Program { cgroup_id: 0, network: false, .. }
        | Target::Cgroup { cgroup_id: 0, .. } => bad("no cgroup"),
        Target::Cgroup { cgroup_id: ROOT_CGROUP, .. } => {
            Err(Refusal::Protected("the root cgroup".into()))
        }
        Target::User { uid: 0 } => Err(Refusal::Protected("root".into())),
        other => Ok(other),
    }
}

/// One form of each address: what is mapped into IPv6, or translated from it on the way (64:ff9b::/96,
/// RFC 6052), is the IPv4 address.
pub(crate) fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => within(v6).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// The IPv4 address in the last 32 bits of one of these prefixes.
fn within(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => {
            Some(Ipv4Addr::from_bits(address.to_bits() as u32))
        }
        _ => None,
    }
}

fn unmap(address: IpAddr, length: u8) -> Result<(IpAddr, u8), Refusal> {
    match address {
        IpAddr::V6(v6) => match within(v6) {
            Some(v4) => match length.checked_sub(96) {
                Some(length) => Ok((IpAddr::V4(v4), length)),
                None => Err(Refusal::TooWide { length, narrowest: 96 + NARROWEST_V4 }),
            },
            None => Ok((address, length)),
        },
        IpAddr::V4(_) => Ok((address, length)),
    }
}

/// Clears the bits behind the prefix.
pub(crate) fn mask(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let bits = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & bits).into()
        }
        IpAddr::V6(v6) => {
            let bits = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & bits).into()
        }
    }
}

/// Both stand for the same key in the kernel.
pub(crate) fn same(a: &Target, b: &Target) -> bool {
    match (a, b) {
        (
            Target::Program { cgroup_id: a_cgroup, file: a_file, network: a_network, .. },
            Target::Program { cgroup_id: b_cgroup, file: b_file, network: b_network, .. },
        ) => (a_cgroup, a_file, a_network) == (b_cgroup, b_file, b_network),
        (Target::Cgroup { cgroup_id: a, .. }, Target::Cgroup { cgroup_id: b, .. }) => a == b,
        _ => a == b,
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
    fn prefixes_are_masked_and_never_wide() {
        assert_eq!(canonical(peer("192.0.2.77", 24)).unwrap(), peer("192.0.2.0", 24));
        assert_eq!(canonical(peer("::ffff:192.0.2.77", 128)).unwrap(), peer("192.0.2.77", 32));
        assert_eq!(canonical(peer("64:ff9b::c000:24d", 128)).unwrap(), peer("192.0.2.77", 32));
        assert!(canonical(peer("64:ff9b::", 64)).is_err(), "all of IPv4");
        assert_eq!(canonical(peer("2001:db8::77", 64)).unwrap(), peer("2001:db8::", 64));
        for (address, length) in
            [("0.0.0.0", 0), ("192.0.2.0", 23), ("::", 0), ("2001:db8::", 63), ("::ffff:0:0", 96)]
        {
            let refused = canonical(peer(address, length));
            assert!(matches!(refused, Err(Refusal::TooWide { .. })), "{address}/{length}");
        }
        for (address, length) in [("192.0.2.0", 33), ("2001:db8::", 129)] {
            let refused = canonical(peer(address, length));
            assert!(matches!(refused, Err(Refusal::BadTarget(_))), "{address}/{length}");
        }
        // 64 bits of a mapped address are the whole of IPv4.
        assert!(canonical(peer("::ffff:192.0.2.1", 64)).is_err());
    }

    #[test]
    fn init_and_the_root_cgroup_are_never_a_target() {
        assert!(canonical(Target::TaskTree { tgid: 1, start_boot_ns: 5 }).is_err());
        assert!(canonical(Target::TaskTree { tgid: 0, start_boot_ns: 5 }).is_err());
        assert!(canonical(Target::TaskTree { tgid: 9, start_boot_ns: 0 }).is_err());
        assert!(canonical(Target::Cgroup { cgroup_id: 1, path: "/".into() }).is_err());
        assert!(canonical(Target::Cgroup { cgroup_id: 0, path: "".into() }).is_err());
    }
}
