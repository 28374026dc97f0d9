//! What the running sensor keeps of a thread, changed from outside.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use libbpf_rs::{
    btf::{
        Btf,
        types::{MemberAttr, Struct},
    },
    libbpf_sys::{bpf_map_get_fd_by_id, bpf_map_lookup_elem, bpf_map_update_elem},
    query::{MapInfoIter, ProgInfoIter, ProgInfoQueryOptions, ProgramInfo},
};

/// Of the sensor that this process runs, whatever other runs on the host.
fn own_program() -> ProgramInfo {
    let id = |text: &str| -> Option<u32> {
        let value = text.lines().find_map(|line| line.strip_prefix("prog_id:"))?;
        value.trim().parse().ok()
    };
    let descriptors = fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
    let texts = descriptors.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let own: Vec<u32> = texts.filter_map(|text| id(&text)).collect();
    let options = ProgInfoQueryOptions::default().include_map_ids(true);
    let mut all = ProgInfoIter::with_query_opts(options);
    // The kernel keeps fifteen letters.
    let calls = |info: &ProgramInfo| {
        own.contains(&info.id) && info.name.to_str() == Some("on_process_exit")
    };
    all.find(calls).unwrap()
}

fn offset(btf: &Btf<'_>, field: &str) -> usize {
    let row = btf.type_by_name::<Struct<'_>>("row").unwrap();
    let found = row.iter().find(|member| member.name.and_then(|name| name.to_str()) == Some(field));
    match found.unwrap().attr {
        MemberAttr::Normal { offset } => offset as usize / 8,
        MemberAttr::BitField { .. } => panic!("{field}"),
    }
}

/// Makes the sensor take a single-threaded process, which has all rights, for one of user 1000 that
/// has none.
pub fn forget_rights(process: libc::pid_t) {
    let program = own_program();
    let mut maps = MapInfoIter::default().filter(|info| program.map_ids.contains(&info.id));
    let map = maps.find(|info| info.name.to_str() == Some("rows")).unwrap();
    let btf = Btf::from_prog_id(program.id).unwrap();
    let mut row = vec![0u8; map.value_size as usize];
    // SAFETY: numbers; the calls return descriptors of ours.
    let (map, process) = unsafe {
        let map = OwnedFd::from_raw_fd(bpf_map_get_fd_by_id(map.id));
        let process = libc::syscall(libc::SYS_pidfd_open, process, 0);
        (map, OwnedFd::from_raw_fd(process as i32))
    };
    let key = process.as_raw_fd();
    // SAFETY: key and value have the sizes that the map has.
    unsafe {
        let value = row.as_mut_ptr().cast();
        assert_eq!(bpf_map_lookup_elem(map.as_raw_fd(), (&raw const key).cast(), value), 0);
    }
    let (uid, capabilities) = (offset(&btf, "uid"), offset(&btf, "capabilities"));
    row[uid..uid + 4].copy_from_slice(&1000u32.to_ne_bytes());
    row[capabilities..capabilities + 8].fill(0);
    // SAFETY: as above; the process waits, so that nobody else writes its row.
    unsafe {
        let value = row.as_ptr().cast();
        let flags = libbpf_rs::libbpf_sys::BPF_EXIST.into();
        assert_eq!(bpf_map_update_elem(map.as_raw_fd(), (&raw const key).cast(), value, flags), 0);
    }
}
