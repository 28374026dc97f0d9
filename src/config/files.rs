//! The configuration's files: one, and drop-ins beside it, the later ones over the earlier.

use std::{
    collections::BTreeMap,
    fmt, io,
    ops::Range,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use hedgerow_hostfile::{Progress, content, inside, own};
use hedgerow_sink::SinkError;
use serde::de::DeserializeOwned;
use toml::{
    Table, Value,
    de::{DeTable, Deserializer},
};

use super::{
    Raw,
    sinks::{Configured, SINKS, configured},
};
use crate::{cli, exit::Failure};

/// The directory of drop-ins, beside the file.
const DROP_INS: &str = "conf.d";

/// A longer file is no configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;
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
    pub fn blames(&self, wrong: &Wrong) -> Failure {
        Failure::Usage(match self {
            Self::File(path) => format!("{}: {}", path.display(), wrong.why),
            Self::Default | Self::CommandLine => wrong.why.clone(),
        })
    }
}

/// What is wrong: the dotted key, and a sentence that begins with it.
#[derive(Debug)]
pub struct Wrong {
    pub key: String,
    pub why: String,
}

impl Wrong {
    pub fn new(key: &str, why: &str) -> Self {
        Self { key: key.to_owned(), why: format!("{key}: {why}") }
    }
}

impl From<SinkError> for Wrong {
    fn from(why: SinkError) -> Self {
        Self { key: why.key().unwrap_or_default(), why: why.to_string() }
    }
}

/// All files, read and laid over each other.
#[derive(Debug, Default)]
pub struct Files {
    pub paths: Vec<PathBuf>,
    /// What lies beside the drop-ins and is none by its name, for a warning.
    pub unread: Vec<PathBuf>,
    /// The first one, where it is another user's.
    pub foreign: Option<PathBuf>,
    /// Files that hold a secret and that others may read, with their mode.
    pub exposed: Vec<(PathBuf, u32)>,
    values: Table,
    /// By dotted key: who said it last.
    origins: BTreeMap<String, Origin>,
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
        let foreign =
            files.paths.first().and_then(|path| owner(path)).filter(|who| is_foreign(*who));
        files.foreign = foreign.map(|_| path.to_owned());
        let (drop_ins, others) = drop_ins(path)?;
        for drop_in in drop_ins {
            // Who may put one there need not be who wrote the file.
            let directory = drop_in.parent().unwrap_or(Path::new("."));
            owned(directory)?;
            for path in [directory, &drop_in] {
                let who = owner(path).filter(|who| is_foreign(*who) && foreign != Some(*who));
                if let Some(who) = who {
                    return Err(not_own(path, &format!("it belongs to user {who}")).into());
                }
            }
            files.add(&drop_in)?;
        }
        files.unread = others;
        Ok(files)
    }

    fn add(&mut self, path: &Path) -> anyhow::Result<()> {
        let table = read(path)?;
        owned(path)?;
        let mut holds_secret = false;
        lay(&mut self.values, table, "", &mut |key| {
            holds_secret |= is_secret(&key);
            self.origins.insert(key, Origin::File(path.to_owned()));
        });
        if holds_secret && let Some(mode) = own::open_to_others(path) {
            self.exposed.push((path.to_owned(), mode));
        }
        self.paths.push(path.to_owned());
        Ok(())
    }

    /// Lays what the command line says of sinks over the files.
    pub fn with(mut self, run: &cli::Run) -> Self {
        if let Some(brokers) = &run.kafka {
            let kafka = Table::from_iter([("brokers".to_owned(), Value::from(brokers.as_str()))]);
            let said = Table::from_iter([("kafka".to_owned(), Value::Table(kafka))]);
            lay(&mut self.values, said, "", &mut |key| {
                self.origins.insert(key, Origin::CommandLine);
            });
        }
        self
    }

    /// What is said in all, but of sinks.
    pub fn raw(&self) -> anyhow::Result<Raw> {
        let mut own = self.values.clone();
        own.retain(|key, _| !is_sink(key));
        typed("", own).map_err(|wrong| self.blames(&wrong).into())
    }

    /// The sinks that are asked for, checked.
    pub fn sinks(&self, state: &Path) -> anyhow::Result<Vec<Configured>> {
        configured(&self.values, state).map_err(|wrong| self.blames(&wrong).into())
    }

    /// An error that names who said what is wrong.
    pub fn blames(&self, wrong: &Wrong) -> Failure {
        self.origin(&wrong.key).blames(wrong)
    }

    /// Who said this key, or something in it, last.
    pub fn origin(&self, key: &str) -> Origin {
        let inside = format!("{key}.");
        let said = self.origins.get(key).or_else(|| {
            // What is wrong with a table as a whole is blamed on one that has a part of it.
            self.origins.iter().find(|(own, _)| own.starts_with(&inside)).map(|(_, said)| said)
        });
        said.cloned().unwrap_or(Origin::Default)
    }
}

/// The state directory that the files say, as far as they can be read, and why others can't. What only root may
/// read, at the usual place, is nothing to tell.
///
/// # Errors
/// The file that is named can't be read.
pub fn state(named: Option<&Path>) -> anyhow::Result<(Option<PathBuf>, Vec<String>)> {
    // It may hold passwords, so that members of the group can't read it; they name another directory than the
    // usual one themselves.
    if named.is_none() && !is_readable() {
        return Ok((None, Vec::new()));
    }
    let path = named.unwrap_or(Path::new(cli::CONFIG));
    let (mut state, mut unread) = (None, Vec::new());
    let mut say = |table: anyhow::Result<Table>| match table {
        Ok(table) => {
            state = table.get("state").and_then(Value::as_str).map(PathBuf::from).or(state.take())
        }
        Err(why) => unread.push(format!("{why:#}")),
    };
    match (named, text(path)) {
        (Some(_), Err(why)) => return Err(why),
        (None, Err(_)) if path.symlink_metadata().is_err() => {}
        (_, read) => say(read.and_then(|text| table(path, &text))),
    }
    match drop_ins(path) {
        Ok((drop_ins, _)) => {
            for path in drop_ins {
                say(text(&path).and_then(|text| table(&path, &text)));
            }
        }
        Err(why) => say(Err(why)),
    }
    Ok((state, unread))
}

/// Whether this user may read the files at the usual place.
fn is_readable() -> bool {
    let path = Path::new(cli::CONFIG);
    let refused = |why: io::Error| why.kind() == io::ErrorKind::PermissionDenied;
    !std::fs::File::open(path).is_err_and(refused)
        && !path
            .parent()
            .is_some_and(|all| std::fs::read_dir(all.join(DROP_INS)).is_err_and(refused))
}

/// Whether a value of this dotted key is one that nobody else may know.
fn is_secret(key: &str) -> bool {
    let Some((name, field)) = key.split_once('.') else { return false };
    SINKS.iter().any(|row| row.name == name && (row.is_secret)(field))
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
    // Hidden ones are an editor's.
    paths.retain(|path| !is_hidden(path));
    paths.sort();
    let (read, mut others): (Vec<_>, Vec<_>) =
        paths.into_iter().partition(|path| path.extension().is_some_and(|kind| kind == "toml"));
    others.retain(|path| !is_set_aside(path));
    others.truncate(UNREAD_MAX);
    Ok((read, others))
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// An editor's or a package manager's copy, or a text for people.
fn is_set_aside(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let copy = |kind: &str| {
        ["bak", "orig"].contains(&kind) || kind.starts_with("dpkg-") || kind.starts_with("rpm")
    };
    name.starts_with("README")
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
                if over.is_empty() {
                    told(dotted.clone());
                }
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

/// The text of a file, whoever put it there.
fn text(path: &Path) -> anyhow::Result<String> {
    let failed = || format!("can't read {}", path.display());
    let whole = std::path::absolute(path).with_context(failed).map_err(Failure::file)?;
    let file = inside(Path::new("/"), &whole).with_context(failed).map_err(Failure::file)?;
    let bytes = content(file, FILE_BYTES_MAX, &Progress::default());
    let bytes = bytes.with_context(failed).map_err(Failure::file)?;
    Ok(String::from_utf8(bytes).with_context(failed).map_err(Failure::file)?)
}

fn table(path: &Path, text: &str) -> anyhow::Result<Table> {
    Ok(toml::from_str(text).map_err(|why| refused(path, text, &why))?)
}

/// What is wrong there, by its line.
fn refused(path: &Path, text: &str, why: &toml::de::Error) -> Failure {
    refused_at(path, text, why.span(), &unvalued(why.message()))
}

fn refused_at(path: &Path, text: &str, span: Option<Range<usize>>, why: &str) -> Failure {
    let start = span.map_or(0, |span| span.start);
    let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
    Failure::Usage(format!("{} line {line}: {why}", path.display()))
}

fn owner(path: &Path) -> Option<u32> {
    path.metadata().ok().map(|told| told.uid())
}

/// Neither root's nor of who asks.
fn is_foreign(user: u32) -> bool {
    ![0, own::user()].contains(&user)
}

/// Refuses what others than its owner may write to: they would choose what root does.
fn owned(path: &Path) -> Result<(), Failure> {
    let told = path.metadata().map_err(|why| not_own(path, &why.to_string()))?;
    // In a sticky directory others may make files, and not put one in the place of this.
    let above = path.parent().and_then(|above| above.metadata().ok());
    let open = told.mode() & 0o002 != 0
        || (told.mode() & 0o020 != 0 && told.gid() != 0)
        || above.is_some_and(|above| above.mode() & 0o1002 == 0o002);
    match open && !own::is_read_only(path) {
        true => Err(not_own(
            path,
            &format!(
                "others may write to it (mode {:04o}), or to its directory",
                told.mode() & 0o7777
            ),
        )),
        false => Ok(()),
    }
}

fn not_own(path: &Path, why: &str) -> Failure {
    Failure::File(format!(
        "{0}: {why}, and what it says root does: chown root {0} && chmod go-w {0}, or use another",
        path.display()
    ))
}

/// One file, which holds nothing but what a configuration may hold.
fn read(path: &Path) -> anyhow::Result<Table> {
    let text = text(path)?;
    let wrong = |why: &toml::de::Error| refused(path, &text, why);
    let mut own = DeTable::parse(&text).map_err(|why| wrong(&why))?;
    // What is in the tables of sinks is theirs to refuse, once all files are laid over each other.
    let (sinks, rest): (DeTable<'_>, DeTable<'_>) =
        std::mem::take(own.get_mut()).into_iter().partition(|(key, _)| is_sink(key.get_ref()));
    if let Some((key, value)) = sinks.iter().find(|(_, value)| !value.get_ref().is_table()) {
        let why = format!("{0} is a table: write [{0}]", key.get_ref());
        return Err(refused_at(path, &text, Some(value.span()), &why).into());
    }
    *own.get_mut() = rest;
    let _: Raw = serde_path_to_error::deserialize(Deserializer::from(own)).map_err(|why| {
        let (key, why) = (why.path().to_string(), why.into_inner());
        let is_unknown = why.message().starts_with("unknown field");
        let said = unvalued(why.message());
        let said = match () {
            () if is_unknown && !key.contains('.') => format!("{said}, {}", sink_names()),
            () if is_unknown || key == "." => said,
            () => format!("{key}: {said}"),
        };
        refused_at(path, &text, why.span(), &said)
    })?;
    table(path, &text)
}

fn is_sink(key: &str) -> bool {
    SINKS.iter().any(|row| row.name == key)
}

/// `` `kafka`, `jsonl` `` and so on.
fn sink_names() -> String {
    let names: Vec<String> = SINKS.iter().map(|row| format!("`{}`", row.name)).collect();
    names.join(", ")
}

/// A table as the type that it is read into; an error tells no value.
pub fn typed<T: DeserializeOwned>(name: &str, table: Table) -> Result<T, Wrong> {
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|why| {
        let inside = match why.path().to_string() {
            path if path == "." => String::new(),
            path => path,
        };
        let key = [name, &inside].into_iter().filter(|part| !part.is_empty());
        Wrong::new(&key.collect::<Vec<_>>().join("."), &unvalued(why.inner().message()))
    })
}

/// What is wrong with a value, without the value: it may be a password in the wrong place.
fn unvalued(message: &str) -> String {
    let mut said = without_value(message);
    for (ours, theirs) in
        [("a number", "f64"), ("a whole number", "usize"), ("a whole number", "u32")]
    {
        said = said.replace(&format!("expected {theirs}"), &format!("expected {ours}"));
    }
    said
}

fn without_value(message: &str) -> String {
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
