//! How a file lies to the host: whether a path in the host's database speaks of it.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

use super::Sources;

pub const OVERLAYFS_SUPER_MAGIC: i64 = 0x794c_7630;

/// What is known of a file that was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Setting {
    /// The host has this very file at its path.
    pub host: bool,
    /// The host has it, or the process's root directory is the host's: what is not the host's own
    /// lies in a directory of a service's own, as its `/tmp` does.
    pub tree: bool,
    /// It belongs to root, and nobody else can write it.
    pub own: bool,
}

/// The host's tree of files.
#[derive(Debug)]
pub struct Host {
    tree: PathBuf,
    owner: u32,
    /// Device and inode of its root directory.
    root: Option<(u64, u64)>,
    /// It lies on overlayfs itself, so that a layer alone doesn't mean a container.
    pub layered: bool,
}

impl Host {
    pub fn new(sources: &Sources) -> Self {
        let Sources { tree, owner, .. } = sources.clone();
        let root = File::open(&tree).ok();
        let layered = root.as_ref().is_some_and(|root| magic(root) == OVERLAYFS_SUPER_MAGIC);
        let root = root.and_then(|root| identity(&root.metadata()));
        Self { tree, owner, root, layered }
    }

    /// Of a file that a process knows by an absolute path; what its parent sees is the same where
    /// it has the file at that path, too. May wait for a file system.
    pub fn setting(
        &self,
        path: &str,
        metadata: &Metadata,
        process: u32,
        parent: Option<u32>,
    ) -> Setting {
        let file = Some((metadata.dev(), metadata.ino()));
        let at = path.strip_prefix('/').map(|path| self.tree.join(path));
        let host = at.is_some_and(|at| identity(&fs::symlink_metadata(at)) == file);
        let rooted = |process| {
            let root = identity(&fs::metadata(format!("/proc/{process}/root/.")));
            root.is_some() && root == self.root
        };
        let sees =
            |parent| identity(&fs::symlink_metadata(format!("/proc/{parent}/root{path}"))) == file;
        let tree = || rooted(process) || parent.is_some_and(|p| rooted(p) && sees(p));
        Setting {
            host,
            tree: host || tree(),
            own: metadata.uid() == self.owner && metadata.mode() & 0o022 == 0,
        }
    }
}

fn identity(metadata: &io::Result<Metadata>) -> Option<(u64, u64)> {
    metadata.as_ref().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// `statfs::f_type`; 0 where it isn't told.
pub fn magic(file: &File) -> i64 {
    use std::os::fd::AsRawFd;
    // SAFETY: all zeros is a valid `statfs`, which the call fills.
    unsafe {
        let mut status: libc::statfs = std::mem::zeroed();
        if libc::fstatfs(file.as_raw_fd(), &raw mut status) == 0 { status.f_type } else { 0 }
    }
}
