//! What can go wrong here.

use std::path::PathBuf;

use crate::file::FileError;

/// A failure to learn, to save or to load.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the forest can't be fitted")]
    Forest(#[from] hedgerow_model::IsolationForestError),
    #[error("the neighbours can't be fitted")]
    Neighbors(#[from] hedgerow_model::NearestNeighborEnsembleError),
    #[error("the model can't be written")]
    File(#[from] FileError),
    /// A forest that can't be put in a model's place.
    #[error("{0}")]
    Exchange(String),
    /// Models that can't be made one.
    #[error("{0}")]
    Merge(String),
    #[error("what was learned can't be encoded: {0}")]
    Encode(String),
    /// A model file that is unreadable, or of another set of columns.
    #[error("{path}: {why}", path = .path.display())]
    Load { path: PathBuf, why: String },
}

pub type Result<T> = std::result::Result<T, Error>;

/// An error with all of its causes, in one line.
pub fn chain(why: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(why.source(), |cause| cause.source());
    causes.fold(why.to_string(), |text, cause| match cause.to_string() {
        // Some errors tell their cause themselves.
        cause if text.contains(&cause) => text,
        cause => format!("{text}: {cause}"),
    })
}
