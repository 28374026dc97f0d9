//! The deny programs and their pinned maps: the only place of this crate that touches libbpf.

mod attach;
mod before;
mod host;
mod install;
mod load;
pub(crate) mod maps;
mod notes;
mod pins;
mod watch;

pub use host::now;
pub(crate) use host::{boot_id, cgroup_root, random_id};
pub(crate) use load::{Kernel, Sizes, disarm, remove_all, survey};
pub(crate) use maps::{Insert, Maps};

#[cfg(test)]
mod tests;
