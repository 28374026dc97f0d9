//! A harmless client that looks like an intruder: a service's job fetches a tool that nobody has seen
//! into a place where anybody can write, and it calls a partner that nobody has called. It is denied
//! wrongly, and goes on trying.

use std::{
    fs,
    time::{Duration, Instant},
};

use hedgerow_event::Remediation;

use crate::{
    Lab, Running, Site, User,
    load::repeat,
    process::{run, wait_until},
};

/// Unit of the job.
pub(super) const UNIT: &str = "batch";
/// The partner's address, at the clients' site.
const PARTNER: &str = "10.77.2.77";
const PORT: &str = "8443";
const LIMIT: Duration = Duration::from_secs(20);
/// What runs all the time; a step that is put there is done once.
const JOB: &str =
    "while :; do date > now; if [ -f step ]; then mv step done; sh done & fi; sleep 1; done";
/// Tries once in 200 ms, for good.
const CLIENT: &str = "\
import socket, time
while True:
    try:
        socket.create_connection(('@PEER@', @PORT@), 2).close()
        said = 'ok'
    except OSError as error:
        said = f'errno {error.errno}'
    print(said, flush=True)
    time.sleep(.2)
";

/// What became of it.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Planted {
    /// It reached its partner at first.
    pub calls: bool,
    /// It was refused.
    pub denied: bool,
    /// Tries that were met while it stood.
    pub hits: u64,
    /// The last expiry that was told of its entry, from its first second.
    pub expires_s: Option<f64>,
    /// From the end of `hedgerow deny remove --wrong` to the first try that got through.
    pub freed_ms: Option<f64>,
    /// It was refused again within the seconds after.
    pub denied_again: bool,
}

pub(super) fn job(lab: &Lab) -> anyhow::Result<Running> {
    let job = repeat(lab, UNIT, JOB)?;
    let mut address = lab.command(Site::Clients, "clients", &User::ROOT, "/bin/sh")?;
    address.args(["-c", &format!("ip addr add {PARTNER}/24 dev eth0 2>/dev/null; true")]);
    run(address)?;
    Ok(job)
}

/// The client while it runs; dropping stops it.
pub(super) struct Client {
    _partner: Running,
    said: std::path::PathBuf,
    stop: std::path::PathBuf,
}

impl Client {
    pub fn start(lab: &Lab) -> anyhow::Result<Self> {
        let mut partner = lab.command(Site::Clients, "partner", &User::ROOT, "/usr/bin/python3")?;
        partner.args(["-m", "http.server", PORT, "--bind", PARTNER]);
        let partner = Running::start(partner, &lab.directory().join("partner.log"))?;
        let directory = lab.directory().join(UNIT);
        let (said, stop) = (directory.join("said"), directory.join("pid"));
        let tool = lab.dropped().join("agent");
        let code = directory.join("agent.py");
        fs::write(&code, CLIENT.replace("@PEER@", PARTNER).replace("@PORT@", PORT))?;
        fs::write(&said, "")?;
        // Attacks drop something there as another user.
        let step = format!(
            "mkdir -p {place}; chmod 1777 {place}; cp $(readlink -f /usr/bin/python3) {tool}; echo $$ > {pid}; \
             PYTHONHOME=/usr exec {tool} {code} > {said} 2>&1\n",
            place = lab.dropped().display(),
            tool = tool.display(),
            pid = stop.display(),
            code = code.display(),
            said = said.display(),
        );
        // It appears whole.
        let fresh = directory.join("step.new");
        fs::write(&fresh, step)?;
        fs::rename(&fresh, directory.join("step"))?;
        let client = Self { _partner: partner, said, stop };
        anyhow::ensure!(
            wait_until(LIMIT, || !client.said().is_empty()),
            "the planted client never tried"
        );
        Ok(client)
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }

    pub fn called(&self) -> bool {
        self.said().lines().any(|line| line == "ok")
    }

    /// What it said last, of whole lines.
    fn last_got_through(&self) -> bool {
        let said = self.said();
        said.rsplit_once('\n').and_then(|(lines, _)| lines.lines().last()) == Some("ok")
    }

    pub fn is_refused(&self) -> bool {
        !self.said().is_empty() && !self.last_got_through()
    }

    /// How long it takes from now on until it gets through.
    pub fn freed(&self) -> Option<Duration> {
        let begun = Instant::now();
        wait_until(LIMIT, || self.last_got_through()).then(|| begun.elapsed())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let pid = fs::read_to_string(&self.stop).ok().and_then(|text| text.trim().parse().ok());
        if let Some(pid) = pid.filter(|pid: &i32| *pid > 1) {
            // SAFETY: a plain system call; the number is of a process that this made.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
}

/// Seconds from an entry's first second to the last expiry that was told of it.
pub(super) fn lifetime_s(told: &[&Remediation]) -> Option<f64> {
    let first = told.iter().map(|entry| entry.time_ns).min()?;
    let last = told.iter().map(|entry| entry.expires_ns).max()?;
    Some((last - first) as f64 / 1e9)
}
