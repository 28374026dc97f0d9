//! Scoring captures with a model.

use std::path::{Path, PathBuf};

use hedgerow_detect::{Engine, Outcome, SavedModel, Schedule};
use hedgerow_event::Finding;
use hedgerow_sink::{LineFile, Rotation, parquet::Damaged};

use crate::{
    Error, Result,
    capture::Capture,
    files,
    holes::Gap,
    player::{Only, Play, Player, Progress, Rows, Tell, Watch},
    scores::Scores,
    source::{Run, Source},
    time::Span,
    windows::Windows,
};

/// Name of the findings' log.
pub const FINDINGS: &str = "findings.jsonl";
/// All of it.
const KEPT: Rotation = Rotation { file_bytes: u64::MAX, keep: 0 };

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
    pub gaps: Vec<Gap>,
    /// Somebody was captured who is asked for.
    pub taken: bool,
    /// By which it was judged.
    pub budget_per_day: f64,
}

impl Scored {
    /// Adds another run.
    pub(crate) fn add(&mut self, run: Self) {
        self.damaged.extend(run.damaged);
        self.gaps.extend(run.gaps);
        self.taken |= run.taken;
        self.budget_per_day = run.budget_per_day;
    }
}

/// What came of scoring runs.
#[derive(Debug, Default)]
pub struct Told {
    pub windows: u64,
    pub findings: u64,
    pub met: Scored,
}

/// Scores all runs, each by itself. Scores and findings go to `out`, or findings to `found`; windows to
/// a directory of theirs.
///
/// # Errors
/// As [`score`]; a directory holds what was written before; nobody who is asked for was captured.
pub fn all(
    source: Source,
    span: Span,
    how: &Score,
    (out, windows): (Option<&Path>, Option<&Path>),
    found: &mut dyn FnMut(&Finding) -> Result<()>,
    progress: &mut Progress<'_>,
) -> Result<Told> {
    out.into_iter().chain(windows).try_for_each(files::is_fresh)?;
    let mut told = Told::default();
    told.met.damaged = source.damaged;
    for run in source.runs {
        let mut out = out.map(|path| Out::open(path, &run.host)).transpose()?;
        let mut kept = windows.map(|path| Windows::open(path, &run.host)).transpose()?;
        let mut tell = |_: &Engine, outcome| {
            match outcome {
                Outcome::Finding(finding, _) => {
                    told.findings += 1;
                    match &mut out {
                        Some(out) => out.finding(&finding)?,
                        None => found(&finding)?,
                    }
                }
                Outcome::Scored(score) => {
                    told.windows += 1;
                    out.as_mut().map_or(Ok(()), |out| out.scores.add(score))?;
                }
                Outcome::Windows(closed) => {
                    kept.as_mut().map_or(Ok(()), |kept| kept.add(closed))?;
                }
                _ => {}
            }
            Ok(true)
        };
        let scored = score(run, span, how, &mut tell, progress)?;
        kept.map_or(Ok(()), Windows::finish)?;
        out.map_or(Ok(()), |out| out.scores.finish())?;
        told.met.add(scored);
    }
    how.only.found(told.met.taken)?;
    Ok(told)
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
    watched(run, span, how, &mut |_, _| {}, tell, progress)
}

/// The same, with somebody who sees each event.
///
/// # Errors
/// As [`score`].
pub(crate) fn watched(
    run: Run,
    span: Span,
    how: &Score,
    watch: &mut Watch<'_>,
    tell: &mut Tell<'_>,
    progress: &mut Progress<'_>,
) -> Result<Scored> {
    let model = SavedModel::load(&how.model)?;
    with(model, run, span, how, watch, tell, progress).map(|(scored, _)| scored)
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
    watch: &mut Watch<'_>,
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
    settings.budget_per_day = capture.budget(how.budget_per_day)?;
    let budget_per_day = settings.budget_per_day;
    let mut engine = Engine::scoring(settings, saved)?;
    let play = Play { rows, own, judge_after, only: how.only.clone() };
    let mut player = Player::new(capture, &engine, play);
    if player.watched(&mut engine, watch, tell, progress)? {
        for last in engine.finish(player.last_boot_ns()) {
            tell(&engine, last)?;
        }
    }
    let (damaged, gaps) = (player.damaged().cloned().collect(), player.gaps().collect());
    Ok((Scored { damaged, gaps, taken: player.taken, budget_per_day }, engine))
}

/// Scores as Parquet and findings as JSON lines.
#[derive(Debug)]
pub struct Out {
    findings: LineFile,
    pub scores: Scores,
}

impl Out {
    /// # Errors
    /// The directory can't be made or written to.
    pub fn open(directory: &Path, host: &str) -> Result<Self> {
        std::fs::create_dir_all(directory).map_err(|why| Error::at(directory, why))?;
        let path = directory.join(FINDINGS);
        let findings = LineFile::open(&path, KEPT).map_err(Error::file)?;
        Ok(Self { findings, scores: Scores::open(directory, host)? })
    }

    /// # Errors
    /// The log can't be written.
    pub fn finding(&mut self, finding: &Finding) -> Result<()> {
        self.findings.write(finding).map_err(Error::file)
    }
}
