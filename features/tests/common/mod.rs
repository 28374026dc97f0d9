//! Synthetic events.
#![allow(dead_code, clippy::unwrap_used)]

use std::sync::Arc;

use hedgerow_event::{
    Actor, Call, Epoch, EpochClose, Event, Exec, Exit, FileKey, Flow, FlowDirection, FlowPhase,
    Fork, HostCounters, Loss, Origin, Peer, Program, Row, RowReason, Subject, Workload,
};

pub const EPOCH_NS: u64 = hedgerow_features::EPOCH_NS;

pub fn subject(workload: &str, program: &str) -> Arc<Subject> {
    Arc::new(Subject::new(Workload::new(workload), Program::new(program)))
}

pub fn event(subject: &Arc<Subject>, epoch: u32, tid: u32, origin: Origin) -> Event {
    Event {
        epoch: Epoch(epoch),
        time_boot_ns: u64::from(epoch) * EPOCH_NS + u64::from(tid),
        actor: Actor {
            subject: subject.clone(),
            tgid: tid / 4,
            tid,
            start_boot_ns: 7,
            cgroup_id: 1,
            program_id: 2,
            slot: 1,
        },
        origin,
    }
}

pub fn row(classes: &[(usize, u32)]) -> Row {
    let mut row = Row::empty(RowReason::Window);
    for &(class, count) in classes {
        row.classes[class] += count;
        row.calls += u64::from(count);
    }
    row
}

pub fn rows(classes: &[(usize, u32)]) -> Origin {
    Origin::Row(Box::new(row(classes)))
}

pub fn exec(previous: Option<&Arc<Subject>>) -> Exec {
    Exec {
        previous: previous.cloned(),
        file: FileKey { device: 1, inode: 2, generation: 3 },
        arguments: "sh -c id".into(),
        ..Exec::of("/bin/sh")
    }
}

pub fn fork(child: u32) -> Origin {
    let (child_tgid, child_tid) = (child, child);
    Origin::Fork(Fork { child_tgid, child_tid, child_start_boot_ns: 9, thread: false })
}

pub fn exit(code: i32) -> Origin {
    Origin::Exit(Exit { code, process: true })
}

pub fn call(number: i64, result: i64, path: &str) -> Origin {
    let number = i32::try_from(number).unwrap();
    Origin::Call(Box::new(Call { class: 1, result, ..Call::of(number, [0; 6], Some(path)) }))
}

pub fn peer(address: &str, port: u16) -> Peer {
    Peer { address: address.parse().unwrap(), port }
}

pub fn flow(phase: FlowPhase, direction: FlowDirection, peer: Peer, out: u64) -> Flow {
    Flow {
        cookie: 5,
        phase,
        bytes_out: out,
        bytes_in: 10,
        packets_out: 4,
        packets_in: 3,
        retransmits: 1,
        rtt_us: Some(80),
        ..Flow::start(direction, self::peer("10.0.0.1", 5432), peer)
    }
}

pub fn outbound(phase: FlowPhase, to: &str, port: u16, out: u64) -> Origin {
    Origin::Flow(Box::new(flow(phase, FlowDirection::Outbound, peer(to, port), out)))
}

pub fn close(epoch: u32) -> EpochClose {
    EpochClose {
        epoch: Epoch(epoch),
        start_boot_ns: u64::from(epoch) * EPOCH_NS,
        end_boot_ns: (u64::from(epoch) + 1) * EPOCH_NS,
        realtime_offset_ns: 1_700_000_000_000_000_000,
        suspended_ns: 0,
        loss: Loss::default(),
        host: HostCounters { packets_in: Some(100), closed_ports: Some(3), ..Default::default() },
        shed: false,
    }
}
