//! A tree of files that somebody else may have made: read inside its root, bounded.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use hedgerow_hostfile::{Reader, Refused, Whose, content, inside};

/// Of a database.
const BYTES_MAX: u64 = 64 << 20;
/// Names of a directory that are looked at.
const NAMES_MAX: usize = 65_536;
/// Directories at the top that are links into /usr where it is merged.
const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// A file as `stat` has it, not followed where it is a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    pub device: u64,
    pub inode: u64,
    pub mode: u32,
}

#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    merged: Vec<&'static str>,
    reader: Reader,
}

impl Tree {
    /// # Errors
    /// There is no such directory.
    pub fn new(root: &Path) -> std::io::Result<Self> {
        let root = root.canonicalize()?;
        fs::read_dir(&root)?;
        let leads = |name: &&'static str| {
            let leads = fs::read_link(root.join(name));
            leads.is_ok_and(|to| to.strip_prefix("/").unwrap_or(&to) == Path::new("usr").join(name))
        };
        let merged = MERGED.into_iter().filter(leads).collect();
        Ok(Self { merged, root, reader: Reader::new("package databases") })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A text below the root; `None` where there is none.
    pub fn text(&mut self, path: &str) -> Result<Option<String>, String> {
        let (root, below) = (self.root.clone(), PathBuf::from(path));
        let whose = Whose::host(&root.to_string_lossy());
        let read = self
            .reader
            .run(&whose, move |progress| content(inside(&root, &below)?, BYTES_MAX, progress));
        match read {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(Refused::Io(why)) if why.kind() == ErrorKind::NotFound => Ok(None),
            Err(why) => Err(format!("{path}: {why}")),
        }
    }

    /// Names in a directory below the root, in order; none of one that leads out of it.
    pub fn names(&self, path: &str) -> Vec<String> {
        let Ok(real) = self.root.join(path.trim_start_matches('/')).canonicalize() else {
            return Vec::new();
        };
        if !real.starts_with(&self.root) {
            return Vec::new();
        }
        let entries = fs::read_dir(real).into_iter().flatten().take(NAMES_MAX).flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The path as the kernel tells it, where only merged /usr stands between.
    pub fn real(&self, path: &str) -> String {
        let top = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        if self.merged.contains(&top) { format!("/usr{path}") } else { path.to_owned() }
    }

    /// What is there by a path that [`Self::real`] gave.
    pub fn stat(&self, path: &str) -> Option<Stat> {
        let found = fs::symlink_metadata(self.root.join(path.trim_start_matches('/'))).ok()?;
        let is_file = found.is_file();
        is_file.then(|| Stat { device: found.dev(), inode: found.ino(), mode: found.mode() })
    }
}
