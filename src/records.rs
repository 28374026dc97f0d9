//! What the flight recorder put beside findings: the files' names, their writer and their reader.

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::Context;
use hedgerow_event::{Event, Origin, calls::Tables};
use hedgerow_features::{Record, records_from_batch, records_schema, records_to_batch};
use hedgerow_hostfile::replace_with;
use hedgerow_offline::keys::{HOST, OFFSET};
use hedgerow_sink::parquet::ParquetReader;
use parquet::{
    arrow::ArrowWriter,
    basic::Compression,
    file::{metadata::KeyValue, properties::WriterProperties},
};

use crate::{exit::Failure, host::Host, text};

/// Name of the directory in the state directory.
const RECORDS: &str = "records";
/// Files that are kept, and bytes of all; past either the oldest goes.
const FILES_MAX: usize = 64;
const BYTES_MAX: u64 = 256 << 20;
/// Records that are decoded and written at once.
const BATCH: usize = 512;
/// What the writer keeps in memory until it is on the disk.
const ROW_GROUP: usize = 32 * BATCH;
const SUFFIX: &str = "parquet";

/// The file of a finding.
pub fn path(state: &Path, uid: &str) -> PathBuf {
    state.join(RECORDS).join(format!("{uid}.{SUFFIX}"))
}

/// Writes what led to a finding, in the order of delivery, for root alone. It is there whole, or not at
/// all.
///
/// # Errors
/// The disk doesn't take it.
pub fn write(
    state: &Path,
    uid: &str,
    host: &Host,
    events: impl Iterator<Item = Event>,
) -> anyhow::Result<()> {
    let path = path(state, uid);
    let directory = state.join(RECORDS);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    replace_with(&path, |file| fill(file, host, events))?;
    Ok(make_room(&directory, FILES_MAX, BYTES_MAX)?)
}

fn fill(file: &mut File, host: &Host, events: impl Iterator<Item = Event>) -> anyhow::Result<()> {
    let note = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
    let properties = WriterProperties::builder()
        // Contexts of zstd and dictionaries, one a column each, would hold 15 MiB while this is written.
        .set_compression(Compression::SNAPPY)
        .set_dictionary_enabled(false)
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .set_key_value_metadata(Some(vec![
            note(HOST, host.id.clone()),
            note(OFFSET, host.realtime_offset_ns.to_string()),
        ]))
        .build();
    let mut writer = ArrowWriter::try_new(file, records_schema(), Some(properties))?;
    // Decoded they are many times as large as in the flight recorder.
    let mut records = events.map(Record::Event).peekable();
    while records.peek().is_some() {
        let part: Vec<Record> = records.by_ref().take(BATCH).collect();
        writer.write(&records_to_batch(&part)?)?;
    }
    writer.close()?;
    Ok(())
}

/// Removes the oldest files until no more than so many, of so many bytes, are left.
fn make_room(directory: &Path, files_max: usize, bytes_max: u64) -> std::io::Result<()> {
    let mut files: Vec<(SystemTime, u64, PathBuf)> = fs::read_dir(directory)?
        .flatten()
        .filter_map(|entry| {
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((metadata.modified().ok()?, metadata.len(), entry.path()))
        })
        .collect();
    files.sort();
    let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    let mut count = files.len();
    for (_, of, path) in files {
        if count <= files_max && bytes <= bytes_max {
            break;
        }
        fs::remove_file(path)?;
        (count, bytes) = (count - 1, bytes - of);
    }
    Ok(())
}

/// What led to a finding, oldest first, and what turns times since boot into wall time.
///
/// # Errors
/// There is no such file, or it is none that Hedgerow wrote.
pub fn read(state: &Path, uid: &str) -> anyhow::Result<(Vec<Event>, i64)> {
    let path = path(state, uid);
    if fs::metadata(&path).is_err_and(|why| why.kind() == ErrorKind::NotFound) {
        return Err(Failure::File(format!(
            "nothing is recorded of {uid}: {} is not there. Only what was alerted is recorded when \
             it opens, the newest {FILES_MAX} findings are kept, and `[recorder] bytes = 0` records \
             nothing",
            path.display()
        ))
        .into());
    }
    let reader = ParquetReader::open(&path, None).map_err(Failure::file)?;
    let offset = reader.metadata().get(OFFSET).and_then(|value| value.parse().ok());
    let offset = offset.context("its metadata doesn't say when the host booted");
    let offset = offset.with_context(|| path.display().to_string()).map_err(Failure::file)?;
    let mut events = Vec::new();
    for batch in reader {
        let records = records_from_batch(&batch.map_err(Failure::file)?).map_err(Failure::file)?;
        events.extend(records.into_iter().filter_map(|record| match record {
            Record::Event(event) => Some(event),
            _ => None,
        }));
    }
    events.sort_by_key(|event| event.time_boot_ns);
    Ok((events, offset))
}

/// A record for a person, on a line.
pub fn told(event: &Event, offset_ns: i64, table: &Tables) -> String {
    let wall_ns = i64::try_from(event.time_boot_ns).unwrap_or(i64::MAX).saturating_add(offset_ns);
    let millis = wall_ns.rem_euclid(1_000_000_000) / 1_000_000;
    let actor = &event.actor;
    format!(
        "{}.{millis:03} {} {}: {}",
        text::time(wall_ns),
        actor.tgid,
        actor.subject.program,
        did(&event.origin, table)
    )
}

fn did(origin: &Origin, table: &Tables) -> String {
    match origin {
        Origin::Row(row) => format!("{} calls, {} of them failed", row.calls, row.errors),
        Origin::Exec(exec) if exec.memory => format!("exec from memory: {}", exec.arguments),
        Origin::Exec(exec) => format!("exec {}: {}", exec.path, exec.arguments),
        Origin::Fork(fork) if fork.thread => format!("started thread {}", fork.child_tid),
        Origin::Fork(fork) => format!("forked {}", fork.child_tgid),
        Origin::Exit(exit) => match (exit.code & 0x7f, exit.code >> 8 & 0xff) {
            (0, code) => format!("exited with {code}"),
            (signal, _) => format!("ended by signal {signal}"),
        },
        Origin::Call(call) => {
            let name =
                table.name(call.number).map_or_else(|| call.number.to_string(), str::to_owned);
            let path = call.path.as_deref().unwrap_or_default();
            format!("{name} {path} {}", answered(call.result))
        }
        Origin::Flow(flow) => format!(
            "{:?} {:?} {} with {}: {} bytes out, {} in",
            flow.direction, flow.phase, flow.local, flow.peer, flow.bytes_out, flow.bytes_in
        )
        .to_lowercase(),
        Origin::Signal(signal) => format!("{} calls in an order never seen", signal.unseen6),
        Origin::Raw(raw) => {
            let name = table.name(raw.number).map_or_else(|| raw.number.to_string(), str::to_owned);
            format!("{name} {}", answered(raw.result))
        }
    }
}

/// What a call returned: a number, or why it failed.
fn answered(result: i64) -> String {
    // As the kernel's IS_ERR_VALUE tells them apart.
    let code = i32::try_from(-i128::from(result)).ok().filter(|code| (1..4096).contains(code));
    code.map_or_else(
        || format!("= {result}"),
        |code| format!("failed: {}", std::io::Error::from_raw_os_error(code)),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

    use hedgerow_event::{Actor, Epoch, Exec, Fork, Program, Subject, Workload};

    use super::*;

    #[test]
    fn a_call_that_failed_says_why() {
        assert_eq!(answered(-13), "failed: Permission denied (os error 13)");
        for number in [0, 3, -4096, i64::MIN, i64::MAX] {
            assert_eq!(answered(number), format!("= {number}"));
        }
    }

    fn event(time_boot_ns: u64, origin: Origin) -> Event {
        let subject = Subject::new(Workload::new("w"), Program::new("/bin/x"));
        let actor = Actor {
            subject: Arc::new(subject),
            tgid: 7,
            tid: 7,
            start_boot_ns: 1,
            cgroup_id: 2,
            program_id: 3,
            slot: 0,
        };
        Event { epoch: Epoch(1), time_boot_ns, actor, origin }
    }

    fn host() -> Host {
        let (id, boot_id, name) = ("h".into(), "b".into(), "n".into());
        Host { id, boot_id, name, realtime_offset_ns: 1_000_000_000 }
    }

    #[test]
    fn what_is_written_is_read_again_and_is_for_root_alone() {
        let state = tempfile::tempdir().unwrap();
        let exec = Exec { arguments: "x -p ***".into(), ..Exec::of("/bin/x") };
        let fork = Fork { child_tgid: 8, child_tid: 8, child_start_boot_ns: 5, thread: false };
        let (first, last) =
            (event(9, Origin::Fork(fork)), event(5_000_000, Origin::Exec(exec.into())));
        write(state.path(), "u1", &host(), [last.clone(), first.clone()].into_iter()).unwrap();
        let (read, offset_ns) = read(state.path(), "u1").unwrap();
        assert_eq!((&read[..], offset_ns), (&[first, last][..], 1_000_000_000), "oldest first");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let file = path(state.path(), "u1");
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
        let table = Tables::new();
        let said = told(&read[1], offset_ns, &table);
        assert_eq!(said, "1970-01-01 00:00:01.005 7 /bin/x: exec /bin/x: x -p ***");
        assert!(told(&read[0], offset_ns, &table).ends_with("forked 8"));
        let why = super::read(state.path(), "u2").unwrap_err().to_string();
        assert!(why.contains("u2.parquet is not there"), "{why}");
    }

    #[test]
    fn what_is_written_in_parts_is_whole_and_in_order() {
        let state = tempfile::tempdir().unwrap();
        let fork =
            |child_tgid| Fork { child_tgid, child_tid: 8, child_start_boot_ns: 5, thread: false };
        let events: Vec<Event> = (0..2 * BATCH as u32 + 1)
            .map(|number| event(number.into(), Origin::Fork(fork(number))))
            .collect();
        write(state.path(), "u1", &host(), events.iter().cloned()).unwrap();
        assert!(read(state.path(), "u1").unwrap().0 == events);
    }

    #[test]
    fn the_oldest_make_room_by_number_and_by_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let left = || -> Vec<String> {
            let names = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
            let mut names: Vec<String> =
                names.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
            names.sort();
            names
        };
        for (number, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
            let file = File::create(directory.path().join(format!("{name}.parquet"))).unwrap();
            file.set_len(100).unwrap();
            let age = Duration::from_secs(1000 - number as u64);
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        make_room(directory.path(), 3, 1000).unwrap();
        assert_eq!(left(), ["b", "c", "d"]);
        make_room(directory.path(), 3, 250).unwrap();
        assert_eq!(left(), ["c", "d"]);
        make_room(directory.path(), 3, 250).unwrap();
        assert_eq!(left(), ["c", "d"]);
    }
}
