//! What this host can do, found by trying: `hedgerow doctor`.

pub mod capabilities;
mod environment;
pub(crate) mod features;
mod load;

use std::{fs, io, path::PathBuf};

pub use capabilities::{lower, lowered, missing_capabilities};
pub use environment::{KERNEL_BTF, cgroup_root, mounted, require};
pub use features::{Feature, Need};
use serde::Serialize;

pub type Result<T> = std::result::Result<T, Error>;

/// Why Hedgerow can't work here at all, each with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("not enough privileges: {missing} missing; run as root")]
    Privileges { missing: String },
    #[error(
        "this kernel has no type information ({KERNEL_BTF}); it needs CONFIG_DEBUG_INFO_BTF=y, as \
         the kernels of distributions have since 5.10"
    )]
    NoBtf,
    #[error("can't read {KERNEL_BTF}")]
    Btf(#[source] io::Error),
    #[error(
        "no cgroup v2 hierarchy is mounted; run: mount -t cgroup2 none /sys/fs/cgroup/unified \
         (or boot with systemd.unified_cgroup_hierarchy=1)"
    )]
    NoCgroup2,
    #[error("can't read /proc/self/mountinfo; is /proc mounted?")]
    Proc(#[source] io::Error),
    #[error(
        "this is not the host's {kind} namespace, so that {blind}; start it on the host, or with {how}"
    )]
    Namespace { kind: &'static str, blind: &'static str, how: &'static str },
}

/// All of it. Nothing stays loaded or attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// For the reader: no decision rests on it.
    pub kernel: String,
    pub architecture: &'static str,
    pub missing_capabilities: Vec<String>,
    /// The namespaces are those of the host, without which it learns from nothing.
    pub host_namespaces: bool,
    pub btf: bool,
    pub cgroup_root: Option<PathBuf>,
    /// Where pins are kept; mounted when they are needed.
    pub bpffs: Option<PathBuf>,
    pub tracefs: Option<PathBuf>,
    pub features: Vec<Feature>,
}

impl Report {
    pub fn feature(&self, name: &str) -> Option<&Feature> {
        self.features.iter().find(|feature| feature.name == name)
    }

    /// Whether everything is there that nothing works without.
    pub fn is_usable(&self) -> bool {
        self.missing_capabilities.is_empty()
            && self.host_namespaces
            && self.btf
            && self.cgroup_root.is_some()
            && self.features.iter().all(|f| f.available || f.need != Need::Required)
    }
}

/// Tries everything; takes some tens of milliseconds.
pub fn report() -> Report {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Report {
        kernel: kernel.trim().to_owned(),
        architecture: std::env::consts::ARCH,
        missing_capabilities: missing_capabilities(),
        host_namespaces: environment::namespaces().is_ok(),
        btf: fs::metadata(KERNEL_BTF).is_ok(),
        cgroup_root: cgroup_root().ok(),
        bpffs: mounted("bpf"),
        tracefs: mounted("tracefs"),
        features: features::ask_all(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Programs really load here when run as root; without root everything is refused, by name.
    #[test]
    fn the_report_says_what_loads() {
        let report = report();
        println!("{}", serde_json::to_string(&report).unwrap());
        // SAFETY: takes and changes nothing.
        if unsafe { libc::geteuid() } != 0 {
            assert!(!report.is_usable());
            assert!(matches!(require(), Err(Error::Privileges { .. })));
            return;
        }
        assert!(report.is_usable(), "{report:#?}");
        assert_eq!(require().unwrap(), report.cgroup_root.clone().unwrap());
        for name in ["tracepoint_sockets", "cgroup_connect", "send_signal", "iterator_sockets"] {
            assert!(report.feature(name).unwrap().available, "{report:#?}");
        }
        for feature in &report.features {
            assert_eq!(feature.available, feature.refusal.is_none(), "{feature:?}");
            assert_eq!(feature.available, feature.hint.is_none(), "{feature:?}");
        }
        assert!(serde_json::to_string(&report).unwrap().contains("tracepoint_calls"));
    }

    #[test]
    fn what_no_kernel_has_is_refused() {
        let symbol = Some("hedgerow_has_no_such_tracepoint");
        let tiny = load::Tiny {
            program: libbpf_rs::libbpf_sys::BPF_PROG_TYPE_TRACING,
            attach: libbpf_rs::libbpf_sys::BPF_TRACE_RAW_TP,
            symbol,
            returns: 0,
        };
        assert!(tiny.load().is_err());
        assert!(load::map_type(9999).is_err());
    }
}
