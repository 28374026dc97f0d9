//! What Hedgerow may do beyond any other process of root's, until when, and for what: the one table that
//! starting, `hedgerow doctor`, the systemd unit and docs/security.md follow.

use std::{io, panic, thread};

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};
use serde::Serialize;

/// How long a capability is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// Until everything is loaded and attached; nobody gets it back.
    Start,
    /// As [`Held::Start`]; without it something small is missing.
    StartIfThere,
    /// As long as it runs, but in effect only on the thread that takes it for one step.
    InUse,
    /// As long as it runs.
    Always,
}

impl Held {
    pub fn words(self) -> &'static str {
        match self {
            Self::Start | Self::StartIfThere => "until everything is attached",
            Self::InUse => "for single steps",
            Self::Always => "always",
        }
    }

    fn is_kept(self) -> bool {
        matches!(self, Self::InUse | Self::Always)
    }
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Row {
    #[serde(serialize_with = "name")]
    pub capability: Capability,
    pub held: Held,
    pub purpose: &'static str,
}

fn name<S: serde::Serializer>(capability: &Capability, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(capability)
}

const fn row(capability: Capability, held: Held, purpose: &'static str) -> Row {
    Row { capability, held, purpose }
}

pub const CAPABILITIES: [Row; 9] = [
    row(Capability::CAP_BPF, Held::Start, "programs and maps are loaded"),
    row(Capability::CAP_PERFMON, Held::Start, "programs that trace the kernel are loaded"),
    row(Capability::CAP_CHOWN, Held::StartIfThere, "the readers' socket is given to their group"),
    row(Capability::CAP_SYS_NICE, Held::StartIfThere, "the drain thread comes before others"),
    row(Capability::CAP_SETPCAP, Held::StartIfThere, "what was given up is out of reach for good"),
    row(
        Capability::CAP_DAC_READ_SEARCH,
        Held::Always,
        "files of others are read: programs, their scripts, the files that say who is protected",
    ),
    row(
        Capability::CAP_SYS_PTRACE,
        Held::Always,
        "/proc of others is read: programs, roots, arguments, mappings, descriptors of sockets",
    ),
    row(
        Capability::CAP_NET_ADMIN,
        Held::InUse,
        "programs are attached to cgroups; then, when sockets of a denied peer or process are destroyed",
    ),
    row(
        Capability::CAP_SYS_ADMIN,
        Held::InUse,
        "programs are looked up by id; then, to enter the network namespace of such a socket, and to \
         switch the kernel's statistics of BPF programs on for 100 ms in 10 s (5 s with `[governor]`)",
    ),
];

fn those(of: impl Fn(Held) -> bool) -> CapsHashSet {
    CAPABILITIES.iter().filter(|row| of(row.held)).map(|row| row.capability).collect()
}

/// Names of the capabilities that this thread lacks and can't start without.
pub fn missing_capabilities() -> Vec<String> {
    missing(&caps::read(None, CapSet::Effective).unwrap_or_default())
}

fn missing(effective: &CapsHashSet) -> Vec<String> {
    // It stands for these two where it is held (as before 5.8).
    let covered = [Capability::CAP_BPF, Capability::CAP_PERFMON];
    let has = |one: Capability| {
        effective.contains(&one)
            || covered.contains(&one) && effective.contains(&Capability::CAP_SYS_ADMIN)
    };
    let needed = CAPABILITIES.iter().filter(|row| row.held != Held::StartIfThere);
    needed.filter(|row| !has(row.capability)).map(|row| row.capability.to_string()).collect()
}

fn failed(error: CapsError) -> io::Error {
    io::Error::other(format!("can't give up capabilities: {error}"))
}

/// Gives up whatever this thread doesn't need once everything is attached, for itself, for the threads
/// that it starts and for what any of them would execute. Each thread has capabilities of its own.
///
/// # Errors
/// The kernel refuses.
pub fn lower() -> io::Result<()> {
    // SAFETY: plain numbers; it is a promise about this thread and its children.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    lowered_sets().map_err(failed)
}

fn lowered_sets() -> Result<(), CapsError> {
    let permitted = caps::read(None, CapSet::Permitted)?;
    let held = |of: fn(Held) -> bool| -> CapsHashSet {
        those(of).intersection(&permitted).copied().collect()
    };
    let kept = held(Held::is_kept);
    // Without it nothing is executed with more than is permitted here either: no new privileges.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for one in caps::read(None, CapSet::Bounding)?.difference(&kept) {
            caps::drop(None, CapSet::Bounding, *one)?;
        }
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &held(|held| held == Held::Always))?;
    caps::set(None, CapSet::Permitted, &kept)
}

/// Makes something on a thread that is [`lower`]ed, so that whatever threads it starts are, too.
///
/// # Errors
/// No thread can be made, or the kernel refuses.
pub fn lowered<T: Send>(make: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let made = thread::Builder::new().spawn_scoped(scope, || lower().map(|()| make()))?;
        made.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_root_has_suffices_and_what_is_missing_is_named() {
        assert_eq!(missing(&caps::all()), Vec::<String>::new());
        assert_eq!(missing(&CapsHashSet::new()).len(), 6);
        // CAP_SYS_ADMIN covers CAP_BPF and CAP_PERFMON, not the other way round.
        let mut old = those(Held::is_kept);
        assert_eq!(missing(&old), Vec::<String>::new());
        old.extend([Capability::CAP_BPF, Capability::CAP_PERFMON]);
        old.remove(&Capability::CAP_SYS_ADMIN);
        assert_eq!(missing(&old), ["CAP_SYS_ADMIN"]);
    }

    #[test]
    fn a_lowered_thread_passes_on_what_is_kept_and_nobody_else_loses_anything() {
        let sets = || {
            [CapSet::Permitted, CapSet::Effective, CapSet::Inheritable, CapSet::Bounding]
                .map(|set| caps::read(None, set).unwrap())
        };
        let before = sets();
        let in_a_thread = lowered(|| thread::spawn(sets).join().unwrap()).unwrap();
        let kept: CapsHashSet = those(Held::is_kept).intersection(&before[0]).copied().collect();
        let always = those(|held| held == Held::Always);
        let always: CapsHashSet = always.intersection(&before[0]).copied().collect();
        assert_eq!(in_a_thread[0], kept);
        assert_eq!(in_a_thread[1], always);
        assert!(in_a_thread[2].is_empty());
        if before[1].contains(&Capability::CAP_SETPCAP) {
            assert_eq!(in_a_thread[3], kept);
        }
        assert_eq!(sets(), before);
    }

    /// The unit asks for no more than the table, and both tables in the documents are this one.
    #[test]
    fn unit_and_documents_follow_the_table() {
        let unit = include_str!("../../../packaging/systemd/hedgerow.service");
        let bounding = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
        let bounding: CapsHashSet =
            bounding.unwrap().split(' ').map(|name| name.parse().unwrap()).collect();
        assert_eq!(bounding, those(|_| true));
        let security = include_str!("../../../docs/security.md");
        for Row { capability, held, purpose } in CAPABILITIES {
            let row = format!("| `{capability}` | {} | {purpose} |", held.words());
            assert!(security.contains(&row), "{row}");
        }
    }
}
