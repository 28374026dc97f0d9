//! The text files of dpkg's database, for who asks whose a file is and for who asks which files a
//! package has. Pure.

use std::collections::HashMap;

/// MD5 of a file's content, as dpkg keeps it.
pub type Md5 = [u8; 16];

/// A package of which files may lie in the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub architecture: String,
    pub version: String,
    /// The source package, where it has another name.
    pub source: Option<String>,
    /// The source package's version, where it is another.
    pub source_version: Option<String>,
    /// Configuration files, of which other content than the package's is no surprise to dpkg:
    /// absolute path and the digest that the package has.
    pub conffiles: Vec<(String, Md5)>,
}

/// Packages by the stem of their files in `info/`.
pub type Packages = HashMap<String, Package>;

/// Fields of a stanza, each with the lines that continue it.
fn stanzas(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n\n").filter(|stanza| !stanza.trim().is_empty())
}

/// The value of a field on its own line.
pub fn field<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    stanza.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        Some(value.trim())
    })
}

/// Adds what `status`, or a later file of `updates/`, tells. A package that isn't unpacked, or of
/// which only configuration is left, has no files that are believed. One that is being unpacked
/// or replaced has: dpkg says `half-installed` before it touches the first of them.
pub fn add_status(text: &str, packages: &mut Packages) {
    for stanza in stanzas(text) {
        let (Some(name), Some(status)) = (field(stanza, "Package"), field(stanza, "Status")) else {
            continue;
        };
        let architecture = field(stanza, "Architecture").unwrap_or_default();
        let stem = match field(stanza, "Multi-Arch") {
            Some("same") => format!("{name}:{architecture}"),
            _ => name.to_owned(),
        };
        if matches!(status.split(' ').next_back(), Some("not-installed" | "config-files") | None) {
            packages.remove(&stem);
            continue;
        }
        let (source, source_version) = source(stanza);
        let package = Package {
            name: name.into(),
            architecture: architecture.into(),
            version: field(stanza, "Version").unwrap_or_default().into(),
            source: source.map(String::from),
            source_version: source_version.map(String::from),
            conffiles: conffiles(stanza),
        };
        packages.insert(stem, package);
    }
}

/// `Source: name (version)`, each only where it isn't the package's own.
fn source(stanza: &str) -> (Option<&str>, Option<&str>) {
    let Some(source) = field(stanza, "Source") else { return (None, None) };
    let (name, version) = source.split_once(' ').unwrap_or((source, ""));
    let version = version.trim().strip_prefix('(').and_then(|version| version.strip_suffix(')'));
    (Some(name), version)
}

/// `Conffiles:`, then lines of path, digest and perhaps `obsolete`.
fn conffiles(stanza: &str) -> Vec<(String, Md5)> {
    let lines = stanza.lines().skip_while(|line| !line.starts_with("Conffiles:")).skip(1);
    let own = lines.take_while(|line| line.starts_with(' '));
    let parsed = own.filter_map(|line| {
        let line = line.trim().trim_end_matches(" remove-on-upgrade").trim_end_matches(" obsolete");
        let (path, digest) = line.rsplit_once(' ')?;
        Some((path.to_owned(), md5(digest)?))
    });
    parsed.collect()
}

/// Lines of an `md5sums` file: digest, two spaces, path without its leading slash.
pub fn md5sums(text: &str) -> impl Iterator<Item = (&str, Md5)> {
    text.lines().filter_map(|line| {
        let (digest, path) = line.split_at_checked(32)?;
        let path = path.strip_prefix("  ")?.trim_start_matches("./");
        Some((path, md5(digest)?))
    })
}

fn md5(hex: &str) -> Option<Md5> {
    let nibble = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let hex = hex.as_bytes();
    let mut digest = Md5::default();
    if hex.len() != 2 * digest.len() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(digest)
}

/// Where a package's file really lies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diversions {
    /// By the path in the package: where it lies instead, and whose file keeps the path (`:` of
    /// the administrator, who has none).
    by_path: HashMap<String, (String, String)>,
}

impl Diversions {
    /// Three lines each: path, path instead, package.
    pub fn parse(text: &str) -> Self {
        let lines: Vec<&str> = text.lines().collect();
        let threes = lines.chunks_exact(3);
        let by_path = threes.map(|three| (three[0].into(), (three[1].into(), three[2].into())));
        Self { by_path: by_path.collect() }
    }

    /// The absolute path of a package's file.
    pub fn of<'a>(&'a self, path: &'a str, package: &str) -> &'a str {
        match self.by_path.get(path) {
            Some((instead, keeper)) if keeper != package => instead,
            _ => path,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_packages_with_files_are_known_and_updates_come_later() {
        let status = "Package: a\nStatus: install ok installed\nArchitecture: amd64\n\
                      Multi-Arch: same\nVersion: 1\nDescription: x\n Version: 9\n\n\
                      Package: b\nStatus: deinstall ok config-files\nVersion: 1\n\n\
                      Package: c\nStatus: install reinstreq half-installed\nVersion: 1\n\
                      Architecture: all\nConffiles:\n \
                      /etc/c d41d8cd98f00b204e9800998ecf8427e obsolete\n \
                      /etc/new newconffile\nHomepage: y\n";
        let mut packages = Packages::new();
        add_status(status, &mut packages);
        let mut stems: Vec<_> = packages.keys().cloned().collect();
        stems.sort();
        assert_eq!(stems, ["a:amd64", "c"]);
        assert_eq!(packages["a:amd64"].version, "1");
        assert_eq!(packages["c"].conffiles.len(), 1);
        assert_eq!(packages["c"].conffiles[0].0, "/etc/c");
        add_status("Package: c\nStatus: install ok unpacked\nVersion: 2\n", &mut packages);
        assert_eq!(packages["c"].version, "2");
        add_status("Package: c\nStatus: purge ok not-installed\n", &mut packages);
        assert!(!packages.contains_key("c"));
    }

    #[test]
    fn lines_that_are_no_digests_are_left_out() {
        let text = "d41d8cd98f00b204e9800998ecf8427e  usr/bin/a b\nshort  x\n\
                    zz1d8cd98f00b204e9800998ecf8427e  usr/bin/c\n";
        let found: Vec<_> = md5sums(text).collect();
        assert_eq!(found, [("usr/bin/a b", md5("d41d8cd98f00b204e9800998ecf8427e").unwrap())]);
    }

    #[test]
    fn a_diverted_file_lies_elsewhere_but_for_the_package_that_diverts() {
        let diversions = Diversions::parse("/bin/sh\n/bin/sh.distrib\ndash\n");
        assert_eq!(diversions.of("/bin/sh", "bash"), "/bin/sh.distrib");
        assert_eq!(diversions.of("/bin/sh", "dash"), "/bin/sh");
        assert_eq!(diversions.of("/bin/ls", "bash"), "/bin/ls");
    }
}
