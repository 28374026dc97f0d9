//! Each kind of deed as it is done by a process that is there, its events written by hand.

use std::sync::Arc;

use hedgerow_event::{
    Deed, Event, FlowDirection, FlowPhase, Fork, Origin, Program, Provenance, Subject,
    calls::{CREDENTIALS_GREW, Class},
};

use crate::life::{Host, subject};

/// The process that does it.
pub const TGID: u32 = 7_000;
pub const NEWCOMER: [u8; 4] = [203, 0, 113, 77];

/// What is done; `at` is the epoch after the first in which it goes on.
pub fn act(host: &Host, who: &Arc<Subject>, deed: Deed, how: &str, at: u32) -> Vec<Event> {
    let exec = |change: &dyn Fn(&mut hedgerow_event::Exec)| vec![host.exec(who, TGID, change)];
    let call = |number, arguments, path| vec![host.call(who, TGID, number, arguments, path)];
    let open = |flags: i32, path| call(libc::SYS_openat, [0, 0, flags as u64, 0, 0, 0], Some(path));
    let flow = |direction, peer, local| vec![host.flow(who, TGID, direction, peer, local, 500)];
    let sent =
        |peer| vec![host.flow(who, TGID, FlowDirection::Outbound, peer, 40_000, 10_000_000_000)];
    let grew = |arguments| call(CREDENTIALS_GREW.into(), arguments, None);
    let listens = || {
        let mut events = call(libc::SYS_listen, [3, 5, 0, 0, 0, 0], None);
        if let Origin::Call(call) = &mut events[0].origin {
            call.result = 0;
        }
        events
    };
    let stranger = subject(who.workload.as_str(), &Program::new("/usr/bin/stranger"));
    if at > 0 && deed != Deed::Beacon {
        return Vec::new();
    }
    match (deed, how) {
        (Deed::ExecMemory, _) => exec(&|exec| exec.memory = true),
        (Deed::ExecWritable, _) => exec(&|exec| exec.writable = true),
        (Deed::ExecDrift, _) => exec(&|exec| exec.provenance = Provenance::Drift),
        (Deed::ExecModified, _) => exec(&|exec| exec.provenance = Provenance::Modified),
        (Deed::ExecUnsigned, _) => exec(&|exec| exec.provenance = Provenance::Unsigned),
        (Deed::ExecUnowned, _) => exec(&|exec| exec.provenance = Provenance::Unowned),
        (Deed::ExecCut, _) => exec(&|exec| exec.path = ".../deep".into()),
        (Deed::Replaced, _) => exec(&replaced),
        (Deed::ReplacedWithin, _) => {
            let mut events = exec(&|_| ());
            events.extend(open(libc::O_RDWR, &who.program.path));
            events.extend(exec(&replaced));
            events
        }
        (Deed::NewProgram, _) => {
            let new = subject(who.workload.as_str(), &Program::new("/opt/brand-new"));
            vec![host.exec(&new, TGID, |_| ())]
        }
        (Deed::NewChild, _) => exec(&|exec| exec.parent = Some(Arc::clone(&stranger))),
        (Deed::UnderListener, _) => exec(&|exec| {
            exec.parent = Some(Arc::clone(&stranger));
            exec.under_listener = true;
        }),
        (Deed::SocketStreams, _) => exec(&|exec| exec.socket_io = true),
        (Deed::Privilege, _) => exec(&|exec| {
            exec.privileged = true;
            exec.uid_before = 1_777;
        }),
        (Deed::SetIdBit, "set-group-id") => call(libc::SYS_fchmod, [5, 0o2755, 0, 0, 0, 0], None),
        (Deed::SetIdBit, _) => call(libc::SYS_fchmod, [5, 0o4755, 0, 0, 0, 0], None),
        (Deed::Credentials, "a user id") => grew([1_001, 0, 0, 0, 0, 0]),
        (Deed::Credentials, _) => grew([33, 33, 1, 3, 0, 0]),
        (Deed::Trace, _) => {
            call(libc::SYS_ptrace, [libc::PTRACE_ATTACH as u64, 55, 0, 0, 0, 0], None)
        }
        (Deed::Namespace, "unshare") => {
            call(libc::SYS_unshare, [libc::CLONE_NEWUSER as u64, 0, 0, 0, 0, 0], None)
        }
        (Deed::Namespace, "setns") => call(libc::SYS_setns, [4, 0, 0, 0, 0, 0], None),
        (Deed::Namespace, "mount") => call(libc::SYS_move_mount, [0; 6], None),
        (Deed::Namespace, _) => call(libc::SYS_pivot_root, [0; 6], None),
        (Deed::Kernel, "bpf") => call(libc::SYS_bpf, [28, 0, 0, 0, 0, 0], None),
        (Deed::Kernel, "module") => call(libc::SYS_init_module, [0; 6], None),
        (Deed::Kernel, _) => call(libc::SYS_kexec_file_load, [0; 6], None),
        (Deed::IoUring, _) => call(libc::SYS_io_uring_setup, [8, 0, 0, 0, 0, 0], None),
        (Deed::RuntimeCode, _) => {
            let rights = (libc::PROT_READ | libc::PROT_EXEC) as u64;
            call(libc::SYS_mmap, [0, 8_192, rights, 0x22, u64::MAX, 0], None)
        }
        (Deed::Packets, "AF_XDP") => call(libc::SYS_socket, [44, 3, 0, 0, 0, 0], None),
        (Deed::Packets, _) => call(libc::SYS_socket, [17, 3, 0x300, 0, 0, 0], None),
        (Deed::Persistence, path) => open(libc::O_WRONLY | libc::O_CREAT, path),
        (Deed::WroteCode, _) => {
            let mut events = listens();
            events.extend(open(libc::O_WRONLY, "/var/www/uploads/shell.php"));
            events
        }
        (Deed::Secret, path) => open(libc::O_RDONLY, path),
        (Deed::NewPeer, _) => flow(FlowDirection::Outbound, (NEWCOMER, 8443), 40_000),
        // One start in each minute.
        (Deed::Beacon, _) if at.is_multiple_of(12) => {
            flow(FlowDirection::Outbound, (NEWCOMER, 8443), 40_000)
        }
        (Deed::Beacon, _) => Vec::new(),
        (Deed::NewListener, "") => flow(FlowDirection::Inbound, ([10, 0, 1, 1], 50_000), 4_444),
        (Deed::NewListener, _) => flow(FlowDirection::Inbound, ([10, 0, 1, 1], 50_000), 51_234),
        (Deed::NewSource, _) => flow(FlowDirection::Inbound, (NEWCOMER, 50_000), 443),
        (Deed::Outflow, _) => sent((NEWCOMER, 443)),
        (Deed::DnsOutflow, _) => sent((known(who), 53)),
        (Deed::OneSource, _) => {
            let one = host.flow(who, TGID, FlowDirection::Inbound, (NEWCOMER, 50_000), 443, 100);
            vec![one; 10_000]
        }
        (Deed::Scan, _) => {
            let out = FlowDirection::Outbound;
            let mut one = host.flow(who, TGID, out, (known(who), 443), 40_000, 0);
            if let Origin::Flow(flow) = &mut one.origin {
                flow.phase = FlowPhase::Failed;
            }
            vec![one; 10_000]
        }
        (Deed::Forks, _) => {
            let mut events = listens();
            let fork = |at: u32| {
                let child = TGID + 1 + at;
                let fork = Fork {
                    child_tgid: child,
                    child_tid: child,
                    child_start_boot_ns: 1,
                    thread: false,
                };
                Event { origin: Origin::Fork(fork), ..events[0].clone() }
            };
            let forks: Vec<Event> = (0..10_000).map(fork).collect();
            events.extend(forks);
            events
        }
        (Deed::Answers, _) => {
            let inbound = FlowDirection::Inbound;
            vec![host.flow(who, TGID, inbound, (NEWCOMER, 50_000), 443, 10_000_000_000)]
        }
        (Deed::Rewrite, _) => vec![host.row(who, TGID, &[(Class::Rename, 10_000)])],
        _ => panic!("nothing does {deed} {how}"),
    }
}

/// An address that its workload talks to.
pub fn known(who: &Subject) -> [u8; 4] {
    [10, 0, 0, if who.workload.as_str() == "db.service" { 9 } else { 2 }]
}

fn replaced(exec: &mut hedgerow_event::Exec) {
    exec.replaced = true;
    exec.provenance = Provenance::Unknown;
}

/// Epochs for which a kind goes on.
pub fn epochs(deed: Deed) -> u32 {
    if deed == Deed::Beacon { 12 * 9 } else { 1 }
}
