//! Forests as ONNX: a model's own goes out, and one that was fitted elsewhere comes in.
//!
//! A model has a forest for windows of each length. It reads the deviations of a window, which
//! scores hold beside what it made of them ([`crate::scores`]), so that onnxruntime gives the same
//! `score` for a row of them, and scikit-learn can fit a forest on the same rows.

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use hedgerow_detect::SavedModel;
use hedgerow_event::Scale;
use hedgerow_model::onnx::{self, MAX_ONNX_BYTES};
use serde::Serialize;

use crate::{
    Error, Result, files,
    player::Progress,
    score::{self, Score, Scored},
    source::Source,
    time::Span,
};

/// What went out or came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exchanged {
    pub model: String,
    pub trees: usize,
    pub sample_size: u32,
    /// Programs that are judged by what was held back of their own windows.
    pub measured_programs: usize,
}

/// Writes a model's forest of windows of one length as ONNX, for its owner alone: whoever knows the
/// forest knows how to stay unseen.
///
/// # Errors
/// The model can't be read or has no such forest; `out` is there, or can't be written.
pub fn export(model: &Path, scale: Scale, out: &Path) -> Result<Exchanged> {
    let saved = SavedModel::load(model)?;
    let forest = saved.forest(scale).ok_or_else(|| {
        Error::at(model, "too few windows of this length were seen for a forest of them")
    })?;
    let bytes =
        onnx::export(forest).map_err(|why| Error::at(model, hedgerow_detect::chain(&why)))?;
    let file = File::options().write(true).create_new(true).mode(0o600).open(out);
    file.and_then(|mut file| file.write_all(&bytes)).map_err(|why| Error::at(out, why))?;
    Ok(told(&saved, scale))
}

/// A forest that comes in.
#[derive(Debug, Clone)]
pub struct Import {
    /// The ONNX file: [`export`]'s, or what skl2onnx writes for scikit-learn's `IsolationForest`.
    pub forest: PathBuf,
    /// The model whose forest it replaces, and the file for the new model.
    pub model: PathBuf,
    pub out: PathBuf,
    pub scale: Scale,
    /// Rows out of every call, although the recorded ones could be taken.
    pub recompute: bool,
}

/// Makes a model of another one and of a forest. What the old forest held back is forgotten;
/// windows of `captures` are held back in its place, or, without any, those that the model judges in
/// service, until which it is silent about the measure of windows. What was met on the way comes with it.
///
/// # Errors
/// A file can't be read, or is no forest of this model's columns; the output is there.
pub fn import(
    how: &Import,
    captures: Option<Source>,
    progress: &mut Progress<'_>,
) -> Result<(Exchanged, Scored)> {
    if how.out.exists() {
        return Err(Error::at(&how.out, "it is there already; nothing is written over"));
    }
    let bytes = read(&how.forest)?;
    let forest =
        onnx::import(&bytes).map_err(|why| Error::at(&how.forest, hedgerow_detect::chain(&why)))?;
    let mut saved = SavedModel::load(&how.model)?;
    saved.put_forest(how.scale, forest, &bytes).map_err(|why| Error::at(&how.forest, why))?;
    let asked = Score { recompute: how.recompute, ..Score::default() };
    let Source { runs, damaged } = captures.unwrap_or_default();
    let mut met = Scored { damaged, ..Scored::default() };
    for run in runs {
        let (mut watch, mut tell) = (|_: &_, _| {}, |_: &_, _| Ok(true));
        let model = saved.clone();
        let (scored, engine) =
            score::with(model, run, Span::ALL, &asked, &mut watch, &mut tell, progress)?;
        met.add(scored);
        saved.take_held_back(&engine, how.scale);
    }
    let file = saved.to_file()?;
    file.save(&how.out).map_err(|why| Error::at(&how.out, hedgerow_detect::chain(&why)))?;
    Ok((told(&saved, how.scale), met))
}

fn told(saved: &SavedModel, scale: Scale) -> Exchanged {
    let forest = saved.forest(scale);
    Exchanged {
        model: saved.model_id().to_owned(),
        trees: forest.map_or(0, |forest| forest.trees().len()),
        sample_size: forest.map_or(0, |forest| forest.sample_size()),
        measured_programs: saved.measured_programs(scale),
    }
}

/// A file of bounded size, whatever it says of itself.
fn read(path: &Path) -> Result<Vec<u8>> {
    let file = files::open(path)?;
    let mut bytes = Vec::new();
    let most = MAX_ONNX_BYTES as u64 + 1;
    file.take(most).read_to_end(&mut bytes).map_err(|why| Error::at(path, why))?;
    Ok(bytes)
}
