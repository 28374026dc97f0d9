//! The configuration's files: one, and drop-ins beside it, the later ones over the earlier.

use std::{
    collections::BTreeMap,
    fmt,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::Raw;
use crate::{cli, exit::Failure};

/// The directory of drop-ins, beside the file.
const DROP_INS: &str = "conf.d";

/// So many files that aren't read are named.
const UNREAD_MAX: usize = 16;

/// Where a value is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    CommandLine,
    File(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::CommandLine => f.write_str("command line"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Origin {
    /// An error about a key that stands there.
    pub fn blames(&self, key: &str, why: &str) -> String {
        self.prefixes(&format!("{key}: {why}"))
    }

    /// An error that names its key already.
    pub fn prefixes(&self, why: &str) -> String {
        match self {
            Self::File(path) => format!("{}: {why}", path.display()),
            Self::Default | Self::CommandLine => why.to_owned(),
        }
    }
}

/// All files, read and laid over each other.
#[derive(Debug, Default)]
pub struct Files {
    pub paths: Vec<PathBuf>,
    /// What lies beside the drop-ins and is none by its name, for a warning.
    pub unread: Vec<PathBuf>,
    /// Files that hold a secret and that others may read, with their mode.
    pub exposed: Vec<(PathBuf, u32)>,
    values: Table,
    /// By dotted key: the file that said it last.
    origins: BTreeMap<String, PathBuf>,
}

impl Files {
    /// Reads the file that is named, else the one at the usual place, where there is one; then
    /// `conf.d/*.toml` beside it, in the order of their names.
    ///
    /// # Errors
    /// A file can't be read, or holds what is no configuration: by name and line.
    pub fn read(named: Option<&Path>) -> anyhow::Result<Self> {
        let path = named.unwrap_or(Path::new(cli::CONFIG));
        let mut files = Self::default();
        // A link to nothing is no file that isn't there: it can't be read.
        if named.is_some() || path.symlink_metadata().is_ok() {
            files.add(path)?;
        }
        let (drop_ins, others) = drop_ins(path)?;
        for drop_in in drop_ins {
            files.add(&drop_in)?;
        }
        files.unread = others;
        Ok(files)
    }

    fn add(&mut self, path: &Path) -> anyhow::Result<()> {
        let table = read(path)?;
        let mut holds_secret = false;
        lay(&mut self.values, table, "", &mut |key| {
            holds_secret |= is_secret(&key);
            self.origins.insert(key, path.to_owned());
        });
        if holds_secret && let Some(mode) = open_to_others(path) {
            self.exposed.push((path.to_owned(), mode));
        }
        self.paths.push(path.to_owned());
        Ok(())
    }

    /// What all files say together.
    pub fn take<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_path_to_error::deserialize(Value::Table(self.values.clone())).map_err(|why| {
            let key = why.path().to_string();
            let why = unvalued(why.inner().message());
            Failure::Usage(self.origin(&key).blames(&key, &why)).into()
        })
    }

    /// The file that said this key, or something in it, last.
    pub fn origin(&self, key: &str) -> Origin {
        let inside = format!("{key}.");
        let said = self.origins.get(key).or_else(|| {
            // What is wrong with a table as a whole is blamed on one that has a part of it.
            self.origins.iter().find(|(own, _)| own.starts_with(&inside)).map(|(_, path)| path)
        });
        said.map_or(Origin::Default, |path| Origin::File(path.clone()))
    }
}

/// Whether this user may read the files at the usual place.
pub fn is_readable() -> bool {
    let path = Path::new(cli::CONFIG);
    let refused = |why: std::io::Error| why.kind() == std::io::ErrorKind::PermissionDenied;
    !std::fs::File::open(path).is_err_and(refused)
        && !path
            .parent()
            .is_some_and(|all| std::fs::read_dir(all.join(DROP_INS)).is_err_and(refused))
}

/// Whether a value of this dotted key is one that nobody else may know.
fn is_secret(key: &str) -> bool {
    let Some(key) = key.strip_prefix("kafka.") else { return false };
    let property = |name: &str| {
        let telling = ["pass", "secret", "key.pem", "oauthbearer.config"];
        telling.iter().any(|part| name.contains(part))
    };
    ["sasl.password", "tls.key_password"].contains(&key)
        || key.strip_prefix("properties.").is_some_and(property)
}

/// The mode of a file that every user may read, whose directories all let them through.
fn open_to_others(path: &Path) -> Option<u32> {
    let path = path.canonicalize().ok()?;
    let mode = |path: &Path| path.metadata().map(|told| told.mode() & 0o7777).ok();
    let passed = |directory: &Path| mode(directory).is_some_and(|mode| mode & 0o001 != 0);
    mode(&path).filter(|mode| mode & 0o004 != 0 && path.ancestors().skip(1).all(passed))
}

/// The drop-ins in their order, and what else lies there that somebody may take for one.
fn drop_ins(path: &Path) -> anyhow::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let directory = path.parent().unwrap_or(Path::new("")).join(DROP_INS);
    let failed = || format!("can't read {}", directory.display());
    let entries = match std::fs::read_dir(&directory) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(<_>::default()),
        entries => entries.with_context(failed).map_err(Failure::file)?,
    };
    let paths: Result<Vec<PathBuf>, _> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.with_context(failed).map_err(Failure::file)?;
    paths.sort();
    let (read, mut others): (Vec<_>, Vec<_>) =
        paths.into_iter().partition(|path| path.extension().is_some_and(|kind| kind == "toml"));
    others.retain(|path| !is_set_aside(path));
    others.truncate(UNREAD_MAX);
    Ok((read, others))
}

/// Hidden, an editor's or a package manager's copy, or a text for people.
fn is_set_aside(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let copy = |kind: &str| {
        ["bak", "orig"].contains(&kind) || kind.starts_with("dpkg-") || kind.starts_with("rpm")
    };
    name.starts_with('.')
        || name.starts_with("README")
        || name.ends_with('~')
        || name.rsplit_once('.').is_some_and(|(_, kind)| copy(kind))
}

/// Lays one table over another, key by key, and tells the dotted keys.
fn lay(under: &mut Table, over: Table, prefix: &str, told: &mut impl FnMut(String)) {
    for (key, value) in over {
        let dotted = format!("{prefix}{key}");
        match (value, under.get_mut(&key)) {
            (Value::Table(over), Some(Value::Table(under))) => {
                lay(under, over, &format!("{dotted}."), told);
            }
            (Value::Table(over), _) => {
                let mut fresh = Table::new();
                lay(&mut fresh, over, &format!("{dotted}."), told);
                under.insert(key, Value::Table(fresh));
            }
            (value, _) => {
                under.insert(key, value);
                told(dotted);
            }
        }
    }
}

/// One file, which holds nothing but what a configuration may hold.
fn read(path: &Path) -> anyhow::Result<Table> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("can't read {}", path.display()))
        .map_err(Failure::file)?;
    let wrong = |why: toml::de::Error| {
        let start = why.span().map_or(0, |span| span.start);
        let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
        Failure::Usage(format!("{} line {line}: {}", path.display(), unvalued(why.message())))
    };
    let _: Raw = toml::from_str(&text).map_err(wrong)?;
    Ok(toml::from_str(&text).map_err(wrong)?)
}

/// What is wrong with a value, without the value: it may be a password in the wrong place.
pub fn unvalued(message: &str) -> String {
    for kind in ["invalid type: ", "invalid value: ", "unknown variant"] {
        if let (Some(rest), Some(end)) = (message.strip_prefix(kind), message.rfind(", expected")) {
            let what = match kind {
                "unknown variant" => "",
                _ => rest.split([' ', ',']).next().unwrap_or_default(),
            };
            return format!("{kind}{what}{}", &message[end..]);
        }
    }
    message.to_owned()
}
