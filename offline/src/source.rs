//! What a command line names, as runs: a run is what one `capture` or `run --capture` wrote of one
//! boot of one host.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    path::{Path, PathBuf},
};

use glob::Pattern;
use hedgerow_sink::parquet::{Damaged, ParquetFile, is_spent, remains};

use crate::{
    Error, Result,
    condition::Condition,
    keys::{BOOT, EARLY, HOST, OFFSET, POLICY, RECORDS, SEED},
    time::Span,
};

/// Directories below what is named in which captures are looked for.
const DEPTH_MAX: usize = 4;
/// A file's name says when its first epoch ended, give or take so much.
const NAME_SLACK_NS: i64 = 60_000_000_000;

/// What of a capture is asked for.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Hosts by name or pattern; all where there is none.
    pub hosts: Vec<Pattern>,
    /// Hosts of which it can't hold for any program are left out.
    pub condition: Option<Condition>,
    pub span: Span,
}

impl Default for Selection {
    fn default() -> Self {
        Self { hosts: Vec::new(), condition: None, span: Span::ALL }
    }
}

/// The files of one run, in the order of writing.
#[derive(Debug, Clone)]
pub struct Run {
    pub host: String,
    pub boot: String,
    pub records: Vec<ParquetFile>,
    pub early: Vec<ParquetFile>,
    pub policy: Vec<ParquetFile>,
    /// Of the records' files; where they differ, the latest tells.
    pub metadata: BTreeMap<String, String>,
    /// Something of it can't be read.
    pub damaged: bool,
}

/// All runs that are named, hosts in order and the earlier run first, and the files that can't be
/// read.
#[derive(Debug, Default)]
pub struct Source {
    pub runs: Vec<Run>,
    pub damaged: Vec<Damaged>,
}

impl Run {
    /// How it is told: by the directory of its records.
    pub fn name(&self) -> String {
        let first = self.records.first().and_then(|file| file.path.parent());
        first.map(|path| path.display().to_string()).unwrap_or_default()
    }
}

/// Host, boot, key and clock: what is the same in all files of a run and in no other's.
type Identity = [String; 4];

fn identity(file: &ParquetFile) -> Result<Identity> {
    let of = |key: &str| {
        file.metadata.get(key).cloned().ok_or_else(|| {
            Error::at(
                &file.path,
                format!(
                    "its metadata has no `{key}`; was it written by `hedgerow capture` or `hedgerow \
                     run --capture`?"
                ),
            )
        })
    };
    Ok([of(HOST)?, of(BOOT)?, of(SEED)?, of(OFFSET)?])
}

impl Source {
    /// Rows of all records, as the files say.
    pub fn rows(&self) -> u64 {
        let files = self.runs.iter().flat_map(|run| &run.records);
        files.fold(0, |rows, file| rows.saturating_add(file.rows))
    }

    /// Finds the runs in captures, their partitions, single files and patterns of these.
    ///
    /// # Errors
    /// Nothing is there, or nothing of it can be read, or none of it is asked for.
    pub fn open(named: &[PathBuf], selection: &Selection) -> Result<Self> {
        let mut places = BTreeSet::new();
        for path in named {
            for path in expand(path)? {
                find(&path, DEPTH_MAX, &mut places).map_err(|why| Error::at(&path, why))?;
            }
        }
        if places.is_empty() {
            return Err(no_capture(named));
        }
        let mut source = Self::default();
        let mut runs: BTreeMap<Identity, Run> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for place in &places {
            let (files, damaged) = remains(place).map_err(Error::file)?;
            for file in files.into_iter().filter(|file| !is_spent(&file.path)) {
                if seen.insert(file.path.clone()) {
                    runs.entry(identity(&file)?)
                        .or_insert_with(|| Run::of(&file))
                        .records
                        .push(file);
                }
            }
            source.damaged.extend(damaged.into_iter().filter(|file| !is_spent(&file.path)));
        }
        if runs.is_empty() {
            return Err(match source.damaged.first() {
                Some(file) => {
                    Error::at(&file.path, format!("{}; nothing else is there", file.reason))
                }
                None => no_capture(named),
            });
        }
        source.add_beside(&mut runs)?;
        source.runs = runs.into_values().collect();
        source.select(selection)?;
        Ok(source)
    }

    /// Adds the early rows and grounds that belong to the records, which lie beside them.
    fn add_beside(&mut self, runs: &mut BTreeMap<Identity, Run>) -> Result<()> {
        let roots: BTreeSet<PathBuf> = runs
            .values()
            .flat_map(|run| &run.records)
            .filter_map(|file| root(&file.path))
            .collect();
        for (root, stream) in roots.iter().flat_map(|root| [EARLY, POLICY].map(|name| (root, name)))
        {
            let beside = root.join(stream);
            if !beside.is_dir() {
                continue;
            }
            let (files, damaged) = remains(&beside).map_err(Error::file)?;
            for file in files {
                if let Some(run) = runs.get_mut(&identity(&file)?) {
                    let of = if stream == EARLY { &mut run.early } else { &mut run.policy };
                    of.push(file);
                }
            }
            self.damaged.extend(damaged);
        }
        for run in runs.values_mut() {
            for files in [&mut run.records, &mut run.early, &mut run.policy] {
                files.sort_by(|a, b| {
                    (a.path.file_name(), &a.path).cmp(&(b.path.file_name(), &b.path))
                });
            }
            // Two of one name are a file and its copy.
            let twice =
                |pair: &&[ParquetFile]| pair[0].path.file_name() == pair[1].path.file_name();
            if let Some([one, other]) = run.records.windows(2).find(twice) {
                return Err(Error::Usage(format!(
                    "{} and {} are of one run: name a capture or its copy, not both",
                    one.path.display(),
                    other.path.display()
                )));
            }
            run.metadata = run.records.iter().flat_map(|file| file.metadata.clone()).collect();
            let near = |file: &Damaged| {
                let of = |path: &Path| root(path).map(|root| (root, partition(path)));
                run.records.iter().any(|record| of(&record.path) == of(&file.path))
            };
            run.damaged = self.damaged.iter().any(near);
        }
        Ok(())
    }

    fn select(&mut self, selection: &Selection) -> Result<()> {
        let asked = |host: &str| {
            let named = selection.hosts.iter().any(|asked| asked.matches(host));
            let condition = selection.condition.as_ref();
            (named || selection.hosts.is_empty())
                && condition.is_none_or(|condition| condition.may_take(host))
        };
        let known: BTreeSet<String> = self.runs.iter().map(|run| run.host.clone()).collect();
        self.runs.retain(|run| asked(&run.host));
        if self.runs.is_empty() {
            let known: Vec<String> = known.into_iter().collect();
            return Err(Error::Usage(format!(
                "--host, --where: none of the captured hosts is asked for; there are {}",
                known.join(", ")
            )));
        }
        for run in &mut self.runs {
            run.cut(selection.span);
        }
        self.runs.retain(|run| !run.records.is_empty());
        if self.runs.is_empty() {
            return Err(Error::Usage("--from, --to: nothing was captured in this time".into()));
        }
        self.runs.sort_by_cached_key(|run| {
            (run.host.clone(), run.records.first().and_then(|file| start_ns(&file.path)))
        });
        Ok(())
    }
}

impl Run {
    fn of(file: &ParquetFile) -> Self {
        let text = |key: &str| file.metadata.get(key).cloned().unwrap_or_default();
        Self {
            host: text(HOST),
            boot: text(BOOT),
            records: Vec::new(),
            early: Vec::new(),
            policy: Vec::new(),
            metadata: BTreeMap::new(),
            damaged: false,
        }
    }

    /// Leaves out files that hold nothing of a time.
    fn cut(&mut self, span: Span) {
        for files in [&mut self.records, &mut self.early] {
            let starts: Vec<Option<i64>> = files.iter().map(|file| start_ns(&file.path)).collect();
            let mut at = 0;
            files.retain(|_| {
                let (start, next) = (starts[at], starts.get(at + 1).copied().flatten());
                at += 1;
                let over =
                    next.is_some_and(|next| next.saturating_add(NAME_SLACK_NS) < span.from_ns);
                let later =
                    start.is_some_and(|start| start.saturating_sub(NAME_SLACK_NS) > span.to_ns);
                !over && !later
            });
        }
    }
}

fn no_capture(named: &[PathBuf]) -> Error {
    let named: Vec<String> = named.iter().map(|path| path.display().to_string()).collect();
    Error::File(format!(
        "{}: no capture (there is no directory `{RECORDS}` with Parquet files); make one with \
         `hedgerow capture` or `hedgerow run --capture`",
        named.join(", ")
    ))
}

/// The paths that a pattern stands for; a path that exists stands for itself.
fn expand(path: &Path) -> Result<Vec<PathBuf>> {
    let text = path.to_string_lossy();
    if path.exists() || !text.contains(['*', '?', '[']) {
        return Ok(vec![path.to_owned()]);
    }
    let found = glob::glob(&text).map_err(|why| Error::Usage(format!("{text}: {why}")))?;
    let found: Vec<PathBuf> = found
        .collect::<std::result::Result<_, _>>()
        .map_err(|why| Error::at(why.path(), why.error()))?;
    if found.is_empty() {
        return Err(Error::at(path, "no file or directory is named like this"));
    }
    Ok(found)
}

/// Where records lie: a file, a partition of them, or whatever holds a directory of them.
fn find(path: &Path, depth: usize, places: &mut BTreeSet<PathBuf>) -> std::io::Result<()> {
    let path = std::fs::canonicalize(path)?;
    let within = path.join(RECORDS);
    if path.is_file() || holds_records(&path) {
        places.insert(path);
    } else if holds_records(&within) {
        places.insert(within);
    } else if depth > 0 {
        for entry in std::fs::read_dir(&path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                find(&entry.path(), depth - 1, places)?;
            }
        }
    }
    Ok(())
}

/// Whether a directory is one of records, or a partition of one; others may be called so, too.
fn holds_records(path: &Path) -> bool {
    let begins = |name: &OsStr, with: &str| name.as_encoded_bytes().starts_with(with.as_bytes());
    let partition = |path: &&Path| {
        path.file_name().is_some_and(|name| begins(name, "host=") || begins(name, "date="))
    };
    let Some(stream) = path.ancestors().find(|path| !partition(path)) else { return false };
    let has = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        begins(&name, "host=") || Path::new(&name).extension().is_some_and(|end| end == "parquet")
    };
    let holds = || std::fs::read_dir(path).is_ok_and(|entries| entries.flatten().any(has));
    stream.file_name().is_some_and(|name| name == RECORDS) && (stream != path || holds())
}

/// The capture that a file is of.
fn root(path: &Path) -> Option<PathBuf> {
    let stream = path.ancestors().find(|part| {
        part.file_name()
            .is_some_and(|name| [RECORDS, EARLY, POLICY].iter().any(|stream| name == *stream))
    })?;
    stream.parent().map(Path::to_owned)
}

/// The `host=` partition that a file is in.
fn partition(path: &Path) -> Option<String> {
    let names = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    names.into_iter().find(|name| name.starts_with("host="))
}

/// When a file was begun, by its name.
pub fn start_ns(path: &Path) -> Option<i64> {
    path.file_name()?.to_str()?.strip_prefix("part-")?.split('-').next()?.parse().ok()
}
