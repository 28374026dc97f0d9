//! Paths without links, as the kernel tells those of executed files.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::Sources;

/// Directories remembered in one reading of the database.
const LINKS_MAX: usize = 1 << 18;
const LINK_DEPTH: usize = 8;

/// Directories behind links: packages say `/bin/x` where `/bin` leads to `/usr/bin`.
#[derive(Debug)]
pub struct Links {
    tree: PathBuf,
    owner: u32,
    real: HashMap<String, Arc<str>>,
}

impl Links {
    pub fn new(sources: &Sources) -> Self {
        let Sources { tree, owner, .. } = sources;
        Self { tree: tree.clone(), owner: *owner, real: HashMap::new() }
    }

    /// A file's path with the links in its directory's followed.
    pub fn real(&mut self, path: &str) -> String {
        match path.rsplit_once('/') {
            Some((directory, name)) => format!("{}/{name}", self.directory(directory, 0)),
            None => path.to_owned(),
        }
    }

    fn directory(&mut self, path: &str, depth: usize) -> Arc<str> {
        if let Some(real) = self.real.get(path) {
            return Arc::clone(real);
        }
        let Some((above, name)) = path.rsplit_once('/') else { return path.into() };
        let here = format!("{}/{name}", self.directory(above, depth));
        let real = match self.link(&here) {
            Some(target) if depth < LINK_DEPTH => {
                let from =
                    if target.starts_with('/') { "" } else { &here[..here.len() - name.len() - 1] };
                self.directory(&normal(from, &target), depth + 1)
            }
            _ => here.into(),
        };
        if self.real.len() < LINKS_MAX {
            self.real.insert(path.to_owned(), Arc::clone(&real));
        }
        real
    }

    /// Where a link leads that somebody believed has made.
    fn link(&self, path: &str) -> Option<String> {
        let place = self.tree.join(Path::new(path).strip_prefix("/").ok()?);
        let metadata = fs::symlink_metadata(&place).ok()?;
        if !metadata.is_symlink() || metadata.uid() != self.owner {
            return None;
        }
        fs::read_link(&place).ok()?.into_os_string().into_string().ok()
    }
}

/// A target below a directory, without `.` and `..`.
fn normal(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.iter().flat_map(|part| ["/", part]).collect()
}
