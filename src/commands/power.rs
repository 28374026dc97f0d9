//! `hedgerow power`: what would be missed. Worked out here, by the rule itself on the model that the
//! daemon has just saved, so that its loop goes on; for root only, as whoever knows the answers knows
//! how to stay unseen.

use std::{
    io::{IsTerminal, stderr},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use hedgerow_detect::{
    Engine, SavedModel, Schedule, Settings,
    power::{Amount, AmountPower, DeedPower, Miss, Power, Span, WorkloadPower},
};
use hedgerow_event::Workload;
use hedgerow_features::Sensors;

use crate::{
    control::{GetModel, ModelNow, call, socket},
    exit::Failure,
    names, text,
};

/// Misses of one kind of deed that are named; `--json` has more.
const NAMED: usize = 3;
/// Kinds that are named as what would be told together with another.
const WITH: usize = 4;
/// So long the daemon's model may take to its file, and so often it is asked for.
const WRITTEN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(200);

/// A model as it judges now, and when that is.
pub struct Judging {
    pub saved: SavedModel,
    pub settings: Settings,
    /// Time since boot; unknown of a model alone.
    pub now_boot_ns: Option<u64>,
}

impl Judging {
    /// What the running daemon judges by.
    pub fn of_daemon(state: &Path) -> anyhow::Result<Self> {
        let now = written(state)?;
        let saved = SavedModel::load(&now.path).map_err(Failure::file)?;
        let settings = settings(now.budget_per_day, saved.seed());
        Ok(Self { saved, settings, now_boot_ns: Some(now.now_boot_ns) })
    }

    fn of_file(path: &Path) -> anyhow::Result<Self> {
        let saved = SavedModel::load(path).map_err(Failure::file)?;
        let settings = settings(saved.budget_per_day(), saved.seed());
        Ok(Self { saved, settings, now_boot_ns: None })
    }
}

/// Waits for the disk here, as the daemon doesn't.
fn written(state: &Path) -> anyhow::Result<ModelNow> {
    let until = Instant::now() + WRITTEN;
    let mut told = false;
    loop {
        let now = call(&socket(state), &GetModel {})?;
        if now.written {
            return Ok(now);
        }
        let path = now.path.display();
        if Instant::now() >= until {
            anyhow::bail!("the daemon has not written {path} after {} s", WRITTEN.as_secs());
        }
        if !std::mem::replace(&mut told, true) && stderr().is_terminal() {
            text::note(&format!("The daemon is writing {path} ..."));
        }
        thread::sleep(POLL);
    }
}

/// What a host and its boot are called makes no difference to what is told.
fn settings(budget_per_day: f64, seed: u64) -> Settings {
    Settings {
        host_id: "".into(),
        boot_id: String::new(),
        schedule: Schedule::of(0),
        budget_per_day,
        seed,
        sensors: Sensors::default(),
        realtime_offset_ns: 0,
    }
}

pub fn run(
    model: Option<&Path>,
    workload: Option<&str>,
    state: &Path,
    json: bool,
) -> anyhow::Result<()> {
    let judging = match model {
        Some(path) => Judging::of_file(path)?,
        None => Judging::of_daemon(state)?,
    };
    let engine = Engine::scoring(judging.settings, judging.saved)?;
    if let Some(name) = workload {
        let known = engine.baseline().workloads().map(Workload::as_str);
        names::known("workload of the model", name, known).map_err(Failure::Usage)?;
    }
    let workload = workload.map(Workload::new);
    let power = engine.power(workload.as_ref(), judging.now_boot_ns);
    let power = power.ok_or_else(|| anyhow::anyhow!("nothing is judged yet"))?;
    if json {
        return text::json(&power);
    }
    lines(&power).iter().for_each(|line| text::say(line));
    Ok(())
}

fn lines(power: &Power) -> Vec<String> {
    let mut lines = vec![format!(
        "What model {} would tell now, within {} alerts a day. A miss names why, and what it would \
         be told with.",
        power.model_id, power.budget.asked_per_day
    )];
    power.workloads.iter().for_each(|one| lines.extend(of_workload(one)));
    if !power.host.is_empty() {
        lines.extend([String::new(), "the host as a whole".to_owned()]);
        lines.extend(of_deeds(&power.host));
    }
    lines
}

fn of_workload(power: &WorkloadPower) -> Vec<String> {
    let more = match power.programs_left_out {
        0 => String::new(),
        more => format!(" ({more} more found no room)"),
    };
    let mut lines = vec![
        String::new(),
        format!(
            "{} ({}), tried by {} programs{more} and one never seen",
            power.workload,
            power.state,
            power.programs.len()
        ),
    ];
    lines.extend(of_deeds(&power.deeds));
    lines.push(format!(
        "  {:<32}{:>12}{:>12}{:>12}",
        "least that is told", "in 5 s", "a minute", "an hour"
    ));
    for amount in Amount::ALL {
        lines.extend(of_amount(amount, &power.amounts));
    }
    lines.extend(why_listed(&power.amounts));
    lines
}

/// What the brackets around amounts mean, where there are any.
fn why_listed(amounts: &[AmountPower]) -> Option<String> {
    let listed = amounts.iter().filter(|one| one.listed.is_some());
    let missing = listed.map(|one| one.hours_missing).reduce(f64::max)?;
    Some(match missing {
        0.0 => "  (in brackets: listed only, since this hour's notification is spent)".to_owned(),
        hours => format!(
            "  (in brackets: listed only, until the program is known for {hours:.0} h more; one never \
             seen is known from its first window on)"
        ),
    })
}

/// Kinds that are told on one line, then each of the others with its misses.
fn of_deeds(deeds: &[DeedPower]) -> Vec<String> {
    let told: Vec<&str> =
        deeds.iter().filter(|one| one.alerts).map(|one| one.deed.row().words).collect();
    let mut lines = Vec::new();
    if !told.is_empty() {
        lines.push(format!("  told, whoever does it: {}", told.join("; ")));
    }
    for one in deeds.iter().filter(|one| !one.alerts) {
        lines.push(format!(
            "  {}: {} of {} ways missed",
            one.deed.row().words,
            one.missed,
            one.tried
        ));
        lines.extend(misses(one));
    }
    lines
}

/// The first misses, those of one reason on a line.
fn misses(power: &DeedPower) -> Vec<String> {
    let mut lines: Vec<String> = power.misses.iter().take(NAMED).map(miss).collect();
    if power.missed > NAMED {
        lines.push(format!("    and {} more (--json)", power.missed - NAMED));
    }
    lines
}

fn miss(miss: &Miss) -> String {
    let how = if miss.how.is_empty() { String::new() } else { format!(" ({})", miss.how) };
    let nats = match miss.nats {
        0.0 => String::new(),
        nats => format!(" ({nats:.1} nats, told from {:.1})", miss.floor),
    };
    let with: Vec<&str> = miss.with.iter().take(WITH).map(|deed| deed.row().words).collect();
    let with = match with.len() {
        0 => String::new(),
        _ if miss.with.len() > WITH => {
            format!("; told together with {} or {} others", with.join(", "), miss.with.len() - WITH)
        }
        _ => format!("; told together with {}", with.join(" or ")),
    };
    format!("    {}{how}: {}{nats}{with}", miss.program, miss.why.words())
}

/// One line: the least of each span, by the program that can do most.
fn of_amount(amount: Amount, all: &[AmountPower]) -> Option<String> {
    let of = |span| all.iter().find(|one| one.amount == amount && one.span == span);
    let shown = |number: u64| match amount.is_bytes() {
        true => format!("{}B", text::count(number as f64)),
        false => text::count(number as f64),
    };
    let told = |one: &AmountPower| match (one.least, one.listed) {
        (Some(least), _) => shown(least),
        (None, Some(listed)) => format!("({})", shown(listed)),
        (None, None) if one.unmeasured => "unmeasured".to_owned(),
        (None, None) => "never".to_owned(),
    };
    let cells: Vec<String> =
        Span::ALL.into_iter().filter_map(of).map(|one| format!("{:>12}", told(one))).collect();
    let hardest = of(Span::Hour)?;
    Some(format!("    {:<30}{}  ({})", amount.words(), cells.concat(), hardest.program))
}
