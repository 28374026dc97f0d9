//! Files that another process could have put where we look: scripts, programs, `resolv.conf` of a
//! container, command lines.
//!
//! Whoever wrote them may have made a FIFO, a device, a link out of his root, a terabyte of zeroes,
//! or a file system of his own that never answers. So each is opened inside its root and only where
//! it is a regular file of no pseudo file system ([`inside`]), read up to a bound
//! ([`content`]), and both by a thread that is left behind when it takes too long ([`Reader`]).
//!
//! A [`Reader`] serves one thread, which waits for it; none belongs on a loop that must go on.
//!
//! What is our own alone, and a crash may have cut short, is opened by [`append`], or put in the place of
//! what was there before by [`replace`]; [`own`] tells whether it is.

pub mod append;
pub mod dpkg;
mod mounts;
mod open;
pub mod own;
mod reader;
mod replace;
mod whose;

pub use self::{
    mounts::mount_point,
    open::{Root, image, inside},
    reader::{HUNG_MAX, Progress, Reader, Refusals, Version, content},
    replace::{replace, replace_with, sync_parent},
    whose::Whose,
};

/// Why there is no content.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("it is no regular file")]
    NotRegular,
    #[error("it lies on a pseudo file system")]
    Pseudo,
    #[error("it is larger than {0} bytes")]
    TooLarge(u64),
    /// Nobody waits for it any more.
    #[error("it took too long")]
    Hung,
    /// An earlier file of the same owner took too long.
    #[error("files of {0} are not read: one took too long")]
    Owner(String),
    #[error("{HUNG_MAX} files took too long and are still being read")]
    Spent,
}
