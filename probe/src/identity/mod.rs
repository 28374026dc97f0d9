//! Who is who: from kernel ids to workloads, programs and subjects.

mod aside;
pub mod cgroup;
pub mod container;
pub mod digest;
pub mod program;
pub mod provenance;
mod resolver;
mod service;
pub mod workload;

pub use aside::Count;
pub use resolver::{Changed, ExecFacts, ProcessKey, Resolver};
pub use service::{Root, SERVICES_MAX, ServiceId};
