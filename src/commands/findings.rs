//! `hedgerow findings`: what was found, from the daemon's log, and an operator's word on it.

use std::{
    fs::File,
    io::{ErrorKind::PermissionDenied, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::Path,
    time::Duration,
};

use hedgerow_detect::power::Hidden;
use hedgerow_event::{Activity, Finding, calls::Tables};

use super::log;
use crate::{
    cli, config,
    control::{Ask, GetStatus, Judge, Judged, Word, call, socket},
    daemon::Orders,
    exit::Failure,
    findings, host, names, records, text,
};

/// The log is looked at this often by `--follow`.
const LOOK: Duration = Duration::from_millis(500);
/// Findings that a dry run looks back on, and those that it names.
const WEEK_NS: i64 = 7 * 86_400 * 1_000_000_000;
const NAMED: usize = 16;

pub fn run(command: &cli::Findings, json: bool) -> anyhow::Result<()> {
    match command {
        cli::Findings::List { all, since, workload, follow, state } => {
            let state = config::state(state)?;
            let since_ns = since.map(|since| {
                let ns = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
                hedgerow_responder::now().wall_ns.saturating_sub(ns)
            });
            let chosen = Chosen { all: *all, since_ns, workload: workload.clone() };
            list(&state, &chosen, *follow, json)
        }
        cli::Findings::Show { uid, explain, record, state } => {
            show(&config::state(state)?, uid, *explain, *record, json)
        }
        cli::Findings::Ack { uid, attack, state } => {
            let word = if *attack { Word::Attack } else { Word::Ack };
            judge(&config::state(state)?, uid, word, json)
        }
        cli::Findings::Mute { uid, duration, state } => {
            let word = Word::Mute { seconds: duration.as_secs() };
            judge(&config::state(state)?, uid, word, json)
        }
        cli::Findings::Accept { uid, dry_run: true, state } => {
            hides(&config::state(state)?, uid, json)
        }
        cli::Findings::Accept { uid, dry_run: false, state } => {
            judge(&config::state(state)?, uid, Word::Accept, json)
        }
    }
}

/// Which findings are listed.
struct Chosen {
    all: bool,
    since_ns: Option<i64>,
    workload: Option<String>,
}

impl Chosen {
    fn holds(&self, finding: &Finding) -> bool {
        let workload = finding.subject.workload.as_str();
        (finding.is_first_alert() || (self.all && finding.activity == Activity::Create))
            && self.since_ns.is_none_or(|since_ns| finding.time_ns >= since_ns)
            && self.workload.as_deref().is_none_or(|own| own == workload)
    }
}

fn list(state: &Path, chosen: &Chosen, follow: bool, json: bool) -> anyhow::Result<()> {
    if follow && std::fs::read_dir(state).is_err_and(|why| why.kind() == PermissionDenied) {
        let why = format!("--follow reads {} itself, which only root may", state.display());
        return Err(Failure::Host(why).into());
    }
    log::is_there(state)?;
    // What is written between the two is read twice rather than not at all.
    let mut tail = Tail::at_end(state)?;
    let all = log::findings(state)?;
    if let Some(workload) = &chosen.workload {
        let known = all.iter().map(|finding| finding.subject.workload.as_str());
        names::known("workload with findings", workload, known).map_err(Failure::Usage)?;
    }
    let orders = Orders::load(state).unwrap_or_default();
    let mut told = std::collections::BTreeSet::new();
    for finding in all.iter().filter(|finding| chosen.holds(finding)) {
        told.insert(finding.report_uid());
        tell(finding, &orders, json)?;
    }
    if told.is_empty() && !json {
        text::note("Nothing was found.");
    }
    if !follow {
        return Ok(());
    }
    let signals = host::signals()?;
    loop {
        for finding in tail.read()?.iter().filter(|finding| chosen.holds(finding)) {
            if told.insert(finding.report_uid()) {
                tell(finding, &orders, json)?;
            }
        }
        if signals.recv_timeout(LOOK).is_ok() {
            return Ok(());
        }
    }
}

fn tell(finding: &Finding, orders: &Orders, json: bool) -> anyhow::Result<()> {
    if json {
        return text::json(finding);
    }
    let muted = orders.muted_until(finding).map(|ns| format!(" (muted until {})", text::time(ns)));
    let seen = match (muted, orders.seen.get(&finding.uid)) {
        (Some(muted), _) => muted,
        (None, Some(ack)) if ack.attack => " (an attack)".to_owned(),
        (None, Some(_)) => " (seen)".to_owned(),
        (None, None) => String::new(),
    };
    text::say(&format!(
        "{} {} {} {:.3} {}: {}{seen}",
        finding.uid,
        text::time(finding.time_ns),
        finding.state,
        finding.score,
        finding.subject,
        finding.reason
    ));
    Ok(())
}

/// The end of the log, which is renamed away when it is full.
pub(super) struct Tail {
    path: std::path::PathBuf,
    file: Option<File>,
    rest: Vec<u8>,
}

impl Tail {
    pub(super) fn at_end(state: &Path) -> anyhow::Result<Self> {
        let path = findings::path(state);
        let mut file = File::open(&path).ok();
        if let Some(file) = &mut file {
            file.seek(SeekFrom::End(0))?;
        }
        Ok(Self { path, file, rest: Vec::new() })
    }

    /// What came since; nothing where there is no log yet.
    pub(super) fn read(&mut self) -> anyhow::Result<Vec<Finding>> {
        let key = |file: &File| file.metadata().map(|file| (file.dev(), file.ino()));
        let newest = File::open(&self.path).ok();
        let (ours, named) = (self.file.as_ref().map(key), newest.as_ref().map(key));
        let (ours, named) = (ours.transpose()?, named.transpose()?);
        let mut found = Vec::new();
        self.drain(&mut found)?;
        // Who was renamed away is written no more, and has been read to its end.
        if named.is_some() && named != ours {
            self.file = newest;
            self.rest.clear();
            self.drain(&mut found)?;
        }
        Ok(found)
    }

    fn drain(&mut self, found: &mut Vec<Finding>) -> anyhow::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        while file.by_ref().take(findings::LINE_BYTES_MAX).read_to_end(&mut self.rest)? > 0 {
            if let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') {
                let lines: Vec<u8> = self.rest.drain(..=end).collect();
                let lines = lines.split(|byte| *byte == b'\n');
                found.extend(lines.flat_map(serde_json::from_slice::<Finding>));
            }
            if self.rest.len() as u64 > findings::LINE_BYTES_MAX {
                self.rest.clear();
            }
        }
        Ok(())
    }
}

/// Every report of the one finding whose uid begins so, oldest first.
pub fn of_uid(state: &Path, uid: &str) -> anyhow::Result<Vec<Finding>> {
    log::is_there(state)?;
    let mut all = log::findings(state)?;
    let whole = names::begun("a finding", uid, all.iter().map(|finding| &*finding.uid));
    let whole = whole.map_err(Failure::Usage)?.to_owned();
    all.retain(|finding| finding.uid == whole);
    Ok(all)
}

fn show(state: &Path, uid: &str, explain: bool, record: bool, json: bool) -> anyhow::Result<()> {
    let all = of_uid(state, uid)?;
    for finding in &all {
        if json {
            text::json(finding)?;
            continue;
        }
        text::out(&text::finding(finding));
        if explain {
            text::explained(finding).iter().for_each(|line| text::say(line));
        }
    }
    if let Some(finding) = all.first().filter(|_| record) {
        let (events, offset_ns) = records::read(state, &finding.uid)?;
        let table = Tables::new();
        for event in &events {
            let line = records::told(event, offset_ns, &table);
            match json {
                true => text::json(&serde_json::json!({ "record": line }))?,
                false => text::say(&format!("  {line}")),
            }
        }
    }
    Ok(())
}

/// Says what accepting a finding would hide.
fn hides(state: &Path, uid: &str, json: bool) -> anyhow::Result<()> {
    let judging = super::power::Judging::of_daemon(state)?;
    let Some(finding) = of_uid(state, uid)?.pop() else {
        return Err(Failure::Usage(format!("no finding's uid begins with `{uid}`")).into());
    };
    let since_ns = hedgerow_responder::now().wall_ns.saturating_sub(WEEK_NS);
    let mut past = log::findings(state)?;
    past.retain(|one| one.time_ns >= since_ns && one.is_first_alert());
    let hidden = Hidden::by(&finding, &past, &judging.saved, &judging.settings)?;
    if json {
        return text::json(&hidden);
    }
    text::say(&format!("Accepting {} would hide:", finding.uid));
    text::say(&format!(
        "  {} of the last week",
        text::counted(hidden.findings.len(), "finding", "findings")
    ));
    for one in past.iter().filter(|one| hidden.findings.contains(&one.uid)).take(NAMED) {
        text::say(&format!("    {} {}: {}", one.uid, text::time(one.time_ns), one.reason));
    }
    text::say(&format!(
        "  {} from now on",
        text::counted(hidden.deeds.len(), "kind of deed", "kinds of deed")
    ));
    for one in &hidden.deeds {
        let how = if one.how.is_empty() { String::new() } else { format!(" ({})", one.how) };
        let words = one.deed.row().words;
        text::say(&format!("    {} in {}: {words}{how}", one.program, one.workload));
    }
    for one in &hidden.programs {
        let file = one.digest.map_or("its file as its next start tells".to_owned(), |digest| {
            format!("the file with SHA-256 {digest}")
        });
        text::say(&format!("  of {} only, and only of {file}", one.subject));
    }
    Ok(())
}

/// The newest report says most of what was found.
fn judge(state: &Path, uid: &str, word: Word, json: bool) -> anyhow::Result<()> {
    let socket = socket(state);
    // Without a daemon nothing is worth looking up.
    call(&socket, &GetStatus {})?;
    let Some(finding) = of_uid(state, uid)?.pop() else {
        return Err(Failure::Usage(format!("no finding's uid begins with `{uid}`")).into());
    };
    let asked = Judge { finding: Box::new(finding), word };
    let judged: <Judge as Ask>::Answer = call(&socket, &asked)?;
    if json {
        return text::json(&judged);
    }
    text::say(&told(&judged));
    Ok(())
}

/// What came of a word.
fn told(Judged { uid, word, taken_out, .. }: &Judged) -> String {
    match word {
        Word::Ack => format!("{uid} was seen."),
        Word::Attack if *taken_out == 0 => format!(
            "{uid} was an attack. Nothing of it was held back: what is told from now on stays as it is."
        ),
        Word::Attack => format!(
            "{uid} was an attack: its deeds are no longer held back ({taken_out} process trees), and the \
             next such deed is told as if they had never been."
        ),
        Word::Mute { seconds } => format!(
            "What is like {uid} is not told for {}; it is judged and denied as before.",
            text::seconds(*seconds)
        ),
        Word::Accept => format!(
            "Accepted {uid}: it is learned, of this workload and file, and no longer reported."
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;

    #[test]
    fn an_attack_of_which_nothing_was_held_back_promises_nothing() {
        let (uid, objects) = ("abc".to_owned(), Vec::new());
        let mut judged = Judged { uid, word: Word::Attack, objects, taken_out: 0 };
        assert!(told(&judged).contains("Nothing of it was held back"));
        judged.taken_out = 2;
        assert!(told(&judged).contains("2 process trees"));
    }

    #[test]
    fn what_is_written_later_is_followed_line_by_line_and_over_a_rotation() {
        let directory = tempfile::tempdir().unwrap();
        let path = findings::path(directory.path());
        let mut tail = Tail::at_end(directory.path()).unwrap();
        assert!(tail.read().unwrap().is_empty(), "no log yet");
        let line = |time| {
            let finding = crate::daemon::example_finding("w", &"r".repeat(100), time);
            (finding.uid.clone(), serde_json::to_string(&finding).unwrap() + "\n")
        };
        let ((one, first), (two, second), (three, third)) = (line(1), line(2), line(3));
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(format!("{first}{}", &second[..20]).as_bytes()).unwrap();
        let uids = |found: Vec<Finding>| -> Vec<String> {
            found.into_iter().map(|finding| finding.uid).collect()
        };
        assert_eq!(uids(tail.read().unwrap()), [&*one], "half a line waits for its end");
        file.write_all(&second.as_bytes()[20..]).unwrap();
        assert_eq!(uids(tail.read().unwrap()), [&*two]);
        file.write_all(third.as_bytes()).unwrap();
        std::fs::rename(&path, path.with_extension("jsonl.1")).unwrap();
        std::fs::write(&path, first.repeat(9)).unwrap();
        let found = uids(tail.read().unwrap());
        assert_eq!((&*found[0], found.len()), (&*three, 10), "{found:?}");
        assert!(found[1..].iter().all(|uid| *uid == one));
        assert!(tail.read().unwrap().is_empty());
        let chosen = |workload: &str, since_ns| Chosen {
            all: false,
            since_ns,
            workload: Some(workload.to_owned()),
        };
        let finding = serde_json::from_str::<Finding>(&first).unwrap();
        assert!(chosen("w", None).holds(&finding) && chosen("w", Some(1)).holds(&finding));
        assert!(!chosen("w", Some(2)).holds(&finding) && !chosen("v", None).holds(&finding));
    }
}
