//! Cgroups of the lab, below the cgroup v2 mount wherever it is.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::error::{At, Error, Result};

/// The mount point of cgroup v2, from `/proc/self/mountinfo` (hybrid layouts have it at
/// `/sys/fs/cgroup/unified`).
pub fn mount_point() -> Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").at("read", "/proc/self/mountinfo")?;
    find_mount_point(&text).ok_or(Error::NoCgroup2)
}

fn find_mount_point(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (fields, rest) = line.split_once(" - ")?;
        let mut fields = fields.split(' ').skip(3);
        // A mount of a part of the hierarchy (field 4 is its root) is a container's view.
        (rest.split(' ').next()? == "cgroup2" && fields.next()? == "/")
            .then(|| fields.next().map(PathBuf::from))
            .flatten()
    })
}

/// Kills everything in a cgroup and its descendants, and removes them. Absent is fine.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    fs::write(path.join("cgroup.kill"), "1")?;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match remove_tree(path) {
            Err(error) if Instant::now() > deadline => return Err(error),
            // Busy until the killed processes have been reaped.
            Err(_) => thread::sleep(Duration::from_millis(10)),
            Ok(()) => return Ok(()),
        }
    }
}

fn remove_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_in_both_layouts() {
        let unified = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let partial = "41 31 0:38 /user.slice /mnt rw,relatime - cgroup2 cgroup2 rw\n";
        let found = |text: &str| find_mount_point(text).map(|p| p.display().to_string());
        assert_eq!(found(unified).as_deref(), Some("/sys/fs/cgroup"));
        assert_eq!(found(hybrid).as_deref(), Some("/sys/fs/cgroup/unified"));
        assert_eq!(found(partial), None);
    }
}
