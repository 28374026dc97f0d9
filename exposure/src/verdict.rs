//! What is said of each vulnerability. Pure: time is an argument.

mod users;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use hedgerow_event::Use;
use serde::Serialize;

use self::users::Talks;
use crate::{
    Live, Place,
    known::Found,
    packages::{Databases, Files, Package},
    record::{BEFORE, Entry, PATH_BYTES_MAX, Record, Span, User},
    report::{Severity, Vulnerability},
    touched::{Touch, Touched},
};

/// Users and processes that a row names; the rest is a number.
pub const NAMED_MAX: usize = 8;

/// Programs that run what they read, by how their names begin. Who else opens such a file (a
/// backup, `grep`) doesn't use it as code.
const INTERPRETERS: [(&str, &[&str]); 15] = [
    ("python", &[".py"]),
    ("pypy", &[".py"]),
    ("uwsgi", &[".py"]),
    ("gunicorn", &[".py"]),
    ("node", &[".js", ".mjs", ".cjs"]),
    ("bun", &[".js", ".mjs", ".cjs"]),
    ("deno", &[".js", ".mjs", ".cjs"]),
    ("ruby", &[".rb"]),
    ("jruby", &[".rb"]),
    ("puma", &[".rb"]),
    ("perl", &[".pl", ".pm"]),
    ("php", &[".php"]),
    ("java", &[".jar", ".war"]),
    ("apache2", &[".php"]),
    ("httpd", &[".php"]),
];

/// Whether vulnerable code is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It ran, was mapped or was read by what runs it, or is at the moment.
    InUse,
    /// It is fixed on disk, and a process still has what was there before.
    Restart,
    /// It isn't known.
    Unknown,
    /// Nobody was seen using it while it was watched.
    NotSeen,
    /// The installed version is the fixed one, or newer, and no process has another.
    Fixed,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Self::InUse => "in use",
            Self::Restart => "restart",
            Self::Unknown => "unknown",
            Self::NotSeen => "not seen",
            Self::Fixed => "fixed",
        }
    }
}

/// A use that was seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Seen {
    pub how: Use,
    pub workload: String,
    pub program: String,
}

/// Other hosts that talked to those who use a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Talked {
    /// Who was heard last of each program.
    pub peers: Vec<IpAddr>,
    /// Times that one was heard who is named no longer.
    pub more: u64,
    pub first_ns: i64,
    pub last_ns: i64,
}

/// One vulnerability in one installed package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    pub verdict: Verdict,
    pub vulnerability: Vulnerability,
    /// Name of the installed package, where one was found.
    pub package: Option<String>,
    pub installed: Option<String>,
    /// The verdict in words.
    pub why: String,
    pub seen: Vec<Seen>,
    /// Uses that are not named in `seen`.
    pub more: u64,
    pub first_ns: Option<i64>,
    pub last_ns: Option<i64>,
    /// Processes that have a file of it mapped at the moment.
    pub live: Vec<Live>,
    /// Processes that run an interpreter at the moment which was seen reading it.
    pub readers: Vec<Live>,
    /// One of these listens.
    pub listens: bool,
    /// Who talked to the programs that used it, where somebody did.
    pub talked: Option<Talked>,
    /// Findings about the programs that used it, newest first.
    pub findings: Vec<Touch>,
    /// Findings that are not named in `findings`.
    pub findings_more: u64,
}

/// What all verdicts rest on.
#[derive(Debug)]
pub struct Evidence<'a> {
    pub record: &'a Record,
    /// From here on what was seen, lost and watched is asked about.
    pub since_ns: i64,
    pub live: &'a [Live],
    /// Only this workload's uses.
    pub workload: Option<&'a str>,
    pub touched: &'a Touched,
}

impl Evidence<'_> {
    /// The times of watching that are asked about.
    pub fn watched(&self) -> Vec<Span> {
        self.within(&self.record.watched)
    }

    /// The times in which something was lost.
    pub fn gaps(&self) -> Vec<Span> {
        self.within(&self.record.gaps)
    }

    fn within(&self, spans: &[Span]) -> Vec<Span> {
        let since = self.since_ns;
        let late = spans.iter().filter(|span| span.to_ns > since);
        late.map(|span| Span { from_ns: span.from_ns.max(since), ..*span }).collect()
    }
}

/// What was used, by path, and who was talked to.
struct Index<'a> {
    by_path: BTreeMap<String, Vec<&'a Entry>>,
    talks: Talks<'a>,
}

impl<'a> Index<'a> {
    fn new(record: &'a Record, since_ns: i64) -> Self {
        let mut by_path: BTreeMap<String, Vec<&Entry>> = BTreeMap::new();
        for entry in &record.files {
            let path = &entry.key.path;
            by_path.entry(path.clone()).or_default().push(entry);
            if let Some(source) = compiled_from(path) {
                by_path.entry(source).or_default().push(entry);
            }
        }
        Self { by_path, talks: users::talks(record, since_ns) }
    }

    /// Entries of a package's files, whose paths have `prefix` in front.
    fn of(&self, files: &Files, prefix: &str) -> Vec<&'a Entry> {
        let exact =
            files.paths.iter().filter_map(|path| self.by_path.get(&format!("{prefix}{path}")));
        let mut found: Vec<&Entry> = exact.flatten().copied().collect();
        for under in &files.under {
            let under = format!("{prefix}{under}");
            let below = self.by_path.range(under.clone()..);
            let below = below.take_while(|(path, _)| path.starts_with(&under));
            let own = below.filter(|(path, _)| !path[under.len()..].contains("node_modules/"));
            found.extend(own.flat_map(|(_, entries)| entries));
        }
        found
    }
}

/// `x/__pycache__/m.cpython-311.pyc` is of `x/m.py`, which a package has without the other.
fn compiled_from(path: &str) -> Option<String> {
    let (directory, name) = path.strip_suffix(".pyc")?.rsplit_once("/__pycache__/")?;
    let module = name.split('.').next()?;
    Some(format!("{directory}/{module}.py"))
}

/// A verdict for each vulnerability in each package that it means, what matters most first. `found` gets
/// what is known of whom.
pub fn judge(
    vulnerabilities: &[Vulnerability],
    databases: &mut Databases,
    evidence: &Evidence<'_>,
    found: &mut Found,
) -> Vec<Row> {
    let index = Index::new(evidence.record, evidence.since_ns);
    let mut rows = Vec::new();
    for vulnerability in vulnerabilities {
        match databases.find(vulnerability) {
            Err(why) => rows.push(empty(vulnerability, Verdict::Unknown, why)),
            Ok(packages) => {
                for package in packages {
                    let (row, users) = row(vulnerability, &package, databases, &index, evidence);
                    found.add(&row, &users);
                    rows.push(row);
                }
            }
        }
    }
    rows.sort_by(|a, b| key(a).cmp(&key(b)));
    rows.dedup();
    rows
}

/// By what matters: verdict, who can be reached from outside and is, severity.
fn key(row: &Row) -> (u8, u8, Reverse<Severity>, bool, &str, &Option<String>) {
    let rank = match row.verdict {
        Verdict::InUse | Verdict::Restart => 0,
        verdict => verdict as u8,
    };
    let reach = match (row.listens, &row.talked) {
        (true, Some(_)) => 0,
        (true, None) => 1,
        (false, _) => 2,
    };
    let of = &row.vulnerability;
    (rank, reach, Reverse(of.severity), row.findings.is_empty(), &of.id, &row.package)
}

fn empty(vulnerability: &Vulnerability, verdict: Verdict, why: String) -> Row {
    Row {
        verdict,
        vulnerability: vulnerability.clone(),
        package: None,
        installed: None,
        why,
        seen: Vec::new(),
        more: 0,
        first_ns: None,
        last_ns: None,
        live: Vec::new(),
        readers: Vec::new(),
        listens: false,
        talked: None,
        findings: Vec::new(),
        findings_more: 0,
    }
}

/// With all who use the package, of whom a row names some.
fn row(
    vulnerability: &Vulnerability,
    package: &Package,
    databases: &mut Databases,
    index: &Index<'_>,
    evidence: &Evidence<'_>,
) -> (Row, BTreeSet<User>) {
    let mut row = empty(vulnerability, Verdict::Unknown, String::new());
    row.package = Some(package.name.clone());
    row.installed = Some(package.version.clone());
    let files = match &package.files {
        Ok(files) if !files.is_empty() => files,
        files => {
            row.why = match files {
                Ok(_) => "the package has no files".into(),
                Err(why) => format!("its files aren't known: {why}"),
            };
            return (row, BTreeSet::new());
        }
    };
    let old = look_at_live(&mut row, files, databases, evidence);
    let fixed = package.has_fix(&vulnerability.fixed);
    if fixed && !old {
        row.live.clear();
        row.listens = false;
        row.verdict = Verdict::Fixed;
        row.why = "the installed version has the fix, and no process has another file".into();
        return (row, BTreeSet::new());
    }
    let seen = look_at_record(&mut row, files, databases, index, evidence);
    let users = users::look_at(&mut row, &seen, &index.talks, evidence);
    if fixed {
        row.verdict = Verdict::Restart;
        row.why = "fixed on disk; a process has what was there before".into();
        // Who used it since then has the fix.
        let old = users::users(&row, &BTreeSet::new());
        return (row, old);
    }
    (row.verdict, row.why) = said(&row, evidence);
    if row.verdict == Verdict::NotSeen && may_be_too_long(files, databases, evidence) {
        row.verdict = Verdict::Unknown;
        row.why = format!("paths of more than {PATH_BYTES_MAX} bytes are not recorded");
    }
    if row.verdict == Verdict::NotSeen
        && let Some(pid) = unwatched_reader(files, evidence)
    {
        row.verdict = Verdict::Unknown;
        row.why = format!("process {pid} may have read it before it was watched");
    }
    (row, users)
}

/// Notes the processes that have a file of the package mapped; whether one has a file that was
/// replaced since.
fn look_at_live(
    row: &mut Row,
    files: &Files,
    databases: &mut Databases,
    evidence: &Evidence<'_>,
) -> bool {
    let tree = databases.tree_mut();
    let root = tree.root().to_string_lossy().trim_end_matches('/').to_owned();
    let mut old = false;
    for process in evidence.live {
        let below = |path: &str| match process.place {
            Place::Here => path.strip_prefix(&*root).map(str::to_owned),
            Place::Tree => Some(path.to_owned()),
            Place::Elsewhere => None,
        };
        let is_own = |path: &str| {
            files.paths.contains(path)
                || files.under.iter().any(|under| path.starts_with(under.as_str()))
        };
        let mut uses = false;
        for mapping in &process.mapped {
            let Some(path) = below(&mapping.path).filter(|path| is_own(path)) else { continue };
            uses = true;
            // An overlay's files have another device than those of the file systems below.
            let replaced = tree
                .stat(&path)
                .is_some_and(|stat| stat.device == mapping.device && stat.inode != mapping.inode);
            old |= mapping.deleted || replaced;
        }
        if uses {
            row.listens |= process.listens;
            if row.live.len() < NAMED_MAX {
                row.live.push(Live { mapped: Vec::new(), ..process.clone() });
            } else {
                row.more += 1;
            }
        }
    }
    old
}

/// Adds what was recorded, of which a row names some.
fn look_at_record(
    row: &mut Row,
    files: &Files,
    databases: &Databases,
    index: &Index<'_>,
    evidence: &Evidence<'_>,
) -> BTreeSet<Seen> {
    let root = databases.tree().root().to_string_lossy();
    let prefix = root.trim_end_matches('/');
    let users = &evidence.record.users;
    let mut seen = BTreeSet::new();
    // A workload's own paths are meant in its own root.
    let here = index.of(files, prefix).into_iter().filter(|entry| !entry.key.elsewhere);
    let inside = evidence.workload.map(|_| index.of(files, "")).unwrap_or_default();
    let inside = inside.into_iter().filter(|entry| entry.key.elsewhere);
    for entry in here.chain(inside).filter(|entry| entry.last_ns >= evidence.since_ns) {
        let by = entry.by.iter().filter_map(|(user, how)| Some((users.get(*user as usize)?, *how)));
        let by = by.filter(|(user, how)| *how != Use::Read || interprets(user));
        let meant = |user: &User, only| user.workload == only || user.workload == BEFORE;
        let by = by.filter(|(user, _)| evidence.workload.is_none_or(|only| meant(user, only)));
        let named: Vec<Seen> = by
            .map(|(User { workload, program }, how)| Seen {
                how,
                workload: workload.clone(),
                program: program.clone(),
            })
            .collect();
        // Who found no room with the file may be anybody.
        if named.is_empty() {
            row.more += entry.more;
        }
        if !named.is_empty() || entry.more > 0 {
            let first = row.first_ns.map_or(entry.first_ns, |first| first.min(entry.first_ns));
            let last = row.last_ns.map_or(entry.last_ns, |last| last.max(entry.last_ns));
            (row.first_ns, row.last_ns) = (Some(first), Some(last));
        }
        seen.extend(named);
    }
    row.more += seen.len().saturating_sub(NAMED_MAX) as u64;
    row.seen = seen.iter().take(NAMED_MAX).cloned().collect();
    seen
}

/// Whether a use that was not recorded for the length of its path may be one of these files.
fn may_be_too_long(files: &Files, databases: &Databases, evidence: &Evidence<'_>) -> bool {
    let before = databases.tree().root().as_os_str().len();
    let is_long = |path: &String| before + path.len() > PATH_BYTES_MAX;
    evidence.record.too_long > 0 && (!files.under.is_empty() || files.paths.iter().any(is_long))
}

fn interprets(user: &User) -> bool {
    let path = user.program.split(' ').next().unwrap_or_default();
    INTERPRETERS.iter().any(|(name, _)| is_named(path, name))
}

fn is_named(path: &str, name: &str) -> bool {
    path.rsplit('/').next().is_some_and(|last| last.starts_with(name))
}

/// An interpreter of what the package has that began while nobody watched: files that it read are no
/// longer to be seen.
fn unwatched_reader(files: &Files, evidence: &Evidence<'_>) -> Option<u32> {
    let has = |ending: &str| {
        !files.under.is_empty() || files.paths.iter().any(|path| path.ends_with(ending))
    };
    let reads = |process: &&Live| {
        let of = INTERPRETERS.iter().find(|(name, _)| is_named(&process.program, name));
        of.is_some_and(|(_, endings)| endings.iter().any(|ending| has(ending)))
    };
    let watched = &evidence.record.watched;
    let seen = |process: &Live| {
        let began = process.started_ns;
        watched.iter().any(|span| span.from_ns <= began && began <= span.to_ns)
    };
    // What began after all that was written will be in what is written next.
    let last_ns = watched.last().map_or(i64::MIN, |span| span.to_ns);
    let early = |process: &&Live| !seen(process) && process.started_ns <= last_ns;
    evidence.live.iter().filter(reads).find(early).map(|process| process.pid)
}

fn said(row: &Row, evidence: &Evidence<'_>) -> (Verdict, String) {
    if !row.live.is_empty() {
        let listens = if row.listens { ", one that listens" } else { "" };
        let who = match row.live.len() {
            1 => "a process has".to_owned(),
            count => format!("{count} processes have"),
        };
        return (Verdict::InUse, format!("{who} it mapped now{listens}"));
    }
    if row.first_ns.is_some() {
        let hows: BTreeSet<Use> = row.seen.iter().map(|one| one.how).collect();
        let word = |how: &Use| match how {
            Use::Ran => "ran",
            Use::Mapped => "was mapped",
            Use::Read => "was read by an interpreter",
        };
        let words: Vec<&str> = hows.iter().map(word).collect();
        if words.is_empty() {
            return (
                Verdict::InUse,
                "it was used by programs that have no room in the table".into(),
            );
        }
        let listens = if row.listens { "; such a one listens now" } else { "" };
        return (Verdict::InUse, format!("it {}{listens}", words.join(", ")));
    }
    if evidence.watched().is_empty() {
        return (Verdict::Unknown, "nothing was watched in that time".into());
    }
    if !evidence.gaps().is_empty() {
        return (Verdict::Unknown, "records were lost in that time".into());
    }
    if evidence.record.refused > 0 {
        return (Verdict::Unknown, "the table of files in use was full".into());
    }
    (Verdict::NotSeen, "nobody was seen using it".into())
}

#[cfg(test)]
mod tests;
