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
mod tests {
    #![allow(clippy::unwrap_used)]
    use hedgerow_event::Program;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    impl Tails {
        fn hold(&mut self, subject: &Subject, x: f64, epoch: u32, above: bool) {
            self.hold_back((subject, &subject.text()), x, epoch, above);
        }
    }

    fn subject() -> Subject {
        Subject::new(Workload::new("web.service"), Program::new("/usr/bin/web"))
    }

    /// Hours of windows that hang together, autocorrelation .99, with what their highest measure
    /// was worth: e^-v of them are worth v or more, whether an hour was watched or a week.
    #[test]
    fn hours_are_as_surprising_as_they_are_rare() {
        let (mut young, mut old, lives) = ([0.0; 2], [0.0; 2], 300);
        for seed in 0..lives {
            let mut rng = SmallRng::seed_from_u64(seed);
            let (mut tails, mut level) = (Tails::default(), 0.0);
            for hour in 0..40u32 {
                let mut highest = 0.0f64;
                // One epoch of ten: the others are much the same.
                for epoch in (hour * 720..(hour + 1) * 720).step_by(10) {
                    level = 0.9 * level + 0.44 * rng.gen_range(-1.7..1.7f64);
                    let nats = tails.surprise(&subject(), level.exp()).unwrap_or(0.0);
                    highest = highest.max(nats);
                    tails.hold(&subject(), level.exp(), epoch, false);
                }
                let counts = if hour == 1 { &mut young } else { &mut old };
                if hour == 1 || hour >= 30 {
                    counts[0] += f64::from(highest >= 2.0) / lives as f64;
                    counts[1] += f64::from(highest >= 4.0) / lives as f64;
                }
            }
        }
        old = old.map(|share| share / 10.0);
        for (shares, most) in [(young, 2.5), (old, 1.3)] {
            assert!(shares[0] <= most * (-2.0f64).exp(), "{shares:?}");
            assert!(shares[1] <= most * (-4.0f64).exp(), "{shares:?}");
        }
        // It isn't blind, either.
        assert!(old[0] >= 0.3 * (-2.0f64).exp(), "{old:?}");
    }

    #[test]
    fn a_constant_program_is_not_surprising_by_a_little_and_a_stranger_is_judged_by_its_host() {
        let mut tails = Tails::default();
        assert_eq!(tails.surprise(&subject(), 1.0), None);
        (0..40).for_each(|epoch| tails.hold(&subject(), 1.0, epoch * 12, false));
        assert!(tails.surprise(&subject(), 1.2).unwrap() < 1.0);
        let stranger = Subject::new(Workload::new("new.service"), Program::new("/bin/x"));
        assert!(tails.surprise(&stranger, 1.0).unwrap() < 0.1);
        assert!(tails.surprise(&stranger, 19.0).unwrap() > 7.0);
    }

    /// One that ran once or twice a minute, and now runs thrice.
    #[test]
    fn a_program_that_does_one_of_a_few_things_is_not_known_by_how_often_it_did_them() {
        let mut tails = Tails::default();
        for epoch in 0..2400 {
            tails.hold(&subject(), if epoch % 120 < 60 { 4.2 } else { -0.7 }, epoch, false);
        }
        assert!(tails.surprise(&subject(), 9.0).unwrap() < 6.0);
        assert!(tails.surprise(&subject(), 60.0).unwrap() > 9.0);
    }

    /// Hours that are known of programs with blocks of their own: `largest` of one in a block of an hour.
    fn hours(programs: usize, hours: u32, largest: &mut dyn FnMut(usize, u32) -> f64) -> f64 {
        let mut tails = Tails::default();
        for program in 0..programs {
            let workload = Workload::new(format!("s{program}.service"));
            let subject = Subject::new(workload, Program::new("/usr/bin/web"));
            for block in 0..=12 * hours {
                tails.hold(&subject, largest(program, block), block * BLOCK_EPOCHS, false);
            }
        }
        tails.hours()
    }

    #[test]
    fn hours_are_known_by_programs_that_vary_and_not_by_the_one_of_which_most_seems_known() {
        const PROGRAMS: usize = 100;
        let mut rng = SmallRng::seed_from_u64(4);
        let mut fresh = || {
            // The largest of sixty.
            let most = rng.gen_range(0.0f64..1.0).powf(1.0 / 60.0);
            -(1.0 - most).max(1e-12).ln()
        };
        let different = hours(PROGRAMS, 62, &mut |_, _| fresh());
        assert!(different > 50.0, "{different}");
        // A week for which an hour was drawn again and again, in pieces of ten minutes.
        let hour: Vec<Vec<f64>> =
            (0..PROGRAMS).map(|_| (0..12).map(|_| fresh()).collect()).collect();
        let mut draw = SmallRng::seed_from_u64(5);
        let drawn: Vec<usize> = (0..=7 * 24 * 6).map(|_| 2 * draw.gen_range(0..6)).collect();
        let lived = |program: usize, block: u32| {
            hour[program][drawn[block as usize / 2] + block as usize % 2]
        };
        let copies = hours(PROGRAMS, 7 * 24, &mut |program, block| lived(program, block));
        assert!(copies < 10.0, "{copies}");
        let and_noise = hours(PROGRAMS, 7 * 24, &mut |program, block| match program {
            0 => fresh(),
            _ => lived(program, block),
        });
        assert!(and_noise < 10.0, "{and_noise}");
        // Steady programs say nothing, so that the one that isn't is believed.
        let steady = hours(21, 62, &mut |program, _| if program == 0 { fresh() } else { 1.0 });
        assert!(steady > 10.0, "{steady}");
    }

    #[test]
    fn a_program_is_known_since_it_was_first_measured() {
        let later = Subject::new(Workload::new("late.service"), Program::new("/usr/bin/late"));
        let mut tails = Tails::default();
        for hour in 0..10 {
            tails.watch(1.0);
            tails.hold(&subject(), 1.0, hour * 720, false);
            if hour >= 7 {
                tails.hold(&later, 1.0, hour * 720, false);
            }
        }
        assert_eq!((tails.hours_of(&subject()), tails.hours_of(&later)), (9.0, 2.0));
        let stranger = Subject::new(Workload::new("new.service"), Program::new("/bin/x"));
        assert_eq!(tails.hours_of(&stranger), 0.0);
        // What was saved without the hours has those that its blocks tell of.
        let mut old = Tails { watched: 0.0, ..tails };
        old.subjects.values_mut().for_each(|tail| tail.since = 0.0);
        let blocks = old.host.blocks as f64 / BLOCKS_PER_HOUR;
        old.watch(1.0);
        assert_eq!(old.hours_of(&subject()), blocks + 1.0);
    }

    /// A program with a level of its own that is known for days, and the same after one burst.
    #[test]
    fn a_burst_makes_nothing_below_it_usual_and_what_stays_is_usual_after_some_hours() {
        let mut rng = SmallRng::seed_from_u64(3);
        let mut tails = Tails::default();
        let mut live = |tails: &mut Tails, blocks: std::ops::Range<u32>| {
            for block in blocks {
                tails.watch(1.0 / 12.0);
                let x = -rng.gen_range(1e-3f64..1.0).ln() / 2.0;
                tails.hold(&subject(), x, block * BLOCK_EPOCHS, false);
            }
        };
        live(&mut tails, 0..24);
        let floor = 6.6;
        let surprise = |tails: &Tails, x: f64| tails.surprise(&subject(), x).unwrap();
        for epoch in 24 * BLOCK_EPOCHS..25 * BLOCK_EPOCHS {
            let above = surprise(&tails, 12.0) >= floor;
            tails.hold(&subject(), 12.0, epoch, above);
        }
        live(&mut tails, 25..24 * 12 * 4);
        assert!(surprise(&tails, 11.5) > floor, "{}", surprise(&tails, 11.5));
        // Work that it has from now on is told for hours, not for days.
        let mut above = 0;
        for block in 24 * 12 * 4..24 * 12 * 5 {
            let is_above = surprise(&tails, 12.0) >= floor;
            above += u32::from(is_above);
            tails.hold(&subject(), 12.0, block * BLOCK_EPOCHS, is_above);
        }
        assert!((13..=144).contains(&above), "{above} blocks");
    }

    /// Names that are made up by the thousand: a program that came later has a tail, those that live keep
    /// theirs, and neither the hours that are known nor how many programs there are moves by much.
    #[test]
    fn names_that_are_made_up_fill_nothing() {
        let of = |workload: &str, at: usize| {
            Subject::new(Workload::new(workload), Program::new(format!("memfd:{at}")))
        };
        let mut rng = SmallRng::seed_from_u64(6);
        let mut tails = Tails::default();
        let mut live = |tails: &mut Tails, blocks: std::ops::Range<u32>, made: usize| {
            for block in blocks {
                tails.watch(1.0 / 12.0);
                for program in 0..20 {
                    let x = -rng.gen_range(1e-3f64..1.0).ln();
                    tails.hold(&of("web.service", program), x, block * BLOCK_EPOCHS, false);
                }
                for at in 0..made {
                    let name = of("job.service", block as usize * made + at);
                    tails.hold(&name, 1.0, block * BLOCK_EPOCHS, false);
                }
            }
        };
        live(&mut tails, 0..24 * 12, 0);
        let (hours, programs) = (tails.hours(), tails.measured());
        live(&mut tails, 24 * 12..25 * 12, 250);
        assert!(tails.programs() <= GROUPS_MAX && tails.forgotten() > 0);
        assert!(tails.hours() > 0.7 * hours, "{} of {hours}", tails.hours());
        let moved = (tails.measured() / programs).ln();
        assert!(moved < 0.5, "{moved} nats");
        let later = of("later.service", 1);
        (0..24).for_each(|at| tails.hold(&later, 1.0, (400 + at) * BLOCK_EPOCHS, false));
        assert_eq!(tails.of(&later, &later.text()).map(|tail| tail.windows), Some(24));
        assert!((0..20).all(|at| tails.hours_of(&of("web.service", at)) > 24.0));
    }

    /// A quarter of an hour that is lived again and again is known no better after a day than after an
    /// hour; a day that is none is.
    #[test]
    fn what_repeats_itself_is_known_no_better_for_it() {
        const LIVES: u64 = 20;
        let fresh = |rng: &mut SmallRng| -rng.gen_range(1e-3f64..1.0).ln();
        let after = |hours: u32, repeats: bool| {
            let of = |seed: u64| -> [f64; 2] {
                let mut rng = SmallRng::seed_from_u64(seed);
                let quarter: Vec<f64> = (0..180).map(|_| fresh(&mut rng)).collect();
                let mut tails = Tails::default();
                for block in 0..hours * 12 {
                    let from = rng.gen_range(0..120);
                    for epoch in 0..60 {
                        let lived = if repeats { quarter[from + epoch] } else { fresh(&mut rng) };
                        tails.hold(&subject(), lived, block * 60 + epoch as u32, false);
                    }
                }
                [tails.surprise(&subject(), 16.0).unwrap(), tails.hours()]
            };
            let sum = (0..LIVES).map(of).fold([0.0; 2], |sum, [a, b]| [sum[0] + a, sum[1] + b]);
            sum.map(|sum| sum / LIVES as f64)
        };
        let ([hour, _], [day, copies], [other, own]) =
            (after(1, true), after(24, true), after(24, false));
        assert!(copies < 1.0 && own > 6.0, "{copies} and {own} hours of 24");
        println!(
            "{hour:.1} nats after an hour, {day:.1} after a day of it, {other:.1} after another"
        );
        assert!(day < hour + 1.0, "{day} after {hour}");
        assert!(other > day + 2.0, "{other} and {day}");
    }
}
