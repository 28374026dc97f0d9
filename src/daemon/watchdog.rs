//! Says which stage stands still: the drain thread, who reads names, the main loop and what it is
//! at, who writes the ledger, who delivers and who prints. A thread of its own looks, and asks none
//! of them for help: it reads numbers that they leave. It never writes: another thread does, which may wait
//! for whoever reads standard error while the service manager goes on being told that the loop turns.

use std::{
    io::Write,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use super::service;
use crate::{
    metrics::{self, Board},
    text,
};

/// A stage that has work and gets nothing done stands still after this time.
const STILL: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_secs(1);
/// Lines that wait for standard error; past them they are counted.
const SAID_MAX: usize = 64;

/// How far a stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Grows with what is done.
    pub done: u64,
    /// Something waits for it.
    pub busy: bool,
}

/// Work that is given and done, counted by both sides.
#[derive(Debug, Default)]
pub struct Count {
    given: AtomicU64,
    done: AtomicU64,
}

impl Count {
    pub fn give(&self) {
        self.given.fetch_add(1, Ordering::Relaxed);
    }
    pub fn finish(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
    pub fn progress(&self) -> Progress {
        let done = self.done.load(Ordering::Relaxed);
        Progress { done, busy: self.given.load(Ordering::Relaxed) > done }
    }
}

/// What the main loop is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    Waiting,
    Engine,
    Responder,
    Control,
    Reports,
}

impl Part {
    const ALL: [Self; 5] =
        [Self::Waiting, Self::Engine, Self::Responder, Self::Control, Self::Reports];
    const NAMES: [&'static str; 5] =
        ["waiting", "the engine", "the responder", "the control socket", "reports"];
}

/// The main loop's side: turns, what it is at, and for how long. Written by the loop, read by the
/// watchdog and by scrapers.
#[derive(Debug)]
pub struct Loop {
    board: Arc<Board>,
    begun: Instant,
    at: AtomicU8,
    /// When it entered that part, in nanoseconds since `begun`.
    since_ns: AtomicU64,
}

impl Loop {
    pub fn new(board: &Arc<Board>) -> Self {
        Self {
            board: Arc::clone(board),
            begun: Instant::now(),
            at: AtomicU8::default(),
            since_ns: AtomicU64::default(),
        }
    }
    pub fn turn(&self) {
        self.board.turn();
        self.enter(Part::Waiting);
    }
    pub fn enter(&self, part: Part) {
        let now = self.begun.elapsed();
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let took = now_ns.saturating_sub(self.since_ns.swap(now_ns, Ordering::Relaxed));
        let before = self.at.swap(part as u8, Ordering::Relaxed);
        let stage = match Part::ALL.get(usize::from(before)) {
            Some(Part::Engine) => metrics::Stage::Engine,
            Some(Part::Responder) => metrics::Stage::Responder,
            Some(Part::Control) => metrics::Stage::Control,
            Some(Part::Reports) => metrics::Stage::Reports,
            Some(Part::Waiting) | None => return,
        };
        self.board.stages.of(stage).observe(Duration::from_nanos(took));
    }
    fn at(&self) -> &'static str {
        let at = usize::from(self.at.load(Ordering::Relaxed));
        Part::NAMES.get(at).copied().unwrap_or_default()
    }
}

/// A queue of which only the length is seen, now and then: it moves where it gets shorter.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: AtomicU64,
    moves: AtomicU64,
}

impl Queue {
    pub fn see(&self, waiting: usize) {
        let waiting = waiting as u64;
        if waiting < self.waiting.swap(waiting, Ordering::Relaxed) {
            self.moves.fetch_add(1, Ordering::Relaxed);
        }
    }
    pub fn progress(&self) -> Progress {
        Progress {
            done: self.moves.load(Ordering::Relaxed),
            busy: self.waiting.load(Ordering::Relaxed) > 0,
        }
    }
}

type Ask = Box<dyn Fn() -> Progress + Send>;

/// A stage, and how to ask how far it is; that never waits.
pub struct Stage {
    name: &'static str,
    ask: Ask,
    /// What it is at, where that is known.
    at: Option<Arc<Loop>>,
}

impl Stage {
    pub fn new(name: &'static str, ask: impl Fn() -> Progress + Send + 'static) -> Self {
        Self { name, ask: Box::new(ask), at: None }
    }
    /// The main loop, which always turns.
    pub fn main_loop(turns: &Arc<Loop>) -> Self {
        let (asked, at) = (Arc::clone(turns), Some(Arc::clone(turns)));
        let ask = move || Progress { done: asked.board.turns(), busy: true };
        Self { name: "the main loop", ask: Box::new(ask), at }
    }
    fn stands_still(&self) -> String {
        let at = self.at.as_ref().map(|at| format!(", in {}", at.at())).unwrap_or_default();
        format!("{} stands still for {} s{at}", self.name, STILL.as_secs())
    }
}

/// What stands still, by name; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Still(Arc<Mutex<Vec<&'static str>>>);

impl Still {
    fn lock(&self) -> MutexGuard<'_, Vec<&'static str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn names(&self) -> Vec<&'static str> {
        self.lock().clone()
    }
}

/// The thread that looks; it ends with this.
#[derive(Debug)]
pub struct Watchdog {
    pub still: Still,
    _stop: Sender<()>,
}

impl Watchdog {
    pub fn start(stages: Vec<Stage>, turns: Arc<Loop>) -> std::io::Result<Self> {
        let watch = Watch::new(stages, Still::default());
        // Not by the threads that may stand still; who listened may have gone.
        let write = |line: &str| drop(writeln!(std::io::stderr(), "{}", text::noted(line)));
        Self::over(watch, Pulse { turns, last: 0 }, write, service::alive)
    }

    fn over(
        mut watch: Watch,
        mut pulse: Pulse,
        write: impl Fn(&str) + Send + 'static,
        alive: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let still = watch.still.clone();
        let (stop, stopped) = channel();
        let mut voice = Voice::start(write)?;
        thread::Builder::new().name("watchdog".into()).spawn(move || {
            while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                if pulse.beats() {
                    alive();
                }
                voice.say(watch.look(Instant::now()));
            }
        })?;
        Ok(Self { still, _stop: stop })
    }
}

/// Who waits for standard error in the watchdog's place.
struct Voice {
    lines: SyncSender<String>,
    /// Lines that found no room since the last one that did.
    unsaid: u64,
}

impl Voice {
    fn start(write: impl Fn(&str) + Send + 'static) -> std::io::Result<Self> {
        let (lines, said): (_, Receiver<String>) = sync_channel(SAID_MAX);
        let run = move || said.iter().for_each(|line| write(&line));
        thread::Builder::new().name("watchdog-voice".into()).spawn(run)?;
        Ok(Self { lines, unsaid: 0 })
    }

    /// Never waits.
    fn say(&mut self, lines: Vec<String>) {
        for line in lines {
            let unsaid = match self.unsaid {
                0 => String::new(),
                unsaid => format!("; {unsaid} lines before it found no room"),
            };
            match self.lines.try_send(format!("hedgerow: warning: {line}{unsaid}")) {
                Ok(()) => self.unsaid = 0,
                Err(_) => self.unsaid += 1,
            }
        }
    }
}

/// Whether the main loop turned since the last look: a service manager starts one that doesn't anew.
struct Pulse {
    turns: Arc<Loop>,
    last: u64,
}

impl Pulse {
    fn beats(&mut self) -> bool {
        let turns = self.turns.board.turns();
        std::mem::replace(&mut self.last, turns) != turns
    }
}

struct Seen {
    stage: Stage,
    last: Progress,
    /// When it last got something done, or had nothing to do.
    since: Instant,
    told: bool,
}

struct Watch {
    seen: Vec<Seen>,
    still: Still,
    /// The last look: one that comes late, after a suspend or on a starved machine, accuses nobody.
    looked: Instant,
}

impl Watch {
    fn new(stages: Vec<Stage>, still: Still) -> Self {
        let now = Instant::now();
        let seen = stages.into_iter().map(|stage| {
            let last = (stage.ask)();
            Seen { stage, last, since: now, told: false }
        });
        Self { seen: seen.collect(), still, looked: now }
    }

    /// What began or ended to stand still since the last look, a sentence each.
    fn look(&mut self, now: Instant) -> Vec<String> {
        let late = now.duration_since(self.looked) > STILL / 2;
        self.looked = now;
        let mut told = Vec::new();
        for seen in &mut self.seen {
            let progress = (seen.stage.ask)();
            let moved = progress.done != seen.last.done || !progress.busy;
            if moved || late {
                seen.since = now;
            }
            seen.last = progress;
            let still = now.duration_since(seen.since) >= STILL;
            let name = seen.stage.name;
            if still != seen.told {
                told.push(match still {
                    true => seen.stage.stands_still(),
                    false => format!("{name} goes on"),
                });
                seen.told = still;
            }
        }
        let names = self.seen.iter().filter(|seen| seen.told).map(|seen| seen.stage.name);
        *self.still.lock() = names.collect();
        told
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_stage_with_work_that_gets_nothing_done_is_told_once_and_again_when_it_goes_on() {
        let progress = Arc::new(Mutex::new(Progress { done: 0, busy: true }));
        let asked = Arc::clone(&progress);
        let stage = Stage::new("the ledger", move || *asked.lock().unwrap());
        let still = Still::default();
        let mut watch = Watch::new(vec![stage], still.clone());
        let start = watch.looked;
        let mut look = |second| watch.look(start + Duration::from_secs(second));
        assert!((1..10).all(|second| look(second).is_empty()));
        assert_eq!(look(10), ["the ledger stands still for 10 s"]);
        assert_eq!(still.names(), ["the ledger"]);
        assert!(look(11).is_empty(), "told once");
        progress.lock().unwrap().done = 1;
        assert_eq!(look(12), ["the ledger goes on"]);
        assert!(still.names().is_empty());
        // Who has nothing to do doesn't stand still.
        progress.lock().unwrap().busy = false;
        assert!((13..40).all(|second| look(second).is_empty()));
        // A look that comes late says nothing of the stages.
        progress.lock().unwrap().busy = true;
        assert!(look(41).is_empty() && look(70).is_empty() && look(71).is_empty());
    }
    #[test]
    fn the_main_loop_says_what_it_is_at() {
        let turns = Arc::new(Loop::new(&Arc::default()));
        let mut watch = Watch::new(vec![Stage::main_loop(&turns)], Still::default());
        let start = watch.looked;
        turns.turn();
        turns.enter(Part::Responder);
        let told = (1..=11).flat_map(|second| watch.look(start + Duration::from_secs(second)));
        let told: Vec<String> = told.collect();
        assert_eq!(told, ["the main loop stands still for 10 s, in the responder"]);
    }

    #[test]
    fn standard_error_that_nobody_reads_stops_no_pulse() {
        let (mut unread, mut full) = std::io::pipe().unwrap();
        // All that a pipe holds: the next byte waits.
        full.write_all(&[b'.'; 1 << 16]).unwrap();
        let turns = Arc::new(Loop::new(&Arc::default()));
        let stage = Stage::new("the terminal", || Progress { done: 0, busy: true });
        let mut watch = Watch::new(vec![stage], Still::default());
        watch.seen[0].since = watch.looked.checked_sub(STILL).unwrap();
        let (beat, beats) = channel();
        let full = Mutex::new(full);
        let write = move |line: &str| writeln!(full.lock().unwrap(), "{line}").unwrap();
        let alive = move || beat.send(()).unwrap_or_default();
        let pulse = Pulse { turns: Arc::clone(&turns), last: 0 };
        let watchdog = Watchdog::over(watch, pulse, write, alive).unwrap();
        for _ in 0..4 {
            turns.turn();
            beats.recv_timeout(10 * LOOK).unwrap();
        }
        assert_eq!(watchdog.still.names(), ["the terminal"]);
        drop(watchdog);
        // It is said once somebody reads.
        let mut said = String::new();
        std::io::Read::read_to_string(&mut unread, &mut said).unwrap();
        let said = said.trim_start_matches('.');
        assert_eq!(said, "hedgerow: warning: the terminal stands still for 10 s\n");
    }

    #[test]
    fn what_finds_no_room_is_counted_and_told_with_the_next_line() {
        let (written, all) = channel();
        let (go, wait) = channel::<()>();
        let mut voice = Voice::start(move |line| {
            written.send(line.to_owned()).unwrap();
            wait.recv().unwrap_or_default();
        })
        .unwrap();
        voice.say(vec!["in a write".into()]);
        assert_eq!(all.recv().unwrap(), "hedgerow: warning: in a write");
        (0..SAID_MAX + 9).for_each(|number| voice.say(vec![number.to_string()]));
        drop(go);
        assert_eq!(all.iter().take(SAID_MAX).last().unwrap(), "hedgerow: warning: 63");
        voice.say(vec!["last".into()]);
        let told = "hedgerow: warning: last; 9 lines before it found no room";
        assert_eq!(all.recv().unwrap(), told);
    }

    #[test]
    fn the_pulse_beats_only_while_the_loop_turns() {
        let turns = Arc::new(Loop::new(&Arc::default()));
        let mut pulse = Pulse { turns: Arc::clone(&turns), last: 0 };
        assert!(!pulse.beats());
        turns.turn();
        assert!(pulse.beats());
        turns.enter(Part::Engine);
        assert!(!pulse.beats(), "it is at something, and doesn't turn");
    }

    #[test]
    fn a_queue_moves_where_it_gets_shorter() {
        let queue = Queue::default();
        queue.see(0);
        assert_eq!(queue.progress(), Progress { done: 0, busy: false });
        queue.see(3);
        queue.see(5);
        assert_eq!(queue.progress(), Progress { done: 0, busy: true });
        queue.see(4);
        assert_eq!(queue.progress(), Progress { done: 1, busy: true });
    }
}
