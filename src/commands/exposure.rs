//! `hedgerow exposure`: is vulnerable code in use here? What is recorded comes from the daemon's
//! file, what runs right now from `/proc`; the join is the crate's.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::{ErrorKind, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use hedgerow_exposure::{
    Live, Place,
    known::{self, Found, Known},
    mappings,
    packages::{Databases, Tree},
    record::{FILE, FILE_BYTES_MAX, Record, Span},
    report::{self, Vulnerability},
    touched::Touched,
    verdict::{self, Evidence, Row, Seen},
    vex::{self, Assertion, JUSTIFICATIONS},
};
use hedgerow_hostfile::{Reader, Whose};

use super::log;
use crate::{
    cli::{Exposure, Format},
    config, daemon,
    exit::Failure,
    text,
};

/// Of the JSON form.
const SCHEMA: u32 = 2;
/// Reports of one question.
const REPORTS_MAX: usize = 64;
/// Of what one process has mapped.
const MAPS_BYTES_MAX: u64 = 4 << 20;
/// And of all processes.
const MAPS_IN_ALL_MAX: usize = 256 << 20;
/// Of a namespace's sockets, and descriptors of a process.
const SOCKETS_BYTES_MAX: u64 = 16 << 20;
const DESCRIPTORS_MAX: usize = 65_536;
/// Times that are named one by one.
const SPANS_NAMED: usize = 8;
/// Width of a column of the table; what is longer pushes the rest.
const WIDTH_MAX: usize = 28;

pub fn run(arguments: &Exposure, json: bool) -> anyhow::Result<()> {
    let now_ns = hedgerow_responder::now().wall_ns;
    let assertions = assertions(arguments, now_ns)?;
    let vulnerabilities = reports(arguments)?;
    let state = config::state(&arguments.state)?;
    let record = record(&state.join(FILE))?;
    let failed = || format!("--root {}", arguments.root.display());
    let tree = Tree::new(&arguments.root).with_context(failed).map_err(Failure::file)?;
    if arguments.remember && arguments.workload.is_none() && !is_host(tree.id()) {
        let why = "--remember: of another tree than the host's, --workload says whose it is";
        return Err(Failure::Usage(why.into()).into());
    }
    let (live, not_looked_at) = live(tree.id(), arguments.workload.as_deref(), MAPS_IN_ALL_MAX);
    let touched = Touched::of(&log::findings(&state)?);
    let since_ns = arguments.since.map_or(i64::MIN, |since| {
        now_ns.saturating_sub(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    });
    let evidence = Evidence {
        record: &record,
        since_ns,
        live: &live,
        workload: arguments.workload.as_deref(),
        touched: &touched,
    };
    let mut found = Found::new(now_ns);
    let rows = verdict::judge(&vulnerabilities, &mut Databases::new(tree), &evidence, &mut found);
    let forgotten = match arguments.remember {
        true => remember(&state.join(known::FILE), arguments.workload.as_deref(), found)?,
        false => 0,
    };
    let (watched, gaps) = (evidence.watched(), evidence.gaps());
    match arguments.format {
        Format::Openvex => {
            let host = crate::host::Host::read()?.id;
            let window = window(&watched, &gaps);
            text::json(&vex::document(&rows, &assertions, &window, &host, &rfc3339(now_ns)))
        }
        Format::Table if !json => {
            table(&rows, &watched, &gaps);
            if record.talks_refused > 0 {
                text::say("Not everybody who talked to a program is known: there was no room.");
            }
            if not_looked_at > 0 {
                text::say(&format!(
                    "{not_looked_at} processes were not looked at: what runs has too much mapped."
                ));
            }
            if forgotten > 0 {
                text::say("Not everything is remembered: there was no room.");
            }
            Ok(())
        }
        _ => text::json(&serde_json::json!({
            "schema": SCHEMA, "watched": watched, "gaps": gaps, "refused": record.refused,
            "too_long": record.too_long, "talks_refused": record.talks_refused, "forgotten": forgotten,
            "not_looked_at": not_looked_at, "rows": rows,
        })),
    }
}

fn reports(arguments: &Exposure) -> anyhow::Result<Vec<Vulnerability>> {
    if arguments.report.len() > REPORTS_MAX {
        return Err(Failure::Usage(format!("--report: more than {REPORTS_MAX} files")).into());
    }
    let mut all = Vec::new();
    for path in &arguments.report {
        let bytes = read(path, report::BYTES_MAX).map_err(Failure::file)?;
        all.extend(report::parse(&path.display().to_string(), &bytes).map_err(Failure::file)?);
    }
    Ok(all)
}

fn is_host(tree: (u64, u64)) -> bool {
    fs::metadata("/").is_ok_and(|host| (host.dev(), host.ino()) == tree)
}

/// Leaves what was found for the daemon, in the place of what was found before; how often a program had no
/// room.
fn remember(path: &Path, asked: Option<&str>, found: Found) -> anyhow::Result<usize> {
    // What can't be read is of no use to the daemon either.
    let before = read(path, known::FILE_BYTES_MAX).ok();
    let before = before.and_then(|bytes| Known::parse(&bytes).ok()).unwrap_or_default();
    let (bytes, forgotten) = before.write(asked, found)?;
    daemon::replace(path, &bytes).map_err(Failure::file)?;
    Ok(forgotten)
}

fn read(path: &Path, bytes_max: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let failed = || format!("can't read {}", path.display());
    let file = File::open(path).with_context(failed)?;
    file.take(bytes_max + 1).read_to_end(&mut bytes).with_context(failed)?;
    if bytes.len() as u64 > bytes_max {
        anyhow::bail!("{} is larger than {bytes_max} bytes", path.display());
    }
    Ok(bytes)
}

fn record(path: &Path) -> anyhow::Result<Record> {
    let shown = path.display();
    if matches!(fs::metadata(path), Err(why) if why.kind() == ErrorKind::NotFound) {
        return Err(Failure::File(format!(
            "{shown} is not there: no daemon has recorded what is used; start one (hedgerow run), or \
             name its --state"
        ))
        .into());
    }
    let bytes = read(path, FILE_BYTES_MAX).map_err(Failure::file)?;
    Ok(Record::parse(&bytes).map_err(|why| Failure::File(format!("{shown}: {why}")))?)
}

fn assertions(arguments: &Exposure, now_ns: i64) -> anyhow::Result<Vec<Assertion>> {
    let Some((by, until)) = arguments.by.as_ref().zip(arguments.until.as_ref()) else {
        return Ok(Vec::new());
    };
    let wrong = |why: String| anyhow::Error::from(Failure::Usage(why));
    if arguments.format != Format::Openvex {
        return Err(wrong("--assert is told by --format openvex only".into()));
    }
    let day: NaiveDate =
        until.parse().map_err(|why| wrong(format!("--until {until}: {why}; as 2027-01-31")))?;
    if day < DateTime::<Utc>::from_timestamp_nanos(now_ns).date_naive() {
        return Err(wrong(format!("--until {until}: the assertion is over")));
    }
    let each = arguments.assert.iter().map(|assertion| {
        let known = |why: &&str| JUSTIFICATIONS.contains(why);
        let parts = assertion.split_once('=').filter(|(_, why)| known(why));
        let (id, justification) = parts.ok_or_else(|| {
            wrong(format!("--assert {assertion}: ID=WHY, of {}", JUSTIFICATIONS.join(", ")))
        })?;
        let (by, until) = (by.clone(), until.clone());
        Ok(Assertion { id: id.into(), justification: justification.into(), by, until })
    });
    each.collect()
}

/// Every process that can be read, with what it has mapped; of a workload, those whose root is the
/// tree, and those in a cgroup of its name; and how many were left out, since what the others have mapped
/// takes all of `room` already.
fn live(root: (u64, u64), workload: Option<&str>, mut room: usize) -> (Vec<Live>, usize) {
    let mut reader = Reader::new("maps");
    let mut listening = Listening::default();
    let own = std::process::id();
    let (mut found, mut left_out) = (Vec::new(), 0);
    for pid in daemon::processes().into_iter().filter(|pid| *pid != own) {
        let Ok(program) = fs::read_link(format!("/proc/{pid}/exe")) else { continue };
        let place = place(pid, root, &mut reader);
        if place != Place::Tree && workload.is_some_and(|workload| !is_in(pid, workload)) {
            continue;
        }
        let Ok(maps) = reader.read_proc(pid, "maps", MAPS_BYTES_MAX) else { continue };
        // It ended meanwhile.
        if maps.is_empty() {
            continue;
        }
        if maps.len() > room {
            left_out += 1;
            continue;
        }
        room -= maps.len();
        found.push(Live {
            pid,
            program: program.to_string_lossy().trim_end_matches(" (deleted)").to_owned(),
            listens: listening.has(pid, &mut reader),
            started_ns: started_ns(pid),
            place,
            mapped: mappings(&String::from_utf8_lossy(&maps)),
        });
    }
    (found, left_out)
}

/// Where a process's paths are meant: in our own root as well where only its mount namespace is another, as
/// of a sandboxed service. Its root may lie on a file system that never answers.
fn place(pid: u32, root: (u64, u64), reader: &mut Reader) -> Place {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    if namespace(&pid.to_string()).is_none_or(|own| Some(own) == namespace("self")) {
        return Place::Here;
    }
    let whose = Whose::process(pid, "/");
    let own = reader.run(&whose, move |_| Ok(fs::metadata(format!("/proc/{pid}/root/"))?));
    let id = |found: fs::Metadata| (found.dev(), found.ino());
    match own.map(id) {
        Ok(own) if own == root => Place::Tree,
        Ok(own) if fs::metadata("/").is_ok_and(|ours| id(ours) == own) => Place::Here,
        _ => Place::Elsewhere,
    }
}

/// Whether a process's cgroup, or one above it, has the name of a workload.
fn is_in(pid: u32, workload: &str) -> bool {
    let lines = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    lines.lines().any(|line| line.split('/').any(|name| name == workload))
}

/// UTC; 0 of one that has ended.
fn started_ns(pid: u32) -> i64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name, which may have anything in it, the third is the state, the 22nd the start.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let Some(ticks) = rest.split_whitespace().nth(19).and_then(|word| word.parse::<i64>().ok())
    else {
        return 0;
    };
    // SAFETY: asks for a constant.
    let hertz = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1);
    let now = hedgerow_responder::now();
    let booted_ns = now.wall_ns.saturating_sub_unsigned(now.boot_ns);
    booted_ns.saturating_add(ticks.saturating_mul(1_000_000_000 / hertz))
}

/// Listening sockets, by network namespace.
#[derive(Default)]
struct Listening(HashMap<PathBuf, HashSet<u64>>);

impl Listening {
    fn has(&mut self, pid: u32, reader: &mut Reader) -> bool {
        let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/net")) else { return false };
        let sockets = self.0.entry(namespace).or_insert_with(|| {
            let tables = [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")];
            let of = |(name, state): (&str, &str)| {
                let table = reader.read_proc(pid, &format!("net/{name}"), SOCKETS_BYTES_MAX);
                inodes(&String::from_utf8_lossy(&table.unwrap_or_default()), state)
            };
            tables.into_iter().flat_map(of).collect()
        });
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        descriptors.take(DESCRIPTORS_MAX).any(|descriptor| {
            let link = fs::read_link(descriptor.path()).unwrap_or_default();
            let name = link.to_string_lossy();
            let inode = name.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            inode.and_then(|inode| inode.parse().ok()).is_some_and(|inode| sockets.contains(&inode))
        })
    }
}

/// Inodes of the sockets in a state, of a `/proc/PID/net` table.
fn inodes(table: &str, state: &str) -> Vec<u64> {
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let those = lines.filter(|words| words.get(3) == Some(&state));
    those.filter_map(|words| words.get(9)?.parse().ok()).collect()
}

fn rfc3339(time_ns: i64) -> String {
    DateTime::<Utc>::from_timestamp_nanos(time_ns).to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// From when to when it was watched, in words.
fn window(watched: &[Span], gaps: &[Span]) -> String {
    let (Some(first), Some(last)) = (watched.first(), watched.last()) else {
        return "it was not watched".to_owned();
    };
    let pauses: Vec<Span> = watched
        .windows(2)
        .map(|two| Span { from_ns: two[0].to_ns, to_ns: two[1].from_ns })
        .collect();
    let named = |what: &str, spans: &[Span]| match spans {
        [] => format!("{what}: never"),
        spans => {
            let name =
                |span: &Span| format!("{} to {}", rfc3339(span.from_ns), rfc3339(span.to_ns));
            let mut names: Vec<String> = spans.iter().rev().take(SPANS_NAMED).map(name).collect();
            if spans.len() > SPANS_NAMED {
                names.push(format!("{} more", spans.len() - SPANS_NAMED));
            }
            format!("{what}: {}", names.join(", "))
        }
    };
    format!(
        "watched from {} to {}; not watched meanwhile: {}; {}",
        rfc3339(first.from_ns),
        rfc3339(last.to_ns),
        named("", &pauses).trim_start_matches(": "),
        named("records lost", gaps)
    )
}

fn table(rows: &[Row], watched: &[Span], gaps: &[Span]) {
    let header =
        ["VERDICT", "SEVERITY", "VULNERABILITY", "PACKAGE", "INSTALLED", "FIXED IN", "WHY"];
    let mut lines = vec![header.map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    let widths: Vec<usize> = (0..header.len() - 1)
        .map(|at| {
            lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0).min(WIDTH_MAX)
        })
        .collect();
    for line in &lines {
        let mut out = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            out += &format!("{cell:width$}  ");
        }
        text::say(&(out + &line[header.len() - 1]));
    }
    text::say(&format!("{} rows; {}.", rows.len(), window(watched, gaps)));
}

fn cells(row: &Row) -> [String; 7] {
    let of = &row.vulnerability;
    let mut why = row.why.clone();
    let live = row.live.iter().map(|one| format!("{} (pid {})", one.program, one.pid));
    let seen =
        row.seen.iter().map(|Seen { workload, program, .. }| format!("{program} in {workload}"));
    let readers = row.readers.iter().map(|one| format!("{} (pid {}?)", one.program, one.pid));
    let mut by: Vec<String> = live.chain(readers).chain(seen).collect();
    if row.more > 0 {
        by.push(format!("{} more", row.more));
    }
    if !by.is_empty() {
        why += &format!(": {}", by.join(", "));
    }
    if let Some((first, last)) = row.first_ns.zip(row.last_ns) {
        why += &format!("; first {}, last {}", text::time(first), text::time(last));
    }
    if let Some(talked) = &row.talked {
        let mut peers: Vec<String> = talked.peers.iter().map(ToString::to_string).collect();
        peers.extend((talked.more > 0).then(|| "others".to_owned()));
        let last = text::time(talked.last_ns);
        why += &format!("; talked to by {}, last {last}", peers.join(", "));
    }
    if let Some(latest) = row.findings.first() {
        let count = row.findings.len() as u64 + row.findings_more;
        let latest = format!("{}, {}", text::time(latest.time_ns), latest.uid);
        why += &format!("; findings about its programs: {count}, the latest of {latest}");
    }
    [
        row.verdict.name().into(),
        format!("{:?}", of.severity).to_lowercase(),
        of.id.clone(),
        row.package.clone().unwrap_or_else(|| of.package.clone()),
        row.installed.clone().unwrap_or_else(|| of.version.clone()),
        of.fixed.join(", "),
        why,
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_window_names_pauses_and_losses() {
        let span = |from_s: i64, to_s: i64| Span {
            from_ns: from_s * 1_000_000_000,
            to_ns: to_s * 1_000_000_000,
        };
        let said = window(&[span(0, 10), span(20, 30)], &[span(25, 26)]);
        let expected = "watched from 1970-01-01T00:00:00Z to 1970-01-01T00:00:30Z; not watched \
                        meanwhile: 1970-01-01T00:00:10Z to 1970-01-01T00:00:20Z; records lost: \
                        1970-01-01T00:00:25Z to 1970-01-01T00:00:26Z";
        assert_eq!(said, expected);
        assert!(window(&[span(0, 10)], &[]).contains("meanwhile: never; records lost: never"));
    }

    #[test]
    fn what_runs_is_kept_as_far_as_there_is_room_and_the_rest_is_counted() {
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let (found, left_out) = live((0, 0), None, 0);
        assert!(found.is_empty() && left_out > 0);
        let (found, left_out) = live((0, 0), None, usize::MAX);
        assert!(found.iter().any(|process| process.pid == child.id()) && left_out == 0);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn only_sockets_that_listen_are_taken() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1\n   \
                     1: 0100007F:1F90 0100007F:8000 01 00000000:00000000 00:00000000 00000000     0        0 4343 1\n";
        assert_eq!(inodes(table, "0A"), [4242]);
    }
}
