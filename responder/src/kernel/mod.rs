//! The deny programs and their pinned maps: the only place of this crate that touches libbpf.

mod attach;
mod host;
mod install;
mod load;
pub(crate) mod maps;
mod notes;
mod pins;
mod watch;

pub use host::now;
pub(crate) use host::{boot_id, cgroup_root, random_id};
pub(crate) use load::{Kernel, Sizes, disarm, survey};
pub(crate) use maps::{Insert, Maps};
pub(crate) use pins::remove;

#[cfg(test)]
mod tests;
