//! Policy, deny maps, expiry and the ledger: what the kernel is told to refuse, and why.
//!
//! [`Responder`] installs entries into pinned BPF maps. Every entry has an expiry that the BPF
//! programs test themselves, so that a dead daemon leaves no permanent block; programs and maps are
//! pinned, so that a live block survives a dead daemon until it expires. What it did is returned as
//! [`hedgerow_event::Remediation`]s and written to the [`ledger`].

mod adopt;
mod allow;
pub mod coverage;
mod cut;
pub mod entry;
mod error;
pub mod hold;
pub mod hooks;
mod kernel;
pub mod ledger;
mod limits;
mod own;
pub mod policy;
pub mod protected;
mod responder;
mod scope;
mod sockets;
mod spent;
mod standing;
mod target;
mod unit;
mod wire;

pub use error::{Error, Refusal};
pub use kernel::now;
pub use ledger::By;
pub use limits::Limits;
pub use responder::{
    Alarm, DIRECTORY, Options, Request, Responder, Wronged, disarm, ordered, remove_pins, survey,
};

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// `CLOCK_BOOTTIME`, by which entries expire.
    pub boot_ns: u64,
    /// `CLOCK_REALTIME`, for people.
    pub wall_ns: i64,
}
