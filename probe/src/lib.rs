//! Loads the sensors, drains their rings and decodes their records into events.
//!
//! [`Probe::start`] attaches everything and delivers [`Item`]s: named [`hedgerow_event::Event`]s,
//! the n-grams that a profile lacked, and the close of each window. [`Control`] is the handle for
//! what a user of a running sensor may ask and set.

pub mod answers;
pub mod flow_event;
pub mod flows;
pub mod host_counters;
pub mod identity;
pub mod run_time;
pub mod support;
pub mod usage;
pub mod wire_event;

mod clock;
mod control;
mod drain;
mod epoch;
mod error;
mod facts;
mod held;
mod hooks;
mod loader;
mod mapping;
mod naming;
mod options;
mod probe;
mod profiles;
mod prove;
mod rings;
mod rows;
mod shed;
mod watch;

pub use control::{Control, Stats};
pub use error::{Error, Result};
pub use hooks::{Hook, HookStatus, Proof};
pub use options::{Options, RING_BYTES_MIN};
pub use probe::{Item, Probe};
pub use profiles::{Fill, Positions, SATURATED};
pub use shed::Shed;
