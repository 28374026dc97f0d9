//! The drain thread: rings to events, epochs stepped and closed. It owns the sensor; when it ends,
//! everything is detached.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TryRecvError, bounded};
use hedgerow_event::{Epoch, EpochClose, HostCounters, Loss};
use libbpf_rs::MapCore;

use crate::{
    Error, Item, Result,
    clock::Now,
    control::{Shared, Stats},
    epoch::{Due, Windows},
    held::Held,
    host_counters::HostCounterReader,
    naming::Learned,
    rings::{Drained, Rings, Signals},
    rows, support,
    wire_event::WireEvent,
};

/// Time between two drains: as long as a CPU that writes this much takes for a quarter of its ring, at
/// least and at most so long. Each drain wakes the consumer, too, which on a calm host is most of what
/// both cost.
const BYTES_A_SECOND: u64 = 64 << 20;
const INTERVAL_MIN: Duration = Duration::from_millis(2);
const INTERVAL_MAX: Duration = Duration::from_millis(10);
/// No record takes more of a ring than this, but for those with long paths and arguments.
const RECORD_BYTES: u32 = 512;
/// Little came where it filled no more than this part of a ring.
const CALM_PART: u32 = 16;
/// How long a blocked send sleeps before it looks whether to stop.
const SEND_WAIT: Duration = Duration::from_millis(50);
/// Priority of the thread: a consumer that is starved of CPU loses records.
const NICE: i32 = -15;

/// The counters of the network stack, read aside while a window closes. Its thread is made at the start:
/// later there may be none to be had.
struct Host {
    asks: Sender<()>,
    counters: Receiver<HostCounters>,
    reading: bool,
}

impl Host {
    fn start() -> Result<Self> {
        let mut reader = HostCounterReader::default();
        reader.read();
        let (asks, asked) = bounded::<()>(1);
        let (sender, counters) = bounded(1);
        let thread = std::thread::Builder::new().name("hedgerow-host".into());
        thread
            .spawn(move || {
                for () in asked {
                    if sender.send(reader.read().counters).is_err() {
                        return;
                    }
                }
            })
            .map_err(Error::io("host counters' thread"))?;
        Ok(Self { asks, counters, reading: false })
    }
    /// What is still being read is the next window's.
    fn ask(&mut self) {
        self.reading = self.reading || self.asks.try_send(()).is_ok();
    }
    fn is_done(&self) -> bool {
        !self.reading || !self.counters.is_empty()
    }
    /// What was read; one that still reads is left at it.
    fn take(&mut self) -> HostCounters {
        let counters = self.counters.try_recv();
        self.reading &= counters == Err(TryRecvError::Empty);
        counters.unwrap_or_default()
    }
}

/// What was lost between two looks at the counters without a thread to charge it with.
fn add_unseen(loss: &mut Loss, before: &Stats, now: &Stats) {
    let since = |of: fn(&Stats) -> u64| of(now).saturating_sub(of(before));
    // Who has no row is seen by nothing else either.
    loss.lost += since(|stats| stats.uncharged)
        + since(|stats| stats.calls_uncounted)
        + since(|stats| stats.skipped);
    loss.limited += since(|stats| stats.flow_peers_refused);
}

fn interval(ring_bytes: u32) -> Duration {
    let quarter = u64::from(ring_bytes / 4) * 1_000_000_000 / BYTES_A_SECOND;
    Duration::from_nanos(quarter).clamp(INTERVAL_MIN, INTERVAL_MAX)
}

fn now() -> Result<Now> {
    Now::read().map_err(Error::io("clock"))
}

/// When the next drain is.
#[derive(Debug, Clone, Copy)]
struct Pace {
    busy: Duration,
    calm: Duration,
    /// More records than this are many.
    many: u64,
}

impl Pace {
    fn new(ring_bytes: u32, calm: Option<Duration>) -> Self {
        let busy = interval(ring_bytes);
        let many = u64::from(ring_bytes / CALM_PART / RECORD_BYTES);
        Self { busy, calm: calm.unwrap_or(busy).max(busy), many }
    }

    fn after(self, received: u64) -> Duration {
        if received > self.many { self.busy } else { self.calm }
    }
}

/// What the thread works with.
pub struct Drain {
    shared: Arc<Shared>,
    sender: Sender<Item>,
    rings: Rings,
    signals: Signals,
    windows: Windows,
    held: Held,
    /// Where the rings stood when the closing window's rows had been read.
    marks: Option<(Epoch, Vec<u64>)>,
    host: Host,
    /// Of what the closing window is made, something was shed.
    closing_shed: bool,
    /// As of the last window's close.
    stats: Stats,
    drains: bool,
    pace: Pace,
    /// Until the next drain, by what the last one found.
    pause: Duration,
}

impl Drain {
    pub fn new(
        shared: Arc<Shared>,
        sender: Sender<Item>,
        windows: Windows,
        (drains, calm): (bool, Option<Duration>),
    ) -> Result<Self> {
        // SAFETY: plain numbers; a refusal leaves the priority as it is.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
        let ring_bytes = shared.loaded.rings.iter().map(MapCore::max_entries).min();
        Ok(Self {
            pause: Duration::ZERO,
            pace: Pace::new(ring_bytes.unwrap_or(0), calm),
            rings: Rings::new(&shared.loaded.rings)?,
            signals: Signals::new(&shared.loaded.signals)?,
            shared,
            sender,
            windows,
            held: Held::default(),
            marks: None,
            // As the drain thread does once it has begun, which is too late for this one.
            host: support::lowered(Host::start).map_err(Error::io("host counters' thread"))??,
            closing_shed: false,
            stats: Stats::default(),
            drains,
        })
    }

    /// Runs until it is told to stop or nobody listens; closes the last window.
    pub fn run(mut self) -> Result<()> {
        while !self.shared.stop.load(Ordering::Acquire) {
            let signals = self.signals.wait(self.pause);
            if !self.pump(signals)? {
                return Ok(());
            }
            let due = self.windows.due(now()?);
            self.act(due)?;
            if !self.try_close()? {
                return Ok(());
            }
            self.shared.turns.fetch_add(1, Ordering::Relaxed);
        }
        self.finish()
    }

    fn act(&mut self, due: Due) -> Result<()> {
        match due {
            Due::Nothing => {}
            Due::Step(epoch) => {
                self.step(epoch)?;
                self.host.ask();
            }
            Due::Collect(epoch) => self.collect(epoch)?,
        }
        Ok(())
    }

    /// Drains what there is, names it, sends it. False when nobody listens any more.
    ///
    /// `others` are records that came by other ways, and go behind.
    fn pump(&mut self, others: Vec<WireEvent>) -> Result<bool> {
        let now = now()?;
        let drained = if self.drains { self.rings.drain(now.boot_ns) } else { Drained::default() };
        self.shared.received.fetch_add(drained.received, Ordering::Relaxed);
        let pause = self.pace.after(drained.received);
        self.pause = if drained.more { Duration::ZERO } else { pause };
        let mut records = drained.records;
        records.extend(others);
        if records.is_empty() && drained.undecodable == 0 && self.held.is_empty() {
            return Ok(true);
        }
        let (events, used, learned) = {
            let mut naming = self.shared.naming();
            let (namer, resolver) = &mut *naming;
            namer.rename(resolver);
            (0..drained.undecodable).for_each(|_| namer.undecodable());
            for record in records {
                if let Some(event) = namer.name(record, resolver) {
                    self.held.push(event, namer.take_awaited(), now.boot_ns);
                }
            }
            let digests = resolver.digests();
            let events =
                self.held.release(now.boot_ns, |wanted, last| digests.answer(wanted, last));
            (events, namer.take_used(), namer.take_learned())
        };
        self.learn(learned)?;
        if !used.is_empty() && !self.send(Item::Used(used)) {
            return Ok(false);
        }
        Ok(events.is_empty() || self.send(Item::Events(events)))
    }

    /// Sends what waits for a digest: its window closes.
    fn flush(&mut self) -> bool {
        let events = {
            let mut naming = self.shared.naming();
            let digests = naming.1.digests();
            self.held.flush(|wanted, last| digests.answer(wanted, last))
        };
        events.is_empty() || self.send(Item::Events(events))
    }

    fn learn(&self, learned: Vec<Learned>) -> Result<()> {
        let mut moved = false;
        for fact in learned {
            moved |= self.shared.learn(fact)?;
        }
        if moved {
            self.shared.renew_identities();
        }
        Ok(())
    }

    /// Begins an epoch.
    fn step(&mut self, epoch: Epoch) -> Result<()> {
        self.closing_shed = self.shared.thins_windows();
        self.shared.step(epoch);
        self.take_flows(self.windows.oldest())
    }

    /// Takes what the open flows did in the epoch that has ended: they have no second bucket that
    /// could wait.
    fn take_flows(&mut self, ended: Epoch) -> Result<()> {
        self.shared.set_closing(ended);
        let mut records = Vec::new();
        if let Some(flows) = &mut *self.shared.flows() {
            flows
                .interim(|bytes| {
                    let each = bytes.chunks_exact(size_of::<hedgerow_bpf::wire::wire_flow>());
                    records.extend(each.filter_map(|flow| crate::wire_event::decode(flow).ok()));
                })
                .map_err(Error::io("reading flows"))?;
        }
        self.pump(records)?;
        Ok(())
    }

    /// Reads the rows of the epoch and notes how far the rings must be read before it closes.
    fn collect(&mut self, epoch: Epoch) -> Result<()> {
        let mut records = Vec::new();
        self.shared.set_closing(epoch);
        rows::take_closing(&self.shared.loaded.close, &mut records)?;
        self.marks = Some((epoch, self.rings.produced()));
        self.pump(records)?;
        Ok(())
    }

    /// Whether everything of the closing window has come.
    fn is_complete(&self) -> bool {
        let reached = |(_, marks): &(Epoch, Vec<u64>)| !self.drains || self.rings.reached(marks);
        self.marks.as_ref().is_none_or(reached) && self.host.is_done()
    }

    /// Closes the window whose records have all come, or that has waited for them long enough.
    /// False when nobody listens any more.
    fn try_close(&mut self) -> Result<bool> {
        let Some((epoch, _)) = &self.marks else { return Ok(true) };
        let epoch = *epoch;
        let complete = self.is_complete();
        if !complete && !self.windows.is_overdue(now()?) {
            return Ok(true);
        }
        self.marks = None;
        let mut records = Vec::new();
        // What was held back to be put in order is older than this turn.
        self.pump(Vec::new())?;
        let loaded = &self.shared.loaded;
        rows::take_spilled(&loaded.spilled, &loaded.spilled_rest, epoch.0, &mut records)?;
        self.pump(records)?;
        if !self.flush() {
            return Ok(false);
        }
        let reports = self.shared.profiles().take(epoch);
        for report in reports {
            if !self.send(Item::Grams(report)) {
                return Ok(false);
            }
        }
        let mut loss = {
            let mut naming = self.shared.naming();
            let (namer, resolver) = &mut *naming;
            self.shared.refused.note(resolver);
            namer.close(self.windows.current(), resolver)
        };
        let stats = self.shared.stats()?;
        self.shared.watch(&self.stats, &stats)?;
        if !complete {
            // One record at least: how many come behind it is not known.
            loss.late += 1;
            self.shared.overdue.fetch_add(1, Ordering::Relaxed);
        }
        add_unseen(&mut loss, &self.stats, &stats);
        self.stats = stats;
        let counters = self.host.take();
        match self.windows.close(loss, counters) {
            Some(close) => {
                Ok(self.send(Item::Close(EpochClose { shed: self.closing_shed, ..close })))
            }
            None => Ok(true),
        }
    }

    /// Detaches, then delivers what has been counted: a window that was closing, and the last one,
    /// which ends now. No epoch begins in the kernel: what ends while this goes on is of the last.
    fn finish(&mut self) -> Result<()> {
        self.shared.detach_calls();
        self.drains = true;
        loop {
            let oldest = self.windows.oldest();
            let last = oldest == self.windows.current();
            if last && self.windows.end(now()?) {
                self.closing_shed = self.shared.thins_windows();
                self.take_flows(oldest)?;
            }
            if self.marks.is_none() {
                self.windows.collect_now();
                self.collect(oldest)?;
            }
            if last {
                self.shared.detach();
            }
            while !self.is_complete() && !self.windows.is_overdue(now()?) {
                self.pump(Vec::new())?;
                std::thread::sleep(INTERVAL_MIN);
            }
            if !self.try_close()? || last {
                return Ok(());
            }
        }
    }

    /// Waits for room; gives up when nobody listens or the probe is stopped with a full queue.
    fn send(&self, item: Item) -> bool {
        let mut item = item;
        loop {
            match self.sender.send_timeout(item, SEND_WAIT) {
                Ok(()) => return true,
                Err(SendTimeoutError::Disconnected(_)) => return false,
                Err(SendTimeoutError::Timeout(back)) => {
                    if self.shared.stop.load(Ordering::Acquire) {
                        return false;
                    }
                    // Who takes it stands still, not this.
                    self.shared.turns.fetch_add(1, Ordering::Relaxed);
                    item = back;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_rings_are_drained_more_often() {
        let millis = |kib: u32| interval(kib << 10).as_millis();
        assert_eq!([4, 256, 1024, 4096, 1 << 20].map(millis), [2, 2, 3, 10, 10]);
    }

    #[test]
    fn while_little_comes_rings_are_drained_less_often_where_it_is_asked_for() {
        let calm = Some(Duration::from_millis(20));
        let millis =
            |kib: u32, calm, received| Pace::new(kib << 10, calm).after(received).as_millis();
        assert_eq!([0, 64, 65].map(|received| millis(512, calm, received)), [20, 20, 2]);
        assert_eq!([0, 65].map(|received| millis(512, None, received)), [2, 2]);
        // Never more often than a busy host.
        assert_eq!(millis(4096, Some(Duration::ZERO), 0), 10);
    }

    #[test]
    fn what_no_row_could_be_made_for_is_lost() {
        let before = Stats {
            uncharged: 2,
            calls_uncounted: 5,
            skipped: 1,
            flow_peers_refused: 1,
            ..Stats::default()
        };
        let now = Stats {
            uncharged: 3,
            calls_uncounted: 9,
            skipped: 3,
            flow_peers_refused: 4,
            ..Stats::default()
        };
        let mut loss = Loss::default();
        add_unseen(&mut loss, &before, &now);
        assert_eq!((loss.lost, loss.late, loss.limited), (7, 0, 3));
        assert!(!loss.is_complete());
    }
}
