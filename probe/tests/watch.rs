//! The sensor's own watch: what another process does to its hooks and maps is seen. Needs root.
#![allow(clippy::unwrap_used)]

mod harness;

use std::{
    fs,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use harness::Sensor;
use hedgerow_event::{Origin, Tampering};
use hedgerow_probe::{Hook, Options, Positions, Proof};
use libbpf_rs::{
    MapCore, MapFlags, MapHandle,
    libbpf_sys::{
        bpf_link_detach, bpf_link_get_fd_by_id, bpf_map_get_fd_by_id, bpf_map_lookup_elem,
        bpf_map_update_elem,
    },
    query::{MapInfoIter, ProgInfoIter, ProgInfoQueryOptions, ProgramInfo},
};

fn options() -> Options {
    Options { window: Duration::from_millis(200), observe_own: true, ..Options::default() }
}

/// Ids of the links that this process holds, with their programs: those of the running sensor.
fn links() -> Vec<(u32, u32)> {
    let field = |text: &str, name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().parse().ok()
    };
    let descriptors = fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
    descriptors
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .filter_map(|text| Some((field(&text, "link_id")?, field(&text, "prog_id")?)))
        .collect()
}

fn own_programs() -> Vec<ProgramInfo> {
    let links = links();
    let all = ProgInfoIter::with_query_opts(ProgInfoQueryOptions::default().include_map_ids(true));
    all.filter(|info| links.iter().any(|(_, program)| *program == info.id)).collect()
}

/// The kernel keeps fifteen letters of a name.
fn is_named(found: Option<&str>, name: &str) -> bool {
    found == Some(&name[..name.len().min(15)])
}

fn opened(fd: i32) -> OwnedFd {
    assert!(fd >= 0);
    // SAFETY: a new descriptor, as the callers got it from the kernel.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The link of the sensor's program of this name, opened as anybody with the right to can.
fn link(program: &str) -> OwnedFd {
    let programs = own_programs();
    let program = programs.iter().find(|info| is_named(info.name.to_str(), program)).unwrap();
    let (link, _) = links().into_iter().find(|(_, of)| *of == program.id).unwrap();
    // SAFETY: a number.
    opened(unsafe { bpf_link_get_fd_by_id(link) })
}

/// The sensor's map of this name, opened likewise.
fn map(name: &str) -> OwnedFd {
    let ids: Vec<u32> = own_programs().into_iter().flat_map(|info| info.map_ids).collect();
    let mut all = MapInfoIter::default().filter(|info| ids.contains(&info.id));
    let found = all.find(|info| is_named(info.name.to_str(), name));
    // SAFETY: a number.
    opened(unsafe { bpf_map_get_fd_by_id(found.unwrap_or_else(|| panic!("no map {name}")).id) })
}

/// Does it in another process, as a foreign hand would.
fn foreign(deed: impl FnOnce() -> i32) {
    // SAFETY: the child makes system calls only, and ends.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::_exit(deed().signum().abs());
        }
        let mut status = -1;
        libc::waitpid(child, &raw mut status, 0);
        assert_eq!(status, 0, "the deed itself failed");
    }
}

fn tampered(sensor: &Sensor, wanted: &str) -> Tampering {
    let control = sensor.control();
    let find = || control.tampered().into_iter().find(|t| t.to_string().contains(wanted));
    sensor.wait(wanted, |_| find().is_some());
    find().unwrap()
}

fn windows(sensor: &Sensor, count: usize) {
    let before = sensor.seen(|seen| seen.closes.len());
    sensor.wait("windows", |seen| seen.closes.len() >= before + count);
}

#[test]
fn nobody_is_accused_in_peace() {
    let sensor = Sensor::start(Options { learning: true, ..options() });
    for round in 0..4 {
        assert!(std::process::Command::new("true").status().unwrap().success());
        sensor.control().set_learning(round % 2 == 0);
        windows(&sensor, 4);
        assert_eq!(sensor.control().tampered().into_iter().collect::<Vec<_>>(), []);
    }
    sensor.stop();
}

#[test]
fn a_detached_hook_is_told() {
    let sensor = Sensor::start(options());
    let link = link("on_flow_packet_out");
    // SAFETY: a link's descriptor.
    foreign(|| unsafe { bpf_link_detach(link.as_raw_fd()) });
    let told = tampered(&sensor, "on_flow_packet_");
    assert_eq!(&*told.how, "detached");
    let hooks = sensor.control().hooks();
    assert!(hooks.iter().any(|hook| hook.hook == Hook::Packet && hook.proof == Proof::Gone));
    assert_eq!(sensor.control().tampered().len(), 1, "nothing else");
    sensor.stop();
}

fn put(map: &OwnedFd, key: &[u8], value: &[u8]) -> i32 {
    // SAFETY: key and value have the sizes of the map's.
    unsafe { bpf_map_update_elem(map.as_raw_fd(), key.as_ptr().cast(), value.as_ptr().cast(), 0) }
}

#[test]
fn what_is_told_once_is_frozen() {
    let sensor = Sensor::start(options());
    let (interpreters, words) = (map("interpreters"), map("interpreter_words"));
    foreign(|| {
        let done = put(&interpreters, &7u64.to_ne_bytes(), &1u32.to_ne_bytes());
        i32::from(done != -libc::EPERM)
    });
    foreign(|| i32::from(put(&words, &[7; 16], &1u32.to_ne_bytes()) != -libc::EPERM));
    sensor.stop();
}

#[test]
fn a_foreign_entry_in_a_map_is_told() {
    let sensor = Sensor::start(options());
    windows(&sensor, 4);
    let (workloads, programs) = (map("workloads"), map("programs"));
    foreign(|| put(&workloads, &77u64.to_ne_bytes(), &9u32.to_ne_bytes()));
    let told = tampered(&sensor, "map workloads");
    assert!(told.how.contains("did not write"), "{told}");
    foreign(|| put(&programs, &[7; 16], &[1, 0, 0, 0, 0, 0, 0, 0]));
    tampered(&sensor, "map programs");
    sensor.stop();
}

#[test]
fn a_foreign_control_word_is_told_and_put_right() {
    let sensor = Sensor::start(options());
    let map = map(".data.control");
    let before =
        MapHandle::from_map_id(libbpf_rs::MapInfo::new(map.as_fd()).unwrap().info.id).unwrap();
    let read = || before.lookup(&0u32.to_ne_bytes(), MapFlags::ANY).unwrap().unwrap();
    let mut word = read();
    // Calls itself the child that proves the hooks: it would be nobody's.
    let proof = std::mem::offset_of!(hedgerow_bpf::wire::wire_control, proof_tgid);
    word[proof..proof + 4].copy_from_slice(&std::process::id().to_ne_bytes());
    foreign(|| put(&map, &0u32.to_ne_bytes(), &word));
    tampered(&sensor, "control word");
    assert_eq!(read()[proof..proof + 4], [0; 4]);
    sensor.stop();
}

#[test]
fn a_foreign_profile_is_told() {
    let sensor = Sensor::start(Options { learning: true, ..options() });
    let owned = |seen: &harness::Seen| {
        seen.events
            .iter()
            .find(|event| event.actor.slot != 0)
            .map(|event| (event.actor.slot, Arc::clone(&event.actor.subject)))
    };
    let script = "for i in 1 2 3 4 5 6 7 8 9; do /bin/true; done; read x";
    let mut shell = std::process::Command::new("sh")
        .args(["-c", script])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    sensor.wait("a program with a profile", |seen| owned(seen).is_some());
    let (slot, subject) = sensor.seen(owned).unwrap();
    let known = Positions { grams6: vec![5], ..Positions::default() };
    sensor.control().arm([(Arc::clone(&subject), known)]);
    windows(&sensor, 2);
    assert!(sensor.control().tampered().is_empty(), "our own writing");
    let map = map("profiles");
    let mut profile = vec![0u8; size_of::<hedgerow_bpf::wire::wire_profile>()];
    let key = slot.to_ne_bytes();
    let known = std::mem::offset_of!(hedgerow_bpf::wire::wire_profile, known);
    // SAFETY: key and value have the sizes of the map's.
    foreign(|| unsafe {
        let (key, value) = (key.as_ptr().cast(), profile.as_mut_ptr());
        let read = bpf_map_lookup_elem(map.as_raw_fd(), key, value.cast());
        *value.add(known) |= 0x80;
        if read < 0 { read } else { bpf_map_update_elem(map.as_raw_fd(), key, value.cast(), 0) }
    });
    let told = tampered(&sensor, "map profiles");
    assert!(told.how.contains(&subject.to_string()), "{told}");
    drop(shell.stdin.take());
    shell.wait().unwrap();
    assert!(sensor.stop().events.iter().any(|event| matches!(event.origin, Origin::Exec(_))));
}
