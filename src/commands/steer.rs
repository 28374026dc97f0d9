//! `hedgerow deny`, `allow`, `mode` and `disarm`: an operator's word to the responder.

use std::{os::unix::net::UnixStream, path::Path};

use hedgerow_event::{Mode, Remediation};
use hedgerow_responder::{hold::Hold, ledger::Line};
use serde::Deserialize;

use super::why;
use crate::{
    cli::{self, ModeArgument, Prefix},
    control::{Request, call, socket},
    daemon::LEDGER,
    exit::Failure,
    host, text,
};

pub fn deny(command: &cli::Deny, json: bool) -> anyhow::Result<()> {
    match command {
        cli::Deny::List { why: false, state, .. } => list(&entries(&state.state)?, None, json),
        cli::Deny::List { all, state, .. } => explain(*all, &state.state, json),
        cli::Deny::Add { prefix, duration, force, state } => {
            let request = Request::Deny {
                address: prefix.address,
                prefix_length: prefix.length,
                seconds: u32::try_from(duration.as_secs()).unwrap_or(u32::MAX),
                force: *force,
            };
            let answer = call(&socket(&state.state), &request)?;
            if json {
                println!("{answer}");
                return Ok(());
            }
            let done: Remediation = serde_json::from_value(answer)?;
            println!(
                "Denied {} until {} [{}].",
                done.target,
                text::time(done.expires_ns),
                done.uid
            );
            Ok(())
        }
        cli::Deny::Remove { uid, wrong, state } => {
            let request = Request::Remove { uid: uid.clone(), wrong: *wrong };
            let answer = call(&socket(&state.state), &request)?;
            if json {
                println!("{answer}");
            } else if *wrong {
                println!(
                    "{} is at {} from now on. Wrong entries in 90 days: {}, acceptable: {}.",
                    answer["workload"].as_str().unwrap_or("Its workload"),
                    answer["mode"].as_str().unwrap_or("monitor"),
                    answer["wrong"],
                    answer["budget"],
                );
            } else if answer["withdrawn"] == true {
                println!("Withdrew {uid}; it was not installed yet.");
            } else {
                println!("Lifted {uid}.");
            }
            Ok(())
        }
    }
}

/// What a daemon has live and what it holds.
#[derive(Debug, Default, Deserialize)]
struct Entries {
    live: Vec<Remediation>,
    held: Vec<Hold>,
}

fn entries(state: &Path) -> anyhow::Result<Entries> {
    Ok(serde_json::from_value(call(&socket(state), &Request::Entries)?)?)
}

/// Prints what is live and held; with the ledger, the decisions behind each.
fn list(entries: &Entries, lines: Option<&[Line]>, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::json!({ "live": entries.live, "held": entries.held }));
        return Ok(());
    }
    if entries.live.is_empty() && entries.held.is_empty() {
        eprintln!("Nothing is refused.");
    }
    for entry in &entries.live {
        println!(
            "{} {} {} until {}, {} hits",
            entry.uid,
            entry.mode,
            entry.target,
            text::time(entry.expires_ns),
            entry.hits
        );
        story(lines, &entry.uid);
    }
    for hold in &entries.held {
        let until = text::time(hold.until_ns);
        println!("{} held {} until {until}, then {}", hold.uid, hold.target, hold.ceiling);
        story(lines, &hold.uid);
    }
    Ok(())
}

fn story(lines: Option<&[Line]>, uid: &str) {
    for line in lines.map_or_else(Vec::new, |lines| why::of_entry(lines, uid)) {
        println!("  {line}");
    }
}

/// The ledger explains, whether a daemon answers or not.
fn explain(all: bool, state: &Path, json: bool) -> anyhow::Result<()> {
    let lines = why::read(state)?;
    if json {
        for line in &lines {
            println!("{}", serde_json::to_string(line)?);
        }
        return Ok(());
    }
    let entries = match entries(state) {
        Ok(entries) => {
            list(&entries, Some(&lines), false)?;
            entries
        }
        Err(why) if lines.is_empty() => return Err(why),
        Err(_) => {
            eprintln!("No daemon answers; what the kernel still refuses expires by itself.");
            Entries::default()
        }
    };
    let live = entries.live.iter().map(|entry| &*entry.uid);
    let live: Vec<&str> = live.chain(entries.held.iter().map(|hold| &*hold.uid)).collect();
    let (others, whole) = why::others(&lines, &live, all);
    if others.len() < whole {
        println!("Other decisions, the newest {} of {whole} (--all shows all):", others.len());
    } else if whole > 0 {
        println!("Other decisions:");
    }
    for line in others {
        println!("  {line}");
    }
    Ok(())
}

pub fn allow(prefix: Prefix, state: &Path, json: bool) -> anyhow::Result<()> {
    let request = Request::Allow { address: prefix.address, prefix_length: prefix.length };
    let answer = call(&socket(state), &request)?;
    if json {
        println!("{answer}");
    } else {
        println!("{} is never refused from now on.", answer["allowed"].as_str().unwrap_or("It"));
    }
    Ok(())
}

pub fn mode(
    mode: Option<ModeArgument>,
    workload: Option<String>,
    state: &Path,
    json: bool,
) -> anyhow::Result<()> {
    let request = match mode {
        Some(mode) => Request::SetMode { mode: mode.into(), workload },
        None => Request::Modes,
    };
    let answer = call(&socket(state), &request)?;
    if json {
        println!("{answer}");
    } else {
        modes(&serde_json::from_value(answer)?);
    }
    Ok(())
}

/// How far the responder may go, and what is missing.
#[derive(Debug, Deserialize)]
pub struct Modes {
    mode: Mode,
    armed: bool,
    enforce_provisional: bool,
    halted: Option<String>,
    tripped: Vec<String>,
    workloads: Vec<WorkloadMode>,
}

#[derive(Debug, Deserialize)]
struct WorkloadMode {
    workload: String,
    mode: Mode,
    own: bool,
    in_force: Mode,
    missing: Vec<String>,
}

/// Workloads that are listed; the others are counted.
const WORKLOADS_SHOWN: usize = 20;

/// Prints the default mode, then the workloads for which there is more to say.
pub fn modes(modes: &Modes) {
    println!("{}", modes.mode);
    if !modes.armed {
        println!("  disarmed: nothing is refused until a mode is set");
    }
    if modes.enforce_provisional {
        println!("  --enforce-provisional: enforce waits for nothing, as a demonstration");
    }
    if let Some(halted) = &modes.halted {
        println!("  {halted}");
    }
    for workload in &modes.tripped {
        println!("  {workload}: its breaker has tripped; new automatic entries wait for a mode");
    }
    let mut told: Vec<&WorkloadMode> =
        modes.workloads.iter().filter(|one| one.own || one.mode != one.in_force).collect();
    told.sort_by_key(|one| !one.own);
    for one in told.iter().take(WORKLOADS_SHOWN) {
        if one.mode == one.in_force {
            println!("  {}: {}", one.workload, one.mode);
        } else {
            let missing = one.missing.join(", ");
            println!("  {}: {}, held at {}: {missing}", one.workload, one.mode, one.in_force);
        }
    }
    if told.len() > WORKLOADS_SHOWN {
        println!("  and {} more (--json shows all)", told.len() - WORKLOADS_SHOWN);
    }
}

/// Works on the pinned word itself, so that it needs no daemon. With `remove` what is pinned goes,
/// too; a daemon that runs does that itself when it stops.
pub fn disarm(remove: bool, state: &Path, json: bool) -> anyhow::Result<()> {
    if remove && UnixStream::connect(socket(state)).is_ok() {
        return Err(Failure::Usage(format!(
            "a daemon runs on {}; stop it with Ctrl-C or SIGTERM, which detaches everything, or kill \
             it first; `hedgerow disarm` alone works beside it",
            socket(state).display()
        ))
        .into());
    }
    let pins = host::pins(state);
    let pinned = match hedgerow_responder::disarm(&pins, &state.join(LEDGER)) {
        Ok(()) => true,
        Err(hedgerow_responder::Error::NotPinned { .. }) => false,
        // Half a set can't be disarmed, but it can be taken away.
        Err(_) if remove => true,
        Err(why) => return Err(Failure::host(why).into()),
    };
    let there = pins.exists();
    if remove {
        hedgerow_responder::remove_pins(&pins).map_err(Failure::host)?;
    }
    if json {
        let removed = remove && there;
        let told = serde_json::json!({ "disarmed": true, "pinned": pinned, "removed": removed });
        println!("{told}");
    } else if remove && there {
        println!("Disarmed, and took away what was pinned at {}.", pins.display());
    } else if pinned {
        println!("Disarmed: nothing is refused until `hedgerow mode`.");
    } else {
        println!(
            "Nothing is pinned at {}: nothing is refused, nor will the next daemon refuse anything \
             until `hedgerow mode`.",
            pins.display()
        );
    }
    Ok(())
}
