//! Sockets, from flow records.

use hedgerow_event::{Flow, FlowDirection, FlowPhase, Protocol};

use crate::{beacon::Beacons, item::ItemKey, item::known_port, sketch::Sketch};

/// Port of the domain name system, whose queries can carry data out.
const DNS_PORT: u16 = 53;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowCounts {
    pub opened: u64,
    pub accepted: u64,
    pub failed: u64,
    pub closed: u64,
    /// Starts and failures that are not TCP.
    pub datagram: u64,
    pub bytes_out: u64,
    pub bytes_in: u64,
    /// The largest `bytes_out` of one report.
    pub bytes_out_max: u64,
    pub dns_bytes_out: u64,
    pub packets_out: u64,
    pub packets_in: u64,
    pub retransmits: u64,
    /// Outbound peer addresses, weighted by bytes sent to them.
    pub peers: Sketch,
    /// Outbound /24 and /64 prefixes.
    pub prefixes: Sketch,
    /// Outbound (protocol, peer port).
    pub ports: Sketch,
    /// The same with ephemeral ports as one, as first-seen sets know them.
    pub known_ports: Sketch,
    /// Inbound peer addresses, weighted by bytes sent to them.
    pub sources: Sketch,
    /// Inbound (protocol, local port).
    pub listens: Sketch,
    pub beacons: Beacons,
}

impl FlowCounts {
    pub fn observe(&mut self, flow: &Flow, time_boot_ns: u64, key: ItemKey) {
        let outbound = flow.direction == FlowDirection::Outbound;
        match flow.phase {
            FlowPhase::Start if outbound => self.opened += 1,
            FlowPhase::Start => self.accepted += 1,
            FlowPhase::Failed => self.failed += 1,
            FlowPhase::Final => self.closed += 1,
            FlowPhase::Interim => {}
        }
        let begins = matches!(flow.phase, FlowPhase::Start | FlowPhase::Failed);
        self.datagram += u64::from(begins && flow.protocol != Protocol::Tcp);
        self.bytes_out += flow.bytes_out;
        self.bytes_in += flow.bytes_in;
        self.bytes_out_max = self.bytes_out_max.max(flow.bytes_out);
        self.packets_out += flow.packets_out;
        self.packets_in += flow.packets_in;
        self.retransmits += u64::from(flow.retransmits);
        if !flow.has_peer() {
            return;
        }
        let address = key.address(flow.peer.address);
        if outbound {
            self.peers.add(address, flow.bytes_out);
            self.prefixes.add(key.prefix(flow.peer.address), 1);
            self.ports.add(key.port(flow.protocol, flow.peer.port), 1);
            self.known_ports.add(key.port(flow.protocol, known_port(flow.peer.port)), 1);
            if flow.peer.port == DNS_PORT {
                self.dns_bytes_out += flow.bytes_out;
            }
            if begins {
                self.beacons.add(address, time_boot_ns);
            }
        } else {
            self.sources.add(address, flow.bytes_out);
            self.listens.add(key.port(flow.protocol, known_port(flow.local.port)), 1);
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.opened += other.opened;
        self.accepted += other.accepted;
        self.failed += other.failed;
        self.closed += other.closed;
        self.datagram += other.datagram;
        self.bytes_out += other.bytes_out;
        self.bytes_in += other.bytes_in;
        self.bytes_out_max = self.bytes_out_max.max(other.bytes_out_max);
        self.dns_bytes_out += other.dns_bytes_out;
        self.packets_out += other.packets_out;
        self.packets_in += other.packets_in;
        self.retransmits += other.retransmits;
        self.peers.merge(&other.peers);
        self.prefixes.merge(&other.prefixes);
        self.ports.merge(&other.ports);
        self.known_ports.merge(&other.known_ports);
        self.sources.merge(&other.sources);
        self.listens.merge(&other.listens);
        self.beacons.merge(&other.beacons);
    }
}
