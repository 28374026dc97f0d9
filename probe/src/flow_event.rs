//! A flow record as an event. Pure.

use std::net::{IpAddr, Ipv6Addr};

use hedgerow_bpf::wire::{self, wire_flow};
use hedgerow_event::{Flow, FlowDirection, FlowPhase, Peer, Protocol};

/// Stands for "no round-trip time" in the record.
const RTT_UNAVAILABLE: u32 = u32::MAX;

/// What `record` says; `None` where its phase is unknown.
pub fn flow(record: &wire_flow) -> Option<Flow> {
    let direction =
        if record.inbound == 0 { FlowDirection::Outbound } else { FlowDirection::Inbound };
    Some(Flow {
        cookie: record.cookie,
        phase: phase(u32::from(record.phase))?,
        protocol: Protocol::from_number(record.protocol),
        direction,
        local: end(record.local_address, record.local_port),
        peer: end(record.peer_address, record.peer_port),
        bytes_out: record.bytes_out,
        bytes_in: record.bytes_in,
        packets_out: record.packets_out,
        packets_in: record.packets_in,
        retransmits: record.retransmits,
        rtt_us: (record.rtt_us != RTT_UNAVAILABLE).then_some(record.rtt_us),
        netns: record.netns,
    })
}

fn phase(number: u32) -> Option<FlowPhase> {
    Some(match number {
        wire::WIRE_FLOW_START => FlowPhase::Start,
        wire::WIRE_FLOW_INTERIM => FlowPhase::Interim,
        wire::WIRE_FLOW_FINAL => FlowPhase::Final,
        wire::WIRE_FLOW_FAILED => FlowPhase::Failed,
        _ => return None,
    })
}

/// Addresses are in network order, v4 ones mapped to v6; ports in host order.
fn end(address: [u8; 16], port: u16) -> Peer {
    let address = Ipv6Addr::from(address);
    Peer { address: address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4), port }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// A record byte by byte, as a little-endian kernel writes it: 10.1.2.3:43210 to
    /// 192.0.2.254:443, or the v6 ends.
    fn golden(addresses: [[u8; 16]; 2]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend([8, 0, 176, 0]); // kind, size
        bytes.extend([7, 0, 0, 0]); // epoch
        bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]); // time
        bytes.extend([2, 0, 0, 0, 0, 0, 0, 0]); // start of the process
        bytes.extend([3, 0, 0, 0, 0, 0, 0, 0]); // cgroup
        bytes.extend([4, 0, 0, 0, 0, 0, 0, 0]); // program
        bytes.extend([0x39, 5, 0, 0]); // tgid 1337
        bytes.extend([0x3a, 5, 0, 0]); // tid
        bytes.extend([0; 8]); // slot, flags
        bytes.extend([0; 24]); // root
        bytes.extend([9, 0, 0, 0, 0, 0, 0, 1]); // cookie
        bytes.extend([0x40, 0x42, 0x0f, 0, 0, 0, 0, 0]); // bytes out: 1,000,000
        bytes.extend([0xff, 0, 0, 0, 0, 0, 0, 0]); // bytes in
        bytes.extend([0x10, 0, 0, 0, 0, 0, 0, 0]); // packets out
        bytes.extend([0x11, 0, 0, 0, 0, 0, 0, 0]); // packets in
        bytes.extend(addresses[0]);
        bytes.extend(addresses[1]);
        bytes.extend([0xca, 0xa8]); // local port 43210 = 0xa8ca
        bytes.extend([0xbb, 0x01]); // peer port 443 = 0x01bb
        bytes.extend([2, 6, 0, 0]); // final, TCP, outbound
        bytes.extend([5, 0, 0, 0]); // retransmits
        bytes.extend([0xe8, 3, 0, 0]); // RTT 1,000 us
        bytes.extend([0x98, 0, 0, 0xf0]); // netns 4026531992
        bytes.extend([0; 4]);
        bytes
    }

    fn read(bytes: &[u8]) -> wire_flow {
        assert_eq!(bytes.len(), size_of::<wire_flow>());
        // SAFETY: the size is right, and any bytes are a valid record.
        unsafe { bytes.as_ptr().cast::<wire_flow>().read_unaligned() }
    }

    fn mapped(v4: [u8; 4]) -> [u8; 16] {
        std::net::Ipv4Addr::from(v4).to_ipv6_mapped().octets()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn golden_bytes_of_a_v4_flow() {
        let flow = flow(&read(&golden([mapped([10, 1, 2, 3]), mapped([192, 0, 2, 254])]))).unwrap();
        let expected = Flow {
            cookie: 0x0100_0000_0000_0009,
            phase: FlowPhase::Final,
            protocol: Protocol::Tcp,
            direction: FlowDirection::Outbound,
            local: Peer { address: [10, 1, 2, 3].into(), port: 43210 },
            peer: Peer { address: [192, 0, 2, 254].into(), port: 443 },
            bytes_out: 1_000_000,
            bytes_in: 255,
            packets_out: 16,
            packets_in: 17,
            retransmits: 5,
            rtt_us: Some(1000),
            netns: 4_026_531_992,
        };
        assert_eq!(flow, expected);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn golden_bytes_of_a_v6_flow() {
        let local: Ipv6Addr = "fd00::1:2".parse().unwrap();
        let peer: Ipv6Addr = "2001:db8::fe".parse().unwrap();
        let mut bytes = golden([local.octets(), peer.octets()]);
        bytes[156..160].copy_from_slice(&[0, 58, 1, 0]); // start, ICMPv6, inbound
        bytes[164..168].fill(0xff);
        let flow = flow(&read(&bytes)).unwrap();
        assert_eq!(flow.local, Peer { address: local.into(), port: 43210 });
        assert_eq!(flow.peer, Peer { address: peer.into(), port: 443 });
        assert_eq!((flow.phase, flow.protocol), (FlowPhase::Start, Protocol::Icmp));
        assert_eq!((flow.direction, flow.rtt_us), (FlowDirection::Inbound, None));
    }

    #[test]
    fn a_peer_without_room_is_none() {
        let rest = flow(&read(&golden([mapped([10, 0, 0, 1]), [0; 16]]))).unwrap();
        assert!(!rest.has_peer());
        let named = flow(&read(&golden([mapped([10, 0, 0, 1]), mapped([10, 0, 0, 2])]))).unwrap();
        assert!(named.has_peer());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_flow_or_none(bytes in prop::collection::vec(any::<u8>(), size_of::<wire_flow>())) {
            let record = read(&bytes);
            prop_assert_eq!(flow(&record).is_some(), record.phase <= 3);
        }
    }
}
