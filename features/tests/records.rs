//! Records of captures, also of older ones.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::Schema};
use common::{event, exec, subject};
use hedgerow_event::{Event, Exec, Origin, Provenance, Root};
use hedgerow_features::{Error, Record, records_from_batch, records_to_batch};

const OF_2: [&str; 3] = ["exec_socket_io", "exec_under_listener", "exec_provenance"];
const OF_3: [&str; 2] = ["exec_root_tgid", "exec_root_start_boot_ns"];
const OF_4: [&str; 1] = ["exec_of_host"];
const OF_5: [&str; 1] = ["close_shed"];

fn execs() -> Vec<Record> {
    let root = Root { tgid: 7, start_boot_ns: 70 };
    let known = Exec {
        socket_io: true,
        under_listener: true,
        provenance: Provenance::Unowned,
        root: Some(root),
        of_host: Some(true),
        ..exec(None)
    };
    [known, exec(None)]
        .map(|exec| {
            let origin = Origin::Exec(Box::new(exec));
            Record::Event(event(&subject("a", "/bin/sh"), 1, 1, origin))
        })
        .to_vec()
}

/// What a capture of `version` without these columns says.
fn as_of(version: u32, without: &[&str]) -> Result<Vec<Exec>, Error> {
    let batch = records_to_batch(&execs()).unwrap();
    let schema = batch.schema();
    let kept = (0..batch.num_columns())
        .filter(|index| !without.contains(&schema.field(*index).name().as_str()));
    let projected = batch.project(&kept.collect::<Vec<_>>()).unwrap();
    let metadata = [("hedgerow.records_version".to_owned(), version.to_string())];
    let schema = Schema::new_with_metadata(projected.schema().fields().clone(), metadata);
    let old = RecordBatch::try_new(Arc::new(schema), projected.columns().to_vec()).unwrap();
    let of_exec = |record| match record {
        Record::Event(Event { origin: Origin::Exec(exec), .. }) => *exec,
        other => panic!("{other:?}"),
    };
    Ok(records_from_batch(&old)?.into_iter().map(of_exec).collect())
}

#[test]
fn records_survive_their_columns() {
    let batch = records_to_batch(&execs()).unwrap();
    assert_eq!(records_from_batch(&batch).unwrap(), execs());
}

#[test]
fn what_an_older_capture_does_not_hold_is_unknown() {
    let [third, _] = &as_of(3, &[OF_4, OF_5].concat()).unwrap()[..] else { panic!() };
    assert!(third.root.is_some() && third.of_host.is_none());
    let since = |columns: &[&[&'static str]]| columns.concat();
    let [second, _] = &as_of(2, &since(&[&OF_3, &OF_4, &OF_5])).unwrap()[..] else { panic!() };
    assert!(second.socket_io && second.under_listener && second.root.is_none());
    let [first, _] = &as_of(1, &since(&[&OF_2, &OF_3, &OF_4, &OF_5])).unwrap()[..] else {
        panic!()
    };
    assert!(!first.socket_io && !first.under_listener && first.root.is_none());
    assert_eq!(first.provenance, Provenance::Unknown);
}

#[test]
fn a_capture_that_lacks_what_its_version_has_is_refused() {
    for (version, without) in [(5, &OF_5[..]), (4, &OF_4), (3, &OF_3), (2, &OF_2), (4, &OF_2)] {
        let refused = as_of(version, without);
        assert!(matches!(refused, Err(Error::MissingColumn(_))), "{version}: {refused:?}");
    }
}
