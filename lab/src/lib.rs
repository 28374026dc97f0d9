//! A laboratory on one host: a service, its clients and an attacker in network namespaces joined
//! by a router, in cgroups of their own, with benign loads to learn and attacks to find.
//!
//! Everything that a lab makes carries its name and goes with it: on drop, on panic, on Ctrl-C,
//! and, should its process have been killed, when the next one is made. Needs root, iproute2 and,
//! by load, curl, python3, gcc, tar, apt-get or PostgreSQL. Nothing leaves the namespaces.
//!
//! ```no_run
//! use hedgerow_lab::{Attack, Lab, Load, Via};
//! # fn main() -> Result<(), hedgerow_lab::Error> {
//! let lab = Lab::up()?;
//! let app = Load::App.start(&lab)?;
//! let outcome = Attack::ReverseShell.run(&lab, Via::Child, std::time::Duration::from_secs(10))?;
//! println!("{} bytes left", outcome.transcript.map_or(0, |t| t.bytes()));
//! # drop(app);
//! # Ok(())
//! # }
//! ```

// What only the labs of that feature use.
#![cfg_attr(not(feature = "truth"), allow(dead_code, unused_imports))]

mod attack;
mod broker;
mod cgroup;
mod cleanup;
mod daemon;
mod directory;
mod disk;
#[cfg(feature = "truth")]
pub mod enforce;
mod error;
mod lab;
mod load;
mod network;
mod process;
mod recorder;
mod trap;
#[cfg(feature = "truth")]
pub mod truth;

pub use attack::{Attack, Outcome, Via, now_ns};
pub use broker::Broker;
pub use cgroup::mount_point as cgroup2_mount_point;
pub use cleanup::Guard;
pub use daemon::{Daemon, Line};
pub use directory::copy_directory;
pub use disk::{Disk, Still};
pub use error::{Error, Result, exit_code};
pub use lab::{Lab, User};
pub use load::{
    APP_PORT, JVM_PORT, Load, Maintenance, PHP_PORT, Postgres, REDIS_PORT, Started, WEB_PORT,
};
pub use network::Site;
pub use process::{Running, executable};
pub use recorder::{End, Receipt, Recorder, Transcript};
pub use trap::{Bait, Trap};
