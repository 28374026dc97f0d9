//! Learning a model from captures.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use hedgerow_detect::{
    Engine, Life, Outcome, Phase, Schedule,
    file::{ModelFile, Profile},
};
use hedgerow_event::Epoch;
use hedgerow_features::Window;
use hedgerow_sink::parquet::Damaged;

use crate::{
    Error, Result,
    capture::{Capture, divided, epochs},
    player::{Only, Play, Player, Progress, Rows},
    report::Gathered,
    source::{Source, start_ns},
    time::Span,
    windows::Windows,
};

/// Between two runs that are learned from together.
const APART_NS: u64 = 2 * 3_600_000_000_000;
/// The place of that phase in the order of phases.
const CALIBRATE: usize = 2;
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
    /// As it was when learning ended.
    pub engine: Engine,
    pub runs: usize,
    pub hosts: BTreeSet<String>,
    pub damaged: Vec<Damaged>,
    /// Run, and epochs (after, before) between which nothing is there.
    pub gaps: Vec<(String, Epoch, Epoch)>,
}

/// One run of those that are learned from together.
struct Part {
    player: Player,
    /// What is known of its processes while another one is played.
    life: Option<Life>,
    schedule: Schedule,
}

/// Learns a model. One run is learned from as its daemon did, or divided as a learning time is.
/// Several are learned from together: each is divided, and each part of learning takes its part of
/// all of them. What a report needs is added to `gathered`.
///
/// # Errors
/// A file can't be read; keys differ; not every call was stored where it must have been; or the
/// captures are too short to learn from.
pub fn train(
    source: Source,
    span: Span,
    how: &Train,
    mut gathered: Option<&mut Gathered>,
    progress: &mut Progress<'_>,
) -> Result<Trained> {
    let Source { runs, mut damaged } = source;
    let hosts: BTreeSet<String> = runs.iter().map(|run| run.host.clone()).collect();
    let counted = runs.iter().map(|run| epochs(run, span)).collect::<Result<Vec<u64>>>()?;
    let starts: Vec<Option<i64>> =
        runs.iter().map(|run| run.records.first().and_then(|file| start_ns(&file.path))).collect();
    if let Some(gathered) = &mut gathered {
        begin(gathered, &starts, &counted);
    }
    let captures =
        runs.into_iter().map(|run| Capture::open(run, span)).collect::<Result<Vec<_>>>()?;
    let seed = seed(&captures, how.seed)?;
    let alone = captures.len() == 1;
    // With a daemon that learned, its schedule; without, the kernel knew no n-gram from the first
    // epoch to the last.
    let own = |capture: &Capture| alone && span.is_all() && capture.schedule.is_some();
    let schedules: Vec<Schedule> = captures
        .iter()
        .zip(&counted)
        .map(|(capture, epochs)| match capture.schedule {
            Some(schedule) if own(capture) => schedule,
            _ => divided(*epochs),
        })
        .collect();
    let mut settings = captures[0].settings(whole(&schedules), seed);
    if hosts.len() > 1 {
        settings.host_id = Arc::from(format!("{} hosts", hosts.len()));
    }
    let mut engine = Engine::learning(settings)?;
    let shifts = if alone { vec![None] } else { shifts(&captures, &starts, &counted) };
    let name = if hosts.len() > 1 { "fleet".to_owned() } else { captures[0].host.clone() };
    let mut windows = how.windows.as_deref().map(|at| Windows::open(at, &name)).transpose()?;
    let parts = captures.into_iter().zip(schedules).zip(shifts);
    let mut parts = parts
        .map(|((capture, schedule), shift_ns)| {
            let recorded = own(&capture) && seed == capture.seed;
            let rows = Rows::choose(recorded && !how.recompute, &capture)?;
            let play =
                Play { rows, own: recorded, judge_after: None, only: how.only.clone(), shift_ns };
            let life = (!alone).then(|| engine.another_life(&capture.settings(schedule, seed)));
            Ok(Part { player: Player::new(capture, &engine, play), life, schedule })
        })
        .collect::<Result<Vec<Part>>>()?;
    let mut keep = |engine: &Engine, closed: Vec<Window>| {
        if let Some(gathered) = &mut gathered {
            gathered.add(engine, &closed);
        }
        windows.as_mut().map_or(Ok(()), |windows| windows.add(closed))
    };
    let model = learn(&mut engine, &mut parts, &mut keep, progress)?;
    windows.map_or(Ok(()), Windows::finish)?;
    damaged.extend(parts.iter().flat_map(|part| part.player.damaged().cloned()));
    let gaps = parts.iter().flat_map(|part| part.player.gaps()).collect();
    let Some(model) = model else {
        return Err(Error::File(format!(
            "{}: too short to learn from: {} more epochs of 5 s are needed",
            parts[0].player.capture.name,
            engine.epochs_left()
        )));
    };
    Ok(Trained { model, engine, runs: parts.len(), hosts, damaged, gaps })
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

fn whole(schedules: &[Schedule]) -> Schedule {
    let sum = |of: fn(&Schedule) -> u32| schedules.iter().map(of).sum();
    Schedule { fill: sum(|s| s.fill), fit: sum(|s| s.fit), calibrate: sum(|s| s.calibrate) }
}

/// How far the clock of each run is put forward, so that each has hours of its own.
fn shifts(captures: &[Capture], starts: &[Option<i64>], epochs: &[u64]) -> Vec<Option<u64>> {
    let first = |(capture, start): (&Capture, &Option<i64>)| -> u64 {
        let boot = start.unwrap_or_default().saturating_sub(capture.realtime_offset_ns);
        u64::try_from(boot).unwrap_or_default()
    };
    let firsts: Vec<u64> = captures.iter().zip(starts).map(first).collect();
    let mut next = firsts.iter().copied().max().unwrap_or_default();
    firsts
        .iter()
        .zip(epochs)
        .map(|(first, epochs)| {
            let shift = next - first;
            next += epochs * EPOCH_NS + APART_NS;
            Some(shift)
        })
        .collect()
}

fn learn(
    engine: &mut Engine,
    parts: &mut [Part],
    keep: &mut dyn FnMut(&Engine, Vec<Window>) -> Result<()>,
    progress: &mut Progress<'_>,
) -> Result<Option<ModelFile>> {
    let mut model = None;
    let mut armed: Option<Profile> = None;
    let of_phase: [fn(&Schedule) -> Option<u32>; 4] =
        [|s| Some(s.fill), |s| Some(s.fit), |s| Some(s.calibrate), |_| None];
    for (phase, epochs) in of_phase.into_iter().enumerate() {
        for at in 0..parts.len() {
            let Part { player, life, schedule } = &mut parts[at];
            life.iter_mut().for_each(|life| engine.exchange(life));
            player.play(
                engine,
                epochs(schedule),
                &mut |engine, outcome| {
                    match outcome {
                        Outcome::Phase(Phase::Scoring) => model = engine.save()?,
                        Outcome::Arm(profile) => armed = Some(profile),
                        Outcome::Windows(closed) => keep(engine, closed)?,
                        _ => {}
                    }
                    Ok(model.is_none())
                },
                progress,
            )?;
            if let Some(life) = life {
                // No other part comes after it.
                if phase == CALIBRATE {
                    engine.end_life();
                }
                engine.exchange(life);
            }
            if model.is_some() {
                return Ok(model);
            }
            // What all learned together is known to each from its next epoch on.
            if let Some(profile) = armed.take() {
                let others = parts.iter_mut().enumerate().filter(|(other, _)| *other != at);
                others.for_each(|(_, part)| part.player.arm(&profile));
            }
        }
    }
    Ok(model)
}
