#![allow(clippy::unwrap_used)]
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use arrow::{
    array::{Array, Float64Array, RecordBatch, StringArray, UInt64Array},
    datatypes::{DataType, Field, Schema},
};
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::*;
use crate::SinkError;

/// 2026-11-23 00:00:00 UTC.
const MIDNIGHT_NS: i64 = 1_795_392_000_000_000_000;
const SECOND_NS: i64 = 1_000_000_000;

fn batch(first: u64, rows: u64) -> RecordBatch {
    let numbers: Vec<u64> = (first..first + rows).collect();
    let names: Vec<String> =
        numbers.iter().map(|number| format!("program {}", number % 7)).collect();
    RecordBatch::try_from_iter([
        ("number", Arc::new(UInt64Array::from(numbers)) as Arc<dyn Array>),
        ("program", Arc::new(StringArray::from(names))),
    ])
    .unwrap()
}

fn config(directory: &Path) -> ParquetConfig {
    let mut config = ParquetConfig::new(directory, "host/a");
    config.free_bytes_least = 0;
    config
}

fn numbers(reader: ParquetReader) -> Vec<u64> {
    reader
        .flat_map(|batch| {
            let batch = batch.unwrap();
            let column = batch.column_by_name("number").unwrap().clone();
            column.as_any().downcast_ref::<UInt64Array>().unwrap().values().to_vec()
        })
        .collect()
}

fn finished(directory: &Path) -> Vec<PathBuf> {
    read::finished_files(directory, &mut Vec::new()).unwrap()
}

/// A reader of several versions asks the batch which one it is of.
#[test]
fn batches_come_back_with_the_metadata_of_their_schema() {
    let home = tempfile::tempdir().unwrap();
    let mut sink = ParquetSink::open(config(home.path())).unwrap();
    let metadata = std::collections::HashMap::from([("version".to_owned(), "3".to_owned())]);
    let batch = batch(0, 10);
    let schema = Schema::clone(&batch.schema()).with_metadata(metadata);
    let batch = batch.with_schema(Arc::new(schema)).unwrap();
    sink.write("numbers", &batch, MIDNIGHT_NS).unwrap();
    sink.finish().unwrap();
    let mut reader = ParquetReader::open(home.path(), None).unwrap();
    let read = reader.next().unwrap().unwrap();
    assert_eq!(read.schema().metadata()["version"], "3");
}

#[test]
fn batches_come_back_in_order_with_metadata_statistics_and_partitions() {
    let home = tempfile::tempdir().unwrap();
    let mut sink = ParquetSink::open(config(home.path())).unwrap();
    sink.set_metadata("hash_key", "00ff");
    // Across midnight, so that there are two dates.
    for step in 0..10u64 {
        let time = MIDNIGHT_NS + (i64::try_from(step).unwrap() - 5) * 5 * SECOND_NS;
        sink.write("windows", &batch(step * 100, 100), time).unwrap();
        sink.write("records", &batch(0, 1), time).unwrap();
    }
    sink.set_metadata("fill_end_epoch", "7");
    let status = sink.finish().unwrap();
    assert_eq!((status.rows, status.files, status.rows_lost), (1010, 4, 0));

    let reader = ParquetReader::open(&home.path().join("windows"), None).unwrap();
    assert_eq!(reader.rows(), 1000);
    let metadata = BTreeMap::from([
        ("hash_key".to_owned(), "00ff".to_owned()),
        ("fill_end_epoch".to_owned(), "7".to_owned()),
    ]);
    assert_eq!(reader.metadata(), metadata);
    let [before, after] = reader.files() else { panic!("{:?}", reader.files()) };
    assert!(before.path.to_string_lossy().contains("/windows/host=host%2Fa/date=2026-11-22/part-"));
    assert!(after.path.to_string_lossy().contains("/date=2026-11-23/part-"));
    assert_eq!(fs::metadata(&after.path).unwrap().permissions().mode() & 0o777, 0o600);
    let file = SerializedFileReader::new(fs::File::open(&after.path).unwrap()).unwrap();
    let group = file.metadata().row_group(0);
    let statistics = group.column(0).statistics().unwrap();
    assert_eq!(statistics.min_bytes_opt().unwrap(), 500u64.to_le_bytes());
    assert!(matches!(group.column(0).compression(), parquet::basic::Compression::ZSTD(_)));
    assert_eq!(numbers(reader), (0..1000).collect::<Vec<_>>());
}

#[test]
fn files_are_rotated_by_size_and_by_age_and_the_oldest_make_room() {
    let home = tempfile::tempdir().unwrap();
    let mut config = config(home.path());
    config.file_bytes = 1;
    let mut sink = ParquetSink::open(config.clone()).unwrap();
    for step in 0..4u64 {
        sink.write("windows", &batch(step, 1), MIDNIGHT_NS + i64::try_from(step).unwrap()).unwrap();
    }
    assert_eq!(sink.status().files, 4);
    let file_bytes = sink.status().bytes / 4;
    drop(sink);

    config.file_bytes = 1 << 30;
    config.limit_bytes = 4 * file_bytes + file_bytes / 2;
    let mut sink = ParquetSink::open(config).unwrap();
    assert_eq!(sink.status().bytes, 4 * file_bytes);
    let time = MIDNIGHT_NS + 10;
    sink.write("windows", &batch(4, 1), time).unwrap();
    sink.rotate(time + 299 * SECOND_NS).unwrap();
    assert_eq!(sink.status().files, 0, "not old enough");
    sink.rotate(time + 300 * SECOND_NS).unwrap();
    assert_eq!((sink.status().files, sink.status().files_removed), (1, 1));
    assert!(sink.status().bytes <= 4 * file_bytes + file_bytes / 2);
    assert_eq!(numbers(ParquetReader::open(home.path(), None).unwrap()), [1, 2, 3, 4]);
}

#[test]
fn an_unfinished_file_is_never_seen_and_goes_with_the_next_run() {
    let home = tempfile::tempdir().unwrap();
    let mut sink = ParquetSink::open(config(home.path())).unwrap();
    sink.write("windows", &batch(0, 10), MIDNIGHT_NS).unwrap();
    sink.finish().unwrap();
    sink.write("windows", &batch(10, 10), MIDNIGHT_NS + 1).unwrap();
    sink.crash();
    assert_eq!(numbers(ParquetReader::open(home.path(), None).unwrap()).len(), 10);
    let sink = ParquetSink::open(config(home.path())).unwrap();
    assert_eq!(sink.status().leftovers, 1);
}

fn names(directory: &Path) -> Vec<String> {
    let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    finished(directory).into_iter().map(name).collect()
}

#[test]
fn a_crash_leaves_what_was_checkpointed_and_readers_take_it_in_place() {
    let home = tempfile::tempdir().unwrap();
    let mut config = config(home.path());
    config.segments = true;
    let mut sink = ParquetSink::open(config).unwrap();
    sink.set_metadata("hash_key", "00ff");
    for step in 0..3u64 {
        sink.write("windows", &batch(step * 10, 10), MIDNIGHT_NS).unwrap();
        sink.checkpoint().unwrap();
    }
    sink.write("windows", &batch(30, 10), MIDNIGHT_NS).unwrap();
    assert_eq!(names(home.path()).len(), 3);
    sink.crash();
    let before = finished(home.path());
    let reader = ParquetReader::open(home.path(), None).unwrap();
    assert_eq!(reader.metadata()["hash_key"], "00ff");
    assert_eq!(numbers(reader), (0..30).collect::<Vec<_>>());
    assert_eq!(finished(home.path()), before, "nothing was changed");
}

#[test]
fn segments_go_when_their_file_is_finished_and_count_for_nothing_beside_it() {
    let home = tempfile::tempdir().unwrap();
    let mut config = config(home.path());
    config.segments = true;
    let mut sink = ParquetSink::open(config.clone()).unwrap();
    sink.write("windows", &batch(0, 10), MIDNIGHT_NS).unwrap();
    sink.checkpoint().unwrap();
    sink.write("windows", &batch(10, 10), MIDNIGHT_NS).unwrap();
    let segment = finished(home.path()).remove(0);
    let bytes = fs::read(&segment).unwrap();
    let status = sink.finish().unwrap();
    drop(sink);
    assert_eq!((status.rows, status.files, status.rows_lost), (20, 1, 0));
    assert_eq!(names(home.path()).len(), 1);
    // As if the run had been killed between the two.
    fs::write(&segment, bytes).unwrap();
    let reader = ParquetReader::open(home.path(), None).unwrap();
    assert_eq!(numbers(reader), (0..20).collect::<Vec<_>>());
    let sink = ParquetSink::open(config).unwrap();
    assert_eq!(sink.status().leftovers, 1);
    assert!(!segment.exists());
}

#[test]
fn one_sink_has_a_directory_and_the_next_is_told_whose_it_is() {
    let home = tempfile::tempdir().unwrap();
    let sink = ParquetSink::open(config(home.path())).unwrap();
    let error = ParquetSink::open(config(home.path())).unwrap_err().to_string();
    assert!(error.contains(&format!("process {} writes", std::process::id())), "{error}");
    drop(sink);
    ParquetSink::open(config(home.path())).unwrap();
}

#[test]
fn what_is_damaged_is_passed_over_and_told_with_what_is_known_of_it() {
    let home = tempfile::tempdir().unwrap();
    let mut config = config(home.path());
    config.file_bytes = 1;
    let mut sink = ParquetSink::open(config).unwrap();
    for step in 0..4i64 {
        let first = u64::try_from(step).unwrap() * 10;
        sink.write("windows", &batch(first, 10), MIDNIGHT_NS + step).unwrap();
    }
    let paths = finished(home.path());
    let cut = fs::read(&paths[1]).unwrap();
    fs::write(&paths[1], &cut[..cut.len() / 2]).unwrap();
    // Its footer is whole, its pages aren't.
    let mut torn = fs::read(&paths[2]).unwrap();
    torn[4..60].fill(0xff);
    fs::write(&paths[2], torn).unwrap();
    let mut reader = ParquetReader::open_remains(home.path(), None).unwrap();
    let rows: usize = reader.by_ref().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, 20);
    let [cut_short, unread] = reader.damaged() else { panic!("{:?}", reader.damaged()) };
    assert_eq!((&cut_short.path, cut_short.rows_lost), (&paths[1], None));
    assert_eq!(cut_short.bytes, cut.len() as u64 / 2);
    assert_eq!((&unread.path, unread.rows_lost), (&paths[2], Some(10)));
    for path in [&paths[0], &paths[3]] {
        fs::write(path, b"PAR1").unwrap();
    }
    fs::remove_file(&paths[2]).unwrap();
    let error = ParquetReader::open_remains(home.path(), None).unwrap_err().to_string();
    assert!(error.contains("part-") && error.contains("unreadable"), "{error}");
}

#[test]
fn what_is_no_file_is_passed_over_and_nobody_waits_for_it() {
    let home = tempfile::tempdir().unwrap();
    let mut sink = ParquetSink::open(config(home.path())).unwrap();
    sink.write("windows", &batch(0, 10), MIDNIGHT_NS).unwrap();
    sink.finish().unwrap();
    let pipe = home.path().join("windows/pipe.parquet");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = ParquetReader::open_remains(home.path(), None).unwrap();
    let [damaged] = reader.damaged() else { panic!("{:?}", reader.damaged()) };
    assert_eq!((&damaged.path, damaged.reason.as_str()), (&pipe, "no regular file"));
    assert_eq!(numbers(reader).len(), 10);
}

#[test]
fn what_does_not_fit_is_named_by_file_and_field() {
    let home = tempfile::tempdir().unwrap();
    let mut sink = ParquetSink::open(config(home.path())).unwrap();
    assert!(sink.write("../windows", &batch(0, 1), MIDNIGHT_NS).is_err());
    sink.write("windows", &batch(0, 10), MIDNIGHT_NS).unwrap();
    sink.finish().unwrap();
    let expected = |kind| Schema::new(vec![Field::new("number", kind, false)]);
    ParquetReader::open(home.path(), Some(&expected(DataType::UInt64))).unwrap();
    let wrong = ParquetReader::open(home.path(), Some(&expected(DataType::Float64))).unwrap_err();
    assert!(matches!(&wrong, SinkError::Field { field, .. } if field == "number"), "{wrong}");
    assert!(wrong.to_string().contains("is UInt64, expected Float64"), "{wrong}");
    let absent = Schema::new(vec![Field::new("bytes", DataType::UInt64, false)]);
    let wrong = ParquetReader::open(home.path(), Some(&absent)).unwrap_err();
    assert!(wrong.to_string().contains("field bytes: is missing"), "{wrong}");

    // Another schema in mid-stream begins a new file; reading both as one is refused.
    let other = RecordBatch::try_from_iter([(
        "number",
        Arc::new(Float64Array::from(vec![1.0])) as Arc<dyn Array>,
    )])
    .unwrap();
    sink.write("windows", &batch(10, 10), MIDNIGHT_NS + 1).unwrap();
    sink.write("windows", &other, MIDNIGHT_NS + 2).unwrap();
    assert_eq!(sink.finish().unwrap().files, 3);
    assert!(ParquetReader::open(home.path(), None).is_err());

    let path = finished(home.path())[0].clone();
    let good = fs::read(&path).unwrap();
    for cut in [0, 3, 100, good.len() - 1] {
        fs::write(&path, &good[..cut]).unwrap();
        let error = ParquetReader::open(&path, None).unwrap_err().to_string();
        assert!(error.contains("part-") && error.contains("unreadable"), "{error}");
    }
    let empty = tempfile::tempdir().unwrap();
    let error = ParquetReader::open(empty.path(), None).unwrap_err().to_string();
    assert!(error.contains("no finished Parquet file"), "{error}");
}

/// A tmpfs of its own; unmounted when dropped.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(kib: u32) -> Self {
        let home = tempfile::tempdir().unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"])
            .arg(home.path())
            .status()
            .unwrap();
        assert!(status.success(), "mount");
        Self(home)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// Rows that hardly compress.
fn noise(seed: u64) -> RecordBatch {
    let mut state = seed * 2 + 1;
    let values: Vec<u64> = (0..4096)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state ^ (state >> 29)
        })
        .collect();
    RecordBatch::try_from_iter([("number", Arc::new(UInt64Array::from(values)) as Arc<dyn Array>)])
        .unwrap()
}

/// Writes until refused; returns the error, the rows that were offered and the sink's status.
fn fill(config: ParquetConfig) -> (SinkError, u64, ParquetStatus) {
    let mut sink = ParquetSink::open(config).unwrap();
    for step in 0..1000u64 {
        let time = MIDNIGHT_NS + i64::try_from(step).unwrap();
        let written = sink.write("windows", &noise(step), time).and_then(|()| sink.checkpoint());
        if let Err(error) = written {
            return (error, (step + 1) * 4096, sink.status());
        }
    }
    panic!("the disk was never full");
}

fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions.
    unsafe { libc::geteuid() == 0 }
}

#[test]
fn a_full_disk_is_counted_and_leaves_finished_files_whole() {
    if !is_root() {
        eprintln!("not root: no tmpfs to fill");
        return;
    }
    let disk = Tmpfs::mount(1024);
    let mut config = config(disk.0.path());
    config.row_group_rows = 4096;
    config.file_bytes = 200_000;
    // Without a reserve the write itself fails: the open file is lost, and counted.
    let (error, _, status) = fill(config);
    assert!(error.to_string().contains("No space left on device"), "{error}");
    assert!(status.rows_lost >= 4096 && status.files > 0, "{status:?}");
    let reader = ParquetReader::open(disk.0.path(), None).unwrap();
    assert_eq!(reader.rows(), status.rows);
    assert_eq!(numbers(reader).len() as u64, status.rows);
}

#[test]
fn with_a_reserve_a_full_disk_costs_only_the_rows_that_are_refused() {
    if !is_root() {
        eprintln!("not root: no tmpfs to fill");
        return;
    }
    let disk = Tmpfs::mount(1024);
    let mut config = config(disk.0.path());
    config.row_group_rows = 4096;
    config.free_bytes_least = 200_000;
    let (error, _, status) = fill(config);
    assert!(matches!(error, SinkError::CaptureFull { .. }), "{error}");
    assert_eq!((status.rows_lost, status.files), (4096, 1), "{status:?}");
    let reader = ParquetReader::open(disk.0.path(), None).unwrap();
    assert_eq!(reader.rows(), status.rows);
}

#[test]
fn with_segments_a_full_disk_costs_no_more_than_the_last_rows() {
    if !is_root() {
        eprintln!("not root: no tmpfs to fill");
        return;
    }
    let disk = Tmpfs::mount(1024);
    let mut config = config(disk.0.path());
    config.row_group_rows = 4096;
    config.segments = true;
    let (error, offered, status) = fill(config);
    assert!(error.to_string().contains("No space left on device"), "{error}");
    assert!(status.rows_lost <= 4096, "{status:?}");
    assert_eq!(status.rows + status.rows_lost, offered);
    let reader = ParquetReader::open(disk.0.path(), None).unwrap();
    assert_eq!(numbers(reader).len() as u64, status.rows);
}
