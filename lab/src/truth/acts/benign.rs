//! What administrators do now and then, and no learning has seen.

use std::time::Duration;

use anyhow::Context;

use super::{Act, Run, Stage};
use crate::{
    Maintenance, Started,
    lab::User,
    load::{APP_PORT, PHP_PORT, Postgres, ssh},
    network::Site,
    process::run,
    truth::marks::Class,
};

macro_rules! rare {
    ($($kind:literal, $load:literal, $run:expr;)+) => {
        &[$(Act { kind: $kind, class: Class::Rare, load: $load, units: &[], run: Run::Do($run) }),+]
    };
}

pub(super) const RARE: &[Act] = rare! {
    "admin-looks-around", "login", |s| {
        let mut shell = s.lab.command(Site::Clients, "clients", &User::ROOT, "/bin/sh")?;
        shell.arg("-c").arg(format!("{} \": {}; {LOOK}\" >/dev/null 2>&1; true", ssh(s.lab), s.token()));
        Ok(run(shell).map(drop)?)
    };
    "admin-at-console", "host", |s| session(s, LOOK);
    "daily-job", "host", daily;
    "vacuum-full", "postgres", |s| maintain(s, Maintenance::VacuumFull);
    "nginx-reload", "nginx", |s| session(s, &format!("kill -HUP $(cat {})", s.path("nginx/nginx.pid")));
    "create-index", "postgres", |s| maintain(s, Maintenance::CreateIndex);
    "package-upgrade", "host", |s| session(s, &package(s));
    "dump", "postgres", |s| maintain(s, Maintenance::Dump);
    "log-rotation", "nginx", |s| session(s, &format!(
        "cd {}; for f in access.log error.log; do mv $f $f.1; done; kill -USR1 $(cat nginx.pid); sleep 0.3; \
         gzip -f access.log.1", s.path("nginx")
    ));
    "restart", "postgres", |s| maintain(s, Maintenance::Restart);
    "deploy", "nginx", |s| session(s, &format!(
        "cd {site}; cp index.php index.php.old; sed 's/<hr>/<br>/' index.php.old > index.php.new; \
         mv index.php.new index.php; touch style.css; kill -USR2 $(pgrep -o -f {conf})",
        site = s.path("site"), conf = s.path("php-fpm.conf")
    ));
    "restore", "postgres", |s| {
        Postgres::sql(s.lab, "DROP TABLE IF EXISTS copy; CREATE TABLE copy AS SELECT * FROM pgbench_accounts")?;
        Ok(())
    };
    "new-client", "app", |s| client(s, APP_PORT, "greet?name=new", 5);
    "ten-times-the-load", "nginx", |s| client(s, PHP_PORT, "index.php", 150);
    "backup-of-site", "host", |s| session(s, &format!(
        "tar -czf {out} -C {dir} site app-files; ls -l {out}; rm {out}",
        out = s.path("site.tgz"), dir = s.lab.directory().display()
    ));
};

/// What an administrator types who looks for a fault.
const LOOK: &str = "id; w; uptime; ps aux; df -h; free; ls -la /etc /var/log; cat /etc/hostname; ss -tan; \
                    ip addr; find /etc -name '*.conf' | head -50; last | head; top -bn1 | head";

/// What runs once a day; it is learned where the learning time is as long.
pub(super) fn daily(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut job = stage.lab.command(Site::Service, "cron", &User::ROOT, "/bin/sh")?;
    job.arg("-c").arg(format!(
        ": {}; cd {}; find site -type f -mtime -7 > changed; tar -czf daily.tgz site app-files; \
         sha256sum daily.tgz > daily.sum; gzip -c nginx/access.log > access.gz; rm -f daily.tgz access.gz",
        stage.token(),
        stage.lab.directory().display()
    ));
    run(job)?;
    Ok(())
}

/// An administrator's shell.
fn session(stage: &Stage<'_>, script: &str) -> anyhow::Result<()> {
    let mut shell = stage.lab.command(Site::Service, "session", &User::ROOT, "/bin/bash")?;
    shell.arg("-c").arg(format!(": {}; {{ {script}; }} > /dev/null 2>&1; true", stage.token()));
    run(shell)?;
    std::thread::sleep(Duration::from_secs(1));
    Ok(())
}

fn maintain(stage: &Stage<'_>, job: Maintenance) -> anyhow::Result<()> {
    let postgres = stage.loads.iter().find_map(|(_, started)| match started {
        Started::Postgres(postgres) => Some(postgres),
        Started::Processes(_) => None,
    });
    Ok(postgres.context("no PostgreSQL runs")?.maintain(stage.lab, job)?)
}

/// A package of one program, made, installed into a root of its own, upgraded, and run.
fn package(stage: &Stage<'_>) -> String {
    let (dir, root) = (stage.path("package"), stage.path("package-root"));
    format!(
        "mkdir -p {dir}/usr/bin {dir}/DEBIAN {root}/var/lib/dpkg; touch {root}/var/lib/dpkg/status; \
         cp /usr/bin/uptime {dir}/usr/bin/lab-tool; printf 'Package: lab-tool\\nVersion: {version}\\n\
         Architecture: all\\nMaintainer: lab\\nDescription: tool\\n' > {dir}/DEBIAN/control; \
         dpkg-deb -b {dir} {dir}.deb; dpkg --root={root} --force-not-root --force-all -i {dir}.deb; \
         {root}/usr/bin/lab-tool",
        version = stage.number
    )
}

/// Requests from an address that was never there before, or very many.
fn client(stage: &Stage<'_>, port: u16, page: &str, count: u32) -> anyhow::Result<()> {
    let mut shell = stage.lab.command(Site::Clients, "clients", &User::ROOT, "/bin/sh")?;
    let address = format!("10.77.2.{}", 20 + stage.number % 200);
    shell.arg("-c").arg(format!(
        ": {token}; ip addr add {address}/24 dev eth0 2>/dev/null; i=0; while [ $i -lt {count} ]; do \
         i=$((i + 10)); for j in 1 2 3 4 5 6 7 8 9 10; do curl -s -o /dev/null --interface {address} \
         http://{host}:{port}/{page} & done; wait; done",
        token = stage.token(),
        host = Site::Service.ipv4()
    ));
    run(shell)?;
    Ok(())
}
