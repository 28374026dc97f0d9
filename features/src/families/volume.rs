//! How much a subject does.

use hedgerow_event::Family::Volume;

use crate::column::{Column, Source::Rows, share};

pub(super) const COLUMNS: &[Column] = &[
    Column::count(Volume, Rows, "volume_calls_count", "system calls completed", |a, _| {
        a.calls.calls as f64
    })
    .outside_matrix(),
    Column::measure(
        Volume,
        Rows,
        "volume_calls_rate",
        "`volume_calls_count` a second. Unavailable in a window with a suspend. An early row divides \
         by the whole window's length: the least that the closed window can show",
        |a, c| c.seconds.map_or(f64::NAN, |seconds| a.calls.calls as f64 / seconds),
    ),
    Column::count(
        Volume,
        Rows,
        "volume_threads_count",
        "distinct threads that made a call (estimated above 512)",
        |a, _| a.calls.threads.count(),
    ),
    Column::count(
        Volume,
        Rows,
        "volume_processes_count",
        "distinct processes that made a call (estimated above 512)",
        |a, _| a.calls.processes.count(),
    ),
    Column::measure(
        Volume,
        Rows,
        "volume_thread_share",
        "calls of the busiest thread in one epoch / `volume_calls_count`: near 1 for a loop in one \
         thread. Unavailable without calls",
        |a, _| share(a.calls.calls_max, a.calls.calls),
    ),
];
