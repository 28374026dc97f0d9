//! `hedgerow train` and `hedgerow score`: the engine over captured records, as the daemon ran it
//! over live ones.

use anyhow::Context;
use hedgerow_detect::{Outcome, file::ModelFile, parts::Parts};
use hedgerow_event::{Epoch, Finding};
use hedgerow_offline::{
    Error,
    condition::Condition,
    fleet,
    player::Only,
    report::{Gathered, Report},
    score::{self, Out, Score},
    source::{Selection, Source},
    time::{self, Span},
    train::{self, Train},
    windows::Windows,
};
use hedgerow_sink::parquet::Damaged;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::judge;
use crate::{cli, exit::Failure, host, text};

/// What is asked for, checked.
pub struct Asked {
    pub source: Source,
    pub span: Span,
    pub only: Only,
}

pub fn asked(captures: &cli::Captures) -> anyhow::Result<Asked> {
    let usage = |option: &str, why: String| Failure::Usage(format!("{option}: {why}"));
    let zone = time::zone(&captures.tz).map_err(|why| usage("--tz", why))?;
    let at = |option: &str, text: &Option<String>, without: i64| -> anyhow::Result<i64> {
        let time = text.as_deref().map(|text| time::parse(text, zone));
        Ok(time.transpose().map_err(|why| usage(option, why))?.unwrap_or(without))
    };
    let span = Span {
        from_ns: at("--from", &captures.from, Span::ALL.from_ns)?,
        to_ns: at("--to", &captures.to, Span::ALL.to_ns)?,
    };
    if span.from_ns >= span.to_ns {
        return Err(Failure::Usage("--to: it is not after --from".to_owned()).into());
    }
    let condition = captures.condition.as_deref().map(str::parse::<Condition>).transpose();
    let condition = condition.map_err(|why| usage("--where", why))?;
    let hosts = captures.host.clone();
    let selection = Selection { hosts, condition: condition.clone(), span };
    let source = Source::open(&captures.captures, &selection)?;
    let (workloads, programs) = (captures.workload.clone(), captures.program.clone());
    let only = Only { workloads, programs, condition };
    Ok(Asked { source, span, only })
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

pub fn rows(source: &Source) -> u64 {
    source.runs.iter().flat_map(|run| &run.records).map(|file| file.rows).sum()
}

/// Tells what could not be read, and what is known of its loss.
pub fn tell_holes(damaged: &[Damaged], gaps: &[(String, Epoch, Epoch)]) {
    for file in damaged {
        let lost = match file.rows_lost {
            Some(rows) => format!("{rows} of its rows are lost"),
            None => {
                format!("its {} bytes are lost, and how many rows they were is unknown", file.bytes)
            }
        };
        let path = file.path.display().to_string();
        text::note(&format!("hedgerow: {path}: {}; {lost}", file.reason));
    }
    for (run, after, before) in gaps {
        text::note(&format!(
            "hedgerow: {run}: nothing is there of {} epochs of 5 s, after {after} and before {before}",
            before.0 - after.0 - 1
        ));
    }
}

/// The same for machines.
pub fn holes(damaged: &[Damaged], gaps: &[(String, Epoch, Epoch)]) -> serde_json::Value {
    let damaged: Vec<_> = damaged
        .iter()
        .map(|file| {
            json!({ "path": file.path, "reason": file.reason, "bytes": file.bytes,
                "rows_lost": file.rows_lost })
        })
        .collect();
    let gaps: Vec<_> = gaps
        .iter()
        .map(|(run, after, before)| json!({ "run": run, "after": after, "before": before }))
        .collect();
    json!({ "damaged": damaged, "gaps": gaps })
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
    let Asked { source, span, only } = asked(&arguments.captures)?;
    let how = Train {
        seed: key(&arguments.key)?,
        recompute: arguments.recompute,
        only,
        windows: arguments.windows.clone(),
    };
    let bar = progress(rows(&source), json)?;
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
        let report = Report::of(&trained, gathered);
        let zone = time::zone(&arguments.captures.tz).map_err(Failure::Usage)?;
        judge::write(path, &report.html(zone))?;
        judge::write(&path.with_extension("json"), &serde_json::to_string(&report)?)?;
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
            "hosts": trained.hosts, "holes": holes(&trained.damaged, &trained.gaps) });
        text::json(&told)?;
        return Ok(());
    }
    tell_holes(&trained.damaged, &trained.gaps);
    let of = match trained.runs {
        1 => String::new(),
        runs => format!(" of {} hosts in {runs} runs", trained.hosts.len()),
    };
    text::say(&format!(
        "Learned {programs} programs{of}; model {model_id} is in {}.",
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
        "What {epochs} epochs of 5 s of {} hosts in {runs} runs teach is in {}; `hedgerow model merge` \
         makes a model of it, with others.",
        hosts.len(),
        path.display()
    ));
    Ok(())
}

/// Scores captures with a model, each run by itself.
pub fn score(arguments: &cli::Score, json: bool) -> anyhow::Result<()> {
    let Asked { source, span, only } = asked(&arguments.captures)?;
    let how = Score {
        model: arguments.model.clone(),
        recompute: arguments.recompute,
        only,
        budget_per_day: None,
    };
    let bar = progress(rows(&source), json)?;
    let (mut findings, mut windows) = (0u64, 0u64);
    let (mut damaged, mut gaps) = (source.damaged, Vec::new());
    for run in source.runs {
        let mut out =
            arguments.out.as_deref().map(|path| Out::open(path, &run.host)).transpose()?;
        let kept = arguments.windows.as_deref().map(|path| Windows::open(path, &run.host));
        let mut kept = kept.transpose()?;
        let scored = score::score(
            run,
            span,
            &how,
            &mut |_, outcome| {
                match (outcome, &mut out, &mut kept) {
                    (Outcome::Finding(finding, _), out, _) => {
                        findings += 1;
                        match out {
                            Some(out) => out.finding(&finding)?,
                            None => bar.suspend(|| print(&finding, json))?,
                        }
                    }
                    (Outcome::Scored(score), out, _) => {
                        windows += 1;
                        out.iter_mut().try_for_each(|out| out.scores.add(score.clone()))?;
                    }
                    (Outcome::Windows(closed), _, Some(kept)) => kept.add(closed)?,
                    _ => {}
                }
                Ok(true)
            },
            &mut |rows| bar.inc(rows),
        )?;
        kept.map_or(Ok(()), Windows::finish)?;
        out.map_or(Ok(()), |out| out.scores.finish())?;
        damaged.extend(scored.damaged);
        gaps.extend(scored.gaps);
    }
    bar.finish_and_clear();
    tell_holes(&damaged, &gaps);
    if !json {
        text::note(&format!("{windows} windows scored, {findings} reports."));
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
