//! Bytes by whose socket they pass: what the kernel summed up, taken out a half at a time and named.

use std::{
    net::{IpAddr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    sync::Arc,
};

use hedgerow_bpf::{
    sensor::{OpenSensorMaps, OpenSensorProgs, SensorMaps, SensorProgs},
    wire::{self, wire_usage, wire_usage_key, wire_usage_way},
};
use hedgerow_event::Subject;
use libbpf_rs::{MapCore, MapHandle, libbpf_sys};

use crate::{
    Error, Result,
    facts::process_key,
    hooks::{Attached, Hook},
    identity::Resolver,
    naming::Namer,
};

/// Whom are named while the drain thread waits for its names.
const NAMED_AT_ONCE: usize = 64;

/// As the kernel has it: whose, and how much.
type Summed = (wire_usage_key, wire_usage);

/// Bytes one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Way {
    /// With headers, a packet that hardware cuts or has joined as one.
    pub bytes: u64,
    /// The headers of its other segments.
    pub extra: u64,
    /// Packets, each segment by itself.
    pub segments: u64,
}

/// What passed one interface for one program and user, with one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    pub subject: Arc<Subject>,
    /// Who made the socket, or accepted on it.
    pub uid: u32,
    pub netns: u32,
    /// The interface; whoever is root in that namespace chose its name.
    pub device: String,
    /// `None`: all for whom there was no room.
    pub peer: Option<IpAddr>,
    pub received: Way,
    pub sent: Way,
}

/// Leaves programs and maps out of the load where nobody asks for them.
pub fn select(
    programs: &mut OpenSensorProgs<'_>,
    maps: &mut OpenSensorMaps<'_>,
    wanted: bool,
) -> Result<()> {
    programs.on_usage_in.set_autoload(wanted);
    programs.on_usage_out.set_autoload(wanted);
    [
        &mut maps.usage_even,
        &mut maps.usage_odd,
        &mut maps.usage_even_peerless,
        &mut maps.usage_odd_peerless,
    ]
    .into_iter()
    .try_for_each(|map| map.set_autocreate(wanted))
    .map_err(Error::map("usage"))
}

/// The sums, by the parity of the epoch in which the kernel adds to them.
#[derive(Debug)]
pub struct Sums([[MapHandle; 2]; 2]);

impl Sums {
    pub fn open(maps: &SensorMaps<'_>) -> libbpf_rs::Result<Self> {
        type Map<'a> = &'a libbpf_rs::MapMut<'a>;
        let pair = |named: Map<'_>, peerless: Map<'_>| -> libbpf_rs::Result<_> {
            Ok([MapHandle::try_from(named)?, MapHandle::try_from(peerless)?])
        };
        Ok(Self([
            pair(&maps.usage_even, &maps.usage_even_peerless)?,
            pair(&maps.usage_odd, &maps.usage_odd_peerless)?,
        ]))
    }

    /// Takes out the half of such epochs; the kernel must not add to it.
    ///
    /// # Errors
    /// A map of it can't be read; what was taken out of the other one is lost.
    pub fn take(&self, epoch: u32) -> Result<Vec<Summed>> {
        let mut taken = Vec::new();
        for map in &self.0[(epoch & 1) as usize] {
            taken.extend(take_out(map).map_err(Error::map("usage"))?);
        }
        Ok(taken)
    }
}

/// All of a map, at once: the kernel ends a batch before a bucket that doesn't fit, which looks like the end. The
/// library's own iterator takes any error for the end.
fn take_out(map: &MapHandle) -> libbpf_rs::Result<Vec<Summed>> {
    let most = map.max_entries() as usize;
    let mut keys = vec![wire_usage_key::default(); most];
    let mut sums = vec![wire_usage::default(); most];
    // Where the kernel would go on.
    let mut next = 0u64;
    let mut count = map.max_entries();
    // SAFETY: buffers of `count` keys and values, as the maps of bpf/src/usage.bpf.c have them, live through the call.
    let failed = -unsafe {
        libbpf_sys::bpf_map_lookup_and_delete_batch(
            map.as_fd().as_raw_fd(),
            std::ptr::null_mut(),
            (&raw mut next).cast(),
            keys.as_mut_ptr().cast(),
            sums.as_mut_ptr().cast(),
            &raw mut count,
            std::ptr::null(),
        )
    };
    // There is no entry behind these.
    if failed != 0 && failed != libc::ENOENT {
        return Err(libbpf_rs::Error::from_raw_os_error(failed));
    }
    Ok(keys.into_iter().zip(sums).take(count as usize).collect())
}

/// Attaches to the root of the cgroup v2 hierarchy, beside what others have attached there.
pub fn attach(
    programs: &SensorProgs<'_>,
    root: BorrowedFd<'_>,
) -> libbpf_rs::Result<Vec<Attached>> {
    let each = [&programs.on_usage_in, &programs.on_usage_out].into_iter();
    let attached = each.map(|program| {
        Ok(Attached::new(Hook::Packet, program, program.attach_cgroup(root.as_raw_fd())?))
    });
    attached.collect()
}

/// Names what was taken out, some at a time: `naming` is what the drain thread waits for.
pub fn name<Guard: std::ops::Deref<Target = (Namer, Resolver)>>(
    taken: &[Summed],
    naming: impl Fn() -> Guard,
) -> Vec<Usage> {
    let mut usages = Vec::with_capacity(taken.len());
    for some in taken.chunks(NAMED_AT_ONCE) {
        let naming = naming();
        let (namer, resolver) = &*naming;
        for (key, sums) in some {
            let owner = wire::wire_actor { program_id: key.program_id, ..sums.owner };
            let subject = namer.whom(&process_key(&owner), resolver);
            usages.push(usage(key, sums, subject));
        }
    }
    usages
}

fn usage(key: &wire_usage_key, sums: &wire_usage, subject: Arc<Subject>) -> Usage {
    let device = sums.device.map(|byte| byte.to_ne_bytes()[0]);
    let end = device.iter().position(|byte| *byte == 0).unwrap_or(device.len());
    let peer = Ipv6Addr::from(key.peer);
    let way =
        |way: &wire_usage_way| Way { bytes: way.bytes, extra: way.extra, segments: way.segments };
    Usage {
        subject,
        uid: key.uid,
        netns: key.netns,
        device: String::from_utf8_lossy(&device[..end]).into_owned(),
        peer: (!peer.is_unspecified()).then(|| IpAddr::V6(peer).to_canonical()),
        received: way(&sums.in_),
        sent: way(&sums.out),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use libbpf_rs::{MapFlags, MapType};

    use super::*;

    fn map(of: MapType, key_size: usize) -> MapHandle {
        let options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as _,
            ..Default::default()
        };
        let (key, value) = (key_size as u32, size_of::<wire_usage>() as u32);
        MapHandle::create(of, Some("usage_test"), key, value, 64, &options).unwrap()
    }

    /// Needs root.
    #[test]
    fn a_half_is_taken_out_whole_and_one_that_cant_be_read_is_no_empty_one() {
        let hash = map(MapType::Hash, size_of::<wire_usage_key>());
        for uid in 0..64u32 {
            let mut key = [0u8; size_of::<wire_usage_key>()];
            let at = std::mem::offset_of!(wire_usage_key, uid);
            key[at..at + 4].copy_from_slice(&uid.to_ne_bytes());
            hash.update(&key, &[1; size_of::<wire_usage>()], MapFlags::ANY).unwrap();
        }
        let mut uids: Vec<u32> = take_out(&hash).unwrap().iter().map(|(key, _)| key.uid).collect();
        uids.sort_unstable();
        assert!(uids.into_iter().eq(0..64));
        assert_eq!(take_out(&hash).unwrap().len(), 0);
        // Nothing can be deleted of it.
        assert!(take_out(&map(MapType::Array, 4)).is_err());
    }
}
