//! Learning a model from captures.

use std::{collections::BTreeSet, path::PathBuf};

use hedgerow_detect::{Engine, Outcome, Phase, file::ModelFile, parts::Parts};
use hedgerow_features::Window;
use hedgerow_sink::parquet::Damaged;

use crate::{
    Error, Result,
    capture::{Capture, divided, epochs},
    files,
    holes::Gap,
    player::{Only, Play, Player, Progress, Rows},
    report::Gathered,
    source::{Source, start_ns},
    time::Span,
    windows::Windows,
};

const EPOCH_NS: u64 = hedgerow_detect::EPOCH_SECONDS * 1_000_000_000;

/// How a model is learned.
#[derive(Debug, Clone, Default)]
pub struct Train {
    /// Key of the n-gram hash and seed of the forest; the captures' own without it.
    pub seed: Option<u64>,
    /// Rows and n-grams out of every call, although the recorded ones could be taken.
    pub recompute: bool,
    pub only: Only,
    /// Directory for the windows that it was learned from.
    pub windows: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug)]
pub struct Trained {
    pub model: ModelFile,
    /// One that judges by it.
    pub engine: Engine,
    pub runs: usize,
    pub hosts: BTreeSet<String>,
    pub damaged: Vec<Damaged>,
    pub gaps: Vec<Gap>,
}

/// Learns a model. A run is learned from as its daemon did, or divided as a learning time is. Each of
/// several is learned from by itself, and the model is made of their parts, so that models of some of
/// them, merged, are the model of all ([`crate::merge`]). What a report needs is added to `gathered`.
///
/// # Errors
/// A file can't be read; keys differ; not every call was stored where it must have been; or the
/// captures are too short to learn from.
pub fn train(
    source: Source,
    span: Span,
    how: &Train,
    gathered: Option<&mut Gathered>,
    progress: &mut Progress<'_>,
) -> Result<Trained> {
    let learned = learn_all(source, span, how, gathered, progress)?;
    // Of many hosts some have a workload and others teach that they don't: parts are made of both.
    how.only.found(learned.taken)?;
    let Learned { parts, alone, left, first, runs, hosts, damaged, gaps, .. } = learned;
    let made = match (alone, &parts) {
        (Some((mut model, engine)), Some(part)) => {
            part.attach(&mut model)?;
            Some((model, engine))
        }
        (None, Some(parts)) if runs > 1 => parts.model()?,
        _ => None,
    };
    let Some((model, engine)) = made else {
        let needed = match left {
            0 => "more windows are needed".to_owned(),
            left => format!("{left} more epochs of 5 s are needed"),
        };
        return Err(Error::File(format!("{first}: too short to learn from: {needed}")));
    };
    Ok(Trained { model, engine, runs, hosts, damaged, gaps })
}

/// Gathers what captures teach, however little, as a file that is no model and can be merged.
///
/// # Errors
/// As [`train`], but that too short ones are taken.
pub fn part(
    source: Source,
    span: Span,
    how: &Train,
    progress: &mut Progress<'_>,
) -> Result<(ModelFile, Parts)> {
    let learned = learn_all(source, span, how, None, progress)?;
    let parts = learned.parts.ok_or_else(|| {
        Error::File(format!("{}: not even one epoch of 5 s is there", learned.first))
    })?;
    Ok((parts.to_file()?, parts))
}

/// What all runs taught.
struct Learned {
    parts: Option<Parts>,
    /// Of a run that is the only one, and long enough.
    alone: Option<(ModelFile, Engine)>,
    /// Epochs that the last one was too short by.
    left: u32,
    /// How the first run is called.
    first: String,
    runs: usize,
    hosts: BTreeSet<String>,
    damaged: Vec<Damaged>,
    gaps: Vec<Gap>,
    /// Somebody was captured who is asked for.
    taken: bool,
}

fn learn_all(
    source: Source,
    span: Span,
    how: &Train,
    mut gathered: Option<&mut Gathered>,
    progress: &mut Progress<'_>,
) -> Result<Learned> {
    how.windows.as_deref().map_or(Ok(()), files::is_fresh)?;
    let Source { runs, damaged } = source;
    let hosts: BTreeSet<String> = runs.iter().map(|run| run.host.clone()).collect();
    let counted = runs.iter().map(|run| epochs(run, span)).collect::<Result<Vec<u64>>>()?;
    if let Some(gathered) = &mut gathered {
        let starts = runs.iter().map(|run| run.records.first().and_then(|f| start_ns(&f.path)));
        begin(gathered, &starts.collect::<Vec<_>>(), &counted);
    }
    let captures =
        runs.into_iter().map(|run| Capture::open(run, span)).collect::<Result<Vec<_>>>()?;
    let seed = seed(&captures, how.seed)?;
    let name = if hosts.len() > 1 { "fleet".to_owned() } else { captures[0].host.clone() };
    let (first, runs) = (captures[0].name.clone(), captures.len());
    let mut windows = how.windows.as_deref().map(|at| Windows::open(at, &name)).transpose()?;
    let mut keep = |engine: &Engine, closed: Vec<Window>| {
        if let Some(gathered) = &mut gathered {
            gathered.add(engine, &closed);
        }
        windows.as_mut().map_or(Ok(()), |windows| windows.add(closed))
    };
    let captures = captures.into_iter().zip(counted);
    let players = captures
        .map(|(capture, epochs)| player(capture, epochs, seed, how))
        .collect::<Result<Vec<_>>>()?;
    let (parts, alone, left, gaps) = (None, None, 0, Vec::new());
    let mut all = Learned { parts, alone, left, first, runs, hosts, damaged, gaps, taken: false };
    for (mut player, mut engine) in players {
        let model = learn(&mut player, &mut engine, &mut keep, progress)?;
        all.damaged.extend(player.damaged().cloned());
        all.gaps.extend(player.gaps());
        all.taken |= player.taken;
        all.left = engine.epochs_left();
        match (engine.take_part(), &mut all.parts) {
            (Some(part), Some(parts)) => {
                parts
                    .absorb(part)
                    .map_err(|why| Error::File(format!("{}: {why}", player.capture.name)))?;
            }
            (Some(part), parts) => *parts = Some(part),
            (None, _) => {}
        }
        all.alone = model.filter(|_| runs == 1).map(|model| (model, engine));
    }
    windows.map_or(Ok(()), Windows::finish)?;
    Ok(all)
}

/// A run, ready to be learned from by an engine of its own.
fn player(capture: Capture, epochs: u64, seed: u64, how: &Train) -> Result<(Player, Engine)> {
    // With a daemon that learned, its schedule; without, the kernel knew no n-gram from the first
    // epoch to the last.
    let daemon = capture.schedule.filter(|_| capture.span.is_all());
    let own = daemon.is_some() && seed == capture.seed;
    let rows = Rows::choose(own && !how.recompute, &capture)?;
    let schedule = daemon.unwrap_or_else(|| divided(epochs));
    let mut engine = Engine::learning(capture.settings(schedule, seed))?;
    engine.gather();
    if let Some(model) = capture.model.as_ref().filter(|_| own) {
        engine.count_by(model);
    }
    let play = Play { rows, own, judge_after: None, only: how.only.clone() };
    Ok((Player::new(capture, &engine, play), engine))
}

/// Tells when what is learned from began and ends.
fn begin(gathered: &mut Gathered, starts: &[Option<i64>], epochs: &[u64]) {
    let spans = || starts.iter().zip(epochs).filter_map(|(start, epochs)| start.zip(Some(*epochs)));
    let end = |(start, epochs): (i64, u64)| start.saturating_add_unsigned(epochs * EPOCH_NS);
    let first = spans().map(|(start, _)| start).min();
    gathered.begin(first.unwrap_or_default(), spans().map(end).max().unwrap_or_default());
}

/// The key that all captures have, or the one that is asked for.
fn seed(captures: &[Capture], asked: Option<u64>) -> Result<u64> {
    let first = &captures[0];
    match (asked, captures.iter().find(|other| other.seed != first.seed)) {
        (Some(seed), _) => Ok(seed),
        (None, None) => Ok(first.seed),
        (None, Some(other)) => Err(Error::File(format!(
            "{} and {} have different keys: capture all with one --key-file, or give --key-file or \
             --seed here, by which captures of every call (--full) are recomputed",
            first.name, other.name
        ))),
    }
}

/// Plays a run until its engine has learned, or to its end.
fn learn(
    player: &mut Player,
    engine: &mut Engine,
    keep: &mut dyn FnMut(&Engine, Vec<Window>) -> Result<()>,
    progress: &mut Progress<'_>,
) -> Result<Option<ModelFile>> {
    let mut model = None;
    player.play(
        engine,
        &mut |engine, outcome| {
            match outcome {
                Outcome::Phase(Phase::Scoring) => model = engine.save()?,
                Outcome::Windows(closed) => keep(engine, closed)?,
                _ => {}
            }
            Ok(model.is_none())
        },
        progress,
    )?;
    Ok(model)
}
