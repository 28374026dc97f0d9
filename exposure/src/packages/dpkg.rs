//! dpkg's database: `status`, the lists of files, diversions.

use hedgerow_hostfile::dpkg::{self, Diversions, Packages};

use super::{Files, Index, Manager, Package, Tree};

const DIRECTORY: &str = "/var/lib/dpkg";

#[derive(Debug, Default)]
pub struct Database {
    /// With the stem of its files in `info/`, by that.
    known: Vec<(String, dpkg::Package)>,
    index: Index,
    diversions: Diversions,
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
        Ok(Self { known, index, diversions: Diversions::parse(&diversions) })
    }

    pub fn find(&self, tree: &mut Tree, name: &str) -> Vec<Package> {
        let found = self.index.of(name).iter().map(|at| &self.known[*at]);
        found
            .map(|(stem, known)| Package {
                name: known.name.clone(),
                source: known.source.clone(),
                version: known.version.clone(),
                manager: Manager::Dpkg,
                files: self.files(tree, stem, &known.name),
            })
            .collect()
    }

    fn files(&self, tree: &mut Tree, stem: &str, name: &str) -> Result<Files, String> {
        let path = format!("{DIRECTORY}/info/{stem}.list");
        let list = tree.text(&path)?.ok_or_else(|| format!("there is no {path}"))?;
        let lines = list.lines().filter(|line| line.starts_with('/') && *line != "/.");
        let paths = lines.map(|path| tree.real(self.diversions.of(path, name)));
        Ok(Files { paths: paths.collect(), under: Vec::new() })
    }
}
