//! How far a program's windows go in normal life: conformal p-values of its measure, with a stated
//! extrapolation beyond the largest held-back value.
//!
//! The measure of a window is the forest's log-odds plus the neighbours' distance on a logarithmic
//! scale: unbounded, since a bounded score can't tell far from farther. Windows hang together for
//! minutes (autocorrelation .99), so that only the largest of each block of five minutes counts.
//! With B blocks held back of which b reach x, p of a block is (b + 1) / (B + 1) (conformal); above
//! the largest it falls further by (1 + (x - largest) / S)^-k, which is what is foretold of an
//! exponential tail of which k excesses that add up to S are all that is known: heavy while little
//! is, exponential later. That is the extrapolation, held to its word by the held-back hours
//! (`floors`). A surprise is that of an hour: -ln of p times the blocks in it.
//!
//! A program that repeats itself is known no better for it: blocks that look alike are one piece of
//! evidence, however many they are. How many there are is told by records, which a copy never sets:
//! of n blocks that are independent about ln n are larger than all before them, whatever they are
//! drawn from. So k records are worth e^k blocks, at most all there are. Beyond the largest value p
//! is that of so many, and the tail's scale is told by half as many values that differ.
//!
//! What life may still bring that nobody has seen is told by the hours in which it would have shown:
//! hours of the host that are no copies of each other. Each program that varies tells of them, by its
//! records, and errs by a factor of several; the one of which most seems known errs upwards, the more
//! programs there are the more, and one that is noisy whatever its host does would speak for all. So a
//! quarter of what was held back of those must be worth as much (an upper quartile finds nearly all of
//! 62 hours that differ, and few of a week that one hour was drawn for). A program that does the same
//! always tells nothing of it: among all programs a share would call a host of steady ones unknown for
//! ever. And who came later was not there: a program is known for the hours since it was first measured,
//! at most (`Tails::hours_of`), and one that was never measured for none.
//!
//! A window that is above the floor joins its tail no farther than a step beyond the largest there is, the
//! same for all of an hour: one burst makes nothing below it usual, and what a program does from now on is
//! usual after as many hours as it is steps away. What is below the floor joins as it is.

use std::collections::BTreeMap;

use hedgerow_event::{Subject, Workload};
use hedgerow_features::fair;
use serde::{Deserialize, Serialize};

/// Largest measures kept of a group; the count of all is exact.
pub const KEPT_MAX: usize = 256;
/// Groups with a tail of their own. Past them those of the owner of workloads that has most make room: first such
/// as are not judged by their own tail yet, of those the one that was measured longest ago.
const GROUPS_MAX: usize = 2048;
/// A group with fewer windows is judged by its workload, then by the host.
const WINDOWS_LEAST: u64 = 12;
/// The kernel's own counters have one window an epoch, and nobody else's to be judged by.
const KERNEL_WINDOWS_LEAST: u64 = 3;
/// Epochs of a block, whose windows hang together: five minutes.
pub const BLOCK_EPOCHS: u32 = 60;
const BLOCKS_PER_HOUR: f64 = 12.0;
/// What is held to be known of a tail before anything is: so many excesses of such a size. A
/// program that always does the same is not surprising at its first step.
const PRIOR_EXCESSES: f64 = 5.0;
const PRIOR_SCALE: f64 = 0.75;
/// Values at most whose excesses tell the scale of a tail.
const EXCESSES_MAX: usize = 16;
/// Measures that differ by less are the same.
const SAME: f32 = 0.1;
/// As far beyond the largest value, at most, one above the floor joins: a usual excess.
const STEP: f32 = 1.0;
const BLOCKS_OF_HOUR: u32 = 12;
const EPOCHS_PER_HOUR: f64 = 720.0;
/// A program of which so many blocks were larger than all before them varies.
const RECORDS_LEAST: u32 = 3;
/// Part of what was held back of programs that vary, which hours that are known must be known of.
const KNOWN_SHARE: f64 = 0.25;

/// The upper tail of one group's blocks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    windows: u64,
    /// Hours that were watched before its first window; 0 in what was saved without them.
    #[serde(default)]
    since: f64,
    /// Blocks that are over, and the largest measures of them, in descending order.
    blocks: u64,
    largest: Vec<f32>,
    /// Blocks that were larger than all before them; 0 in what was saved without it.
    #[serde(default)]
    records: u32,
    /// The running block and its largest measure.
    running: Option<(u32, f32)>,
    /// Hour in which something above the floor came last, and how far such may join in it.
    #[serde(default)]
    step: Option<(u32, f32)>,
    /// Whose it is, and the hours that were watched when it was measured last: for who makes room.
    #[serde(default)]
    workload: Option<Workload>,
    #[serde(default)]
    last: f64,
}

/// Tails of every subject, workload and of the host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tails {
    subjects: BTreeMap<String, Tail>,
    workloads: BTreeMap<Workload, Tail>,
    host: Tail,
    /// Hours that were watched since windows are held back; 0 in what was saved without them.
    #[serde(default)]
    watched: f64,
    /// Groups that had to go for others.
    #[serde(skip)]
    forgotten: u64,
}

impl Tail {
    /// How far something above the floor may join in a block; `judged_by` is the largest of those that it is
    /// judged by while it has no blocks of its own.
    fn limit(&mut self, block: u32, judged_by: Option<f32>) -> f32 {
        let hour = block / BLOCKS_OF_HOUR;
        match self.step {
            Some((then, limit)) if then == hour => limit,
            _ => {
                let largest = self.largest.first().copied().or(judged_by);
                let limit = largest.map_or(f32::INFINITY, |largest| largest + STEP);
                self.step = Some((hour, limit));
                limit
            }
        }
    }

    /// Lowest for who makes room first.
    fn rank(&self) -> (bool, u64) {
        (self.windows >= WINDOWS_LEAST, (self.last * EPOCHS_PER_HOUR) as u64)
    }

    fn largest(&self) -> Option<f32> {
        self.largest.first().copied().or(self.running.map(|(_, largest)| largest))
    }

    /// Part of its time in which it is measured; of what is younger than a day, of the day.
    fn duty(&self, watched: f64) -> f64 {
        let hours = (watched - self.since).max(watched.min(24.0));
        ((self.blocks + 1) as f64 / (BLOCKS_PER_HOUR * hours)).min(1.0)
    }

    fn add(&mut self, x: f64, block: u32) {
        self.end(block);
        self.windows += 1;
        let x = x as f32;
        let largest = self.running.map_or(x, |(_, largest)| largest.max(x));
        self.running = Some((block, largest));
    }

    /// Ends the running block where another one has begun.
    fn end(&mut self, block: u32) {
        let Some((running, largest)) = self.running.take_if(|(running, _)| *running != block)
        else {
            return;
        };
        if self.records == 0 && self.blocks > 0 {
            self.records = 1 + (self.blocks as f64).ln().round() as u32;
        }
        // What was cut to size says nothing of how far life goes.
        let hour = running / BLOCKS_OF_HOUR;
        let cut = self.step.is_some_and(|(then, limit)| then == hour && largest >= limit);
        if !cut && self.largest.first().is_none_or(|record| largest > record + SAME) {
            self.records += 1;
        }
        self.blocks += 1;
        let at = self.largest.partition_point(|kept| *kept > largest);
        if at < KEPT_MAX {
            self.largest.insert(at, largest);
            self.largest.truncate(KEPT_MAX);
        }
    }

    /// -ln of the probability that an hour reaches x.
    pub fn surprise(&self, x: f64) -> f64 {
        let Some((_, running)) = self.running else { return 0.0 };
        let reach = self.largest.partition_point(|kept| f64::from(*kept) >= x)
            + usize::from(f64::from(running) >= x);

        let seldom = (reach as f64 + 1.0) / (self.blocks as f64 + 2.0);
        let p = seldom.max(1.0 / (self.evidence() + 2.0));
        let largest = f64::from(self.largest.first().map_or(running, |kept| kept.max(running)));
        (self.far(x - largest) - (BLOCKS_PER_HOUR * p).ln()).max(0.0)
    }

    fn varies(&self) -> bool {
        self.records >= RECORDS_LEAST
    }

    /// Blocks that the ones held back are worth, of which each would tell something of its own.
    fn evidence(&self) -> f64 {
        let all = self.blocks as f64;
        if self.records == 0 { all } else { f64::from(self.records).exp().min(all) }
    }

    /// -ln of the probability that what exceeds the largest does so by as much as that.
    fn far(&self, beyond: f64) -> f64 {
        if beyond <= 0.0 {
            return 0.0;
        }
        // The upper half of what is known, later the largest of it: bursts have a tail of their own.
        let half = ((self.evidence() / 2.0).ceil() as usize).min(EXCESSES_MAX);
        let mut upper = self.largest.clone();
        upper.dedup_by(|a, b| (*a - *b).abs() < SAME);
        upper.truncate(half);
        let least = upper.last().copied().unwrap_or(0.0);
        let excesses = upper.iter().map(|x| f64::from(x - least)).sum::<f64>();
        let number = upper.len().saturating_sub(1) as f64 + PRIOR_EXCESSES;
        number * (beyond / (excesses + PRIOR_EXCESSES * PRIOR_SCALE)).ln_1p()
    }
}

impl Tails {
    /// Tails of what several runs held back: of each group the windows that there were, and the largest
    /// measure of each of its blocks.
    pub fn of_blocks(
        subjects: BTreeMap<String, (u64, Vec<f64>)>,
        workloads: BTreeMap<Workload, (u64, Vec<f64>)>,
        host: (u64, Vec<f64>),
    ) -> Self {
        let tail = |(windows, blocks): (u64, Vec<f64>)| {
            let mut tail = Tail::default();
            // No epoch has such a number: a block of later life is another one.
            let numbers = (0..u32::MAX).rev();
            numbers.zip(blocks).for_each(|(block, largest)| tail.add(largest, block));
            Tail { windows, ..tail }
        };
        Self {
            subjects: subjects.into_iter().map(|(name, held)| (name, tail(held))).collect(),
            workloads: workloads.into_iter().map(|(name, held)| (name, tail(held))).collect(),
            host: tail(host),
            // Until time is watched on.
            watched: 0.0,
            forgotten: 0,
        }
    }

    /// Adds time in which windows would have been held back.
    pub fn watch(&mut self, hours: f64) {
        if self.watched == 0.0 {
            // As far as what was saved without them tells.
            self.watched = self.host.blocks as f64 / BLOCKS_PER_HOUR;
        }
        self.watched += hours;
    }

    /// Holds back a window's measure; whether it is above the floor is told by `above`. The subject comes
    /// with its text.
    pub fn hold_back(
        &mut self,
        (subject, name): (&Subject, &str),
        x: f64,
        epoch: u32,
        above: bool,
    ) {
        let block = epoch / BLOCK_EPOCHS;
        let judged_by = above.then(|| self.of(subject, name)?.largest()).flatten();
        let watched = self.watched;
        let join = |tail: &mut Tail| {
            tail.end(block);
            let limit = if above { tail.limit(block, judged_by) } else { f32::INFINITY };
            tail.last = watched;
            tail.add(x.min(f64::from(limit)), block);
        };
        if let Some(own) = self.subjects.get_mut(name) {
            own.workload.get_or_insert_with(|| subject.workload.clone());
            join(own);
        } else {
            self.make_room();
            let workload = Some(subject.workload.clone());
            let mut made = Tail { since: watched, workload, ..Tail::default() };
            join(&mut made);
            self.subjects.insert(name.to_owned(), made);
        }
        // The kernel's own counters are like no program's.
        if subject.is_host() {
            return;
        }
        if let Some(own) = self.workloads.get_mut(&subject.workload) {
            join(own);
        } else {
            if self.workloads.len() >= GROUPS_MAX {
                let all = self.workloads.iter();
                let all = all.map(|(name, tail)| (name.owner(), tail.rank(), name.clone()));
                let gone = fair::make_room(all, fair::room(GROUPS_MAX));
                self.forgotten += gone.len() as u64;
                gone.iter().for_each(|name| drop(self.workloads.remove(name)));
            }
            join(self.workloads.entry(subject.workload.clone()).or_default());
        }
        join(&mut self.host);
    }

    fn make_room(&mut self) {
        if self.subjects.len() < GROUPS_MAX {
            return;
        }
        let all = self.subjects.iter();
        let all = all.map(|(name, tail)| {
            (tail.workload.as_ref().map(Workload::owner), tail.rank(), name.clone())
        });
        let gone = fair::make_room(all, fair::room(GROUPS_MAX));
        self.forgotten += gone.len() as u64;
        gone.iter().for_each(|name| drop(self.subjects.remove(name)));
    }

    /// Groups that had to go for others, since the start.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// How surprising a window's measure is, in nats; `None` while nothing was held back.
    pub fn surprise(&self, subject: &Subject, x: f64) -> Option<f64> {
        self.of(subject, &subject.text()).map(|tail| tail.surprise(x))
    }

    /// The tail that a subject is judged by, which is looked up by its text.
    pub fn of(&self, subject: &Subject, text: &str) -> Option<&Tail> {
        let enough = |tail: &&Tail| tail.windows >= WINDOWS_LEAST;
        let own = self.subjects.get(text);
        if subject.is_host() {
            return own.filter(|tail| tail.windows >= KERNEL_WINDOWS_LEAST);
        }
        own.filter(enough)
            .or_else(|| self.workloads.get(&subject.workload).filter(enough))
            .or(Some(&self.host).filter(enough))
    }

    /// Hours that differ from each other, as far as programs that vary tell of them.
    pub fn hours(&self) -> f64 {
        let worth = |tail: &Tail| (tail.evidence(), tail.blocks as f64);
        let mut known: Vec<(f64, f64)> =
            self.subjects.values().filter(|tail| tail.varies()).map(worth).collect();
        if known.is_empty() {
            known.extend(self.subjects.values().map(worth));
        }
        known.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut left = KNOWN_SHARE * known.iter().map(|(_, blocks)| blocks).sum::<f64>();
        let enough = known.iter().find(|(_, blocks)| {
            left -= blocks;
            left <= 0.0
        });
        enough.map_or(0.0, |(evidence, _)| evidence / BLOCKS_PER_HOUR)
    }

    /// Hours since a subject was first measured; none of one that never was.
    pub fn hours_of(&self, subject: &Subject) -> f64 {
        let own = self.subjects.get(&subject.text());
        own.map_or(0.0, |tail| self.watched - tail.since)
    }

    /// Subjects that have a tail.
    pub fn programs(&self) -> usize {
        self.subjects.len()
    }

    /// Of them, those that are measured at a time: names that are made up for a moment weigh as much.
    pub fn measured(&self) -> f64 {
        self.subjects.values().map(|tail| tail.duty(self.watched)).sum()
    }
}

#[cfg(test)]
mod tests;
