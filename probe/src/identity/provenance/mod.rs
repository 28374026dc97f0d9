//! Where the files that programs run come from.
//!
//! Believed are the database of the host's dpkg, by content, as far as only root can have written
//! it, and the kernel's word on the layers of containers. What a container's own database says is
//! never read. Everything here runs on threads that read files anyway; whoever names records only
//! looks up what has been read.
//!
//! What can't be known: libraries and modules that a program loads, text on an interpreter's
//! command line or standard input, and scripts that are run by a relative path; files behind FUSE,
//! network file systems and `/proc`, which are not read; `debconf` scripts that apt puts into a
//! temporary directory (they are nobody's); anything of rpm and apk.

mod believed;
mod database;
mod links;
mod lists;
mod setting;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock, TryLockError},
    time::{Duration, Instant},
};

use hedgerow_event::Provenance;
pub use hedgerow_hostfile::dpkg::Md5;

pub use self::believed::{is_settled, now_ns};
use self::database::{Database, Loader, Owner};
pub use self::setting::{Host, OVERLAYFS_SUPER_MAGIC, Setting, magic};

/// Time between two looks at whether the database has changed, while all are its packages'.
const LOOK: Duration = Duration::from_secs(1);

/// Where the database is.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Holds `var/lib/dpkg` and `var/lib/apt/lists`.
    pub root: PathBuf,
    /// The root directory that paths in the database are told from.
    pub tree: PathBuf,
    /// What processes call the database's directory.
    pub prefix: String,
    /// Whose files are believed.
    pub owner: u32,
}

impl Sources {
    /// Those of the host: of the root directory of its first process, or of our own where that one
    /// may not be looked at.
    pub fn host() -> Self {
        let first = Path::new("/proc/1/root/.");
        let root = if first.exists() { first } else { Path::new("/") };
        Self { root: root.into(), tree: root.into(), prefix: "/var/lib/dpkg".into(), owner: 0 }
    }
}

/// Which layer of an overlay file system holds a file, as the kernel said at the exec.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layer {
    /// It lies on no overlay, or on one that proves nothing.
    #[default]
    None,
    Lower,
    Upper,
}

/// What is known of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    pub layer: Layer,
    pub setting: Setting,
}

/// What has been read of the packages; shared by the threads that read files.
#[derive(Debug)]
pub struct Ownership {
    loader: Mutex<Loader>,
    /// `None`: it is being read for the first time, or there is none.
    database: RwLock<Option<Arc<Database>>>,
    /// When it was last looked whether the database has changed.
    looked: Mutex<Option<Instant>>,
    host: Host,
}

impl Ownership {
    /// Reads the database on a thread of its own, which ends with it.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start(sources: Sources) -> std::io::Result<Arc<Self>> {
        let ownership = Arc::new(Self::unread(sources));
        let shared = Arc::clone(&ownership);
        let name = "hedgerow-packages".into();
        std::thread::Builder::new().name(name).spawn(move || shared.renew())?;
        Ok(ownership)
    }

    fn unread(sources: Sources) -> Self {
        let host = Host::new(&sources);
        let loader = Mutex::new(Loader::new(sources));
        Self { loader, database: RwLock::new(None), looked: Mutex::new(None), host }
    }

    /// The host's root directory.
    pub fn host(&self) -> &Host {
        &self.host
    }

    fn database(&self) -> Option<Arc<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads what has changed, unless somebody does already.
    fn renew(&self) {
        let mut loader = match self.loader.try_lock() {
            Ok(loader) => loader,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let old = self.database();
        if !loader.is_stale() {
            return;
        }
        // One that is no longer believed says nothing more.
        let read = loader.read(old.as_deref()).ok().map(Arc::new);
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = read;
    }

    /// Where a file comes from; `None` while that takes its content. Never waits.
    pub fn judge(&self, path: &str, origin: Origin, md5: Option<Md5>) -> Option<Provenance> {
        let Origin { layer, setting } = origin;
        match layer {
            Layer::Lower if !setting.host => return Some(Provenance::Image),
            Layer::Upper if !setting.host => return Some(Provenance::Drift),
            _ => {}
        }
        let Some(database) = self.database() else { return Some(Provenance::Unknown) };
        let owner = database.owner(path, setting.own, md5);
        // A path says nothing in another tree than the host's; content at the path does.
        let local = |provenance| if setting.tree { provenance } else { Provenance::Unknown };
        match owner {
            Owner::Package { signed: true } => Some(Provenance::Package),
            Owner::Package { signed: false } => Some(Provenance::Unsigned),
            Owner::Unknown => Some(Provenance::Unknown),
            Owner::None => Some(local(Provenance::Unowned)),
            Owner::Other => Some(local(Provenance::Modified)),
            Owner::Some if md5.is_none() => None,
            Owner::Some => Some(Provenance::Unknown),
        }
    }

    /// Judges on a thread that may read files: before a stranger is called one, the database is
    /// looked at once more, since dpkg may be at work. What is a package's may be so no longer, but
    /// that is not worth a look each time.
    pub fn settle(&self, path: &str, origin: Origin, md5: Option<Md5>) {
        let told = self.judge(path, origin, md5);
        let stranger =
            matches!(told, Some(Provenance::Unowned | Provenance::Modified | Provenance::Unsigned));
        let looked = *self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if stranger || looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            self.renew();
        }
    }
}

#[cfg(test)]
mod tests;
