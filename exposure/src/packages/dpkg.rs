//! dpkg's database: `status`, the lists of files, diversions.

use std::{collections::HashMap, sync::Arc};

use hedgerow_hostfile::dpkg::{self, Diversions, Packages};

use super::{Files, Index, Manager, Package, Room, Tree};

const DIRECTORY: &str = "/var/lib/dpkg";

#[derive(Debug, Default)]
pub struct Database {
    /// With the stem of its files in `info/`, by that.
    known: Vec<(String, dpkg::Package)>,
    index: Index,
    diversions: Diversions,
    /// Those that were asked for, by stem.
    lists: HashMap<String, Result<Arc<Files>, String>>,
    room: Room,
}

impl Database {
    pub fn read(tree: &mut Tree) -> Result<Self, String> {
        let status = tree.text(&format!("{DIRECTORY}/status"))?;
        let status = status.ok_or_else(|| format!("there is no {DIRECTORY}/status"))?;
        let mut packages = Packages::new();
        dpkg::add_status(&status, &mut packages);
        // What isn't a name would lead elsewhere.
        packages.retain(|stem, _| !stem.contains('/'));
        let mut known: Vec<_> = packages.into_iter().collect();
        known.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut index = Index::default();
        for (at, (_, package)) in known.iter().enumerate() {
            index.add(&package.name, at);
            if let Some(source) = &package.source {
                index.add(source, at);
            }
        }
        let diversions = tree.text(&format!("{DIRECTORY}/diversions"))?.unwrap_or_default();
        let diversions = Diversions::parse(&diversions);
        Ok(Self { known, index, diversions, ..Self::default() })
    }

    pub fn find(&mut self, tree: &mut Tree, name: &str) -> Result<Vec<Package>, String> {
        let Self { known, index, diversions, lists, room } = self;
        let found = index.of(name)?.iter().map(|at| &known[*at]);
        let package = |(stem, known): &(String, dpkg::Package)| {
            let read = || files(tree, room, diversions, stem, &known.name);
            Package {
                name: known.name.clone(),
                source: known.source.clone(),
                version: known.version.clone(),
                source_version: known.source_version.clone(),
                manager: Manager::Dpkg,
                files: lists.entry(stem.clone()).or_insert_with(read).clone(),
            }
        };
        Ok(found.map(package).collect())
    }
}

fn files(
    tree: &mut Tree,
    room: &mut Room,
    diversions: &Diversions,
    stem: &str,
    name: &str,
) -> Result<Arc<Files>, String> {
    let path = format!("{DIRECTORY}/info/{stem}.list");
    let list = tree.text(&path)?.ok_or_else(|| format!("there is no {path}"))?;
    let mut files = Files::default();
    for path in list.lines().filter(|line| line.starts_with('/') && *line != "/.") {
        let path = diversions.of(path, name);
        room.take(path.len())?;
        files.paths.insert(tree.real(path));
    }
    Ok(files.into())
}
