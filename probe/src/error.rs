use std::io;

use crate::support;

/// What can go wrong between loading the sensor and stopping it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the kernel refuses {what}: {source}")]
    Load { what: &'static str, source: libbpf_rs::Error },
    #[error("{what} can't be attached: {source}")]
    Attach { what: &'static str, source: libbpf_rs::Error },
    #[error("map {what}: {source}")]
    Map { what: &'static str, source: libbpf_rs::Error },
    #[error("{what}: {source}")]
    Io { what: &'static str, source: io::Error },
    #[error(transparent)]
    Support(#[from] support::Error),
    #[error("the skeleton has no {0}: it was built from other sources")]
    Skeleton(&'static str),
    #[error("the drain thread ended: {0}")]
    Thread(String),
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
    pub(crate) fn load(what: &'static str) -> impl FnOnce(libbpf_rs::Error) -> Self {
        move |source| Self::Load { what, source }
    }
    pub(crate) fn map(what: &'static str) -> impl FnOnce(libbpf_rs::Error) -> Self {
        move |source| Self::Map { what, source }
    }
    pub(crate) fn attach(what: &'static str) -> impl FnOnce(libbpf_rs::Error) -> Self {
        move |source| Self::Attach { what, source }
    }
}
