//! `hedgerow train` and `hedgerow score`: the engine over captured records, as the daemon ran it
//! over live ones.

use std::path::Path;

use anyhow::Context;
use hedgerow_detect::{Engine, Outcome, Phase, SavedModel, Schedule};
use hedgerow_event::Finding;
use hedgerow_sink::{JsonLinesSink, Rotation};
use serde_json::json;

use super::{
    replay::{Capture, Replay, Rows},
    scores::Scores,
    windows::Windows,
};
use crate::{cli, daemon::RECORDS, exit::Failure, findings, host, text};

/// Learns a model from a capture: with the phases of the daemon that made it, or with the whole
/// capture divided as a learning time is.
pub fn train(arguments: &cli::Train, json: bool) -> anyhow::Result<()> {
    let capture = Capture::open(&arguments.directory)?;
    // SAFETY: it only reads.
    if unsafe { libc::geteuid() } == 0
        && let Err(why) = host::unchangeable(&arguments.directory)
    {
        let directory = arguments.directory.display();
        text::note(&format!(
            "hedgerow: warning: others choose what is learned: {directory}: {why}"
        ));
    }
    let seed = arguments.seed.unwrap_or(capture.seed);
    let schedule = match capture.schedule {
        Some(schedule) => schedule,
        None => divide(&arguments.directory)?,
    };
    // Without a daemon that learned, the kernel knew no n-gram from the first epoch to the last.
    let recorded = seed == capture.seed && capture.schedule.is_some();
    let rows = Rows::choose(recorded && !arguments.recompute, &capture, &arguments.directory)?;
    let engine = Engine::learning(capture.settings(schedule, seed))?;
    let mut model = None;
    let mut windows = open_windows(arguments.windows.as_deref(), &capture)?;
    let replay = Replay { engine, rows, own: recorded, judge_after: None, json };
    let engine = replay.run(capture, &mut |engine, outcome| {
        match (outcome, &mut windows) {
            (Outcome::Phase(Phase::Scoring), _) => model = engine.save()?,
            (Outcome::Windows(closed), Some(windows)) => windows.add(closed)?,
            _ => {}
        }
        Ok(model.is_none())
    })?;
    windows.map_or(Ok(()), Windows::finish)?;
    let Some(model) = model else {
        return Err(Failure::File(format!(
            "{}: too short to learn from: {} more epochs of 5 s are needed",
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
        text::json(&json!({ "model": engine.model_id(), "programs": programs }))?;
    } else {
        text::say(&format!(
            "Learned {programs} programs; model {} is in {}.",
            engine.model_id(),
            arguments.model.display()
        ));
    }
    Ok(())
}

fn open_windows(directory: Option<&Path>, capture: &Capture) -> anyhow::Result<Option<Windows>> {
    directory.map(|directory| Windows::open(directory, &capture.host)).transpose()
}

/// The epochs of a capture, counted by a scan of its records' kinds, as a schedule.
fn divide(directory: &Path) -> anyhow::Result<Schedule> {
    use polars::prelude::*;
    let pattern = directory.join(RECORDS).join("**/*.parquet");
    // The partitions of the path tell nothing about epochs.
    let mut options = ScanArgsParquet::default();
    options.hive_options.enabled = Some(false);
    options.hive_options.try_parse_dates = false;
    let path = PlRefPath::new(pattern.to_string_lossy().as_ref());
    let epochs = LazyFrame::scan_parquet(path, options)
        .and_then(|frame| {
            let closes = col("kind").cast(DataType::String).eq(lit("close"));
            frame.filter(closes).select([len()]).collect()
        })
        .and_then(|frame| {
            frame.column("len")?.u32()?.get(0).ok_or_else(|| polars_err!(NoData: "no rows"))
        })
        .map_err(|why| Failure::File(format!("{}: {why}", directory.display())))?;
    Ok(Schedule::of(u64::from(epochs) * hedgerow_detect::EPOCH_SECONDS))
}

/// Scores a capture with a model. A capture in which this model was learned is judged from where
/// its daemon began to, so that it gives the findings that the daemon gave.
pub fn score(arguments: &cli::Score, json: bool) -> anyhow::Result<()> {
    let capture = Capture::open(&arguments.directory)?;
    let saved = SavedModel::load(&arguments.model).map_err(Failure::file)?;
    let seed = saved.seed();
    let own = seed == capture.seed;
    let judge_after = match (own && capture.schedule.is_some(), capture.scoring_after) {
        (false, _) => None,
        (true, Some(epoch)) => Some(epoch),
        (true, None) => {
            return Err(Failure::File(format!(
                "{}: it ends before its daemon began to score; `hedgerow train` learns from it",
                arguments.directory.display()
            ))
            .into());
        }
    };
    let rows = Rows::choose(own && !arguments.recompute, &capture, &arguments.directory)?;
    let engine = Engine::scoring(capture.settings(Schedule::of(0), seed), saved)?;
    let mut out =
        arguments.out.as_deref().map(|path| Out::open(path, &capture.host)).transpose()?;
    let mut kept = open_windows(arguments.windows.as_deref(), &capture)?;
    let (mut findings, mut windows) = (0u64, 0u64);
    let replay = Replay { engine, rows, own, judge_after, json };
    replay.run(capture, &mut |_, outcome| {
        match outcome {
            Outcome::Finding(finding, _) => {
                findings += 1;
                match &mut out {
                    Some(out) => out.findings.write(&finding).map_err(Failure::file)?,
                    None => print(&finding, json)?,
                }
            }
            Outcome::Scored(score) => {
                windows += 1;
                if let Some(out) = &mut out {
                    out.scores.add(score)?;
                }
            }
            Outcome::Windows(closed) => {
                if let Some(kept) = &mut kept {
                    kept.add(closed)?;
                }
            }
            _ => {}
        }
        Ok(true)
    })?;
    kept.map_or(Ok(()), Windows::finish)?;
    if let Some(out) = out {
        out.scores.finish()?;
    }
    if !json {
        text::note(&format!("{windows} windows scored, {findings} reports."));
    }
    Ok(())
}

/// Where `score --out` writes to.
struct Out {
    findings: JsonLinesSink,
    scores: Scores,
}

impl Out {
    fn open(directory: &Path, host: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("can't make {}", directory.display()))
            .map_err(Failure::file)?;
        let path = findings::path(directory);
        let findings = JsonLinesSink::file(&path, Rotation::default()).map_err(Failure::file)?;
        Ok(Self { findings, scores: Scores::open(directory, host)? })
    }
}

fn print(finding: &Finding, json: bool) -> anyhow::Result<()> {
    if json {
        text::json(finding)?;
    } else {
        text::out(&text::finding(finding));
    }
    Ok(())
}
