//! What is shown, and what keys do to it. Pure: time and news come from outside.

use hedgerow_event::{Finding, Remediation, Target};
use hedgerow_responder::hold::Hold;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::asked::{Answer, News};
use crate::{
    control::{Removed, WorkloadNow},
    text,
};

/// A daemon that has not answered for so long is said to be silent.
const SILENT_NS: i64 = 3_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tab {
    Workloads,
    Findings,
    Entries,
}

impl Tab {
    pub const ALL: [Self; 3] = [Self::Workloads, Self::Findings, Self::Entries];

    pub fn name(self) -> &'static str {
        ["Workloads", "Findings", "Entries"][self as usize]
    }
}

/// What lies over the screen and takes the next key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Over {
    Nothing,
    Help,
    /// This entry is to be lifted: its uid, and whom it stops.
    Confirm(String, String),
}

/// An entry, live or waiting.
#[derive(Debug, Clone, Copy)]
pub enum Entry<'a> {
    Live(&'a Remediation),
    Held(&'a Hold),
}

impl Entry<'_> {
    pub fn uid(&self) -> &str {
        match self {
            Self::Live(entry) => &entry.uid,
            Self::Held(hold) => &hold.uid,
        }
    }
    /// Whom it stops, by name.
    pub fn whom(&self) -> String {
        let (target, subject) = match self {
            Self::Live(entry) => (&entry.target, entry.subject.as_deref()),
            Self::Held(hold) => (&hold.target, hold.subject.as_deref()),
        };
        text::whom(target, subject)
    }
    pub fn target(&self) -> &Target {
        match self {
            Self::Live(entry) => &entry.target,
            Self::Held(hold) => &hold.target,
        }
    }
}

/// As much of an entry's uid as tells it from others here, and as names it to `deny remove`: all of a
/// boot begin alike.
pub fn short(uid: &str) -> &str {
    let own = uid.rsplit('-').next().unwrap_or(uid);
    own.get(..8).unwrap_or(own)
}

/// What a key asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Act {
    Stay,
    Quit,
    Lift(String),
}

#[derive(Debug)]
pub struct View {
    pub answer: Option<Answer>,
    /// Why the last question had no answer.
    pub silence: Option<String>,
    /// Wall time.
    pub now_ns: i64,
    pub tab: Tab,
    /// What is chosen in each tab, by name: rows move.
    chosen: [Option<String>; 3],
    pub over: Over,
    /// The chosen one takes most of the screen.
    pub whole: bool,
    /// What came of the last order.
    pub notice: Option<String>,
    pub colour: bool,
}

impl View {
    pub fn new(colour: bool) -> Self {
        Self {
            answer: None,
            silence: None,
            now_ns: 0,
            tab: Tab::Workloads,
            chosen: Default::default(),
            over: Over::Nothing,
            whole: false,
            notice: None,
            colour,
        }
    }

    pub fn take(&mut self, news: News) {
        match news {
            News::Answer(answer) => {
                self.answer = Some(*answer);
                self.silence = None;
            }
            News::Silence(why) => self.silence = Some(why),
            News::Lifted(Ok(removed)) => self.notice = Some(lifted(&removed)),
            News::Lifted(Err(why)) => self.notice = Some(format!("Not lifted: {why}")),
        }
    }

    /// Since when the daemon is silent, and why, where that is known; `None`: it answers.
    pub fn silent(&self) -> Option<(Option<i64>, &str)> {
        let since = self.answer.as_ref().map(|answer| answer.time_ns);
        let late = since.is_some_and(|since| self.now_ns - since > SILENT_NS);
        match &self.silence {
            Some(why) => Some((since, why)),
            None => late.then_some((since, "it doesn't answer")),
        }
    }

    pub fn workloads(&self) -> &[WorkloadNow] {
        self.answer.as_ref().map_or(&[], |answer| &answer.status.workloads)
    }

    pub fn findings(&self) -> &[Finding] {
        self.answer.as_ref().map_or(&[], |answer| &answer.findings)
    }

    pub fn entries(&self) -> Vec<Entry<'_>> {
        let Some(answer) = &self.answer else { return Vec::new() };
        let held = answer.entries.held.iter().map(Entry::Held);
        answer.entries.live.iter().map(Entry::Live).chain(held).collect()
    }

    /// The names of a tab's rows, in order.
    fn rows(&self) -> Vec<String> {
        match self.tab {
            Tab::Workloads => {
                self.workloads().iter().map(|one| one.workload.as_str().to_owned()).collect()
            }
            Tab::Findings => self.findings().iter().map(|one| one.uid.clone()).collect(),
            Tab::Entries => self.entries().iter().map(|one| one.uid().to_owned()).collect(),
        }
    }

    /// The place of what is chosen; the first where it has gone.
    pub fn chosen(&self) -> usize {
        let chosen = self.chosen[self.tab as usize].as_deref();
        self.rows().iter().position(|row| Some(&**row) == chosen).unwrap_or(0)
    }

    fn step(&mut self, by: isize) {
        let rows = self.rows();
        let at = self.chosen().saturating_add_signed(by).min(rows.len().saturating_sub(1));
        self.chosen[self.tab as usize] = rows.into_iter().nth(at);
    }

    fn turn(&mut self, by: usize) {
        self.tab = Tab::ALL[(self.tab as usize + by) % Tab::ALL.len()];
    }

    pub fn key(&mut self, key: KeyEvent) -> Act {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Act::Quit;
        }
        self.notice = None;
        match std::mem::replace(&mut self.over, Over::Nothing) {
            Over::Nothing => self.plain(key.code),
            Over::Help => Act::Stay,
            Over::Confirm(uid, _) if key.code == KeyCode::Char('y') => {
                self.notice = Some(format!("Asking the daemon to lift {}", short(&uid)));
                Act::Lift(uid)
            }
            Over::Confirm(..) => {
                self.notice = Some("Nothing was lifted.".into());
                Act::Stay
            }
        }
    }

    fn plain(&mut self, code: KeyCode) -> Act {
        match code {
            KeyCode::Char('q') => return Act::Quit,
            KeyCode::Char('?') => self.over = Over::Help,
            KeyCode::Char('1') => self.tab = Tab::Workloads,
            KeyCode::Char('2') => self.tab = Tab::Findings,
            KeyCode::Char('3') => self.tab = Tab::Entries,
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(Tab::ALL.len() - 1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::PageDown => self.step(10),
            KeyCode::PageUp => self.step(-10),
            KeyCode::Enter => self.whole = !self.whole,
            KeyCode::Char('l') => self.confirm(),
            _ => {}
        }
        Act::Stay
    }

    fn confirm(&mut self) {
        let asked = match self.tab {
            Tab::Entries => self
                .entries()
                .get(self.chosen())
                .map(|entry| (entry.uid().to_owned(), entry.target().to_string())),
            _ => None,
        };
        match asked {
            Some((uid, target)) => self.over = Over::Confirm(uid, target),
            None => self.notice = Some("Nothing to lift: choose an entry first (3).".into()),
        }
    }
}

fn lifted(removed: &Removed) -> String {
    match (removed.lifted.first(), removed.withdrawn.first()) {
        (Some(entry), _) => {
            let hits = text::counted(entry.hits, "hit", "hits");
            format!("Lifted {} after {hits}: {}", short(&entry.uid), entry.target)
        }
        (None, Some(uid)) => format!("Withdrew {} before it was installed.", short(uid)),
        (None, None) => "It was not installed any more.".into(),
    }
}
