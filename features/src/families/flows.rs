//! The network, from flow records.

use hedgerow_event::{Family::Flows as Family, calls::Class};

use super::classes::bits;
use crate::column::{Column, Source::Flows, share};

pub(super) const COLUMNS: &[Column] = &[
    Column::count(
        Family,
        Flows,
        "flows_opened_count",
        "outbound flows that started: TCP established, first datagram otherwise",
        |a, _| a.flows.opened as f64,
    ),
    Column::count(Family, Flows, "flows_accepted_count", "inbound flows that started", |a, _| {
        a.flows.accepted as f64
    }),
    Column::count(
        Family,
        Flows,
        "flows_failed_count",
        "flows that were never established",
        |a, _| a.flows.failed as f64,
    ),
    Column::measure(
        Family,
        Flows,
        "flows_failed_share",
        "`flows_failed_count` / (`flows_opened_count` + `flows_failed_count`). Unavailable without \
         either",
        |a, _| share(a.flows.failed, a.flows.opened + a.flows.failed),
    ),
    Column::count(Family, Flows, "flows_closed_count", "flows that closed", |a, _| {
        a.flows.closed as f64
    })
    .outside_matrix(),
    Column::count(
        Family,
        Flows,
        "flows_datagram_count",
        "UDP and ICMP flows that started or failed",
        |a, _| a.flows.datagram as f64,
    ),
    Column::count(
        Family,
        Flows,
        "flows_peers_count",
        "distinct outbound peer addresses (estimated above 512)",
        |a, _| a.flows.peers.count(),
    ),
    Column::count(
        Family,
        Flows,
        "flows_ports_count",
        "distinct outbound (protocol, peer port) pairs (estimated above 512)",
        |a, _| a.flows.ports.count(),
    ),
    Column::count(
        Family,
        Flows,
        "flows_prefixes_count",
        "distinct /24 and /64 prefixes of outbound peers (estimated above 512)",
        |a, _| a.flows.prefixes.count(),
    ),
    Column::count(
        Family,
        Flows,
        "flows_sources_count",
        "distinct inbound peer addresses (estimated above 512)",
        |a, _| a.flows.sources.count(),
    ),
    Column::count(
        Family,
        Flows,
        "flows_listens_count",
        "distinct local (protocol, port) pairs that inbound flows came to",
        |a, _| a.flows.listens.count(),
    ),
    Column::count(Family, Flows, "flows_out_bytes", "bytes sent", |a, _| a.flows.bytes_out as f64),
    Column::count(Family, Flows, "flows_in_bytes", "bytes received", |a, _| {
        a.flows.bytes_in as f64
    }),
    Column::measure(
        Family,
        Flows,
        "flows_out_share",
        "`flows_out_bytes` / (`flows_out_bytes` + `flows_in_bytes`). Unavailable without bytes",
        |a, _| share(a.flows.bytes_out, a.flows.bytes_out.saturating_add(a.flows.bytes_in)),
    ),
    Column::count(
        Family,
        Flows,
        "flows_peer_out_bytes",
        "bytes sent to the outbound peer that got most",
        |a, _| a.flows.peers.weight_max() as f64,
    ),
    Column::count(
        Family,
        Flows,
        "flows_flow_out_bytes",
        "the most bytes that one flow sent in one epoch",
        |a, _| a.flows.bytes_out_max as f64,
    )
    .outside_matrix(),
    Column::count(
        Family,
        Flows,
        "flows_dns_out_bytes",
        "bytes sent to port 53, where a tunnel would hide",
        |a, _| a.flows.dns_bytes_out as f64,
    ),
    Column::count(Family, Flows, "flows_out_packets", "packets sent", |a, _| {
        a.flows.packets_out as f64
    }),
    Column::count(Family, Flows, "flows_in_packets", "packets received", |a, _| {
        a.flows.packets_in as f64
    }),
    Column::measure(
        Family,
        Flows,
        "flows_retransmits_share",
        "retransmitted segments / `flows_out_packets`. Unavailable without packets",
        |a, _| share(a.flows.retransmits, a.flows.packets_out),
    ),
    Column::measure(
        Family,
        Flows,
        "flows_beacon_share",
        "regularity of the most regular outbound peer: 1 - standard deviation / mean of the gaps \
         between its flow starts, at least 0. Unavailable where no peer has 4 starts, or all have \
         more than 64",
        |a, _| a.flows.beacons.regularity().unwrap_or(f64::NAN),
    ),
    Column::calls(
        Family,
        "flows_connects_count",
        "connect calls (`classes_connect_count`)",
        bits(&[Class::Connect]),
    ),
    Column::calls(
        Family,
        "flows_binds_count",
        "bind and listen calls (`classes_bind_count`)",
        bits(&[Class::Bind]),
    ),
    Column::calls(
        Family,
        "flows_sends_count",
        "send calls (`classes_send_count`)",
        bits(&[Class::Send]),
    ),
];
