//! Logins over the network, as the host records them.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::MetadataExt,
};

/// Where successful logins are recorded.
const LOGINS: [&str; 2] = ["/var/log/wtmp", "/run/utmp"];
/// The newest bytes of it that are read.
const LOGINS_BYTES_MAX: u64 = 4 << 20;

/// Sources of successful logins over the network, with their wall time, as `login` and `sshd` record
/// them; a host that keeps no such record has none.
pub(super) fn admin_logins() -> Vec<(IpAddr, i64)> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
}
