//! Captures named in many ways, cut, damaged and joined.

#![allow(clippy::unwrap_used)]

mod life;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use hedgerow_detect::{Outcome, WindowScore, file::ModelFile};
use hedgerow_event::{Mode, Workload};
use hedgerow_offline::{
    Error,
    backtest::{self, Ask, Backtest, Policy},
    keys::MODEL,
    player::Only,
    report::{Gathered, Report},
    score::{self, Score},
    source::{Selection, Source},
    time::Span,
    train::{self, Train, Trained},
};
use life::{Life, files, open, wall_ns};
use tempfile::TempDir;

fn train(source: Source, span: Span, how: &Train) -> Result<Trained, Error> {
    train::train(source, span, how, None, &mut |_| {})
}

fn learned(paths: &[PathBuf]) -> Result<Trained, Error> {
    train(open(paths)?, Span::ALL, &Train::default())
}

/// All that is in a model file but its own number.
fn bytes(model: &ModelFile) -> Vec<u8> {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("model");
    model.save(&path).unwrap();
    fs::read(path).unwrap()
}

/// Two hosts, one of which was captured twice.
fn fleet() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    Life::default().write(&home.path().join("one"));
    Life { host: "b", chance: 2, ..Life::default() }.write(&home.path().join("two"));
    Life { host: "b", chance: 3, first: 500, ..Life::default() }.write(&home.path().join("two"));
    home
}

#[test]
fn directories_partitions_files_and_patterns_name_the_same_runs() {
    let home = fleet();
    let at = |name: &str| home.path().join(name);
    let runs = |paths: &[PathBuf]| -> Vec<(String, usize)> {
        let source = open(paths).unwrap();
        source.runs.iter().map(|run| (run.host.clone(), run.records.len())).collect()
    };
    let all = [("a".to_owned(), 3), ("b".to_owned(), 3), ("b".to_owned(), 3)];
    assert_eq!(runs(&[at("")]), all);
    assert_eq!(runs(&[at("one"), at("two")]), all);
    assert_eq!(runs(&[at("two/records"), at("one"), at("one/records/host=a")]), all, "once each");
    assert_eq!(runs(&[at("*/records/host=*/date=*/*.parquet")]), all);
    assert_eq!(runs(&[files(&at("one"))[1].clone()]), [("a".to_owned(), 1)]);
    // Whatever is called like it: what holds records is what is partitioned.
    Life { host: "c", ..Life::default() }.write(&at("records/web-1"));
    fs::create_dir_all(at("records/web-1/windows/host=c")).unwrap();
    fs::write(at("records/web-1/windows/host=c/part-0-0.parquet"), "no records").unwrap();
    let found = open(&[at("records")]).unwrap();
    assert_eq!((found.runs.len(), found.damaged.len()), (1, 0));
    assert_eq!(runs(&[at("records/web-1")]), [("c".to_owned(), 3)]);
    fs::remove_dir_all(at("records")).unwrap();
    let told = |paths: &[PathBuf]| open(paths).unwrap_err().to_string();
    // A copy is not a second run.
    assert!(Command::new("cp").arg("-r").args([at("one"), at("copy")]).status().unwrap().success());
    let twice = told(&[at("one"), at("copy")]);
    assert!(twice.contains("/one/") && twice.contains("/copy/"), "{twice}");
    fs::remove_dir_all(at("copy")).unwrap();
    assert!(told(&[at("none")]).contains("none"));
    assert!(told(&[at("no*")]).contains("named like this"));
    fs::create_dir(at("empty")).unwrap();
    assert!(told(&[at("empty")]).contains("hedgerow capture"), "{}", told(&[at("empty")]));
    let hosts = vec![glob::Pattern::new("c*").unwrap()];
    let error = Source::open(&[at("")], &Selection { hosts, ..Selection::default() }).unwrap_err();
    assert!(error.to_string().contains("there are a, b"), "{error}");
}

#[test]
fn hosts_and_runs_are_learned_from_together_and_each_of_them_counts() {
    let home = fleet();
    let together = learned(&[home.path().to_owned()]).unwrap();
    assert_eq!((together.runs, together.hosts.len()), (3, 2));
    let windows = |trained: &Trained| -> u64 {
        trained.model.profile.programs.iter().map(|program| program.windows).sum()
    };
    let alone = learned(&[home.path().join("one")]).unwrap();
    assert_eq!(windows(&together), 3 * windows(&alone), "each run filled as many");
    assert_eq!(together.model.profile.programs.len(), 2, "one program on all hosts is one");
    let again = learned(&[home.path().to_owned()]).unwrap();
    assert!(bytes(&together.model) == bytes(&again.model), "the same files give the same model");
    // Everything that the runs did is in its rates, and counted by host hours.
    let hours = |trained: &Trained| trained.engine.promise().hours_held_back;
    assert!((hours(&together) - 3.0 * hours(&alone)).abs() < 1e-9);
}

#[test]
fn other_keys_are_refused_by_name_unless_one_is_given() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    Life::default().write(&at("one"));
    Life { host: "b", seed: 8, ..Life::default() }.write(&at("two"));
    let error = learned(&[home.path().to_owned()]).unwrap_err().to_string();
    assert!(
        error.contains("/one/") && error.contains("/two/") && error.contains("--key-file"),
        "{error}"
    );
    let how = Train { seed: Some(9), ..Train::default() };
    let trained = train(open(&[home.path().to_owned()]).unwrap(), Span::ALL, &how).unwrap();
    assert_eq!(trained.engine.seed(), 9);
    // Without every call nothing can be recomputed.
    Life { host: "c", full: false, ..Life::default() }.write(&at("three"));
    let error = learned(&[at("one"), at("three")]).unwrap_err().to_string();
    assert!(error.contains("/three/") && error.contains("--full"), "{error}");
}

#[test]
fn a_time_and_a_workload_are_cut_out_at_whole_epochs_and_programs() {
    let home = tempfile::tempdir().unwrap();
    Life { epochs: 200, ..Life::default() }.write(home.path());
    let span = Span { from_ns: wall_ns(101), to_ns: wall_ns(181) };
    let selection = Selection { span, ..Selection::default() };
    let source = Source::open(&[home.path().to_owned()], &selection).unwrap();
    assert!(source.runs[0].records.len() < 7, "whole files are left out");
    let only = Only { programs: vec![glob::Pattern::new("*/web").unwrap()], ..Only::default() };
    let how = Train { only, ..Train::default() };
    let cut = train(source, span, &how).unwrap();
    let programs: Vec<_> = cut.model.profile.programs.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(programs, ["/usr/bin/web"]);
    // Of 80 epochs, 48 are for fill.
    assert_eq!(cut.model.profile.programs[0].windows, 48);
    let only = Only { workloads: vec![glob::Pattern::new("wbe*").unwrap()], ..Only::default() };
    let source = open(&[home.path().to_owned()]).unwrap();
    let none = train(source, Span::ALL, &Train { only, ..Train::default() }).unwrap_err();
    assert!(matches!(&none, Error::Usage(why) if why.contains("--workload")), "{none}");
    let late = Span { from_ns: wall_ns(100_000), to_ns: i64::MAX };
    let how = Train::default();
    let source = open(&[home.path().to_owned()]).unwrap();
    assert!(train(source, late, &how).unwrap_err().to_string().contains("too short"));
}

#[test]
fn what_is_damaged_is_named_and_the_rest_is_learned_from() {
    let home = tempfile::tempdir().unwrap();
    Life { epochs: 150, ..Life::default() }.write(home.path());
    let whole = learned(&[home.path().to_owned()]).unwrap();
    assert!(whole.damaged.is_empty() && whole.gaps.is_empty());
    let cut = files(home.path())[2].clone();
    let text = fs::read(&cut).unwrap();
    fs::write(&cut, &text[..text.len() / 3]).unwrap();
    let trained = learned(&[home.path().to_owned()]).unwrap();
    let [damaged] = trained.damaged.as_slice() else { panic!("{:?}", trained.damaged) };
    assert_eq!(damaged.path, cut);
    let [(run, after, before)] = trained.gaps.as_slice() else { panic!("{:?}", trained.gaps) };
    assert!(run.contains("host=a"));
    assert_eq!(before.0 - after.0 - 1, 30, "a file holds 30 epochs");
    let model = home.path().join("model");
    trained.model.save(&model).unwrap();
    // A footer that is whole above pages that aren't: it shows while it is read.
    let mut torn = text;
    torn[4..60].fill(0xff);
    fs::write(&cut, torn).unwrap();
    let mut policy = Policy::default();
    for name in ["web.service", "wbe.service"] {
        policy.modes.insert(Workload::new(name), Mode::Monitor);
    }
    let ask = Ask { model: model.clone(), policy, ..Ask::default() };
    let source = open(&[home.path().to_owned()]).unwrap();
    let told = backtest::all(source, Span::ALL, &ask, None, &mut |_| {}).unwrap();
    let name = cut.display().to_string();
    let named = |told: &String| told.contains(&name) && told.contains("rows are lost");
    assert!(told.unavailable.iter().any(named), "{:?}", told.unavailable);
    assert!(told.unavailable.iter().any(|told| told.contains("of 30 epochs")));
    assert!(told.unavailable.iter().any(|told| told.contains("`wbe.service`")));
    assert!(!told.unavailable.iter().any(|told| told.contains("`web.service`")));
    // Scores are written once, and not into a capture.
    let how = Score { model: model.clone(), ..Score::default() };
    let score = |out: &Path, how: &Score| {
        let source = open(&[home.path().to_owned()]).unwrap();
        score::all(source, Span::ALL, how, (Some(out), None), &mut |_| Ok(()), &mut |_| {})
    };
    let out = home.path().join("out");
    let told = score(&out, &how).unwrap();
    assert_eq!((told.met.damaged.len(), told.met.gaps.len()), (1, 1));
    let before = files(home.path());
    assert!(score(&out, &how).unwrap_err().to_string().contains("`scores` already"));
    assert!(score(home.path(), &how).unwrap_err().to_string().contains("`records` already"));
    assert_eq!(files(home.path()), before);
    let only = Only { programs: vec![glob::Pattern::new("/none").unwrap()], ..Only::default() };
    let none = score(&home.path().join("none"), &Score { only, ..how }).unwrap_err();
    assert!(matches!(&none, Error::Usage(_)), "{none}");
}

#[test]
fn remains_of_a_kill_are_learned_from_in_place() {
    let home = tempfile::tempdir().unwrap();
    let life = Life { segments: true, epochs: 100, ..Life::default() };
    std::mem::forget(life.remains(home.path()));
    let before = files(home.path());
    assert!(before.iter().any(|path| path.to_string_lossy().contains(".s0000")), "{before:?}");
    let remains = learned(&[home.path().to_owned()]).unwrap();
    assert!(remains.damaged.is_empty() && remains.gaps.is_empty());
    assert_eq!(files(home.path()), before, "nothing was changed");
    let whole = tempfile::tempdir().unwrap();
    Life { epochs: 100, ..Life::default() }.write(whole.path());
    let whole = learned(&[whole.path().to_owned()]).unwrap();
    assert!(bytes(&remains.model) == bytes(&whole.model), "nothing is missing");
}

#[test]
fn a_report_tells_what_was_learned_without_a_network() {
    let home = tempfile::tempdir().unwrap();
    Life { epochs: 1200, ..Life::default() }.write(home.path());
    let mut gathered = Gathered::default();
    let source = open(&[home.path().to_owned()]).unwrap();
    let how = Train::default();
    let trained = train::train(source, Span::ALL, &how, Some(&mut gathered), &mut |_| {}).unwrap();
    let report = Report::of(&trained, &gathered);
    assert_eq!(report.windows, 1200 * 3, "two programs and the host");
    let held_back: f64 = report.scores.iter().map(|(_, _, count)| count).sum();
    assert!(held_back > 400.0, "{held_back}");
    let drift = report.drift.as_ref().unwrap();
    assert!(drift.iter().all(|moved| moved.psi.is_finite()) && !drift.is_empty());
    let html = report.html(chrono_tz::Tz::UTC);
    assert!(html.contains("web.service") && html.contains("/usr/bin/db"));
    assert!(html.matches("<rect").count() > 10 && html.len() < 2 << 20);
    assert!(!html.contains("<script") && !html.contains("src=") && !html.contains("@import"));
    assert_eq!(report.power.as_ref().unwrap().workloads.len(), 2);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["overview"]["workloads"].as_array().unwrap().len(), 2);
}

#[test]
fn every_run_is_scored_by_the_same_model() {
    let home = fleet();
    let trained = learned(&[home.path().to_owned()]).unwrap();
    let model = home.path().join("model");
    trained.model.save(&model).unwrap();
    let how = Score { model, ..Score::default() };
    let mut counts = Vec::new();
    for run in open(&[home.path().to_owned()]).unwrap().runs {
        let mut windows = 0;
        let scored = score::score(
            run,
            Span::ALL,
            &how,
            &mut |_, outcome| {
                windows += u32::from(matches!(outcome, Outcome::Scored(_)));
                Ok(true)
            },
            &mut |_| {},
        );
        assert!(scored.unwrap().damaged.is_empty());
        counts.push(windows);
    }
    assert!(counts.iter().all(|windows| *windows >= 180), "{counts:?}");
}

/// Judged windows of the first run of a directory.
fn scored(directory: &Path, how: &Score) -> Result<Vec<WindowScore>, Error> {
    let mut scores = Vec::new();
    let mut tell = |_: &_, outcome| {
        if let Outcome::Scored(score) = outcome {
            scores.push(score);
        }
        Ok(true)
    };
    let run = open(&[directory.to_owned()])?.runs.remove(0);
    score::score(run, Span::ALL, how, &mut tell, &mut |_| {})?;
    Ok(scores)
}

/// A fleet has one key, and each daemon its own profile: what was counted by another one isn't taken.
#[test]
fn rows_are_taken_as_recorded_where_they_were_counted_by_the_models_own_profile() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    Life::default().write(&at("full"));
    let trained = learned(&[at("full")]).unwrap();
    trained.model.save(&at("model")).unwrap();
    let how = Score { model: at("model"), ..Score::default() };
    let taken = scored(&at("full"), &how).unwrap();
    assert_eq!(taken, scored(&at("full"), &Score { recompute: true, ..how.clone() }).unwrap());
    assert!(!taken.is_empty());
    let part = Life { full: false, ..Life::default() };
    part.write(&at("part"));
    let told = scored(&at("part"), &how).unwrap_err().to_string();
    assert!(told.contains("another profile") && told.contains("--full"), "{told}");
    let backtested = |name: &str| -> String {
        let ask = Ask { model: at("model"), ..Ask::default() };
        let mut told = Backtest::default();
        let run = open(&[at(name)]).unwrap().runs.remove(0);
        backtest::run(run, Span::ALL, &ask, None, &mut told, &mut |_| {}).unwrap();
        told.unavailable.join("\n")
    };
    assert!(backtested("part").contains("family `order`"));
    // A daemon of this model wrote it.
    let mut own = part.remains(&at("own"));
    own.set_metadata(MODEL, trained.engine.model_id());
    own.finish().unwrap();
    scored(&at("own"), &how).unwrap();
    assert!(!backtested("own").contains("early looks"));
}
