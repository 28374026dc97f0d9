//! The daemon as tests and demonstrations see it: a child process and the JSON lines it prints.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use hedgerow_event::{Finding, Remediation};
use serde::Deserialize;

use crate::{
    cleanup::Guard,
    error::{At, Error, Result},
    process::start_error,
};

/// A clean stop lifts entries and detaches; past this a daemon that is dropped is killed.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// A stop that is waited for also writes what waits for the disk: on a busy machine for minutes.
const INTERRUPT_LIMIT: Duration = Duration::from_secs(240);

/// What `hedgerow run --json` prints, one a line.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    Finding(Box<Finding>),
    Remediation(Box<Remediation>),
    Status(serde_json::Value),
}

/// A running `hedgerow run --json`; dropping stops it as Ctrl-C would.
#[derive(Debug)]
pub struct Daemon {
    id: u32,
    /// Taken out by whoever ends it.
    child: Arc<Mutex<Option<Child>>>,
    lines: Receiver<Line>,
    log: PathBuf,
    _stop: Guard,
}

impl Daemon {
    /// Starts `program run --json` with `arguments`; what it says on standard error goes to `log`.
    /// A line on standard output that is none of [`Line`] ends up there too, marked.
    pub fn start(program: &Path, arguments: &[&str], log: &Path) -> Result<Self> {
        let mut errors = File::create(log).at("create", log)?;
        let mut command = Command::new(program);
        command.args(["run", "--json"]).args(arguments).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(errors.try_clone().at("open", log)?);
        // Whoever was started in the background ignores SIGINT, and so would the daemon.
        let heed = || {
            // SAFETY: sets a disposition, nothing else.
            unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
            Ok(())
        };
        // SAFETY: one system call, which allocates nothing.
        unsafe { command.pre_exec(heed) };
        let mut child = command.spawn().map_err(|source| start_error(&command, source))?;
        let id = child.id();
        let output = child.stdout.take();
        let child = Arc::new(Mutex::new(Some(child)));
        let stopped = Arc::clone(&child);
        let stop = Guard::new(move || {
            if let Some(mut child) = take(&stopped)
                && !interrupt(&mut child, libc::SIGINT, STOP_LIMIT)
                    .is_ok_and(|status| status.is_some())
            {
                eprintln!("lab: the daemon did not end within {STOP_LIMIT:?} of SIGINT: killed");
                kill(child);
            }
        });
        let (sender, lines) = mpsc::channel();
        let read = move || {
            for line in output.into_iter().flat_map(|o| BufReader::new(o).lines()) {
                let Ok(line) = line else { return };
                match serde_json::from_str(&line) {
                    Ok(line) => drop(sender.send(line)),
                    Err(error) => {
                        let _ = std::io::Write::write_fmt(
                            &mut errors,
                            format_args!("unreadable line ({error}): {line}\n"),
                        );
                    }
                }
            }
        };
        thread::spawn(read);
        Ok(Self { id, child, lines, log: log.to_owned(), _stop: stop })
    }

    pub fn id(&self) -> u32 {
        self.id
    }

    /// The next line, or `None` when `until` has passed. A daemon that ended is an error that
    /// holds what it said.
    pub fn next(&self, until: Instant) -> Result<Option<Line>> {
        match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(self.failed(String::new())),
        }
    }

    /// Reads what the daemon says until a line fits. None within `limit` is an error that names
    /// what was waited for.
    pub fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        fits: impl Fn(&Line) -> bool,
    ) -> Result<Line> {
        let until = Instant::now() + limit;
        loop {
            match self.next(until)? {
                Some(line) if fits(&line) => return Ok(line),
                Some(_) => {}
                None => return Err(self.failed(format!("no {what} within {limit:?}; it said: "))),
            }
        }
    }

    /// Ends it as Ctrl-C does; gives what it said at last. One that fails, or doesn't end, is an
    /// error.
    pub fn interrupt(self) -> Result<Vec<Line>> {
        self.end(libc::SIGINT)
    }

    /// Ends it as a service manager does: live entries stay until they expire.
    pub fn terminate(self) -> Result<Vec<Line>> {
        self.end(libc::SIGTERM)
    }

    fn end(&self, signal: i32) -> Result<Vec<Line>> {
        let Some(mut child) = take(&self.child) else { return Ok(Vec::new()) };
        let status = interrupt(&mut child, signal, INTERRUPT_LIMIT).at("wait for", &self.log)?;
        match status {
            Some(status) if status.success() => Ok(self.lines.iter().collect()),
            Some(status) => Err(self.failed(format!("{status}: "))),
            None => {
                kill(child);
                Err(self.failed("it doesn't end; it said: ".to_owned()))
            }
        }
    }

    /// Ends it with SIGKILL, so that it can't clean up.
    pub fn kill(self) {
        take(&self.child).into_iter().for_each(kill);
    }

    fn failed(&self, why: String) -> Error {
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        Error::Command { command: "hedgerow run --json".into(), output: why + &said }
    }
}

fn take(child: &Mutex<Option<Child>>) -> Option<Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Asks it to end and waits; `None` where it goes on past `limit`.
fn interrupt(child: &mut Child, signal: i32, limit: Duration) -> io::Result<Option<ExitStatus>> {
    // SAFETY: the child is ours and not reaped yet.
    unsafe { libc::kill(child.id().cast_signed(), signal) };
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(None)
}

fn kill(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}
