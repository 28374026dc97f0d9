//! Who is who: from kernel ids to workloads, programs and subjects.

pub mod cgroup;
pub mod container;
pub mod digest;
pub mod program;
pub mod provenance;
mod resolver;
mod service;
pub mod workload;

pub use resolver::{ExecFacts, ProcessKey, Resolver};
pub use service::{Root, SERVICES_MAX, ServiceId};
