//! Deeds that a call's number and registers tell. Both are the kernel's copies.

use std::sync::Arc;

use hedgerow_event::{Actor, Call, Deed, calls::CREDENTIALS_GREW};

/// What was done to what, where it is a deed.
type Matches = fn(&Actor, &Call) -> Option<Arc<str>>;

/// One kind of deed and the calls that do it.
struct Rule {
    deed: Deed,
    numbers: &'static [i64],
    matches: Matches,
}

const RULES: &[Rule] = &[
    Rule { deed: Deed::SetIdBit, numbers: MODE_CALLS, matches: set_id_bit },
    Rule {
        deed: Deed::Trace,
        numbers: &[
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_getfd,
        ],
        matches: trace,
    },
    Rule {
        deed: Deed::Namespace,
        numbers: &[
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_fsmount,
            libc::SYS_mount,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            libc::SYS_pivot_root,
            libc::SYS_setns,
            libc::SYS_unshare,
        ],
        matches: namespace,
    },
    Rule {
        deed: Deed::Kernel,
        numbers: &[
            libc::SYS_bpf,
            libc::SYS_finit_module,
            libc::SYS_init_module,
            libc::SYS_kexec_load,
            libc::SYS_kexec_file_load,
        ],
        matches: kernel,
    },
    Rule { deed: Deed::IoUring, numbers: &[libc::SYS_io_uring_setup], matches: io_uring },
    Rule {
        deed: Deed::RuntimeCode,
        numbers: &[libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_pkey_mprotect],
        matches: runtime_code,
    },
    Rule { deed: Deed::Packets, numbers: &[libc::SYS_socket], matches: packets },
];

/// The same on every architecture, which `libc` doesn't know of each.
const FCHMODAT2: i64 = 452;
#[cfg(target_arch = "x86_64")]
const MODE_CALLS: &[i64] = &[libc::SYS_chmod, libc::SYS_fchmod, libc::SYS_fchmodat, FCHMODAT2];
#[cfg(not(target_arch = "x86_64"))]
const MODE_CALLS: &[i64] = &[libc::SYS_fchmod, libc::SYS_fchmodat, FCHMODAT2];

const NUMBERS: usize = hedgerow_event::calls::TABLE_SIZE;
/// No call's rule.
const NONE: u8 = u8::MAX;
/// By number, the place of its rule: nearly all calls have none, and are done with here.
const RULE_OF: [u8; NUMBERS] = rule_of();

const fn rule_of() -> [u8; NUMBERS] {
    let mut table = [NONE; NUMBERS];
    let mut rule = 0;
    while rule < RULES.len() {
        let mut at = 0;
        while at < RULES[rule].numbers.len() {
            table[RULES[rule].numbers[at] as usize] = rule as u8;
            at += 1;
        }
        rule += 1;
    }
    table
}

/// The deed that a successful call is, and to what.
pub fn deed(actor: &Actor, call: &Call) -> Option<(Deed, Arc<str>)> {
    if call.number == CREDENTIALS_GREW {
        return Some((Deed::Credentials, credentials(call)));
    }
    let number = usize::try_from(call.number).ok()?;
    let rule = RULES.get(usize::from(*RULE_OF.get(number)?))?;
    if call.result < 0 {
        return None;
    }
    Some((rule.deed, (rule.matches)(actor, call)?))
}

const SET_USER_ID: u64 = libc::S_ISUID as u64;
const SET_GROUP_ID: u64 = libc::S_ISGID as u64;

/// `S_ISUID` apart from `S_ISGID`, which directories have in normal life.
pub fn set_id(mode: u64) -> Option<&'static str> {
    if mode & SET_USER_ID != 0 {
        Some("set-user-id")
    } else {
        (mode & SET_GROUP_ID != 0).then_some("set-group-id")
    }
}

fn set_id_bit(_: &Actor, call: &Call) -> Option<Arc<str>> {
    let at = [libc::SYS_fchmodat, FCHMODAT2].contains(&call.number.into());
    let bit = set_id(if at { call.arguments[2] } else { call.arguments[1] })?;
    Some(match &call.path {
        Some(path) if call.claimed => format!("{bit} on {path} (claimed)").into(),
        Some(path) => format!("{bit} on {path}").into(),
        None => format!("{bit} on an open file").into(),
    })
}

/// As of <linux/ptrace.h>; an arm64 kernel refuses it to 64-bit processes.
const PTRACE_SETREGS: u64 = 13;
/// Requests that change another process, or make it wait for its tracer.
const PTRACE: &[(u64, &str)] = &[
    (libc::PTRACE_ATTACH as u64, "attach"),
    (libc::PTRACE_SEIZE as u64, "seize"),
    (libc::PTRACE_POKETEXT as u64, "poke"),
    (libc::PTRACE_POKEDATA as u64, "poke"),
    (libc::PTRACE_POKEUSER as u64, "poke"),
    (PTRACE_SETREGS, "set registers"),
    (libc::PTRACE_SETREGSET as u64, "set registers"),
];

fn trace(actor: &Actor, call: &Call) -> Option<Arc<str>> {
    let (number, arguments) = (i64::from(call.number), &call.arguments);
    if number == libc::SYS_pidfd_getfd {
        return Some("took a descriptor of another process".into());
    }
    let (how, process) = if number == libc::SYS_ptrace {
        let request = PTRACE.iter().find(|(request, _)| *request == arguments[0])?;
        (request.1, arguments[1])
    } else if number == libc::SYS_process_vm_writev {
        ("write memory", arguments[0])
    } else {
        ("read memory", arguments[0])
    };
    let other = process != u64::from(actor.tgid) && process != u64::from(actor.tid);
    other.then(|| format!("process {} ({how})", process as u32).into())
}

/// Every `CLONE_NEW*` that clone(2) knows.
const CLONE_NEW: u64 = 0x7e02_0000;
/// Only `unshare` knows it: in clone(2) the bit is part of the exit signal.
const CLONE_NEWTIME: u64 = 0x80;
const OPEN_TREE_CLONE: u64 = 1;

fn namespace(_: &Actor, call: &Call) -> Option<Arc<str>> {
    let first = call.arguments[0];
    let what = match i64::from(call.number) {
        libc::SYS_clone | libc::SYS_clone3 if first & CLONE_NEW != 0 => "clone",
        libc::SYS_unshare if first & (CLONE_NEW | CLONE_NEWTIME) != 0 => "unshare",
        libc::SYS_setns => "setns",
        libc::SYS_open_tree if call.arguments[2] & OPEN_TREE_CLONE != 0 => "mount (open_tree)",
        libc::SYS_mount | libc::SYS_move_mount | libc::SYS_fsmount => "mount",
        libc::SYS_pivot_root => "pivot_root",
        _ => return None,
    };
    Some(what.into())
}

/// Commands of bpf(2) that bring a program in or attach one: `BPF_PROG_LOAD`, `BPF_PROG_ATTACH`,
/// `BPF_RAW_TRACEPOINT_OPEN`, `BPF_LINK_CREATE`. Maps are data.
const BPF_COMMANDS: [u64; 4] = [5, 8, 17, 28];

fn kernel(_: &Actor, call: &Call) -> Option<Arc<str>> {
    let what = match i64::from(call.number) {
        libc::SYS_bpf if BPF_COMMANDS.contains(&call.arguments[0]) => "bpf",
        libc::SYS_init_module | libc::SYS_finit_module => "module",
        libc::SYS_kexec_load | libc::SYS_kexec_file_load => "kexec",
        _ => return None,
    };
    Some(what.into())
}

fn io_uring(_: &Actor, _: &Call) -> Option<Arc<str>> {
    Some("set-up".into())
}

/// Streamed only where it is anonymous.
fn runtime_code(_: &Actor, call: &Call) -> Option<Arc<str>> {
    (call.arguments[2] & libc::PROT_EXEC as u64 != 0).then(|| "".into())
}

fn packets(_: &Actor, call: &Call) -> Option<Arc<str>> {
    match i32::try_from(call.arguments[0]).ok()? {
        libc::AF_PACKET => Some("AF_PACKET".into()),
        libc::AF_XDP => Some("AF_XDP".into()),
        _ => None,
    }
}

fn credentials(call: &Call) -> Arc<str> {
    let [uid_before, uid, before, after, ..] = call.arguments;
    let gained = (after & !before).count_ones();
    if uid_before == uid {
        format!("{gained} capabilities more").into()
    } else {
        format!("user {uid_before} became {uid}").into()
    }
}
