//! What a record says by itself, in the types of events. Pure.

use std::sync::Arc;

use hedgerow_bpf::wire;
use hedgerow_event::{Actor, CLASSES, Row, RowReason, Subject};

use crate::identity::{ProcessKey, Root};

/// Marks the profiles of processes that were not seen to exec: the kernel can't tell which script
/// they run.
pub const STRANGER: u64 = 1 << wire::WIRE_PROFILE_STRANGER_BIT;

pub fn process_key(actor: &wire::wire_actor) -> ProcessKey {
    ProcessKey {
        tgid: actor.tgid,
        start_boot_ns: actor.start_boot_ns,
        program_id: actor.program_id,
        cgroup_id: actor.cgroup_id,
        root: Root::from(&actor.root),
    }
}

pub fn root(root: &Root) -> Option<hedgerow_event::Root> {
    let known = hedgerow_event::Root { tgid: root.tgid, start_boot_ns: root.start_boot_ns };
    root.is_known().then_some(known)
}

/// As `stranger_profile_id` of `profile.bpf.h`: of a process that was not seen to exec.
pub fn stranger_profile_id(program_id: u64, tgid: u32) -> u64 {
    if program_id == 0 {
        return 0;
    }
    mix64(program_id ^ u64::from(tgid)) | STRANGER
}

/// The finaliser of splitmix64, as in `identity.bpf.h`.
fn mix64(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

pub fn actor(wire: &wire::wire_actor, subject: Arc<Subject>) -> Actor {
    Actor {
        subject,
        tgid: wire.tgid,
        tid: wire.tid,
        start_boot_ns: wire.start_boot_ns,
        cgroup_id: wire.cgroup_id,
        program_id: wire.program_id,
        slot: wire.slot,
    }
}

/// Row counts as an event carries them.
pub fn counts(counts: &wire::wire_counts, reason: RowReason) -> Row {
    let mut classes = [0; CLASSES];
    classes.copy_from_slice(&counts.classes);
    Row {
        reason,
        classes,
        calls: counts.calls.into(),
        errors: counts.errors.into(),
        checked: counts.checked.into(),
        unseen2: counts.unseen2.into(),
        unseen3: counts.unseen3.into(),
        unseen6: counts.unseen6.into(),
        collapsed: counts.collapsed.into(),
        lost: counts.lost.into(),
        limited: counts.limited.into(),
    }
}

pub fn reason(reason: u32) -> RowReason {
    match reason {
        wire::WIRE_ROW_EXEC => RowReason::Exec,
        wire::WIRE_ROW_EXIT => RowReason::Exit,
        wire::WIRE_ROW_SPILLED => RowReason::Spilled,
        _ => RowReason::Window,
    }
}

/// The file, or its directory, belongs to or can be written by others than root.
pub fn writable(file: &wire::wire_file) -> bool {
    let open = |mode: u32, uid: u32| uid != 0 || mode & 0o022 != 0;
    open(file.mode, file.uid) || open(file.directory_mode, file.directory_uid)
}
