//! Rows that don't come by ring: read by iterator, and sums of those that found a ring full.

use std::{
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use hedgerow_bpf::wire;
use libbpf_rs::{Iter, Link, MapCore, MapFlags, MapHandle, libbpf_sys};

use crate::{
    Error, Result,
    wire_event::{WireEvent, decode},
};

/// Less than the kernel's buffer of eight pages, so that a row is never shown twice.
const READ_BYTES: usize = 24 << 10;

/// Decodes the records of one size that an iterator writes, one after the other.
fn read_records<T>(mut iterator: impl Read, rows: &mut Vec<WireEvent>) -> Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    let mut filled = 0;
    loop {
        match iterator.read(&mut buffer[filled..]) {
            Ok(0) => return Ok(()),
            Ok(size) => filled += size,
            Err(error)
                if error.kind() == io::ErrorKind::Interrupted
                    || error.raw_os_error() == Some(libc::EAGAIN) => {}
            Err(error) => return Err(Error::Io { what: "reading rows", source: error }),
        }
        let whole = filled - filled % size_of::<T>();
        rows.extend(
            buffer[..whole].chunks_exact(size_of::<T>()).filter_map(|row| decode(row).ok()),
        );
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
}

/// Reads what an iterator writes: records of one size.
pub fn read<T>(link: &Link, records: &mut Vec<WireEvent>) -> Result<()> {
    read_records::<T>(Iter::new(link).map_err(Error::attach("iterator"))?, records)
}

/// Takes out the closing epoch's rows of all threads.
pub fn take_closing(link: &Link, rows: &mut Vec<WireEvent>) -> Result<()> {
    read::<wire::wire_row>(link, rows)
}

/// Copies what the threads of one process have counted so far.
pub fn peek(program: BorrowedFd<'_>, tgid: u32) -> Result<Vec<WireEvent>> {
    // SAFETY: an all-zero bpf_iter_link_info asks for every task.
    let mut info: libbpf_sys::bpf_iter_link_info = unsafe { std::mem::zeroed() };
    info.task.pid = tgid;
    let opts = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as _,
        iter_info: &raw mut info,
        iter_info_len: size_of_val(&info) as u32,
        ..Default::default()
    };
    let what = "iterator over a process's rows";
    // SAFETY: the program is a loaded iterator, the options outlive the call.
    let link = unsafe {
        libbpf_sys::bpf_link_create(
            program.as_raw_fd(),
            0,
            libbpf_sys::BPF_TRACE_ITER,
            &raw const opts,
        )
    };
    let link = owned(link).map_err(Error::io(what))?;
    // SAFETY: the link is an iterator's.
    let iterator = unsafe { libbpf_sys::bpf_iter_create(link.as_raw_fd()) };
    let iterator = owned(iterator).map_err(Error::io(what))?;
    let mut rows = Vec::new();
    read_records::<wire::wire_row>(std::fs::File::from(iterator), &mut rows)?;
    Ok(rows)
}

fn owned(fd: i32) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: libbpf returned a new descriptor of ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reads one of the wire structs of which a map's value consists.
fn value<T: Copy>(bytes: &[u8]) -> Option<T> {
    // SAFETY: only used with structs of integers, and long enough.
    (bytes.len() >= size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

fn sum(per_cpu: &[Vec<u8>]) -> wire::wire_counts {
    let mut sum = wire::wire_counts::default();
    for counts in per_cpu.iter().filter_map(|bytes| value::<wire::wire_counts>(bytes)) {
        for (total, part) in sum.classes.iter_mut().zip(counts.classes) {
            *total += part;
        }
        sum.calls += counts.calls;
        sum.errors += counts.errors;
        sum.checked += counts.checked;
        sum.unseen2 += counts.unseen2;
        sum.unseen3 += counts.unseen3;
        sum.unseen6 += counts.unseen6;
        sum.collapsed += counts.collapsed;
        sum.lost += counts.lost;
        sum.limited += counts.limited;
    }
    sum
}

fn spilled_row(epoch: u32, actor: wire::wire_actor, counts: wire::wire_counts) -> WireEvent {
    WireEvent::Row(Box::new(wire::wire_row {
        header: wire::wire_header {
            kind: wire::WIRE_ROW as u16,
            size: size_of::<wire::wire_row>() as u16,
            epoch,
            time_boot_ns: 0,
        },
        actor,
        reason: wire::WIRE_ROW_SPILLED,
        reserved: 0,
        counts,
    }))
}

/// Takes an entry out of a per-CPU hash in one step: between a look and a removal a thread could
/// still add to it.
fn take(map: &MapHandle, key: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let cpus = libbpf_rs::num_possible_cpus().map_err(io::Error::other)?;
    let bytes = (map.value_size() as usize).next_multiple_of(8);
    let mut values = vec![0u8; bytes * cpus];
    // SAFETY: the key has the map's size, and the buffer holds each possible CPU's value.
    let result = unsafe {
        libbpf_sys::bpf_map_lookup_and_delete_elem(
            map.as_fd().as_raw_fd(),
            key.as_ptr().cast(),
            values.as_mut_ptr().cast(),
        )
    };
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    Ok(values.chunks_exact(bytes).map(<[u8]>::to_vec).collect())
}

/// Takes out the sums of programs up to the closing epoch.
pub fn take_spilled(
    sums: &MapHandle,
    rest: &MapHandle,
    epoch: u32,
    rows: &mut Vec<WireEvent>,
) -> Result<()> {
    let keys: Vec<Vec<u8>> = sums.keys().collect();
    for bytes in keys {
        let Some(key) = value::<wire::wire_spill_key>(&bytes) else { continue };
        if key.epoch.wrapping_sub(epoch).cast_signed() > 0 {
            continue;
        }
        let counts = take(sums, &bytes).map_err(Error::io("taking spilled rows"))?;
        let actor = wire::wire_actor {
            cgroup_id: key.cgroup_id,
            program_id: key.program_id,
            slot: key.slot,
            root: wire::wire_root {
                service: key.service,
                login_uid: key.login_uid,
                ..Default::default()
            },
            ..Default::default()
        };
        rows.push(spilled_row(key.epoch, actor, sum(&counts)));
    }
    let index = (epoch & 1).to_ne_bytes();
    let counts = rest.lookup_percpu(&index, MapFlags::ANY).map_err(Error::map("spilled_rest"))?;
    if let Some(mut per_cpu) = counts {
        let counts = sum(&per_cpu);
        if counts.calls != 0 || counts.lost != 0 || counts.limited != 0 {
            rows.push(spilled_row(epoch, wire::wire_actor::default(), counts));
            per_cpu.iter_mut().for_each(|bytes| bytes.fill(0));
            rest.update_percpu(&index, &per_cpu, MapFlags::ANY)
                .map_err(Error::map("spilled_rest"))?;
        }
    }
    Ok(())
}
