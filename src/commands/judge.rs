//! `hedgerow eval` and `hedgerow backtest`: how good a model is on a captured past, and what a policy
//! would have done to it.

use std::{io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use anyhow::Context;
use hedgerow_offline::{
    backtest::{self, Backtest, Difference, Policy},
    eval,
    labels::{self, Label},
    score::Score,
    time,
};
use serde_json::json;

use super::offline::{Asked, asked, holes, progress, rows, tell_holes};
use crate::{cli, config::BUDGET_PER_DAY_DEFAULT, exit::Failure, text};

/// Writes what is shown in a browser or read by a table, for its owner: it may say what would be
/// missed.
pub fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = std::fs::File::options();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| path.display().to_string())
        .map_err(|why| Failure::file(why).into())
}

fn budget(asked: Option<f64>) -> anyhow::Result<Option<f64>> {
    match asked {
        Some(budget) if !(budget.is_finite() && budget > 0.0) => Err(Failure::Usage(format!(
            "--budget: {budget} is not a number of episodes a day above 0"
        ))
        .into()),
        budget => Ok(budget),
    }
}

/// Evaluates a model on labelled captures.
pub fn eval(arguments: &cli::Eval, json: bool) -> anyhow::Result<()> {
    let labels = labels::read(&arguments.labels)?;
    let zone = time::zone(&arguments.captures.tz).map_err(Failure::Usage)?;
    let Asked { source, span, only } = asked(&arguments.captures)?;
    let how = Score {
        model: arguments.model.clone(),
        recompute: arguments.recompute,
        only,
        budget_per_day: budget(arguments.budget)?,
    };
    let bar = progress(rows(&source), json)?;
    let mut damaged = source.damaged;
    let mut on = |rows| bar.inc(rows);
    let (told, met) = eval::run(source.runs, span, &how, BUDGET_PER_DAY_DEFAULT, &labels, &mut on)?;
    bar.finish_and_clear();
    damaged.extend(met.damaged);
    let gaps = met.gaps;
    if let Some(path) = &arguments.csv {
        write(path, &told.csv())?;
    }
    if let Some(path) = &arguments.html {
        write(path, &told.html(zone))?;
    }
    if json {
        let holes = holes(&damaged, &gaps);
        text::json(&json!({ "evaluation": told, "holes": holes }))?;
    } else {
        tell_holes(&damaged, &gaps);
        text::out(&told.text(zone));
    }
    Ok(())
}

/// Shows what models and policies would have done.
pub fn backtest(arguments: &cli::Backtest, json: bool) -> anyhow::Result<()> {
    let zone = time::zone(&arguments.captures.tz).map_err(Failure::Usage)?;
    let labels = arguments.labels.as_deref().map(labels::read).transpose()?;
    let policy = |path: Option<&Path>| -> anyhow::Result<Policy> {
        let mut policy = path.map(Policy::read).transpose()?.unwrap_or_default();
        policy.as_captured = path.is_none();
        let allowed = arguments.allow.iter();
        policy.allow.extend(allowed.map(|prefix| format!("{}/{}", prefix.address, prefix.length)));
        Ok(policy)
    };
    let first = policy(arguments.policy.as_deref())?;
    let told = one(arguments, &arguments.model, &first, labels.as_deref(), json)?;
    let against = arguments.against_model.is_some() || arguments.against_policy.is_some();
    let other = against
        .then(|| {
            let model = arguments.against_model.as_ref().unwrap_or(&arguments.model);
            let policy = match &arguments.against_policy {
                Some(path) => policy(Some(path))?,
                None => first.clone(),
            };
            one(arguments, model, &policy, labels.as_deref(), json)
        })
        .transpose()?;
    let difference = other.as_ref().map(|other| Difference::of(&told, other));
    if json {
        let told = json!({ "backtest": told, "against": other, "difference": difference });
        text::json(&told)?;
        return Ok(());
    }
    text::out(&told.text(zone));
    if let (Some(other), Some(difference)) = (other, difference) {
        text::out(&format!("\nagainst\n\n{}\n{}", other.text(zone), difference.text()));
    }
    Ok(())
}

fn one(
    arguments: &cli::Backtest,
    model: &Path,
    policy: &Policy,
    labels: Option<&[Label]>,
    json: bool,
) -> anyhow::Result<Backtest> {
    let Asked { source, span, only } = asked(&arguments.captures)?;
    let ask = backtest::Ask {
        model: model.to_owned(),
        policy: policy.clone(),
        budget_per_day: budget(arguments.budget)?,
        only,
    };
    let bar = progress(rows(&source), json)?;
    let mut told = Backtest::default();
    told.unavailable.extend(
        source.damaged.iter().map(|file| format!("{}: {}", file.path.display(), file.reason)),
    );
    for run in source.runs {
        backtest::run(run, span, &ask, labels, &mut told, &mut |rows| bar.inc(rows))?;
    }
    bar.finish_and_clear();
    Ok(told)
}
