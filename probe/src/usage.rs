//! Bytes by whose socket they pass: what the kernel summed up, taken out a half at a time and named.

use std::{
    net::{IpAddr, Ipv6Addr},
    os::fd::{AsRawFd, BorrowedFd},
    sync::Arc,
};

use hedgerow_bpf::{
    sensor::{OpenSensorMaps, OpenSensorProgs, SensorMaps, SensorProgs},
    wire::{self, wire_usage, wire_usage_key, wire_usage_way},
};
use hedgerow_event::Subject;
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::{
    Error, Result,
    facts::process_key,
    hooks::{Attached, Hook},
    identity::Resolver,
    naming::Namer,
};

/// Whom are named while the drain thread waits for its names.
const NAMED_AT_ONCE: usize = 64;

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
    pub fn take(&self, epoch: u32) -> Result<Vec<(wire_usage_key, wire_usage)>> {
        let mut taken = Vec::new();
        for map in &self.0[(epoch & 1) as usize] {
            // All at once: the kernel ends a batch before a bucket that doesn't fit, which looks like the
            // end.
            let most = map.max_entries();
            let batch = map.lookup_and_delete_batch(most, MapFlags::ANY, MapFlags::ANY);
            let batch = batch.map_err(Error::map("usage"))?;
            taken.extend(batch.filter_map(|(key, value)| Some((read(&key)?, read(&value)?))));
        }
        Ok(taken)
    }
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

fn read<T: Copy>(bytes: &[u8]) -> Option<T> {
    // SAFETY: only used with structs of integers, and long enough.
    (bytes.len() >= size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// Names what was taken out, some at a time: `naming` is what the drain thread waits for.
pub fn name<Guard: std::ops::DerefMut<Target = (Namer, Resolver)>>(
    taken: &[(wire_usage_key, wire_usage)],
    naming: impl Fn() -> Guard,
) -> Vec<Usage> {
    let mut usages = Vec::with_capacity(taken.len());
    for some in taken.chunks(NAMED_AT_ONCE) {
        let mut naming = naming();
        let (namer, resolver) = &mut *naming;
        for (key, sums) in some {
            let owner = wire::wire_actor { program_id: key.program_id, ..sums.owner };
            let subject = namer.whom(&process_key(&owner), resolver);
            usages.push(usage(key, sums, subject));
        }
    }
    usages
}

fn usage(key: &wire_usage_key, sums: &wire_usage, subject: Arc<Subject>) -> Usage {
    let device = sums.device.map(i8::cast_unsigned);
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
