//! Hedgerow's BPF programs, their skeletons and the wire format they share with user space.
//!
//! `include/wire.h` is the only definition of what crosses: [`wire`] is generated from it, with a
//! test of every size and offset; the C side asserts the same sizes.

/// The records of the wire format, as `bindgen` reads `include/wire.h`.
#[allow(
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    clippy::all,
    clippy::undocumented_unsafe_blocks
)]
pub mod wire {
    include!(concat!(env!("OUT_DIR"), "/wire.rs"));
}

/// System calls, processes, io_uring and flows.
#[cfg(feature = "skeletons")]
#[allow(
    missing_debug_implementations,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used
)]
pub mod sensor {
    include!(concat!(env!("OUT_DIR"), "/sensor.skel.rs"));
}

/// The hooks that refuse.
#[cfg(feature = "skeletons")]
#[allow(
    missing_debug_implementations,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used
)]
pub mod deny {
    include!(concat!(env!("OUT_DIR"), "/deny.skel.rs"));
}

/// An empty probe, by which the cost of the others is measured.
#[cfg(feature = "skeletons")]
#[allow(
    missing_debug_implementations,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used
)]
pub mod bench {
    include!(concat!(env!("OUT_DIR"), "/bench.skel.rs"));
}

/// Whether programs can be attached to functions of the kernel, LSM hooks among them: arm64 before 6.4 loads
/// them, and refuses in the end.
#[cfg(feature = "skeletons")]
pub fn attaches_to_functions() -> bool {
    use libbpf_rs::btf::{Btf, types::Struct};
    if !cfg!(target_arch = "aarch64") {
        return true;
    }
    let Ok(kernel) = Btf::from_vmlinux() else { return false };
    let traced = kernel.type_by_name::<Struct<'_>>("ftrace_ops");
    let is_there = |traced: Struct<'_>| {
        traced.iter().any(|member| member.name.is_some_and(|name| name == "direct_call"))
    };
    traced.is_some_and(is_there)
}
