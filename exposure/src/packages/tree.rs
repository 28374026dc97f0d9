//! A tree of files that somebody else may have made: read inside its root, bounded.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use hedgerow_hostfile::{Progress, Reader, Refused, Root, Whose, content};

/// Of a database.
const BYTES_MAX: u64 = 64 << 20;
/// Of all texts of a tree. Past it none is read: who made it may have one file in the place of a million.
const ALL_BYTES_MAX: u64 = 4 << 30;
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
    /// What paths of the host begin with that lie in it.
    root: PathBuf,
    /// Opened once: nobody exchanges it, and a magic link leads there whatever it reads as.
    directory: Root,
    /// Device and inode.
    id: (u64, u64),
    merged: Vec<&'static str>,
    reader: Reader,
    /// Bytes that were read.
    read: u64,
}

impl Tree {
    /// # Errors
    /// There is no such directory, or it doesn't answer.
    pub fn new(root: &Path) -> Result<Self, Refused> {
        let mut reader = Reader::new("package databases");
        let asked = root.to_owned();
        let whose = Whose::host(&root.to_string_lossy());
        let opened = reader.run(&whose, move |_| open(&asked))?;
        let Opened { root, directory, id, merged } = opened;
        Ok(Self { root, directory, id, merged, reader, read: 0 })
    }

    /// By which paths of the host are known that lie in it. `/proc/PID/root` of a process with a root of
    /// its own stays that: where it lies has no name here.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Device and inode of the root.
    pub fn id(&self) -> (u64, u64) {
        self.id
    }

    fn run<T: Send + 'static>(
        &mut self,
        path: &str,
        work: impl FnOnce(&Root, &Path, &Progress) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Refused> {
        let whose = Whose::host(&self.root.to_string_lossy());
        let (directory, path) = (self.directory.clone(), PathBuf::from(path));
        self.reader.run(&whose, move |progress| work(&directory, &path, progress))
    }

    /// A text below the root; `None` where there is none.
    pub fn text(&mut self, path: &str) -> Result<Option<String>, String> {
        if self.read > ALL_BYTES_MAX {
            return Err(format!("{path}: more than {ALL_BYTES_MAX} bytes were read of the tree"));
        }
        let read = self.run(path, |directory, path, progress| {
            content(directory.file(path)?, BYTES_MAX, progress)
        });
        match read {
            Ok(bytes) => {
                self.read += bytes.len() as u64;
                Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
            }
            Err(Refused::Io(why)) if why.kind() == ErrorKind::NotFound => Ok(None),
            Err(why) => Err(format!("{path}: {why}")),
        }
    }

    /// Names in a directory below the root, in order.
    pub fn names(&mut self, path: &str) -> Vec<String> {
        let found =
            self.run(path, |directory, path, progress| directory.names(path, NAMES_MAX, progress));
        let names = found.unwrap_or_default().into_iter();
        let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
        names.sort();
        names
    }

    /// The path as the kernel tells it, where only merged /usr stands between.
    pub fn real(&self, path: &str) -> String {
        let top = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        if self.merged.contains(&top) { format!("/usr{path}") } else { path.to_owned() }
    }

    /// What is there by a path that [`Self::real`] gave.
    pub fn stat(&mut self, path: &str) -> Option<Stat> {
        let found = self.run(path, |directory, path, _| directory.stat(path)).ok()?;
        let is_file = found.is_file();
        is_file.then(|| Stat { device: found.dev(), inode: found.ino(), mode: found.mode() })
    }
}

/// What of a [`Tree`] is found out once.
struct Opened {
    root: PathBuf,
    directory: Root,
    id: (u64, u64),
    merged: Vec<&'static str>,
}

fn open(asked: &Path) -> Result<Opened, Refused> {
    let directory = Root::open(asked)?;
    let found = directory.stat(Path::new("/"))?;
    let real = asked.canonicalize()?;
    let named = fs::metadata(&real)?;
    let same = (named.dev(), named.ino()) == (found.dev(), found.ino());
    let root = if same { real } else { std::path::absolute(asked)? };
    let leads = |name: &&'static str| {
        let leads = directory.link(Path::new(name));
        leads.is_ok_and(|to| to.strip_prefix("/").unwrap_or(&to) == Path::new("usr").join(name))
    };
    let merged = MERGED.into_iter().filter(leads).collect();
    Ok(Opened { root, directory, id: (found.dev(), found.ino()), merged })
}
