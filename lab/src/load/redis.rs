//! Redis and clients that get and set.

use super::START_LIMIT;
use crate::{
    error::Result,
    lab::{Lab, User},
    network::Site,
    process::{Running, listens, wait_until},
};

pub const REDIS_PORT: u16 = 6379;

pub(super) fn start(lab: &Lab) -> Result<Vec<Running>> {
    let user = User::named("www-data")?;
    let directory = lab.subdirectory("redis", &user)?;
    let mut command = lab.command(Site::Service, "redis", &user, "/usr/bin/redis-server")?;
    let port = REDIS_PORT.to_string();
    command.args(["--port", &port, "--protected-mode", "no", "--save", "15 1", "--dir"]);
    command.arg(&directory).current_dir(&directory);
    let server = Running::start(command, &lab.directory().join("redis.log"))?;
    if !wait_until(START_LIMIT, || listens(&server, REDIS_PORT)) {
        return Err(server.not_ready("redis", START_LIMIT));
    }
    let script = format!(
        "i=0; while :; do i=$(((i + 1) % 50)); redis-cli -h {host} set key$i $i >/dev/null; \
         redis-cli -h {host} get key$i >/dev/null; redis-cli -h {host} lpush list$i a b >/dev/null; \
         sleep 0.4; done",
        host = Site::Service.ipv4()
    );
    let mut command = lab.command(Site::Clients, "clients", &User::ROOT, "/bin/sh")?;
    command.args(["-c", &script]);
    Ok(vec![Running::start(command, &lab.directory().join("redis-clients.log"))?, server])
}
