//! The columns of records: name, type, the kinds that fill it, and how a record gives its value.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BooleanArray, DictionaryArray, Int32Array, Int64Array, ListArray, StringArray,
        UInt8Array, UInt16Array, UInt32Array, UInt64Array,
    },
    datatypes::{DataType, Field, Int32Type, UInt32Type, UInt64Type},
};
use hedgerow_event::{
    Actor, Call, EpochClose, Event, Exec, Exit, Flow, FlowDirection, FlowPhase, Fork, GramReport,
    Origin, Protocol, Provenance, Raw, Row, RowReason, Signal, Subject,
};

use super::{
    EarlyLook,
    Kind::{self, Call as CALL, Close as CLOSE, Exec as EXEC, Exit as EXIT, Flow as FLOW},
    Kind::{Early, Fork as FORK, Grams as GRAMS, Raw as RAW, Row as ROW, Signal as SIGNAL},
    Record,
};

/// Every event has an actor.
const ACTOR: u16 = 255;
/// Kinds that name a subject.
const NAMED: u16 = ACTOR | GRAMS as u16 | EARLY;
const EARLY: u16 = Early as u16;
const ALL: u16 = NAMED | CLOSE as u16;

pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) data_type: fn() -> DataType,
    /// Of [`Kind`], as bits.
    pub(super) kinds: u16,
    pub(super) write: fn(&[Record]) -> ArrayRef,
}

impl Column {
    pub(super) fn is_nullable(&self) -> bool {
        self.kinds != ALL
    }
}

fn event(record: &Record) -> Option<&Event> {
    if let Record::Event(event) = record { Some(event) } else { None }
}

fn close(record: &Record) -> Option<&EpochClose> {
    if let Record::Close(close) = record { Some(close) } else { None }
}

fn early(record: &Record) -> Option<&EarlyLook> {
    if let Record::Early(early) = record { Some(early) } else { None }
}

fn actor(record: &Record) -> Option<&Actor> {
    event(record).map(|event| &event.actor)
}

macro_rules! accessors {
    ($($name:ident: $kind:ident),+ $(,)?) => {$(
        fn $name(record: &Record) -> Option<&$kind> {
            match &event(record)?.origin {
                Origin::$kind(inner) => Some(inner),
                _ => None,
            }
        }
    )+};
}
accessors!(row: Row, exec: Exec, fork: Fork, exit: Exit, call: Call, flow: Flow, signal: Signal, raw: Raw);

macro_rules! writers {
    ($($name:ident: $native:ty => $array:ty),+ $(,)?) => {$(
        fn $name(records: &[Record], value: impl Fn(&Record) -> Option<$native>) -> ArrayRef {
            Arc::new(records.iter().map(value).collect::<$array>())
        }
    )+};
}
writers!(
    u8s: u8 => UInt8Array,
    u16s: u16 => UInt16Array,
    u32s: u32 => UInt32Array,
    u64s: u64 => UInt64Array,
    i32s: i32 => Int32Array,
    i64s: i64 => Int64Array,
    flags: bool => BooleanArray,
    strings: String => StringArray,
);

fn texts<'a>(records: &'a [Record], value: impl Fn(&'a Record) -> Option<&'a str>) -> ArrayRef {
    Arc::new(records.iter().map(value).collect::<StringArray>())
}

fn names<'a>(records: &'a [Record], value: impl Fn(&'a Record) -> Option<&'a str>) -> ArrayRef {
    Arc::new(records.iter().map(value).collect::<DictionaryArray<Int32Type>>())
}

fn name_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn list_type(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

fn subject_of(record: &Record) -> Option<&Subject> {
    match record {
        Record::Event(event) => Some(&event.actor.subject),
        Record::Grams(grams) => Some(&grams.subject),
        Record::Early(early) => Some(&early.subject),
        Record::Close(_) => None,
    }
}

fn grams(record: &Record) -> Option<&GramReport> {
    if let Record::Grams(grams) = record { Some(grams) } else { None }
}

fn previous(record: &Record) -> Option<&Subject> {
    exec(record)?.previous.as_deref()
}

fn parent(record: &Record) -> Option<&Subject> {
    exec(record)?.parent.as_deref()
}

pub(super) const REASONS: [(RowReason, &str); 4] = [
    (RowReason::Window, "window"),
    (RowReason::Exec, "exec"),
    (RowReason::Exit, "exit"),
    (RowReason::Spilled, "spilled"),
];
pub(super) const PHASES: [(FlowPhase, &str); 4] = [
    (FlowPhase::Start, "start"),
    (FlowPhase::Interim, "interim"),
    (FlowPhase::Final, "final"),
    (FlowPhase::Failed, "failed"),
];
pub(super) const PROTOCOLS: [(Protocol, &str); 4] = [
    (Protocol::Tcp, "tcp"),
    (Protocol::Udp, "udp"),
    (Protocol::Icmp, "icmp"),
    (Protocol::Other, "other"),
];
pub(super) const PROVENANCES: [(Provenance, &str); 7] = [
    (Provenance::Unknown, "unknown"),
    (Provenance::Package, "package"),
    (Provenance::Unsigned, "unsigned"),
    (Provenance::Modified, "modified"),
    (Provenance::Image, "image"),
    (Provenance::Drift, "drift"),
    (Provenance::Unowned, "unowned"),
];
pub(super) const DIRECTIONS: [(FlowDirection, &str); 2] =
    [(FlowDirection::Outbound, "outbound"), (FlowDirection::Inbound, "inbound")];

fn named<T: PartialEq>(table: &[(T, &'static str)], value: T) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == value).map(|(_, name)| *name)
}

macro_rules! columns {
    ($($name:literal $type:expr, $kinds:expr, $write:ident($value:expr);)+) => {
        &[$(Column {
            name: $name,
            data_type: || $type,
            kinds: $kinds,
            write: |records| $write(records, $value),
        }),+]
    };
}

use DataType::{Boolean, Int32, Int64, UInt8, UInt16, UInt32, UInt64, Utf8};

pub(super) const COLUMNS: &[Column] = columns! {
    "kind" name_type(), ALL, names(|r| Some(Kind::of(r).name()));
    "epoch" UInt32, ALL, u32s(|r| Some(match r {
        Record::Event(event) => event.epoch.0,
        Record::Grams(grams) => grams.epoch.0,
        Record::Close(close) => close.epoch.0,
        Record::Early(early) => early.epoch.0,
    }));
    "time_boot_ns" UInt64, ACTOR | EARLY, u64s(|r| {
        early(r).map(|early| early.time_boot_ns).or_else(|| Some(event(r)?.time_boot_ns))
    });
    "workload" name_type(), NAMED, names(|r| Some(subject_of(r)?.workload.as_str()));
    "program" name_type(), NAMED, names(|r| Some(&*subject_of(r)?.program.path));
    "script" name_type(), NAMED, names(|r| subject_of(r)?.program.script.as_deref());
    "tgid" UInt32, ACTOR, u32s(|r| Some(actor(r)?.tgid));
    "tid" UInt32, ACTOR, u32s(|r| Some(actor(r)?.tid));
    "start_boot_ns" UInt64, ACTOR, u64s(|r| Some(actor(r)?.start_boot_ns));
    "cgroup_id" UInt64, ACTOR, u64s(|r| Some(actor(r)?.cgroup_id));
    "program_id" UInt64, ACTOR, u64s(|r| Some(actor(r)?.program_id));
    "slot" UInt32, ACTOR, u32s(|r| Some(actor(r)?.slot));
    "row_reason" name_type(), ROW as u16, names(|r| named(&REASONS, row(r)?.reason));
    "row_classes" list_type(UInt32), ROW as u16, class_lists(row);
    "row_calls" UInt64, ROW as u16, u64s(|r| Some(row(r)?.calls));
    "row_errors" UInt64, ROW as u16, u64s(|r| Some(row(r)?.errors));
    "row_checked" UInt64, ROW as u16, u64s(|r| Some(row(r)?.checked));
    "row_unseen2" UInt64, ROW as u16, u64s(|r| Some(row(r)?.unseen2));
    "row_unseen3" UInt64, ROW as u16, u64s(|r| Some(row(r)?.unseen3));
    "row_unseen6" UInt64, ROW as u16, u64s(|r| Some(row(r)?.unseen6));
    "row_collapsed" UInt64, ROW as u16, u64s(|r| Some(row(r)?.collapsed));
    "row_lost" UInt64, ROW as u16, u64s(|r| Some(row(r)?.lost));
    "row_limited" UInt64, ROW as u16, u64s(|r| Some(row(r)?.limited));
    "exec_previous_workload" name_type(), EXEC as u16, names(|r| Some(previous(r)?.workload.as_str()));
    "exec_previous_program" name_type(), EXEC as u16, names(|r| Some(&*previous(r)?.program.path));
    "exec_previous_script" name_type(), EXEC as u16, names(|r| previous(r)?.program.script.as_deref());
    "exec_parent_workload" name_type(), EXEC as u16, names(|r| Some(parent(r)?.workload.as_str()));
    "exec_parent_program" name_type(), EXEC as u16, names(|r| Some(&*parent(r)?.program.path));
    "exec_parent_script" name_type(), EXEC as u16, names(|r| parent(r)?.program.script.as_deref());
    "exec_parent_tgid" UInt32, EXEC as u16, u32s(|r| Some(exec(r)?.parent_tgid));
    "exec_device" UInt64, EXEC as u16, u64s(|r| Some(exec(r)?.file.device));
    "exec_inode" UInt64, EXEC as u16, u64s(|r| Some(exec(r)?.file.inode));
    "exec_generation" UInt32, EXEC as u16, u32s(|r| Some(exec(r)?.file.generation));
    "exec_uid_before" UInt32, EXEC as u16, u32s(|r| Some(exec(r)?.uid_before));
    "exec_uid" UInt32, EXEC as u16, u32s(|r| Some(exec(r)?.uid));
    "exec_login_uid" UInt32, EXEC as u16, u32s(|r| Some(exec(r)?.login_uid));
    "exec_path" Utf8, EXEC as u16, texts(|r| Some(&*exec(r)?.path));
    "exec_arguments" Utf8, EXEC as u16, texts(|r| Some(&*exec(r)?.arguments));
    "exec_digest" Utf8, EXEC as u16, strings(|r| Some(exec(r)?.digest?.to_string()));
    "exec_replaced" Boolean, EXEC as u16, flags(|r| Some(exec(r)?.replaced));
    "exec_memory" Boolean, EXEC as u16, flags(|r| Some(exec(r)?.memory));
    "exec_writable" Boolean, EXEC as u16, flags(|r| Some(exec(r)?.writable));
    "exec_privileged" Boolean, EXEC as u16, flags(|r| Some(exec(r)?.privileged));
    "exec_socket_io" Boolean, EXEC as u16, flags(|r| Some(exec(r)?.socket_io));
    "exec_under_listener" Boolean, EXEC as u16, flags(|r| Some(exec(r)?.under_listener));
    "exec_provenance" name_type(), EXEC as u16, names(|r| named(&PROVENANCES, exec(r)?.provenance));
    "exec_root_tgid" UInt32, EXEC as u16, u32s(|r| Some(exec(r)?.root?.tgid));
    "exec_root_start_boot_ns" UInt64, EXEC as u16, u64s(|r| Some(exec(r)?.root?.start_boot_ns));
    "exec_of_host" Boolean, EXEC as u16, flags(|r| exec(r)?.of_host);
    "fork_tgid" UInt32, FORK as u16, u32s(|r| Some(fork(r)?.child_tgid));
    "fork_tid" UInt32, FORK as u16, u32s(|r| Some(fork(r)?.child_tid));
    "fork_start_boot_ns" UInt64, FORK as u16, u64s(|r| Some(fork(r)?.child_start_boot_ns));
    "fork_thread" Boolean, FORK as u16, flags(|r| Some(fork(r)?.thread));
    "exit_code" Int32, EXIT as u16, i32s(|r| Some(exit(r)?.code));
    "exit_process" Boolean, EXIT as u16, flags(|r| Some(exit(r)?.process));
    "call_number" Int32, CALL as u16 | RAW as u16, i32s(|r| {
        raw(r).map(|raw| raw.number).or_else(|| Some(call(r)?.number))
    });
    "call_compat" Boolean, CALL as u16 | RAW as u16, flags(|r| {
        raw(r).map(|raw| raw.compat).or_else(|| Some(call(r)?.compat))
    });
    "call_result" Int64, CALL as u16 | RAW as u16, i64s(|r| {
        raw(r).map(|raw| raw.result).or_else(|| Some(call(r)?.result))
    });
    "call_class" UInt8, CALL as u16, u8s(|r| Some(call(r)?.class));
    "call_arguments" list_type(UInt64), CALL as u16, argument_lists(call);
    "call_path" Utf8, CALL as u16, texts(|r| call(r)?.path.as_deref());
    "call_claimed" Boolean, CALL as u16, flags(|r| Some(call(r)?.claimed));
    "raw_uring" Boolean, RAW as u16, flags(|r| Some(raw(r)?.uring));
    "raw_fresh" Boolean, RAW as u16, flags(|r| Some(raw(r)?.fresh));
    "raw_streamed" Boolean, RAW as u16, flags(|r| Some(raw(r)?.streamed));
    "flow_cookie" UInt64, FLOW as u16, u64s(|r| Some(flow(r)?.cookie));
    "flow_phase" name_type(), FLOW as u16, names(|r| named(&PHASES, flow(r)?.phase));
    "flow_protocol" name_type(), FLOW as u16, names(|r| named(&PROTOCOLS, flow(r)?.protocol));
    "flow_direction" name_type(), FLOW as u16, names(|r| named(&DIRECTIONS, flow(r)?.direction));
    "flow_local_address" Utf8, FLOW as u16, strings(|r| Some(flow(r)?.local.address.to_string()));
    "flow_local_port" UInt16, FLOW as u16, u16s(|r| Some(flow(r)?.local.port));
    "flow_peer_address" Utf8, FLOW as u16, strings(|r| Some(flow(r)?.peer.address.to_string()));
    "flow_peer_port" UInt16, FLOW as u16, u16s(|r| Some(flow(r)?.peer.port));
    "flow_out_bytes" UInt64, FLOW as u16, u64s(|r| Some(flow(r)?.bytes_out));
    "flow_in_bytes" UInt64, FLOW as u16, u64s(|r| Some(flow(r)?.bytes_in));
    "flow_out_packets" UInt64, FLOW as u16, u64s(|r| Some(flow(r)?.packets_out));
    "flow_in_packets" UInt64, FLOW as u16, u64s(|r| Some(flow(r)?.packets_in));
    "flow_retransmits" UInt32, FLOW as u16, u32s(|r| Some(flow(r)?.retransmits));
    "flow_rtt_us" UInt32, FLOW as u16, u32s(|r| flow(r)?.rtt_us);
    "flow_netns" UInt32, FLOW as u16, u32s(|r| Some(flow(r)?.netns));
    "signal_unseen6" UInt32, SIGNAL as u16, u32s(|r| Some(signal(r)?.unseen6));
    "signal_calls" UInt32, SIGNAL as u16, u32s(|r| Some(signal(r)?.calls));
    "grams2" list_type(UInt32), GRAMS as u16, gram_lists(|r| Some(&*grams(r)?.grams2));
    "grams3" list_type(UInt32), GRAMS as u16, gram_lists(|r| Some(&*grams(r)?.grams3));
    "grams6" list_type(UInt32), GRAMS as u16, gram_lists(|r| Some(&*grams(r)?.grams6));
    "close_start_boot_ns" UInt64, CLOSE as u16, u64s(|r| Some(close(r)?.start_boot_ns));
    "close_end_boot_ns" UInt64, CLOSE as u16, u64s(|r| Some(close(r)?.end_boot_ns));
    "close_realtime_offset_ns" Int64, CLOSE as u16, i64s(|r| Some(close(r)?.realtime_offset_ns));
    "close_suspended_ns" UInt64, CLOSE as u16, u64s(|r| Some(close(r)?.suspended_ns));
    "close_lost" UInt64, CLOSE as u16, u64s(|r| Some(close(r)?.loss.lost));
    "close_late" UInt64, CLOSE as u16, u64s(|r| Some(close(r)?.loss.late));
    "close_limited" UInt64, CLOSE as u16, u64s(|r| Some(close(r)?.loss.limited));
    "close_syn_cookies" UInt64, CLOSE as u16, u64s(|r| close(r)?.host.syn_cookies);
    "close_listen_overflows" UInt64, CLOSE as u16, u64s(|r| close(r)?.host.listen_overflows);
    "close_closed_ports" UInt64, CLOSE as u16, u64s(|r| close(r)?.host.closed_ports);
    "close_icmp_in" UInt64, CLOSE as u16, u64s(|r| close(r)?.host.icmp_in);
    "close_udp_in" UInt64, CLOSE as u16, u64s(|r| close(r)?.host.udp_in);
    "close_tcp_in_segments" UInt64, CLOSE as u16, u64s(|r| close(r)?.host.tcp_in_segments);
    "close_packets_in" UInt64, CLOSE as u16, u64s(|r| close(r)?.host.packets_in);
    "close_shed" Boolean, CLOSE as u16, flags(|r| Some(close(r)?.shed));
};

fn class_lists(records: &[Record], of: fn(&Record) -> Option<&Row>) -> ArrayRef {
    let lists = records.iter().map(|record| of(record).map(|row| row.classes.map(Some)));
    Arc::new(ListArray::from_iter_primitive::<UInt32Type, _, _>(lists))
}

fn argument_lists(records: &[Record], of: fn(&Record) -> Option<&Call>) -> ArrayRef {
    let lists = records.iter().map(|record| of(record).map(|call| call.arguments.map(Some)));
    Arc::new(ListArray::from_iter_primitive::<UInt64Type, _, _>(lists))
}

fn gram_lists(records: &[Record], of: fn(&Record) -> Option<&[u32]>) -> ArrayRef {
    let lists = records.iter().map(|record| of(record).map(|list| list.iter().copied().map(Some)));
    Arc::new(ListArray::from_iter_primitive::<UInt32Type, _, _>(lists))
}
