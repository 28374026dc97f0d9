//! How commands reach the daemon: HTTP with JSON over a Unix socket that only root can open.
//!
//! `POST /` takes a [`Request`] and answers with its result, or with `{"error": "..."}` and a
//! status of 4xx; `GET /` is the request `status`, so that
//! `curl --unix-socket /var/lib/hedgerow/control.sock http://hedgerow/` shows a daemon's health.

mod client;
mod server;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use hedgerow_event::Mode;
use serde::{Deserialize, Serialize};

pub use client::call;
pub use server::Control;

/// The socket of the daemon with this state directory, mode 0600.
pub fn socket(state: &Path) -> PathBuf {
    state.join("control.sock")
}

/// What a command asks of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    Status,
    Entries,
    Deny {
        address: IpAddr,
        prefix_length: u8,
        seconds: u32,
        /// Also what the host itself needs.
        #[serde(default)]
        force: bool,
    },
    Remove {
        uid: String,
        /// It should never have been made.
        #[serde(default)]
        wrong: bool,
    },
    Allow {
        address: IpAddr,
        prefix_length: u8,
    },
    Modes,
    SetMode {
        mode: Mode,
        workload: Option<String>,
    },
    Accept {
        uid: String,
    },
}

/// A request's result: JSON, or why it was refused.
pub type Reply = Result<serde_json::Value, String>;
