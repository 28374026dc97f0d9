//! Files: what they are from streamed calls, how many changes from rows, which no limit thins.

use hedgerow_event::{Family::Files, calls::Class};

use super::classes::bits;
use crate::column::{Column, Source::Calls, share};

pub(super) const COLUMNS: &[Column] = &[
    Column::count(
        Files,
        Calls,
        "files_streamed_count",
        "security-relevant calls streamed",
        |a, _| a.files.streamed as f64,
    )
    .outside_matrix(),
    Column::count(Files, Calls, "files_opens_count", "opens, successful or not", |a, _| {
        a.files.opens as f64
    }),
    Column::measure(
        Files,
        Calls,
        "files_failed_share",
        "failed opens / `files_opens_count`. Unavailable without opens",
        |a, _| share(a.files.opens_failed, a.files.opens),
    ),
    Column::count(
        Files,
        Calls,
        "files_failed_count",
        "failed opens: a search for what is there",
        |a, _| a.files.opens_failed as f64,
    ),
    Column::count(Files, Calls, "files_writes_count", "successful opens for writing", |a, _| {
        a.files.opens_write as f64
    }),
    Column::count(
        Files,
        Calls,
        "files_paths_count",
        "distinct paths of streamed calls (estimated above 512)",
        |a, _| a.files.paths.count(),
    ),
    Column::count(
        Files,
        Calls,
        "files_prefixes_count",
        "distinct first two components of those paths (estimated above 512)",
        |a, _| a.files.prefixes.count(),
    ),
    Column::count(
        Files,
        Calls,
        "files_sensitive_count",
        "streamed calls on credentials, keys, and places that decide what runs (`is_sensitive`)",
        |a, _| a.files.sensitive as f64,
    ),
    Column::calls(
        Files,
        "files_renames_count",
        "rename calls (`classes_rename_count`)",
        bits(&[Class::Rename]),
    ),
    Column::calls(
        Files,
        "files_unlinks_count",
        "unlink and rmdir calls (`classes_unlink_count`)",
        bits(&[Class::Unlink]),
    ),
    Column::calls(
        Files,
        "files_changes_count",
        "calls that truncate, link, make nodes, or change mode, owner or attributes",
        bits(&[
            Class::Truncate,
            Class::Link,
            Class::MakeNode,
            Class::Mode,
            Class::Owner,
            Class::Attribute,
        ]),
    ),
];
