//! What kinds of calls.
//!
//! Every class is kept as a count. The forest doesn't get 64 of them: raw histograms are near
//! chance in it, and would crowd out the columns that aren't. It gets the shares of groups, and
//! `shape` sums up the rest.

use hedgerow_event::{
    CLASSES, Family,
    calls::{CLASS_NAMES, Class, Class::*},
};

use crate::column::{Column, Formula, Kind, Source};

/// Groups whose shares the forest sees: (name, what it is, classes). Each class is in one group.
const GROUPS: &[(&str, &str, &[Class])] = &[
    (
        "data",
        "moving bytes",
        &[Read, Write, PositionalRead, PositionalWrite, Transfer, Uring, Seek, Sync],
    ),
    ("open", "opening and closing", &[Open, Close, Duplicate]),
    ("look", "looking at files", &[Stat, Access, Directory, FileControl, Ioctl, WorkingDirectory]),
    (
        "change",
        "changing the tree of files",
        &[Truncate, Unlink, Rename, Link, MakeNode, Mode, Owner, Attribute],
    ),
    ("wait", "waiting", &[Poll, Watch, Futex, Sleep, Time]),
    ("memory", "memory", &[Map, Protect, Advise, MemoryFile]),
    ("process", "processes", &[Clone, Born, Exec, Wait, Exit]),
    ("signal", "signals", &[Kill, Signal, SignalReturn]),
    ("self", "asking about and arranging itself", &[Identity, Limits, ProcessControl]),
    ("message", "pipes and messages on the host", &[Pipe, Ipc]),
    ("connect", "setting up the network", &[Socket, Connect, Bind, Accept, SocketOption]),
    ("network", "sending and receiving", &[Send, Receive]),
    ("power", "reaching beyond itself", POWER),
    ("odd", "32-bit calls and numbers outside the tables", &[Compat, Odd]),
];

/// Calls with power over other processes, the kernel or the host.
pub(super) const POWER: &[Class] =
    &[Credentials, Trace, Namespace, Mount, Module, Bpf, Keyring, System];

/// A set of classes as a [`Formula`]'s bits.
pub(super) const fn bits(classes: &[Class]) -> u64 {
    let mut bits = 0;
    let mut at = 0;
    while at < classes.len() {
        bits |= 1 << classes[at] as u64;
        at += 1;
    }
    bits
}

pub(super) fn columns() -> Vec<Column> {
    let column = |name: String, kind, matrix, doc: String, formula| Column {
        name: name.into(),
        family: Family::Classes,
        kind,
        source: Source::Rows,
        matrix,
        doc: doc.into(),
        formula,
    };
    let classes = (0..CLASSES).map(|class| {
        let name = CLASS_NAMES[class];
        let doc = format!("calls of the class `{name}`");
        column(format!("classes_{name}_count"), Kind::Count, false, doc, Formula::Sum(1 << class))
    });
    let groups = GROUPS.iter().map(|(name, what, classes)| {
        let members: Vec<&str> = classes.iter().map(|class| class.name()).collect();
        let doc = format!(
            "share of calls for {what} ({}) in `volume_calls_count`. Unavailable without calls",
            members.join(", ")
        );
        let formula = Formula::Share(bits(classes));
        column(format!("classes_{name}_share"), Kind::Measure, true, doc, formula)
    });
    classes.chain(groups).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_is_in_one_group() {
        let mut seen = 0u64;
        for (name, _, classes) in GROUPS {
            assert_eq!(seen & bits(classes), 0, "{name} takes another group's class");
            seen |= bits(classes);
        }
        assert_eq!(seen, u64::MAX);
    }
}
