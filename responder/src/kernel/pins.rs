//! What is pinned, and where.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use libbpf_rs::{Link, MapHandle, MapInfo, query::LinkTypeInfo};

use crate::Error;

/// Where links are pinned, beside the maps.
pub(super) const LINKS: &str = "links";

/// What a pin leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pin {
    /// The cgroup is 0 for a link that was detached, and for hooks that are of no cgroup.
    Link {
        link: u32,
        program: u32,
        cgroup_id: u64,
    },
    Map {
        id: u32,
    },
    /// It can't be opened, or leads to something else.
    Other,
}

fn link(path: &Path) -> libbpf_rs::Result<Pin> {
    let info = Link::open(path)?.info()?;
    let cgroup_id = match &info.info {
        LinkTypeInfo::Cgroup(cgroup) => cgroup.cgroup_id,
        _ => 0,
    };
    Ok(Pin::Link { link: info.id, program: info.prog_id, cgroup_id })
}

fn map(path: &Path) -> libbpf_rs::Result<Pin> {
    let map = MapHandle::from_pinned_path(path)?;
    Ok(Pin::Map { id: MapInfo::new(map.as_fd())?.info.id })
}

/// What is pinned under `directory`, by name.
pub(super) fn pins(directory: &Path) -> BTreeMap<String, Pin> {
    let mut found = BTreeMap::new();
    let kinds: [(_, fn(&Path) -> _); 2] =
        [(directory.to_owned(), map), (directory.join(LINKS), link)];
    for (path, open) in kinds {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                let name = entry.file_name().to_string_lossy().into_owned();
                found.insert(name, open(&entry.path()).unwrap_or(Pin::Other));
            }
        }
    }
    found
}

/// A pinned map of a running, dead or stopped responder.
pub(super) fn pinned(directory: &Path, name: &str) -> Result<MapHandle, Error> {
    let path = directory.join(name);
    if !path.exists() {
        return Err(Error::NotPinned { path: directory.to_owned() });
    }
    MapHandle::from_pinned_path(&path).map_err(Error::bpf("can't open a pinned deny map"))
}

/// The name under which something is made before it takes its place; bpffs takes no dots.
pub(super) fn fresh_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push("-new");
    path.with_file_name(name)
}

/// Detaches and unpins what is pinned under `directory`.
pub(crate) fn remove(directory: &Path) -> Result<(), Error> {
    let failed = || Error::io(format!("can't remove {}", directory.display()));
    for path in [directory.join(LINKS), directory.to_owned()] {
        let Ok(list) = fs::read_dir(&path) else { continue };
        for entry in list {
            let entry = entry.map_err(failed())?;
            if entry.file_type().map_err(failed())?.is_file() {
                fs::remove_file(entry.path()).map_err(failed())?;
            }
        }
        fs::remove_dir(&path).map_err(failed())?;
    }
    Ok(())
}
