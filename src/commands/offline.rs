//! `hedgerow train` and `hedgerow score`: the engine over captured records, as the daemon ran it
//! over live ones.

use anyhow::Context;
use hedgerow_detect::{file::ModelFile, parts::Parts};
use hedgerow_event::Finding;
use hedgerow_offline::{
    Error,
    ask::{Ask, Asked},
    files, fleet,
    holes::{self, Gap},
    report::{Gathered, Report},
    score::{self, Score},
    train::{self, Train},
};
use hedgerow_sink::parquet::Damaged;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::{cli, exit::Failure, host, text};

pub fn ask(captures: &cli::Captures) -> Ask {
    let cli::Captures { captures, host, from, to, tz, workload, program, condition } =
        captures.clone();
    Ask { captures, hosts: host, workloads: workload, programs: program, condition, from, to, tz }
}

/// A bar for people; machines and pipes get none.
pub fn progress(rows: u64, json: bool) -> anyhow::Result<ProgressBar> {
    let bar = ProgressBar::new(rows);
    bar.set_style(ProgressStyle::with_template("{wide_bar} {percent} % {eta} left")?);
    if json {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    Ok(bar)
}

/// Tells what could not be read, and what is known of its loss.
pub fn tell_holes(damaged: &[Damaged], gaps: &[Gap]) {
    holes::lines(damaged, gaps).iter().for_each(|line| text::note(&format!("hedgerow: {line}")));
}

/// The key that a command line gives.
pub fn key(arguments: &cli::Key) -> anyhow::Result<Option<u64>> {
    Ok(match &arguments.key_file {
        Some(path) => Some(fleet::key(path)?),
        None => arguments.seed,
    })
}

/// Root may learn from what others can change, and is told that they choose what is learned.
fn warn_of_others(path: &std::path::Path) {
    // SAFETY: it only reads.
    if unsafe { libc::geteuid() } == 0
        && path.is_dir()
        && let Err(why) = host::unchangeable(path)
    {
        let path = path.display();
        text::note(&format!("hedgerow: warning: others choose what is learned: {path}: {why}"));
    }
}

/// Learns a model from captures.
pub fn train(arguments: &cli::Train, json: bool) -> anyhow::Result<()> {
    for path in &arguments.captures.captures {
        warn_of_others(path);
    }
    files::has_room(&arguments.model)?;
    arguments.report.as_deref().map_or(Ok(()), Report::fits)?;
    let ask = ask(&arguments.captures);
    let Asked { source, span, only } = ask.open()?;
    let how = Train {
        seed: key(&arguments.key)?,
        recompute: arguments.recompute,
        only,
        windows: arguments.windows.clone(),
    };
    let bar = progress(source.rows(), json)?;
    if arguments.part {
        let part = train::part(source, span, &how, &mut |rows| bar.inc(rows));
        bar.finish_and_clear();
        return tell_part(part?, &arguments.model, json);
    }
    let mut gathered = arguments.report.as_ref().map(|_| Gathered::default());
    let trained = train::train(source, span, &how, gathered.as_mut(), &mut |rows| bar.inc(rows));
    bar.finish_and_clear();
    let trained = trained?;
    if let (Some(path), Some(gathered)) = (&arguments.report, &gathered) {
        Report::of(&trained, gathered).save(path, ask.zone()?)?;
    }
    trained
        .model
        .save(&arguments.model)
        .with_context(|| arguments.model.display().to_string())
        .map_err(Failure::file)?;
    let programs = trained.model.profile.programs.len();
    let model_id = trained.engine.model_id();
    if json {
        let told = json!({ "model": model_id, "programs": programs, "runs": trained.runs,
            "hosts": trained.hosts, "holes": holes::json(&trained.damaged, &trained.gaps) });
        text::json(&told)?;
        return Ok(());
    }
    tell_holes(&trained.damaged, &trained.gaps);
    let of = match trained.runs {
        1 => String::new(),
        runs => {
            format!(" of {} in {runs} runs", text::counted(trained.hosts.len(), "host", "hosts"))
        }
    };
    text::say(&format!(
        "Learned {}{of}; model {model_id} is in {}.",
        text::counted(programs, "program", "programs"),
        arguments.model.display()
    ));
    Ok(())
}

fn tell_part(
    (file, parts): (ModelFile, Parts),
    path: &std::path::Path,
    json: bool,
) -> anyhow::Result<()> {
    file.save(path).with_context(|| path.display().to_string()).map_err(Failure::file)?;
    let (runs, hosts, epochs) = (parts.runs().count(), parts.hosts(), parts.epochs());
    if json {
        return text::json(&json!({ "runs": runs, "hosts": hosts, "epochs": epochs }));
    }
    text::say(&format!(
        "What {epochs} epochs of 5 s of {} in {} teach is in {}; `hedgerow model merge` makes a model of \
         it, with others.",
        text::counted(hosts.len(), "host", "hosts"),
        text::counted(runs, "run", "runs"),
        path.display()
    ));
    Ok(())
}

/// Scores captures with a model, each run by itself.
pub fn score(arguments: &cli::Score, json: bool) -> anyhow::Result<()> {
    let Asked { source, span, only } = ask(&arguments.captures).open()?;
    let how = Score {
        model: arguments.model.clone(),
        recompute: arguments.recompute,
        only,
        budget_per_day: None,
    };
    let bar = progress(source.rows(), json)?;
    let told = score::all(
        source,
        span,
        &how,
        (arguments.out.as_deref(), arguments.windows.as_deref()),
        &mut |finding| bar.suspend(|| print(finding, json)),
        &mut |rows| bar.inc(rows),
    );
    bar.finish_and_clear();
    let told = told?;
    tell_holes(&told.met.damaged, &told.met.gaps);
    if !json {
        text::note(&format!(
            "{} scored, {}.",
            text::counted(told.windows, "window", "windows"),
            text::counted(told.findings, "report", "reports")
        ));
    }
    Ok(())
}

fn print(finding: &Finding, json: bool) -> hedgerow_offline::Result<()> {
    if json {
        text::json(finding).map_err(|why| Error::Told(why.into()))?;
    } else {
        text::out(&text::finding(finding));
    }
    Ok(())
}
