//! The host itself: the kernel's own network counters, where floods show that never become flows.

use hedgerow_event::{Family::Host as Family, HostCounters};

use crate::{
    accumulate::{Accumulator, HostCounts},
    column::{Column, Source::Host, share},
};

fn of(accumulator: &Accumulator, value: fn(&HostCounts) -> f64) -> f64 {
    accumulator.host.as_ref().map_or(f64::NAN, value)
}

fn counter(accumulator: &Accumulator, value: fn(&HostCounters) -> Option<u64>) -> f64 {
    let counters = accumulator.host.as_ref().map(|host| &host.counters);
    counters.and_then(value).map_or(f64::NAN, |count| count as f64)
}

pub(super) const COLUMNS: &[Column] = &[
    Column::count(
        Family,
        Host,
        "host_syn_cookies_count",
        "SYN cookies sent (`SyncookiesSent`). All columns of this family exist on the host subject \
         only, and where the kernel has the counter",
        |a, _| counter(a, |c| c.syn_cookies),
    ),
    Column::count(
        Family,
        Host,
        "host_listen_overflows_count",
        "connections that found a full accept queue (`ListenOverflows`)",
        |a, _| counter(a, |c| c.listen_overflows),
    ),
    Column::count(
        Family,
        Host,
        "host_closed_ports_count",
        "segments and datagrams to closed ports: TCP resets sent, UDP `NoPorts`",
        |a, _| counter(a, |c| c.closed_ports),
    ),
    Column::measure(
        Family,
        Host,
        "host_closed_ports_share",
        "`host_closed_ports_count` / `host_in_packets`. Unavailable without packets",
        |a, _| {
            of(a, |host| match (host.counters.closed_ports, host.counters.packets_in) {
                (Some(closed), Some(packets)) => share(closed, packets),
                _ => f64::NAN,
            })
        },
    ),
    Column::count(Family, Host, "host_icmp_in_packets", "ICMP messages received", |a, _| {
        counter(a, |c| c.icmp_in)
    }),
    Column::count(Family, Host, "host_udp_in_packets", "UDP datagrams delivered", |a, _| {
        counter(a, |c| c.udp_in)
    }),
    Column::count(Family, Host, "host_tcp_in_packets", "TCP segments received", |a, _| {
        counter(a, |c| c.tcp_in_segments)
    }),
    Column::count(Family, Host, "host_in_packets", "IP packets received", |a, _| {
        counter(a, |c| c.packets_in)
    }),
    Column::count(
        Family,
        Host,
        "host_subjects_count",
        "subjects that were active, summed over the window's epochs",
        |a, _| of(a, |host| host.subjects as f64),
    ),
    Column::count(
        Family,
        Host,
        "host_merged_count",
        "subjects of this window that were merged into their workload's `(other)`",
        |a, _| of(a, |host| host.merged as f64),
    )
    .outside_matrix(),
];
