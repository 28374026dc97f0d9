//! A service on the Java virtual machine, with the hole that such services have: `POST /run` gives
//! its body to a shell, `POST /leak` sends as many MiB as it says to a peer from inside.

use std::fs;

use super::{START_LIMIT, curl_clients};
use crate::{
    error::{At, Error, Result},
    lab::{Lab, User},
    network::Site,
    process::{Running, listens, run, wait_until},
};

pub const JVM_PORT: u16 = 8083;

pub(super) fn start(lab: &Lab) -> Result<Vec<Running>> {
    let user = User::named("www-data")?;
    let directory = lab.subdirectory("jvm", &User::ROOT)?;
    let source = directory.join("Service.java");
    fs::write(&source, include_str!("../service/Service.java")).at("write", &source)?;
    let javac = find("javac")?;
    let mut compiler = lab.command(Site::Service, "jvm-build", &User::ROOT, &javac)?;
    compiler.arg("-d").arg(&directory).arg(&source);
    run(compiler)?;
    let mut command = lab.command(Site::Service, "jvm", &user, &find("java")?)?;
    command.args(["-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]).arg(&directory);
    command.args(["Service", &JVM_PORT.to_string()]);
    let server = Running::start(command, &lab.directory().join("jvm.log"))?;
    if wait_until(START_LIMIT, || listens(&server, JVM_PORT)) {
        return Ok(vec![curl_clients(lab, "jvm", JVM_PORT, "work work?n=7")?, server]);
    }
    Err(server.not_ready("the JVM service", START_LIMIT))
}

/// The real path: the launcher looks for its libraries beside itself.
fn find(name: &str) -> Result<String> {
    let path = std::path::Path::new("/usr/bin").join(name);
    let missing = |_| Error::Missing(format!("{name} (package default-jdk-headless)"));
    Ok(path.canonicalize().map_err(missing)?.display().to_string())
}
