//! Models of different runs as the model of all of these runs: what [`crate::train`] makes of them in
//! one go, bit for bit (`hedgerow_detect::parts`).

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use hedgerow_detect::{file::ModelFile, parts::Parts};
use serde::Serialize;

use crate::{Error, Result};

/// What models were made one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Merged {
    pub model: String,
    pub models: usize,
    pub runs: usize,
    pub hosts: BTreeSet<String>,
    pub programs: usize,
}

/// Merges models that `hedgerow train` wrote.
///
/// # Errors
/// Names the model that can't be read, that doesn't hold what it was learned from, that has another
/// key than the first, or that was learned from the same time of a host as another one.
pub fn merge(models: &[PathBuf]) -> Result<(ModelFile, Merged)> {
    let mut all: Option<Parts> = None;
    for path in models {
        let parts = parts(path)?;
        match &mut all {
            Some(all) => all.absorb(parts).map_err(|why| Error::at(path, why))?,
            None => all = Some(parts),
        }
    }
    let Some(all) = all else {
        return Err(Error::Usage("no model is named".to_owned()));
    };
    let Some((file, engine)) = all.model()? else {
        return Err(Error::File("the models hold too few windows for one of all".to_owned()));
    };
    let told = Merged {
        model: engine.model_id().to_owned(),
        models: models.len(),
        runs: all.runs().count(),
        hosts: all.hosts(),
        programs: file.profile.programs.len(),
    };
    Ok((file, told))
}

fn parts(path: &Path) -> Result<Parts> {
    Parts::load(path)?.ok_or_else(|| {
        Error::at(
            path,
            "it doesn't hold what it was learned from, as models of `hedgerow train` do: those of a \
             daemon, of an imported forest and of older versions can't be merged; train it anew from \
             its captures",
        )
    })
}
