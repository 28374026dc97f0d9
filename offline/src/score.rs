//! Scoring captures with a model.

use std::path::{Path, PathBuf};

use hedgerow_detect::{Engine, SavedModel, Schedule};
use hedgerow_event::{Epoch, Finding};
use hedgerow_sink::{JsonLinesSink, Rotation, parquet::Damaged};

use crate::{
    Error, Result,
    capture::Capture,
    player::{Only, Play, Player, Progress, Rows, Tell},
    scores::Scores,
    source::Run,
    time::Span,
};

/// Name of the findings' log.
pub const FINDINGS: &str = "findings.jsonl";

/// How a capture is scored.
#[derive(Debug, Clone, Default)]
pub struct Score {
    pub model: PathBuf,
    /// Rows out of every call, although the recorded ones could be taken.
    pub recompute: bool,
    pub only: Only,
    /// Alerts a day that are acceptable; what the capture's daemon had without it.
    pub budget_per_day: Option<f64>,
}

/// What was met on the way.
#[derive(Debug, Default)]
pub struct Scored {
    pub damaged: Vec<Damaged>,
    /// Run, and epochs (after, before) between which nothing is there.
    pub gaps: Vec<(String, Epoch, Epoch)>,
    /// The model was learned in this run, and rows were taken as its kernel counted them.
    pub own: bool,
}

/// Scores a run with the model as it was saved. A run in which this model was learned is judged from
/// where its daemon began to, so that it gives the findings that the daemon gave.
///
/// # Errors
/// A file can't be read; the run ends before its daemon began to score; rows were counted against
/// another profile and can't be recomputed.
pub fn score(
    run: Run,
    span: Span,
    how: &Score,
    tell: &mut Tell<'_>,
    progress: &mut Progress<'_>,
) -> Result<Scored> {
    with(SavedModel::load(&how.model)?, run, span, how, tell, progress).map(|(scored, _)| scored)
}

/// The same with a model that is at hand; the engine as it was at the end comes back, too.
///
/// # Errors
/// As [`score`].
pub(crate) fn with(
    saved: SavedModel,
    run: Run,
    span: Span,
    how: &Score,
    tell: &mut Tell<'_>,
    progress: &mut Progress<'_>,
) -> Result<(Scored, Engine)> {
    let capture = Capture::open(run, span)?;
    let seed = saved.seed();
    let own = capture.is_of(&saved);
    let judge_after = match (own && capture.schedule.is_some(), capture.scoring_after) {
        (false, _) => None,
        (true, Some(epoch)) => Some(epoch),
        (true, None) => {
            return Err(Error::File(format!(
                "{}: it ends before its daemon began to score; `hedgerow train` learns from it",
                capture.name
            )));
        }
    };
    let rows = Rows::choose(own && !how.recompute, &capture)?;
    let mut settings = capture.settings(Schedule::of(0), seed);
    if let Some(budget) = how.budget_per_day {
        settings.budget_per_day = budget;
    }
    let mut engine = Engine::scoring(settings, saved)?;
    let play = Play { rows, own, judge_after, only: how.only.clone() };
    let mut player = Player::new(capture, &engine, play);
    if player.play(&mut engine, tell, progress)? {
        for last in engine.finish(player.last_boot_ns()) {
            tell(&engine, last)?;
        }
    }
    let gaps = player.gaps().collect();
    Ok((Scored { damaged: player.damaged().cloned().collect(), gaps, own }, engine))
}

/// Scores as Parquet and findings as JSON lines.
#[derive(Debug)]
pub struct Out {
    findings: JsonLinesSink,
    pub scores: Scores,
}

impl Out {
    /// # Errors
    /// The directory can't be made or written to.
    pub fn open(directory: &Path, host: &str) -> Result<Self> {
        std::fs::create_dir_all(directory).map_err(|why| Error::at(directory, why))?;
        let path = directory.join(FINDINGS);
        let findings = JsonLinesSink::file(&path, Rotation::default()).map_err(Error::file)?;
        Ok(Self { findings, scores: Scores::open(directory, host)? })
    }

    /// # Errors
    /// The log can't be written.
    pub fn finding(&mut self, finding: &Finding) -> Result<()> {
        self.findings.write(finding).map_err(Error::file)
    }
}
