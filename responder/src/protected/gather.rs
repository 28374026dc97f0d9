//! Reads the host's addresses, gateways, resolvers and DHCP servers, in the network namespace of
//! each process that is named.

use std::{
    collections::HashSet,
    env,
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// An address to protect, with why.
pub type Protected = (IpAddr, u8, &'static str);

/// Gathers anew for the namespaces of these processes (`/proc/PID/net`); what can't be read, such as
/// a process that has gone, gives nothing. To be called about once a minute.
pub fn gather(pids: impl IntoIterator<Item = u32>) -> Vec<Protected> {
    let mut found = Vec::new();
    let mut namespaces = HashSet::new();
    for pid in pids {
        let process = Path::new("/proc").join(pid.to_string());
        if let Ok(namespace) = fs::read_link(process.join("ns/net"))
            && namespaces.insert(namespace)
        {
            let read = |name: &str| fs::read_to_string(process.join("net").join(name));
            found.extend(own_v4(&read("fib_trie").unwrap_or_default()));
            found.extend(own_v6(&read("if_inet6").unwrap_or_default()));
            found.extend(gateways_v4(&read("route").unwrap_or_default()));
            found.extend(gateways_v6(&read("ipv6_route").unwrap_or_default()));
        }
        // Resolvers depend on the mount namespace.
        if let Ok(namespace) = fs::read_link(process.join("ns/mnt"))
            && namespaces.insert(namespace)
        {
            let text = fs::read_to_string(process.join("root/etc/resolv.conf"));
            found.extend(resolvers(&text.unwrap_or_default()));
        }
    }
    for path in ["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"] {
        found.extend(resolvers(&fs::read_to_string(path).unwrap_or_default()));
    }
    for directory in ["/run/systemd/netif/leases", "/var/lib/dhcp", "/var/lib/NetworkManager"] {
        for file in fs::read_dir(directory).into_iter().flatten().flatten() {
            found.extend(dhcp_servers(&fs::read_to_string(file.path()).unwrap_or_default()));
        }
    }
    if let Some(api) = env::var("KUBERNETES_SERVICE_HOST").ok().and_then(|host| host.parse().ok()) {
        found.push(whole(api, "the cluster's API"));
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Processes of which one at least lives in each network and in each mount namespace that has any.
pub fn one_of_each_namespace() -> Vec<u32> {
    let mut seen = HashSet::new();
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(number);
    processes
        .filter(|pid| {
            let of = |name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).ok();
            let new = |name| of(name).is_some_and(|namespace| seen.insert(namespace));
            // Both, also where the first is new.
            ["net", "mnt"].map(new).contains(&true)
        })
        .collect()
}

/// Where successful logins are recorded.
const LOGINS: [&str; 2] = ["/var/log/wtmp", "/run/utmp"];
/// The newest bytes of it that are read.
const LOGINS_BYTES_MAX: u64 = 4 << 20;

/// Sources of successful logins over the network, with their wall time, as `login` and `sshd` record
/// them; a host that keeps no such record has none.
pub fn admin_logins() -> Vec<(IpAddr, i64)> {
    let size = size_of::<libc::utmpx>() as u64;
    let mut found = Vec::new();
    for path in LOGINS {
        let Ok(mut file) = File::open(path) else { continue };
        let length = file.metadata().map_or(0, |metadata| metadata.size());
        let start = length.saturating_sub(LOGINS_BYTES_MAX).next_multiple_of(size);
        let mut bytes = Vec::new();
        let read = file.seek(SeekFrom::Start(start)).and_then(|_| {
            // It may be growing.
            file.take(LOGINS_BYTES_MAX).read_to_end(&mut bytes)
        });
        if read.is_ok() {
            found.extend(logins(&bytes));
        }
    }
    found
}

/// Records of utmp(5); what is cut short at the end is left out.
fn logins(bytes: &[u8]) -> Vec<(IpAddr, i64)> {
    let record = |bytes: &[u8]| {
        // SAFETY: plain C data for which every bit pattern is a value; the chunk has its size, and
        // `read_unaligned` needs no alignment.
        let record: libc::utmpx = unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) };
        let words = record.ut_addr_v6.map(i32::to_ne_bytes).concat();
        let octets: [u8; 16] = words.try_into().ok()?;
        // IPv4 has the first word alone.
        let address = match octets {
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] => Ipv4Addr::new(a, b, c, d).into(),
            octets => Ipv6Addr::from(octets).to_canonical(),
        };
        let seconds = i64::from(record.ut_tv.tv_sec);
        (record.ut_type == libc::USER_PROCESS && !address.is_unspecified())
            .then_some((address, seconds.saturating_mul(1_000_000_000)))
    };
    bytes.chunks_exact(size_of::<libc::utmpx>()).filter_map(record).collect()
}

fn whole(address: IpAddr, reason: &'static str) -> Protected {
    (address, if address.is_ipv4() { 32 } else { 128 }, reason)
}

/// Local addresses of `/proc/net/fib_trie`: a leaf line `|-- ADDRESS` with a `/32 host LOCAL` below.
fn own_v4(text: &str) -> Vec<Protected> {
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
fn own_v6(text: &str) -> Vec<Protected> {
    let address = |line: &str| hex_v6(line.split(' ').next()?);
    text.lines().filter_map(address).map(|a| whole(a.into(), "an own address")).collect()
}

/// `/proc/net/route`: interface, destination, gateway (hex in host order) ...
fn gateways_v4(text: &str) -> Vec<Protected> {
    let gateway = |line: &str| {
        let raw = u32::from_str_radix(line.split_whitespace().nth(2)?, 16).ok()?;
        (raw != 0).then(|| Ipv4Addr::from(raw.to_ne_bytes()))
    };
    text.lines().skip(1).filter_map(gateway).map(|a| whole(a.into(), "a gateway")).collect()
}

/// `/proc/net/ipv6_route`: destination, length, source, length, next hop ...
fn gateways_v6(text: &str) -> Vec<Protected> {
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

fn resolvers(text: &str) -> Vec<Protected> {
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
fn dhcp_servers(text: &str) -> Vec<Protected> {
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn addresses(found: &[Protected]) -> Vec<String> {
        found.iter().map(|(address, length, _)| format!("{address}/{length}")).collect()
    }

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

    #[test]
    fn logins_over_the_network_are_read_and_others_are_not() {
        // SAFETY: plain C data for which zeroes are a value.
        let mut record: libc::utmpx = unsafe { std::mem::zeroed() };
        let mut bytes = Vec::new();
        let mut add = |kind: libc::c_short, address: [u8; 16], seconds| {
            record.ut_type = kind;
            let word = |at: usize| i32::from_ne_bytes(address[at * 4..][..4].try_into().unwrap());
            record.ut_addr_v6 = [word(0), word(1), word(2), word(3)];
            record.ut_tv.tv_sec = seconds;
            // SAFETY: plain C data, made from zeroes.
            bytes.extend(unsafe {
                std::slice::from_raw_parts((&raw const record).cast::<u8>(), size_of_val(&record))
            });
        };
        let v4 = [192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let v6 = "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets();
        add(libc::USER_PROCESS, v4, 100);
        add(libc::USER_PROCESS, v6, 200);
        add(libc::USER_PROCESS, [0; 16], 300); // at the console
        add(libc::DEAD_PROCESS, v4, 400);
        let expected = [("192.0.2.7", 100_000_000_000), ("2001:db8::7", 200_000_000_000)]
            .map(|(address, time)| (address.parse::<IpAddr>().unwrap(), time));
        assert_eq!(logins(&bytes), expected);
        assert_eq!(logins(&bytes[..bytes.len() - 1]).len(), 2);
        assert!(logins(&bytes[..20]).is_empty());
    }

    #[test]
    fn this_process_stands_for_its_namespaces_or_another_one_does() {
        let of = |pid: u32, name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        let own = std::process::id();
        let found = one_of_each_namespace();
        for name in ["net", "mnt"] {
            let same = |pid: &u32| {
                fs::read_link(format!("/proc/{pid}/ns/{name}")).is_ok_and(|n| n == of(own, name))
            };
            assert!(found.iter().any(same), "{name}");
        }
    }

    #[test]
    fn this_host_has_a_loopback_of_its_own() {
        let found = gather([std::process::id()]);
        assert!(addresses(&found).contains(&"127.0.0.1/32".to_owned()), "{found:?}");
        assert!(gather([u32::MAX]).iter().all(|(_, _, why)| *why != "an own address"));
    }
}
