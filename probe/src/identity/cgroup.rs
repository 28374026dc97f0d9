//! cgroup v2 ids and paths: an id is the inode number of its directory.

use std::{
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::{Path, PathBuf},
};

/// The mounted cgroup v2 hierarchy.
#[derive(Debug)]
pub struct Hierarchy {
    mount: PathBuf,
    directory: OwnedFd,
}

/// `struct file_handle` with room for kernfs's eight-byte id.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    id: u64,
}

/// `FILEID_KERNFS` of `include/linux/exportfs.h`.
const FILEID_KERNFS: i32 = 0xfe;

impl Hierarchy {
    /// Opens the hierarchy that this process sees.
    pub fn open() -> io::Result<Self> {
        let mount = hedgerow_hostfile::mount_point("cgroup2")?
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "cgroup v2 is not mounted"))?;
        let directory = OwnedFd::from(fs::File::open(&mount)?);
        Ok(Self { mount, directory })
    }

    /// Where cgroup v2 is mounted.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// The path of a living cgroup below the mount point, `/` for the root; `None` once it is gone.
    pub fn path(&self, id: u64) -> Option<String> {
        let mut handle = Handle { bytes: 8, kind: FILEID_KERNFS, id };
        // SAFETY: `Handle` has the layout of `struct file_handle` followed by its eight bytes, as
        // `bytes` says, and lives through the call; the descriptor is ours.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_open_by_handle_at,
                self.directory.as_raw_fd(),
                std::ptr::from_mut(&mut handle),
                libc::O_PATH | libc::O_CLOEXEC,
            )
        };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
        // SAFETY: the call above returned this descriptor to us alone.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let full = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
        // A name may be any bytes: who chooses others than text isn't nobody for it.
        let below = full.strip_prefix(&self.mount).ok()?.to_string_lossy();
        if below.ends_with(" (deleted)") {
            return None;
        }
        Some(format!("/{below}"))
    }

    /// The id of the cgroup at `path` below the mount point.
    pub fn id(&self, path: &str) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt;
        Ok(fs::metadata(self.mount.join(path.trim_start_matches('/')))?.ino())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_cgroup_is_found_by_its_id() {
        let hierarchy = Hierarchy::open().unwrap();
        let name = format!("hedgerow-test-{}", std::process::id());
        let directory = hierarchy.mount().join(&name);
        fs::create_dir(&directory).unwrap();
        let id = hierarchy.id(&name).unwrap();
        let found = hierarchy.path(id);
        fs::remove_dir(&directory).unwrap();
        assert_eq!(found, Some(format!("/{name}")));
        assert_eq!(hierarchy.path(id), None, "it is gone");
        let root = hierarchy.id("/").unwrap();
        assert_eq!(hierarchy.path(root).as_deref(), Some("/"));
    }
}
