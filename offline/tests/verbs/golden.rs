//! What released versions wrote goes on being read. Each directory of `tests/golden` is of the version
//! that it is called by; `HEDGEROW_WRITE_GOLDEN=1` writes that of this version where there is none.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use hedgerow_detect::Outcome;
use hedgerow_event::{Finding, Origin, Program, Subject, Workload};
use hedgerow_features::{Record, from_batch};
use hedgerow_offline::{
    keys::WINDOWS,
    score::{self, FINDINGS, Out, Score},
    scores::scores_schema,
    time::Span,
    train::{self, Train},
};
use hedgerow_sink::parquet::ParquetReader;

use crate::life::{
    Life,
    common::{event, exec},
    open, wall_ns,
};

/// The last epochs are not learned from; something is done in them.
const EPOCHS: u32 = 60;
const DONE: u32 = 55;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn deed(epoch: u32) -> Vec<Record> {
    if epoch != DONE {
        return Vec::new();
    }
    let program = Program { path: "memfd".into(), script: None };
    let subject = Arc::new(Subject::new(Workload::new("web.service"), program));
    let mut done = exec(None);
    (done.memory, done.path) = (true, "memfd".into());
    vec![event(&subject, epoch, 1200, Origin::Exec(Box::new(done))).into()]
}

/// Scores the capture of a directory with its model.
fn scored(home: &Path, out: Option<&Path>) -> (u64, Vec<Finding>) {
    let how = Score { model: home.join("model"), ..Score::default() };
    let run = open(&[home.join("capture")]).unwrap().runs.remove(0);
    let mut out = out.map(|path| Out::open(path, &run.host).unwrap());
    let (mut windows, mut findings) = (0, Vec::new());
    let mut tell = |_: &_, outcome| {
        match outcome {
            Outcome::Scored(score) => {
                windows += 1;
                out.iter_mut().try_for_each(|out| out.scores.add(score.clone()))?;
            }
            Outcome::Finding(finding, _) => {
                out.iter_mut().try_for_each(|out| out.finding(&finding))?;
                findings.push(*finding);
            }
            _ => {}
        }
        Ok(true)
    };
    score::score(run, Span::ALL, &how, &mut tell, &mut |_| {}).unwrap();
    out.map_or(Ok(()), |out| out.scores.finish()).unwrap();
    (windows, findings)
}

fn write(home: &Path) {
    fs::create_dir_all(home).unwrap();
    let capture = home.join("capture");
    Life { epochs: EPOCHS, ..Life::default() }.remains_with(&capture, &deed).finish().unwrap();
    let how = Train { windows: Some(home.join("made")), ..Train::default() };
    let span = Span { from_ns: i64::MIN, to_ns: wall_ns(DONE - 1) };
    let source = open(&[capture]).unwrap();
    let trained = train::train(source, span, &how, None, &mut |_| {}).unwrap();
    trained.model.save(&home.join("model")).unwrap();
    scored(home, Some(&home.join("scored")));
    for directory in ["capture", "made", "scored"] {
        drop(fs::remove_file(home.join(directory).join(".lock")));
    }
}

#[test]
fn captures_models_scores_and_findings_of_released_versions_are_read() {
    let own = golden().join(env!("CARGO_PKG_VERSION"));
    if std::env::var_os("HEDGEROW_WRITE_GOLDEN").is_some() && !own.exists() {
        write(&own);
    }
    let mut versions = 0;
    for home in fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path()) {
        versions += 1;
        let source = open(&[home.join("capture")]).unwrap();
        let trained =
            train::train(source, Span::ALL, &Train::default(), None, &mut |_| {}).unwrap();
        assert_eq!(trained.model.profile.programs.len(), 2, "{home:?}");
        let (windows, findings) = scored(&home, None);
        let ran = |finding: &Finding| &*finding.subject.program.path == "memfd";
        assert!(findings.iter().any(ran), "{home:?}: {findings:?}");
        let told = fs::read_to_string(home.join("scored").join(FINDINGS)).unwrap();
        let told: Vec<Finding> =
            told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(told.iter().any(ran), "{home:?}");
        let reader = ParquetReader::open(&home.join("scored/scores"), None).unwrap();
        assert_eq!(reader.rows(), windows, "{home:?}");
        for field in reader.files()[0].schema.fields() {
            let schema = scores_schema();
            let known = schema.field_with_name(field.name()).unwrap();
            assert_eq!(known.data_type(), field.data_type(), "{home:?}");
        }
        let made = ParquetReader::open(&home.join("made").join(WINDOWS), None).unwrap();
        let read: usize = made.map(|batch| from_batch(&batch.unwrap()).unwrap().len()).sum();
        assert!(read > 100, "{home:?}");
    }
    assert!(versions > 0 && own.exists(), "HEDGEROW_WRITE_GOLDEN=1 writes this version's");
}
