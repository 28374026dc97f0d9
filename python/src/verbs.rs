//! The offline verbs, as the command line has them. What they tell comes back as JSON.

use std::path::{Path, PathBuf};

use hedgerow_detect::file::ModelFile;
use hedgerow_event::Scale;
use hedgerow_offline as offline;
use hedgerow_offline::{
    Error, Result,
    ask::{Ask, Asked},
    backtest::{Backtest, Difference, Policy},
    eval,
    exchange::{self, Import},
    files, fleet, holes, labels,
    report::{Gathered, Report},
    score::Score,
    share::{Owner, Pseudonyms, share as share_capture},
    source::{Selection, Source},
    train::Train,
};
use pyo3::prelude::*;
use serde_json::{Value, json};

use crate::error;

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

fn patterns(option: &str, texts: &[String]) -> Result<Vec<glob::Pattern>> {
    let pattern = |text: &String| {
        glob::Pattern::new(text).map_err(|why| Error::Usage(format!("{option}: {text}: {why}")))
    };
    texts.iter().map(pattern).collect()
}

impl Captures {
    fn ask(self) -> Result<Ask> {
        Ok(Ask {
            captures: self.captures,
            hosts: patterns("--host", &self.host)?,
            workloads: patterns("--workload", &self.workload)?,
            programs: patterns("--program", &self.program)?,
            condition: self.condition,
            from: self.from_time,
            to: self.to_time,
            tz: self.tz,
        })
    }
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
        files::has_room(&model)?;
        report.as_deref().map_or(Ok(()), Report::fits)?;
        let ask = captures.ask()?;
        let Asked { source, span, only } = ask.open()?;
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
            Report::of(&trained, gathered).save(path, ask.zone()?)?;
        }
        save(&trained.model, &model)?;
        Ok(
            json!({ "model": trained.engine.model_id(), "programs": trained.model.profile.programs.len(),
            "runs": trained.runs, "hosts": trained.hosts, "holes": holes::json(&trained.damaged, &trained.gaps) }),
        )
    })
}

fn save(model: &ModelFile, path: &Path) -> Result<()> {
    model
        .save(path)
        .map_err(|why| Error::File(format!("{}: {}", path.display(), hedgerow_detect::chain(&why))))
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

/// Length of windows, as the command line names it.
fn scale(text: &str) -> Result<Scale> {
    match text {
        "5s" => Ok(Scale::Seconds5),
        "1m" => Ok(Scale::Minute),
        text => Err(Error::Usage(format!("--scale: {text} is neither 5s nor 1m"))),
    }
}

/// Writes a model's forest as ONNX.
#[pyfunction]
pub fn export_forest(py: Python<'_>, model: PathBuf, out: PathBuf, of: String) -> PyResult<String> {
    told(py, move || Ok(json!(exchange::export(&model, scale(&of)?, &out)?)))
}

/// Makes a model whose forest is another one.
#[pyfunction]
pub fn import_forest(
    py: Python<'_>,
    forest: PathBuf,
    model: PathBuf,
    out: PathBuf,
    of: String,
    hold_back: Vec<PathBuf>,
    recompute: bool,
) -> PyResult<String> {
    told(py, move || {
        let how = Import { forest, model, out, scale: scale(&of)?, recompute };
        let captures = (!hold_back.is_empty())
            .then(|| Source::open(&hold_back, &Selection::default()))
            .transpose()?;
        let (made, met) = exchange::import(&how, captures, &mut |_| {})?;
        let mut told = json!(made);
        told["holes"] = holes::json(&met.damaged, &met.gaps);
        Ok(told)
    })
}

/// Writes a capture anew, as it can be given away.
#[pyfunction]
pub fn share(
    py: Python<'_>,
    capture: PathBuf,
    out: PathBuf,
    user: u32,
    group: u32,
    pseudonymise: Option<PathBuf>,
) -> PyResult<String> {
    told(py, move || {
        let key = pseudonymise.as_deref().map(fleet::share_key).transpose()?;
        let (owner, names) = (Owner { user, group }, key.map(Pseudonyms::new));
        let shared = share_capture(&capture, &out, owner, names, &mut |_| {})?;
        Ok(json!({ "shared": shared, "holes": holes::json(&shared.damaged, &[]) }))
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
        let Asked { source, span, only } = captures.ask()?.open()?;
        let how = Score { model, recompute, only, budget_per_day: None };
        let mut findings = Vec::new();
        let told = offline::score::all(
            source,
            span,
            &how,
            (out.as_deref(), windows.as_deref()),
            &mut |finding| {
                findings.push(serde_json::to_value(finding)?);
                Ok(())
            },
            &mut |_| {},
        )?;
        Ok(json!({ "windows": told.windows, "reports": told.findings, "findings": findings,
            "holes": holes::json(&told.met.damaged, &told.met.gaps) }))
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
        csv.iter().chain(&html).try_for_each(|path| files::has_room(path))?;
        let labels = labels::read(&labelled)?;
        let ask = captures.ask()?;
        let zone = ask.zone()?;
        let Asked { source, span, only } = ask.open()?;
        let how = Score { model, recompute, only, budget_per_day: budget };
        let mut damaged = source.damaged;
        let (told, met) = eval::run(source.runs, span, &how, &labels, &mut |_| {})?;
        damaged.extend(met.damaged);
        csv.map_or(Ok(()), |path| files::write(&path, &told.csv()))?;
        html.map_or(Ok(()), |path| files::write(&path, &told.html(zone)))?;
        Ok(json!({ "evaluation": told, "holes": holes::json(&damaged, &met.gaps) }))
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
        let ask = captures.ask()?;
        let one = |model: &PathBuf, policy: Option<&PathBuf>| -> Result<Backtest> {
            let Asked { source, span, only } = ask.open()?;
            let policy = Policy::of(policy.map(PathBuf::as_path), &allow)?;
            let model = model.clone();
            let ask = offline::backtest::Ask { model, policy, budget_per_day: budget, only };
            offline::backtest::all(source, span, &ask, labels.as_deref(), &mut |_| {})
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
