//! One extractor, two worlds: of one daemon with rows and every call on, the windows recomputed from
//! the calls alone are those that were counted in the kernel, column for column; and so are what is
//! learned and found from them.

#![allow(clippy::unwrap_used)]

mod lived;

use std::collections::HashSet;

use arrow::{array::RecordBatch, util::display::array_value_to_string};
use hedgerow_features::{Window, to_batch};
use hedgerow_lab::Lab;
use lived::Lived;

/// Lives in which a machine with other work may lose records before the test gives up.
const LIVES: usize = 3;

/// A life of which no record is missing.
fn complete_life() -> (Lived, Vec<Window>) {
    for life in 1..=LIVES {
        let lived = Lived::live(&["--full"]);
        let windows = lived.windows("capture/windows");
        let missing = |window: &&Window| {
            let unattributed = window.time.unattributed;
            let [own, host] = [window.loss, unattributed].map(|loss| loss.lost + loss.late);
            own + host + unattributed.limited > 0
        };
        match windows.iter().find(missing) {
            None if lived.not_captured == 0 => return (lived, windows),
            incomplete => eprintln!(
                "life {life}: {} records not captured, first incomplete window {:?}",
                lived.not_captured,
                incomplete.map(|window| (&window.subject, &window.time, window.loss))
            ),
        }
    }
    panic!("records were lost in each of {LIVES} lives");
}

fn of<'a>(windows: &'a [Window], unit: &str) -> impl Iterator<Item = &'a Window> {
    let workload = Lab::workload(unit);
    windows.iter().filter(move |window| window.subject.workload.as_str() == workload)
}

fn sum(windows: &[Window], unit: &str, column: &str) -> f64 {
    of(windows, unit).filter_map(|window| window.value(column)).sum()
}

/// Names of the columns in which two rows differ.
fn differences(live: &Window, offline: &Window) -> Vec<String> {
    let row = |window: &Window| -> RecordBatch { to_batch(std::slice::from_ref(window)).unwrap() };
    let (live, offline) = (row(live), row(offline));
    let fields = live.schema().fields().clone();
    let columns = fields.iter().zip(live.columns()).zip(offline.columns());
    columns
        .filter(|((_, live), offline)| live != offline)
        .map(|((field, live), offline)| {
            let [live, offline] =
                [live, offline].map(|column| array_value_to_string(column, 0).unwrap());
            format!("{} is {live}, {offline} offline", field.name())
        })
        .collect()
}

#[test]
fn every_column_of_every_window_is_found_again_from_the_calls_alone() {
    let (lived, mut live) = complete_life();
    for unit in ["app", "web", "jobs", "clients"] {
        assert!(of(&live, unit).count() > 10, "{unit} was seen");
        assert!(of(&live, unit).all(|window| window.loss.limited == 0), "{unit} was not limited");
        assert!(sum(&live, unit, "order_checked_count") > 0.0, "{unit} has profiles");
    }
    lived.replay(&["--recompute"]);
    let mut offline = lived.windows("windows");
    // A process in no unit that stood before the sensor is the host's until its root is told, which
    // may be within an epoch: its calls then stand under both names.
    for windows in [&mut live, &mut offline] {
        windows.retain(|window| window.subject.workload.as_str().ends_with(".service"));
    }
    let key =
        |window: &Window| (window.subject.clone(), window.time.epoch, window.time.scale.epochs());
    let [here, there] = [&live, &offline].map(|all| all.iter().map(key).collect::<HashSet<_>>());
    let surplus: Vec<_> = there.difference(&here).collect();
    let missing: Vec<_> = here.difference(&there).collect();
    assert!(surplus.is_empty() && missing.is_empty(), "{surplus:#?} for {missing:#?}");
    let unequal: Vec<String> = live
        .iter()
        .zip(&offline)
        .filter(|(live, offline)| live != offline)
        .map(|(live, offline)| {
            let columns = differences(live, offline);
            format!("{}, epoch {}: {}", live.subject, live.time.epoch, columns.join("; "))
        })
        .collect();
    assert!(unequal.is_empty(), "{} unequal windows: {unequal:#?}", unequal.len());
    lived.assert_replayed();
    println!("{} windows are equal in every column", live.len());
}
