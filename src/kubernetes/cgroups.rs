//! Where pods run on this node: the kubelet gives each pod a cgroup with its uid in the name, and the runtime
//! one to each of its containers below that.

use std::{fs, io, os::unix::fs::DirEntryExt, path::Path};

use hedgerow_probe::identity::cgroup::Hierarchy;

/// Directories that are looked into, and how deep the pods' lie at most.
const DIRECTORIES_MAX: usize = 16_384;
const DEPTH_MAX: usize = 6;
/// Processes of a container that are looked at for what they run.
const PROCESSES_MAX: usize = 64;

/// The cgroup of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodCgroup {
    /// Of its pod.
    pub uid: String,
    pub cgroup_id: u64,
    /// Some of what runs in it, by number and path.
    pub programs: Vec<(u32, String)>,
}

/// The cgroups of all containers of pods. Not for the main loop: it reads as many directories as there are.
///
/// # Errors
/// There is no hierarchy, or there are too many directories.
pub fn read() -> io::Result<Vec<PodCgroup>> {
    below(Hierarchy::open()?.mount())
}

fn below(mount: &Path) -> io::Result<Vec<PodCgroup>> {
    let mut found = Vec::new();
    let mut waiting = vec![(mount.to_owned(), 0, false)];
    let mut looked = 0;
    while let Some((directory, depth, of_pods)) = waiting.pop() {
        // One that has gone meanwhile held nothing.
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten().filter(|one| one.file_type().is_ok_and(|kind| kind.is_dir()))
        {
            looked += 1;
            if looked > DIRECTORIES_MAX {
                return Err(io::Error::other(format!("more than {DIRECTORIES_MAX} cgroups")));
            }
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let of_pods = of_pods || name.contains("kubepods");
            match pod_uid(&name).filter(|_| of_pods) {
                Some(uid) => found.extend(containers(&entry.path(), &uid)),
                // What else is no slice holds no pods.
                None if depth < DEPTH_MAX && (of_pods || name.ends_with(".slice")) => {
                    waiting.push((entry.path(), depth + 1, of_pods));
                }
                None => {}
            }
        }
    }
    Ok(found)
}

/// The uid in the name of a pod's cgroup: `kubepods-burstable-podUID.slice`, with `_` for `-`, or `podUID`.
fn pod_uid(name: &str) -> Option<String> {
    let uid = match name.strip_suffix(".slice") {
        Some(stem) => stem.rsplit_once("-pod")?.1.replace('_', "-"),
        None => name.strip_prefix("pod")?.to_owned(),
    };
    (!uid.is_empty()).then_some(uid)
}

fn containers(pod: &Path, uid: &str) -> Vec<PodCgroup> {
    let Ok(entries) = fs::read_dir(pod) else { return Vec::new() };
    let directories =
        entries.flatten().filter(|one| one.file_type().is_ok_and(|kind| kind.is_dir()));
    let of = |one: fs::DirEntry| PodCgroup {
        uid: uid.to_owned(),
        cgroup_id: one.ino(),
        programs: programs(&one.path()),
    };
    directories.map(of).collect()
}

fn programs(cgroup: &Path) -> Vec<(u32, String)> {
    let procs = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let pids = procs.lines().filter_map(|line| line.parse().ok()).take(PROCESSES_MAX);
    let path = |pid: u32| {
        let path = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        (pid, path.to_string_lossy().into_owned())
    };
    pids.map(path).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn containers_are_found_by_their_pods_uid_under_either_driver() {
        let home = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let path = home.path().join(path);
            fs::create_dir_all(&path).unwrap();
            path.metadata().unwrap().ino()
        };
        let one = make(
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-poda_b.slice/cri-containerd-1.scope/x",
        );
        let two = make("kubepods/besteffort/podc-d/2");
        let three =
            make("kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pode_f.slice/crio-3.scope");
        make("system.slice/podx.service/4");
        make("system.slice/x-pody.slice/5");
        let mut found: Vec<(String, u64)> =
            below(home.path()).unwrap().into_iter().map(|one| (one.uid, one.cgroup_id)).collect();
        found.sort();
        let inside = home.path().join(
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-poda_b.slice/cri-containerd-1.scope",
        );
        assert_ne!(one, inside.metadata().unwrap().ino());
        let one = inside.metadata().unwrap().ino();
        let of = |uid: &str, id| (uid.to_owned(), id);
        assert_eq!(found, [of("a-b", one), of("c-d", two), of("e-f", three)]);
    }
}
