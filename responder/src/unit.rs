//! Which process a service stands and falls with: its first. What counts is its age, and who forked
//! it, as the kernel kept it: a process that forks twice to be init's child, or is put into the unit
//! from outside, is not.

use std::{
    collections::VecDeque,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use hedgerow_bpf::wire;

/// A process that has listened for so long is a service, in ns: a fresh one may be a backdoor.
pub(crate) const LISTENS_MIN_NS: u64 = 600 * 1_000_000_000;

/// Processes of a unit, and cgroups below it, that are looked at. Past it the process counts as one of
/// many: who forks without end is not to get a minute for it.
const MEMBERS_MAX: usize = 16_384;
const CGROUPS_MAX: usize = 256;

/// The cgroup of a process below the root of the hierarchy; `None` for the root and for what is gone.
pub(crate) fn cgroup_of(tgid: u32) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{tgid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    (!path.is_empty()).then(|| path.into())
}

/// Whether a process's cgroup lies so deep that an entry for it would not hold for those below it: whoever may
/// make them leaves it with one more.
pub fn is_deep(tgid: u32) -> bool {
    let depth = cgroup_of(tgid).map_or(0, |cgroup| cgroup.components().count());
    depth >= wire::DENY_LEVELS_MAX as usize - 1
}

/// The service, scope or container that a cgroup is, or is a part of.
pub(crate) fn unit_of(cgroup: &Path) -> Option<PathBuf> {
    let is_unit = |name: &str| name.ends_with(".service") || name.ends_with(".scope");
    let is_container = |name: &str| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
    let named = |accept: &dyn Fn(&str) -> bool| {
        let mut whole = PathBuf::new();
        for part in cgroup.components() {
            whole.push(part);
            if part.as_os_str().to_str().is_some_and(accept) {
                return Some(whole);
            }
        }
        None
    };
    named(&is_unit).or_else(|| named(&is_container))
}

/// One who forked a process, nearest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Forker {
    /// It lives, in this cgroup; `None` is the root.
    Lives(Option<PathBuf>),
    Exited,
}

/// Nobody who lives inside of the process's unit has forked it: it is the unit's first process, or
/// what that left behind when it went to the background. Of who has more forkers than are remembered,
/// all of them exited, nothing is known: it is not.
pub(crate) fn is_first(unit: &Path, forkers: &[Forker], all_known: bool) -> bool {
    for forker in forkers {
        match forker {
            Forker::Exited => {}
            Forker::Lives(cgroup) => {
                return !cgroup.as_deref().is_some_and(|cgroup| cgroup.starts_with(unit));
            }
        }
    }
    all_known
}

/// Some process of the unit is of a kind that `is_older` knows. `None` where there are too many.
pub(crate) fn any_member(
    root: &Path,
    unit: &Path,
    mut is_older: impl FnMut(u32) -> bool,
) -> Option<bool> {
    let mut cgroups = VecDeque::from([root.join(unit)]);
    let (mut members, mut seen) = (0, 0);
    while let Some(cgroup) = cgroups.pop_front() {
        seen += 1;
        let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        for tgid in text.lines().filter_map(|line| line.parse().ok()) {
            members += 1;
            if is_older(tgid) {
                return Some(true);
            }
            if members >= MEMBERS_MAX {
                return None;
            }
        }
        let below = fs::read_dir(&cgroup).into_iter().flatten().flatten();
        let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        for entry in below {
            if cgroups.len() + seen >= CGROUPS_MAX {
                return None;
            }
            cgroups.push_back(entry.path());
        }
    }
    Some(false)
}

/// The inode, which is the kernel's id, of the root of a cgroup hierarchy.
pub(crate) fn root_id(root: &Path) -> Option<u64> {
    fs::metadata(root).ok().map(|metadata| metadata.ino())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn unit(cgroup: &str) -> Option<String> {
        unit_of(Path::new(cgroup)).map(|unit| unit.display().to_string())
    }

    fn lives(cgroup: &str) -> Forker {
        Forker::Lives((!cgroup.is_empty()).then(|| cgroup.into()))
    }

    /// Needs root.
    #[test]
    fn who_lies_deep_is_told_by_where_the_kernel_has_him() {
        let top =
            crate::kernel::cgroup_root().unwrap().join(format!("deep-{}", std::process::id()));
        let mut sleeper = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let mut found = Vec::new();
        let mut cgroup = top.clone();
        let mut made = Vec::new();
        for depth in 1..=12 {
            fs::create_dir(&cgroup).unwrap();
            fs::write(cgroup.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
            found.push((depth, is_deep(sleeper.id())));
            made.push(cgroup.clone());
            cgroup.push("x");
        }
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        made.iter().rev().for_each(|made| fs::remove_dir(made).unwrap());
        assert_eq!(found, (1..=12).map(|depth| (depth, depth >= 11)).collect::<Vec<_>>());
    }

    #[test]
    fn a_unit_is_a_service_a_scope_or_a_container_with_all_below_it() {
        let id = "a".repeat(64);
        let pod = format!("kubepods/burstable/pod7/{id}");
        for (cgroup, whole) in [
            ("system.slice/nginx.service", "system.slice/nginx.service"),
            ("system.slice/nginx.service/workers/1", "system.slice/nginx.service"),
            ("user.slice/user-0.slice/session-1.scope", "user.slice/user-0.slice/session-1.scope"),
            (&format!("{pod}/inner"), &pod),
        ] {
            assert_eq!(unit(cgroup).as_deref(), Some(whole));
        }
        assert_eq!(unit("made/by/anybody"), None);
    }

    #[test]
    fn the_first_process_is_whom_nobody_of_the_unit_forked() {
        let nginx = Path::new("system.slice/nginx.service");
        let (inside, outside) = (lives("system.slice/nginx.service/x"), lives("init.scope"));
        let gone = Forker::Exited;
        assert!(is_first(nginx, std::slice::from_ref(&outside), true));
        assert!(is_first(nginx, &[lives("")], true), "forked from the root cgroup");
        assert!(is_first(nginx, &[gone.clone(), outside.clone()], true), "in the background");
        assert!(is_first(nginx, std::slice::from_ref(&gone), true));
        assert!(!is_first(nginx, &[inside.clone(), outside.clone()], true), "a worker");
        assert!(!is_first(nginx, &[gone.clone(), gone.clone(), inside, outside], true), "orphan");
        assert!(!is_first(nginx, &[gone.clone(), gone], false), "nothing is known");
        assert!(!is_first(nginx, &[lives("system.slice/nginx.service")], true));
    }
}
