//! Addresses, replaced so that those of one network stay in one network.
//!
//! What the rule asks of an address stays: whether it is the host's own, private, of a link, of a
//! group; which /24 or /64 it is in, and which one of it. Networks of a kind change places among
//! themselves, and so do the addresses of a network, each by a keyed permutation (a Feistel
//! network), so that different ones stay different.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Pseudonyms;

const ROUNDS: u8 = 8;

/// The address in its place.
pub(super) fn replaced(key: &Pseudonyms, address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4(v4_replaced(key, v4)),
        IpAddr::V6(v6) => IpAddr::V6(v6_replaced(key, v6)),
    }
}

/// Networks whose addresses say what they are for: beginning, length, and the length up to which
/// they stay.
const KINDS_V4: [(Ipv4Addr, u32); 9] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // The cloud's metadata service is in it.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];
/// Of these the first four are private networks, in which something is to be replaced.
const PRIVATE: usize = 4;

fn kind(address: u32) -> Option<usize> {
    KINDS_V4
        .iter()
        .position(|(network, length)| (address ^ network.to_bits()) >> (32 - length) == 0)
}

fn v4_replaced(key: &Pseudonyms, address: Ipv4Addr) -> Ipv4Addr {
    let bits = address.to_bits();
    let network = bits >> 8;
    let placed = match kind(bits) {
        Some(at) if at >= PRIVATE => return address,
        Some(at) => {
            let (beginning, length) = KINDS_V4[at];
            let free = 24 - length;
            let low = u64::from(network & ((1 << free) - 1));
            let label = format!("private {at}");
            beginning.to_bits() >> 8 | permuted(key, label.as_bytes(), free, low) as u32
        }
        None => {
            // Public ones stay public: a permutation of all is walked until it is at one again.
            let mut placed = network;
            loop {
                placed = permuted(key, b"public", 24, u64::from(placed)) as u32;
                if kind(placed << 8).is_none() {
                    break placed;
                }
            }
        }
    };
    let within = [b"within ".as_slice(), &network.to_le_bytes()].concat();
    let host = permuted(key, &within, 8, u64::from(bits & 0xff)) as u32;
    Ipv4Addr::from_bits(placed << 8 | host)
}

fn v6_replaced(key: &Pseudonyms, address: Ipv6Addr) -> Ipv6Addr {
    if let Some(v4) = address.to_ipv4_mapped() {
        return v4_replaced(key, v4).to_ipv6_mapped();
    }
    let bits = address.to_bits();
    let (network, host) = ((bits >> 64) as u64, bits as u64);
    // A translator's: the last four bytes are an IPv4 address.
    if bits >> 32 == 0x0064_ff9b << 64 {
        let v4 = v4_replaced(key, Ipv4Addr::from_bits(bits as u32));
        return Ipv6Addr::from_bits(bits >> 32 << 32 | u128::from(v4.to_bits()));
    }
    let kept = match address.segments()[0] {
        _ if network == 0 => return address,
        0xff00.. => return address,
        0xfe80..=0xfebf => 64,
        0xfc00..=0xfdff => 8,
        _ => 3,
    };
    let free = 64 - kept;
    let placed = match free {
        0 => network,
        free => {
            let mask = u64::MAX >> kept;
            let label = format!("network {}", address.segments()[0] >> 13);
            network & !mask | permuted(key, label.as_bytes(), free, network & mask)
        }
    };
    let within = [b"within ".as_slice(), &network.to_le_bytes()].concat();
    let host = permuted(key, &within, 64, host);
    Ipv6Addr::from_bits(u128::from(placed) << 64 | u128::from(host))
}

/// A keyed permutation of the numbers of so many bits, 2 to 64 of them.
fn permuted(key: &Pseudonyms, label: &[u8], bits: u32, number: u64) -> u64 {
    // The halves change places each round, the wider one first.
    let (mut left_bits, mut right_bits) = (bits - bits / 2, bits / 2);
    let mask = |bits: u32| u64::MAX >> (64 - bits);
    let (mut left, mut right) = (number >> right_bits, number & mask(right_bits));
    for round in 0..ROUNDS {
        let of = [label, &[round], &right.to_le_bytes()].concat();
        let [a, b, c, d, e, f, g, h, ..] = key.hash("place", &of);
        let mixed = left ^ u64::from_le_bytes([a, b, c, d, e, f, g, h]) & mask(left_bits);
        (left, right) = (right, mixed);
        (left_bits, right_bits) = (right_bits, left_bits);
    }
    left << right_bits | right
}
