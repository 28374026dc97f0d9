//! Captures of a made-up life, every call of it, written as the daemon writes them.
#![allow(dead_code, clippy::unwrap_used)]

#[path = "../../../features/tests/common/mod.rs"]
pub mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{EPOCH_NS, call, close, event, exec, outbound, subject};
use hedgerow_event::{Exec, FlowPhase, Origin, Raw};
use hedgerow_features::{Record, records_to_batch};
use hedgerow_offline::{
    keys::{BOOT, BUDGET, FULL, HOST, OFFSET, RECORDS, SEED, SYSCALLS},
    source::{Selection, Source},
};
use hedgerow_sink::parquet::{ParquetConfig, ParquetSink};
use rand::{Rng, SeedableRng, rngs::SmallRng};

/// As `common::close` has it.
pub const OFFSET_NS: i64 = 1_700_000_000_000_000_000;
/// Epochs of a file.
const FILE_EPOCHS: u32 = 30;

/// One run to be written.
#[derive(Debug, Clone)]
pub struct Life {
    pub host: &'static str,
    pub seed: u64,
    pub epochs: u32,
    pub full: bool,
    pub segments: bool,
    /// Numbers of calls are drawn by it.
    pub chance: u64,
    /// Epochs before it, since boot.
    pub first: u32,
}

impl Default for Life {
    fn default() -> Self {
        Self { host: "a", seed: 7, epochs: 90, full: true, segments: false, chance: 1, first: 1 }
    }
}

pub fn wall_ns(epoch: u32) -> i64 {
    OFFSET_NS + (u64::from(epoch) * EPOCH_NS) as i64
}

impl Life {
    /// The records of one epoch: two services, a hundred calls each.
    pub fn records(&self, epoch: u32, rng: &mut SmallRng) -> Vec<Record> {
        let mut records = Vec::new();
        for (name, tid) in [("/usr/bin/web", 400), ("/usr/bin/db", 800)] {
            let who = subject(if tid == 400 { "web.service" } else { "db.service" }, name);
            if epoch == self.first {
                records.push(event(&who, epoch, tid, Origin::Exec(Box::new(exec(None)))).into());
            }
            for _ in 0..rng.gen_range(60..140) {
                let number = [0, 1, 3, 7, 9, 232][rng.gen_range(0..6)];
                let raw = Raw {
                    number,
                    compat: false,
                    uring: false,
                    fresh: false,
                    streamed: false,
                    result: i64::from(rng.gen_range(-2..8)),
                };
                records.push(event(&who, epoch, tid, Origin::Raw(raw)).into());
            }
            let address = format!("192.0.2.{}", rng.gen_range(1..4));
            let flow = outbound(FlowPhase::Start, &address, 443, rng.gen_range(1000..9000));
            records.push(event(&who, epoch, tid, flow).into());
        }
        records.push(Record::Close(close(epoch)));
        records
    }

    pub fn sink(&self, directory: &Path) -> ParquetSink {
        let mut config = ParquetConfig::new(directory, self.host);
        config.free_bytes_least = 0;
        config.file_seconds = FILE_EPOCHS * 5;
        config.segments = self.segments;
        let mut sink = ParquetSink::open(config).unwrap();
        let boot = format!("boot {} {}", self.host, self.first);
        for (key, value) in [
            (HOST, self.host.to_owned()),
            (BOOT, boot),
            (SEED, self.seed.to_string()),
            (BUDGET, "1".to_owned()),
            (FULL, self.full.to_string()),
            (SYSCALLS, "true".to_owned()),
            (OFFSET, OFFSET_NS.to_string()),
        ] {
            sink.set_metadata(key, value);
        }
        sink
    }

    pub fn write(&self, directory: &Path) {
        self.remains(directory).finish().unwrap();
    }

    /// Writes it with what somebody else did in one of its epochs.
    pub fn write_with(&self, directory: &Path, others: &[Record]) {
        let of_epoch = |epoch: u32| -> Vec<Record> {
            others.iter().filter(|record| epoch_of(record) == Some(epoch)).cloned().collect()
        };
        self.remains_with(directory, &of_epoch).finish().unwrap();
    }

    /// Writes all of it, and doesn't finish: who forgets what is returned leaves the remains of a
    /// kill, since no destructor runs.
    pub fn remains(&self, directory: &Path) -> ParquetSink {
        self.remains_with(directory, &|_| Vec::new())
    }

    /// The same, with what somebody else did in each epoch.
    pub fn remains_with(
        &self,
        directory: &Path,
        others: &dyn Fn(u32) -> Vec<Record>,
    ) -> ParquetSink {
        let mut sink = self.sink(directory);
        let mut rng = SmallRng::seed_from_u64(self.chance);
        for epoch in self.first..self.first + self.epochs {
            let mut records = self.records(epoch, &mut rng);
            // Before the epoch's end, which is the last.
            let end = records.len() - 1;
            records.splice(end..end, others(epoch));
            let batch = records_to_batch(&records).unwrap();
            sink.write(RECORDS, &batch, wall_ns(epoch)).unwrap();
            if self.segments {
                sink.checkpoint().unwrap();
            }
        }
        sink
    }
}

fn epoch_of(record: &Record) -> Option<u32> {
    match record {
        Record::Event(event) => Some(event.epoch.0),
        _ => None,
    }
}

/// The web server becomes a shell, from a file that it wrote, and talks to a stranger.
pub fn intruder(epoch: u32) -> Vec<Record> {
    let server = subject("web.service", "/usr/bin/web");
    let shell = subject("web.service", "/tmp/.intruder/sh");
    let (path, arguments) = ("/tmp/.intruder/sh".into(), "sh -i".into());
    let exec = Exec { path, arguments, writable: true, socket_io: true, ..exec(Some(&server)) };
    let stranger = outbound(FlowPhase::Start, "203.0.113.9", 4444, 5_000_000);
    let done = [Origin::Exec(Box::new(exec)), stranger, call(2, -13, "/etc/shadow")];
    done.into_iter().map(|origin| event(&shell, epoch, 1200, origin).into()).collect()
}

pub fn open(paths: &[PathBuf]) -> hedgerow_offline::Result<Source> {
    Source::open(paths, &Selection::default())
}

/// Finished files below a directory, by name.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|ending| ending == "parquet") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
