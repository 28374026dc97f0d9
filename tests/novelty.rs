//! What was frozen at the end of fill is as new to the calibrate part as to the time after it: a
//! profile that went on learning would make calibration look calmer than life.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{UInt32Type, UInt64Type};
use hedgerow_lab::{Daemon, Lab, Line, Load};
use hedgerow_sink::parquet::ParquetReader;

/// 5 s windows: fill 12, fit 4, calibrate 4.
const LEARN: &str = "100s";
const CALIBRATE: u32 = 4;
const LEARN_LIMIT: Duration = Duration::from_secs(300);

/// Runs until so many windows have been scored after learning.
fn live(lab: &Lab, capture: &Path) {
    let state = lab.directory().join("state").display().to_string();
    let capture = capture.display().to_string();
    let arguments = ["--learn", LEARN, "--state", &state, "--capture", &capture];
    let log = lab.directory().join("daemon.log");
    let program = Path::new(env!("CARGO_BIN_EXE_hedgerow"));
    let daemon = Daemon::start(program, &arguments, &log).unwrap();
    let limit = Instant::now() + LEARN_LIMIT;
    loop {
        match daemon.next(limit).unwrap().expect("it never began to score") {
            Line::Status(status) if status["phase"] == "scoring" => break,
            _ => {}
        }
    }
    // One more window than is looked at: the last is cut short.
    thread::sleep(Duration::from_secs(5 * u64::from(CALIBRATE + 1)));
    daemon.interrupt().unwrap();
}

/// Unseen and checked n-grams of the lab's workloads by epoch, and the epoch after which the
/// daemon began to score.
fn novelty(capture: &Path) -> (BTreeMap<u32, (u64, u64)>, u32) {
    let mut reader = ParquetReader::open(&capture.join("windows"), None).unwrap();
    let phases: BTreeMap<u32, String> =
        serde_json::from_str(&reader.metadata()["hedgerow.phases"]).unwrap();
    let scoring = phases.iter().find(|(_, phase)| *phase == "scoring").unwrap();
    let mut epochs: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for batch in &mut reader {
        let batch = batch.unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let workload = column("workload").as_string::<i32>();
        let epoch = column("epoch").as_primitive::<UInt32Type>();
        let scale = column("scale").as_string::<i32>();
        let unseen = column("order_unseen6_count").as_primitive::<UInt64Type>();
        let checked = column("order_checked_count").as_primitive::<UInt64Type>();
        for row in 0..batch.num_rows() {
            if scale.value(row) == "5s" && workload.value(row).starts_with("lab-") {
                let sum = epochs.entry(epoch.value(row)).or_default();
                sum.0 += if unseen.is_valid(row) { unseen.value(row) } else { 0 };
                sum.1 += checked.value(row);
            }
        }
    }
    (epochs, *scoring.0)
}

#[test]
fn what_is_new_while_calibrating_is_as_new_afterwards() {
    let lab = Lab::up().unwrap();
    let _loads = [Load::Web.start(&lab).unwrap(), Load::App.start(&lab).unwrap()];
    let capture = lab.directory().join("capture");
    live(&lab, &capture);
    let (epochs, last) = novelty(&capture);
    let share = |from: u32| {
        let (unseen, checked) = epochs
            .range(from..from + CALIBRATE)
            .fold((0, 0), |sum, (_, epoch)| (sum.0 + epoch.0, sum.1 + epoch.1));
        assert!(checked > 10_000, "only {checked} calls were checked from epoch {from}");
        100.0 * unseen as f64 / checked as f64
    };
    let (calibrate, next) = (share(last + 1 - CALIBRATE), share(last + 1));
    println!("unseen 6-grams: {calibrate:.3} % while calibrating, {next:.3} % afterwards");
    let ratio = calibrate.max(next) / calibrate.min(next);
    assert!(ratio <= 2.0 || (calibrate - next).abs() <= 0.5, "{calibrate} % and then {next} %");
}
