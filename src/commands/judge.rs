//! `hedgerow eval` and `hedgerow backtest`: how good a model is on a captured past, and what a policy
//! would have done to it.

use std::path::Path;

use hedgerow_offline::{
    ask::Asked,
    backtest::{self, Backtest, Difference, Policy},
    eval, files, holes,
    labels::{self, Label},
    score::Score,
};
use serde_json::json;

use super::offline::{ask, progress, tell_holes};
use crate::{cli, text};

/// Evaluates a model on labelled captures.
pub fn eval(arguments: &cli::Eval, json: bool) -> anyhow::Result<()> {
    arguments.csv.iter().chain(&arguments.html).try_for_each(|path| files::has_room(path))?;
    let labels = labels::read(&arguments.labels)?;
    let ask = ask(&arguments.captures);
    let zone = ask.zone()?;
    let Asked { source, span, only } = ask.open()?;
    let how = Score {
        model: arguments.model.clone(),
        recompute: arguments.recompute,
        only,
        budget_per_day: arguments.budget,
    };
    let bar = progress(source.rows(), json)?;
    let mut damaged = source.damaged;
    let mut on = |rows| bar.inc(rows);
    let (told, met) = eval::run(source.runs, span, &how, &labels, &mut on)?;
    bar.finish_and_clear();
    damaged.extend(met.damaged);
    let gaps = met.gaps;
    if let Some(path) = &arguments.csv {
        files::write(path, &told.csv())?;
    }
    if let Some(path) = &arguments.html {
        files::write(path, &told.html(zone))?;
    }
    if json {
        let holes = holes::json(&damaged, &gaps);
        text::json(&json!({ "evaluation": told, "holes": holes }))?;
    } else {
        tell_holes(&damaged, &gaps);
        text::out(&told.text(zone));
    }
    Ok(())
}

/// Shows what models and policies would have done.
pub fn backtest(arguments: &cli::Backtest, json: bool) -> anyhow::Result<()> {
    let zone = ask(&arguments.captures).zone()?;
    let labels = arguments.labels.as_deref().map(labels::read).transpose()?;
    let allowed = arguments.allow.iter();
    let allowed: Vec<String> =
        allowed.map(|prefix| format!("{}/{}", prefix.address, prefix.length)).collect();
    let first = Policy::of(arguments.policy.as_deref(), &allowed)?;
    let told = one(arguments, &arguments.model, &first, labels.as_deref(), json)?;
    let against = arguments.against_model.is_some() || arguments.against_policy.is_some();
    let other = against
        .then(|| {
            let model = arguments.against_model.as_ref().unwrap_or(&arguments.model);
            let policy = match &arguments.against_policy {
                Some(path) => Policy::of(Some(path), &allowed)?,
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
    let Asked { source, span, only } = ask(&arguments.captures).open()?;
    let ask = backtest::Ask {
        model: model.to_owned(),
        policy: policy.clone(),
        budget_per_day: arguments.budget,
        only,
    };
    let bar = progress(source.rows(), json)?;
    let told = backtest::all(source, span, &ask, labels, &mut |rows| bar.inc(rows));
    bar.finish_and_clear();
    Ok(told?)
}
