//! Network flows: one record stream per socket.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    Tcp,
    Udp,
    Icmp,
    /// Any other, of a raw socket.
    Other,
}

impl Protocol {
    /// IANA protocol number (ICMPv6 is 58, reported as [`Protocol::Icmp`]; the others are 255,
    /// which is reserved).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Icmp => 1,
            Self::Other => 255,
        }
    }

    /// The protocol of an IANA number.
    pub fn from_number(number: u8) -> Self {
        match number {
            6 => Self::Tcp,
            17 => Self::Udp,
            1 | 58 => Self::Icmp,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Other => "other",
        })
    }
}

/// Who opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowDirection {
    /// The owner connected or sent first.
    Outbound,
    /// The owner accepted or received first.
    Inbound,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowPhase {
    /// Established, or the first datagram.
    Start,
    /// Still alive at the end of a window.
    Interim,
    /// Closed.
    Final,
    /// Never established.
    Failed,
}

/// The other end: address (v4-mapped v6 is shown as v4) and port in host byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Peer {
    pub address: IpAddr,
    pub port: u16,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::net::SocketAddr::new(self.address, self.port).fmt(f)
    }
}

/// One report of one socket (or of one peer of an unconnected UDP socket). Where a socket has more
/// peers than there is room for, what the rest carried is reported once, under the unspecified
/// address `::` and port 0.
///
/// Counters are *since the flow's previous report*, so that adding them up over windows counts
/// every byte once. TCP bytes are payload from `tcp_sock` (SYN and FIN excluded); UDP and ICMP
/// bytes include the network header, as `cgroup_skb` sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Socket cookie, unique for the boot.
    pub cookie: u64,
    pub phase: FlowPhase,
    pub protocol: Protocol,
    pub direction: FlowDirection,
    pub local: Peer,
    pub peer: Peer,
    pub bytes_out: u64,
    pub bytes_in: u64,
    pub packets_out: u64,
    pub packets_in: u64,
    pub retransmits: u32,
    /// Smoothed round-trip time; `None` where the protocol or kernel has none.
    pub rtt_us: Option<u32>,
    /// Inode of the socket's network namespace.
    pub netns: u32,
}

impl Flow {
    /// The start of a TCP flow, of which nothing was counted yet.
    pub fn start(direction: FlowDirection, local: Peer, peer: Peer) -> Self {
        Self {
            cookie: 1,
            phase: FlowPhase::Start,
            protocol: Protocol::Tcp,
            direction,
            local,
            peer,
            bytes_out: 0,
            bytes_in: 0,
            packets_out: 0,
            packets_in: 0,
            retransmits: 0,
            rtt_us: None,
            netns: 1,
        }
    }

    /// Whether `peer` is one: what found no room of its own is reported under no name.
    pub fn has_peer(&self) -> bool {
        !self.peer.address.is_unspecified()
    }
}
