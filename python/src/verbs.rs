//! The offline verbs, as the command line has them. What they tell comes back as JSON.

use std::path::{Path, PathBuf};

use hedgerow_detect::{Outcome, file::ModelFile};
use hedgerow_event::Epoch;
use hedgerow_offline as offline;
use hedgerow_offline::{
    Error, Result,
    backtest::{Ask, Backtest, Difference, Policy},
    condition::Condition,
    eval, fleet, labels,
    player::Only,
    report::{Gathered, Report},
    score::{Out, Score},
    source::{Selection, Source},
    time::{self, Span},
    train::Train,
    windows::Windows,
};
use hedgerow_sink::parquet::Damaged;
use pyo3::prelude::*;
use serde_json::{Value, json};

use crate::error;

/// Episodes a day that are acceptable unless somebody says otherwise.
const BUDGET_PER_DAY: f64 = 1.0;

/// Which captures, and what of them: the options that every verb takes.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Captures {
    captures: Vec<PathBuf>,
    host: Vec<String>,
    from_time: Option<String>,
    to_time: Option<String>,
    tz: String,
    workload: Vec<String>,
    program: Vec<String>,
    condition: Option<String>,
}

struct Asked {
    source: Source,
    span: Span,
    only: Only,
}

fn patterns(option: &str, texts: &[String]) -> Result<Vec<glob::Pattern>> {
    let pattern = |text: &String| {
        glob::Pattern::new(text).map_err(|why| Error::Usage(format!("{option}: {text}: {why}")))
    };
    texts.iter().map(pattern).collect()
}

impl Captures {
    fn open(&self) -> Result<Asked> {
        let zone = time::zone(&self.tz).map_err(Error::Usage)?;
        let at = |text: &Option<String>, without: i64| -> Result<i64> {
            let time = text.as_deref().map(|text| time::parse(text, zone));
            Ok(time.transpose().map_err(Error::Usage)?.unwrap_or(without))
        };
        let span = Span {
            from_ns: at(&self.from_time, Span::ALL.from_ns)?,
            to_ns: at(&self.to_time, Span::ALL.to_ns)?,
        };
        if span.from_ns >= span.to_ns {
            return Err(Error::Usage("the end is not after the beginning".to_owned()));
        }
        let condition = self.condition.as_deref().map(str::parse::<Condition>).transpose();
        let condition = condition.map_err(|why| Error::Usage(format!("where: {why}")))?;
        let hosts = patterns("host", &self.host)?;
        let selection = Selection { hosts, condition: condition.clone(), span };
        let source = Source::open(&self.captures, &selection)?;
        let only = Only {
            workloads: patterns("workload", &self.workload)?,
            programs: patterns("program", &self.program)?,
            condition,
        };
        Ok(Asked { source, span, only })
    }
}

fn write(path: &PathBuf, text: &str) -> Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    // It may say what would be missed: for its owner.
    let mut options = std::fs::File::options();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|why| Error::File(format!("{}: {why}", path.display())))
}

fn holes(damaged: &[Damaged], gaps: &[(String, Epoch, Epoch)]) -> Value {
    let damaged = damaged.iter().map(|file| {
        json!({ "path": file.path, "reason": file.reason, "bytes": file.bytes, "rows_lost": file.rows_lost })
    });
    let gaps = gaps
        .iter()
        .map(|(run, after, before)| json!({ "run": run, "after": after, "before": before }));
    json!({ "damaged": damaged.collect::<Vec<_>>(), "gaps": gaps.collect::<Vec<_>>() })
}

fn told(py: Python<'_>, run: impl FnOnce() -> Result<Value> + Send) -> PyResult<String> {
    py.detach(run).map(|told| told.to_string()).map_err(error)
}

/// Learns a model from captures.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
pub fn train(
    py: Python<'_>,
    captures: Captures,
    model: PathBuf,
    seed: Option<u64>,
    key_file: Option<PathBuf>,
    recompute: bool,
    windows: Option<PathBuf>,
    report: Option<PathBuf>,
    part: bool,
) -> PyResult<String> {
    told(py, move || {
        let Asked { source, span, only } = captures.open()?;
        let seed = key_file.as_deref().map(fleet::key).transpose()?.or(seed);
        let how = Train { seed, recompute, only, windows };
        if part {
            let (file, parts) = offline::train::part(source, span, &how, &mut |_| {})?;
            save(&file, &model)?;
            return Ok(json!({ "runs": parts.runs().count(), "hosts": parts.hosts(),
                "epochs": parts.epochs() }));
        }
        let mut gathered = report.as_ref().map(|_| Gathered::default());
        let trained = offline::train::train(source, span, &how, gathered.as_mut(), &mut |_| {})?;
        if let (Some(path), Some(gathered)) = (&report, &gathered) {
            let report = Report::of(&trained, gathered);
            write(path, &report.html(time::zone(&captures.tz).map_err(Error::Usage)?))?;
            write(&path.with_extension("json"), &serde_json::to_string(&report)?)?;
        }
        save(&trained.model, &model)?;
        Ok(
            json!({ "model": trained.engine.model_id(), "programs": trained.model.profile.programs.len(),
            "runs": trained.runs, "hosts": trained.hosts, "holes": holes(&trained.damaged, &trained.gaps) }),
        )
    })
}

fn save(model: &ModelFile, path: &Path) -> Result<()> {
    model.save(path).map_err(|why| {
        Error::File(format!("{}: {}", path.display(), hedgerow_detect::chain(&why)))
    })
}

/// Makes one model of many.
#[pyfunction]
pub fn merge(py: Python<'_>, models: Vec<PathBuf>, out: PathBuf) -> PyResult<String> {
    told(py, move || {
        let (file, merged) = offline::merge::merge(&models)?;
        save(&file, &out)?;
        Ok(json!(merged))
    })
}

/// Scores captures, each run by itself; findings come back where there is no directory for them.
#[pyfunction]
pub fn score(
    py: Python<'_>,
    captures: Captures,
    model: PathBuf,
    out: Option<PathBuf>,
    recompute: bool,
    windows: Option<PathBuf>,
) -> PyResult<String> {
    told(py, move || {
        let Asked { source, span, only } = captures.open()?;
        let how = Score { model, recompute, only, budget_per_day: None };
        let (mut findings, mut count, mut scored) = (Vec::new(), 0u64, 0u64);
        let (mut damaged, mut gaps) = (source.damaged, Vec::new());
        for run in source.runs {
            let mut out = out.as_deref().map(|path| Out::open(path, &run.host)).transpose()?;
            let kept = windows.as_deref().map(|path| Windows::open(path, &run.host));
            let mut kept = kept.transpose()?;
            let met = offline::score::score(
                run,
                span,
                &how,
                &mut |_, outcome| {
                    match outcome {
                        Outcome::Finding(finding, _) => {
                            count += 1;
                            match &mut out {
                                Some(out) => out.finding(&finding)?,
                                None => findings.push(serde_json::to_value(&finding)?),
                            }
                        }
                        Outcome::Scored(score) => {
                            scored += 1;
                            out.iter_mut().try_for_each(|out| out.scores.add(score.clone()))?;
                        }
                        Outcome::Windows(closed) => {
                            kept.iter_mut().try_for_each(|kept| kept.add(closed.clone()))?;
                        }
                        _ => {}
                    }
                    Ok(true)
                },
                &mut |_| {},
            )?;
            kept.map_or(Ok(()), Windows::finish)?;
            out.map_or(Ok(()), |out| out.scores.finish())?;
            damaged.extend(met.damaged);
            gaps.extend(met.gaps);
        }
        Ok(json!({ "windows": scored, "reports": count, "findings": findings,
            "holes": holes(&damaged, &gaps) }))
    })
}

/// Evaluates a model on labelled captures.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
pub fn evaluate(
    py: Python<'_>,
    captures: Captures,
    model: PathBuf,
    labelled: PathBuf,
    budget: Option<f64>,
    recompute: bool,
    csv: Option<PathBuf>,
    html: Option<PathBuf>,
) -> PyResult<String> {
    told(py, move || {
        let labels = labels::read(&labelled)?;
        let Asked { source, span, only } = captures.open()?;
        let how = Score { model, recompute, only, budget_per_day: budget };
        let mut damaged = source.damaged;
        let (told, met) = eval::run(source.runs, span, &how, BUDGET_PER_DAY, &labels, &mut |_| {})?;
        damaged.extend(met.damaged);
        csv.map_or(Ok(()), |path| write(&path, &told.csv()))?;
        let zone = time::zone(&captures.tz).map_err(Error::Usage)?;
        html.map_or(Ok(()), |path| write(&path, &told.html(zone)))?;
        Ok(json!({ "evaluation": told, "holes": holes(&damaged, &met.gaps) }))
    })
}

/// Shows what a model and a policy would have done, and how another pair differs.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
pub fn backtest(
    py: Python<'_>,
    captures: Captures,
    model: PathBuf,
    policy: Option<PathBuf>,
    allow: Vec<String>,
    budget: Option<f64>,
    labelled: Option<PathBuf>,
    against_model: Option<PathBuf>,
    against_policy: Option<PathBuf>,
) -> PyResult<String> {
    told(py, move || {
        let labels = labelled.as_deref().map(labels::read).transpose()?;
        let one = |model: &PathBuf, policy: Option<&PathBuf>| -> Result<Backtest> {
            let Asked { source, span, only } = captures.open()?;
            let as_captured = policy.is_none();
            let mut policy = policy.map(|path| Policy::read(path)).transpose()?.unwrap_or_default();
            policy.as_captured = as_captured;
            policy.allow.extend(allow.iter().cloned());
            let ask = Ask { model: model.clone(), policy, budget_per_day: budget, only };
            let mut told = Backtest::default();
            told.unavailable.extend(
                source
                    .damaged
                    .iter()
                    .map(|file| format!("{}: {}", file.path.display(), file.reason)),
            );
            for run in source.runs {
                offline::backtest::run(run, span, &ask, labels.as_deref(), &mut told, &mut |_| {})?;
            }
            Ok(told)
        };
        let told = one(&model, policy.as_ref())?;
        let other = (against_model.is_some() || against_policy.is_some()).then(|| {
            one(
                against_model.as_ref().unwrap_or(&model),
                against_policy.as_ref().or(policy.as_ref()),
            )
        });
        let other = other.transpose()?;
        let difference = other.as_ref().map(|other| Difference::of(&told, other));
        Ok(json!({ "backtest": told, "against": other, "difference": difference }))
    })
}
