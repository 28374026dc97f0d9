//! `hedgerow findings`: what was found, from the daemon's log.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
};

use anyhow::Context;
use hedgerow_event::{Activity, Disposition, Finding};

use crate::{
    cli,
    control::{Request, call, socket},
    daemon::FINDINGS,
    exit::Failure,
    text,
};

/// Reads the log of findings; a line that a crash cut short is passed over.
pub fn read(path: &Path) -> anyhow::Result<Vec<Finding>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let file = fs::File::open(path)
        .with_context(|| format!("can't read {}", path.display()))
        .map_err(Failure::file)?;
    let mut findings = Vec::new();
    for line in BufReader::new(file).lines() {
        let line = line.with_context(|| path.display().to_string()).map_err(Failure::file)?;
        findings.extend(serde_json::from_str(&line));
    }
    Ok(findings)
}

pub fn run(command: &cli::Findings, json: bool) -> anyhow::Result<()> {
    match command {
        cli::Findings::List { state, all } => list(&state.state.join(FINDINGS), *all, json),
        cli::Findings::Show { uid, state } => show(&state.state.join(FINDINGS), uid, json),
        cli::Findings::Accept { uid, state } => {
            let answer = call(&socket(&state.state), &Request::Accept { uid: uid.clone() })?;
            if json {
                println!("{answer}");
            } else {
                println!("Accepted {}: it is learned and no longer reported.", answer["accepted"]);
            }
            Ok(())
        }
    }
}

fn list(path: &Path, all: bool, json: bool) -> anyhow::Result<()> {
    let findings = read(path)?;
    let shown = findings
        .iter()
        .filter(|finding| finding.activity == Activity::Create)
        .filter(|finding| all || finding.disposition != Disposition::Suppressed);
    let mut count = 0;
    for finding in shown {
        count += 1;
        if json {
            println!("{}", serde_json::to_string(finding)?);
        } else {
            println!(
                "{} {} {} {:.3} {}: {}",
                &finding.uid,
                text::time(finding.time_ns),
                finding.state,
                finding.score,
                finding.subject,
                finding.reason
            );
        }
    }
    if count == 0 && !json {
        eprintln!("Nothing was found.");
    }
    Ok(())
}

fn show(path: &Path, uid: &str, json: bool) -> anyhow::Result<()> {
    let findings = read(path)?;
    let of_uid: Vec<&Finding> = findings.iter().filter(|one| one.uid.starts_with(uid)).collect();
    let Some(first) = of_uid.first() else {
        return Err(Failure::Usage(format!("no finding's uid begins with `{uid}`")).into());
    };
    if of_uid.iter().any(|finding| finding.uid != first.uid) {
        return Err(Failure::Usage(format!("`{uid}` is the beginning of several uids")).into());
    }
    for finding in of_uid {
        if json {
            println!("{}", serde_json::to_string(finding)?);
        } else {
            println!("{}", text::finding(finding));
        }
    }
    Ok(())
}
