//! Node's packages: a directory in a `node_modules`.

use serde::Deserialize;

use super::{Files, Manager, Package, Tree, normal};
use crate::report::Vulnerability;

const PLACES: [&str; 3] =
    ["/usr/lib/node_modules", "/usr/local/lib/node_modules", "/usr/share/nodejs"];

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    version: String,
}

pub fn find(tree: &mut Tree, meant: &Vulnerability) -> Vec<Package> {
    let mut found = Vec::new();
    for directory in directories(meant) {
        let Ok(Some(text)) = tree.text(&format!("{directory}/package.json")) else { continue };
        let Ok(Manifest { version }) = serde_json::from_str(&text) else { continue };
        found.push(Package {
            name: meant.package.clone(),
            source: None,
            version,
            source_version: None,
            manager: Manager::Node,
            files: Ok(Files { under: vec![format!("{directory}/")], ..Files::default() }.into()),
        });
    }
    found
}

/// Where the report found it; else beside the lock file that the report read; else where it is
/// installed for all.
fn directories(meant: &Vulnerability) -> Vec<String> {
    let path = meant.path.as_deref().unwrap_or_default();
    let name = &meant.package;
    if let Some((above, rest)) = path.rsplit_once("node_modules/")
        && let Some(within) = rest.strip_suffix("/package.json")
    {
        return vec![normal(&format!("/{above}node_modules/{within}"))];
    }
    let beside = path.rsplit_once('/').map(|(above, _)| format!("{above}/node_modules"));
    let places = beside.into_iter().chain(PLACES.map(String::from));
    places.map(|place| normal(&format!("/{place}/{name}"))).collect()
}
