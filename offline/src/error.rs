use std::fmt::Display;

/// Why a question can't be answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read or written, or doesn't hold what is asked of it.
    #[error("{0}")]
    File(String),
    /// The question itself is wrong.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Engine(#[from] hedgerow_detect::Error),
    #[error(transparent)]
    Features(#[from] hedgerow_features::Error),
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Whoever is told the outcomes can't take them.
    #[error(transparent)]
    Told(Box<dyn std::error::Error + Send + Sync>),
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A file's failure, with the whole chain of causes in one line.
    pub(crate) fn file(why: impl std::error::Error) -> Self {
        Self::File(hedgerow_detect::chain(&why))
    }

    /// A failure at a path.
    pub(crate) fn at(path: &std::path::Path, why: impl Display) -> Self {
        Self::File(format!("{}: {why}", path.display()))
    }
}
