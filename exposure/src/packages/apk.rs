//! apk's database, one file.

use super::{Files, Index, Manager, Package, Room, Tree};

const INSTALLED: &str = "/lib/apk/db/installed";

#[derive(Debug, Default)]
pub struct Database {
    packages: Vec<Package>,
    index: Index,
}

impl Database {
    pub fn read(tree: &mut Tree) -> Result<Self, String> {
        let path = tree.real(INSTALLED);
        let text = match tree.text(&path)? {
            Some(text) => text,
            None => return Err(format!("there is no {INSTALLED}")),
        };
        let (mut database, mut room) = (Self::default(), Room::default());
        for stanza in text.split("\n\n") {
            let Some(package) = package(stanza, tree, &mut room)? else { continue };
            let at = database.packages.len();
            database.index.add(&package.name, at);
            if let Some(source) = &package.source {
                database.index.add(source, at);
            }
            database.packages.push(package);
        }
        Ok(database)
    }

    pub fn find(&self, name: &str) -> Result<Vec<Package>, String> {
        Ok(self.index.of(name)?.iter().map(|at| self.packages[*at].clone()).collect())
    }
}

/// `P:` name, `V:` version, `o:` origin; `F:` a directory, followed by its files, `R:` each.
fn package(stanza: &str, tree: &Tree, room: &mut Room) -> Result<Option<Package>, String> {
    let field = |name| stanza.lines().find_map(|line| line.strip_prefix(name));
    let mut files = Files::default();
    let mut directory = "";
    for line in stanza.lines() {
        if let Some(name) = line.strip_prefix("F:") {
            directory = name;
        } else if let Some(name) = line.strip_prefix("R:") {
            room.take(directory.len() + name.len())?;
            let slash = if directory.is_empty() { "" } else { "/" };
            files.paths.insert(tree.real(&format!("/{directory}{slash}{name}")));
        }
    }
    let Some(name) = field("P:") else { return Ok(None) };
    Ok(Some(Package {
        name: name.to_owned(),
        source: field("o:").map(str::to_owned),
        version: field("V:").unwrap_or_default().to_owned(),
        source_version: None,
        manager: Manager::Apk,
        files: Ok(files.into()),
    }))
}
