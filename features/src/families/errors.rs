//! How much of it fails.

use hedgerow_event::Family::Errors;

use crate::column::{
    Column,
    Source::{Calls, Processes, Rows},
    share,
};

pub(super) const COLUMNS: &[Column] = &[
    Column::count(
        Errors,
        Rows,
        "errors_calls_count",
        "calls that returned an error; restarts (-512 to -516) are none",
        |a, _| a.calls.errors as f64,
    ),
    Column::measure(
        Errors,
        Rows,
        "errors_calls_share",
        "`errors_calls_count` / `volume_calls_count`. Unavailable without calls",
        |a, _| share(a.calls.errors, a.calls.calls),
    ),
    Column::count(
        Errors,
        Calls,
        "errors_denied_count",
        "streamed calls refused with EPERM or EACCES",
        |a, _| a.files.denied as f64,
    ),
    Column::count(
        Errors,
        Processes,
        "errors_exits_count",
        "processes that ended with a status other than 0",
        |a, _| a.processes.exits_failed as f64,
    ),
    Column::count(
        Errors,
        Processes,
        "errors_signals_count",
        "processes that a signal ended",
        |a, _| a.processes.exits_signal as f64,
    ),
];
