//! What can go wrong in a lab.

use std::{fmt, io, path::PathBuf, process::ExitCode};

/// The lab's one error type.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a lab makes namespaces and cgroups and needs root")]
    NotRoot,
    #[error("no cgroup v2 hierarchy is mounted (none in /proc/self/mountinfo)")]
    NoCgroup2,
    #[error("{0} is not installed: `scripts/setup test` installs what the lab needs")]
    Missing(String),
    #[error("no user `{0}` in /etc/passwd")]
    NoUser(String),
    #[error("no lab is up: run `lab up` first")]
    NotUp,
    #[error("`{command}` failed: {output}")]
    Command { command: String, output: String },
    #[error("{what} was not ready after {seconds} s{detail}")]
    NotReady { what: String, seconds: u64, detail: String },
    #[error("{what} at {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{what}: {source}")]
    System { what: String, source: io::Error },
}

pub type Result<T> = std::result::Result<T, Error>;

/// How the lab's programs end: an error is one line on standard error, whatever the environment
/// says of backtraces.
pub fn exit_code<E: fmt::Display>(result: std::result::Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Adds what was tried, and on which path.
pub(crate) trait At<T> {
    fn at(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|source| Error::Io { what, path: path.into(), source })
    }
}
