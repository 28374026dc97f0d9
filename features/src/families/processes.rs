//! Programs started and processes made.

use hedgerow_event::Family::Processes as Family;

use crate::column::{Column, Source::Processes};

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
];
