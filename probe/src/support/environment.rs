//! What has to be there around the kernel's BPF: privileges, type information, mounts.

use std::{fs, io, os::unix::fs::MetadataExt, path::PathBuf};

use super::{Error, Result, missing_capabilities};

/// Type information of the running kernel, by which programs are fitted to it.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Root of the cgroup v2 hierarchy: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` beside v1.
pub fn cgroup_root() -> Result<PathBuf> {
    let mount = hedgerow_hostfile::mount_point("cgroup2").map_err(Error::Proc)?;
    mount.ok_or(Error::NoCgroup2)
}

/// Where a file system of this type is mounted, if it is.
pub fn mounted(kind: &str) -> Option<PathBuf> {
    hedgerow_hostfile::mount_point(kind).ok().flatten()
}

/// Namespaces of which only the host's do, with their inode there (`PROC_PID_INIT_INO` and
/// `PROC_CGROUP_INIT_INO` of include/linux/proc_ns.h), and what is amiss elsewhere.
const NAMESPACES: [(&str, u64, &str, &str); 2] = [
    (
        "pid",
        0xefff_fffc,
        "process numbers of the kernel name nobody here",
        "--pid=host (Kubernetes: hostPID: true)",
    ),
    (
        "cgroup",
        0xefff_fffb,
        "workloads can't be named",
        "--cgroupns=host (Kubernetes: a privileged container)",
    ),
];

/// Whether this process lives in the namespaces of the host that it needs.
pub fn namespaces() -> Result<()> {
    let inode = |kind: &str| {
        fs::metadata(format!("/proc/self/ns/{kind}")).map(|namespace| namespace.ino()).ok()
    };
    for (kind, host, blind, how) in NAMESPACES {
        if inode(kind).is_some_and(|own| own != host) {
            return Err(Error::Namespace { kind, blind, how });
        }
    }
    Ok(())
}

/// Fails with the first thing that nothing works without.
pub fn require() -> Result<PathBuf> {
    let missing = missing_capabilities();
    if !missing.is_empty() {
        return Err(Error::Privileges { missing: missing.join(", ") });
    }
    namespaces()?;
    match fs::metadata(KERNEL_BTF) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::NoBtf),
        Err(error) => return Err(Error::Btf(error)),
    }
    cgroup_root()
}
