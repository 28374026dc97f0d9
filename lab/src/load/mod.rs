//! Benign loads: steady, repeating within seconds, so that a minute or two of them can be learned.
//!
//! Each is a shell loop in cgroups and namespaces of the lab, so that what starts a client is part
//! of the load and not the program that uses this crate.

mod ci;
mod containers;
mod files;
mod jvm;
mod login;
mod postgres;
mod redis;
mod web_php;

use std::{fmt, str::FromStr, time::Duration};

pub(crate) use ci::commit;
pub(crate) use files::write_tree;
pub use jvm::JVM_PORT;
pub(crate) use login::client as ssh;
pub use postgres::{Maintenance, Postgres};
pub use redis::REDIS_PORT;
pub use web_php::PHP_PORT;

use crate::{
    error::{At, Result},
    lab::{Lab, User},
    network::Site,
    process::{Running, listens, wait_until},
};

/// Port of the static web server.
pub const WEB_PORT: u16 = 8080;
/// Port of the small service with a hole, [`Load::App`].
pub const APP_PORT: u16 = 8081;

const START_LIMIT: Duration = Duration::from_secs(60);

/// The kinds of normal life that a lab can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Load {
    /// `http.server` with `curl` clients over IPv4 and IPv6.
    Web,
    /// A small Python web service, through whose hole most attacks enter, with `curl` clients.
    App,
    /// gcc on generated C sources.
    Build,
    /// tar over a generated tree.
    Archive,
    /// `apt-get -s`.
    Apt,
    /// PostgreSQL with pgbench from the clients.
    Postgres,
    /// nginx and PHP with `curl` clients.
    Nginx,
    /// Redis with its own clients.
    Redis,
    /// A service on the Java virtual machine with `curl` clients.
    Jvm,
    /// Fresh checkouts, built and run.
    Ci,
    /// Containers of their own namespaces, started and ended.
    Containers,
    /// sshd, and an administrator who looks in.
    Login,
}

impl Load {
    pub const ALL: [Self; 12] = [
        Self::Web,
        Self::App,
        Self::Build,
        Self::Archive,
        Self::Apt,
        Self::Postgres,
        Self::Nginx,
        Self::Redis,
        Self::Jvm,
        Self::Ci,
        Self::Containers,
        Self::Login,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::App => "app",
            Self::Build => "build",
            Self::Archive => "archive",
            Self::Apt => "apt",
            Self::Postgres => "postgres",
            Self::Nginx => "nginx",
            Self::Redis => "redis",
            Self::Jvm => "jvm",
            Self::Ci => "ci",
            Self::Containers => "containers",
            Self::Login => "login",
        }
    }

    /// Starts the load; it runs until the handle is dropped, and is serving when this returns.
    pub fn start(self, lab: &Lab) -> Result<Started> {
        Ok(Started::Processes(match self {
            Self::Web => web(lab)?,
            Self::App => app(lab)?,
            Self::Build => vec![build(lab)?],
            Self::Archive => vec![archive(lab)?],
            Self::Apt => vec![repeat(lab, "apt", APT)?],
            Self::Postgres => {
                let mut postgres = Postgres::start(lab)?;
                postgres.start_clients(lab)?;
                return Ok(Started::Postgres(Box::new(postgres)));
            }
            Self::Nginx => web_php::start(lab)?,
            Self::Redis => redis::start(lab)?,
            Self::Jvm => jvm::start(lab)?,
            Self::Ci => vec![ci::start(lab)?],
            Self::Containers => vec![containers::start(lab)?],
            Self::Login => login::start(lab)?,
        }))
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Load {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|load| load.name() == text)
            .ok_or_else(|| format!("no load `{text}`; there are {}", names()))
    }
}

/// A load that runs; dropping stops it.
#[derive(Debug)]
pub enum Started {
    Processes(Vec<Running>),
    Postgres(Box<Postgres>),
}

const APT: &str = "while :; do apt-get -s upgrade >/dev/null 2>&1; sleep 3; done";
const TAR: &str = "while :; do tar -czf out.tgz tree; tar -tzf out.tgz >/dev/null; sleep 2; done";
const BUILD: &str = "while :; do for i in 0 1 2 3 4 5 6 7; do \
                     gcc -O1 -c part$i.c -o part$i.o; done; \
                     gcc part*.o -o program; ./program; sleep 2; done";

/// C files of the build.
const SOURCES: u32 = 8;

/// A shell loop at the service's site, in a unit and a directory of its own.
pub(crate) fn repeat(lab: &Lab, unit: &str, script: &str) -> Result<Running> {
    let directory = lab.subdirectory(unit, &User::ROOT)?;
    let mut command = lab.command(Site::Service, unit, &User::ROOT, "/bin/sh")?;
    command.args(["-c", script]).current_dir(directory);
    Running::start(command, &lab.directory().join(format!("{unit}.log")))
}

fn build(lab: &Lab) -> Result<Running> {
    files::write_sources(&lab.subdirectory("build", &User::ROOT)?, SOURCES)?;
    repeat(lab, "build", BUILD)
}

fn archive(lab: &Lab) -> Result<Running> {
    files::write_tree(&lab.subdirectory("archive", &User::ROOT)?.join("tree"), 400, None)?;
    repeat(lab, "archive", TAR)
}

/// curl clients that fetch `paths` in turn from `port`, over both IP versions.
fn curl_clients(lab: &Lab, name: &str, port: u16, paths: &str) -> Result<Running> {
    let (v4, v6) = (Site::Service.ipv4(), Site::Service.ipv6());
    let script = format!(
        "while :; do for p in {paths}; do \
         curl -s -o /dev/null http://{v4}:{port}/$p; sleep 0.15; \
         curl -s -o /dev/null http://[{v6}]:{port}/$p; sleep 0.15; done; done"
    );
    let mut command = lab.command(Site::Clients, "clients", &User::ROOT, "/bin/sh")?;
    command.args(["-c", &script]);
    Running::start(command, &lab.directory().join(format!("{name}-clients.log")))
}

fn serve(lab: &Lab, unit: &str, port: u16, arguments: &[&str]) -> Result<Running> {
    let user = User::named("www-data")?;
    let directory = lab.subdirectory(unit, &user)?;
    let mut command = lab.command(Site::Service, unit, &user, "/usr/bin/python3")?;
    command.args(arguments).current_dir(directory);
    let server = Running::start(command, &lab.directory().join(format!("{unit}.log")))?;
    if wait_until(START_LIMIT, || listens(&server, port)) {
        return Ok(server);
    }
    Err(server.not_ready(unit, START_LIMIT))
}

fn web(lab: &Lab) -> Result<Vec<Running>> {
    let directory = lab.subdirectory("web", &User::named("www-data")?)?;
    for (name, size) in [("small", 500), ("page", 20_000), ("image", 400_000)] {
        let path = directory.join(name);
        std::fs::write(&path, vec![b'x'; size]).at("write", path)?;
    }
    let port = WEB_PORT.to_string();
    let server = serve(lab, "web", WEB_PORT, &["-m", "http.server", &port, "--bind", "::"])?;
    Ok(vec![curl_clients(lab, "web", WEB_PORT, "small page image missing")?, server])
}

fn app(lab: &Lab) -> Result<Vec<Running>> {
    let user = User::named("www-data")?;
    files::write_tree(&tree(lab), 4_000, Some(&user))?;
    let program = lab.directory().join("app.py");
    std::fs::write(&program, include_str!("../python/app.py")).at("write", &program)?;
    let (program, port) = (program.display().to_string(), APP_PORT.to_string());
    let server = serve(lab, "app", APP_PORT, &[&program, &port])?;
    Ok(vec![curl_clients(lab, "app", APP_PORT, "greet?name=a greet?name=bc")?, server])
}

/// The files of [`Load::App`], which a mass rename is let loose on.
pub(crate) fn tree(lab: &Lab) -> std::path::PathBuf {
    lab.directory().join("app-files")
}
