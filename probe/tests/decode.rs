//! Golden bytes of every record kind, as a little-endian kernel writes them, and any bytes at all.
#![allow(clippy::unwrap_used)]

use hedgerow_probe::wire_event::{DecodeError, WireEvent, decode};
use proptest::prelude::*;

/// kind, size, epoch 7, time 0x1122334455667788
fn header(kind: u16, size: usize) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend(u16::try_from(size).unwrap().to_le_bytes());
    bytes.extend([7, 0, 0, 0]);
    bytes.extend([0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
    bytes
}

/// start 1, cgroup 2, program 3, tgid 4, tid 5, slot 6, flags 0
fn actor() -> Vec<u8> {
    let mut bytes = Vec::new();
    for long in 1u64..=3 {
        bytes.extend(long.to_le_bytes());
    }
    for short in [4u32, 5, 6, 0] {
        bytes.extend(short.to_le_bytes());
    }
    bytes
}

fn words(values: impl IntoIterator<Item = u32>) -> Vec<u8> {
    values.into_iter().flat_map(u32::to_le_bytes).collect()
}

fn longs(values: impl IntoIterator<Item = u64>) -> Vec<u8> {
    values.into_iter().flat_map(u64::to_le_bytes).collect()
}

fn row() -> Vec<u8> {
    let reason = words([1, 0]);
    let counts = words((0..64).chain([100, 101, 102, 103, 104, 105, 106, 107, 108, 0]));
    [header(1, 360), actor(), reason, counts].concat()
}

fn exec() -> Vec<u8> {
    let fixed = [
        longs([77, 88]),                          // previous program, parent's start
        words([9, 10, 11, 12, u32::MAX, 1]),      // parent, old tid, uids, login uid, script
        longs([0x0fe0_0002, 1234, 55]),           // device, inode, ctime
        words([3, 0o100_755, 0, 0o40_755, 0, 1]), // generation, modes and owners, links
        vec![7, 0, 4, 0, 8, 0, 0, 0],
    ]
    .concat();
    let strings = b"/bin/sh./x./x\0-v -1".to_vec();
    let size = 16 + 40 + fixed.len() + strings.len();
    [header(2, size), actor(), fixed, strings].concat()
}

fn fork() -> Vec<u8> {
    [header(3, 72), actor(), longs([99]), words([40, 50])].concat()
}

fn exit() -> Vec<u8> {
    [header(4, 64), actor(), words([0x0000_0300, 1])].concat()
}

fn call() -> Vec<u8> {
    let fixed = [
        longs([(-2i64).cast_unsigned(), 1, 2, 3, 4, 5, 6]),
        words([257]),
        vec![4, 0, 9, 0],
        vec![4, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    [header(5, 132), actor(), fixed, b"/a/b".to_vec()].concat()
}

fn signal() -> Vec<u8> {
    [header(6, 64), actor(), words([8, 200])].concat()
}

fn raw() -> Vec<u8> {
    let fixed = [longs([1, (-38i64).cast_unsigned()]), words([4, 5, 1000]), vec![49, 0, 6, 0]];
    [header(7, 48), fixed.concat()].concat()
}

fn cgroup() -> Vec<u8> {
    [header(9, 41), longs([321]), words([1]), vec![9, 0, 0, 0], b"/a.slice/".to_vec()].concat()
}

#[test]
fn golden_bytes_of_a_row() {
    let WireEvent::Row(row) = decode(&row()).unwrap() else { panic!() };
    assert_eq!((row.header.epoch, row.header.time_boot_ns), (7, 0x1122_3344_5566_7788));
    let actor = row.actor;
    assert_eq!((actor.start_boot_ns, actor.cgroup_id, actor.program_id), (1, 2, 3));
    assert_eq!((actor.tgid, actor.tid, actor.slot, actor.flags), (4, 5, 6, 0));
    assert_eq!((row.reason, row.counts.classes[63], row.counts.calls), (1, 63, 100));
    assert_eq!((row.counts.errors, row.counts.checked, row.counts.unseen2), (101, 102, 103));
    assert_eq!((row.counts.unseen3, row.counts.unseen6), (104, 105));
    assert_eq!((row.counts.collapsed, row.counts.lost, row.counts.limited), (106, 107, 108));
}

#[test]
fn golden_bytes_of_an_exec() {
    let WireEvent::Exec(exec) = decode(&exec()).unwrap() else { panic!() };
    let record = exec.record;
    assert_eq!((record.previous_program_id, record.parent_start_boot_ns), (77, 88));
    assert_eq!((record.parent_tgid, record.old_tid), (9, 10));
    assert_eq!((record.uid_before, record.uid, record.login_uid), (11, 12, u32::MAX));
    assert_eq!((record.file.device, record.file.inode), (0x0fe0_0002, 1234));
    assert_eq!((record.file.ctime_ns, record.file.generation), (55, 3));
    assert_eq!((record.file.mode, record.file.directory_mode), (0o100_755, 0o40_755));
    assert_eq!((record.flags, record.file.links), (1, 1));
    assert_eq!((exec.path.as_str(), exec.filename.as_str()), ("/bin/sh", "./x."));
    assert_eq!(exec.arguments, "/x\0-v -1");
}

#[test]
fn golden_bytes_of_a_fork_and_an_exit() {
    let WireEvent::Fork(fork) = decode(&fork()).unwrap() else { panic!() };
    assert_eq!((fork.child_start_boot_ns, fork.child_tgid, fork.child_tid), (99, 40, 50));
    let WireEvent::Exit(exit) = decode(&exit()).unwrap() else { panic!() };
    assert_eq!((exit.code, exit.process), (3 << 8, 1));
}

#[test]
fn golden_bytes_of_a_call() {
    let WireEvent::Call(call) = decode(&call()).unwrap() else { panic!() };
    let record = call.record;
    assert_eq!((record.result, record.arguments), (-2, [1, 2, 3, 4, 5, 6]));
    assert_eq!((record.number, record.flags, record.class), (257, 4, 9));
    assert_eq!(call.path.as_deref(), Some("/a/b"));
}

#[test]
fn golden_bytes_of_a_signal_and_a_raw_call() {
    let WireEvent::Signal(signal) = decode(&signal()).unwrap() else { panic!() };
    assert_eq!((signal.unseen6, signal.calls), (8, 200));
    let WireEvent::Raw(raw) = decode(&raw()).unwrap() else { panic!() };
    assert_eq!((raw.result, raw.tgid, raw.tid, raw.number), (-38, 4, 5, 1000));
    assert_eq!((raw.flags, raw.slot), (1 | 16 | 32, 6));
}

#[test]
fn golden_bytes_of_a_cgroup() {
    let WireEvent::Cgroup(cgroup) = decode(&cgroup()).unwrap() else { panic!() };
    assert_eq!((cgroup.record.id, cgroup.record.removed), (321, 1));
    assert_eq!(cgroup.path, "/a.slice/");
}

#[test]
fn every_length_but_the_right_one_is_refused() {
    let kinds = [row(), exec(), fork(), exit(), call(), signal(), raw(), cgroup()];
    for bytes in kinds {
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length} of {}", bytes.len());
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(decode(&longer).is_err());
        let size = u16::try_from(longer.len()).unwrap();
        longer[2..4].copy_from_slice(&size.to_le_bytes());
        assert!(decode(&longer).is_err(), "a size that the kind doesn't have");
    }
}

#[test]
fn what_is_out_of_range_is_refused() {
    let mut bytes = row();
    bytes[56] = 9;
    assert_eq!(decode(&bytes).unwrap_err(), DecodeError::Value { kind: 1, value: 9 });
    let mut bytes = call();
    bytes[118] = 64;
    assert_eq!(decode(&bytes).unwrap_err(), DecodeError::Value { kind: 5, value: 64 });
    for kind in [0, 10, u16::MAX] {
        let bytes = header(kind, 16);
        assert_eq!(decode(&bytes).unwrap_err(), DecodeError::UnknownKind(kind));
    }
}

#[test]
fn strings_that_are_no_utf8_are_kept_readable() {
    let mut bytes = call();
    let last = bytes.len() - 1;
    bytes[last] = 0xff;
    let WireEvent::Call(call) = decode(&bytes).unwrap() else { panic!() };
    assert_eq!(call.path.as_deref(), Some("/a/\u{fffd}"));
}

proptest! {
    #[test]
    fn any_bytes_are_a_record_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn any_body_of_any_kind_is_a_record_or_an_error(
        kind in 0u16..12,
        mut body in prop::collection::vec(any::<u8>(), 16..512),
    ) {
        let size = u16::try_from(body.len()).unwrap();
        body[..2].copy_from_slice(&kind.to_le_bytes());
        body[2..4].copy_from_slice(&size.to_le_bytes());
        let _ = decode(&body);
    }
}
