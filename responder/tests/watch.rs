//! What another process does to the deny programs and maps is seen. Live: root, own pins.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Bench, operator, peer};
use hedgerow_event::Target;
use hedgerow_responder::now;
use libbpf_rs::{Link, MapCore, MapFlags, MapHandle};

/// Documentation addresses: nothing here ever talks to them.
const DENIED: &str = "192.0.2.1";
const ALLOWED: &str = "198.51.100.7";

#[test]
fn puppet() {
    common::play();
}

fn told(bench: &mut Bench) -> Vec<String> {
    bench.get().tampered().unwrap().iter().map(ToString::to_string).collect()
}

/// A map, opened through its pin as any process of root can.
fn map(bench: &Bench, name: &str) -> MapHandle {
    MapHandle::from_pinned_path(bench.options.directory.join(name)).unwrap()
}

fn link(bench: &Bench, name: &str) -> std::path::PathBuf {
    bench.options.directory.join("links").join(name)
}

#[test]
fn nobody_is_accused_in_peace() {
    let mut bench = Bench::new("peace");
    assert!(told(&mut bench).is_empty());
    let first = bench.deny(peer(DENIED, 32), 60);
    let cgroup = Target::Cgroup { cgroup_id: 0xdead_beef, path: "/none".into() };
    bench.get().deny(operator(cgroup, 60)).unwrap();
    bench.get().allow(peer(ALLOWED, 32), true).unwrap();
    assert!(told(&mut bench).is_empty(), "{:?}", told(&mut bench));
    bench.get().tick(now()).unwrap();
    assert!(told(&mut bench).is_empty());
    bench.get().remove(&first.uid, "over").unwrap();
    bench.get().allow(peer(ALLOWED, 32), false).unwrap();
    assert!(told(&mut bench).is_empty(), "{:?}", told(&mut bench));
    // One that takes over finds what was left, and calls it its own.
    let options = bench.options.clone();
    bench.responder = None;
    bench.responder = Some(hedgerow_responder::Responder::start(options).unwrap());
    assert!(told(&mut bench).is_empty(), "{:?}", told(&mut bench));
}

#[test]
fn foreign_entries_changes_and_allowances_are_told() {
    let mut bench = Bench::new("foreign");
    bench.deny(peer(DENIED, 32), 60);
    let entries = map(&bench, "deny_entries");
    let key = entries.keys().next().unwrap();
    let value = entries.lookup(&key, MapFlags::ANY).unwrap().unwrap();

    entries.update(&99u64.to_ne_bytes(), &value, MapFlags::ANY).unwrap();
    assert_eq!(
        told(&mut bench),
        ["map deny_entries: it has an entry that no ledger line explains"]
    );
    entries.delete(&99u64.to_ne_bytes()).unwrap();
    assert!(told(&mut bench).is_empty());

    let mut shorter = value.clone();
    shorter[..8].copy_from_slice(&1u64.to_ne_bytes());
    entries.update(&key, &shorter, MapFlags::ANY).unwrap();
    assert_eq!(told(&mut bench), ["map deny_entries: an entry was changed"]);
    entries.delete(&key).unwrap();
    assert_eq!(told(&mut bench), ["map deny_entries: an entry was taken out"]);
    entries.update(&key, &value, MapFlags::ANY).unwrap();
    assert!(told(&mut bench).is_empty());

    let allowed = map(&bench, "allow_peers");
    let mut key = vec![0; allowed.key_size() as usize];
    key[..4].copy_from_slice(&224u32.to_ne_bytes());
    allowed.update(&key, &vec![0; allowed.value_size() as usize], MapFlags::ANY).unwrap();
    assert_eq!(
        told(&mut bench),
        ["map allow_peers: it lets something through that no ledger line explains"]
    );
    allowed.delete(&key).unwrap();

    let scopes = map(&bench, "deny_scopes");
    scopes.delete(&0u64.to_ne_bytes()).unwrap();
    assert_eq!(told(&mut bench), ["map deny_scopes: what is looked up for a cgroup was changed"]);
}

#[test]
fn whom_entries_refuse_is_told_where_it_was_changed() {
    let mut bench = Bench::new("index");
    let file = hedgerow_event::FileKey { device: 1, inode: 2, generation: 3 };
    for network in [false, true] {
        bench.deny(Target::Program { cgroup_id: 77, file, path: "/p".into(), network }, 60);
    }
    bench.deny(Target::User { uid: 4242 }, 60);
    let program_id = 5;
    let of_program = Target::Peer {
        address: DENIED.parse().unwrap(),
        prefix_length: 32,
        cgroup_id: 77,
        program_id,
    };
    bench.deny(of_program, 60);
    bench.deny(peer(DENIED, 32), 60);
    assert!(told(&mut bench).is_empty(), "{:?}", told(&mut bench));
    for name in ["deny_peers", "deny_programs", "deny_users"] {
        let index = map(&bench, name);
        let key = index.keys().next().unwrap();
        let value = index.lookup(&key, MapFlags::ANY).unwrap().unwrap();
        let changed = [format!("map {name}: whom an entry refuses was taken out or changed")];
        // Each time: it is put back.
        for _ in 0..2 {
            index.delete(&key).unwrap();
            assert_eq!(told(&mut bench), changed);
            assert_eq!(index.lookup(&key, MapFlags::ANY).unwrap().unwrap(), value);
        }
        index.update(&key, &vec![1; value.len()], MapFlags::ANY).unwrap();
        assert_eq!(told(&mut bench), changed);
        assert!(told(&mut bench).is_empty());
        let mut other = key.clone();
        *other.last_mut().unwrap() ^= 1;
        index.update(&other, &value, MapFlags::ANY).unwrap();
        let foreign = [format!("map {name}: it refuses somebody whom no ledger line explains")];
        assert_eq!(told(&mut bench), foreign);
        assert!(told(&mut bench).is_empty());
    }
}

#[test]
fn detached_and_unpinned_programs_are_told() {
    let mut bench = Bench::new("detached");
    Link::open(link(&bench, "connect4")).unwrap().detach().unwrap();
    assert_eq!(told(&mut bench), ["deny program connect4: detached"]);
    fs::remove_file(link(&bench, "egress")).unwrap();
    let all = told(&mut bench);
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[1].starts_with("deny program egress: no longer pinned"), "{all:?}");
    // Another map in the place of the kill switch.
    let pin = bench.options.directory.join("deny_switch");
    fs::remove_file(&pin).unwrap();
    let mut other = map(&bench, "deny_hits");
    other.pin(&pin).unwrap();
    assert!(told(&mut bench).contains(&"map deny_switch: another one is in its place".to_owned()));
    hedgerow_responder::remove_pins(&bench.options.directory).unwrap();
    assert_eq!(told(&mut bench), ["the deny programs and maps: no longer pinned"]);
}
