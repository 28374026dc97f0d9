//! Hedgerow's own place among processes and cgroups: no entry may stop Hedgerow itself.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use hedgerow_event::Target;

use crate::{target::ROOT_CGROUP, unit::root_id};

/// This process with the ones above it, and the cgroups it is in.
#[derive(Debug, Default)]
pub(crate) struct Own {
    pub tgids: Vec<u32>,
    cgroups: HashSet<u64>,
    /// Ids of the hierarchy's root: the kernel's, and that of what is mounted here.
    pub roots: Vec<u64>,
    pub cgroup_root: PathBuf,
}

impl Own {
    /// Reads `/proc`; what can't be read is left out.
    pub fn read(cgroup_root: &Path) -> Self {
        let mut tgids = vec![std::process::id()];
        while let Some(parent) = tgids.last().and_then(|tgid| parent(*tgid)) {
            if parent == 0 || tgids.contains(&parent) {
                break;
            }
            tgids.push(parent);
        }
        let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let path = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let cgroups = cgroup_root
            .join(path)
            .ancestors()
            .take_while(|path| path.starts_with(cgroup_root))
            .filter_map(|path| fs::metadata(path).ok())
            .map(|metadata| metadata.ino())
            .collect();
        let roots = [Some(ROOT_CGROUP), root_id(cgroup_root)].into_iter().flatten().collect();
        Self { tgids, cgroups, roots, cgroup_root: cgroup_root.to_owned() }
    }

    /// Why the target would stop Hedgerow, if it would.
    pub fn inside(&self, target: &Target) -> Option<&'static str> {
        match target {
            Target::TaskTree { tgid, .. } if self.tgids.contains(tgid) => {
                Some("Hedgerow, or a process above it,")
            }
            Target::Cgroup { cgroup_id, .. } | Target::Program { cgroup_id, .. }
                if self.roots.contains(cgroup_id) =>
            {
                Some("the root cgroup")
            }
            Target::Peer { cgroup_id, program_id, .. }
                if self.roots.contains(cgroup_id) && *program_id != 0 =>
            {
                Some("the root cgroup")
            }
            Target::Cgroup { cgroup_id, .. } if self.cgroups.contains(cgroup_id) => {
                Some("Hedgerow's own cgroup")
            }
            _ => None,
        }
    }
}

/// Fourth field of `/proc/PID/stat`; the second may hold anything, also parentheses.
fn parent(tgid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{tgid}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_and_its_parents_are_its_own() {
        let own = Own::read(Path::new("/sys/fs/cgroup"));
        assert!(own.tgids.len() >= 2, "{own:?}");
        for tgid in &own.tgids {
            assert!(own.inside(&Target::TaskTree { tgid: *tgid, start_boot_ns: 1 }).is_some());
        }
        assert!(own.inside(&Target::TaskTree { tgid: u32::MAX, start_boot_ns: 1 }).is_none());
        let address = std::net::Ipv4Addr::new(192, 0, 2, 1).into();
        for cgroup_id in own.roots.iter().copied() {
            let path = std::sync::Arc::<str>::from("/");
            let file = hedgerow_event::FileKey { inode: 7, ..Default::default() };
            let program = Target::Program { cgroup_id, file, path: path.clone(), network: false };
            let peer = Target::Peer { address, prefix_length: 32, cgroup_id, program_id: 9 };
            for target in [Target::Cgroup { cgroup_id, path }, program, peer] {
                assert_eq!(own.inside(&target), Some("the root cgroup"), "{target}");
            }
        }
    }
}
