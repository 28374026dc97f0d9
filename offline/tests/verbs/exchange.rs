//! A model's forest out as ONNX and back, and one of scikit-learn in.

use std::{collections::BTreeMap, fs, path::Path};

use crate::life::{Life, open};
use hedgerow_detect::{DEVIATIONS, Outcome, SavedModel, WindowScore};
use hedgerow_event::Scale;
use hedgerow_model::onnx;
use hedgerow_offline::{
    exchange::{self, Import},
    score::{self, Score},
    time::Span,
    train::{self, Train},
};
use ndarray::Array2;

fn learned(home: &Path) {
    let life = Life { epochs: 300, ..Life::default() };
    life.write(&home.join("capture"));
    let source = open(&[home.join("capture")]).unwrap();
    let trained = train::train(source, Span::ALL, &Train::default(), None, &mut |_| {}).unwrap();
    trained.model.save(&home.join("model")).unwrap();
}

fn scores(home: &Path, model: &str) -> Vec<WindowScore> {
    let how = Score { model: home.join(model), ..Score::default() };
    let run = open(&[home.join("capture")]).unwrap().runs.remove(0);
    let mut scores = Vec::new();
    let mut tell = |_: &_, outcome| {
        if let Outcome::Scored(score) = outcome {
            scores.push(score);
        }
        Ok(true)
    };
    score::score(run, Span::ALL, &how, &mut tell, &mut |_| {}).unwrap();
    scores
}

fn import(
    home: &Path,
    forest: &str,
    out: &str,
    held_back: bool,
) -> Result<exchange::Exchanged, String> {
    let how = Import {
        forest: home.join(forest),
        model: home.join("model"),
        out: home.join(out),
        scale: Scale::Seconds5,
        recompute: false,
    };
    let captures = held_back.then(|| open(&[home.join("capture")]).unwrap());
    let made = exchange::import(&how, captures, &mut |_| {});
    made.map(|(told, _)| told).map_err(|why| why.to_string())
}

#[test]
fn what_goes_out_scores_rows_as_the_model_does_and_comes_back() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    learned(home);
    let first = SavedModel::load(&home.join("model")).unwrap().model_id().to_owned();
    let out = home.join("forest.onnx");
    let told = exchange::export(&home.join("model"), Scale::Seconds5, &out).unwrap();
    assert_eq!(told.trees, 100);
    let again = exchange::export(&home.join("model"), Scale::Seconds5, &out).unwrap_err();
    assert!(again.to_string().contains("forest.onnx"), "{again}");
    // As onnxruntime does: its scores are the forest's on the rows that scores hold.
    let forest = onnx::import(&fs::read(&out).unwrap()).unwrap();
    let before = scores(home, "model");
    let own: Vec<&WindowScore> =
        before.iter().filter(|score| score.scale == Scale::Seconds5).collect();
    assert!(own.len() > 600);
    let rows: Vec<f32> = own.iter().flat_map(|score| score.row).collect();
    let rows = Array2::from_shape_vec((own.len(), DEVIATIONS), rows).unwrap();
    let lengths = forest.mean_path_lengths(rows.view());
    for (length, score) in lengths.iter().zip(&own) {
        assert_eq!(forest.score_of_path_length(*length), score.score);
    }
    // Back in, held back on the same windows: the same scores, and surprises where there were some.
    let told = import(home, "forest.onnx", "back", true).unwrap();
    assert!(told.measured_programs >= 2, "{told:?}");
    let after = scores(home, "back");
    let numbers =
        |scores: &[WindowScore]| scores.iter().map(|score| score.score).collect::<Vec<_>>();
    assert_eq!(numbers(&after), numbers(&before));
    for (after, before) in after.iter().zip(&before) {
        assert_eq!(after.surprise.is_some(), before.surprise.is_some(), "{after:?} {before:?}");
    }
    // Without captures it is silent about windows until it has held back enough itself.
    let told = import(home, "forest.onnx", "silent", false).unwrap();
    assert_eq!(told.measured_programs, 0);
    let silent = scores(home, "silent");
    let own = |scores: &[WindowScore]| {
        let mut by_epoch: BTreeMap<u32, bool> = BTreeMap::new();
        for score in scores.iter().filter(|score| score.scale == Scale::Seconds5) {
            *by_epoch.entry(score.epoch).or_default() |= score.surprise.is_some();
        }
        by_epoch
    };
    assert!(!own(&silent)[&2] && own(&silent)[&250], "as in service");
    let load = |name: &str| SavedModel::load(&home.join(name)).unwrap();
    assert_ne!(load("back").model_id(), load("model").model_id());
    // Another forest, and one more: what the first model counted is still counted as by its own.
    fs::rename(home.join("back"), home.join("model")).unwrap();
    let second = load("model").model_id().to_owned();
    import(home, "forest.onnx", "again", false).unwrap();
    let again = load("again");
    assert!(again.has_profile_of(&first) && again.has_profile_of(&second));
    assert!(!again.has_profile_of("another"));
}

#[test]
fn a_forest_of_scikit_learn_judges_in_place_of_the_own_one() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    learned(home);
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sklearn.onnx");
    fs::copy(fixture, home.join("sklearn.onnx")).unwrap();
    import(home, "sklearn.onnx", "new", true).unwrap();
    let forest = onnx::import(&fs::read(home.join("sklearn.onnx")).unwrap()).unwrap();
    let after = scores(home, "new");
    for score in after.iter().filter(|score| score.scale == Scale::Seconds5).take(50) {
        let row = Array2::from_shape_vec((1, DEVIATIONS), score.row.to_vec()).unwrap();
        let length = forest.mean_path_lengths(row.view())[0];
        assert_eq!(forest.score_of_path_length(length), score.score);
    }
}

#[test]
fn what_is_no_forest_of_these_columns_is_refused_by_name_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    learned(home);
    let five = Path::new(env!("CARGO_MANIFEST_DIR"));
    let five = five.join("../model/tests/fixtures/onnx/skl2onnx.onnx");
    fs::copy(five, home.join("five.onnx")).unwrap();
    fs::write(home.join("text.onnx"), "no protobuf").unwrap();
    fs::create_dir(home.join("directory.onnx")).unwrap();
    fs::write(home.join("there"), "mine").unwrap();
    for (forest, out, told) in [
        ("five.onnx", "out", "reads 5 columns"),
        ("text.onnx", "out", "not an ONNX model"),
        ("directory.onnx", "out", "no regular file"),
        ("none.onnx", "out", "none.onnx"),
        ("five.onnx", "there", "nothing is written over"),
    ] {
        let error = import(home, forest, out, false).unwrap_err();
        assert!(error.contains(told), "{forest}: {error}");
        let named = if out == "there" { out } else { forest };
        assert!(error.contains(named), "{error}");
        assert!(!home.join("out").exists());
    }
    assert_eq!(fs::read_to_string(home.join("there")).unwrap(), "mine");
}
