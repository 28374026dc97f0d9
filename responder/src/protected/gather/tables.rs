//! Addresses in the words of procfs, resolvers and DHCP clients. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Protected, whole};

/// Local addresses of `/proc/net/fib_trie`: a leaf line `|-- ADDRESS` with a `/32 host LOCAL` below.
pub(super) fn own_v4(text: &str) -> Vec<Protected> {
    let mut leaf: Option<Ipv4Addr> = None;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line.starts_with("/32 host LOCAL") {
            found.extend(leaf.map(|address| whole(address.into(), "an own address")));
        }
    }
    found
}

/// `/proc/net/if_inet6`: 32 hex digits head each line.
pub(super) fn own_v6(text: &str) -> Vec<Protected> {
    let address = |line: &str| hex_v6(line.split(' ').next()?);
    text.lines().filter_map(address).map(|a| whole(a.into(), "an own address")).collect()
}

/// `/proc/net/route`: interface, destination, gateway (hex in host order) ...
pub(super) fn gateways_v4(text: &str) -> Vec<Protected> {
    let gateway = |line: &str| {
        let raw = u32::from_str_radix(line.split_whitespace().nth(2)?, 16).ok()?;
        (raw != 0).then(|| Ipv4Addr::from(raw.to_ne_bytes()))
    };
    text.lines().skip(1).filter_map(gateway).map(|a| whole(a.into(), "a gateway")).collect()
}

/// `/proc/net/ipv6_route`: destination, length, source, length, next hop ...
pub(super) fn gateways_v6(text: &str) -> Vec<Protected> {
    let gateway = |line: &str| {
        let address = hex_v6(line.split_whitespace().nth(4)?)?;
        (!address.is_unspecified()).then_some(address)
    };
    text.lines().filter_map(gateway).map(|a| whole(a.into(), "a gateway")).collect()
}

fn hex_v6(digits: &str) -> Option<Ipv6Addr> {
    (digits.len() == 32).then_some(())?;
    u128::from_str_radix(digits, 16).ok().map(Ipv6Addr::from_bits)
}

pub(super) fn resolvers(text: &str) -> Vec<Protected> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then_some(())?;
        let address = words.next()?;
        address.split('%').next()?.parse().ok()
    };
    text.lines().filter_map(server).map(|address| whole(address, "a resolver")).collect()
}

/// Leases of systemd-networkd (`SERVER_ADDRESS=`), dhclient (`dhcp-server-identifier`) and
/// NetworkManager's internal client (`SERVER_ADDRESS=`).
pub(super) fn dhcp_servers(text: &str) -> Vec<Protected> {
    let server = |line: &str| {
        let line = line.trim().trim_end_matches(';');
        let address = line
            .strip_prefix("SERVER_ADDRESS=")
            .or_else(|| line.strip_prefix("option dhcp-server-identifier "))?;
        address.parse().ok()
    };
    text.lines().filter_map(server).map(|address| whole(address, "the DHCP server")).collect()
}

#[cfg(test)]
pub(super) fn addresses(found: &[Protected]) -> Vec<String> {
    found.iter().map(|(address, length, _)| format!("{address}/{length}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn procfs_tables_are_read() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.2.0\n        /24 link UNICAST\n\
                    Local:\n        |-- 10.0.2.15\n           /32 host LOCAL\n\
                    |-- 10.0.2.255\n           /32 link BROADCAST\n";
        assert_eq!(addresses(&own_v4(trie)), ["10.0.2.15/32"]);
        let v6 = "fe80000000000000505400fffe123456 02 40 20 80     eth0\n";
        assert_eq!(addresses(&own_v6(v6)), ["fe80::5054:ff:fe12:3456/128"]);
        let route = "Iface\tDestination\tGateway \tFlags\n\
                     eth0\t00000000\t0202000A\t0003\t0\n\
                     eth0\t0002000A\t00000000\t0001\t0\n";
        assert_eq!(addresses(&gateways_v4(route)), ["10.0.2.2/32"]);
        let zeros = "0".repeat(32);
        let route = format!(
            "{zeros} 00 {zeros} 00 fe800000000000000000000000000002 00000400 0 0 0 eth0\n\
             {zeros} 00 {zeros} 00 {zeros} ffffffff 0 0 0 lo\n"
        );
        assert_eq!(addresses(&gateways_v6(&route)), ["fe80::2/128"]);
    }

    #[test]
    fn resolvers_and_leases_are_read() {
        let text = "# nameserver 192.0.2.1\nnameserver 10.0.2.3\nnameserver fe80::3%eth0\n";
        assert_eq!(addresses(&resolvers(text)), ["10.0.2.3/32", "fe80::3/128"]);
        let lease = "lease {\n  option dhcp-server-identifier 10.0.2.2;\n}\n";
        assert_eq!(addresses(&dhcp_servers(lease)), ["10.0.2.2/32"]);
        assert_eq!(addresses(&dhcp_servers("SERVER_ADDRESS=10.0.2.9\n")), ["10.0.2.9/32"]);
    }
}
