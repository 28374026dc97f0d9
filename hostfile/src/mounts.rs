//! Where file systems of a type are mounted.

use std::{fs, io, path::PathBuf};

/// The first mount of a file system of this type that shows all of it, by `/proc/self/mountinfo`.
/// Hybrid hosts have cgroup v2 at `/sys/fs/cgroup/unified`, beside the v1 controllers.
///
/// # Errors
/// `/proc` is not there.
pub fn mount_point(kind: &str) -> io::Result<Option<PathBuf>> {
    Ok(among(&fs::read_to_string("/proc/self/mountinfo")?, kind))
}

/// By the text of that file (proc(5)): a bind mount of a part is none.
fn among(mountinfo: &str, kind: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (system.split(' ').next()? == kind && root == "/").then(|| unescape(point).into())
    })
}

/// Octal escapes of mountinfo: space, tab, newline, backslash.
fn unescape(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (escape, character)| path.replace(escape, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_wherever_it_is_mounted() {
        let found = |text: &str| among(text, "cgroup2").map(|path| path.display().to_string());
        let hybrid = "30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      31 30 0:27 / /sys/fs/cgroup/unified rw,relatime shared:5 - cgroup2 cgroup2 rw\n";
        assert_eq!(found(hybrid).as_deref(), Some("/sys/fs/cgroup/unified"));
        let unified = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(found(unified).as_deref(), Some("/sys/fs/cgroup"));
        let spaced = "29 23 0:26 / /a\\040b rw - cgroup2 cgroup2 rw\n";
        assert_eq!(found(spaced).as_deref(), Some("/a b"));
        let bound = "31 30 0:27 /a /mnt rw - cgroup2 cgroup2 rw\n";
        assert_eq!(found(bound), None);
    }
}
