//! What can be wrong with a model file.

use super::container::{FORMAT_MAJOR, FORMAT_MINOR, MAX_FILE_BYTES, MAX_SECTIONS};
use thiserror::Error;

/// Why a model file was not written or not read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// The operating system refused.
    #[error("{action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file does not begin with the magic bytes.
    #[error("not a Hedgerow model file")]
    NotAModelFile,
    /// Another major version of the format.
    #[error(
        "model file of format {major}.{minor}; this version reads {FORMAT_MAJOR}.x (writes \
         {FORMAT_MAJOR}.{FORMAT_MINOR}): {}",
        if *.major > FORMAT_MAJOR { "upgrade Hedgerow" } else { "train again" }
    )]
    Format {
        /// The file's major version.
        major: u16,
        /// The file's minor version.
        minor: u16,
    },
    /// Larger than any model file may be.
    #[error("{0} bytes are more than the {MAX_FILE_BYTES} of the largest model file")]
    TooLarge(u64),
    /// More sections than a file may have.
    #[error("{0} sections are more than the {MAX_SECTIONS} of a model file")]
    TooManySections(usize),
    /// The file ends early.
    #[error("the model file is truncated")]
    Truncated,
    /// Bytes after the last section.
    #[error("{0} bytes after the last section of the model file")]
    TrailingBytes(usize),
    /// A checksum does not match.
    #[error("the model file is damaged: checksum of the {0} does not match")]
    Checksum(String),
    /// A section name is not allowed, or appears twice.
    #[error("section name {0:?} is not allowed or appears twice")]
    BadName(String),
    /// Flags that no version has defined.
    #[error("section {name} has unknown flags {flags:#x}")]
    BadFlags {
        /// The section.
        name: String,
        /// Its flags.
        flags: u16,
    },
    /// A section that a reader must know, and this one does not.
    #[error(
        "the model file needs section {name} version {version}, which this version does not know: upgrade Hedgerow"
    )]
    UnknownRequired {
        /// The section.
        name: String,
        /// Its version.
        version: u16,
    },
    /// A section without which there is no model.
    #[error("the model file has no section {0}")]
    Missing(&'static str),
    /// A section whose checksum is right and whose content makes no sense.
    #[error("section {name} is malformed: {reason}")]
    Malformed {
        /// The section.
        name: String,
        /// What its decoder said.
        reason: String,
    },
}
