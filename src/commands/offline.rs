//! `hedgerow train` and `hedgerow score`: the engine over captured records, as the daemon ran it
//! over live ones.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use hedgerow_event::{EpochClose, Finding};
use hedgerow_features::{
    Extractor, Record, Sensors, Window, from_batch, records_from_batch, records_schema, schema,
};
use hedgerow_sink::{JsonLinesSink, Rotation, parquet::ParquetReader};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::{
    cli,
    daemon::{EARLY_STREAM, FINDINGS, RECORDS, SCHEDULE, SEED},
    engine::{Engine, Outcome, Phase, SavedModel, Schedule, Settings, known},
    exit::Failure,
    text,
};

/// What a capture says of itself.
struct Capture {
    records: ParquetReader,
    early: Vec<Window>,
    seed: u64,
    host: String,
    boot: String,
    schedule: Option<Schedule>,
}

impl Capture {
    fn open(directory: &Path) -> anyhow::Result<Self> {
        let open = |stream: &str, schema: &arrow::datatypes::Schema| {
            ParquetReader::open(&directory.join(stream), Some(schema)).map_err(Failure::file)
        };
        let records = open(RECORDS, &records_schema())?;
        let metadata = records.metadata();
        let missing = |key: &str| {
            Failure::File(format!(
                "{}: the files have no `{key}`; was it written by `hedgerow run --capture`?",
                directory.display()
            ))
        };
        let text = |key: &str| metadata.get(key).cloned().ok_or_else(|| missing(key));
        let seed = text(SEED)?.parse().map_err(|_| missing(SEED))?;
        let mut early = Vec::new();
        if directory.join(EARLY_STREAM).exists() {
            for batch in open(EARLY_STREAM, &schema())? {
                early.extend(from_batch(&batch.map_err(Failure::file)?).map_err(Failure::file)?);
            }
        }
        let schedule = metadata.get(SCHEDULE).and_then(|text| serde_json::from_str(text).ok());
        Ok(Self {
            records,
            early,
            seed,
            host: text("hedgerow.host")?,
            boot: text("hedgerow.boot")?,
            schedule,
        })
    }

    fn settings(&self, schedule: Schedule, seed: u64) -> Settings {
        Settings {
            host_id: Arc::from(self.host.as_str()),
            boot_id: self.boot.clone(),
            schedule,
            budget_per_day: 1.0,
            seed,
            sensors: Sensors::default(),
        }
    }
}

/// Feeds a capture to an engine, in the order of delivery: the same steps as live.
struct Replay<'a> {
    engine: Engine,
    extractor: Extractor,
    /// Every call was stored, so that rows and grams are recomputed.
    full: bool,
    early: std::iter::Peekable<std::vec::IntoIter<Window>>,
    outcome: &'a mut dyn FnMut(&Engine, Outcome) -> anyhow::Result<()>,
}

impl Replay<'_> {
    fn record(&mut self, record: Record, out: &mut Vec<Record>) -> anyhow::Result<()> {
        if self.full {
            self.extractor.push(record, out);
        } else {
            out.push(record);
        }
        for record in out.drain(..) {
            match record {
                Record::Event(event) => self.engine.observe(&event),
                Record::Grams(report) => self.engine.grams(&report),
                Record::Close(close) => {
                    self.judge_early(&close)?;
                    for outcome in self.engine.close(&close)? {
                        if let Outcome::Arm(profile) = &outcome {
                            self.extractor.set_known(known(profile));
                        }
                        (self.outcome)(&self.engine, outcome)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Judges the early rows of the epoch that closes, as they were looked at.
    fn judge_early(&mut self, close: &EpochClose) -> anyhow::Result<()> {
        let mut outcomes = Vec::new();
        while let Some(window) = self.early.next_if(|window| window.time.epoch.0 <= close.epoch.0) {
            let now = window.time.end_boot_ns;
            self.engine.judge_early(window, now, &mut outcomes);
        }
        for outcome in outcomes {
            (self.outcome)(&self.engine, outcome)?;
        }
        Ok(())
    }
}

/// Whether the capture's first records are of the full stream.
fn is_full(records: &[Record]) -> bool {
    records.iter().any(|record| {
        matches!(record, Record::Event(event)
            if matches!(event.origin, hedgerow_event::Origin::Raw(_)))
    })
}

fn replay(
    capture: Capture,
    engine: Engine,
    outcome: &mut dyn FnMut(&Engine, Outcome) -> anyhow::Result<()>,
) -> anyhow::Result<Engine> {
    let total = capture.records.rows();
    let progress = ProgressBar::new(total);
    progress.set_style(ProgressStyle::with_template("{wide_bar} {percent} % {eta} left")?);
    let mut extractor = Extractor::new(capture.seed);
    if let Some(profile) = engine.profile() {
        extractor.set_known(known(profile));
    }
    let early = capture.early.into_iter().peekable();
    let mut replay = Replay { engine, extractor, full: false, early, outcome };
    let mut out = Vec::new();
    let mut last_boot_ns = 0;
    for batch in capture.records {
        let batch = batch.map_err(Failure::file)?;
        let records = records_from_batch(&batch).map_err(Failure::file)?;
        replay.full |= is_full(&records);
        for record in records {
            if let Record::Close(close) = &record {
                last_boot_ns = close.end_boot_ns;
            }
            replay.record(record, &mut out)?;
        }
        progress.inc(batch.num_rows() as u64);
    }
    progress.finish_and_clear();
    let Replay { mut engine, outcome, .. } = replay;
    for last in engine.finish(last_boot_ns) {
        outcome(&engine, last)?;
    }
    Ok(engine)
}

/// Learns a model from a capture: with the phases of the daemon that made it, or with the whole
/// capture divided as a learning time is.
pub fn train(arguments: &cli::Train, json: bool) -> anyhow::Result<()> {
    let capture = Capture::open(&arguments.directory)?;
    let schedule = match capture.schedule {
        Some(schedule) => schedule,
        None => divide(&arguments.directory)?,
    };
    let seed = arguments.seed.unwrap_or(capture.seed);
    let engine = Engine::learning(capture.settings(schedule, seed))?;
    let mut model = None;
    let engine = replay(capture, engine, &mut |engine, outcome| {
        if matches!(outcome, Outcome::Phase(Phase::Scoring)) {
            model = engine.save()?;
        }
        Ok(())
    })?;
    let Some(model) = model else {
        return Err(Failure::File(format!(
            "{}: too short to learn from: {} more epochs are needed",
            arguments.directory.display(),
            engine.epochs_left()
        ))
        .into());
    };
    model
        .save(&arguments.model)
        .with_context(|| arguments.model.display().to_string())
        .map_err(Failure::file)?;
    let programs = model.profile.programs.len();
    if json {
        println!("{}", json!({ "model": engine.model_id(), "programs": programs }));
    } else {
        println!(
            "Learned {programs} programs; model {} is in {}.",
            engine.model_id(),
            arguments.model.display()
        );
    }
    Ok(())
}

/// The epochs of a capture, counted by a scan of its records' epochs, as a schedule.
fn divide(directory: &Path) -> anyhow::Result<Schedule> {
    use polars::prelude::*;
    let pattern = directory.join(RECORDS).join("**/*.parquet");
    let epochs = LazyFrame::scan_parquet(
        PlRefPath::new(pattern.to_string_lossy().as_ref()),
        ScanArgsParquet::default(),
    )
    .and_then(|frame| frame.filter(col("kind").eq(lit("close"))).select([len()]).collect())
    .and_then(|frame| {
        frame.column("len")?.u32()?.get(0).ok_or_else(|| polars_err!(NoData: "no rows"))
    })
    .map_err(|why| Failure::File(format!("{}: {why}", directory.display())))?;
    Ok(Schedule::of(u64::from(epochs) * crate::engine::EPOCH_SECONDS))
}

/// Scores a capture with a model.
pub fn score(arguments: &cli::Score, json: bool) -> anyhow::Result<()> {
    let capture = Capture::open(&arguments.directory)?;
    let saved = SavedModel::load(&arguments.model)?;
    let schedule = Schedule::of(0);
    let seed = saved.seed();
    let engine = Engine::scoring(capture.settings(schedule, seed), saved)?;
    let mut file = match &arguments.out {
        Some(directory) => {
            std::fs::create_dir_all(directory).map_err(Failure::file)?;
            let path = directory.join(FINDINGS);
            Some(JsonLinesSink::file(&path, Rotation::default()).map_err(Failure::file)?)
        }
        None => None,
    };
    let mut found = 0u64;
    replay(capture, engine, &mut |_, outcome| {
        let Outcome::Finding(finding, _) = outcome else { return Ok(()) };
        found += 1;
        tell(&finding, file.as_mut(), json)
    })?;
    if !json {
        eprintln!("{found} reports.");
    }
    Ok(())
}

fn tell(finding: &Finding, file: Option<&mut JsonLinesSink>, json: bool) -> anyhow::Result<()> {
    if let Some(file) = file {
        file.write(finding).map_err(Failure::file)?;
    } else if json {
        println!("{}", serde_json::to_string(finding)?);
    } else {
        println!("{}", text::finding(finding));
    }
    Ok(())
}
