//! Deeds as the events that would tell them: by whom, in one process, nothing else with them.

use std::{
    net::IpAddr,
    sync::{Arc, LazyLock},
};

use hedgerow_event::{
    Actor, CLASSES, Call, Deed, Epoch, Event, Exec, Flow, FlowDirection, FlowPhase, Fork, Origin,
    Peer, Program, Protocol, Provenance, Row, RowReason, Subject, Workload,
    calls::{CREDENTIALS_GREW, Class, Tables},
};
use hedgerow_features::{Baseline, EPHEMERAL_PORT_FIRST, Set};

/// The process that does it; what is imagined has a lineage of its own, so that no other is it.
const PROCESS: u32 = 4_000_000;
/// A path under which nothing was ever run.
const UNSEEN: &str = "/usr/bin/never-seen";
/// One that names nothing.
const CUT: &str = ".../never-seen";
/// Amounts.
const MUCH_BYTES: u64 = 10_000_000_000;
const MANY: u64 = 10_000;
/// Gaps of a beacon.
const BEACON_NS: u64 = 30_000_000_000;
const BEACON_STARTS: u64 = 9;

/// Classes of calls.
static TABLES: LazyLock<Tables> = LazyLock::new(Tables::new);

/// Who does something, and what is new to it.
#[derive(Debug, Clone)]
pub struct Stage {
    pub subject: Arc<Subject>,
    /// A program that never started it.
    stranger: Arc<Subject>,
    /// An address that its workload never talked to, and one that it did.
    pub newcomer: IpAddr,
    pub acquaintance: IpAddr,
    /// A port that it never listened on, and, where there is one, a port that it did.
    closed_port: u16,
    open_port: Option<u16>,
    pub time_boot_ns: u64,
    /// Uses of rights that were never seen of it.
    uid: u32,
}

/// A kind of deed, and how it is done where that makes a difference.
#[derive(Debug, Clone, Copy)]
pub struct Act {
    pub deed: Deed,
    pub how: &'static str,
    events: fn(&Stage, &'static str) -> Vec<Event>,
}

const fn act(deed: Deed, how: &'static str, events: fn(&Stage, &'static str) -> Vec<Event>) -> Act {
    Act { deed, how, events }
}

/// Every kind that a program can do, those of amount by an amount that hardly anybody needs: the least
/// that is told has a table of its own. What happens to the host as a whole is in `host`.
pub const ACTS: &[Act] = &[
    act(Deed::ExecMemory, "", |stage, _| stage.exec(|exec| exec.memory = true)),
    act(Deed::ExecWritable, "", |stage, _| stage.exec(|exec| exec.writable = true)),
    act(Deed::ExecDrift, "", |stage, _| stage.from(Provenance::Drift)),
    act(Deed::ExecModified, "", |stage, _| stage.from(Provenance::Modified)),
    act(Deed::ExecUnsigned, "", |stage, _| stage.from(Provenance::Unsigned)),
    act(Deed::ExecUnowned, "", |stage, _| stage.from(Provenance::Unowned)),
    act(Deed::ExecCut, "", |stage, _| stage.exec(|exec| exec.path = CUT.into())),
    act(Deed::Replaced, "", |stage, _| stage.exec(|exec| exec.replaced = true)),
    act(Deed::ReplacedWithin, "", |stage, _| stage.rewritten()),
    act(Deed::NewProgram, "", |stage, _| stage.as_unseen()),
    act(Deed::NewChild, "", |stage, _| stage.started(false)),
    act(Deed::UnderListener, "", |stage, _| stage.started(true)),
    act(Deed::SocketStreams, "", |stage, _| stage.exec(|exec| exec.socket_io = true)),
    act(Deed::Privilege, "", |stage, _| {
        let uid = stage.uid;
        stage.exec(|exec| {
            exec.uid_before = uid;
            exec.privileged = true;
        })
    }),
    act(Deed::SetIdBit, "set-user-id", |stage, _| stage.chmod(libc::S_ISUID)),
    act(Deed::SetIdBit, "set-group-id", |stage, _| stage.chmod(libc::S_ISGID)),
    act(Deed::Credentials, "a user id", |stage, _| {
        stage.call(CREDENTIALS_GREW.into(), [1_000, 0, 0, 0, 0, 0], None)
    }),
    act(Deed::Credentials, "a capability", |stage, _| {
        stage.call(CREDENTIALS_GREW.into(), [0, 0, 0, 1 << 21, 0, 0], None)
    }),
    act(Deed::Trace, "", |stage, _| {
        stage.call(libc::SYS_process_vm_writev, [1, 0, 0, 0, 0, 0], None)
    }),
    act(Deed::Namespace, "unshare", |stage, _| {
        stage.call(libc::SYS_unshare, [libc::CLONE_NEWNS as u64, 0, 0, 0, 0, 0], None)
    }),
    act(Deed::Namespace, "setns", |stage, _| stage.call(libc::SYS_setns, [3, 0, 0, 0, 0, 0], None)),
    act(Deed::Namespace, "mount", |stage, _| stage.call(libc::SYS_mount, [0; 6], None)),
    act(Deed::Namespace, "pivot_root", |stage, _| stage.call(libc::SYS_pivot_root, [0; 6], None)),
    act(Deed::Kernel, "bpf", |stage, _| stage.call(libc::SYS_bpf, [5, 0, 0, 0, 0, 0], None)),
    act(Deed::Kernel, "module", |stage, _| stage.call(libc::SYS_finit_module, [0; 6], None)),
    act(Deed::Kernel, "kexec", |stage, _| stage.call(libc::SYS_kexec_load, [0; 6], None)),
    act(Deed::IoUring, "", |stage, _| stage.call(libc::SYS_io_uring_setup, [1; 6], None)),
    act(Deed::RuntimeCode, "", |stage, _| {
        stage.call(libc::SYS_mprotect, [0, 4_096, libc::PROT_EXEC as u64, 0, 0, 0], None)
    }),
    act(Deed::Packets, "AF_PACKET", |stage, _| stage.socket(libc::AF_PACKET)),
    act(Deed::Packets, "AF_XDP", |stage, _| stage.socket(libc::AF_XDP)),
    act(Deed::Persistence, "/etc/cron.d/x", Stage::write),
    act(Deed::Persistence, "/etc/systemd/system/x.service", Stage::write),
    act(Deed::Persistence, "/etc/ld.so.preload", Stage::write),
    act(Deed::Persistence, "/etc/passwd", Stage::write),
    act(Deed::Persistence, "/etc/sudoers.d/x", Stage::write),
    act(Deed::Persistence, "/root/.ssh/authorized_keys", Stage::write),
    act(Deed::Persistence, "/root/.bashrc", Stage::write),
    act(Deed::WroteCode, "", |stage, _| stage.write_served("/srv/never-seen/x.php")),
    act(Deed::Secret, "/etc/shadow", Stage::read),
    act(Deed::Secret, "/etc/ssh/ssh_host_rsa_key", Stage::read),
    act(Deed::Secret, "/etc/ssl/private/x.key", Stage::read),
    act(Deed::Secret, "/root/.ssh/id_rsa", Stage::read),
    act(Deed::Secret, "/root/.aws/credentials", Stage::read),
    act(Deed::Secret, "/proc/1/environ", Stage::read),
    act(Deed::NewPeer, "", |stage, _| vec![stage.calls(stage.newcomer, 443, 1_000)]),
    act(Deed::Beacon, "", |stage, _| stage.beacon()),
    act(Deed::NewListener, "", |stage, _| {
        vec![stage.called(stage.acquaintance, Some(stage.closed_port))]
    }),
    act(Deed::NewListener, "an ephemeral port", |stage, _| {
        vec![stage.called(stage.acquaintance, Some(u16::MAX))]
    }),
    act(Deed::NewSource, "", |stage, _| vec![stage.called(stage.newcomer, stage.open_port)]),
    act(Deed::Outflow, "10 GB", |stage, _| vec![stage.calls(stage.newcomer, 443, MUCH_BYTES)]),
    act(Deed::DnsOutflow, "10 GB", |stage, _| {
        vec![stage.calls(stage.acquaintance, 53, MUCH_BYTES)]
    }),
    act(Deed::OneSource, "10,000 connections", |stage, _| {
        vec![stage.called_by(stage.newcomer); MANY as usize]
    }),
    act(Deed::Scan, "10,000 connections", |stage, _| vec![stage.fails(); MANY as usize]),
    act(Deed::Rewrite, "10,000 renames", |stage, _| vec![stage.row(Class::Rename, MANY)]),
    act(Deed::Forks, "10,000 processes", |stage, _| stage.forks(MANY)),
    act(Deed::Answers, "10 GB", |stage, _| vec![stage.answers(MUCH_BYTES)]),
];

impl Act {
    pub fn events(&self, stage: &Stage) -> Vec<Event> {
        (self.events)(stage, self.how)
    }
}

/// A program that its workload never had.
pub fn unseen() -> Program {
    Program::new(UNSEEN)
}

impl Stage {
    /// `others` are programs of the workload that may have started it.
    pub fn new(
        subject: Arc<Subject>,
        others: &[Arc<Subject>],
        baseline: &Baseline,
        time_boot_ns: u64,
    ) -> Self {
        let key = baseline.key();
        let known = baseline.known(&subject.workload);
        let is_new = |set, hash| known.is_none_or(|known| !known.contains(set, hash));
        let stranger = others
            .iter()
            .filter(|other| ***other != *subject)
            .find(|other| is_new(Set::Children, key.child(&other.program, &subject.program)));
        let stranger = stranger.cloned().unwrap_or_else(|| {
            Arc::new(Subject::new(subject.workload.clone(), Program::new("/usr/bin/never-seen-2")))
        });
        // Addresses for documentation: nobody's.
        let documented = (1..=254).map(|last| IpAddr::from([198, 51, 100, last]));
        let newcomer = documented.into_iter().find(|address| {
            is_new(Set::Peers, key.address(*address)) && is_new(Set::Sources, key.address(*address))
        });
        let learned = |wanted: Set| {
            let learned = baseline.learned(&subject.workload);
            learned.filter(move |(set, ..)| *set == wanted).map(|(_, text, _)| text)
        };
        let newcomer = newcomer.unwrap_or(IpAddr::from([198, 51, 100, 1]));
        let acquaintance = learned(Set::Peers).find_map(|text| text.parse().ok());
        let open_port = learned(Set::Listens)
            .filter_map(|text| text.strip_prefix("Tcp ")?.parse().ok())
            .find(|port| *port < EPHEMERAL_PORT_FIRST);
        let closed_port = (4_000..EPHEMERAL_PORT_FIRST)
            .find(|port| is_new(Set::Listens, key.port(Protocol::Tcp, *port)));
        let uid = (60_000..60_100)
            .find(|uid| is_new(Set::Privileges, key.privilege(&subject.program, *uid, 0)));
        Self {
            acquaintance: acquaintance.unwrap_or(newcomer),
            closed_port: closed_port.unwrap_or(4_000),
            uid: uid.unwrap_or(60_000),
            subject,
            stranger,
            newcomer,
            open_port,
            time_boot_ns,
        }
    }

    /// What it is before it does anything: a process of a package's program, as root.
    pub fn birth(&self) -> Event {
        let mut exec = self.blank();
        exec.provenance = Provenance::Package;
        self.event(Origin::Exec(Box::new(exec)))
    }

    pub fn event(&self, origin: Origin) -> Event {
        self.event_of(&self.subject, origin)
    }

    fn event_of(&self, subject: &Arc<Subject>, origin: Origin) -> Event {
        Event {
            epoch: Epoch(1),
            time_boot_ns: self.time_boot_ns,
            actor: Actor {
                subject: Arc::clone(subject),
                tgid: PROCESS,
                tid: PROCESS,
                start_boot_ns: self.time_boot_ns,
                cgroup_id: 0,
                program_id: 0,
                slot: 0,
            },
            origin,
        }
    }

    fn blank(&self) -> Exec {
        Exec::of(Arc::clone(&self.subject.program.path))
    }

    fn exec(&self, change: impl FnOnce(&mut Exec)) -> Vec<Event> {
        let mut exec = self.blank();
        change(&mut exec);
        vec![self.event(Origin::Exec(Box::new(exec)))]
    }

    fn from(&self, provenance: Provenance) -> Vec<Event> {
        self.exec(|exec| exec.provenance = provenance)
    }

    fn started(&self, under_listener: bool) -> Vec<Event> {
        self.exec(|exec| {
            exec.parent = Some(Arc::clone(&self.stranger));
            exec.under_listener = under_listener;
        })
    }

    /// Its workload's program runs under a name that was never seen.
    fn as_unseen(&self) -> Vec<Event> {
        let subject = Subject::new(self.subject.workload.clone(), unseen());
        let mut exec = self.blank();
        exec.path = Arc::clone(&subject.program.path);
        vec![self.event_of(&Arc::new(subject), Origin::Exec(Box::new(exec)))]
    }

    fn rewritten(&self) -> Vec<Event> {
        let path = self.subject.program.script_path().unwrap_or(&self.subject.program.path);
        // It ran before, or it would not be followed.
        let mut events = self.exec(|_| ());
        events.extend(self.open(path, libc::O_WRONLY));
        events.extend(self.exec(|exec| exec.replaced = true));
        events
    }

    fn call(&self, number: i64, arguments: [u64; 6], path: Option<&str>) -> Vec<Event> {
        let number = number as i32;
        let class = TABLES.info(number, false).class as u8;
        let call = Call { class, ..Call::of(number, arguments, path) };
        vec![self.event(Origin::Call(Box::new(call)))]
    }

    fn socket(&self, family: i32) -> Vec<Event> {
        self.call(libc::SYS_socket, [family as u64, 0, 0, 0, 0, 0], None)
    }

    fn chmod(&self, bit: libc::mode_t) -> Vec<Event> {
        self.call(libc::SYS_fchmod, [3, u64::from(bit) | 0o755, 0, 0, 0, 0], None)
    }

    fn open(&self, path: &str, flags: i32) -> Vec<Event> {
        self.call(libc::SYS_openat, [0, 0, flags as u64, 0, 0, 0], Some(path))
    }

    fn write(&self, path: &'static str) -> Vec<Event> {
        self.open(path, libc::O_WRONLY)
    }

    fn read(&self, path: &'static str) -> Vec<Event> {
        self.open(path, libc::O_RDONLY)
    }

    /// As a service that listens.
    fn write_served(&self, path: &str) -> Vec<Event> {
        let mut events = self.call(libc::SYS_listen, [3, 1, 0, 0, 0, 0], None);
        events.extend(self.open(path, libc::O_WRONLY));
        events
    }

    /// A flow to an address.
    pub fn calls(&self, address: IpAddr, port: u16, bytes_out: u64) -> Event {
        self.flow(FlowDirection::Outbound, Protocol::Tcp, (address, port), 40_000, bytes_out)
    }

    /// A flow to a known address that is not established.
    pub fn fails(&self) -> Event {
        let mut event = self.calls(self.acquaintance, 443, 0);
        if let Origin::Flow(flow) = &mut event.origin {
            flow.phase = FlowPhase::Failed;
        }
        event
    }

    /// A flow from an address, to a port or without one.
    pub fn called(&self, address: IpAddr, port: Option<u16>) -> Event {
        let protocol = port.map_or(Protocol::Icmp, |_| Protocol::Tcp);
        let local = port.unwrap_or_default();
        self.flow(FlowDirection::Inbound, protocol, (address, 40_000), local, 100)
    }

    /// A call by one source of a port that the workload listens on.
    pub fn called_by(&self, address: IpAddr) -> Event {
        self.called(address, self.open_port)
    }

    /// What a source that is new gets for next to nothing.
    fn answers(&self, bytes_out: u64) -> Event {
        let mut event = self.called_by(self.newcomer);
        if let Origin::Flow(flow) = &mut event.origin {
            flow.bytes_out = bytes_out;
        }
        event
    }

    /// Processes that a service starts at once.
    pub fn forks(&self, times: u64) -> Vec<Event> {
        let mut events = self.call(libc::SYS_listen, [3, 1, 0, 0, 0, 0], None);
        let fork = Fork {
            child_tgid: PROCESS + 1,
            child_tid: PROCESS + 1,
            child_start_boot_ns: self.time_boot_ns,
            thread: false,
        };
        events.extend((0..times).map(|_| self.event(Origin::Fork(fork))));
        events
    }

    fn flow(
        &self,
        direction: FlowDirection,
        protocol: Protocol,
        (address, port): (IpAddr, u16),
        local: u16,
        bytes_out: u64,
    ) -> Event {
        let local = Peer { address: [192, 0, 2, 1].into(), port: local };
        let flow = Flow {
            protocol,
            bytes_out,
            bytes_in: 100,
            packets_out: bytes_out.div_ceil(1_448),
            packets_in: 2,
            ..Flow::start(direction, local, Peer { address, port })
        };
        self.event(Origin::Flow(Box::new(flow)))
    }

    fn beacon(&self) -> Vec<Event> {
        let start = |at| {
            let mut event = self.calls(self.newcomer, 443, 100);
            event.time_boot_ns += at * BEACON_NS;
            event
        };
        (0..BEACON_STARTS).map(start).collect()
    }

    /// A row of calls of one class.
    pub fn row(&self, class: Class, times: u64) -> Event {
        let mut classes = [0; CLASSES];
        classes[class.index()] = u32::try_from(times).unwrap_or(u32::MAX);
        let row = Row { classes, calls: times, ..Row::empty(RowReason::Window) };
        self.event(Origin::Row(Box::new(row)))
    }
}

/// The program that a baseline's text names.
pub fn program_of(text: &str, baseline: &Baseline, workload: &Workload) -> Option<Program> {
    let known = baseline.known(workload)?;
    let is_known =
        |program: &Program| known.contains(Set::Programs, baseline.key().program(program));
    let spaces = text.match_indices(' ').map(|(at, _)| {
        let mut program = Program::new(&text[..at]);
        program.script = Some(text[at + 1..].into());
        program
    });
    std::iter::once(Program::new(text)).chain(spaces).find(is_known)
}
