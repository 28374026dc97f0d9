//! When windows open and close: pure, time is an argument.

use hedgerow_event::{Epoch, EpochClose, HostCounters, Loss};

use crate::clock::Now;

/// Two clocks are not read at the same instant; less than this is no suspend.
const CLOCK_SLACK_NS: u64 = 1_000_000;

/// What a window still waits for so long after its end doesn't hold it up: a task that stands still
/// between reserving a record and submitting it holds its ring for as long as it likes. What comes
/// of it afterwards is late.
const CLOSE_MAX_NS: u64 = 5_000_000_000;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// Tell the kernel that this epoch has begun.
    Step(Epoch),
    /// Read the rows of this epoch, then note where the rings stand.
    Collect(Epoch),
}

#[derive(Debug, Clone, Copy)]
struct Closing {
    epoch: Epoch,
    start: Now,
    end: Now,
    collected: bool,
}

/// The windows of the drain thread. One is open; at most one more is closing, and the open one
/// doesn't end before that has closed, so that a bucket is never reused unread.
#[derive(Debug)]
pub struct Windows {
    window_ns: u64,
    delay_ns: u64,
    open: Epoch,
    opened: Now,
    closing: Option<Closing>,
}

impl Windows {
    pub fn new(first: Epoch, now: Now, window_ns: u64, delay_ns: u64) -> Self {
        Self { window_ns, delay_ns, open: first, opened: now, closing: None }
    }

    /// The epoch that the kernel is in.
    pub fn current(&self) -> Epoch {
        self.open
    }

    /// The oldest epoch that still takes records.
    pub fn oldest(&self) -> Epoch {
        self.closing.map_or(self.open, |closing| closing.epoch)
    }

    /// What has to be done at `now`; each answer is given once.
    pub fn due(&mut self, now: Now) -> Due {
        match &mut self.closing {
            None if now.boot_ns.saturating_sub(self.opened.boot_ns) >= self.window_ns => {
                self.step(now)
            }
            Some(closing)
                if !closing.collected
                    && now.boot_ns.saturating_sub(closing.end.boot_ns) >= self.delay_ns =>
            {
                closing.collected = true;
                Due::Collect(closing.epoch)
            }
            _ => Due::Nothing,
        }
    }

    /// Whether the closing window has waited long enough.
    pub fn is_overdue(&self, now: Now) -> bool {
        let waited = |closing: Closing| now.boot_ns.saturating_sub(closing.end.boot_ns);
        self.closing.is_some_and(|closing| closing.collected && waited(closing) >= CLOSE_MAX_NS)
    }

    /// Ends the open window at once, unless another one is closing; for the last one.
    pub fn end(&mut self, now: Now) -> bool {
        let ends = self.closing.is_none();
        if ends {
            self.step(now);
        }
        ends
    }

    /// The closing window is collected at once; for the last ones.
    pub fn collect_now(&mut self) {
        if let Some(closing) = &mut self.closing {
            closing.collected = true;
        }
    }

    fn step(&mut self, now: Now) -> Due {
        self.closing =
            Some(Closing { epoch: self.open, start: self.opened, end: now, collected: false });
        self.open = self.open.next();
        self.opened = now;
        Due::Step(self.open)
    }

    /// The closing window, once it has been collected and every ring was read up to its mark.
    pub fn close(&mut self, loss: Loss, host: HostCounters) -> Option<EpochClose> {
        let closing = self.closing.take_if(|closing| closing.collected)?;
        let boot_ns = closing.end.boot_ns.saturating_sub(closing.start.boot_ns);
        let awake_ns = closing.end.monotonic_ns.saturating_sub(closing.start.monotonic_ns);
        Some(EpochClose {
            epoch: closing.epoch,
            start_boot_ns: closing.start.boot_ns,
            end_boot_ns: closing.end.boot_ns,
            realtime_offset_ns: closing.end.realtime_offset_ns(),
            suspended_ns: Some(boot_ns.saturating_sub(awake_ns))
                .filter(|&suspended_ns| suspended_ns > CLOCK_SLACK_NS)
                .unwrap_or(0),
            loss,
            host,
            shed: false,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(ms: u64) -> Now {
        Now { boot_ns: ms * 1_000_000, monotonic_ns: ms * 1_000_000, real_ns: ms * 1_000_000 + 7 }
    }

    fn windows() -> Windows {
        Windows::new(Epoch(5), at(0), 5_000_000_000, 100_000_000)
    }

    #[test]
    fn a_window_steps_collects_and_closes() {
        let mut windows = windows();
        assert_eq!(windows.due(at(4999)), Due::Nothing);
        assert_eq!(windows.due(at(5000)), Due::Step(Epoch(6)));
        assert_eq!((windows.current(), windows.oldest()), (Epoch(6), Epoch(5)));
        assert_eq!(windows.due(at(5099)), Due::Nothing);
        assert!(windows.close(Loss::default(), HostCounters::default()).is_none());
        assert_eq!(windows.due(at(5100)), Due::Collect(Epoch(5)));
        assert_eq!(windows.due(at(5101)), Due::Nothing);
        let close = windows.close(Loss::default(), HostCounters::default()).unwrap();
        assert_eq!((close.epoch, close.suspended_ns), (Epoch(5), 0));
        assert_eq!((close.end_boot_ns - close.start_boot_ns) / 1_000_000, 5000);
        assert_eq!(close.realtime_offset_ns, 7);
        assert_eq!(windows.oldest(), Epoch(6));
    }

    #[test]
    fn no_epoch_is_skipped_nor_begun_before_the_last_was_read() {
        let mut windows = windows();
        assert_eq!(windows.due(at(60_000)), Due::Step(Epoch(6)));
        assert_eq!(windows.due(at(120_000)), Due::Collect(Epoch(5)));
        assert_eq!(windows.due(at(180_000)), Due::Nothing, "the rings are still being read");
        assert!(windows.close(Loss::default(), HostCounters::default()).is_some());
        assert_eq!(windows.due(at(180_000)), Due::Step(Epoch(7)));
    }

    #[test]
    fn a_ring_that_stands_still_holds_no_window_up_for_ever() {
        let mut windows = windows();
        windows.due(at(5000));
        assert!(!windows.is_overdue(at(60_000)), "its rows are not read yet");
        windows.due(at(5100));
        assert!(!windows.is_overdue(at(9999)));
        assert!(windows.is_overdue(at(10_000)));
        windows.close(Loss::default(), HostCounters::default()).unwrap();
        assert!(!windows.is_overdue(at(60_000)), "nothing is closing");
    }

    #[test]
    fn suspended_time_is_told() {
        let mut windows = windows();
        let woken = Now { boot_ns: 9_000_000_000, monotonic_ns: 5_000_000_000, real_ns: 0 };
        assert_eq!(windows.due(woken), Due::Step(Epoch(6)));
        let later = Now { boot_ns: 9_100_000_000, monotonic_ns: 5_100_000_000, real_ns: 0 };
        assert_eq!(windows.due(later), Due::Collect(Epoch(5)));
        let close = windows.close(Loss::default(), HostCounters::default()).unwrap();
        assert_eq!(close.suspended_ns, 4_000_000_000);
    }
}
