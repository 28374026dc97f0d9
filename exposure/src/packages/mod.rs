//! Which files a package has, by the databases of a tree: the host's, or a container's. Whoever can
//! write there can lie about itself.

mod apk;
mod dpkg;
mod node;
mod python;
mod tree;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

pub use self::tree::Tree;
use crate::report::{Manager, Vulnerability};

/// Packages of one name, of which a source has some hundred at most. More are not looked at.
const PACKAGES_MAX: usize = 1024;
/// What the paths of a database's packages take in memory; past it files aren't known.
const PATHS_BYTES_MAX: usize = 256 << 20;
/// Of a path beside its text.
const PATH_BYTES: usize = 64;

/// Files of a package, by their absolute paths in the tree, links of merged /usr followed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    pub paths: BTreeSet<String>,
    /// Directories, each with a slash at its end, of which everything is the package's but for
    /// what lies in a `node_modules` below.
    pub under: Vec<String>,
}

impl Files {
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.under.is_empty()
    }
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub source: Option<String>,
    pub version: String,
    /// The source's version, where it is another.
    pub source_version: Option<String>,
    pub manager: Manager,
    /// Or why they aren't known.
    pub files: Result<Arc<Files>, String>,
}

/// Room for paths.
#[derive(Debug)]
struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(PATHS_BYTES_MAX)
    }
}

impl Room {
    /// For a path of so many bytes.
    fn take(&mut self, bytes: usize) -> Result<(), String> {
        let left = self.0.checked_sub(bytes.saturating_add(PATH_BYTES));
        self.0 = left
            .ok_or_else(|| format!("its lists have more than {PATHS_BYTES_MAX} bytes of paths"))?;
        Ok(())
    }
}

fn too_many(name: &str) -> String {
    format!("more than {PACKAGES_MAX} packages are called {name} there")
}

/// Names of packages, with where they are in a list.
#[derive(Debug, Default)]
struct Index(HashMap<String, Vec<usize>>);

impl Index {
    fn add(&mut self, name: &str, at: usize) {
        let found = self.0.entry(name.to_owned()).or_default();
        if found.last() != Some(&at) {
            found.push(at);
        }
    }
    fn of(&self, name: &str) -> Result<&[usize], String> {
        let found = self.0.get(name).map_or(&[][..], Vec::as_slice);
        if found.len() > PACKAGES_MAX { Err(too_many(name)) } else { Ok(found) }
    }
}

/// The databases of a tree, read as they are asked for.
#[derive(Debug)]
pub struct Databases {
    tree: Tree,
    dpkg: Option<Result<dpkg::Database, String>>,
    apk: Option<Result<apk::Database, String>>,
}

impl Databases {
    pub fn new(tree: Tree) -> Self {
        Self { tree, dpkg: None, apk: None }
    }

    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    pub fn tree_mut(&mut self) -> &mut Tree {
        &mut self.tree
    }

    /// The installed packages that a report means: by the name of the binary or the source package.
    ///
    /// # Errors
    /// Why it isn't known, in words.
    pub fn find(&mut self, meant: &Vulnerability) -> Result<Vec<Package>, String> {
        let Self { tree, dpkg, apk } = self;
        let found = match meant.manager {
            Manager::Dpkg => {
                let database = dpkg.get_or_insert_with(|| dpkg::Database::read(tree));
                database.as_mut().map_err(|why| why.clone())?.find(tree, &meant.package)?
            }
            Manager::Apk => {
                let database = apk.get_or_insert_with(|| apk::Database::read(tree));
                database.as_ref().map_err(|why| why.clone())?.find(&meant.package)?
            }
            Manager::Python => python::find(tree, meant)?,
            Manager::Node => node::find(tree, meant),
            Manager::Rpm => return Err("rpm's database is not read".into()),
            Manager::Java | Manager::Other => return archive(tree, meant).map(|found| vec![found]),
        };
        if found.is_empty() {
            return Err(format!("no package {} is installed there", meant.package));
        }
        Ok(found)
    }
}

/// What is a file of its own by the report: an archive, or a program that was built with it.
fn archive(tree: &mut Tree, meant: &Vulnerability) -> Result<Package, String> {
    let path = meant.path.as_deref().unwrap_or_default();
    // `app.jar:BOOT-INF/lib/x.jar` lies in app.jar.
    let path = path.split(':').next().unwrap_or_default();
    let archives = [".jar", ".war", ".ear", ".so"];
    let path = format!("/{}", path.trim_start_matches('/'));
    let named = archives.iter().any(|ending| path.ends_with(ending));
    match tree.stat(&path) {
        Some(found) if named || found.mode & 0o111 != 0 => Ok(Package {
            name: meant.package.clone(),
            source: None,
            version: meant.version.clone(),
            source_version: None,
            manager: meant.manager,
            files: Ok(Files { paths: [tree.real(&path)].into(), under: Vec::new() }.into()),
        }),
        _ => Err("the report names no program or archive that it lies in".into()),
    }
}

/// A path without `.` and `..`.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
