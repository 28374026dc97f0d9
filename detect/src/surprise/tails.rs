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

use std::collections::BTreeMap;

use hedgerow_event::{Subject, Workload};
use serde::{Deserialize, Serialize};

/// Largest measures kept of a group; the count of all is exact.
pub const KEPT_MAX: usize = 256;
/// Groups with a tail of their own; a subject past them is judged by its workload, then the host.
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
}

impl Tail {
    fn add(&mut self, x: f64, block: u32) {
        self.windows += 1;
        let x = x as f32;
        match &mut self.running {
            Some((running, largest)) if *running == block => *largest = largest.max(x),
            running => {
                if let Some((_, largest)) = running.replace((block, x)) {
                    if self.records == 0 && self.blocks > 0 {
                        self.records = 1 + (self.blocks as f64).ln().round() as u32;
                    }
                    if self.largest.first().is_none_or(|record| largest > record + SAME) {
                        self.records += 1;
                    }
                    self.blocks += 1;
                    let at = self.largest.partition_point(|kept| *kept > largest);
                    if at < KEPT_MAX {
                        self.largest.insert(at, largest);
                        self.largest.truncate(KEPT_MAX);
                    }
                }
            }
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

    /// Holds back a window's measure.
    pub fn hold_back(&mut self, subject: &Subject, x: f64, epoch: u32) {
        let block = epoch / BLOCK_EPOCHS;
        let name = subject.text();
        if let Some(own) = self.subjects.get_mut(&name) {
            own.add(x, block);
        } else if self.subjects.len() < GROUPS_MAX {
            let made = Tail { since: self.watched, ..Tail::default() };
            self.subjects.entry(name).or_insert(made).add(x, block);
        }
        // The kernel's own counters are like no program's.
        if subject.is_host() {
            return;
        }
        let workload = &subject.workload;
        if let Some(own) = self.workloads.get_mut(workload) {
            own.add(x, block);
        } else if self.workloads.len() < GROUPS_MAX {
            self.workloads.entry(workload.clone()).or_default().add(x, block);
        }
        self.host.add(x, block);
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

    /// Subjects that are measured.
    pub fn programs(&self) -> usize {
        self.subjects.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hedgerow_event::Program;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

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
                    tails.hold_back(&subject(), level.exp(), epoch);
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
        (0..40).for_each(|epoch| tails.hold_back(&subject(), 1.0, epoch * 12));
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
            tails.hold_back(&subject(), if epoch % 120 < 60 { 4.2 } else { -0.7 }, epoch);
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
                tails.hold_back(&subject, largest(program, block), block * BLOCK_EPOCHS);
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
            tails.hold_back(&subject(), 1.0, hour * 720);
            if hour >= 7 {
                tails.hold_back(&later, 1.0, hour * 720);
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
                        tails.hold_back(&subject(), lived, block * 60 + epoch as u32);
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
