//! `hedgerow support`: what helps to help an operator, in one file that can be sent.
//!
//! Everything passes the gate here, also what passed it when it came in, and what was learned stays
//! out: nothing is taken of profiles, of captures, of the flight recorder or of `hedgerow power`. What
//! can't be had is named in the bundle and ends nothing.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use anyhow::Context;
use flate2::{Compression, write::GzEncoder};
use hedgerow_detect::SavedModel;
use hedgerow_event::gate;
use hedgerow_responder::ledger::rotated;
use serde::Serialize;
use serde_json::{Value, json};

use super::{config_file, doctor};
use crate::{
    cli,
    config::{self, Config, shown},
    control::{self, GROUP, GetStatus, call, socket},
    exit::Failure,
    findings,
    host::{LEDGER, MODEL},
    text,
};

/// A part of more bytes is left out, and of a file only its last so many are read: with at most
/// eleven parts that bounds the bundle, and the memory that making it takes.
const PART_BYTES_MAX: usize = 4 << 20;
/// The newest lines of each.
const LEDGER_LINES: usize = 500;
const FINDING_LINES: usize = 200;
const LOG_LINES: usize = 1000;
/// Files whose sizes are told, and how deep they lie in the state directory.
const FILES_MAX: usize = 2000;
const DEPTH_MAX: usize = 3;
/// The journal's reader ends within this time, or is killed.
const JOURNAL_MAX: Duration = Duration::from_secs(20);
/// The directory in the archive.
const NAME: &str = "hedgerow-support";

/// What can be in a bundle, and who makes it.
struct Row {
    name: &'static str,
    make: fn(&Host) -> anyhow::Result<Vec<u8>>,
}

const PARTS: [Row; 9] = [
    Row { name: "versions.json", make: versions },
    Row { name: "doctor.json", make: |host| told(&doctor::Told::of(&host.state, None)) },
    Row { name: "config.json", make: |host| told(&shown(&host.config()?)?) },
    Row { name: "status.json", make: |host| told(&call(&socket(&host.state), &GetStatus {})?) },
    Row { name: "metrics.txt", make: metrics },
    Row { name: "model.json", make: model },
    Row { name: "files.json", make: files },
    Row {
        name: "ledger.jsonl",
        make: |host| {
            let path = host.state.join(LEDGER);
            newest(&rotated(&path), &path, LEDGER_LINES)
        },
    },
    Row {
        name: "findings.jsonl",
        make: |host| {
            let path = findings::path(&host.state);
            newest(&hedgerow_sink::rotated(&path, 1), &path, FINDING_LINES)
        },
    },
];

/// What was taken, and what was not and why; the first file in the bundle, and what is printed.
#[derive(Debug, Default, Serialize)]
struct Manifest {
    taken: Vec<Taken>,
    left_out: Vec<LeftOut>,
}

#[derive(Debug, Serialize)]
struct Taken {
    name: &'static str,
    bytes: usize,
}

#[derive(Debug, Serialize)]
struct LeftOut {
    name: &'static str,
    why: String,
}

/// Whose bundle it is.
struct Host {
    state: PathBuf,
    given: Option<PathBuf>,
}

impl Host {
    fn config(&self) -> anyhow::Result<Config> {
        config_file::load(self.given.as_deref())
    }
}

pub fn run(out: Option<&Path>, given: &cli::State, json: bool) -> anyhow::Result<()> {
    // SAFETY: it only reads.
    if unsafe { libc::geteuid() } != 0 {
        return Err(Failure::Host(format!(
            "not allowed: only root can make a bundle, since it reads the configuration and the \
             ledger; members of the group {GROUP} can send what `hedgerow status --json`, `hedgerow \
             doctor --json` and `hedgerow findings list --json` say"
        ))
        .into());
    }
    let now_ns = hedgerow_responder::now().wall_ns;
    let usual = || {
        let stamp = text::time(now_ns).replace([' ', ':'], "-");
        PathBuf::from(format!("{NAME}-{stamp}.tar.gz"))
    };
    let out = out.map_or_else(usual, Path::to_owned);
    // Who asked for a place that can't be written to waits for nothing.
    let file = create(&out)?;
    // A configuration that is wrong is a reason to ask for help: it is told in its own part.
    let state = config::state(given).unwrap_or_else(|_| cli::STATE_DIRECTORY.into());
    let (manifest, parts) = collect(&Host { state, given: given.config.clone() });
    let written = write(file, &manifest, &parts, now_ns / 1_000_000_000);
    let bytes =
        written.with_context(|| format!("can't write {}", out.display())).map_err(|why| {
            // Half a bundle helps nobody.
            drop(fs::remove_file(&out));
            Failure::file(why)
        })?;
    if json {
        return text::json(&json!({ "path": out, "bytes": bytes, "manifest": manifest }));
    }
    print(&out, bytes, &manifest);
    Ok(())
}

fn print(out: &Path, bytes: u64, manifest: &Manifest) {
    text::say(&format!("Written: {} ({bytes} bytes). In it:", out.display()));
    for part in &manifest.taken {
        text::say(&format!("  {:<16} {:>8} bytes", part.name, part.bytes));
    }
    if !manifest.left_out.is_empty() {
        text::out("Left out:");
    }
    for part in &manifest.left_out {
        text::say(&format!("  {:<16} {}", part.name, part.why));
    }
    text::out(
        "Secrets of command lines and of the configuration were taken out; what was learned, captured \
         and recorded was not taken, nor anything of `hedgerow power`. Names of programs, workloads and \
         users and addresses are in it: look into it before you send it.",
    );
}

/// A file that only root reads, where there was none; no link is followed.
fn create(path: &Path) -> anyhow::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(path).with_context(|| {
        format!("can't make {}: name a file that doesn't exist yet", path.display())
    });
    Ok(file.map_err(Failure::file)?)
}

fn collect(host: &Host) -> (Manifest, Vec<Vec<u8>>) {
    let journal = Row { name: "log.txt", make: |_| journal() };
    let mut manifest = Manifest::default();
    let mut parts = Vec::new();
    for row in PARTS.iter().chain([&journal]) {
        let made = (row.make)(host).and_then(|bytes| {
            anyhow::ensure!(bytes.len() <= PART_BYTES_MAX, "{} bytes are too many", bytes.len());
            Ok(bytes)
        });
        match made {
            Ok(bytes) => {
                manifest.taken.push(Taken { name: row.name, bytes: bytes.len() });
                parts.push(bytes);
            }
            Err(why) => {
                let why = gate::text(&format!("{why:#}"));
                manifest.left_out.push(LeftOut { name: row.name, why });
            }
        }
    }
    (manifest, parts)
}

/// Bytes of the whole.
fn write(file: File, manifest: &Manifest, parts: &[Vec<u8>], now_s: i64) -> anyhow::Result<u64> {
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now_s.unsigned_abs());
        archive.append_data(&mut header, format!("{NAME}/{name}"), bytes)
    };
    add("manifest.json", &told(manifest)?)?;
    for (part, bytes) in manifest.taken.iter().zip(parts) {
        add(part.name, bytes)?;
    }
    let mut file = archive.into_inner()?.finish()?;
    file.flush()?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// A value as JSON, each text of it past the gate.
fn told(value: &impl Serialize) -> anyhow::Result<Vec<u8>> {
    let mut line = gate::json(&gated(serde_json::to_value(value)?))?.into_bytes();
    line.push(b'\n');
    Ok(line)
}

fn gated(value: Value) -> Value {
    match value {
        Value::String(text) => gate::text(&text).into(),
        Value::Array(all) => all.into_iter().map(gated).collect(),
        Value::Object(all) => {
            let one = |(key, value): (String, Value)| match value {
                Value::String(_) if names_secret(&key) => (key, gate::HIDDEN.into()),
                value => (gate::text(&key), gated(value)),
            };
            Value::Object(all.into_iter().map(one).collect())
        }
        value => value,
    }
}

/// Whether the gate hides whatever stands behind this name.
fn names_secret(key: &str) -> bool {
    gate::text(&format!("{key}:hide-and-seek")).ends_with(gate::HIDDEN)
}

fn whole(path: &Path) -> anyhow::Result<String> {
    let bytes = tail(path)?.with_context(|| format!("there is no {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// What the system calls itself. In /etc there is most often a link to the other, and none is followed.
fn system(root: &Path) -> Option<String> {
    let mut paths = ["etc/os-release", "usr/lib/os-release"].iter();
    paths.find_map(|path| whole(&root.join(path)).ok())
}

fn versions(_: &Host) -> anyhow::Result<Vec<u8>> {
    let line = |path: &str| whole(Path::new(path));
    told(&json!({
        "hedgerow": env!("CARGO_PKG_VERSION"),
        "architecture": std::env::consts::ARCH,
        "kernel": line("/proc/version")?,
        "system": system(Path::new("/")),
        "time": text::time(hedgerow_responder::now().wall_ns),
        "up_and_idle_seconds": line("/proc/uptime")?,
        "processors": std::thread::available_parallelism().map(usize::from).ok(),
        "memory": line("/proc/meminfo")?.lines().take(3).collect::<Vec<_>>(),
    }))
}

fn metrics(host: &Host) -> anyhow::Result<Vec<u8>> {
    let listen = host.config()?.metrics;
    let listen = listen.context("the configuration has no `metrics.listen`")?;
    let page = control::metrics(listen, PART_BYTES_MAX)?;
    let told: String = String::from_utf8_lossy(&page).lines().map(metric).collect();
    Ok(told.into_bytes())
}

/// A line of the page of metrics. Names and comments are ours, and would look like secrets to the gate:
/// what labels say passes it.
fn metric(line: &str) -> String {
    let mut told = String::new();
    let mut rest = line;
    while let Some((before, label)) = rest.split_once('"').filter(|_| !line.starts_with('#')) {
        let end = label_length(label);
        let text = label[..end].replace("\\\"", "\"").replace("\\\\", "\\");
        let text = gate::text(&text).replace('\\', "\\\\").replace('"', "\\\"");
        told.extend([before, "\"", &text, "\""]);
        rest = label[end..].strip_prefix('"').unwrap_or_default();
    }
    format!("{}\n", gate::shown(&(told + rest)))
}

/// Bytes up to the quote that ends a label, which is none behind a backslash.
fn label_length(label: &str) -> usize {
    let mut escaped = false;
    let end = label.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.unwrap_or(label.len())
}

/// What a model is, and nothing of what it knows.
fn model(host: &Host) -> anyhow::Result<Vec<u8>> {
    let saved = SavedModel::load(&host.state.join(MODEL)).map_err(Failure::file)?;
    let (summary, schema) = (&saved.file.summary, &saved.file.schema);
    told(&json!({
        "id": saved.model_id(),
        "written_by": summary.written_by,
        "started_unix_s": summary.started_unix_s,
        "ended_unix_s": summary.ended_unix_s,
        "part_s": summary.part_s,
        "counts": summary.counts,
        "schema": schema.version,
        "columns": schema.columns.len(),
        "budget_per_day": saved.budget_per_day(),
    }))
}

#[derive(Debug, Serialize)]
struct Entry {
    path: PathBuf,
    bytes: u64,
    /// Octal, with the kind of file.
    mode: String,
    user_id: u32,
    modified_unix_s: i64,
}

/// Sizes of the state's files; no link is followed.
fn files(host: &Host) -> anyhow::Result<Vec<u8>> {
    let mut found = Vec::new();
    let mut unread = Vec::new();
    let mut waiting = vec![(host.state.clone(), 0)];
    while let Some((directory, depth)) = waiting.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries.flatten(),
            Err(why) if depth == 0 => {
                return Err(why).with_context(|| directory.display().to_string());
            }
            Err(why) => {
                unread.push(format!("{}: {why}", directory.display()));
                continue;
            }
        };
        for entry in entries {
            let Ok(metadata) = entry.metadata() else { continue };
            if found.len() == FILES_MAX {
                unread.push(format!("there are more than {FILES_MAX} files"));
                waiting.clear();
                break;
            }
            if metadata.is_dir() && depth < DEPTH_MAX {
                waiting.push((entry.path(), depth + 1));
            }
            found.push(Entry {
                path: entry.path(),
                bytes: metadata.len(),
                mode: format!("{:o}", metadata.mode()),
                user_id: metadata.uid(),
                modified_unix_s: metadata.mtime(),
            });
        }
    }
    told(&json!({ "files": found, "not_read": unread }))
}

/// The newest lines of a log in the state directory and of the file that it was rotated to last,
/// oldest first.
fn newest(older: &Path, path: &Path, most: usize) -> anyhow::Result<Vec<u8>> {
    let (older, newer) = (tail(older)?, tail(path)?);
    // The newer one may be missing for a moment, while it is rotated.
    anyhow::ensure!(older.is_some() || newer.is_some(), "there is no {}", path.display());
    let bytes = [older.unwrap_or_default(), newer.unwrap_or_default()].concat();
    let from = bytes.len().saturating_sub(PART_BYTES_MAX);
    let bytes = &bytes[from..];
    let whole = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let whole: Vec<_> = whole.map(serde_json::from_slice::<Value>).collect();
    let mut all = Vec::new();
    let mut torn = 0;
    for line in &whole[whole.len().saturating_sub(most)..] {
        match line {
            Ok(line) => all.extend(told(line)?),
            // What a cut or a crash left of a line; the gate could take it for something else.
            Err(_) => torn += 1,
        }
    }
    if torn > 0 {
        all.extend(told(&json!({ "lines_that_are_not_whole": torn }))?);
    }
    Ok(all)
}

/// The last lines of a text, past the gate.
fn lines(bytes: &[u8], most: usize) -> Vec<u8> {
    let all: Vec<&[u8]> =
        bytes.split(|byte| *byte == b'\n').filter(|one| !one.is_empty()).collect();
    let mut told = Vec::new();
    for line in &all[all.len().saturating_sub(most)..] {
        let line = gate::text(&String::from_utf8_lossy(line));
        told.extend(gate::shown(&line).as_bytes());
        told.push(b'\n');
    }
    told
}

/// The last bytes of a regular file, from a line's beginning on; `None` where there is no such file.
fn tail(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let named = || path.display().to_string();
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let mut file = match options.open(path) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.with_context(named)?,
    };
    let metadata = file.metadata().with_context(named)?;
    anyhow::ensure!(metadata.is_file(), "{} is no regular file", path.display());
    let from = metadata.len().saturating_sub(PART_BYTES_MAX as u64);
    if from > 0 {
        file.seek(SeekFrom::Start(from)).with_context(named)?;
    }
    let mut bytes = Vec::new();
    file.take(PART_BYTES_MAX as u64).read_to_end(&mut bytes).with_context(named)?;
    if from > 0 {
        let rest = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        bytes.drain(..rest);
    }
    Ok(Some(bytes))
}

/// The newest lines that the service wrote, where systemd has them.
fn journal() -> anyhow::Result<Vec<u8>> {
    anyhow::ensure!(Path::new("/run/systemd/system").is_dir(), "systemd doesn't run here");
    let mut child = Command::new("/usr/bin/journalctl")
        .args(["--unit=hedgerow.service", "--no-pager", "--quiet", "--output=short-iso"])
        .arg(format!("--lines={LOG_LINES}"))
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("/usr/bin/journalctl")?;
    let (sender, receiver) = mpsc::sync_channel(1);
    let stdout = child.stdout.take();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let all = stdout.map(|out| out.take(PART_BYTES_MAX as u64).read_to_end(&mut bytes));
        // Who waited for it may have given up.
        let _ = sender.send(all.transpose().map(|_| bytes));
    });
    let read = receiver.recv_timeout(JOURNAL_MAX);
    // It has ended, or has more to say than is taken, or hangs.
    drop(child.kill());
    drop(child.wait());
    let bytes = read.context("journalctl doesn't end")??;
    anyhow::ensure!(!bytes.is_empty(), "the journal has nothing of hedgerow.service");
    Ok(lines(&bytes, LOG_LINES))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_system_is_named_where_etc_has_only_a_link() {
        let root = tempfile::tempdir().unwrap();
        let [etc, lib] = ["etc", "usr/lib"].map(|path| root.path().join(path));
        [&etc, &lib].iter().for_each(|path| fs::create_dir_all(path).unwrap());
        assert_eq!(system(root.path()), None);
        fs::write(lib.join("os-release"), "NAME=lib\n").unwrap();
        std::os::unix::fs::symlink("../usr/lib/os-release", etc.join("os-release")).unwrap();
        assert_eq!(system(root.path()).as_deref(), Some("NAME=lib"));
        fs::remove_file(etc.join("os-release")).unwrap();
        fs::write(etc.join("os-release"), "NAME=etc\n").unwrap();
        assert_eq!(system(root.path()).as_deref(), Some("NAME=etc"));
    }
}
