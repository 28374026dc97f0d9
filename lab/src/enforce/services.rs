//! The services, and what is done to them in the course of a life.

use std::{
    ops::Range,
    thread,
    time::{Duration, Instant},
};

use super::{planted, told::boot_ns};
use crate::{
    Lab, Load, Running, Site, Started, User,
    load::{Postgres, repeat},
    process::run,
    truth::{
        Class,
        acts::{self, Act, Stage},
    },
};

/// What serves, builds, archives and asks for packages.
const LOADS: [Load; 6] =
    [Load::Postgres, Load::Redis, Load::Nginx, Load::App, Load::Archive, Load::Apt];
/// Units in which an entry may refuse; clients, the attacker and this host are watched only.
pub(super) const ENFORCED: [&str; 9] =
    ["postgresql", "redis", "nginx", "php", "app", "archive", "apt", "cron", planted::UNIT];
/// Who has them do something, or makes copies all day.
const BUSY: [&str; 2] = ["clients", "archive"];
/// A job as cron has them.
const CRON: &str = "while :; do find .. -maxdepth 1 -name '*.log' > list; gzip -c list > list.gz; \
                    df . > space; sleep 10; done";

/// All that runs; dropping stops it.
pub(super) struct Services {
    loads: Vec<(Load, Started)>,
    _jobs: [Running; 2],
}

/// One thing that an administrator does.
pub(super) enum Work {
    Restart(Load),
    /// What a shell does in the service's own site.
    Session(&'static str, &'static str),
    /// What PostgreSQL is told.
    Sql(&'static str, &'static str),
    Rare(Act),
}

impl Services {
    pub fn start(lab: &Lab) -> anyhow::Result<Self> {
        let start = |load: Load| Ok((load, load.start(lab)?));
        let loads = LOADS.into_iter().map(start).collect::<anyhow::Result<_>>()?;
        let jobs = [repeat(lab, "cron", CRON)?, planted::job(lab)?];
        Ok(Self { loads, _jobs: jobs })
    }

    /// Lets a time pass in which the services have nothing to do for a part of each of its first three
    /// fifths, in which a daemon that learns fills its profiles, and of the rest. Tells when that was,
    /// since boot.
    pub fn rest(lab: &Lab, length: Duration) -> anyhow::Result<[Range<u64>; 2]> {
        let begun = Instant::now();
        let wait = |share: f64| {
            thread::sleep(length.mul_f64(share).saturating_sub(begun.elapsed()));
        };
        let rest = |from: f64, to: f64| -> anyhow::Result<Range<u64>> {
            wait(from);
            BUSY.iter().try_for_each(|unit| lab.freeze(unit, true))?;
            let start = boot_ns();
            wait(to);
            let end = boot_ns();
            BUSY.iter().try_for_each(|unit| lab.freeze(unit, false))?;
            Ok(start..end)
        };
        Ok([rest(0.3, 0.55)?, rest(0.75, 0.95)?])
    }

    /// Does it to its end.
    pub fn work(&mut self, lab: &Lab, work: &Work, number: u32) -> anyhow::Result<()> {
        match work {
            Work::Restart(load) => {
                if let Some((_, started)) = self.loads.iter_mut().find(|(other, _)| other == load) {
                    *started = Started::Processes(Vec::new());
                    *started = load.start(lab)?;
                }
                Ok(())
            }
            Work::Sql(_, statement) => {
                Postgres::sql(lab, statement)?;
                Ok(())
            }
            Work::Session(_, script) => {
                let mut shell = lab.command(Site::Service, "session", &User::ROOT, "/bin/bash")?;
                shell.args(["-c", script]);
                run(shell)?;
                Ok(())
            }
            Work::Rare(act) => act.perform(&Stage { lab, loads: &self.loads, number }),
        }
    }
}

impl Work {
    pub fn name(&self) -> String {
        match self {
            Self::Restart(load) => format!("restart of {load}"),
            Self::Session(name, _) | Self::Sql(name, _) => (*name).to_owned(),
            Self::Rare(act) => act.kind.to_owned(),
        }
    }

    /// Everything once: each service is restarted, reloaded and deployed to, packages are installed,
    /// a backup is made.
    pub fn all() -> Vec<Self> {
        let has =
            |act: &Act| act.load == "host" || LOADS.iter().any(|load| load.name() == act.load);
        let rare = acts::round(0).into_iter().filter(|act| act.class == Class::Rare && has(act));
        let restarts = [Load::Redis, Load::Nginx, Load::App].map(Self::Restart);
        let sessions = [
            ("redis-reload", "redis-cli config set maxmemory 64mb"),
            ("redis-deploy", "redis-cli eval 'return redis.call(\"dbsize\")' 0; redis-cli bgsave"),
        ];
        let sessions = sessions.map(|(name, script)| Self::Session(name, script));
        let reload = [Self::Sql("postgres-reload", "SELECT pg_reload_conf()")];
        rare.map(Self::Rare).chain(reload).chain(sessions).chain(restarts).collect()
    }
}
