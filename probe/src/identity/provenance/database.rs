//! What dpkg's database says of paths: which package owns it, with which content.
//!
//! dpkg puts a package's new files in place before it replaces what it says of them, and keeps the
//! new digests in `tmp.ci` meanwhile; changes of states are in `updates` until all is done. Both
//! are read, so that a program that runs while its package is being upgraded is the package's.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    io,
};

use hedgerow_hostfile::dpkg::{self, Diversions, Md5, Package, Packages};

use super::{
    Sources,
    believed::{Directory, Stamp, now_ns},
    links::Links,
    lists::Lists,
};

/// Files of all packages together; past it nothing is said to be owned by none.
pub const FILES_MAX: usize = 1 << 20;
/// Names in `info/` and in `updates/`.
const NAMES_MAX: usize = 1 << 17;
const STATUS_BYTES_MAX: u64 = 64 << 20;
/// Of one package's digests or paths, of the diversions and of one update.
const TEXT_BYTES_MAX: u64 = 16 << 20;
/// Times that a database is read anew because it changed while it was read.
const TRIES: usize = 3;
/// Scripts of a package that dpkg runs.
const SCRIPTS: [&str; 5] = ["preinst", "postinst", "prerm", "postrm", "config"];
/// The package that is being unpacked.
const UNPACKED: &str = "tmp.ci";

/// Number of a package.
type Number = u32;

/// A file of a package, by hashes whose key nobody else has. There are some hundred thousand.
#[derive(Debug, Clone, Copy)]
#[repr(C, packed(4))]
struct Entry {
    path: u64,
    /// Of its digest. 0: the package has none of it.
    content: u64,
    package: Number,
}

/// Who owns a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// It is not known whether anybody does.
    Unknown,
    None,
    /// A package that may be of a signed list, or is of none; with this content, or with any that
    /// the database has no digest of.
    Package {
        signed: bool,
    },
    /// A package, with other content.
    Other,
    /// A package; its content was not asked for, or there is no digest to compare it with.
    Some,
}

/// One reading of the database.
#[derive(Debug, Default)]
pub struct Database {
    hasher: RandomState,
    /// Sorted by path: what packages hold, and their configuration files.
    entries: Vec<Entry>,
    conffiles: Vec<Entry>,
    /// Packages that no signed list holds.
    unsigned: HashSet<Number>,
    /// Packages by the stems of their files.
    stems: HashMap<String, Number>,
    /// Of `tmp.ci`, where a package is being unpacked.
    unpacked: Option<Number>,
    /// Every package's files are known.
    complete: bool,
    /// The database's own directory, as processes see it.
    prefix: String,
}

impl Database {
    /// Files of packages.
    #[cfg(test)]
    pub fn files(&self) -> usize {
        self.entries.len() + self.conffiles.len()
    }

    /// Who owns an absolute path without links in it. `own`: the file belongs to root, and nobody
    /// else can write it, so that a package's script in the database is what dpkg put there.
    pub fn owner(&self, path: &str, own: bool, md5: Option<Md5>) -> Owner {
        if let Some(number) = self.script_of(path) {
            return if own { self.package(number) } else { Owner::Other };
        }
        let hash = self.hasher.hash_one(path);
        let content = content(&self.hasher, md5);
        let mut owner = if self.complete { Owner::None } else { Owner::Unknown };
        // Packages of several architectures may share a file.
        for entry in at(&self.entries, hash).chain(at(&self.conffiles, hash)) {
            match (content, entry.content) {
                (0, _) | (_, 0) => owner = Owner::Some,
                (content, known) if content == known => return self.package(entry.package),
                _ if owner != Owner::Some => owner = Owner::Other,
                _ => {}
            }
        }
        owner
    }

    fn package(&self, number: Number) -> Owner {
        Owner::Package { signed: !self.unsigned.contains(&number) }
    }

    /// The package of which dpkg runs a script at this path.
    fn script_of(&self, path: &str) -> Option<Number> {
        let name = path.strip_prefix(&*self.prefix)?.strip_prefix('/')?;
        if let Some(script) = name.strip_prefix("tmp.ci/") {
            return self.unpacked.filter(|_| SCRIPTS.contains(&script));
        }
        let (stem, script) = name.strip_prefix("info/")?.rsplit_once('.')?;
        SCRIPTS.contains(&script).then(|| self.stems.get(stem).copied()).flatten()
    }
}

/// What stands for a digest; 0 for none.
fn content(hasher: &RandomState, md5: Option<Md5>) -> u64 {
    md5.map_or(0, |md5| hasher.hash_one(md5).max(1))
}

fn at(entries: &[Entry], path: u64) -> impl Iterator<Item = &Entry> {
    let first = entries.partition_point(|entry| entry.path < path);
    entries[first..].iter().take_while(move |entry| entry.path == path)
}

/// What is kept to read only what has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Stamps {
    tree: Option<Stamp>,
    diversions: Option<Stamp>,
    rest: [Option<Stamp>; 5],
}

/// A package's files in `info/`, as they were read.
#[derive(Debug, Clone)]
struct Known {
    number: Number,
    /// `None`, too, where it tells nothing: the files had just changed.
    stamp: Option<Stamp>,
}

/// Reads the database, at first whole and then what changed.
#[derive(Debug)]
pub struct Loader {
    sources: Sources,
    stamps: Stamps,
    /// When it was last read, by [`now_ns`].
    read_ns: i128,
    known: HashMap<String, Known>,
    next: Number,
    lists: Lists,
    hasher: RandomState,
}

impl Loader {
    pub fn new(sources: Sources) -> Self {
        Self {
            sources,
            stamps: Stamps::default(),
            read_ns: 0,
            known: HashMap::new(),
            next: 0,
            lists: Lists::default(),
            hasher: RandomState::new(),
        }
    }

    #[cfg(test)]
    pub fn told(&self, database: &Database) -> String {
        let (packages, unsigned) = (database.stems.len(), database.unsigned.len());
        let (files, listed) = (database.files(), self.lists.len());
        format!("{packages} packages, {unsigned} unsigned, {files} files, {listed} packages listed")
    }

    fn root(&self) -> io::Result<Directory> {
        Directory::root(&self.sources.root, self.sources.owner)
    }

    fn look(&self, root: &Directory) -> Stamps {
        let dpkg = root.below("var/lib/dpkg").ok();
        let of = |name: &str| dpkg.as_ref().and_then(|dpkg| dpkg.stamp_of(name));
        let lists = root.below("var/lib/apt/lists").ok();
        Stamps {
            tree: Directory::root(&self.sources.tree, self.sources.owner)
                .ok()
                .and_then(|tree| tree.stamp()),
            diversions: of("diversions"),
            rest: [
                of("status"),
                of("info"),
                of("updates"),
                of(UNPACKED),
                lists.and_then(|lists| lists.stamp()),
            ],
        }
    }

    /// Whether the database may differ from what was read.
    pub fn is_stale(&self) -> bool {
        let Ok(root) = self.root() else { return false };
        let stamps = self.look(&root);
        let mut all = [stamps.diversions].into_iter().chain(stamps.rest).flatten();
        stamps != self.stamps || all.any(|stamp| !stamp.is_settled(self.read_ns))
    }

    /// The database as it is; `old` is what this returned last.
    ///
    /// # Errors
    /// There is none, or it isn't believed.
    pub fn read(&mut self, old: Option<&Database>) -> io::Result<Database> {
        let root = self.root()?;
        let mut last = None;
        for _ in 0..TRIES {
            let stamps = self.look(&root);
            let moved =
                stamps.tree != self.stamps.tree || stamps.diversions != self.stamps.diversions;
            let base = last.as_ref().or(old).filter(|_| !moved);
            if base.is_none() {
                self.known.clear();
            }
            self.read_ns = now_ns();
            let database = self.attempt(&root, base, &stamps)?;
            self.stamps = stamps;
            if self.look(&root) == self.stamps {
                return Ok(database);
            }
            last = Some(database);
        }
        // dpkg is at work all the time; what is asked next is read anew.
        self.stamps = Stamps {
            tree: self.stamps.tree,
            diversions: self.stamps.diversions,
            ..Stamps::default()
        };
        last.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn attempt(
        &mut self,
        root: &Directory,
        base: Option<&Database>,
        stamps: &Stamps,
    ) -> io::Result<Database> {
        let dpkg = root.below("var/lib/dpkg")?;
        let info = dpkg.below("info")?;
        let packages = packages(&dpkg)?;
        let text = |name: &str| dpkg.read(name, TEXT_BYTES_MAX);
        let diversions = match text("diversions") {
            Ok(bytes) => Diversions::parse(&String::from_utf8_lossy(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Diversions::default(),
            Err(error) => return Err(error),
        };
        let mut reading = Reading {
            database: Database {
                hasher: self.hasher.clone(),
                complete: true,
                prefix: self.sources.prefix.clone(),
                ..Database::default()
            },
            links: Links::new(&self.sources),
            diversions,
            base,
            kept: HashSet::new(),
        };
        let names: HashSet<String> = info.names(NAMES_MAX)?.into_iter().collect();
        let mut known = HashMap::with_capacity(packages.len());
        for (stem, package) in &packages {
            let files = [".md5sums", ".list"].map(|end| format!("{stem}{end}"));
            let mut files = files.iter().filter(|name| names.contains(*name));
            let stamp = files.clone().next().and_then(|name| info.stamp_of(name));
            let settled = stamp.filter(|stamp| stamp.is_settled(self.read_ns));
            let before = self.known.get(stem).filter(|before| before.stamp == stamp);
            let number = before.map_or(self.next, |before| before.number);
            known.insert(stem.clone(), Known { number, stamp: settled });
            reading.database.stems.insert(stem.clone(), number);
            if before.is_some() {
                reading.kept.insert(number);
            } else {
                self.next += 1;
                let listed = files.clone().next().is_some();
                let added = files.any(|name| reading.add(&info, name, package, number).is_ok());
                reading.database.complete &= added || !listed;
            }
        }
        reading.unpacked(&dpkg, self.next);
        self.next += 1;
        self.known = known;
        self.sign(root, &packages, &mut reading, stamps);
        Ok(reading.finish(&packages))
    }

    /// Tells which packages no signed list holds.
    fn sign(
        &mut self,
        root: &Directory,
        packages: &Packages,
        reading: &mut Reading<'_>,
        stamps: &Stamps,
    ) {
        if stamps.rest[4] != self.lists.stamp {
            let directory = root.below("var/lib/apt/lists");
            let lists = directory.map(|lists| Lists::read(&lists, &self.hasher));
            self.lists = lists.unwrap_or_default();
        }
        let hasher = &self.hasher;
        for (stem, package) in packages {
            let Package { name, architecture, version, .. } = package;
            if !self.lists.may_hold(hasher, name, architecture, version)
                && let Some(number) = reading.database.stems.get(stem)
            {
                reading.database.unsigned.insert(*number);
            }
        }
        if let Some((number, package)) = reading.unpacked_package(root) {
            let Package { name, architecture, version, .. } = &package;
            if !self.lists.may_hold(hasher, name, architecture, version) {
                reading.database.unsigned.insert(number);
            }
        }
    }
}

/// A database that is being put together.
struct Reading<'a> {
    database: Database,
    links: Links,
    diversions: Diversions,
    /// The reading before, and the packages whose entries are as they were in it.
    base: Option<&'a Database>,
    kept: HashSet<Number>,
}

impl Reading<'_> {
    fn push(&mut self, path: &str, package: &str, number: Number, md5: Option<Md5>) {
        if self.database.entries.len() >= FILES_MAX {
            self.database.complete = false;
            return;
        }
        let path = self.diversions.of(path, package);
        let path = self.database.hasher.hash_one(self.links.real(path).as_str());
        let content = content(&self.database.hasher, md5);
        self.database.entries.push(Entry { path, content, package: number });
    }

    /// Adds what an `md5sums` file holds, or where there is none what a `list` does.
    fn add(
        &mut self,
        info: &Directory,
        file: &str,
        package: &Package,
        number: Number,
    ) -> io::Result<()> {
        let bytes = info.read(file, TEXT_BYTES_MAX)?;
        let text = String::from_utf8_lossy(&bytes);
        if file.ends_with(".list") {
            for path in text.lines().filter(|path| path.starts_with('/')) {
                self.push(path, &package.name, number, None);
            }
            return Ok(());
        }
        let mut absolute = String::new();
        for (path, md5) in dpkg::md5sums(&text) {
            absolute.clear();
            absolute.push('/');
            absolute.push_str(path);
            self.push(&absolute, &package.name, number, Some(md5));
        }
        Ok(())
    }

    /// Adds the new files of the package that is being unpacked.
    fn unpacked(&mut self, dpkg: &Directory, number: Number) {
        let Ok(directory) = dpkg.below(UNPACKED) else { return };
        let Some(package) = control(&directory) else { return };
        self.database.unpacked = Some(number);
        // One without digests leaves its files to what the package had before.
        if directory.stamp_of("md5sums").is_some() {
            let added = self.add(&directory, "md5sums", &package, number);
            self.database.complete &= added.is_ok();
        }
    }

    fn unpacked_package(&self, root: &Directory) -> Option<(Number, Package)> {
        let number = self.database.unpacked?;
        Some((number, control(&root.below("var/lib/dpkg/tmp.ci").ok()?)?))
    }

    fn finish(mut self, packages: &Packages) -> Database {
        if let Some(base) = self.base {
            let kept = base.entries.iter().filter(|entry| self.kept.contains(&entry.package));
            self.database.entries.extend(kept);
        }
        let entries = std::mem::take(&mut self.database.entries);
        for (stem, package) in packages {
            let Some(&number) = self.database.stems.get(stem) else { continue };
            for (path, md5) in &package.conffiles {
                self.push(path, &package.name, number, Some(*md5));
            }
        }
        self.database.conffiles = std::mem::replace(&mut self.database.entries, entries);
        self.database.complete &= self.database.entries.len() <= FILES_MAX;
        for entries in [&mut self.database.entries, &mut self.database.conffiles] {
            entries.sort_unstable_by_key(|entry| entry.path);
            entries.shrink_to_fit();
        }
        self.database
    }
}

/// Packages whose files are believed: what `status` says, and what was noted since.
fn packages(dpkg: &Directory) -> io::Result<Packages> {
    let mut packages = Packages::new();
    let mut add = |bytes: Vec<u8>| {
        dpkg::add_status(&String::from_utf8_lossy(&bytes), &mut packages);
    };
    add(dpkg.read("status", STATUS_BYTES_MAX)?);
    let Ok(updates) = dpkg.below("updates") else { return Ok(packages) };
    let mut names = updates.names(NAMES_MAX)?;
    names.retain(|name| name.bytes().all(|c| c.is_ascii_digit()));
    names.sort();
    for name in names {
        match updates.read(&name, TEXT_BYTES_MAX) {
            Ok(bytes) => add(bytes),
            // It went into the status meanwhile, which tells that it changed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(packages)
}

/// The package that a `control` file is of.
fn control(directory: &Directory) -> Option<Package> {
    let bytes = directory.read("control", TEXT_BYTES_MAX).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let value = |name| dpkg::field(&text, name).map(str::to_owned);
    Some(Package {
        name: value("Package")?,
        architecture: value("Architecture")?,
        version: value("Version")?,
        source: None,
        source_version: None,
        conffiles: Vec::new(),
    })
}
