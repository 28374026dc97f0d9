//! Policy, deny maps, expiry and the ledger: what the kernel is told to refuse, and why.
//!
//! [`Responder`] installs entries into pinned BPF maps. Every entry has an expiry that the BPF
//! programs test themselves, so that a dead daemon leaves no permanent block; programs and maps are
//! pinned, so that a live block survives a dead daemon until it expires. What it did is returned as
//! [`hedgerow_event::Remediation`]s and written to the [`ledger`].

// Without the kernel only the policy is used.
#![cfg_attr(not(feature = "kernel"), allow(dead_code))]

#[cfg(feature = "kernel")]
mod adopt;
#[cfg(feature = "kernel")]
mod allow;
pub mod coverage;
#[cfg(feature = "kernel")]
mod cut;
#[cfg(feature = "kernel")]
mod ended;
pub mod entry;
mod error;
pub mod grounds;
pub mod hold;
#[cfg(feature = "kernel")]
pub mod hooks;
mod keeper;
#[cfg(feature = "kernel")]
mod kernel;
pub mod ledger;
mod limits;
#[cfg(feature = "kernel")]
mod own;
pub mod policy;
pub mod protected;
#[cfg(feature = "kernel")]
mod quota;
#[cfg(feature = "kernel")]
mod responder;
#[cfg(feature = "kernel")]
mod scope;
#[cfg(feature = "kernel")]
mod sockets;
pub mod spent;
mod standing;
mod target;
#[cfg(feature = "kernel")]
mod unit;
#[cfg(feature = "kernel")]
mod wire;

pub use entry::Request;
pub use error::{Error, Refusal};
pub use keeper::Keeper;
#[cfg(feature = "kernel")]
pub use kernel::now;
pub use ledger::By;
pub use limits::{Breaker, Limits};
#[cfg(feature = "kernel")]
pub use responder::{
    Alarm, DIRECTORY, Loaded, Options, Responder, STANDING, Stopped, Wronged, disarm, ordered,
    remove_pins, survey,
};

#[cfg(feature = "kernel")]
pub use unit::is_deep;

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// `CLOCK_BOOTTIME`, by which entries expire.
    pub boot_ns: u64,
    /// `CLOCK_REALTIME`, for people.
    pub wall_ns: i64,
}
