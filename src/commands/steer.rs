//! `hedgerow deny`, `allow`, `mode` and `disarm`: an operator's word to the responder.

use std::path::Path;

use hedgerow_event::Remediation;

use crate::{
    cli::{self, ModeArgument, Prefix},
    control::{Request, call, socket},
    exit::Failure,
    host, text,
};

pub fn deny(command: &cli::Deny, json: bool) -> anyhow::Result<()> {
    match command {
        cli::Deny::List { why, state } => list(*why, &state.state, json),
        cli::Deny::Add { prefix, duration, state } => {
            let request = Request::Deny {
                address: prefix.address,
                prefix_length: prefix.length,
                seconds: u32::try_from(duration.as_secs()).unwrap_or(u32::MAX),
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
        cli::Deny::Remove { uid, state } => {
            let answer = call(&socket(&state.state), &Request::Remove { uid: uid.clone() })?;
            if json {
                println!("{answer}");
            } else {
                println!("Lifted {uid}.");
            }
            Ok(())
        }
    }
}

fn list(why: bool, state: &Path, json: bool) -> anyhow::Result<()> {
    let answer = call(&socket(state), &Request::Entries)?;
    if json {
        println!("{answer}");
        return Ok(());
    }
    let entries: Vec<Remediation> = serde_json::from_value(answer)?;
    if entries.is_empty() {
        eprintln!("Nothing is refused.");
    }
    for entry in entries {
        println!(
            "{} {} {} until {}, {} hits",
            entry.uid,
            entry.mode,
            entry.target,
            text::time(entry.expires_ns),
            entry.hits
        );
        if why {
            let finding = entry.finding_uid.as_deref().unwrap_or("none");
            println!("  {:?}: {} (finding {finding})", entry.rule, entry.reason);
        }
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
        println!("{}", answer["mode"].as_str().unwrap_or("?"));
    }
    Ok(())
}

/// Works on the pinned word itself, so that it needs no daemon.
pub fn disarm(state: &Path, json: bool) -> anyhow::Result<()> {
    match hedgerow_responder::disarm(&host::pins(state)) {
        Ok(()) if json => println!("{}", serde_json::json!({ "disarmed": true })),
        Ok(()) => println!("Disarmed: nothing is refused until `hedgerow mode`."),
        Err(hedgerow_responder::Error::NotPinned { .. }) if json => {
            println!("{}", serde_json::json!({ "disarmed": true, "pinned": false }));
        }
        Err(hedgerow_responder::Error::NotPinned { path }) => {
            println!("Nothing to disarm: no deny program is pinned at {}.", path.display());
        }
        Err(why) => return Err(Failure::host(why).into()),
    }
    Ok(())
}
