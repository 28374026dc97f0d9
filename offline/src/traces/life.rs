//! A trace as the records of the sensor: one process, its calls in epochs of equal parts.

use std::sync::Arc;

use hedgerow_event::{
    Actor, Epoch, EpochClose, Event, HostCounters, Loss, Origin, Program, Raw, Subject, Workload,
};
use hedgerow_features::{Record, Sensors};

use super::Trace;

/// Of the only sensor that a trace has something of.
pub const SENSORS: Sensors =
    Sensors { rows: true, processes: false, calls: false, flows: false, host: false };
const EPOCH_NS: u64 = hedgerow_detect::EPOCH_SECONDS * 1_000_000_000;

/// The program that all traces are lives of: their files tell no other.
pub fn subject() -> Arc<Subject> {
    Arc::new(Subject::new(Workload::new("traces"), Program::new("/trace")))
}

/// Epochs that a trace lasts where one has about so many calls; all of them are equally long.
pub fn epochs(trace: &Trace, calls: usize) -> u32 {
    let parts = (trace.calls.len() + calls / 2) / calls.max(1);
    u32::try_from(parts.max(1)).unwrap_or(u32::MAX)
}

/// The calls of a process, and the ends of its epochs.
pub fn records<'a>(
    trace: &'a Trace,
    calls: usize,
    subject: &'a Arc<Subject>,
    process: u32,
    first: Epoch,
) -> impl Iterator<Item = Record> + 'a {
    let parts = epochs(trace, calls);
    let length = trace.calls.len() as u64;
    let bound = move |part: u32| (length * u64::from(part) / u64::from(parts)) as usize;
    let actor = Actor {
        subject: Arc::clone(subject),
        tgid: process,
        tid: process,
        start_boot_ns: start_ns(first),
        cgroup_id: 1,
        program_id: 1,
        slot: 1,
    };
    (0..parts).flat_map(move |part| {
        let epoch = Epoch(first.0 + part);
        let actor = actor.clone();
        let calls = trace.calls[bound(part)..bound(part + 1)].iter().enumerate();
        let events = calls.map(move |(at, number)| {
            let raw = Raw {
                number: *number,
                compat: false,
                uring: false,
                fresh: part == 0 && at == 0,
                streamed: false,
                // Whether a call succeeded isn't told. A fork returns to the parent.
                result: 1,
            };
            let time_boot_ns = start_ns(epoch) + at as u64;
            let origin = Origin::Raw(raw);
            Record::Event(Event { epoch, time_boot_ns, actor: actor.clone(), origin })
        });
        events.chain(std::iter::once(Record::Close(close(epoch))))
    })
}

/// The end of an epoch in which nothing was lost.
pub fn close(epoch: Epoch) -> EpochClose {
    EpochClose {
        epoch,
        start_boot_ns: start_ns(epoch),
        end_boot_ns: start_ns(epoch.next()),
        realtime_offset_ns: 0,
        suspended_ns: 0,
        loss: Loss::default(),
        host: HostCounters::default(),
        shed: false,
    }
}

fn start_ns(epoch: Epoch) -> u64 {
    u64::from(epoch.0) * EPOCH_NS
}
