//! A host that people log in to: a real sshd, and an administrator who looks in now and then.

use std::{fs, path::PathBuf};

use super::START_LIMIT;
use crate::{
    error::{At, Result},
    lab::{Lab, User},
    network::Site,
    process::{Running, listens, run, wait_until},
};

pub(crate) const SSH_PORT: u16 = 2222;

/// What the administrator does at each visit.
const VISIT: &str = "uptime; df -h; tail -n 3 /var/log/dpkg.log; ls -l /var/log";

pub(super) fn start(lab: &Lab) -> Result<Vec<Running>> {
    let directory = lab.subdirectory("login", &User::ROOT)?;
    for name in ["host", "user"] {
        let mut make =
            lab.command(Site::Attacker, "attacker", &User::ROOT, "/usr/bin/ssh-keygen")?;
        make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(directory.join(name));
        run(make)?;
    }
    // Where sshd's unprivileged part has its root.
    fs::create_dir_all("/run/sshd").at("create", "/run/sshd")?;
    let config = directory.join("sshd_config");
    let text = format!(
        "Port {SSH_PORT}\nHostKey {host}\nAuthorizedKeysFile {keys}\nStrictModes no\nUsePAM yes\n\
         PasswordAuthentication no\nPermitRootLogin prohibit-password\nPidFile none\nPrintMotd no\n",
        host = directory.join("host").display(),
        keys = directory.join("user.pub").display()
    );
    fs::write(&config, text).at("write", &config)?;
    // In no unit: what a login is, is told by the kernel's login uid.
    let mut command = lab.command_outside_units(Site::Service, "login", "/usr/sbin/sshd")?;
    command.args(["-D", "-e", "-f"]).arg(&config);
    let server = Running::start(command, &lab.directory().join("sshd.log"))?;
    if !wait_until(START_LIMIT, || listens(&server, SSH_PORT)) {
        return Err(server.not_ready("sshd", START_LIMIT));
    }
    let mut command = lab.command(Site::Clients, "clients", &User::ROOT, "/bin/sh")?;
    command.arg("-c").arg(format!("while :; do {} '{VISIT}'; sleep 5; done", client(lab)));
    Ok(vec![Running::start(command, &lab.directory().join("login-clients.log"))?, server])
}

/// The command line of a client that may log in.
pub(crate) fn client(lab: &Lab) -> String {
    let key: PathBuf = lab.directory().join("login/user");
    format!(
        "ssh -n -F none -i {} -p {SSH_PORT} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
         -o LogLevel=ERROR -o ConnectTimeout=20 root@{}",
        key.display(),
        Site::Service.ipv4()
    )
}
