//! When something is shed, and when it is seen again. Pure: what a window cost goes in, what changes comes out.

use std::{collections::VecDeque, ops::Range};

use super::meter::Cost;
use crate::levers::LEVERS;

/// Windows of the minute that the budget is meant over, and of what is looked ahead.
const MINUTE: usize = 12;
const HALF: usize = 6;
/// Shed where the minute that ends in half a minute would cost more of the budget than this.
const FULL: f64 = 0.95;
/// One window that costs so much more is believed at once; less only when the next one costs as much.
const SUDDEN: f64 = 1.5;
/// Load comes from outside, so that our programs cost so much more, too. Else it is work of our own (a day is
/// learned, a model saved), which nothing that is shed makes less.
const OUTSIDE: f64 = 1.5;
/// One window of that is passed over, if it is over with it, and the next one not before so many.
const PASSES: u32 = 60;
/// For each such part of the budget too much, one lever.
const STEP: f64 = 0.25;
/// Seen again where the cost would be below this with what the lever gave back ...
const FITS: f64 = 0.9;
/// ... or, since loads change, as a try where it is below this,
const TRIES: f64 = 0.85;
/// ... after a minute, and longer each time that it failed.
const PATIENCE: u32 = MINUTE as u32;
const PATIENCE_GROWS: u32 = 5;
const PATIENCE_MAX: u32 = 360;
/// A lever that was let go so long ago and is pulled again was let go too early.
const FAILS: u32 = 24;
/// Nothing was shed for so long: patience is what it was.
const CALM: u32 = 60;
/// With everything shed a minute may cost this much of the budget; more is told.
pub const WITHIN: f64 = 1.1;

/// What becomes of the levers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// These are shed from now on.
    Shed(Range<usize>),
    /// This one is not any more.
    Seen(usize),
    /// Everything is shed, and it still costs too much.
    Unable,
    /// The budget holds again.
    Able,
}

/// A budget of CPU, in cores, and the levers that hold it.
#[derive(Debug)]
pub struct Budget {
    cores: f64,
    /// Levers that are shed: so many of the table.
    level: usize,
    /// Those that may be.
    most: usize,
    /// What the last windows cost, in cores.
    minute: VecDeque<f64>,
    /// And our programs of it.
    bpf: VecDeque<f64>,
    /// Windows since one was passed over, and what that cost too much.
    passed: Option<(u32, f64)>,
    /// Windows since the level changed, and since something was shed.
    since: u32,
    since_shed: u32,
    /// The last change let a lever go.
    let_go: bool,
    patience: u32,
    /// What each lever gave back when it was shed last.
    gains: [f64; LEVERS.len()],
    /// Levers of which that is not known yet, and the cost before.
    unweighed: Option<(Range<usize>, f64)>,
    unable: bool,
}

impl Budget {
    pub fn new(cores: f64) -> Self {
        Self {
            cores,
            level: 0,
            most: LEVERS.len(),
            minute: VecDeque::with_capacity(MINUTE),
            bpf: VecDeque::with_capacity(HALF),
            passed: None,
            since: 0,
            since_shed: 0,
            let_go: false,
            patience: PATIENCE,
            gains: [0.0; LEVERS.len()],
            unweighed: None,
            unable: false,
        }
    }

    /// The start found that it does not fit: nothing is looked at again until it is known to.
    pub fn shed_all(&mut self) {
        (self.level, self.since, self.since_shed) = (self.most, 0, 0);
    }

    pub fn set_cores(&mut self, cores: f64) {
        self.cores = cores;
    }

    /// No more levers than these are shed.
    pub fn set_most(&mut self, most: usize) {
        self.most = most.min(LEVERS.len());
    }

    pub fn cores(&self) -> f64 {
        self.cores
    }

    pub fn level(&self) -> usize {
        self.level
    }

    /// The mean of the last minute.
    pub fn minute(&self) -> f64 {
        mean(self.minute.iter())
    }

    /// Takes what a window cost.
    pub fn step(&mut self, cost: Cost) -> Option<Change> {
        let rate = self.believed(cost);
        let cost = cost.cores();
        keep(&mut self.minute, MINUTE, cost);
        self.since = self.since.saturating_add(1);
        self.since_shed = self.since_shed.saturating_add(1);
        self.weigh(cost);
        if self.level == 0 && self.since >= CALM {
            self.patience = PATIENCE;
        }
        if self.level < self.most && self.ahead(rate) > FULL * self.cores {
            return Some(self.pull(rate));
        }
        self.let_one_go().or_else(|| self.tell())
    }

    /// What the next windows are believed to cost, by one that has closed and those before it.
    fn believed(&mut self, cost: Cost) -> f64 {
        let came = self.came_from_outside(cost.bpf);
        keep(&mut self.bpf, HALF, cost.bpf);
        let cost = cost.cores();
        let before = self.minute.back().copied().unwrap_or(cost);
        let sudden = |cost: f64| cost > SUDDEN * self.cores;
        self.passed = match self.passed {
            // It is not over with one.
            Some((0, _)) if sudden(cost) => Some((1, 0.0)),
            Some((ago, over)) if ago < PASSES => Some((ago + 1, over)),
            _ if sudden(cost) && !sudden(before) && !came => Some((0, cost - before)),
            _ => None,
        };
        let passes = self.passed.is_some_and(|(ago, _)| ago == 0);
        if sudden(cost) && !passes { cost } else { cost.min(before) }
    }

    /// Our programs cost more than they did. Where the kernel doesn't tell what they cost, it may be.
    fn came_from_outside(&self, bpf: f64) -> bool {
        bpf == 0.0 || bpf > OUTSIDE * mean(self.bpf.iter())
    }

    /// What the minute that ends in half a minute will have cost, if it goes on like this.
    fn ahead(&self, rate: f64) -> f64 {
        let kept: Vec<f64> = self.minute.iter().rev().take(HALF).copied().collect();
        let passed = self.passed.filter(|(ago, _)| (*ago as usize) < HALF);
        let cost = kept.iter().sum::<f64>() - passed.map_or(0.0, |(_, over)| over);
        (cost + HALF as f64 * rate) / (kept.len() + HALF) as f64
    }

    fn pull(&mut self, rate: f64) -> Change {
        let steps = ((rate / self.cores - FULL) / STEP).ceil().max(1.0);
        let pulled = self.level..self.most.min(self.level + steps as usize);
        if self.let_go && self.since < FAILS {
            self.patience = (self.patience * PATIENCE_GROWS).min(PATIENCE_MAX);
        }
        self.level = pulled.end;
        (self.since, self.since_shed, self.let_go) = (0, 0, false);
        self.unweighed = Some((pulled.clone(), rate));
        Change::Shed(pulled)
    }

    /// Notes what levers gave back: of the first window without them, the same for each.
    fn weigh(&mut self, cost: f64) {
        let Some((levers, before)) = self.unweighed.take() else { return };
        let gain = (before - cost).max(0.0) / levers.len().max(1) as f64;
        levers.for_each(|lever| self.gains[lever] = gain);
    }

    fn let_one_go(&mut self) -> Option<Change> {
        if self.level == 0 || (self.since as usize) < HALF || self.since_shed < PATIENCE {
            return None;
        }
        let cost = mean(self.minute.iter().rev().take(HALF));
        let fits = cost + self.gains[self.level - 1] < FITS * self.cores;
        let tries = cost < TRIES * self.cores && self.since_shed >= self.patience;
        if !fits && !tries {
            return None;
        }
        self.level -= 1;
        (self.since, self.let_go) = (0, true);
        Some(Change::Seen(self.level))
    }

    fn tell(&mut self) -> Option<Change> {
        let all = self.level >= self.most && self.since as usize >= MINUTE;
        let minute = self.minute();
        if !self.unable && all && minute > WITHIN * self.cores {
            self.unable = true;
            return Some(Change::Unable);
        }
        if self.unable && minute < FULL * self.cores {
            self.unable = false;
            return Some(Change::Able);
        }
        None
    }
}

/// The newest of so many.
fn keep(of: &mut VecDeque<f64>, most: usize, newest: f64) {
    if of.len() == most {
        of.pop_front();
    }
    of.push_back(newest);
}

fn mean<'a>(of: impl ExactSizeIterator<Item = &'a f64>) -> f64 {
    let count = of.len().max(1) as f64;
    of.sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: f64 = 0.02;
    /// Of each lever's part of what depends on the load.
    const PART: f64 = 0.12;

    /// A host: what is there always, and what comes with the load, of which levers spare a part.
    fn cost(load: f64, level: usize) -> Cost {
        let with_load = 0.004 * load * (1.0 - PART * level as f64);
        Cost { own: 0.006 + with_load, bpf: with_load }
    }

    /// Windows with what each cost, and what changed after it.
    struct Run {
        budget: Budget,
        costs: Vec<f64>,
        changes: Vec<(usize, Change)>,
    }

    impl Run {
        fn new() -> Self {
            Self { budget: Budget::new(BUDGET), costs: Vec::new(), changes: Vec::new() }
        }

        fn live(&mut self, windows: usize, load: impl Fn(usize) -> f64) {
            (0..windows).for_each(|window| self.window(cost(load(window), self.budget.level())));
        }

        fn window(&mut self, cost: Cost) {
            let at = self.costs.len();
            self.costs.push(cost.cores());
            self.changes.extend(self.budget.step(cost).map(|change| (at, change)));
        }

        /// The dearest minute of those that begin in these windows.
        fn dearest(&self, windows: Range<usize>) -> f64 {
            let minutes = self.costs[windows].windows(MINUTE);
            minutes.map(|minute| mean(minute.iter())).fold(0.0, f64::max)
        }

        fn levels(&self, windows: Range<usize>) -> usize {
            let in_it = |(at, change): &&(usize, Change)| {
                windows.contains(at) && matches!(change, Change::Shed(_) | Change::Seen(_))
            };
            self.changes.iter().filter(in_it).count()
        }
    }

    #[test]
    fn a_load_that_triples_is_held_within_ten_percent_and_everything_comes_back() {
        let mut run = Run::new();
        run.live(60, |_| 1.0);
        assert_eq!((run.budget.level(), run.changes.len()), (0, 0));
        run.live(240, |_| 3.0);
        assert!(cost(3.0, 0).cores() > 1.4 * BUDGET);
        let dearest = run.dearest(66..300);
        assert!(dearest <= WITHIN * BUDGET, "{dearest}");
        assert!(run.budget.level() > 2);
        let loaded = run.costs.len();
        run.live(120, |_| 1.0);
        assert_eq!(run.budget.level(), 0);
        assert!(run.changes.iter().all(|(at, change)| {
            *at >= 60 && (*at < loaded || matches!(change, Change::Seen(_)))
        }));
    }

    #[test]
    fn under_a_constant_load_no_more_than_two_changes_come_in_five_minutes() {
        for load in [1.6, 1.8, 2.0, 2.5, 3.0] {
            let mut run = Run::new();
            run.live(24, |_| 1.0);
            run.live(1440, |_| load);
            for from in 36..1400 {
                assert!(run.levels(from..from + 60) <= 2, "{load}, {from}: {:?}", run.changes);
            }
            assert!(run.dearest(36..1464) <= WITHIN * BUDGET, "{load}");
        }
    }

    #[test]
    fn a_load_that_comes_and_goes_is_held_and_one_window_of_it_sheds_for_minutes_at_most() {
        let mut run = Run::new();
        run.live(1440, |window| if window / 24 % 2 == 0 { 1.0 } else { 3.0 });
        assert!(run.dearest(30..1440) <= WITHIN * BUDGET, "{}", run.dearest(30..1440));
        let mut run = Run::new();
        run.live(120, |window| if window == 60 { 5.0 } else { 1.0 });
        assert_eq!(run.budget.level(), 0);
        assert!(run.dearest(0..120) <= WITHIN * BUDGET);
    }

    #[test]
    fn one_dear_window_of_our_own_sheds_nothing_and_what_goes_on_or_comes_again_does() {
        let own = |own: f64| Cost { own, ..cost(1.0, 0) };
        let mut run = Run::new();
        run.live(24, |_| 1.0);
        run.window(own(10.0 * BUDGET));
        run.live(24, |_| 1.0);
        assert!(run.changes.is_empty(), "{:?}", run.changes);
        run.window(own(10.0 * BUDGET));
        assert_eq!(run.changes, [(49, Change::Shed(0..LEVERS.len()))], "within five minutes");
        let mut run = Run::new();
        run.live(24, |_| 1.0);
        run.window(own(3.0 * BUDGET));
        run.window(own(3.0 * BUDGET));
        assert_eq!(run.changes.first(), Some(&(25, Change::Shed(0..LEVERS.len()))));
        // Nobody tells what programs cost.
        let mut run = Run::new();
        (0..24).for_each(|_| run.window(Cost { own: 0.01, bpf: 0.0 }));
        run.window(Cost { own: 10.0 * BUDGET, bpf: 0.0 });
        assert_eq!(run.changes.len(), 1);
    }

    #[test]
    fn levers_are_shed_in_order_and_what_cant_be_held_is_told_once() {
        let mut run = Run::new();
        run.live(24, |_| 1.0);
        run.live(120, |_| 12.0);
        let unable = run.changes.iter().filter(|(_, change)| *change == Change::Unable).count();
        assert_eq!((run.budget.level(), unable), (LEVERS.len(), 1));
        let mut next = 0;
        for (_, change) in &run.changes {
            if let Change::Shed(levers) = change {
                assert_eq!(levers.start, next);
                next = levers.end;
            }
        }
        run.live(24, |_| 1.0);
        assert_eq!(run.changes.iter().filter(|(_, change)| *change == Change::Able).count(), 1);
    }
}
