//! The `[jsonl]` sink: reports as OCSF or ECS, one a line, what Kafka would get in a file. A thread of its own
//! writes it: a file on a disk that stands still holds up no other sink.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use hedgerow_event::gate;
use hedgerow_hostfile::append;
use serde::{Deserialize, Serialize};

use crate::{
    Format, PatientLines, RECORD_BYTES_LIMIT, Report, Rotation, Sink, SinkConfig, SinkError,
    SinkHealth, Topic,
    lines::{WAITING_BYTES, WAITING_MAX, room},
};

/// What waits is tried again this often.
const RETRY: Duration = Duration::from_secs(1);
/// Reports are waited for so long until they are in the file, but not again while that stands still.
const WRITE_MAX: Duration = Duration::from_secs(1);

/// The `[jsonl]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonlConfig {
    /// The file, made 0600; older ones lie beside it as `PATH.1` and so on.
    pub path: PathBuf,
    /// A line that would make the file larger goes to a new one. Default 64 MiB.
    #[serde(default = "max_bytes")]
    pub max_bytes: u64,
    /// Old files that are kept. Default 4.
    #[serde(default = "keep")]
    pub keep: u32,
    /// How reports are encoded: `ocsf` (default) or `ecs`.
    #[serde(default)]
    pub format: Format,
}

impl SinkConfig for JsonlConfig {
    fn try_out(&self) -> Result<(), SinkError> {
        append::try_out(&self.path).or_else(|why| {
            let shown = gate::text(&self.path.to_string_lossy());
            wrong("path", &format!("{shown}: {why}"))
        })
    }

    fn check(&self) -> Result<(), SinkError> {
        if !self.path.is_absolute() {
            return wrong("path", "write the whole path, from / on");
        }
        if self.max_bytes < RECORD_BYTES_LIMIT as u64 {
            return wrong("max_bytes", "at least 900000: a report is no longer than that");
        }
        if self.keep > 1000 {
            return wrong("keep", "at most 1000");
        }
        Ok(())
    }

    fn check_beside(&self, state: &Path) -> Result<(), SinkError> {
        match self.path.starts_with(state) {
            true => {
                wrong("path", "it lies in the state directory, whose files are the daemon's own")
            }
            false => Ok(()),
        }
    }

    fn start(&self) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(JsonlSink::start(self)?))
    }
}

fn wrong(field: &'static str, reason: &str) -> Result<(), SinkError> {
    Err(SinkError::Table { table: JsonlSink::NAME, field, reason: reason.to_owned() })
}

fn max_bytes() -> u64 {
    Rotation::default().file_bytes
}

fn keep() -> u32 {
    Rotation::default().keep
}

/// How far the thread is.
#[derive(Debug, Clone, Default)]
struct Done {
    /// Lines that it is through with, and their bytes.
    lines: u64,
    bytes: usize,
    delivered: u64,
    torn_bytes: u64,
    /// The file takes none at present.
    failure: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    done: Mutex<Done>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the file fares, which was given so many lines and bytes.
    fn publish(&self, file: &PatientLines, (lines, bytes): (u64, usize)) {
        *self.lock() = Done {
            lines: lines - file.waiting() as u64,
            bytes: bytes - file.waiting_bytes(),
            delivered: file.written(),
            torn_bytes: file.healed(),
            failure: file.failure().map(str::to_owned),
        };
        self.changed.notify_all();
    }
}

#[derive(Debug)]
pub struct JsonlSink {
    /// Taken at the end.
    lines: Option<Sender<Vec<u8>>>,
    shared: Arc<Shared>,
    /// Disconnected once the thread has ended.
    ended: Receiver<()>,
    format: Format,
    /// Lines that the thread was given, and their bytes.
    given: u64,
    given_bytes: usize,
    /// What was done when a wait for the thread was in vain.
    stalled: Option<u64>,
    overflow: u64,
    /// Blocks and unblocks among them.
    decisions_lost: u64,
    rejected: u64,
}

impl JsonlSink {
    pub const NAME: &str = "jsonl";

    /// A file that can't be opened is told as one that can't be written.
    ///
    /// # Errors
    /// A field is wrong, or no thread can be made.
    pub fn start(config: &JsonlConfig) -> Result<Self, SinkError> {
        config.check()?;
        let (path, format) = (config.path.clone(), config.format);
        let rotation = Rotation { file_bytes: config.max_bytes, keep: config.keep };
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let (lines, queue) = bounded(WAITING_MAX);
        let (end, ended) = bounded::<()>(0);
        let (try_it, tried) = bounded::<()>(0);
        thread::Builder::new()
            .name("jsonl-sink".into())
            .spawn(move || {
                let file = PatientLines::new(&path, rotation);
                of_thread.publish(&file, (0, 0));
                drop(try_it);
                write(file, &queue, &of_thread);
                drop(end);
            })
            .map_err(SinkError::io("jsonl-sink thread".as_ref()))?;
        // What is wrong with the file is known before anything is for it.
        let _ = tried.recv_timeout(WRITE_MAX);
        Ok(Self::over(lines, shared, ended, format))
    }

    /// Over a thread that writes what comes through `lines`.
    fn over(
        lines: Sender<Vec<u8>>,
        shared: Arc<Shared>,
        ended: Receiver<()>,
        format: Format,
    ) -> Self {
        Self {
            lines: Some(lines),
            shared,
            ended,
            format,
            given: 0,
            given_bytes: 0,
            stalled: None,
            overflow: 0,
            decisions_lost: 0,
            rejected: 0,
        }
    }
}

/// The thread: what comes is written, or waits with it.
fn write(mut file: PatientLines, queue: &Receiver<Vec<u8>>, shared: &Shared) {
    let (mut lines, mut bytes) = (0, 0);
    loop {
        match queue.recv_timeout(RETRY) {
            Ok(line) => {
                lines += 1;
                bytes += line.len() + 1;
                // Who gives them sees to it that no more wait than may.
                let _fits = file.write_json(line, false);
            }
            Err(RecvTimeoutError::Timeout) => file.retry(),
            Err(RecvTimeoutError::Disconnected) => break,
        }
        shared.publish(&file, (lines, bytes));
    }
    file.flush();
    shared.publish(&file, (lines, bytes));
}

impl Sink for JsonlSink {
    fn take(&mut self, report: &Report) -> Result<(), SinkError> {
        let message = self.format.of(&report.message).inspect_err(|_| self.rejected += 1)?;
        let line = message.into_owned().value;
        let bytes = line.len() + 1;
        let (lines, waiting_bytes) = {
            let done = self.shared.lock();
            (self.given - done.lines, self.given_bytes - done.bytes)
        };
        let [lines_most, bytes_most] =
            [WAITING_MAX, WAITING_BYTES].map(|most| room(most, report.is_listed));
        let fits = lines < lines_most as u64 && waiting_bytes + bytes <= bytes_most;
        if !fits || self.lines.as_ref().is_none_or(|lines| lines.try_send(line).is_err()) {
            self.overflow += 1;
            self.decisions_lost += u64::from(report.topic() == Topic::Remediations);
            return Err(SinkError::QueueFull { sink: Self::NAME });
        }
        self.given += 1;
        self.given_bytes += bytes;
        Ok(())
    }

    /// All that was taken is in the file, or waits for its disk.
    fn settle(&mut self) {
        let given = self.given;
        let until = Instant::now() + WRITE_MAX;
        let mut done = self.shared.lock();
        while done.lines < given && done.failure.is_none() && self.stalled != Some(done.lines) {
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                self.stalled = Some(done.lines);
                break;
            };
            let waited = self.shared.changed.wait_timeout(done, left);
            done = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn health(&self) -> SinkHealth {
        let done = self.shared.lock().clone();
        let stands_still = self.stalled == Some(done.lines) && done.lines < self.given;
        let trouble = done.failure.or_else(|| stands_still.then(|| "its disk stands still".into()));
        SinkHealth {
            name: Self::NAME,
            up: trouble.is_none(),
            delivered: done.delivered,
            waiting: self.given - done.lines,
            overflow: self.overflow,
            rejected: self.rejected,
            torn_bytes: done.torn_bytes,
            at_risk: done.lines < self.given || self.decisions_lost > 0,
            trouble,
            ..SinkHealth::default()
        }
    }

    /// A disk that doesn't come back keeps what is left, and nobody.
    fn stop(mut self: Box<Self>, limit: Duration) -> SinkHealth {
        drop(self.lines.take());
        let _ = self.ended.recv_timeout(limit);
        self.health()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;
    use crate::Message;

    fn report(bytes: usize) -> Report {
        let (key, headers) = ("host".into(), Vec::new());
        let value = vec![b'1'; bytes];
        let message = Message { topic: Topic::Findings, key, headers, value };
        Report { message, uid: "uid".into(), summary: String::new(), severity: 1, is_listed: false }
    }

    fn config(path: PathBuf) -> JsonlConfig {
        JsonlConfig { path, max_bytes: 1 << 20, keep: 1, format: Format::Ocsf }
    }

    #[test]
    fn a_file_that_stands_still_holds_nobody_up_for_long_and_what_waits_is_bounded() {
        // The thread is in a write that doesn't end: nobody takes from the queue.
        let (lines, _queue) = bounded(WAITING_MAX);
        let (_end, ended) = bounded::<()>(0);
        let shared = Arc::default();
        let mut sink = JsonlSink::over(lines, shared, ended, Format::Ocsf);
        let begun = Instant::now();
        for _ in 0..40 {
            let _counted = sink.take(&report(800_000));
            sink.settle();
        }
        assert!(
            begun.elapsed() < 10 * WRITE_MAX,
            "waited for once, not for each of the 20 that fit"
        );
        let health = sink.health();
        let fit = (WAITING_BYTES / 800_001) as u64;
        assert_eq!((health.waiting, health.overflow, health.up), (fit, 40 - fit, false));
        assert!(health.trouble.unwrap().contains("stands still"));
    }

    #[test]
    fn what_is_only_listed_leaves_room_to_the_rest() {
        for bytes in [10, 100_000] {
            let (lines, _queue) = bounded(WAITING_MAX);
            let (_end, ended) = bounded::<()>(0);
            let mut sink = JsonlSink::over(lines, Arc::default(), ended, Format::Ocsf);
            let mut taken = |is_listed| {
                let report = Report { is_listed, ..report(bytes) };
                (0..WAITING_MAX + 1).filter(|_| sink.take(&report).is_ok()).count()
            };
            let all = WAITING_MAX.min(WAITING_BYTES / (bytes + 1));
            let (listed, alerts) = (taken(true), taken(false));
            assert_eq!((listed, listed + alerts), (all * 3 / 4, all), "{bytes} bytes");
        }
    }

    #[test]
    fn what_was_taken_is_in_the_file_once_it_is_settled() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("reports.jsonl");
        fs::write(&path, "{\"half").unwrap();
        let mut sink = JsonlSink::start(&config(path.clone())).unwrap();
        for number in 1..=300 {
            sink.take(&report(10)).unwrap();
            // It gives up after a second, which a busy disk may take.
            while sink.health().delivered < number {
                sink.settle();
            }
            assert_eq!(fs::metadata(&path).unwrap().len(), 11 * number);
        }
        sink.take(&report(5)).unwrap();
        let health = (Box::new(sink) as Box<dyn Sink>).stop(RETRY);
        assert_eq!((health.delivered, health.waiting, health.up), (301, 0, true));
        assert_eq!(health.torn_bytes, 6);
    }

    #[test]
    fn what_lies_in_the_way_of_the_file_is_told_before_a_daemon_meets_it() {
        let home = tempfile::tempdir().unwrap();
        let (path, fifo) = (home.path().join("later/reports.jsonl"), home.path().join("fifo"));
        let said = |path: &Path| {
            let said = config(path.to_owned()).try_out().unwrap_err().to_string();
            assert!(said.starts_with(&format!("jsonl.path: {}: ", path.display())), "{said}");
            said
        };
        let missing = path.parent().unwrap();
        assert!(said(&path).contains(&format!("make the directory {} first", missing.display())));
        fs::create_dir(missing).unwrap();
        config(path.clone()).try_out().unwrap();
        assert!(said(missing).contains("it is a directory"));
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success() && said(&fifo).contains("a FIFO"));
        // A daemon tells the same, and waits for no reader.
        let sink = JsonlSink::start(&config(fifo)).unwrap();
        assert!(sink.health().trouble.unwrap().contains("a FIFO"));
    }

    #[test]
    fn every_wrong_field_of_the_table_is_named() {
        let home = tempfile::tempdir().unwrap();
        let good = JsonlConfig {
            path: home.path().join("f"),
            max_bytes: 1 << 20,
            keep: 1,
            format: Format::Ocsf,
        };
        JsonlSink::start(&good).unwrap();
        for (field, bad) in [
            ("path", JsonlConfig { path: "f".into(), ..good.clone() }),
            ("max_bytes", JsonlConfig { max_bytes: 1, ..good.clone() }),
            ("keep", JsonlConfig { keep: 100_000, ..good.clone() }),
        ] {
            let why = JsonlSink::start(&bad).unwrap_err().to_string();
            assert!(why.starts_with(&format!("jsonl.{field}: ")), "{why}");
        }
    }
}
