//! How commands reach the daemon: HTTP with JSON over a Unix socket that only root can open.
//!
//! `POST /` takes a [`Request`] and answers with what its [`Ask::Answer`] says, or with
//! `{"error": "..."}` and a status of 4xx or 503; `GET /` is the request `status`, so that
//! `curl --unix-socket /var/lib/hedgerow/control.sock http://hedgerow/` shows a daemon's health.
//!
//! A request is executed once or not at all: what its client no longer waits for, since it has gone
//! or was told that the daemon is busy, is never executed later.

mod api;
mod client;
mod server;

use std::path::{Path, PathBuf};

pub use api::*;
pub use client::call;
pub use server::{Control, Pending, login_uid};

/// The socket of the daemon with this state directory, mode 0600.
pub fn socket(state: &Path) -> PathBuf {
    state.join("control.sock")
}

/// A request's result: JSON, or why it was refused.
pub type Reply = Result<serde_json::Value, String>;
