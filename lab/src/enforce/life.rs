//! One life of the services under a daemon that may refuse.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use hedgerow_event::{Mode, Remediation, Target};
use serde::Serialize;

use super::{
    Learned, Plan, START_LIMIT, is_scoring,
    planted::{self, Client, Planted},
    services::{ENFORCED, Services, Work},
    told::{Entry, Told, boot_ns},
};
use crate::{Attack, Daemon, Error, Lab, Line, Load, Outcome, Via, now_ns};

/// What goes on by itself ends after this.
const ATTACK_LIMIT: Duration = Duration::from_secs(10);
/// Two windows: what was done has been judged.
const SETTLE_MIN: Duration = Duration::from_secs(6);
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// The planted client is denied within this, if at all.
const PLANTED_LIMIT: Duration = Duration::from_secs(30);

/// Attacks that need the network, with the unit that they are made in.
const ATTACKS: [(Attack, Via, &str); 10] = [
    (Attack::CopyShell, Via::Child, "postgresql"),
    (Attack::ReverseShell, Via::Child, "app"),
    (Attack::ReverseShell, Via::Thread, "app"),
    (Attack::DroppedShell, Via::Child, "app"),
    (Attack::MemoryShell, Via::Child, "app"),
    (Attack::NextAddress, Via::Child, "app"),
    (Attack::Exfiltrate, Via::Child, "app"),
    (Attack::ScanOut, Via::Child, "app"),
    (Attack::Flood, Via::Child, "app"),
    (Attack::ScanIn, Via::Child, "app"),
];

/// What an entry needs before it refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Gate {
    /// Nothing more than a profile, as in a demonstration.
    Provisional,
    /// A mature profile and every hour of a week, which was prepared.
    Real,
}

impl Gate {
    pub fn name(self) -> &'static str {
        match self {
            Self::Provisional => "--enforce-provisional",
            Self::Real => "the real gate",
        }
    }
}

/// What came of an attack.
#[derive(Debug, Clone, Serialize)]
pub struct Tried {
    pub attack: String,
    /// Nobody on the host did anything: there is nobody to deny.
    pub from_outside: bool,
    /// It led to an entry, reached the attacker, or needs no connection: else it came to nothing by
    /// itself, and shows nothing.
    pub made: bool,
    /// The highest mode of an entry that it led to.
    pub mode: Option<Mode>,
    /// From the first connection, or else from the beginning, to the decision.
    pub entry_ms: Option<f64>,
    /// It calls again once it was refused; what refused it at first: a peer, or already its network.
    pub comes_back: bool,
    pub first: Option<Target>,
    /// Bytes that the attacker had when the entry stood, and that came after.
    pub before: u64,
    pub after: u64,
}

impl Tried {
    /// Who would be refused for what came from outside is chosen by whoever forges its sources.
    pub fn is_forged_denial(&self) -> bool {
        self.from_outside && self.mode == Some(Mode::Enforce)
    }

    pub fn is_cut(&self) -> bool {
        self.mode == Some(Mode::Enforce) && self.after == 0
    }

    /// Not refused one peer and then the next: nothing is shown of its second.
    pub fn misses_its_next_peer(&self) -> bool {
        self.comes_back && !matches!(self.first, Some(Target::Peer { .. }))
    }
}

/// A life as it went.
#[derive(Debug, Clone, Serialize)]
pub struct Life {
    pub gate: Gate,
    pub minutes: f64,
    /// What administrators did.
    pub works: usize,
    /// Automatic entries where nobody attacked: that refused, and that only counted.
    pub wrong: Vec<String>,
    pub counted: Vec<String>,
    pub attacks: Vec<Tried>,
    pub planted: Planted,
    /// Workloads that may enforce, of those that were told to.
    pub enforcing: usize,
    pub ordered: usize,
    /// What was learned of the week that the real gate asks for.
    pub week: Option<Learned>,
}

/// The daemon, and the automatic entries that it told of.
struct Watched<'a> {
    plan: &'a Plan<'a>,
    daemon: Daemon,
    state: PathBuf,
    told: Told,
}

pub(super) fn live(
    plan: &Plan<'_>,
    lab: &Lab,
    services: &mut Services,
    state: &Path,
    week: Option<Learned>,
) -> anyhow::Result<Life> {
    let begun = Instant::now();
    let mut options = vec!["--state".to_owned(), state.display().to_string()];
    let gate = if week.is_some() { Gate::Real } else { Gate::Provisional };
    if gate == Gate::Provisional {
        options.push("--enforce-provisional".to_owned());
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let daemon = Daemon::start(plan.hedgerow, &options, &lab.directory().join("daemon.log"))?;
    daemon.wait_for("start of scoring", START_LIMIT, is_scoring)?;
    let mut watched = Watched { plan, daemon, state: state.to_owned(), told: Told::new(lab)? };
    for unit in ENFORCED {
        watched.order(&["mode", "enforce", "--workload", &Lab::workload(unit)])?;
    }
    let enforcing = watched.enforcing()?;
    let client = Client::start(lab)?;
    let mut planted = Planted { calls: client.called(), ..Planted::default() };
    watched.watch(PLANTED_LIMIT, || client.is_refused())?;
    let works = Work::all();
    let left = (plan.length * 2 / 3).saturating_sub(begun.elapsed());
    let left = left.saturating_sub(ATTACK_LIMIT * ATTACKS.len() as u32);
    let settle = left / (works.len() + ATTACKS.len()) as u32;
    let settle = settle.clamp(SETTLE_MIN, SETTLE_MAX);
    for (number, work) in works.iter().enumerate() {
        (plan.tell)(&format!("  {}", work.name()));
        let number = u32::try_from(number).unwrap_or(0);
        watched.during(|| services.work(lab, work, number).with_context(|| work.name()))?;
        watched.watch(settle, || false)?;
    }
    let (wrong, counted) = watched.wrong(&[]);
    let mut life = Life {
        gate,
        minutes: 0.0,
        works: works.len(),
        wrong,
        counted,
        attacks: Vec::new(),
        planted: Planted::default(),
        enforcing,
        ordered: ENFORCED.len(),
        week,
    };
    for (attack, via, unit) in ATTACKS {
        // Each by itself: what one tree does within five minutes is one case.
        let since_boot_ns = boot_ns();
        if unit == "app" {
            watched.during(|| services.work(lab, &Work::Restart(Load::App), 0))?;
        }
        life.attacks.push(watched.attack(lab, (attack, via, unit), since_boot_ns, settle)?);
    }
    // Elsewhere nobody attacked.
    let (wrong, counted) = watched.wrong(&["app", "postgresql"]);
    life.wrong.extend(wrong);
    life.counted.extend(counted);
    for list in [&mut life.wrong, &mut life.counted] {
        list.sort();
        list.dedup();
    }
    watched.free(&client, &mut planted)?;
    life.planted = planted;
    watched.daemon.interrupt()?;
    life.minutes = begun.elapsed().as_secs_f64() / 60.0;
    Ok(life)
}

impl Watched<'_> {
    fn order(&self, words: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(self.plan.hedgerow)
            .args(words)
            .arg("--state")
            .arg(&self.state)
            .output()
            .with_context(|| format!("run {}", self.plan.hedgerow.display()))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "hedgerow {}: {errors}", words.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Workloads of ours that nothing holds at monitor.
    fn enforcing(&self) -> anyhow::Result<usize> {
        let told: serde_json::Value = serde_json::from_str(&self.order(&["mode", "--json"])?)?;
        let ours = ENFORCED.map(Lab::workload);
        let all = told["workloads"].as_array().into_iter().flatten();
        let all = all.filter(|told| ours.iter().any(|unit| told["workload"] == unit.as_str()));
        Ok(all.filter(|told| told["in_force"] == "enforce").count())
    }

    /// Reads what the daemon says until `done` holds or `limit` has passed.
    fn watch(&mut self, limit: Duration, done: impl Fn() -> bool) -> anyhow::Result<()> {
        let until = Instant::now() + limit;
        while !done() && Instant::now() < until {
            let soon = until.min(Instant::now() + Duration::from_millis(50));
            self.told.look();
            if let Some(Line::Remediation(told)) = self.daemon.next(soon)?
                && self.told.remediation(&told)
            {
                (self.plan.tell)(&format!("    {} {}: {}", told.mode, told.target, told.reason));
            }
        }
        Ok(())
    }

    /// Reads it while something is done.
    fn during<T: Send>(
        &mut self,
        deed: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        thread::scope(|scope| {
            let deed = scope.spawn(deed);
            while !deed.is_finished() {
                self.watch(Duration::from_millis(100), || false)?;
            }
            deed.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Entries of units in which nobody attacked: those that refuse, and those that count.
    fn wrong(&self, attacked: &[&str]) -> (Vec<String>, Vec<String>) {
        let spared = ENFORCED.iter().filter(|unit| **unit != planted::UNIT);
        let spared = spared.filter(|unit| !attacked.contains(unit));
        // The last that was told of an entry.
        let last: BTreeMap<&str, &Remediation> = spared
            .flat_map(|unit| self.told.of(unit))
            .map(|entry| (entry.told.uid.as_str(), &entry.told))
            .collect();
        let say = |entry: &Remediation| {
            let subject = entry.subject.as_ref().map(|subject| subject.to_string());
            format!("{}: {}", subject.unwrap_or_default(), entry.reason)
        };
        let (wrong, counted): (Vec<_>, Vec<_>) =
            last.values().partition(|entry| entry.mode == Mode::Enforce);
        (wrong.into_iter().map(say).collect(), counted.into_iter().map(say).collect())
    }

    /// `since_boot_ns`: what ran before has no part in it.
    fn attack(
        &mut self,
        lab: &Lab,
        (attack, via, unit): (Attack, Via, &str),
        since_boot_ns: u64,
        settle: Duration,
    ) -> anyhow::Result<Tried> {
        let name = match via {
            Via::Child => attack.name().to_owned(),
            Via::Thread => format!("{attack} in a thread"),
        };
        (self.plan.tell)(&format!("  attack: {name}"));
        let earlier = self.told.entries.len();
        let started_ns = now_ns();
        let outcome = self.during(|| match attack.run(lab, via, ATTACK_LIMIT) {
            Ok(outcome) => Ok(outcome),
            // Who is refused everything may never come to an end of his own.
            Err(Error::NotReady { .. }) => {
                Ok(Outcome { started_ns, ended_ns: now_ns(), transcript: None })
            }
            Err(error) => Err(error).with_context(|| name.clone()),
        })?;
        self.watch(settle, || false)?;
        let workload = Lab::workload(unit);
        let transcript = outcome.transcript.as_ref();
        let begun = transcript.and_then(|transcript| transcript.accepted);
        let begun_ns = begun.map_or(outcome.started_ns, |(time_ns, ..)| time_ns);
        let (before, told) = self.told.entries.split_at(earlier);
        let of_it = |entry: &&Entry| entry.is_of(unit) && !entry.is_older(since_boot_ns, before);
        let told = told.iter().filter(of_it);
        let (at_first, led_to): (Vec<_>, Vec<_>) =
            told.partition(|entry| attack.comes_back() && entry.told.time_ns < begun_ns);
        let first = led_to.iter().max_by_key(|entry| (entry.told.mode, -entry.stood_ns));
        let stood_ns = first.map_or(i64::MAX, |entry| entry.stood_ns);
        let (before, after) =
            transcript.map_or((0, 0), |transcript| transcript.bytes_around(stood_ns));
        let connected = transcript.is_none_or(|transcript| transcript.accepted.is_some());
        let tried = Tried {
            attack: name,
            from_outside: attack.comes_from_outside(),
            made: first.is_some() || connected,
            mode: first.map(|entry| entry.told.mode),
            entry_ms: first.map(|entry| (entry.told.time_ns - begun_ns) as f64 / 1e6),
            comes_back: attack.comes_back(),
            first: at_first.first().map(|entry| entry.told.target.clone()),
            before,
            after,
        };
        // The next one meets no entry of this one.
        self.order(&["deny", "remove", "--workload", &workload])?;
        Ok(tried)
    }

    /// Takes the planted client's entry back as wrong.
    fn free(&mut self, client: &Client, planted: &mut Planted) -> anyhow::Result<()> {
        self.watch(Duration::from_secs(1), || false)?;
        let of_it = self.told.of(planted::UNIT);
        let told: Vec<&Remediation> = of_it.map(|entry| &entry.told).collect();
        let refuses = |entry: &&&Remediation| entry.mode == Mode::Enforce;
        let Some(uid) = told.iter().rfind(refuses).map(|entry| entry.uid.clone()) else {
            return Ok(());
        };
        let of_it: Vec<&Remediation> = told.into_iter().filter(|entry| entry.uid == uid).collect();
        planted.denied = client.is_refused();
        planted.hits = of_it.iter().map(|entry| entry.hits).max().unwrap_or(0);
        planted.expires_s = planted::lifetime_s(&of_it);
        self.order(&["deny", "remove", "--wrong", &uid])?;
        planted.freed_ms = client.freed().map(|time| time.as_secs_f64() * 1e3);
        self.watch(Duration::from_secs(10), || client.is_refused())?;
        planted.denied_again = client.is_refused();
        Ok(())
    }
}
