//! dpkg's database: `status`, the lists of files, diversions.

use std::collections::HashMap;

use super::{Files, Index, Manager, Package, Tree};

const DIRECTORY: &str = "/var/lib/dpkg";

#[derive(Debug)]
struct Known {
    name: String,
    source: Option<String>,
    version: String,
    /// Of its files in `info/`.
    stem: String,
}

#[derive(Debug, Default)]
pub struct Database {
    known: Vec<Known>,
    index: Index,
    /// By the path in the package: where it lies instead, and whose file keeps the path.
    diversions: HashMap<String, (String, String)>,
}

impl Database {
    pub fn read(tree: &mut Tree) -> Result<Self, String> {
        let status = tree.text(&format!("{DIRECTORY}/status"))?;
        let status = status.ok_or_else(|| format!("there is no {DIRECTORY}/status"))?;
        let mut database = Self::parse(&status);
        let diversions = tree.text(&format!("{DIRECTORY}/diversions"))?.unwrap_or_default();
        let lines: Vec<&str> = diversions.lines().collect();
        let threes = lines.chunks_exact(3);
        database.diversions =
            threes.map(|three| (three[0].into(), (three[1].into(), three[2].into()))).collect();
        Ok(database)
    }

    fn parse(status: &str) -> Self {
        let mut database = Self::default();
        for stanza in status.split("\n\n") {
            let Some(known) = known(stanza) else { continue };
            let at = database.known.len();
            database.index.add(&known.name, at);
            if let Some(source) = &known.source {
                database.index.add(source, at);
            }
            database.known.push(known);
        }
        database
    }

    pub fn find(&mut self, tree: &mut Tree, name: &str) -> Vec<Package> {
        let found: Vec<&Known> = self.index.of(name).iter().map(|at| &self.known[*at]).collect();
        found
            .into_iter()
            .map(|known| Package {
                name: known.name.clone(),
                source: known.source.clone(),
                version: known.version.clone(),
                manager: Manager::Dpkg,
                files: self.files(tree, known),
            })
            .collect()
    }

    fn files(&self, tree: &mut Tree, known: &Known) -> Result<Files, String> {
        let path = format!("{DIRECTORY}/info/{}.list", known.stem);
        let list = tree.text(&path)?.ok_or_else(|| format!("there is no {path}"))?;
        let lies = |path: &str| match self.diversions.get(path) {
            Some((instead, keeper)) if *keeper != known.name => tree.real(instead),
            _ => tree.real(path),
        };
        let paths = list.lines().filter(|line| line.starts_with('/') && *line != "/.").map(lies);
        Ok(Files { paths: paths.collect(), under: Vec::new() })
    }
}

fn known(stanza: &str) -> Option<Known> {
    let field = |name: &str| {
        stanza.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
    };
    let (name, status, version) = (field("Package")?, field("Status")?, field("Version")?);
    let has_files =
        !matches!(status.split(' ').next_back(), Some("not-installed" | "config-files"));
    let stem = match field("Multi-Arch") {
        Some("same") => format!("{name}:{}", field("Architecture").unwrap_or_default()),
        _ => name.to_owned(),
    };
    // What isn't a name would lead elsewhere.
    let named = !stem.contains('/');
    // `Source: name (version)`
    let source = field("Source").and_then(|source| source.split(' ').next()).map(str::to_owned);
    let (name, version) = (name.to_owned(), version.to_owned());
    (has_files && named).then_some(Known { name, source, version, stem })
}
