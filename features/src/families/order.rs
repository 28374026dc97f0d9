//! The order of calls against the program's learned n-grams, checked in the kernel.

use hedgerow_event::Family::Order;

use crate::column::{Column, Context, Source::Rows, share};

/// `unseen / checked`, where there is a profile to check against and it is complete.
fn unseen_share(unseen: u64, checked: u64, context: &Context<'_>) -> f64 {
    if context.known.is_none() { f64::NAN } else { share(unseen, checked) }
}

fn unseen_count(unseen: u64, checked: u64, context: &Context<'_>) -> f64 {
    if context.known.is_none() || checked == 0 { f64::NAN } else { unseen as f64 }
}

pub(super) const COLUMNS: &[Column] = &[
    Column::count(
        Order,
        Rows,
        "order_checked_count",
        "calls that entered the history and were checked against a profile; 0 for an unprofiled \
         program",
        |a, _| a.calls.checked as f64,
    )
    .outside_matrix(),
    Column::measure(
        Order,
        Rows,
        "order_unseen2_share",
        "calls that ended an unseen 2-gram / `order_checked_count`. Unavailable while learning and \
         where nothing was checked",
        |a, c| unseen_share(a.calls.unseen2, a.calls.checked, c),
    ),
    Column::measure(
        Order,
        Rows,
        "order_unseen3_share",
        "calls that ended an unseen 3-gram / `order_checked_count`. Unavailable as \
         `order_unseen2_share`",
        |a, c| unseen_share(a.calls.unseen3, a.calls.checked, c),
    ),
    Column::measure(
        Order,
        Rows,
        "order_unseen6_share",
        "calls that ended an unseen 6-gram / `order_checked_count`. Unavailable as \
         `order_unseen2_share`",
        |a, c| unseen_share(a.calls.unseen6, a.calls.checked, c),
    ),
    Column::count(
        Order,
        Rows,
        "order_unseen2_count",
        "calls that ended an unseen 2-gram. Unavailable as `order_unseen2_share`",
        |a, c| unseen_count(a.calls.unseen2, a.calls.checked, c),
    )
    .outside_matrix(),
    Column::count(
        Order,
        Rows,
        "order_unseen3_count",
        "calls that ended an unseen 3-gram. Unavailable as `order_unseen2_share`",
        |a, c| unseen_count(a.calls.unseen3, a.calls.checked, c),
    )
    .outside_matrix(),
    Column::count(
        Order,
        Rows,
        "order_unseen6_count",
        "calls that ended an unseen 6-gram. Unavailable as `order_unseen2_share`",
        |a, c| unseen_count(a.calls.unseen6, a.calls.checked, c),
    )
    .outside_matrix(),
    Column::count(
        Order,
        Rows,
        "order_unseen6_thread_count",
        "the most unseen 6-grams of one thread in one epoch: a strange thread isn't diluted by its \
         busy neighbours. Unavailable as `order_unseen2_share`",
        |a, c| unseen_count(a.calls.unseen6_max, a.calls.checked, c),
    ),
    Column::measure(
        Order,
        Rows,
        "order_collapsed_share",
        "calls that repeated the one before and stayed out of the history / `volume_calls_count`. \
         Unavailable without calls",
        |a, _| share(a.calls.collapsed, a.calls.calls),
    ),
];
