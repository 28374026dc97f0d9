//! Deeds of amount: how much left, and for how little, how often one source called, how many files
//! were renamed or processes started, and how regularly a peer is called. Learning raises what is
//! usual; later life doesn't.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use hedgerow_event::{
    Deed, Event, Flow, FlowDirection, FlowPhase, HostCounters, Row, Subject, calls::Class,
};
use hedgerow_features::{Baseline, ItemKey, Set};
use serde::{Deserialize, Serialize};

use super::{
    bounded::Bounded,
    firsts::Firsts,
    most::{By, Most},
};

/// Amounts of one kind that are added up at a time. Past them the least of the workload that has most are
/// begun anew.
pub const COUNTERS_MAX: usize = 16_384;
/// Pairs of a program and an address first seen after learning. Past them those make room of the workload
/// that has most, by the direction in which it met them, which are farthest from being told.
pub const PEERS_MAX: usize = 8_192;
const OUTFLOW_FLOOR: u64 = 1_000_000;
const NAME_QUERIES_FLOOR: u64 = 64_000;
const CALLS_FLOOR: u64 = 100;
const REFUSED_FLOOR: u64 = 50;
const FLOOD_FLOOR: u64 = 500;
const RENAMES_FLOOR: u64 = 100;
const FORKS_FLOOR: u64 = 100;
/// Bytes for each byte that was asked; less than so many bytes in all are no answer worth counting.
const ANSWERS_FLOOR: u64 = 100;
const ANSWERED_LEAST: u64 = 250_000;
const NAME_QUERIES_PORT: u16 = 53;
const EPOCH_NS: u64 = 5_000_000_000;
const MINUTES_NS: u64 = 300_000_000_000;
const HOUR_NS: u64 = 3_600_000_000_000;
/// Starts of flows between which there are the gaps that a beacon is judged by.
const STARTS: usize = 9;
const GAP_LEAST_NS: u64 = 1_000_000_000;
/// Standard deviation of the gaps over their mean.
const GAP_VARIATION_MOST: f64 = 0.15;

/// Whether a deed is one of amount, known by what is usual and not by having been done before.
pub fn is_amount(deed: Deed) -> bool {
    use Deed::{Answers, DnsOutflow, Flood, Forks, OneSource, Outflow, Rewrite, Scan};
    matches!(deed, Outflow | DnsOutflow | OneSource | Rewrite | Scan | Flood | Forks | Answers)
}

#[derive(Debug, Clone, Copy, Default)]
struct Counter {
    total: u64,
    told: u64,
    /// Of what leaves: what came for it; of processes: connections that have none yet.
    asked: u64,
}

impl Counter {
    /// Whether it is to be told: beyond the limit, and again at each doubling.
    fn tells(&mut self, limit: u64) -> bool {
        let tells = self.total > limit && self.total / 2 >= self.told;
        if tells {
            self.told = self.total;
        }
        tells
    }

    /// Bytes for each byte that was asked, where they are worth counting.
    fn answers(&self) -> Option<u64> {
        (self.total >= ANSWERED_LEAST).then(|| self.total / self.asked.max(1))
    }
}

/// Amounts of a period, by kind, by whom and of what.
#[derive(Debug, Clone, Default)]
struct Counters {
    period: u64,
    kinds: BTreeMap<Deed, Bounded<u64, (u64, u64), Counter>>,
    /// Of periods that are over.
    evicted: u64,
}

impl Counters {
    fn add(&mut self, deed: Deed, by: By, of: u64, amount: u64) -> &mut Counter {
        let new = || Bounded::new(COUNTERS_MAX, |counter: &Counter| counter.total);
        let counters = self.kinds.entry(deed).or_insert_with(new);
        let counter = counters.entry(by.workload, (by.own, of));
        counter.total = counter.total.saturating_add(amount);
        counter
    }

    fn step(&mut self, period: u64) {
        if self.period != period {
            self.period = period;
            self.evicted = self.evicted();
            self.kinds.clear();
        }
    }

    fn evicted(&self) -> u64 {
        self.evicted + self.kinds.values().map(|counters| counters.evicted).sum::<u64>()
    }
}

/// An address first seen after learning.
#[derive(Debug, Clone, Default)]
struct Newcomer {
    out: Counter,
    /// Of its answers: the most that was told.
    answers: Counter,
    starts: [u64; STARTS],
    started: usize,
}

impl Newcomer {
    /// How far it is on the way to be told: its starts or its bytes, in thousandths. Who fills the table
    /// with addresses that he calls once has none of them outlast what leaves little by little.
    fn way(&self) -> u64 {
        let starts = self.started.min(STARTS) as u64 * 1000 / STARTS as u64;
        starts.max(self.out.total / (OUTFLOW_FLOOR / 1000)).min(1000)
    }

    /// Bytes that it gets for each byte that it sent, where that is to be told.
    fn answers(&mut self, limit: u64) -> Option<u64> {
        self.answers.total = self.out.answers()?;
        self.answers.tells(limit).then_some(self.answers.total)
    }

    /// Notes a start; the mean gap in nanoseconds where the last ones were regular.
    fn start(&mut self, now_ns: u64) -> Option<f64> {
        self.starts.rotate_left(1);
        self.starts[STARTS - 1] = now_ns;
        self.started += 1;
        // Each gap is judged once.
        if self.started < STARTS || !(self.started - STARTS).is_multiple_of(STARTS - 1) {
            return None;
        }
        let gaps = self.starts.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        let gaps: Vec<u64> = gaps.collect();
        let mean = gaps.iter().sum::<u64>() as f64 / gaps.len() as f64;
        let squares: f64 = gaps.iter().map(|gap| (*gap as f64 - mean).powi(2)).sum();
        let variation = (squares / gaps.len() as f64).sqrt() / mean;
        let regular = variation <= GAP_VARIATION_MOST;
        (regular && gaps.iter().all(|gap| *gap >= GAP_LEAST_NS)).then_some(mean)
    }
}

#[derive(Debug, Clone)]
struct Running {
    epoch: Counters,
    minutes: Counters,
    hour: Counters,
    newcomers: Bounded<(u64, FlowDirection), (u64, u64), Newcomer>,
}

impl Default for Running {
    fn default() -> Self {
        Self {
            epoch: Counters::default(),
            minutes: Counters::default(),
            hour: Counters::default(),
            newcomers: Bounded::new(PEERS_MAX, Newcomer::way),
        }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Amounts {
    most: Most,
    #[serde(skip)]
    running: Running,
}

/// What is known beside the amounts.
pub struct Context<'a> {
    pub items: ItemKey,
    pub event: &'a Event,
    pub baseline: &'a Baseline,
    pub firsts: &'a Firsts,
    pub learning: bool,
}

impl Context<'_> {
    fn subject(&self) -> &Subject {
        &self.event.actor.subject
    }

    /// Whether the workload never had the address, in that direction.
    fn is_newcomer(&self, direction: FlowDirection, address: IpAddr) -> bool {
        let hash = self.items.address(address);
        let known = self.baseline.known(&self.subject().workload);
        let knows = |set| known.is_none_or(|known| known.contains(set, hash));
        match direction {
            FlowDirection::Outbound => !knows(Set::Peers),
            FlowDirection::Inbound => {
                !knows(Set::Sources)
                    && self.firsts.is_first(
                        self.items,
                        self.subject(),
                        Deed::NewSource,
                        &address.to_string(),
                    )
            }
        }
    }
}

impl Amounts {
    /// Adds what another run taught.
    pub fn absorb(&mut self, other: Self) {
        self.most.absorb(other.most);
    }

    pub fn observe_flow(
        &mut self,
        context: &Context<'_>,
        flow: &Flow,
        done: &mut Vec<(Deed, Arc<str>)>,
    ) {
        if !flow.has_peer() {
            return;
        }
        let by = By::program(context.items, context.subject());
        let address = flow.peer.address;
        let of = context.items.address(address);
        let outbound = flow.direction == FlowDirection::Outbound;
        // The host itself is no new source of its own.
        let called = !outbound && flow.phase == FlowPhase::Start && !address.is_loopback();
        if !outbound && flow.phase == FlowPhase::Start {
            self.running.epoch.add(Deed::Forks, by, 0, 0).asked += 1;
        }
        if outbound && flow.peer.port == NAME_QUERIES_PORT && flow.bytes_out > 0 {
            let told = self.hour(context, Deed::DnsOutflow, by, 0, flow.bytes_out);
            let what = |total| format!("{} to port 53 in an hour", size(total)).into();
            done.extend(told.map(|total| (Deed::DnsOutflow, what(total))));
        }
        if outbound && flow.phase == FlowPhase::Failed {
            let told = self.minutes(context, Deed::Scan, by, 0, 1, REFUSED_FLOOR);
            let what = |total| format!("{total} connections that failed in five minutes").into();
            done.extend(told.map(|total| (Deed::Scan, what(total))));
        }
        if context.learning {
            self.learn_outflow(by, of, flow);
            if called {
                self.minutes(context, Deed::OneSource, by, of, 1, CALLS_FLOOR);
            }
            return;
        }
        if !context.is_newcomer(flow.direction, address) {
            return;
        }
        if called
            && let Some(total) = self.minutes(context, Deed::OneSource, by, of, 1, CALLS_FLOOR)
        {
            let what = format!("{total} connections from {address} in five minutes");
            done.push((Deed::OneSource, what.into()));
        }
        let limit = self.most.limit(Deed::Outflow, by, OUTFLOW_FLOOR);
        let answers = self.most.limit(Deed::Answers, by, ANSWERS_FLOOR);
        let owner = (by.workload, flow.direction);
        let newcomer = self.running.newcomers.entry(owner, (by.own, of));
        newcomer.out.total = newcomer.out.total.saturating_add(flow.bytes_out);
        newcomer.out.asked = newcomer.out.asked.saturating_add(flow.bytes_in);
        if newcomer.out.tells(limit) {
            let what = format!("{} to {address}", size(newcomer.out.total));
            done.push((Deed::Outflow, what.into()));
        }
        if !outbound
            && !address.is_loopback()
            && let Some(times) = newcomer.answers(answers)
        {
            let sent = size(newcomer.out.total);
            let what = format!("{times} times what it sent, {sent} to {address}");
            done.push((Deed::Answers, what.into()));
        }
        // A peer that doesn't answer is called, too.
        let starts = matches!(flow.phase, FlowPhase::Start | FlowPhase::Failed);
        if outbound
            && starts
            && let Some(gap_ns) = newcomer.start(context.event.time_boot_ns)
        {
            let what = format!("{address} every {:.0} s", gap_ns / 1e9);
            done.push((Deed::Beacon, what.into()));
        }
    }

    /// Learns what leaves for an address in an hour, and for how little.
    fn learn_outflow(&mut self, by: By, of: u64, flow: &Flow) {
        let counter = self.running.hour.add(Deed::Outflow, by, of, flow.bytes_out);
        counter.asked = counter.asked.saturating_add(flow.bytes_in);
        let Counter { total, .. } = *counter;
        if flow.bytes_out > 0 {
            self.most.learn(Deed::Outflow, by, total);
        }
        if flow.direction == FlowDirection::Inbound
            && !flow.peer.address.is_loopback()
            && let Some(times) = counter.answers()
        {
            self.most.learn(Deed::Answers, by, times);
        }
    }

    /// A process that was forked, other than one for each connection. What somebody has done who logged
    /// in, or a job of the clock, starts as many as it has work for: told is who `serves` connections.
    pub fn observe_fork(
        &mut self,
        context: &Context<'_>,
        serves: bool,
        done: &mut Vec<(Deed, Arc<str>)>,
    ) {
        let by = By::program(context.items, context.subject());
        let counter = self.running.epoch.add(Deed::Forks, by, 0, 0);
        if counter.asked > 0 {
            counter.asked -= 1;
            return;
        }
        counter.total += 1;
        if !context.learning && !serves {
            return;
        }
        let told = told(&mut self.most, counter, Deed::Forks, by, FORKS_FLOOR, context.learning);
        let what = |total| format!("{total} processes in 5 s").into();
        done.extend(told.map(|total| (Deed::Forks, what(total))));
    }

    pub fn observe_row(
        &mut self,
        context: &Context<'_>,
        row: &Row,
        done: &mut Vec<(Deed, Arc<str>)>,
    ) {
        let renames = u64::from(row.classes[Class::Rename.index()]);
        if renames == 0 {
            return;
        }
        let (program, workload) = (
            By::program(context.items, context.subject()),
            By::workload(context.items, context.subject()),
        );
        let told = self.minutes(context, Deed::Rewrite, program, 0, renames, RENAMES_FLOOR);
        let together = self.minutes(context, Deed::Rewrite, workload, 0, renames, RENAMES_FLOOR);
        if let Some(total) = told {
            done.push((Deed::Rewrite, format!("{total} renames in five minutes").into()));
        } else if let Some(total) = together {
            let what = format!("{total} renames in five minutes{TOGETHER}");
            done.push((Deed::Rewrite, what.into()));
        }
    }

    /// What the kernel counted in an epoch of segments that nobody took; what is to be told of it.
    pub fn observe_counters(
        &mut self,
        items: ItemKey,
        counters: &HostCounters,
        learning: bool,
    ) -> Option<Arc<str>> {
        let HostCounters { syn_cookies, listen_overflows, closed_ports, .. } = counters;
        let untaken: u64 =
            [syn_cookies, listen_overflows, closed_ports].into_iter().flatten().sum();
        if untaken == 0 {
            return None;
        }
        let by = By::program(items, &Subject::host());
        let counter = self.running.minutes.add(Deed::Flood, by, 0, untaken);
        let total = told(&mut self.most, counter, Deed::Flood, by, FLOOD_FLOOR, learning)?;
        Some(format!("{total} connections that nobody took in five minutes").into())
    }

    /// Adds to a five-minute amount; the total where it is to be told.
    fn minutes(
        &mut self,
        context: &Context<'_>,
        deed: Deed,
        by: By,
        of: u64,
        amount: u64,
        floor: u64,
    ) -> Option<u64> {
        let counter = self.running.minutes.add(deed, by, of, amount);
        told(&mut self.most, counter, deed, by, floor, context.learning)
    }

    /// Adds to an hour's bytes; the total where it is to be told.
    fn hour(
        &mut self,
        context: &Context<'_>,
        deed: Deed,
        by: By,
        of: u64,
        amount: u64,
    ) -> Option<u64> {
        let counter = self.running.hour.add(deed, by, of, amount);
        told(&mut self.most, counter, deed, by, NAME_QUERIES_FLOOR, context.learning)
    }

    /// Takes the amount that an object tells for usual in its workload.
    pub fn accept(&mut self, items: ItemKey, subject: &Subject, deed: Deed, what: &str) {
        if let Some(amount) = amount_of(what) {
            self.most.accept(deed, by_of(items, subject, what), amount);
        }
    }

    /// Takes back what was accepted, and with it what the program itself was learned to do.
    pub fn forget(&mut self, items: ItemKey, subject: &Subject, deed: Deed, what: &str) {
        self.most.forget(deed, by_of(items, subject, what));
    }

    /// Whether the amount that an object tells is no more than usual.
    pub fn covers(&self, items: ItemKey, subject: &Subject, deed: Deed, what: &str) -> bool {
        let limit = self.most.limit(deed, by_of(items, subject, what), 0);
        amount_of(what).is_some_and(|amount| amount <= limit)
    }

    /// Begins the next five minutes and the next hour where an epoch ends in them.
    pub fn close(&mut self, end_boot_ns: u64) {
        self.running.epoch.step(end_boot_ns / EPOCH_NS);
        self.running.minutes.step(end_boot_ns / MINUTES_NS);
        self.running.hour.step(end_boot_ns / HOUR_NS);
    }

    /// Forgets what is being added up.
    pub fn forget_running(&mut self) {
        self.running = Running::default();
    }

    /// Begins the next five minutes of the same hour.
    pub fn next_minutes(&mut self) {
        let next = self.running.epoch.period + 1;
        self.running.epoch.step(next);
        let next = self.running.minutes.period + 1;
        self.running.minutes.step(next);
    }

    pub fn refused(&self) -> u64 {
        let Running { epoch, minutes, hour, newcomers } = &self.running;
        epoch.evicted()
            + minutes.evicted()
            + hour.evicted()
            + newcomers.evicted
            + self.most.refused()
    }
}

/// Ends what is told of a workload's programs as a whole.
const TOGETHER: &str = " by its workload";

/// Whose amount a text tells.
fn by_of(items: ItemKey, subject: &Subject, what: &str) -> By {
    if what.ends_with(TOGETHER) {
        By::workload(items, subject)
    } else {
        By::program(items, subject)
    }
}

/// Learns a running total, or tells it where it is beyond what was learned.
fn told(
    most: &mut Most,
    counter: &mut Counter,
    deed: Deed,
    by: By,
    floor: u64,
    learning: bool,
) -> Option<u64> {
    if learning {
        most.learn(deed, by, counter.total);
        return None;
    }
    counter.tells(most.limit(deed, by, floor)).then_some(counter.total)
}

const UNITS: [(&str, u64); 3] = [("KB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000)];

/// Bytes for people, rounded up so that an accepted amount covers what was meant.
fn size(bytes: u64) -> String {
    let fits = UNITS.iter().find(|(_, unit)| bytes < 10_000 * unit);
    let (name, unit) = fits.copied().unwrap_or(UNITS[2]);
    format!("{} {name}", bytes.div_ceil(unit))
}

/// The amount that a text begins with.
fn amount_of(what: &str) -> Option<u64> {
    let mut words = what.split(' ');
    let number: u64 = words.next()?.parse().ok()?;
    let word = words.next()?;
    let unit = UNITS.iter().find(|(name, _)| *name == word).map_or(1, |(_, unit)| *unit);
    Some(number.saturating_mul(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_back_as_no_less() {
        for bytes in [1, 999, 64_001, 9_999_999, 10_000_000, 123_456_789_012, u64::MAX] {
            let back = amount_of(&size(bytes)).unwrap_or_default();
            assert!(back >= bytes && back <= bytes.saturating_add(bytes / 5).max(1000), "{bytes}");
        }
        assert_eq!(size(12_000_000), "12 MB");
        assert_eq!(amount_of("132 connections from 192.0.2.7"), Some(132));
        assert_eq!(amount_of("a lot"), None);
    }
}
