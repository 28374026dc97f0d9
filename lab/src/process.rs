//! Processes of the lab that run beside us and end with their handle.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::error::{At, Error, Result};

/// A process that leads its own group, with its output in a log; dropping kills the group.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts `command` (made by [`crate::Lab::command`]) with its output in `log`.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log).at("create", log)?;
        let errors = output.try_clone().at("open", log)?;
        let spawned = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        let child = spawned.map_err(|source| start_error(&command, source))?;
        Ok(Self { child, log: log.to_owned() })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What the process wrote so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self, limit: Duration) -> Result<bool> {
        let waited = wait_until(limit, || matches!(self.child.try_wait(), Ok(Some(_))));
        let status = self.child.try_wait().ok().flatten();
        match status {
            Some(status) if waited => Ok(status.success()),
            _ => Err(self.not_ready("the process", limit)),
        }
    }

    pub(crate) fn not_ready(&self, what: &str, limit: Duration) -> Error {
        let detail = format!("; it said: {}", self.output().trim());
        Error::NotReady { what: what.to_owned(), seconds: limit.as_secs(), detail }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = self.child.id().cast_signed();
        // SAFETY: the child is not reaped before `wait` below (or is known to be, and then its
        // group can only be its own surviving children), so the id is not another group's.
        unsafe { libc::kill(-group, libc::SIGKILL) };
        let _ = self.child.wait();
    }
}

pub(crate) fn start_error(command: &Command, source: std::io::Error) -> Error {
    let program = command.get_program().to_string_lossy().into_owned();
    if source.kind() == std::io::ErrorKind::NotFound {
        return Error::Missing(program);
    }
    Error::System { what: format!("start {program}"), source }
}

/// Makes an executable file. A child writes it: what another thread forks meanwhile would hold it
/// open for writing, and nobody could start it.
///
/// # Errors
/// What the child says.
pub fn executable(path: &Path, content: &[u8]) -> Result<()> {
    let mut command = Command::new("sh");
    command.args(["-c", "cat > \"$0\" && chmod 755 \"$0\""]).arg(path).stdin(Stdio::piped());
    let mut child = command.spawn().map_err(|source| start_error(&command, source))?;
    let written = child.stdin.take().map_or(Ok(()), |mut input| input.write_all(content));
    let status = child.wait().at("wait for", path)?;
    written.at("write", path)?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Command { command: format!("{command:?}"), output: status.to_string() })
}

/// Runs `command` to its end; its output, or an error that holds it.
pub(crate) fn run(mut command: Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().map_err(|source| start_error(&command, source))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    let command = format!("{command:?}");
    Err(Error::Command { command, output: text.trim().to_owned() })
}

/// Polls `ready` until it holds or `limit` has passed; tells which.
pub(crate) fn wait_until(limit: Duration, mut ready: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if ready() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a TCP port is listened on in the network namespace of the lab process `inside`.
pub(crate) fn listens(inside: &Running, port: u16) -> bool {
    let local = format!(":{port:04X}");
    ["tcp", "tcp6"].iter().any(|table| {
        let text = fs::read_to_string(format!("/proc/{}/net/{table}", inside.id()));
        text.unwrap_or_default().lines().skip(1).any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let ours = fields.next().is_some_and(|address| address.ends_with(&local));
            // State 0A is LISTEN.
            ours && fields.nth(1) == Some("0A")
        })
    })
}
