//! Programs started and processes made.

use hedgerow_event::{Family::Processes as Family, calls::Class};

use super::classes::{POWER, bits};
use crate::column::{
    Column,
    Source::{Calls, Processes},
};

pub(super) const COLUMNS: &[Column] = &[
    Column::count(
        Family,
        Processes,
        "processes_execs_count",
        "execs that made this program",
        |a, _| a.processes.execs as f64,
    ),
    Column::count(
        Family,
        Processes,
        "processes_children_count",
        "execs of other programs by this program's processes (its forked children)",
        |a, _| a.processes.children as f64,
    ),
    Column::count(
        Family,
        Processes,
        "processes_child_programs_count",
        "distinct programs among `processes_children_count` (estimated above 512)",
        |a, _| a.processes.child_pairs.count(),
    ),
    Column::count(Family, Processes, "processes_forks_count", "processes forked", |a, _| {
        a.processes.forks as f64
    }),
    Column::count(Family, Processes, "processes_threads_count", "threads created", |a, _| {
        a.processes.threads as f64
    }),
    Column::count(Family, Processes, "processes_exits_count", "processes that ended", |a, _| {
        a.processes.exits as f64
    })
    .outside_matrix(),
    Column::count(
        Family,
        Processes,
        "processes_memory_execs_count",
        "execs of a file that lives in memory only (memfd) or has no link",
        |a, _| a.processes.execs_memory as f64,
    ),
    Column::count(
        Family,
        Processes,
        "processes_writable_execs_count",
        "execs of a file that, or whose directory, others than root can write",
        |a, _| a.processes.execs_writable as f64,
    ),
    Column::count(
        Family,
        Processes,
        "processes_replaced_execs_count",
        "execs of a known path whose digest changed",
        |a, _| a.processes.execs_replaced as f64,
    ),
    Column::count(
        Family,
        Processes,
        "processes_privileges_count",
        "execs that raised privileges (set-uid, set-gid, capabilities) or changed the effective \
         user id",
        |a, _| a.processes.privilege_changes as f64,
    ),
    Column::calls(
        Family,
        "processes_clones_count",
        "fork, vfork, clone and clone3 calls (`classes_clone_count`)",
        bits(&[Class::Clone]),
    ),
    Column::calls(
        Family,
        "processes_kills_count",
        "signals sent (`classes_kill_count`)",
        bits(&[Class::Kill]),
    ),
    Column::calls(
        Family,
        "processes_power_count",
        "calls that reach beyond the process: credentials, trace, namespaces, mounts, modules, bpf, \
         keyrings, system",
        bits(POWER),
    ),
    Column::count(
        Family,
        Calls,
        "processes_code_count",
        "streamed calls that make memory executable (mprotect with `PROT_EXEC`) or a file in memory \
         (memfd, userfaultfd): where injected code begins, and what just-in-time compilers do",
        |a, _| a.files.code as f64,
    ),
];
