//! What the daemon says, asked by threads that may wait for it.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use hedgerow_event::{Activity, Finding};

use crate::{
    commands::{findings::Tail, log},
    control::{Entries, GetEntries, GetStatus, Remove, Removed, Status, Which, call, socket},
};

const EACH: Duration = Duration::from_secs(1);
/// Findings that are kept, the newest.
pub const FINDINGS_MAX: usize = 200;
/// Who may not read the log, but ask for it, does so this often: each answer is all of it.
const ASKED: Duration = Duration::from_secs(10);
/// What waits to be drawn. Full: the asking waits, too.
const NEWS_MAX: usize = 4;

/// One look at the daemon.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: Status,
    pub entries: Entries,
    /// What was alerted, newest first, each as its newest report tells it.
    pub findings: Vec<Finding>,
    /// Why there may be more findings than these.
    pub unread: Option<String>,
    /// When it came, wall time.
    pub time_ns: i64,
}

#[derive(Debug)]
pub enum News {
    Answer(Box<Answer>),
    /// Why there is none.
    Silence(String),
    Lifted(Result<Removed, String>),
}

/// The way to the threads that ask.
#[derive(Debug)]
pub struct Asked {
    pub news: Receiver<News>,
    sender: Sender<News>,
    state: PathBuf,
}

impl Asked {
    pub fn start(state: &Path) -> anyhow::Result<Self> {
        let (sender, news) = bounded(NEWS_MAX);
        let asked = Self { news, sender: sender.clone(), state: state.to_owned() };
        let state = state.to_owned();
        thread::Builder::new().name("ask".into()).spawn(move || {
            let mut log = Log::new(&state);
            loop {
                let news = match look(&state, &mut log) {
                    Ok(answer) => News::Answer(Box::new(answer)),
                    Err(why) => News::Silence(format!("{why:#}")),
                };
                if sender.send(news).is_err() {
                    return;
                }
                thread::sleep(EACH);
            }
        })?;
        Ok(asked)
    }

    /// Asks for an entry to be lifted, as `deny remove` does; what came of it is news.
    pub fn lift(&self, uid: String) -> anyhow::Result<()> {
        let (sender, socket) = (self.sender.clone(), socket(&self.state));
        thread::Builder::new().name("lift".into()).spawn(move || {
            let asked = Remove { which: Which::Uid(uid), wrong: false };
            let lifted = call(&socket, &asked).map_err(|why| format!("{why:#}"));
            // Nobody draws any more.
            let _ = sender.send(News::Lifted(lifted));
        })?;
        Ok(())
    }
}

fn look(state: &Path, log: &mut Log) -> anyhow::Result<Answer> {
    let socket = socket(state);
    let status = call(&socket, &GetStatus {})?;
    let entries = call(&socket, &GetEntries {})?;
    let unread = log.follow().err().map(|why| format!("{why:#}"));
    let findings = log.alerts.iter().rev().cloned().collect();
    let time_ns = hedgerow_responder::now().wall_ns;
    Ok(Answer { status, entries, findings, unread, time_ns })
}

/// The log of findings, which is read whole once and followed then.
struct Log {
    state: PathBuf,
    tail: Option<Tail>,
    /// When it was read whole.
    read: Option<Instant>,
    /// Oldest first.
    alerts: Vec<Finding>,
}

impl Log {
    fn new(state: &Path) -> Self {
        Self { state: state.to_owned(), tail: None, read: None, alerts: Vec::new() }
    }

    fn follow(&mut self) -> anyhow::Result<()> {
        if let Some(tail) = &mut self.tail {
            let fresh = tail.read()?;
            keep(&mut self.alerts, fresh);
            return Ok(());
        }
        if self.read.is_some_and(|read| read.elapsed() < ASKED) {
            return Ok(());
        }
        // What is written between the two is read twice rather than not at all.
        let tail = fs::read_dir(&self.state).is_ok().then(|| Tail::at_end(&self.state));
        self.alerts.clear();
        keep(&mut self.alerts, log::findings(&self.state)?);
        self.tail = tail.transpose()?;
        self.read = Some(Instant::now());
        Ok(())
    }
}

/// Adds reports: each finding stays where it was first told, as it was told last.
pub fn keep(alerts: &mut Vec<Finding>, fresh: Vec<Finding>) {
    for finding in fresh.into_iter().filter(|finding| finding.disposition.is_alert()) {
        match alerts.iter_mut().rfind(|kept| kept.uid == finding.uid) {
            // What a finding ends with says no more of what was done.
            Some(kept) if finding.activity != Activity::Close => *kept = finding,
            Some(_) => {}
            None => alerts.push(finding),
        }
        if alerts.len() > FINDINGS_MAX {
            alerts.remove(0);
        }
    }
}
