//! The daemon as tests and demonstrations see it: a child process and the JSON lines it prints.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
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

/// A clean stop lifts entries and detaches; past this the daemon is killed.
const STOP_LIMIT: Duration = Duration::from_secs(20);

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
        let mut child = command.spawn().map_err(|source| start_error(&command, source))?;
        let id = child.id();
        let output = child.stdout.take();
        let child = Arc::new(Mutex::new(Some(child)));
        let stop = Guard::new(move || {
            if let Some(child) = child.lock().unwrap_or_else(PoisonError::into_inner).take() {
                stop(child);
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
        Ok(Self { id, lines, log: log.to_owned(), _stop: stop })
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
            Err(RecvTimeoutError::Disconnected) => Err(Error::Command {
                command: "hedgerow run --json".into(),
                output: fs::read_to_string(&self.log).unwrap_or_default(),
            }),
        }
    }
}

/// SIGINT, so that the daemon lifts its entries and detaches; SIGKILL if it doesn't end.
fn stop(mut child: Child) {
    // SAFETY: the child is ours and not reaped yet.
    unsafe { libc::kill(child.id().cast_signed(), libc::SIGINT) };
    let deadline = Instant::now() + STOP_LIMIT;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            eprintln!("lab: the daemon did not end within {STOP_LIMIT:?} of SIGINT: killed");
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}
