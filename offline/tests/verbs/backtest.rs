//! Back-tests with models that are not the capture's own.

use std::path::{Path, PathBuf};

use hedgerow_features::Record;
use hedgerow_offline::{
    backtest::{self, Ask, Backtest, Difference, Missing},
    time::Span,
    train::{self, Train},
};

use crate::life::{Life, intruder, open};

const EPOCHS: u32 = 360;
const INTRUDER: u32 = 10_300;

fn model(home: &Path, name: &str, others: &[Record]) -> PathBuf {
    let past = home.join(name).join("past");
    Life { epochs: EPOCHS, ..Life::default() }.write_with(&past, others);
    let source = open(&[past]).unwrap();
    let trained = train::train(source, Span::ALL, &Train::default(), None, &mut |_| {}).unwrap();
    let path = home.join(name).join("model");
    trained.model.save(&path).unwrap();
    path
}

fn tested(capture: &Path, model: &Path) -> Backtest {
    let ask = Ask { model: model.to_owned(), ..Ask::default() };
    let source = open(&[capture.to_owned()]).unwrap();
    backtest::all(source, Span::ALL, &ask, None, &mut |_| {}).unwrap()
}

#[test]
fn two_models_differ_in_what_each_knows_and_what_hangs_on_the_missing_is_marked() {
    let home = tempfile::tempdir().unwrap();
    let usual: Vec<Record> = (1..EPOCHS).step_by(8).flat_map(intruder).collect();
    let knows = model(home.path(), "knows", &usual);
    let knows_not = model(home.path(), "knows-not", &[]);
    let capture = home.path().join("today");
    let today = Life { epochs: EPOCHS, chance: 2, first: 10_000, full: false, ..Life::default() };
    today.write_with(&capture, &intruder(INTRUDER));
    let (first, second) = (tested(&capture, &knows), tested(&capture, &knows_not));
    let told = Difference::of(&first, &second);
    assert!(first.findings.is_empty() && told.findings_only_first.is_empty());
    let [finding] = told.findings_only_second.as_slice() else { panic!("{told:?}") };
    assert!(finding.contains("/tmp/.intruder/sh") && !told.entries_only_second.is_empty());
    // Not every call was captured, and both models are others.
    let order = "the order of calls and early looks";
    assert!(second.unavailable.iter().any(|line| line.contains(order)), "{second:?}");
    assert_eq!(second.findings[0].hangs_on, [Missing::Looks]);
    assert!(second.text(chrono_tz::UTC).contains("nats, may come up to 5 s earlier: entry 0"));
    let capture = home.path().join("full");
    Life { full: true, ..today }.write_with(&capture, &intruder(INTRUDER));
    let full = tested(&capture, &knows_not);
    assert!(!full.unavailable.iter().any(|line| line.contains("order of calls")));
    assert_eq!(full.findings[0].hangs_on, [Missing::Looks]);
}
