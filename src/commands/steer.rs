//! `hedgerow deny`, `allow`, `mode`, `maintenance`, `disarm` and `arm`: an operator's word to the
//! responder.

use std::{collections::BTreeMap, os::unix::net::UnixStream, path::Path, time::Duration};

use hedgerow_responder::By;

use crate::{
    cli::{self, AllowCommand, ModeArgument},
    config,
    control::{
        Allow, Allowances, Arm, Denied, Deny, Entries, GetAllowed, GetEntries, GetModes, Maintain,
        Modes, Remove, Removed, SetMode, Which, WorkloadMode, call, login_uid, socket,
    },
    exit::Failure,
    host::{self, LEDGER},
    names, text,
};

use super::why;

pub fn deny(command: &cli::Deny, json: bool) -> anyhow::Result<()> {
    match command {
        cli::Deny::List { state } => {
            let entries = call(&socket(&config::state(state)?), &GetEntries {})?;
            if json { text::json(&entries) } else { list(&entries) }
        }
        cli::Deny::Add(add) => deny_add(add, json),
        cli::Deny::Remove { uid, workload, wrong, state, .. } => {
            let state = config::state(state)?;
            let which = match (uid, workload) {
                (Some(uid), _) if *wrong => Which::Uid(why::whole_uid(&state, uid)?),
                (Some(uid), _) => Which::Uid(uid.clone()),
                (None, Some(workload)) => Which::Workload(workload.clone()),
                (None, None) => Which::All,
            };
            let removed = call(&socket(&state), &Remove { which, wrong: *wrong })?;
            if json { text::json(&removed) } else { tell_removed(&removed) }
        }
    }
}

fn deny_add(add: &cli::DenyAdd, json: bool) -> anyhow::Result<()> {
    let asked = Deny {
        peer: add.peer,
        program: add.program.clone(),
        workload: add.workload.clone(),
        user: add.user.clone(),
        pod: add.pod.clone(),
        selector: add.selector.clone(),
        namespace: add.namespace.clone(),
        network: add.network,
        seconds: u32::try_from(add.duration.as_secs()).unwrap_or(u32::MAX),
        reason: add.reason.clone(),
        force: add.force,
        dry_run: add.dry_run,
    };
    let denied = call(&socket(&config::state(&add.state)?), &asked)?;
    if json {
        return text::json(&denied);
    }
    let Denied { entries, targets, pods, used_by, used_by_more } = &denied;
    if !pods.is_empty() {
        text::say(&format!("Pods that are meant, as they run now: {}.", pods.join(", ")));
    }
    for target in targets.iter().filter(|_| add.dry_run) {
        text::say(&format!(
            "Would deny {target} for {}; nothing was changed.",
            text::seconds(add.duration.as_secs())
        ));
    }
    for done in entries {
        let until = text::time(done.expires_ns);
        text::say(&format!("Denied {} until {until} [{}].", done.target, done.uid));
    }
    if !used_by.is_empty() {
        let used: Vec<&str> = used_by.iter().map(|workload| workload.as_str()).collect();
        let more = if *used_by_more { " and more" } else { "" };
        let used = used.join(", ");
        text::say(&format!("Workloads that used it since the daemon began: {used}{more}."));
    }
    Ok(())
}

fn tell_removed(removed: &Removed) -> anyhow::Result<()> {
    for lifted in &removed.lifted {
        let hits = text::counted(lifted.hits, "hit", "hits");
        let whom = text::whom(&lifted.target, lifted.subject.as_deref());
        text::say(&format!("Lifted {whom} after {hits} [{}].", lifted.uid));
    }
    for uid in &removed.withdrawn {
        text::say(&format!("Withdrew {uid}; it was not installed yet."));
    }
    for wrong in &removed.wrong {
        text::say(&format!(
            "{} is at {} from now on. Wrong entries in 90 days: {}, acceptable: {}.",
            wrong.workload, wrong.mode, wrong.counted, wrong.budget
        ));
    }
    if removed == &Removed::default() {
        text::note("There was nothing to lift.");
    }
    Ok(())
}

/// Prints what is live and held.
fn list(entries: &Entries) -> anyhow::Result<()> {
    if entries.live.is_empty() && entries.held.is_empty() {
        text::note("Nothing is refused.");
    } else if entries.armed == Some(false) {
        text::note("Disarmed: nothing of this is refused until `hedgerow arm`.");
    }
    for entry in &entries.live {
        text::say(&format!(
            "{} {} {} until {}, {}: {}",
            entry.uid,
            entry.mode,
            text::whom(&entry.target, entry.subject.as_deref()),
            text::time(entry.expires_ns),
            text::counted(entry.hits, "hit", "hits"),
            entry.reason
        ));
    }
    for hold in &entries.held {
        let until = text::time(hold.until_ns);
        let (uid, target, ceiling) = (&hold.uid, &hold.target, hold.ceiling);
        text::say(&format!("{uid} held {target} until {until}, then {ceiling}: {}", hold.reason));
    }
    Ok(())
}

pub fn allow(command: &AllowCommand, json: bool) -> anyhow::Result<()> {
    let (answer, said) = match command {
        AllowCommand::Add { peer, duration, workload, state } => {
            let seconds = duration.map(|duration| duration.as_secs());
            let (peer, workload) = (*peer, workload.clone());
            let said = format!("{peer} is not refused from now on.");
            let asked = Allow { peer, workload, seconds, allowed: true };
            (call(&socket(&config::state(state)?), &asked)?, said)
        }
        AllowCommand::List { state } => {
            (call(&socket(&config::state(state)?), &GetAllowed {})?, String::new())
        }
        AllowCommand::Remove { peer, workload, state } => {
            let (peer, workload) = (*peer, workload.clone());
            let said = format!("{peer} is not allowed any more.");
            let asked = Allow { peer, workload, seconds: None, allowed: false };
            (call(&socket(&config::state(state)?), &asked)?, said)
        }
    };
    if json {
        return text::json(&answer);
    }
    let Allowances { allowed } = &answer;
    if !said.is_empty() {
        text::say(&said);
        return Ok(());
    }
    if allowed.is_empty() {
        text::note("Nothing is allowed by an operator.");
    }
    for one in allowed {
        let whom = one.workload.as_ref().map_or("all", |workload| workload.as_str());
        let until = one.until_ns.map_or_else(|| "removed".to_owned(), text::time);
        text::say(&format!("{} to {whom} until {until}", one.peer));
    }
    Ok(())
}

pub fn mode(
    mode: Option<ModeArgument>,
    workload: Option<String>,
    state: &Path,
    json: bool,
) -> anyhow::Result<()> {
    let socket = socket(state);
    let modes = match (mode, &workload) {
        (Some(mode), _) => call(&socket, &SetMode { mode: mode.into(), workload })?,
        (None, None) => call(&socket, &GetModes {})?,
        (None, Some(workload)) => {
            let mut modes = call(&socket, &GetModes {})?;
            let known = modes.workloads.iter().map(|one| one.workload.as_str());
            names::known("workload", workload, known).map_err(Failure::Usage)?;
            modes.workloads.retain(|one| one.workload.as_str() == workload);
            modes
        }
    };
    match json {
        true => text::json(&modes)?,
        false => print_modes("", &modes),
    }
    Ok(())
}

/// Workloads that are listed; the others are counted.
const WORKLOADS_SHOWN: usize = 20;

pub fn print_modes(before: &str, modes: &Modes) {
    mode_lines(before, modes).iter().for_each(|line| text::say(line));
}

/// The default mode, then the workloads for which there is more to say, and what is missing before
/// others can be enforced.
fn mode_lines(before: &str, modes: &Modes) -> Vec<String> {
    let mut lines = vec![format!("{before}{}", modes.mode)];
    if !modes.armed {
        lines.push("  disarmed: nothing is refused until `hedgerow arm`".to_owned());
    }
    if modes.enforce_provisional {
        lines.push(
            "  --enforce-provisional: enforce waits for nothing, as a demonstration".to_owned(),
        );
    }
    lines.extend(modes.halted.iter().map(|halted| format!("  {halted}")));
    lines.extend(modes.tripped.iter().map(|workload| {
        format!("  {workload}: its breaker has tripped; new wide entries wait for a mode")
    }));
    let mut told: Vec<&WorkloadMode> =
        modes.workloads.iter().filter(|one| one.is_ordered()).collect();
    told.sort_by_key(|one| !one.own);
    lines.extend(told.iter().take(WORKLOADS_SHOWN).map(|one| {
        if one.mode == one.in_force {
            return format!("  {}: {}", one.workload, one.mode);
        }
        let missing = one.missing.join(", ");
        format!("  {}: {}, held at {}: {missing}", one.workload, one.mode, one.in_force)
    }));
    if told.len() > WORKLOADS_SHOWN {
        lines.push(format!("  and {} more (--json shows all)", told.len() - WORKLOADS_SHOWN));
    }
    lines.extend(not_yet(modes));
    lines
}

/// Workloads that are named with a reason, and reasons.
const NAMED: usize = 4;
const REASONS: usize = 4;

/// Why workloads can't be enforced yet, those with the same reason together; those that an order waits
/// for are told with it.
fn not_yet(modes: &Modes) -> Vec<String> {
    if modes.enforce_provisional {
        return Vec::new();
    }
    let mut reasons: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for one in modes.workloads.iter().filter(|one| !one.missing.is_empty() && !one.is_ordered()) {
        reasons.entry(one.missing.join(", ")).or_default().push(one.workload.as_str());
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, workloads)| std::cmp::Reverse(workloads.len()));
    let mut lines: Vec<String> = reasons
        .iter()
        .take(REASONS)
        .map(|(why, workloads)| {
            let named: Vec<&str> = workloads.iter().copied().take(NAMED).collect();
            let more = workloads.len() - named.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("can't be enforced yet: {}{more}: {why}", named.join(", "))
        })
        .collect();
    if reasons.len() > REASONS {
        let rest: usize = reasons[REASONS..].iter().map(|(_, workloads)| workloads.len()).sum();
        lines.push(format!("can't be enforced yet: {rest} more for other reasons (--json)"));
    }
    lines
}

/// `None` ends it.
pub fn maintenance(
    duration: Option<Duration>,
    workload: Option<String>,
    state: &Path,
    json: bool,
) -> anyhow::Result<()> {
    let whose = workload.clone().unwrap_or_else(|| "The host".to_owned());
    let asked = Maintain { workload, seconds: duration.map(|duration| duration.as_secs()) };
    let answer = call(&socket(state), &asked)?;
    if json {
        return text::json(&answer);
    }
    text::say(&match duration {
        Some(duration) => format!(
            "{whose} is in maintenance for {}: no automatic denial, no learning; what is found is \
             told as always.",
            text::seconds(duration.as_secs())
        ),
        None => format!("{whose} is in maintenance no longer."),
    });
    Ok(())
}

pub fn arm(state: &Path, json: bool) -> anyhow::Result<()> {
    let answer = call(&socket(state), &Arm {})?;
    if json {
        return text::json(&answer);
    }
    text::say("Armed: entries act again, as their workloads' modes say.");
    Ok(())
}

/// Works on the pinned word itself, so that it needs no daemon. With `remove` what is pinned goes,
/// too: what a daemon that was not stopped by hand has left there.
pub fn disarm(remove: bool, state: &Path, json: bool) -> anyhow::Result<()> {
    // SAFETY: it only reads.
    let uid = unsafe { libc::geteuid() };
    if uid != 0 {
        // What is pinned can't even be seen by others: to them it would look as if nothing were.
        let why = "not allowed: only root disarms; `hedgerow status` says what is armed";
        return Err(Failure::Host(why.to_owned()).into());
    }
    if remove && UnixStream::connect(socket(state)).is_ok() {
        return Err(Failure::Usage(format!(
            "a daemon runs on {}; stop it first (systemctl stop hedgerow, or Ctrl-C where it has a \
             terminal), or kill it; `hedgerow disarm` alone works beside it",
            socket(state).display()
        ))
        .into());
    }
    let pins = host::pins(state);
    let pid = std::process::id();
    let by = By { uid, pid, login_uid: login_uid(pid) };
    let pinned = match hedgerow_responder::disarm(&pins, &state.join(LEDGER), by) {
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
        return text::json(&told);
    }
    text::say(&if remove && there {
        format!("Disarmed, and took away what was pinned at {}.", pins.display())
    } else if pinned {
        "Disarmed: nothing is refused until `hedgerow arm`.".to_owned()
    } else {
        format!(
            "Nothing is pinned at {}: the daemon with this state directory refuses nothing, nor will \
             it until `hedgerow arm`.",
            pins.display()
        )
    });
    for other in host::other_pins(&pins).iter().filter(|_| !pinned) {
        text::note(&format!(
            "hedgerow: {} is pinned by a daemon with another state directory, and was left as it is",
            other.display()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hedgerow_event::{Mode, Workload};

    use super::*;

    #[test]
    fn workloads_that_lack_the_same_are_told_together_and_ordered_ones_with_their_order() {
        let workload = |name: &str, mode: Mode, missing: &[&str]| WorkloadMode {
            workload: Workload::new(name),
            mode,
            own: mode != Mode::Observe,
            in_force: mode.min(Mode::Monitor),
            missing: missing.iter().map(|why| (*why).to_owned()).collect(),
            days: 0,
            hours: 0,
        };
        let young = ["its profile is learning, not mature", "0 of 7 days watched"];
        let mut workloads: Vec<WorkloadMode> = (0..6)
            .map(|number| workload(&format!("w{number}.service"), Mode::Observe, &young))
            .collect();
        workloads.push(workload("old.service", Mode::Observe, &young[1..]));
        workloads.push(workload("ready.service", Mode::Observe, &[]));
        workloads.push(workload("asked.service", Mode::Enforce, &young));
        let modes = Modes {
            mode: Mode::Observe,
            armed: true,
            enforce_provisional: false,
            halted: None,
            tripped: Vec::new(),
            workloads,
        };
        let said = not_yet(&modes);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("w0.service") && said[0].contains("and 2 more: its profile"));
        assert!(said[1].contains("old.service: 0 of 7 days"), "{said:?}");
        assert!(!said.concat().contains("asked") && !said.concat().contains("ready"));
        let all = mode_lines("mode: ", &modes);
        assert_eq!(all[0], "mode: observe");
        assert!(
            all[1].starts_with("  asked.service: enforce, held at monitor: its profile"),
            "{all:?}"
        );
        assert_eq!(all[2..], said, "before anything is ordered, too");
    }
}
