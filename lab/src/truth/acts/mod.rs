//! What is done in a recording beside plain life: attacks and rare benign acts, one row each.
//!
//! An attack is a payload and the ways in: text for a shell, or Python, that a service with a hole is
//! made to run. Its processes are found again by a word in their arguments, and where the service
//! itself acts, by its unit. Everything ends by itself within seconds.

mod attacks;
mod benign;
mod entry;

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use super::marks::{Class, Whose};
use crate::{
    Lab, Load, Started,
    error::{At, Result},
    lab::User,
    load::{repeat, write_tree},
    network::Site,
    process::{Running, wait_until},
};
pub use entry::Entry;

/// Where an act takes place.
#[derive(Debug)]
pub struct Stage<'a> {
    pub lab: &'a Lab,
    pub loads: &'a [(Load, Started)],
    /// Counts the acts of the recording.
    pub number: u32,
}

/// How an act is done.
#[derive(Debug, Clone, Copy)]
pub(super) enum Run {
    /// A shell that the service starts runs this.
    Shell(Entry, fn(&Stage<'_>) -> String),
    /// Anything else.
    Do(fn(&Stage<'_>) -> anyhow::Result<()>),
}

/// A kind of act through one way in.
#[derive(Debug, Clone)]
pub struct Act {
    pub kind: &'static str,
    pub class: Class,
    /// What it enters through.
    pub load: &'static str,
    /// Units of which every process counts as the act's.
    units: &'static [&'static str],
    run: Run,
}

/// No kind has more ways in than this.
pub(super) const WAYS_MAX: usize = 6;

/// In place of a unit: the kernel's own counters.
const KERNEL: &str = "(kernel)";

impl Act {
    /// How its processes are told from others.
    pub fn whose(&self, number: u32) -> Vec<Whose> {
        let units = self.units.iter().map(|unit| match *unit {
            KERNEL => Whose::Kernel,
            unit => Whose::Unit(unit.to_owned()),
        });
        units.chain([Whose::Token(token(number))]).collect()
    }

    pub fn perform(&self, stage: &Stage<'_>) -> anyhow::Result<()> {
        match self.run {
            Run::Shell(entry, script) => Ok(entry.shell(stage, &script(stage))?),
            Run::Do(act) => act(stage),
        }
    }
}

/// The word by which the processes of an act are found again.
pub(super) fn token(number: u32) -> String {
    format!("act{number:05}x")
}

impl Stage<'_> {
    pub(super) fn token(&self) -> String {
        token(self.number)
    }

    /// A path of this act's own in a directory of the lab.
    pub(super) fn path(&self, name: &str) -> String {
        self.lab.directory().join(name).display().to_string()
    }
}

/// The attacker's machine, there before the first attack.
pub(super) fn attacker(lab: &Lab) -> Result<Running> {
    let mut command = lab.command(Site::Attacker, "attacker", &User::ROOT, "/usr/bin/python3")?;
    command.args(["-c", include_str!("../../python/attacker.py")]);
    let attacker = Running::start(command, &lab.directory().join("attacker.log"))?;
    let limit = std::time::Duration::from_secs(20);
    if wait_until(limit, || attacker.output().contains("ready")) {
        return Ok(attacker);
    }
    Err(attacker.not_ready("the attacker", limit))
}

/// What acts find there: keys, a job that runs every few seconds, files to rewrite.
pub(super) fn prepare(lab: &Lab) -> Result<Running> {
    let user = User::named("www-data")?;
    let keys = lab.subdirectory("home/.ssh", &User::ROOT)?;
    let key = keys.join("id_rsa");
    fs::write(&key, "-----BEGIN OPENSSH PRIVATE KEY-----\n").at("write", &key)?;
    let many = lab.directory().join("many");
    write_tree(&many, 400, Some(&user))?;
    (0..4).try_for_each(|folder| open_to_all(&many.join(format!("folder0{folder}"))))?;
    let job = lab.subdirectory("job", &User::ROOT)?.join("job.sh");
    fs::write(&job, "#!/bin/sh\ndate > now\ndf . > space\nls -l > list\n").at("write", &job)?;
    open_to_all(&job)?;
    repeat(lab, "job", &format!("while :; do {}; sleep 3; done", job.display()))
}

/// The job that runs once a day, while lives learn.
pub(super) fn daily(stage: &Stage<'_>) -> anyhow::Result<()> {
    benign::daily(stage)
}

fn open_to_all(path: &Path) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).at("chmod", path)
}

/// One round of all acts: each kind once, slow ones (there are few) twice, through another way in
/// than before.
pub fn round(number: usize) -> Vec<Act> {
    let mut acts = Vec::new();
    let twice = [(attacks::SLOW, 2 * number), (attacks::SLOW, 2 * number + 1)];
    for (kinds, way) in
        twice.into_iter().chain([(attacks::SHELLS, number), (attacks::OTHERS, number)])
    {
        for kind in kinds {
            let entry = kind.entries[way % kind.entries.len()];
            acts.push(Act {
                kind: kind.name,
                class: kind.class,
                load: entry.name(),
                units: &[],
                run: Run::Shell(entry, kind.script),
            });
        }
    }
    for (place, act) in attacks::INSIDE.iter().chain(benign::RARE).enumerate() {
        // Spread among the others, so that a short recording has some of each.
        acts.insert((place * 2 + 1).min(acts.len()), act.clone());
    }
    acts
}
