//! Files that are not as they should be: each gives an error that says where, or the right result.

use std::{
    collections::HashMap,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, UInt32Array},
    compute::{cast, concat_batches},
    datatypes::{DataType, Field, Schema},
};
use hedgerow_detect::Outcome;
use hedgerow_event::{Origin, Raw};
use hedgerow_features::{EarlyLook, Record, Window, to_batch};
use hedgerow_offline::{
    Error,
    keys::{BUDGET, EARLY, KNOWN_SINCE, SEED, WINDOWS},
    score::{self, Score},
    time::Span,
    train::{self, Train, Trained},
};
use hedgerow_sink::parquet::ParquetReader;
use parquet::{
    arrow::ArrowWriter,
    file::{metadata::KeyValue, properties::WriterProperties},
};

use crate::life::{
    Life,
    common::{event, subject},
    files, open, wall_ns,
};

/// Rows of a row group of files that are written anew.
const GROUP: usize = 1000;
const VERSION: &str = "hedgerow.records_version";

fn learned(home: &Path) -> Result<Trained, Error> {
    let source = open(&[home.to_owned()])?;
    train::train(source, Span::ALL, &Train::default(), None, &mut |_| {})
}

/// Writes a file anew, changed.
fn rewrite(
    path: &Path,
    metadata: &dyn Fn(&str, &str) -> String,
    change: &dyn Fn(RecordBatch) -> RecordBatch,
) {
    let reader = ParquetReader::open(path, None).unwrap();
    let kept = reader.metadata();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    let whole = change(concat_batches(&batches[0].schema(), &batches).unwrap());
    let pairs = kept.iter().map(|(key, value)| KeyValue::new(key.clone(), metadata(key, value)));
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(GROUP))
        .set_key_value_metadata(Some(pairs.collect()));
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, whole.schema(), Some(properties.build())).unwrap();
    writer.write(&whole).unwrap();
    writer.close().unwrap();
}

fn same(_: &str, value: &str) -> String {
    value.to_owned()
}

/// Another column in the place of one; none where it is to go.
fn with_column(batch: RecordBatch, name: &str, column: Option<ArrayRef>) -> RecordBatch {
    let schema = batch.schema();
    let kept = schema.fields().iter().zip(batch.columns()).filter_map(|(field, old)| {
        if field.name() != name {
            return Some((Arc::clone(field), Arc::clone(old)));
        }
        let new = column.clone()?;
        let field = Field::new(name, new.data_type().clone(), true);
        Some((Arc::new(field), new))
    });
    let (fields, columns): (Vec<_>, Vec<_>) = kept.unzip();
    let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

/// The batch, which says that it is of another version.
fn of_version(batch: &RecordBatch, version: &str) -> RecordBatch {
    let metadata = HashMap::from([(VERSION.to_owned(), version.to_owned())]);
    let schema = Schema::new_with_metadata(batch.schema().fields().clone(), metadata);
    RecordBatch::try_new(Arc::new(schema), batch.columns().to_vec()).unwrap()
}

/// A column with one value emptied.
fn holed(batch: &RecordBatch, name: &str, row: usize) -> ArrayRef {
    let numbers = batch.column_by_name(name).unwrap();
    let numbers = numbers.as_primitive::<arrow::datatypes::UInt32Type>();
    let holed = numbers.iter().enumerate().map(|(at, value)| value.filter(|_| at != row));
    Arc::new(holed.collect::<UInt32Array>())
}

#[test]
fn what_is_wrong_is_told_with_file_row_group_and_column() {
    type Case = (&'static str, fn(&Path), &'static [&'static str]);
    let cases: &[Case] = &[
        (
            "a version to come",
            |path| {
                rewrite(
                    path,
                    &|key, old| {
                        if key == VERSION { "99".to_owned() } else { old.to_owned() }
                    },
                    &|batch| of_version(&batch, "99"),
                )
            },
            &["version 99", "reads"],
        ),
        (
            "a column is missing",
            |path| rewrite(path, &same, &|batch| with_column(batch, "call_number", None)),
            &["call_number", "missing"],
        ),
        (
            "a column of another type",
            |path| {
                rewrite(path, &same, &|batch| {
                    let text = cast(batch.column_by_name("call_number").unwrap(), &DataType::Utf8);
                    with_column(batch, "call_number", Some(text.unwrap()))
                })
            },
            &["call_number", "Utf8", "Int32"],
        ),
        (
            "a value is missing",
            |path| {
                rewrite(path, &same, &|batch| {
                    let holed = holed(&batch, "epoch", 2345);
                    with_column(batch, "epoch", Some(holed))
                })
            },
            &["`epoch`", "row 2345", "row group 2", "empty"],
        ),
        (
            "no key",
            |path| {
                rewrite(
                    path,
                    &|key, old| {
                        if key == SEED { "seven".to_owned() } else { old.to_owned() }
                    },
                    &|batch| batch,
                )
            },
            &[SEED],
        ),
        (
            "a budget that is no number",
            |path| {
                rewrite(
                    path,
                    &|key, old| {
                        if key == BUDGET { "NaN".to_owned() } else { old.to_owned() }
                    },
                    &|batch| batch,
                )
            },
            &[BUDGET],
        ),
    ];
    for (what, spoil, told) in cases {
        let home = tempfile::tempdir().unwrap();
        Life { epochs: 29, ..Life::default() }.write(home.path());
        let [file] = files(home.path()).try_into().unwrap();
        spoil(&file);
        let error = learned(home.path()).unwrap_err().to_string();
        let name = if error.contains(".parquet") { file.as_path() } else { file.parent().unwrap() };
        for expected in told.iter().copied().chain([name.to_str().unwrap()]) {
            assert!(error.contains(expected), "{what}: `{error}` doesn't tell `{expected}`");
        }
    }
}

#[test]
fn what_is_unusual_gives_the_right_result() {
    // One subject, beside the host.
    let home = tempfile::tempdir().unwrap();
    Life { epochs: 90, ..Life::default() }.write(home.path());
    for file in files(home.path()) {
        rewrite(&file, &same, &|batch| {
            let programs = cast(batch.column_by_name("program").unwrap(), &DataType::Utf8).unwrap();
            let keep: arrow::array::BooleanArray = programs
                .as_string::<i32>()
                .iter()
                .map(|name| Some(name != Some("/usr/bin/db")))
                .collect();
            arrow::compute::filter_record_batch(&batch, &keep).unwrap()
        });
    }
    let one = learned(home.path()).unwrap();
    let programs: Vec<_> = one.model.profile.programs.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(programs, ["/usr/bin/web"]);
    // A file without rows among others changes nothing.
    let before = one.model;
    let first = files(home.path())[0].clone();
    let empty = first.with_file_name("part-00000000000000000001-000000.parquet");
    fs::copy(&first, &empty).unwrap();
    rewrite(&empty, &same, &|batch| batch.slice(0, 0));
    assert!(learned(home.path()).unwrap().model == before);
    // Nothing but such a file is too short.
    let home = tempfile::tempdir().unwrap();
    Life { epochs: 29, ..Life::default() }.write(home.path());
    let [file] = files(home.path()).try_into().unwrap();
    rewrite(&file, &same, &|batch| batch.slice(0, 0));
    let error = learned(home.path()).unwrap_err().to_string();
    assert!(error.contains("too short") && error.contains("epochs"), "{error}");
}

#[test]
fn files_of_several_versions_are_one_run() {
    let home = tempfile::tempdir().unwrap();
    Life { epochs: 90, ..Life::default() }.write(home.path());
    let before = learned(home.path()).unwrap().model;
    let all = files(home.path());
    for (at, version) in [(0, "1"), (1, "2")] {
        rewrite(&all[at], &same, &|mut batch| {
            for later in ["exec_root_tgid", "exec_root_start_boot_ns", "exec_of_host", "close_shed"]
            {
                batch = with_column(batch, later, None);
            }
            if version == "1" {
                for later in ["exec_socket_io", "exec_under_listener", "exec_provenance"] {
                    batch = with_column(batch, later, None);
                }
            }
            of_version(&batch, version)
        });
    }
    // What the older files don't hold was unknown or false in the newer ones, too.
    assert!(learned(home.path()).unwrap().model == before);
}

/// A capture of which a row was judged early, changed.
fn judged_early(home: &Path, change: &dyn Fn(RecordBatch) -> RecordBatch) -> Result<usize, String> {
    let (first, capture) = (home.join("first"), home.join("capture"));
    let life = Life { epochs: 90, ..Life::default() };
    life.write(&first);
    let how = Train { windows: Some(home.join("made")), ..Train::default() };
    let trained = train::train(open(&[first]).unwrap(), Span::ALL, &how, None, &mut |_| {});
    let model = home.join("model");
    trained.unwrap().model.save(&model).unwrap();
    let windows = files(&home.join("made").join(WINDOWS));
    let batch = ParquetReader::open(&windows[0], None).unwrap().next().unwrap().unwrap();
    let mut early: Vec<Window> = hedgerow_features::from_batch(&batch).unwrap();
    early.retain(|window| !window.subject.is_host());
    early.truncate(2);
    early.iter_mut().for_each(|window| window.early = Some(0));
    let looks = |epoch: u32| -> Vec<Record> {
        let of = early.iter().filter(|window| window.time.epoch.0 == epoch);
        of.map(|window| Record::Early(EarlyLook::from(window))).collect()
    };
    let mut sink = life.remains_with(&capture, &looks);
    // They are taken by the model that they were looked at for.
    sink.set_metadata(KNOWN_SINCE, "1");
    sink.write(EARLY, &to_batch(&early).unwrap(), wall_ns(1)).unwrap();
    sink.finish().unwrap();
    let [file] = files(&capture.join(EARLY)).try_into().unwrap();
    rewrite(&file, &same, change);
    let how = Score { model, ..Score::default() };
    let mut count = 0;
    let mut tell = |_: &_, outcome| {
        count += usize::from(matches!(outcome, Outcome::Scored(score) if score.early.is_some()));
        Ok(true)
    };
    let run = open(&[capture]).unwrap().runs.remove(0);
    match score::score(run, Span::ALL, &how, &mut tell, &mut |_| {}) {
        Ok(_) => Ok(count),
        Err(why) => Err(why.to_string()),
    }
}

#[test]
fn a_measure_that_is_infinite_is_refused_and_one_that_is_no_number_is_unavailable() {
    let measures: Vec<String> = hedgerow_features::COLUMNS
        .iter()
        .filter(|column| column.kind == hedgerow_features::Kind::Measure)
        .map(|column| column.name.to_string())
        .collect();
    let filled = |value: f64| {
        let name = measures[0].clone();
        move |batch: RecordBatch| {
            let column: ArrayRef = Arc::new(Float64Array::from(vec![value; batch.num_rows()]));
            with_column(batch, &name, Some(column))
        }
    };
    let home = tempfile::tempdir().unwrap();
    let told = judged_early(home.path(), &filled(f64::INFINITY)).unwrap_err();
    let file: PathBuf = files(&home.path().join("capture").join(EARLY))[0].clone();
    for expected in [file.to_str().unwrap(), &measures[0], "row group 0", "row 0", "inf"] {
        assert!(told.contains(expected), "{told}");
    }
    let home = tempfile::tempdir().unwrap();
    assert_eq!(judged_early(home.path(), &filled(f64::NAN)), Ok(2));
    let home = tempfile::tempdir().unwrap();
    assert_eq!(judged_early(home.path(), &|batch| batch), Ok(2));
}

/// Programs with names of their own, as a flood of made-up ones has.
#[test]
fn a_million_subjects_take_nothing_from_others_and_are_bounded() {
    const FLOODS: [u32; 4] = [10, 20, 30, 40];
    const EACH: u32 = 250_000;
    let home = tempfile::tempdir().unwrap();
    let flood = |epoch: u32| -> Vec<Record> {
        let of = |number: u32| {
            let name = subject("flood.service", &format!("/tmp/{epoch}-{number}"));
            let call = Raw {
                number: 1,
                compat: false,
                uring: false,
                fresh: false,
                streamed: false,
                result: 0,
            };
            event(&name, epoch, 4000 + 4 * number, Origin::Raw(call)).into()
        };
        let each = if FLOODS.contains(&epoch) { EACH } else { 0 };
        (0..each).map(of).collect()
    };
    let life = Life { epochs: 90, ..Life::default() };
    life.remains_with(&home.path().join("flooded"), &flood).finish().unwrap();
    let how = Train { windows: Some(home.path().join("made")), ..Train::default() };
    let source = open(&[home.path().join("flooded")]).unwrap();
    assert!(source.rows() > 1_000_000);
    let trained = train::train(source, Span::ALL, &how, None, &mut |_| {}).unwrap();
    let programs = &trained.model.profile.programs;
    let known = |name: &str| programs.iter().any(|program| program.path == name);
    assert!(known("/usr/bin/web") && known("/usr/bin/db") && programs.len() < 256);
    let made = ParquetReader::open(&home.path().join("made").join(WINDOWS), None).unwrap();
    assert!(made.rows() < 10_000, "{}", made.rows());
}
