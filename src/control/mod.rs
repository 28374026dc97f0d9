//! How commands reach the daemon: HTTP with JSON over a Unix socket that only root can open, and, where
//! there is a group `hedgerow`, over a second one for its members, who may only read.
//!
//! `POST /` takes a [`Request`] and answers with what its [`Ask::Answer`] says, or with
//! `{"error": "..."}` and a status of 4xx or 503; `GET /` is the request `status`, so that
//! `curl --unix-socket /var/lib/hedgerow/control.sock http://hedgerow/` shows a daemon's health.
//!
//! `GET /findings.jsonl` answers with the log of findings, `GET /ledger.jsonl` with what was decided, a
//! line each: readers can't open the files.
//!
//! A request is executed once or not at all: what its client no longer waits for, since it has gone
//! or was told that the daemon is busy, is never executed later.

mod api;
mod client;
mod log;
mod server;
mod sockets;

use std::path::{Path, PathBuf};

pub use api::*;
pub use client::{call, log, metrics};
pub use server::{Control, Pending, login_uid};
pub use sockets::Readers;

use crate::host;

/// The socket of the daemon with this state directory, mode 0600.
pub fn socket(state: &Path) -> PathBuf {
    state.join("control.sock")
}

/// Whose members may read.
pub const GROUP: &str = "hedgerow";

/// The socket of the same daemon for members of the group, mode 0660. It can't be in the state
/// directory, which is root's alone.
pub fn readers_socket(state: &Path) -> PathBuf {
    let name = host::pins(state);
    Path::new("/run").join(name.file_name().unwrap_or(GROUP.as_ref())).join("control.sock")
}

/// A request's result: JSON, or why it was refused.
pub type Reply = Result<serde_json::Value, String>;
