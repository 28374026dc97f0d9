//! Packets made by hand. A packet socket puts them past every hook of a cgroup, and what they are
//! answered with leaves in the name of who sent them.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::{AsRawFd, OwnedFd},
};

use super::stage::new_socket;

/// A packet socket on loopback, in a network namespace of its own that takes such packets.
pub struct Wire(OwnedFd);

impl Wire {
    pub fn open() -> io::Result<Self> {
        for setting in ["route_localnet", "accept_local"] {
            fs::write(format!("/proc/sys/net/ipv4/conf/lo/{setting}"), "1")?;
        }
        Ok(Self(new_socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0)?))
    }

    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        // SAFETY: zeros are an address; it and the packet have the lengths that are passed.
        let sent = unsafe {
            let mut name: libc::sockaddr_ll = std::mem::zeroed();
            name.sll_family = libc::AF_PACKET as u16;
            name.sll_protocol = (libc::ETH_P_IP as u16).to_be();
            name.sll_ifindex = libc::if_nametoindex(c"lo".as_ptr()) as i32;
            name.sll_halen = 6;
            let length = size_of_val(&name) as libc::socklen_t;
            let name = (&raw const name).cast();
            libc::sendto(self.0.as_raw_fd(), packet.as_ptr().cast(), packet.len(), 0, name, length)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// `FROM TO`, both IPv4 with a port.
pub fn ends(words: &str) -> io::Result<[SocketAddrV4; 2]> {
    let v4 = |word: &str| match word.parse() {
        Ok(SocketAddr::V4(end)) => Some(end),
        _ => None,
    };
    let ends: Vec<_> = words.split(' ').filter_map(v4).collect();
    ends.try_into().map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// The first packet of a connection.
pub fn syn([from, to]: [SocketAddrV4; 2]) -> Vec<u8> {
    let mut tcp = vec![0; 20];
    tcp[..2].copy_from_slice(&from.port().to_be_bytes());
    tcp[2..4].copy_from_slice(&to.port().to_be_bytes());
    // Five words, SYN, a window.
    tcp[12..16].copy_from_slice(&[5 << 4, 2, 0xff, 0xff]);
    let mut pseudo = [from.ip().octets(), to.ip().octets()].concat();
    pseudo.extend([0, libc::IPPROTO_TCP as u8, 0, tcp.len() as u8]);
    let sum = checksum(&[pseudo, tcp.clone()].concat());
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    ipv4(libc::IPPROTO_TCP, *from.ip(), *to.ip(), &tcp)
}

/// What asks the kernel for an answer.
pub fn echo([from, to]: [SocketAddrV4; 2]) -> Vec<u8> {
    let mut icmp = vec![8, 0, 0, 0, 0x48, 0x47, 0, 1];
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv4(libc::IPPROTO_ICMP, *from.ip(), *to.ip(), &icmp)
}

fn ipv4(protocol: i32, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 20];
    packet[0] = 4 << 4 | 5;
    packet[3] = (20 + payload.len()) as u8;
    (packet[8], packet[9]) = (64, protocol as u8);
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// Of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair[1]);
    let mut sum: u32 = bytes.chunks_exact(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
