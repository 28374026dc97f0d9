//! Golden bytes of every record kind, and any bytes at all.
#![allow(clippy::unwrap_used)]

mod golden;

use std::net::{IpAddr, Ipv6Addr};

use golden::Order;
use hedgerow_bpf::wire;
use hedgerow_event::{FlowDirection, FlowPhase, Peer, Protocol};
use hedgerow_probe::{
    flow_event,
    wire_event::{DecodeError, WireEvent, decode},
};
use proptest::prelude::*;

#[test]
fn golden_bytes_of_a_row() {
    let WireEvent::Row(row) = decode(&Order::OWN.row()).unwrap() else { panic!() };
    assert_eq!((row.header.epoch, row.header.time_boot_ns), (7, 0x1122_3344_5566_7788));
    let actor = row.actor;
    assert_eq!((actor.start_boot_ns, actor.cgroup_id, actor.program_id), (1, 2, 3));
    assert_eq!((actor.tgid, actor.tid, actor.slot, actor.flags), (4, 5, 6, 0));
    let root = actor.root;
    assert_eq!((root.start_boot_ns, root.service, root.tgid), (11, 12, 13));
    assert_eq!(root.login_uid, 1000);
    assert_eq!((row.reason, row.counts.classes[63], row.counts.calls), (1, 63, 100));
    assert_eq!((row.counts.errors, row.counts.checked, row.counts.unseen2), (101, 102, 103));
    assert_eq!((row.counts.unseen3, row.counts.unseen6), (104, 105));
    assert_eq!((row.counts.collapsed, row.counts.lost, row.counts.limited), (106, 107, 108));
}

#[test]
fn golden_bytes_of_an_exec() {
    let WireEvent::Exec(exec) = decode(&Order::OWN.exec()).unwrap() else { panic!() };
    let record = exec.record;
    assert_eq!((record.previous_program_id, record.profile_id), (77, 78));
    assert_eq!(record.parent_start_boot_ns, 88);
    assert_eq!((record.parent_tgid, record.old_tid), (9, 10));
    assert_eq!((record.uid_before, record.uid, record.login_uid), (11, 12, u32::MAX));
    assert_eq!((record.file.device, record.file.inode), (0x0fe0_0002, 1234));
    assert_eq!((record.file.ctime_ns, record.file.generation), (55, 3));
    assert_eq!((record.file.mode, record.file.directory_mode), (0o100_755, 0o40_755));
    assert_eq!(record.file.links, 1);
    let flags = wire::WIRE_EXEC_SCRIPT | wire::WIRE_EXEC_SOCKET | wire::WIRE_EXEC_UNDER_LISTENER;
    assert_eq!(record.flags, flags);
    assert_eq!((exec.path.as_str(), exec.filename.as_str()), ("/bin/sh", "./x."));
    assert_eq!(exec.arguments, "/x\0-v -1");
}

#[test]
fn golden_bytes_of_a_fork_and_an_exit() {
    let WireEvent::Fork(fork) = decode(&Order::OWN.fork()).unwrap() else { panic!() };
    assert_eq!((fork.child_start_boot_ns, fork.child_tgid, fork.child_tid), (99, 40, 50));
    let WireEvent::Exit(exit) = decode(&Order::OWN.exit()).unwrap() else { panic!() };
    assert_eq!((exit.code, exit.process), (3 << 8, 1));
}

#[test]
fn golden_bytes_of_a_call() {
    let WireEvent::Call(call) = decode(&Order::OWN.call()).unwrap() else { panic!() };
    let record = call.record;
    assert_eq!((record.result, record.arguments), (-2, [1, 2, 3, 4, 5, 6]));
    assert_eq!((record.number, record.flags, record.class), (257, 4, 9));
    assert_eq!(call.path.as_deref(), Some("/a/b"));
}

#[test]
fn paths_that_were_cut_say_so() {
    let mut exec = Order::OWN.exec();
    let flags = 16 + 64 + 24 + 20;
    exec[flags..flags + 4].copy_from_slice(&wire::WIRE_EXEC_PATH_CUT.to_ne_bytes());
    let WireEvent::Exec(exec) = decode(&exec).unwrap() else { panic!() };
    assert_eq!((exec.path.as_str(), exec.filename.as_str()), (".../bin/sh", "./x."));
    let mut call = Order::OWN.call();
    let flags = 16 + 64 + 56 + 4;
    let cut = u16::try_from(wire::WIRE_CALL_PATH_CUT).unwrap();
    call[flags..flags + 2].copy_from_slice(&cut.to_ne_bytes());
    let WireEvent::Call(call) = decode(&call).unwrap() else { panic!() };
    assert_eq!(call.path.as_deref(), Some(".../a/b"));
}

#[test]
fn golden_bytes_of_a_signal_and_a_raw_call() {
    let WireEvent::Signal(signal) = decode(&Order::OWN.signal()).unwrap() else { panic!() };
    assert_eq!((signal.unseen6, signal.calls), (8, 200));
    let WireEvent::Raw(raw) = decode(&Order::OWN.raw()).unwrap() else { panic!() };
    assert_eq!((raw.result, raw.tgid, raw.tid, raw.number), (-38, 4, 5, 1000));
    assert_eq!((raw.flags, raw.slot), (1 | 16 | 32, 6));
    assert_eq!((raw.start_boot_ns, raw.cgroup_id, raw.program_id), (1, 2, 3));
}

#[test]
fn golden_bytes_of_a_cgroup() {
    let WireEvent::Cgroup(cgroup) = decode(&Order::OWN.cgroup()).unwrap() else { panic!() };
    assert_eq!((cgroup.record.id, cgroup.record.removed), (321, 1));
    assert_eq!(cgroup.path, "/a.slice/");
}

#[test]
fn golden_bytes_of_a_process_that_stood_before() {
    let WireEvent::Process(process) = decode(&Order::OWN.process()).unwrap() else { panic!() };
    assert_eq!((process.actor.tgid, process.actor.root.tgid), (4, 13));
}

#[test]
fn golden_bytes_of_a_file_in_use() {
    let WireEvent::Used(used) = decode(&Order::OWN.used()).unwrap() else { panic!() };
    let record = used.record;
    assert_eq!((record.actor.tgid, record.flags), (4, 3));
    assert_eq!((record.file.device, record.file.inode, record.file.links), (0x0fe0_0002, 1234, 1));
    assert_eq!(used.path, ".../lib/a.so");
}

fn check_flow(local: IpAddr, peer: IpAddr) {
    let octets = |address| match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => Ipv6Addr::octets(&v6),
    };
    let bytes = Order::OWN.flow([octets(local), octets(peer)]);
    let WireEvent::Flow(record) = decode(&bytes).unwrap() else { panic!() };
    let flow = flow_event::flow(&record).unwrap();
    assert_eq!(flow.local, Peer { address: local, port: 43210 });
    assert_eq!(flow.peer, Peer { address: peer, port: 443 });
    assert_eq!((flow.bytes_out, flow.bytes_in), (1_000_000, 255));
    assert_eq!((flow.packets_out, flow.packets_in), (16, 17));
    assert_eq!((flow.phase, flow.protocol), (FlowPhase::Final, Protocol::Tcp));
    assert_eq!((flow.direction, flow.retransmits), (FlowDirection::Outbound, 5));
    assert_eq!((flow.rtt_us, flow.netns), (Some(1000), 4_026_531_992));
    assert_eq!(flow.cookie, 0x0100_0000_0000_0009);
}

#[test]
fn golden_bytes_of_flows_over_ipv4_and_ipv6() {
    check_flow("10.1.2.3".parse().unwrap(), "192.0.2.254".parse().unwrap());
    check_flow("fd00::1:2".parse().unwrap(), "2001:db8::fe".parse().unwrap());
}

/// Kind and size come first, so that nothing of a foreign record is taken for a number.
#[test]
fn records_of_a_kernel_of_the_other_byte_order_are_refused() {
    for bytes in Order::OTHER.all() {
        assert!(decode(&bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn every_length_but_the_right_one_is_refused() {
    for bytes in Order::OWN.all() {
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length} of {}", bytes.len());
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(decode(&longer).is_err());
        let size = u16::try_from(longer.len()).unwrap();
        longer[2..4].copy_from_slice(&size.to_ne_bytes());
        assert!(decode(&longer).is_err(), "a size that the kind doesn't have");
    }
}

#[test]
fn what_is_out_of_range_is_refused() {
    let mut bytes = Order::OWN.row();
    bytes[80] = 9;
    assert_eq!(decode(&bytes).unwrap_err(), DecodeError::Value { kind: 1, value: 9 });
    let mut bytes = Order::OWN.call();
    bytes[142] = 64;
    assert_eq!(decode(&bytes).unwrap_err(), DecodeError::Value { kind: 5, value: 64 });
    let mut bytes = Order::OWN.used();
    bytes[128] = 8;
    assert_eq!(decode(&bytes).unwrap_err(), DecodeError::Value { kind: 11, value: 8 });
    for kind in [0, 12, u16::MAX] {
        let bytes = Order::OWN.header(kind, 16);
        assert_eq!(decode(&bytes).unwrap_err(), DecodeError::UnknownKind(kind));
    }
}

#[test]
fn strings_that_are_no_utf8_are_kept_readable() {
    let mut bytes = Order::OWN.call();
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
        kind in 0u16..13,
        mut body in prop::collection::vec(any::<u8>(), 16..512),
    ) {
        let size = u16::try_from(body.len()).unwrap();
        body[..2].copy_from_slice(&kind.to_ne_bytes());
        body[2..4].copy_from_slice(&size.to_ne_bytes());
        let _ = decode(&body);
    }
}
