//! Bytes of the deny maps' keys and values.

use std::net::{IpAddr, Ipv6Addr};

use hedgerow_bpf::wire;
use hedgerow_event::FileKey;

/// Plain C data without padding: every bit pattern is a value and every byte is initialised.
///
/// # Safety
/// The type must be `repr(C)`, hold integers and arrays of them only, and have no padding.
pub(crate) unsafe trait Plain: Copy + Default {
    fn bytes(&self) -> &[u8] {
        // SAFETY: the implementor has no padding, so all `size_of` bytes are initialised; the
        // slice borrows `self`.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(self).cast(), size_of::<Self>()) }
    }
    fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < size_of::<Self>() {
            return None;
        }
        // SAFETY: the length was checked, `read_unaligned` needs no alignment, and every bit
        // pattern is a value of the implementor.
        Some(unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) })
    }
}

// SAFETY: an integer.
unsafe impl Plain for u64 {}

macro_rules! plain {
    ($($name:ident: $size:literal),+ $(,)?) => {$(
        // SAFETY: C structs of integers with explicit padding; the size is the fields' sum.
        unsafe impl Plain for wire::$name {}
        const _: () = assert!(size_of::<wire::$name>() == $size);
    )+};
}

plain! {
    deny_ancestor: 16,
    deny_asked: 16,
    deny_control: 64,
    deny_entry: 24,
    deny_hits: 32,
    deny_peer_key: 36,
    deny_peer: 16,
    deny_program_key: 40,
    deny_task: 16,
    deny_process: 168,
    deny_scope: 16,
    deny_socket: 48,
    deny_socket_record: 96,
}

/// 16 bytes in network order; IPv4 is mapped into `::ffff:0:0/96`.
pub(crate) fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The inverse of [`mapped`].
pub(crate) fn unmapped(octets: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(octets).to_canonical()
}

/// Prefix length of a mapped address.
pub(crate) fn mapped_length(address: IpAddr, length: u8) -> u32 {
    u32::from(length) + if address.is_ipv4() { 96 } else { 0 }
}

pub(crate) fn peer_key(
    address: IpAddr,
    length: u8,
    cgroup_id: u64,
    program_id: u64,
) -> wire::deny_peer_key {
    let halves = |id: u64| {
        let bytes = id.to_ne_bytes();
        let half = |at: usize| {
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        // The kernel side splits by value, low half first.
        if cfg!(target_endian = "little") { [half(0), half(4)] } else { [half(4), half(0)] }
    };
    wire::deny_peer_key {
        prefixlen: wire::DENY_SCOPE_BITS + mapped_length(address, length),
        cgroup: halves(cgroup_id),
        program: halves(program_id),
        address: mapped(address),
    }
}

/// Of what refuses to run it, or of what refuses its network alone.
pub(crate) fn program_key(cgroup_id: u64, file: FileKey, network: bool) -> wire::deny_program_key {
    wire::deny_program_key {
        cgroup: cgroup_id,
        file: wire::deny_file {
            device: file.device,
            inode: file.inode,
            generation: file.generation,
            pad: 0,
        },
        network: network.into(),
        pad: 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_peer_key_has_these_bytes() {
        let key = peer_key("192.0.2.33".parse().unwrap(), 32, 0x0102_0304_0506_0708, 0x11);
        let mut golden = vec![0, 1, 0, 0];
        golden.extend([8, 7, 6, 5, 4, 3, 2, 1]);
        golden.extend([0x11, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 33]);
        assert_eq!(key.bytes(), golden);
        let key = peer_key("2001:db8::1".parse().unwrap(), 64, 0, 0);
        assert_eq!(key.prefixlen, 128 + 64);
        assert_eq!(unmapped(key.address), "2001:db8::1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn short_bytes_are_nothing() {
        assert!(wire::deny_entry::read(&[0; 23]).is_none());
        assert_eq!(wire::deny_entry::read(&[1; 24]).unwrap().verbs, 0x0101_0101);
    }
}
