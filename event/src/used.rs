//! Files that are used as code.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Actor, FileKey};

/// How a file is used as code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// It was executed.
    Ran,
    /// It was mapped executable.
    Mapped,
    /// It was opened, by a name of what interpreters read.
    Read,
}

/// A file that a program used. The kernel tells it once an hour for each program in a cgroup, so
/// that it counts nothing, and captures don't have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    pub actor: Actor,
    pub how: Use,
    /// As the kernel resolved it, in the mount namespace of the process.
    pub path: Arc<str>,
    pub file: FileKey,
}
