//! Records out of columns.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use arrow::{
    array::RecordBatch,
    datatypes::{Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type},
};
use hedgerow_event::{
    Actor, CLASSES, Call, Digest, Epoch, EpochClose, Event, Exec, Exit, FileKey, Flow, Fork,
    GramReport, HostCounters, Loss, Origin, Peer, Program, Provenance, Raw, Root, Row, Signal,
    Subject, Workload,
};

use super::{
    EarlyLook, Kind, LATER, Record,
    write::{DIRECTIONS, PHASES, PROTOCOLS, PROVENANCES, REASONS},
};
use crate::{
    Error,
    read::{Flags, Lists, Numbers, Texts},
};

type U32 = Numbers<UInt32Type>;
type U64 = Numbers<UInt64Type>;

/// The columns of a batch, opened by kind; a kind that no row has needs no columns.
pub(super) struct Reader {
    kind: Texts,
    epoch: U32,
    time: U64,
    actor: ActorColumns,
    row: RowColumns,
    exec: ExecColumns,
    fork: ForkColumns,
    exit: (Numbers<Int32Type>, Flags),
    call: CallColumns,
    flow: FlowColumns,
    signal: [U32; 2],
    grams: [Lists<UInt32Type>; 3],
    close: CloseColumns,
    /// One allocation for each subject of the batch.
    subjects: Interner,
}

#[derive(Default)]
struct Interner(HashMap<Subject, Arc<Subject>>);

impl Interner {
    fn subject(&mut self, workload: &str, program: &str, script: Option<&str>) -> Arc<Subject> {
        let program = Program { path: program.into(), script: script.map(Into::into) };
        let subject = Subject::new(Workload::new(workload), program);
        if let Some(known) = self.0.get(&subject) {
            return known.clone();
        }
        let shared = Arc::new(subject.clone());
        self.0.insert(subject, shared.clone());
        shared
    }
}

/// A value of a table by its name in a column.
fn parse<T: Copy>(texts: &Texts, row: usize, table: &[(T, &str)]) -> Result<T, Error> {
    let name = texts.get(row)?;
    let found = table.iter().find(|(_, known)| *known == name);
    found.map(|(value, _)| *value).ok_or_else(|| texts.bad(row, "no name of this column"))
}

impl Reader {
    pub(super) fn open(batch: &RecordBatch) -> Result<Self, Error> {
        Ok(Self {
            kind: Texts::open(batch, "kind")?,
            epoch: U32::open(batch, "epoch")?,
            time: U64::open(batch, "time_boot_ns")?,
            actor: ActorColumns::open(batch)?,
            row: RowColumns::open(batch)?,
            exec: ExecColumns::open(batch)?,
            fork: ForkColumns::open(batch)?,
            exit: (Numbers::open(batch, "exit_code")?, Flags::open(batch, "exit_process")?),
            call: CallColumns::open(batch)?,
            flow: FlowColumns::open(batch)?,
            signal: [U32::open(batch, "signal_unseen6")?, U32::open(batch, "signal_calls")?],
            grams: [
                Lists::open(batch, "grams2")?,
                Lists::open(batch, "grams3")?,
                Lists::open(batch, "grams6")?,
            ],
            close: CloseColumns::open(batch)?,
            subjects: Interner::default(),
        })
    }

    pub(super) fn record(&mut self, row: usize) -> Result<Record, Error> {
        let kind = Kind::parse(self.kind.get(row)?)
            .ok_or_else(|| self.kind.bad(row, "no kind of record"))?;
        let epoch = Epoch(self.epoch.get(row)?);
        let origin = match kind {
            Kind::Grams => {
                let subject = self.actor.subject(row, &mut self.subjects)?;
                let [grams2, grams3, grams6] = self.grams.each_ref().map(|grams| grams.all(row));
                let (grams2, grams3, grams6) = (grams2?.into(), grams3?.into(), grams6?.into());
                return Ok(Record::Grams(GramReport { epoch, subject, grams2, grams3, grams6 }));
            }
            Kind::Early => {
                let subject = self.actor.subject(row, &mut self.subjects)?;
                let time_boot_ns = self.time.get(row)?;
                return Ok(Record::Early(EarlyLook { epoch, time_boot_ns, subject }));
            }
            Kind::Close => return Ok(Record::Close(self.close.read(row, epoch)?)),
            Kind::Row => Origin::Row(Box::new(self.row.read(row)?)),
            Kind::Exec => Origin::Exec(Box::new(self.exec.read(row, &mut self.subjects)?)),
            Kind::Fork => Origin::Fork(self.fork.read(row)?),
            Kind::Exit => {
                let (code, process) = &self.exit;
                Origin::Exit(Exit { code: code.get(row)?, process: process.get(row)? })
            }
            Kind::Call => Origin::Call(Box::new(self.call.read_call(row)?)),
            Kind::Raw => Origin::Raw(self.call.read_raw(row)?),
            Kind::Flow => Origin::Flow(Box::new(self.flow.read(row)?)),
            Kind::Signal => {
                let [unseen6, calls] = &self.signal;
                Origin::Signal(Signal { unseen6: unseen6.get(row)?, calls: calls.get(row)? })
            }
        };
        let actor = self.actor.read(row, &mut self.subjects)?;
        Ok(Record::Event(Event { epoch, time_boot_ns: self.time.get(row)?, actor, origin }))
    }
}

struct ActorColumns {
    workload: Texts,
    program: Texts,
    script: Texts,
    tgid: U32,
    tid: U32,
    start: U64,
    cgroup: U64,
    program_id: U64,
    slot: U32,
}

impl ActorColumns {
    fn open(batch: &RecordBatch) -> Result<Self, Error> {
        Ok(Self {
            workload: Texts::open(batch, "workload")?,
            program: Texts::open(batch, "program")?,
            script: Texts::open(batch, "script")?,
            tgid: U32::open(batch, "tgid")?,
            tid: U32::open(batch, "tid")?,
            start: U64::open(batch, "start_boot_ns")?,
            cgroup: U64::open(batch, "cgroup_id")?,
            program_id: U64::open(batch, "program_id")?,
            slot: U32::open(batch, "slot")?,
        })
    }

    fn subject(&self, row: usize, subjects: &mut Interner) -> Result<Arc<Subject>, Error> {
        let (workload, program) = (self.workload.get(row)?, self.program.get(row)?);
        Ok(subjects.subject(workload, program, self.script.maybe(row)))
    }

    fn read(&self, row: usize, subjects: &mut Interner) -> Result<Actor, Error> {
        Ok(Actor {
            subject: self.subject(row, subjects)?,
            tgid: self.tgid.get(row)?,
            tid: self.tid.get(row)?,
            start_boot_ns: self.start.get(row)?,
            cgroup_id: self.cgroup.get(row)?,
            program_id: self.program_id.get(row)?,
            slot: self.slot.get(row)?,
        })
    }
}

struct RowColumns {
    reason: Texts,
    classes: Lists<UInt32Type>,
    /// calls, errors, checked, unseen 2, 3, 6, collapsed, lost, limited
    counts: [U64; 9],
}

impl RowColumns {
    fn open(batch: &RecordBatch) -> Result<Self, Error> {
        let count = |name| U64::open(batch, name);
        Ok(Self {
            reason: Texts::open(batch, "row_reason")?,
            classes: Lists::open(batch, "row_classes")?,
            counts: [
                count("row_calls")?,
                count("row_errors")?,
                count("row_checked")?,
                count("row_unseen2")?,
                count("row_unseen3")?,
                count("row_unseen6")?,
                count("row_collapsed")?,
                count("row_lost")?,
                count("row_limited")?,
            ],
        })
    }

    fn read(&self, row: usize) -> Result<Row, Error> {
        let [calls, errors, checked, unseen2, unseen3, unseen6, collapsed, lost, limited] =
            &self.counts;
        Ok(Row {
            reason: parse(&self.reason, row, &REASONS)?,
            classes: self.classes.get::<CLASSES>(row)?,
            calls: calls.get(row)?,
            errors: errors.get(row)?,
            checked: checked.get(row)?,
            unseen2: unseen2.get(row)?,
            unseen3: unseen3.get(row)?,
            unseen6: unseen6.get(row)?,
            collapsed: collapsed.get(row)?,
            lost: lost.get(row)?,
            limited: limited.get(row)?,
        })
    }
}

/// A column that captures of older versions don't have.
fn later<T>(batch: &RecordBatch, column: Result<T, Error>) -> Result<Option<T>, Error> {
    match column {
        Err(Error::MissingColumn(name))
            if super::version(batch).is_some_and(|version| {
                LATER.iter().any(|(later, since)| *later == name && version < *since)
            }) =>
        {
            Ok(None)
        }
        column => column.map(Some),
    }
}

struct ExecColumns {
    previous: [Texts; 3],
    parent: [Texts; 3],
    parent_tgid: U32,
    device: U64,
    inode: U64,
    generation: U32,
    uid_before: U32,
    uid: U32,
    login_uid: U32,
    path: Texts,
    arguments: Texts,
    digest: Texts,
    replaced: Flags,
    memory: Flags,
    writable: Flags,
    privileged: Flags,
    /// Absent before version 2, as are the next two.
    socket_io: Option<Flags>,
    under_listener: Option<Flags>,
    provenance: Option<Texts>,
    /// Absent before version 3, as is the next one.
    root_tgid: Option<U32>,
    root_start_boot_ns: Option<U64>,
    /// Absent before version 4.
    of_host: Option<Flags>,
}

impl ExecColumns {
    fn open(batch: &RecordBatch) -> Result<Self, Error> {
        let text = |name| Texts::open(batch, name);
        let number = |name| U32::open(batch, name);
        let flag = |name| Flags::open(batch, name);
        Ok(Self {
            previous: [
                text("exec_previous_workload")?,
                text("exec_previous_program")?,
                text("exec_previous_script")?,
            ],
            parent: [
                text("exec_parent_workload")?,
                text("exec_parent_program")?,
                text("exec_parent_script")?,
            ],
            parent_tgid: number("exec_parent_tgid")?,
            device: U64::open(batch, "exec_device")?,
            inode: U64::open(batch, "exec_inode")?,
            generation: number("exec_generation")?,
            uid_before: number("exec_uid_before")?,
            uid: number("exec_uid")?,
            login_uid: number("exec_login_uid")?,
            path: text("exec_path")?,
            arguments: text("exec_arguments")?,
            digest: text("exec_digest")?,
            replaced: flag("exec_replaced")?,
            memory: flag("exec_memory")?,
            writable: flag("exec_writable")?,
            privileged: flag("exec_privileged")?,
            socket_io: later(batch, flag("exec_socket_io"))?,
            under_listener: later(batch, flag("exec_under_listener"))?,
            provenance: later(batch, text("exec_provenance"))?,
            root_tgid: later(batch, number("exec_root_tgid"))?,
            root_start_boot_ns: later(batch, U64::open(batch, "exec_root_start_boot_ns"))?,
            of_host: later(batch, flag("exec_of_host"))?,
        })
    }

    fn root(&self, row: usize) -> Result<Option<Root>, Error> {
        let (Some(tgid), Some(start)) = (&self.root_tgid, &self.root_start_boot_ns) else {
            return Ok(None);
        };
        let root = |tgid| Ok(Root { tgid, start_boot_ns: start.get(row)? });
        tgid.maybe(row).map(root).transpose()
    }

    fn read(&self, row: usize, subjects: &mut Interner) -> Result<Exec, Error> {
        let mut subject = |[workload, program, script]: &[Texts; 3]| match workload.maybe(row) {
            None => Ok::<_, Error>(None),
            Some(workload) => {
                Ok(Some(subjects.subject(workload, program.get(row)?, script.maybe(row))))
            }
        };
        let digest = self.digest.maybe(row).map(|text| {
            Digest::parse(text).ok_or_else(|| self.digest.bad(row, "not 64 hexadecimal digits"))
        });
        Ok(Exec {
            previous: subject(&self.previous)?,
            file: FileKey {
                device: self.device.get(row)?,
                inode: self.inode.get(row)?,
                generation: self.generation.get(row)?,
            },
            parent_tgid: self.parent_tgid.get(row)?,
            parent: subject(&self.parent)?,
            uid_before: self.uid_before.get(row)?,
            uid: self.uid.get(row)?,
            login_uid: self.login_uid.get(row)?,
            path: self.path.get(row)?.into(),
            arguments: self.arguments.get(row)?.into(),
            digest: digest.transpose()?,
            replaced: self.replaced.get(row)?,
            memory: self.memory.get(row)?,
            writable: self.writable.get(row)?,
            privileged: self.privileged.get(row)?,
            socket_io: self.socket_io.as_ref().map_or(Ok(false), |column| column.get(row))?,
            under_listener: self
                .under_listener
                .as_ref()
                .map_or(Ok(false), |column| column.get(row))?,
            of_host: self.of_host.as_ref().and_then(|column| column.maybe(row)),
            provenance: self
                .provenance
                .as_ref()
                .map_or(Ok(Provenance::Unknown), |column| parse(column, row, &PROVENANCES))?,
            root: self.root(row)?,
        })
    }
}

struct ForkColumns {
    tgid: U32,
    tid: U32,
    start: U64,
    thread: Flags,
}

impl ForkColumns {
    fn open(batch: &RecordBatch) -> Result<Self, Error> {
        Ok(Self {
            tgid: U32::open(batch, "fork_tgid")?,
            tid: U32::open(batch, "fork_tid")?,
            start: U64::open(batch, "fork_start_boot_ns")?,
            thread: Flags::open(batch, "fork_thread")?,
        })
    }

    fn read(&self, row: usize) -> Result<Fork, Error> {
        Ok(Fork {
            child_tgid: self.tgid.get(row)?,
            child_tid: self.tid.get(row)?,
            child_start_boot_ns: self.start.get(row)?,
            thread: self.thread.get(row)?,
        })
    }
}

struct CallColumns {
    number: Numbers<Int32Type>,
    compat: Flags,
    result: Numbers<Int64Type>,
    class: Numbers<UInt8Type>,
    arguments: Lists<UInt64Type>,
    path: Texts,
    claimed: Flags,
    uring: Flags,
    fresh: Flags,
    streamed: Flags,
}

impl CallColumns {
    fn open(batch: &RecordBatch) -> Result<Self, Error> {
        Ok(Self {
            number: Numbers::open(batch, "call_number")?,
            compat: Flags::open(batch, "call_compat")?,
            result: Numbers::open(batch, "call_result")?,
            class: Numbers::open(batch, "call_class")?,
            arguments: Lists::open(batch, "call_arguments")?,
            path: Texts::open(batch, "call_path")?,
            claimed: Flags::open(batch, "call_claimed")?,
            uring: Flags::open(batch, "raw_uring")?,
            fresh: Flags::open(batch, "raw_fresh")?,
            streamed: Flags::open(batch, "raw_streamed")?,
        })
    }

    fn read_call(&self, row: usize) -> Result<Call, Error> {
        let class = self.class.get(row)?;
        if usize::from(class) >= CLASSES {
            return Err(self.class.bad(row, "no class of calls"));
        }
        Ok(Call {
            number: self.number.get(row)?,
            class,
            compat: self.compat.get(row)?,
            result: self.result.get(row)?,
            arguments: self.arguments.get::<6>(row)?,
            path: self.path.maybe(row).map(Into::into),
            claimed: self.claimed.get(row)?,
        })
    }

    fn read_raw(&self, row: usize) -> Result<Raw, Error> {
        Ok(Raw {
            number: self.number.get(row)?,
            compat: self.compat.get(row)?,
            uring: self.uring.get(row)?,
            fresh: self.fresh.get(row)?,
            streamed: self.streamed.get(row)?,
            result: self.result.get(row)?,
        })
    }
}

struct FlowColumns {
    cookie: U64,
    phase: Texts,
    protocol: Texts,
    direction: Texts,
    local: (Texts, Numbers<UInt16Type>),
    peer: (Texts, Numbers<UInt16Type>),
    /// bytes out, in, packets out, in
    counts: [U64; 4],
    retransmits: U32,
    rtt_us: U32,
    netns: U32,
}

impl FlowColumns {
    fn open(batch: &RecordBatch) -> Result<Self, Error> {
        let text = |name| Texts::open(batch, name);
        let count = |name| U64::open(batch, name);
        Ok(Self {
            cookie: count("flow_cookie")?,
            phase: text("flow_phase")?,
            protocol: text("flow_protocol")?,
            direction: text("flow_direction")?,
            local: (text("flow_local_address")?, Numbers::open(batch, "flow_local_port")?),
            peer: (text("flow_peer_address")?, Numbers::open(batch, "flow_peer_port")?),
            counts: [
                count("flow_out_bytes")?,
                count("flow_in_bytes")?,
                count("flow_out_packets")?,
                count("flow_in_packets")?,
            ],
            retransmits: U32::open(batch, "flow_retransmits")?,
            rtt_us: U32::open(batch, "flow_rtt_us")?,
            netns: U32::open(batch, "flow_netns")?,
        })
    }

    fn read(&self, row: usize) -> Result<Flow, Error> {
        let end = |(texts, port): &(Texts, Numbers<UInt16Type>)| {
            let address: IpAddr =
                texts.get(row)?.parse().map_err(|_| texts.bad(row, "not an address"))?;
            Ok::<_, Error>(Peer { address, port: port.get(row)? })
        };
        let [bytes_out, bytes_in, packets_out, packets_in] = &self.counts;
        Ok(Flow {
            cookie: self.cookie.get(row)?,
            phase: parse(&self.phase, row, &PHASES)?,
            protocol: parse(&self.protocol, row, &PROTOCOLS)?,
            direction: parse(&self.direction, row, &DIRECTIONS)?,
            local: end(&self.local)?,
            peer: end(&self.peer)?,
            bytes_out: bytes_out.get(row)?,
            bytes_in: bytes_in.get(row)?,
            packets_out: packets_out.get(row)?,
            packets_in: packets_in.get(row)?,
            retransmits: self.retransmits.get(row)?,
            rtt_us: self.rtt_us.maybe(row),
            netns: self.netns.get(row)?,
        })
    }
}

struct CloseColumns {
    start: U64,
    end: U64,
    offset: Numbers<Int64Type>,
    suspended: U64,
    loss: [U64; 3],
    /// SYN cookies, listen overflows, closed ports, ICMP, UDP, TCP segments, packets
    host: [U64; 7],
    shed: Option<Flags>,
}

impl CloseColumns {
    fn open(batch: &RecordBatch) -> Result<Self, Error> {
        let count = |name| U64::open(batch, name);
        Ok(Self {
            start: count("close_start_boot_ns")?,
            end: count("close_end_boot_ns")?,
            offset: Numbers::open(batch, "close_realtime_offset_ns")?,
            suspended: count("close_suspended_ns")?,
            loss: [count("close_lost")?, count("close_late")?, count("close_limited")?],
            host: [
                count("close_syn_cookies")?,
                count("close_listen_overflows")?,
                count("close_closed_ports")?,
                count("close_icmp_in")?,
                count("close_udp_in")?,
                count("close_tcp_in_segments")?,
                count("close_packets_in")?,
            ],
            shed: later(batch, Flags::open(batch, "close_shed"))?,
        })
    }

    fn read(&self, row: usize, epoch: Epoch) -> Result<EpochClose, Error> {
        let [lost, late, limited] = &self.loss;
        let [syn_cookies, listen_overflows, closed_ports, icmp_in, udp_in, tcp, packets_in] =
            self.host.each_ref().map(|count| count.maybe(row));
        Ok(EpochClose {
            epoch,
            start_boot_ns: self.start.get(row)?,
            end_boot_ns: self.end.get(row)?,
            realtime_offset_ns: self.offset.get(row)?,
            suspended_ns: self.suspended.get(row)?,
            loss: Loss { lost: lost.get(row)?, late: late.get(row)?, limited: limited.get(row)? },
            host: HostCounters {
                syn_cookies,
                listen_overflows,
                closed_ports,
                icmp_in,
                udp_in,
                tcp_in_segments: tcp,
                packets_in,
            },
            shed: self.shed.as_ref().and_then(|shed| shed.maybe(row)).unwrap_or(false),
        })
    }
}
