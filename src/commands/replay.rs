//! A capture's records through the engine, in the order of delivery: the same steps as live.

use std::{path::Path, sync::Arc};

use hedgerow_detect::{Engine, Outcome, Schedule, Settings, known};
use hedgerow_event::{Epoch, EpochClose};
use hedgerow_features::{
    EarlyLook, Extractor, Record, Sensors, Window, from_batch, records_from_batch,
    records_schema_least, schema,
};
use hedgerow_sink::parquet::ParquetReader;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    daemon::{
        BUDGET, EARLY_STREAM, FULL, OFFSET, RECORDS, SCHEDULE, SEED, SYSCALLS, known_since,
        scoring_after,
    },
    exit::Failure,
};

/// What a capture says of itself.
pub struct Capture {
    records: ParquetReader,
    early: Vec<Window>,
    pub seed: u64,
    pub host: String,
    boot: String,
    /// Of the learning that went on meanwhile.
    pub schedule: Option<Schedule>,
    /// The epoch after which that daemon began to score.
    pub scoring_after: Option<u32>,
    /// The first epoch in which its kernel took the profile for known.
    known_since: Option<Epoch>,
    /// Every call was stored.
    full: bool,
    syscalls: bool,
    budget_per_day: f64,
    /// Wall time less time since boot, as it was at the start.
    realtime_offset_ns: i64,
}

impl Capture {
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        if directory.is_dir() && !directory.join(RECORDS).is_dir() {
            return Err(Failure::File(format!(
                "{}: no capture (it has no directory `{RECORDS}`); make one with `hedgerow capture` \
                 or `hedgerow run --capture`",
                directory.display()
            ))
            .into());
        }
        let records = open(directory, RECORDS, &records_schema_least())?;
        let metadata = records.metadata();
        let missing = |key: &str| {
            Failure::File(format!(
                "{}: the files' metadata has no usable `{key}`; was it written by `hedgerow \
                 capture` or `hedgerow run --capture`?",
                directory.join(RECORDS).display()
            ))
        };
        let text = |key: &str| metadata.get(key).ok_or_else(|| missing(key));
        let truth =
            |key: &str| -> Result<bool, Failure> { text(key)?.parse().map_err(|_| missing(key)) };
        let schedule = metadata.get(SCHEDULE).map(|text| serde_json::from_str(text));
        Ok(Self {
            early: early(directory)?,
            seed: text(SEED)?.parse().map_err(|_| missing(SEED))?,
            host: text("hedgerow.host")?.clone(),
            boot: text("hedgerow.boot")?.clone(),
            schedule: schedule.transpose().map_err(|_| missing(SCHEDULE))?,
            scoring_after: scoring_after(&metadata),
            known_since: known_since(&metadata),
            full: truth(FULL)?,
            syscalls: truth(SYSCALLS)?,
            budget_per_day: text(BUDGET)?.parse().map_err(|_| missing(BUDGET))?,
            realtime_offset_ns: text(OFFSET)?.parse().map_err(|_| missing(OFFSET))?,
            records,
        })
    }

    /// What the daemon that made the capture ran with.
    pub fn settings(&self, schedule: Schedule, seed: u64) -> Settings {
        Settings {
            host_id: Arc::from(self.host.as_str()),
            boot_id: self.boot.clone(),
            schedule,
            budget_per_day: self.budget_per_day,
            seed,
            sensors: Sensors { rows: self.syscalls, calls: self.syscalls, ..Sensors::default() },
            realtime_offset_ns: self.realtime_offset_ns,
        }
    }
}

fn open(
    directory: &Path,
    stream: &str,
    schema: &arrow::datatypes::Schema,
) -> Result<ParquetReader, Failure> {
    ParquetReader::open(&directory.join(stream), Some(schema)).map_err(Failure::file)
}

fn early(directory: &Path) -> anyhow::Result<Vec<Window>> {
    let mut early = Vec::new();
    if directory.join(EARLY_STREAM).exists() {
        let mut reader = open(directory, EARLY_STREAM, &schema())?;
        while let Some(batch) = reader.next() {
            let batch = batch.map_err(Failure::file)?;
            early.extend(from_batch(&batch).map_err(|why| in_file(&reader, &why))?);
        }
    }
    Ok(early)
}

/// A row that can't be, with the file it is in.
fn in_file(reader: &ParquetReader, why: &hedgerow_features::Error) -> Failure {
    let path = reader.path().map(|path| path.display().to_string()).unwrap_or_default();
    Failure::File(format!("{path}: {why}"))
}

/// Where rows and n-grams come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// As the kernel counted them, against the profile that was in force.
    Recorded,
    /// Recomputed from every call.
    Recomputed,
}

impl Rows {
    /// Recorded ones where they can be taken; otherwise every call must have been stored.
    pub fn choose(recorded: bool, capture: &Capture, directory: &Path) -> anyhow::Result<Self> {
        if recorded {
            return Ok(Self::Recorded);
        }
        if capture.full || !capture.syscalls {
            return Ok(Self::Recomputed);
        }
        Err(Failure::File(format!(
            "{}: its n-grams were counted against another profile and can't be recomputed, since \
             not every call was stored; capture with --full",
            directory.display()
        ))
        .into())
    }
}

/// Told of each outcome; whether to go on.
pub type Tell<'a> = dyn FnMut(&Engine, Outcome) -> anyhow::Result<bool> + 'a;

/// An engine about to be fed.
pub struct Replay {
    pub engine: Engine,
    pub rows: Rows,
    /// The profile is the one that the capture's daemon had, or learned: it holds from the epoch
    /// in which it held live. Another one holds as soon as it is there.
    pub own: bool,
    /// Epochs up to this one only lead up to what is judged.
    pub judge_after: Option<u32>,
    /// No progress is shown to a machine.
    pub json: bool,
}

impl Replay {
    /// Feeds the capture, to its end or until `tell` has had enough.
    pub fn run(self, mut capture: Capture, tell: &mut Tell<'_>) -> anyhow::Result<Engine> {
        let progress = ProgressBar::new(capture.records.rows());
        progress.set_style(ProgressStyle::with_template("{wide_bar} {percent} % {eta} left")?);
        if self.json {
            progress.set_draw_target(ProgressDrawTarget::hidden());
        }
        let mut extractor = Extractor::new(self.engine.seed());
        let known_since = capture.known_since.filter(|_| self.own);
        if let Some(profile) = self.engine.profile() {
            extractor.set_known(known(profile), known_since.unwrap_or_default());
        }
        let early = std::mem::take(&mut capture.early).into_iter();
        let judging = self.judge_after.is_none();
        let mut feed = Feed {
            replay: self,
            extractor,
            known_since,
            early,
            last_boot_ns: 0,
            closed: Epoch(0),
            judging,
        };
        let mut out = Vec::new();
        while let Some(batch) = capture.records.next() {
            let batch = batch.map_err(Failure::file)?;
            let records =
                records_from_batch(&batch).map_err(|why| in_file(&capture.records, &why))?;
            for record in records {
                if !feed.record(record, &mut out, tell)? {
                    return Ok(feed.replay.engine);
                }
            }
            progress.inc(batch.num_rows() as u64);
        }
        progress.finish_and_clear();
        let Feed { replay: Self { mut engine, .. }, last_boot_ns, .. } = feed;
        for last in engine.finish(last_boot_ns) {
            tell(&engine, last)?;
        }
        Ok(engine)
    }
}

struct Feed {
    replay: Replay,
    extractor: Extractor,
    known_since: Option<Epoch>,
    /// Early rows that were not judged yet, one for each look among the records.
    early: std::vec::IntoIter<Window>,
    last_boot_ns: u64,
    /// The last epoch that closed.
    closed: Epoch,
    /// What led up to the judged part is over.
    judging: bool,
}

impl Feed {
    fn record(
        &mut self,
        record: Record,
        out: &mut Vec<Record>,
        tell: &mut Tell<'_>,
    ) -> anyhow::Result<bool> {
        match self.replay.rows {
            Rows::Recorded => out.push(record),
            Rows::Recomputed => self.extractor.push(record, out),
        }
        for record in out.drain(..) {
            let outcomes = match record {
                Record::Event(event) => {
                    self.replay.engine.observe(&event);
                    continue;
                }
                Record::Grams(report) => {
                    self.replay.engine.grams(&report);
                    continue;
                }
                Record::Early(look) => self.look(&look)?,
                Record::Close(close) => self.close(&close)?,
            };
            for outcome in outcomes {
                if let Outcome::Arm(profile) = &outcome {
                    // Live, the kernel was in the next epoch when it was told.
                    let next = self.closed.next().next();
                    self.extractor.set_known(known(profile), self.known_since.unwrap_or(next));
                }
                if !tell(&self.replay.engine, outcome)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn close(&mut self, close: &EpochClose) -> anyhow::Result<Vec<Outcome>> {
        self.last_boot_ns = close.end_boot_ns;
        self.closed = close.epoch;
        if self.judging {
            return Ok(self.replay.engine.close(close)?);
        }
        self.replay.engine.pass(close);
        self.judging = self.replay.judge_after.is_none_or(|last| close.epoch.0 >= last);
        Ok(Vec::new())
    }

    /// Judges an early row where it was judged live.
    fn look(&mut self, look: &EarlyLook) -> anyhow::Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        let window = self.early.next().filter(|window| EarlyLook::from(window) == *look);
        let Some(window) = window else {
            return Err(Failure::File(format!(
                "stream `{EARLY_STREAM}`: no row for the look at {} in epoch {}; the files of \
                 `{RECORDS}` and `{EARLY_STREAM}` are not of one capture",
                look.subject, look.epoch
            ))
            .into());
        };
        self.last_boot_ns = look.time_boot_ns;
        if self.judging {
            self.replay.engine.judge_early(window, &mut outcomes);
        }
        Ok(outcomes)
    }
}
