//! The daemon as the demonstration sees it: a child process and the JSON lines that it prints.

use std::{
    fs::File,
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

use anyhow::{Context, bail};
use hedgerow_event::{Finding, Remediation};
use hedgerow_lab::Guard;
use serde::Deserialize;

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
    lines: Receiver<Line>,
    log: PathBuf,
    _stop: Guard,
}

impl Daemon {
    pub fn start(program: &Path, state: &Path, learn: &str, log: &Path) -> anyhow::Result<Self> {
        let errors = File::create(log).with_context(|| format!("create {}", log.display()))?;
        let mut child = Command::new(program)
            .args(["run", "--json", "--learn", learn, "--mode", "enforce"])
            .args(["--enforce-provisional", "--state"])
            .arg(state)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let output = child.stdout.take().context("the daemon's output is piped")?;
        let child = Mutex::new(Some(child));
        let stop = Guard::new(move || {
            if let Some(child) = child.lock().unwrap_or_else(PoisonError::into_inner).take() {
                stop(child);
            }
        });
        let (sender, lines) = mpsc::channel();
        let unread = Arc::new(log.to_owned());
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                match serde_json::from_str(&line) {
                    Ok(line) => drop(sender.send(line)),
                    Err(error) => eprintln!("({}: {error}: {line})", unread.display()),
                }
            }
        });
        Ok(Self { lines, log: log.to_owned(), _stop: stop })
    }

    /// The next line, or `None` when `until` has passed.
    pub fn next(&self, until: Instant) -> anyhow::Result<Option<Line>> {
        match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                bail!("the daemon ended; it said:\n{log}")
            }
        }
    }
}

/// SIGINT, so that the daemon lifts its entries and detaches; SIGKILL if it doesn't end.
fn stop(mut child: Child) {
    // SAFETY: the child is ours and not reaped yet.
    unsafe { libc::kill(child.id().cast_signed(), libc::SIGINT) };
    let deadline = Instant::now() + Duration::from_secs(20);
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            eprintln!("demo: the daemon did not end within 20 s of SIGINT and was killed");
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}
