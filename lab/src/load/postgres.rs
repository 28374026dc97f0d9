//! A private PostgreSQL cluster, pgbench from the clients, and a database administrator's jobs.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    error::{At, Error, Result},
    lab::{Lab, User},
    network::Site,
    process::{Running, run, wait_until},
};

/// Workload unit of the server.
pub const UNIT: &str = "postgresql";

const START_LIMIT: Duration = Duration::from_secs(60);
/// Everything that a server does now and then comes round within a minute of learning.
const SETTINGS: &str = "\
listen_addresses = '*'
unix_socket_directories = '@SOCKETS@'
shared_buffers = 32MB
max_connections = 40
autovacuum_naptime = 10s
checkpoint_timeout = 30s
bgwriter_delay = 200ms
jit = off
max_parallel_workers_per_gather = 0
logging_collector = off
";
const ACCESS: &str = "\
local all all trust
host all all 10.77.0.0/16 trust
host all all fd00:77::/32 trust
";

/// A job that an administrator runs now and then, and that learning has not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Maintenance {
    Dump,
    VacuumFull,
    CreateIndex,
    Restart,
}

impl Maintenance {
    pub const ALL: [Self; 4] = [Self::Dump, Self::VacuumFull, Self::CreateIndex, Self::Restart];

    pub fn name(self) -> &'static str {
        match self {
            Self::Dump => "pg_dump",
            Self::VacuumFull => "VACUUM FULL",
            Self::CreateIndex => "CREATE INDEX",
            Self::Restart => "restart",
        }
    }
}

/// A running cluster of its own; dropping stops it.
#[derive(Debug)]
pub struct Postgres {
    binaries: PathBuf,
    data: PathBuf,
    log: PathBuf,
    user: User,
    clients: Option<Running>,
    /// `pg_ctl stop`, made ready while the lab was there to be asked.
    stop: Command,
}

impl Postgres {
    /// Makes and starts a cluster at the service's site, with pgbench's tables in it.
    pub fn start(lab: &Lab) -> Result<Self> {
        let user = User::named("postgres").map_err(|_| missing())?;
        let home = lab.subdirectory("postgresql", &user)?;
        let data = home.join("data");
        let binaries = newest_binaries()?;
        let mut stop = lab.command(Site::Service, UNIT, &user, &tool(&binaries, "pg_ctl"))?;
        stop.args(["stop", "-s", "-m", "immediate", "-D"]).arg(&data);
        let log = lab.directory().join("postgresql/server.log");
        let cluster = Self { binaries, data, log, user, clients: None, stop };
        let mut initdb = cluster.server_side(lab, "initdb")?;
        initdb.args(["-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"]);
        run({
            initdb.arg(&cluster.data);
            initdb
        })?;
        cluster.configure(&home)?;
        cluster.control(lab, "start")?;
        cluster.fill(lab)?;
        Ok(cluster)
    }

    fn configure(&self, sockets: &Path) -> Result<()> {
        let path = self.data.join("postgresql.conf");
        let mut text = fs::read_to_string(&path).at("read", &path)?;
        let _ = write!(text, "{}", SETTINGS.replace("@SOCKETS@", &sockets.display().to_string()));
        fs::write(&path, text).at("write", &path)?;
        let path = self.data.join("pg_hba.conf");
        fs::write(&path, ACCESS).at("write", path)
    }

    fn fill(&self, lab: &Lab) -> Result<()> {
        let mut pgbench = self.client_side(lab, "pgbench")?;
        pgbench.args(["-i", "-q", "-s", "2", "postgres"]);
        run(pgbench).map(drop)
    }

    /// Starts pgbench at the clients' site: two connections, 40 transactions a second, new
    /// connections every five seconds, and again after the server was away.
    pub fn start_clients(&mut self, lab: &Lab) -> Result<()> {
        let pgbench = tool(&self.binaries, "pgbench");
        let script = format!(
            "while :; do {pgbench} -n -c 2 -R 40 -T 5 -P 1 --random-seed=1 -h {} -U postgres \
             postgres; sleep 0.3; done",
            Site::Service.ipv4()
        );
        let mut command = lab.command(Site::Clients, "clients", &self.user, "/bin/sh")?;
        command.args(["-c", &script]);
        let clients = Running::start(command, &lab.directory().join("pgbench.log"))?;
        if !wait_until(START_LIMIT, || clients.output().contains("progress:")) {
            return Err(clients.not_ready("pgbench", START_LIMIT));
        }
        self.clients = Some(clients);
        Ok(())
    }

    /// How many seconds pgbench reported so far in which transactions were done, and the rate of
    /// the last one (transactions a second).
    pub fn served(&self) -> (usize, f64) {
        self.clients.as_ref().map_or((0, 0.0), |clients| served(&clients.output()))
    }

    /// Runs SQL as the superuser from the clients' site, over TCP.
    pub fn sql(lab: &Lab, statement: &str) -> Result<String> {
        let user = User::named("postgres").map_err(|_| missing())?;
        let psql = tool(&newest_binaries()?, "psql");
        let mut command = lab.command(Site::Clients, "clients", &user, &psql)?;
        let host = Site::Service.ipv4().to_string();
        command.args(["-X", "-q", "-h", &host, "-U", "postgres", "-c", statement, "postgres"]);
        run(command)
    }

    /// Does a maintenance job to its end, on the server as its own user.
    pub fn maintain(&self, lab: &Lab, job: Maintenance) -> Result<()> {
        let statement = match job {
            Maintenance::Dump => {
                let mut dump = self.server_side(lab, "pg_dump")?;
                dump.args(["-Fc", "-f"]).arg(self.sockets().join("dump"));
                dump.arg("-h").arg(self.sockets()).arg("postgres");
                return run(dump).map(drop);
            }
            Maintenance::Restart => return self.control(lab, "restart"),
            Maintenance::VacuumFull => "VACUUM FULL",
            Maintenance::CreateIndex => {
                "DROP INDEX IF EXISTS by_balance; CREATE INDEX by_balance ON pgbench_accounts \
                 (abalance)"
            }
        };
        let mut psql = self.server_side(lab, "psql")?;
        for statement in statement.split("; ") {
            psql.args(["-c", statement]);
        }
        psql.args(["-X", "-q", "-h"]).arg(self.sockets()).arg("postgres");
        run(psql).map(drop)
    }

    fn sockets(&self) -> &Path {
        self.data.parent().unwrap_or(&self.data)
    }

    fn control(&self, lab: &Lab, verb: &str) -> Result<()> {
        let mut pg_ctl = self.server_side(lab, "pg_ctl")?;
        pg_ctl.args([verb, "-s", "-w", "-t", "60", "-D"]).arg(&self.data).arg("-l").arg(&self.log);
        if verb == "restart" {
            pg_ctl.args(["-m", "fast"]);
        }
        run(pg_ctl).map(drop)
    }

    fn server_side(&self, lab: &Lab, program: &str) -> Result<Command> {
        lab.command(Site::Service, UNIT, &self.user, &tool(&self.binaries, program))
    }

    fn client_side(&self, lab: &Lab, program: &str) -> Result<Command> {
        let program = tool(&self.binaries, program);
        let mut command = lab.command(Site::Clients, "clients", &self.user, &program)?;
        command.args(["-h", &Site::Service.ipv4().to_string(), "-U", "postgres"]);
        Ok(command)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.clients.take());
        // The lab may be gone already, and the server with it.
        let _ = self.stop.output();
    }
}

fn tool(binaries: &Path, name: &str) -> String {
    binaries.join(name).display().to_string()
}

fn missing() -> Error {
    Error::Missing("PostgreSQL (package postgresql)".into())
}

/// `/usr/lib/postgresql/N/bin` with the largest N.
fn newest_binaries() -> Result<PathBuf> {
    fs::read_dir("/usr/lib/postgresql")
        .map_err(|_| missing())?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let binaries = entry.path().join("bin");
            binaries.join("postgres").exists().then_some((version, binaries))
        })
        .max()
        .map(|(_, binaries)| binaries)
        .ok_or_else(missing)
}

/// Reads pgbench's progress lines, `progress: 3.0 s, 40.0 tps, lat ...`.
fn served(log: &str) -> (usize, f64) {
    let rates = log
        .lines()
        .filter_map(|line| line.strip_prefix("progress: ")?.split(", ").nth(1))
        .filter_map(|rate| rate.strip_suffix(" tps")?.parse::<f64>().ok());
    let (mut seconds, mut last) = (0, 0.0);
    for rate in rates {
        seconds += usize::from(rate > 0.0);
        last = rate;
    }
    (seconds, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_lines_are_counted_where_something_was_done() {
        let log = "pgbench (15.18)\nprogress: 1.0 s, 40.0 tps, lat 1.2 ms stddev 0.1\n\
                   progress: 2.0 s, 0.0 tps, lat 0 ms\nprogress: 3.0 s, 38.5 tps, lat 1.0 ms\n";
        assert_eq!(served(log), (2, 38.5));
        assert_eq!(served(""), (0, 0.0));
    }
}
