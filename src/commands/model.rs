//! `hedgerow model export`, `import` and `merge`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use hedgerow_offline::{
    exchange::{self, Exchanged, Import},
    holes, merge,
    source::{Selection, Source},
};
use serde::Serialize;

use super::offline::{progress, tell_holes};
use crate::{cli, exit::Failure, text};

pub fn run(command: &cli::Model, json: bool) -> anyhow::Result<()> {
    match command {
        cli::Model::Export { out, model, scale } => {
            let told = exchange::export(model, (*scale).into(), out)?;
            let Exchanged { model, trees, sample_size, .. } = &told;
            let out = out.display();
            tell(
                &told,
                json,
                &format!(
                    "The forest of model {model} is in {out}: {trees} trees of {sample_size} rows."
                ),
            )
        }
        cli::Model::Import(arguments) => import(arguments, json),
        cli::Model::Merge { models, out } => merge(models, out, json),
    }
}

fn merge(models: &[PathBuf], out: &Path, json: bool) -> anyhow::Result<()> {
    let (file, told) = merge::merge(models)?;
    let named = out.display();
    file.save(out).with_context(|| named.to_string()).map_err(Failure::file)?;
    let merge::Merged { model, models, runs, hosts, programs } = &told;
    tell(
        &told,
        json,
        &format!(
            "Model {model} is in {named}: {} of {} in {}, out of {}.",
            text::counted(*programs, "program", "programs"),
            text::counted(hosts.len(), "host", "hosts"),
            text::counted(*runs, "run", "runs"),
            text::counted(*models, "model", "models")
        ),
    )
}

fn import(arguments: &cli::ModelImport, json: bool) -> anyhow::Result<()> {
    let how = Import {
        forest: arguments.forest.clone(),
        model: arguments.model.clone(),
        out: arguments.out.clone(),
        scale: arguments.scale.into(),
        recompute: arguments.recompute,
    };
    let named = &arguments.hold_back;
    let captures =
        (!named.is_empty()).then(|| Source::open(named, &Selection::default())).transpose()?;
    let bar = progress(captures.as_ref().map_or(0, Source::rows), json || captures.is_none())?;
    let told = exchange::import(&how, captures, &mut |rows| bar.inc(rows));
    bar.finish_and_clear();
    let (told, met) = told?;
    if json {
        let mut told = serde_json::to_value(&told)?;
        told["holes"] = holes::json(&met.damaged, &met.gaps);
        return text::json(&told);
    }
    tell_holes(&met.damaged, &met.gaps);
    let Exchanged { model, trees, sample_size, measured_programs } = &told;
    let held = match measured_programs {
        0 => "it is silent about windows of this length until enough were held back in service"
            .to_owned(),
        programs => {
            format!("windows of {} were held back", text::counted(*programs, "program", "programs"))
        }
    };
    text::say(&format!(
        "Model {model} is in {}: a forest of {trees} trees of {sample_size} rows; {held}.",
        arguments.out.display()
    ));
    Ok(())
}

fn tell(told: &impl Serialize, json: bool, said: &str) -> anyhow::Result<()> {
    if json {
        text::json(told)?;
    } else {
        text::say(said);
    }
    Ok(())
}
