//! Python's packages: `NAME-VERSION.dist-info/RECORD`.

use std::sync::Arc;

use super::{Files, Manager, PACKAGES_MAX, Package, Room, Tree, normal, too_many};
use crate::report::Vulnerability;

/// Versions of Python in one place. In a container there are as many as it likes.
const VERSIONS_MAX: usize = 64;
/// Where distributions and pip put them; `*` is any version of Python.
const PLACES: [&str; 5] = [
    "/usr/lib/python3/dist-packages",
    "/usr/lib/*/site-packages",
    "/usr/local/lib/*/dist-packages",
    "/usr/local/lib/*/site-packages",
    "/opt/venv/lib/*/site-packages",
];

pub fn find(tree: &mut Tree, meant: &Vulnerability) -> Result<Vec<Package>, String> {
    let wanted = canonical(&meant.package);
    let (mut found, mut room) = (Vec::new(), Room::default());
    for place in places(tree, meant) {
        for name in tree.names(&place) {
            let Some((package, version)) =
                name.strip_suffix(".dist-info").and_then(|name| name.rsplit_once('-'))
            else {
                continue;
            };
            if canonical(package) != wanted {
                continue;
            }
            if found.len() >= PACKAGES_MAX {
                return Err(too_many(&meant.package));
            }
            found.push(Package {
                name: package.to_owned(),
                source: None,
                version: version.to_owned(),
                source_version: None,
                manager: Manager::Python,
                files: files(tree, &mut room, &place, &name),
            });
        }
    }
    Ok(found)
}

fn places(tree: &mut Tree, meant: &Vulnerability) -> Vec<String> {
    let mut places: Vec<String> = Vec::new();
    // `.../site-packages/x-1.dist-info/METADATA`
    if let Some((place, _)) = meant.path.as_deref().and_then(|path| path.split_once(".dist-info/"))
        && let Some((place, _)) = place.rsplit_once('/')
    {
        places.push(normal(place));
        return places;
    }
    for place in PLACES {
        match place.split_once("/*/") {
            None => places.push(place.to_owned()),
            Some((above, below)) => {
                let names = tree.names(above).into_iter().filter(|name| name.starts_with("python"));
                let names = names.take(VERSIONS_MAX);
                places.extend(names.map(|name| format!("{above}/{name}/{below}")));
            }
        }
    }
    places
}

fn files(tree: &mut Tree, room: &mut Room, place: &str, name: &str) -> Result<Arc<Files>, String> {
    let path = format!("{place}/{name}/RECORD");
    let record = tree.text(&path)?.ok_or_else(|| format!("there is no {path}"))?;
    let mut paths = std::collections::BTreeSet::new();
    for line in record.lines() {
        // path,digest,size; a path with a comma is quoted
        let path = match line.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
            Some((path, _)) => path,
            None => line.split(',').next().unwrap_or_default(),
        };
        if !path.is_empty() {
            let path = if path.starts_with('/') {
                normal(path)
            } else {
                normal(&format!("{place}/{path}"))
            };
            room.take(path.len())?;
            paths.insert(tree.real(&path));
        }
    }
    Ok(Files { paths, under: Vec::new() }.into())
}

/// Names are the same whatever they are written with between their words.
fn canonical(name: &str) -> String {
    let words = name.split(['-', '_', '.']).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}
