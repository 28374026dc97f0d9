//! Exit codes: each kind of failure has its own, documented in `hedgerow --help`.

use std::process::ExitCode;

/// A failure whose kind decides the exit code. What is no `Failure` exits with 1.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// 2: the command line or the configuration is wrong.
    #[error("{0}")]
    Usage(String),
    /// 3: the kernel, its set-up or the user's rights don't suffice.
    #[error("{0}")]
    Host(String),
    /// 4: a file is unreadable, corrupt or of another version.
    #[error("{0}")]
    File(String),
    /// 5: no daemon answers.
    #[error("{0}")]
    NoDaemon(String),
}

impl Failure {
    /// A file's failure, with the whole chain of causes in one line.
    pub fn file(why: impl Into<anyhow::Error>) -> Self {
        Self::File(format!("{:#}", why.into()))
    }
    /// A host's failure, with the whole chain of causes in one line.
    pub fn host(why: impl Into<anyhow::Error>) -> Self {
        Self::Host(format!("{:#}", why.into()))
    }
}

/// The exit code of an error chain.
pub fn code(error: &anyhow::Error) -> ExitCode {
    #[cfg(feature = "full")]
    match error.downcast_ref::<hedgerow_offline::Error>() {
        Some(hedgerow_offline::Error::File(_) | hedgerow_offline::Error::Engine(_)) => {
            return ExitCode::from(4);
        }
        Some(hedgerow_offline::Error::Usage(_)) => return ExitCode::from(2),
        _ => {}
    }
    ExitCode::from(match error.downcast_ref::<Failure>() {
        Some(Failure::Usage(_)) => 2,
        Some(Failure::Host(_)) => 3,
        Some(Failure::File(_)) => 4,
        Some(Failure::NoDaemon(_)) => 5,
        None => 1,
    })
}
