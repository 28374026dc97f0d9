//! `/proc/PID/net/{snmp,netstat,snmp6}` to totals. Pure.

use hedgerow_event::HostCounters;

/// Totals since the network namespace was made, in the order of [`HostCounters`].
pub(super) type Totals = [Option<u64>; 7];

/// Sums what each of `HostCounters` stands for out of the three files (`net/ipv4/proc.c`,
/// `net/ipv6/proc.c`); TCP's counters cover both address families. A counter that is in none of
/// them (an older kernel, IPv6 disabled) adds nothing, and is `None` where no part of the sum is.
///
/// UDP counts what arrived, read or not: `InDatagrams` (counted at `recvmsg`), `NoPorts` and
/// `InErrors` (which holds `RcvbufErrors`), so that a flood shows whatever the receiver does.
pub(super) fn totals(snmp: &str, netstat: &str, snmp6: &str) -> Totals {
    let ip = |name| paired(snmp, "Ip:", name);
    let tcp = |name| paired(snmp, "Tcp:", name);
    let udp = |name| paired(snmp, "Udp:", name);
    let icmp = |name| paired(snmp, "Icmp:", name);
    let tcp_ext = |name| paired(netstat, "TcpExt:", name);
    let v6 = |name| single(snmp6, name);
    [
        tcp_ext("SyncookiesSent"),
        tcp_ext("ListenOverflows"),
        sum(&[tcp("OutRsts"), udp("NoPorts"), v6("Udp6NoPorts")]),
        sum(&[icmp("InMsgs"), v6("Icmp6InMsgs")]),
        sum(&[
            udp("InDatagrams"),
            udp("NoPorts"),
            udp("InErrors"),
            v6("Udp6InDatagrams"),
            v6("Udp6NoPorts"),
            v6("Udp6InErrors"),
        ]),
        tcp("InSegs"),
        sum(&[ip("InReceives"), v6("Ip6InReceives")]),
    ]
}

pub(super) fn named(values: Totals) -> HostCounters {
    let [syn_cookies, listen_overflows, closed_ports, icmp_in, udp_in, tcp_in_segments, packets_in] =
        values;
    HostCounters {
        syn_cookies,
        listen_overflows,
        closed_ports,
        icmp_in,
        udp_in,
        tcp_in_segments,
        packets_in,
    }
}

/// The sum of what is there.
pub(super) fn sum(parts: &[Option<u64>]) -> Option<u64> {
    parts.iter().flatten().copied().reduce(u64::wrapping_add)
}

/// A value of the `Group: Name Name ...` / `Group: 1 2 ...` pairs of snmp and netstat.
fn paired(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group));
    let names = lines.next()?;
    let values = lines.next()?;
    names
        .split_ascii_whitespace()
        .zip(values.split_ascii_whitespace())
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.parse().ok())
}

/// A value of the `Name  1` lines of snmp6.
fn single(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some(name)).then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SNMP: &str = "\
Ip: Forwarding DefaultTTL InReceives InHdrErrors
Ip: 2 64 21359 0
Icmp: InMsgs InErrors InCsumErrors
Icmp: 17 0 0
IcmpMsg: InType3
IcmpMsg: 1
Tcp: RtoAlgorithm MaxConn InSegs OutSegs RetransSegs InErrs OutRsts InCsumErrors
Tcp: 1 -1 21209 12027 0 0 68 0
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors
Udp: 149 40 3 150 3
UdpLite: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors
UdpLite: 9 9 9 9 9
";
    const NETSTAT: &str = "\
TcpExt: SyncookiesSent SyncookiesRecv ListenOverflows ListenDrops
TcpExt: 5 1 7 8
IpExt: InNoRoutes InOctets
IpExt: 0 812925752
";
    const SNMP6: &str = "\
Ip6InReceives                   \t100
Icmp6InMsgs                     \t3
Udp6InDatagrams                 \t20
Udp6NoPorts                     \t2
Udp6InErrors                    \t1
";

    #[test]
    fn both_families_add_up() {
        let expected = HostCounters {
            syn_cookies: Some(5),
            listen_overflows: Some(7),
            closed_ports: Some(68 + 40 + 2),
            icmp_in: Some(20),
            udp_in: Some(149 + 40 + 3 + 20 + 2 + 1),
            tcp_in_segments: Some(21209),
            packets_in: Some(21459),
        };
        assert_eq!(named(totals(SNMP, NETSTAT, SNMP6)), expected);
    }

    #[test]
    fn without_ipv6_the_rest_still_counts() {
        let counters = named(totals(SNMP, NETSTAT, ""));
        assert_eq!(counters.udp_in, Some(192));
        assert_eq!(counters.packets_in, Some(21359));
    }

    #[test]
    fn an_absent_counter_is_none_and_not_zero() {
        let netstat = NETSTAT.replace("SyncookiesSent", "SomethingElse");
        let counters = named(totals(SNMP, &netstat, SNMP6));
        assert_eq!(counters.syn_cookies, None);
        assert_eq!(counters.listen_overflows, Some(7));
        assert_eq!(named(totals("", "", "")), HostCounters::default());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(snmp in "(Tcp: |Udp: |[ -~]|\n){0,200}", six in ".{0,80}") {
            totals(&snmp, &snmp, &six);
        }
    }
}
