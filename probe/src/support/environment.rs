//! What has to be there around the kernel's BPF: privileges, type information, mounts.

use std::{fs, io, os::unix::fs::MetadataExt, path::PathBuf};

use super::{Error, Result};

/// Type information of the running kernel, by which programs are fitted to it.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Capabilities that loading and attaching take (include/uapi/linux/capability.h).
const NEEDED: [(u32, &str); 5] = [
    (1, "CAP_DAC_OVERRIDE"),
    (12, "CAP_NET_ADMIN"),
    (21, "CAP_SYS_ADMIN"),
    (38, "CAP_PERFMON"),
    (39, "CAP_BPF"),
];
/// Stands for the last two where it is held (as before 5.8).
const SYS_ADMIN: u32 = 21;

/// Names of the capabilities that this process lacks.
pub fn missing_capabilities() -> Vec<&'static str> {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| effective(&status))
        .map_or_else(|| NEEDED.map(|(_, name)| name).to_vec(), missing)
}

/// The effective set in the text of /proc/PID/status.
fn effective(status: &str) -> Option<u64> {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

fn missing(effective: u64) -> Vec<&'static str> {
    let has = |bit: u32| effective >> bit & 1 == 1;
    let covered = |bit: u32| has(bit) || bit > SYS_ADMIN && has(SYS_ADMIN);
    NEEDED.iter().filter(|(bit, _)| !covered(*bit)).map(|(_, name)| *name).collect()
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_root_has_suffices_and_what_is_missing_is_named() {
        let root = effective("Name:\tx\nCapEff:\t000001ffffffffff\n");
        assert_eq!(root.map(missing), Some(vec![]));
        let nobody = effective("CapEff:\t0000000000000000\n");
        assert_eq!(nobody.map(missing).map(|names| names.len()), Some(NEEDED.len()));
        // CAP_SYS_ADMIN covers CAP_BPF and CAP_PERFMON, not the other way round.
        let old = 1 << 1 | 1 << 12 | 1 << 21;
        assert_eq!(missing(old), Vec::<&str>::new());
        assert_eq!(missing(old & !(1 << 21) | 1 << 38 | 1 << 39), ["CAP_SYS_ADMIN"]);
        assert_eq!(effective("CapEff:\tzz\n"), None);
    }
}
