//! How often each kind of deed happens, by context, backing off from program to workload to host
//! to the catalogue's prior.
//!
//! Occurrences are counted by minutes in which there was one (incidence, so that volume adds
//! nothing), exposure in hours. For kind k, program p of workload w, T hours:
//!
//! - done before by the program: m_kwp / (T + 1)
//! - else the host's rate of contexts that never did it, (prior + D_k / 4) / (T + B_k), where D_k
//!   are the workloads that did: contexts that do a kind foretell others, repetitions don't
//!   (Pitman and Yor 1997: new tables depend on tables, not on customers). A known workload has its
//!   part of it, a workload never seen the whole.
//! - plus, where several programs of the workload did it, their part that comes from ever new
//!   programs, as on a build host: m_kw / (T + 1) * (D_kw - 1) / (m_kw + 1) / 2, of which a known
//!   program has its share.
//!
//! One program that does something once while it is learned so excuses itself, and nobody else.
//! Rates by context with back-off: Sanna Passino and Heard (2019) use the Pitman-Yor process on
//! authentication logs.

use std::collections::BTreeMap;

use hedgerow_event::{CATALOGUE, Class, Deed, DeedRow, Subject, Workload};
use serde::{Deserialize, Serialize};

/// Workloads with counts of their own. Past them a deed counts for nobody, and `refused` tells.
pub(super) const WORKLOADS_MAX: usize = 1024;
/// Programs of one workload that have counts of their own; those past them count for the workload.
pub(super) const PROGRAMS_MAX: usize = 1024;
/// Programs with counts of their own, of all kinds and workloads: floors are solved over them on the
/// loop that also denies. Those past them count for their workload, too.
pub(super) const CELLS_MAX: usize = 16_384;
/// Hours by which a context that did a kind before is held to be quieter than it was.
const SEEN_HOURS: f64 = 1.0;
/// Weight of a workload that does a kind, as a forecast of another that will, in occurrences.
const CONTEXT_WEIGHT: f64 = 0.25;
/// What is known after a month weighs half.
const HALF_LIFE_HOURS: f64 = 30.0 * 24.0;
/// Who has fewer left counts as one that never did it: else each name that a host ever had would foretell
/// others for good.
const MINUTES_LEAST: f64 = 0.5;

/// A program by its keyed hash: names would make the counts large.
pub type ProgramKey = u64;

/// Who did a deed, as far as its rate goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Context {
    pub workload: Workload,
    pub program: ProgramKey,
}

/// Minutes in which something happened, and the last one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Count {
    pub(super) minutes: f64,
    last: u64,
}

impl Count {
    pub(super) fn of(minutes: f64) -> Self {
        Self { minutes, last: 0 }
    }

    fn add(&mut self, minutes: Minutes) {
        let known = self.minutes != 0.0 && self.last == minutes.first;
        self.minutes += minutes.count as f64 - f64::from(u8::from(known));
        self.last = minutes.last;
    }
}

/// Minutes in which something was done, in their order: how many, however long it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Minutes {
    pub count: u64,
    first: u64,
    last: u64,
}

impl Minutes {
    pub fn of(minute: u64) -> Self {
        Self { count: 1, first: minute, last: minute }
    }

    pub fn add(&mut self, minute: u64) {
        if minute > self.last {
            self.count += 1;
            self.last = minute;
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) all: Count,
    pub(super) programs: BTreeMap<ProgramKey, Count>,
}

/// Rates of all kinds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Hours watched.
    pub(super) hours: f64,
    /// Hours watched since first-seen sets were frozen, in which alone something can be new.
    pub(super) hours_frozen: f64,
    pub(super) kinds: BTreeMap<Deed, BTreeMap<Workload, Counts>>,
    /// Programs known, by workload.
    pub(super) programs: BTreeMap<Workload, u32>,
    pub(super) refused: u64,
    /// Programs with counts of their own, of all kinds and workloads; counted once, and kept up.
    #[serde(skip)]
    pub(super) cells: Option<usize>,
}

/// The rate of all cells of one kind that are alike: (surprise of one of them in nats, the sum of
/// their rates an hour).
pub type Mass = (f64, f64);

impl Rates {
    /// Adds time that was watched.
    pub fn watch(&mut self, hours: f64, frozen: bool) {
        self.hours += hours;
        if frozen {
            self.hours_frozen += hours;
        }
        if self.hours > HALF_LIFE_HOURS {
            self.forget(0.5f64.powf(hours / HALF_LIFE_HOURS));
        }
    }

    fn forget(&mut self, factor: f64) {
        self.hours *= factor;
        self.hours_frozen *= factor;
        let keeps = |count: &mut Count| {
            count.minutes *= factor;
            count.minutes >= MINUTES_LEAST
        };
        for workloads in self.kinds.values_mut() {
            workloads.retain(|_, counts| {
                counts.programs.retain(|_, count| keeps(count));
                keeps(&mut counts.all)
            });
        }
        self.cells = None;
    }

    /// What is left of something that was counted so many watched hours ago.
    pub fn left_after(&self, hours: f64) -> f64 {
        // Nothing is forgotten in the first month.
        if self.hours < HALF_LIFE_HOURS { 1.0 } else { 0.5f64.powf(hours / HALF_LIFE_HOURS) }
    }

    /// What is known of the host's contexts: programs by workload.
    pub fn know(&mut self, programs: BTreeMap<Workload, u32>) {
        self.programs = programs;
    }

    /// Counts a deed that nobody suspects.
    pub fn count(&mut self, deed: Deed, context: &Context, minute: u64) {
        self.count_all(deed, context, Minutes::of(minute));
    }

    /// The same of each minute in which it was done.
    pub fn count_all(&mut self, deed: Deed, context: &Context, minutes: Minutes) {
        let cells = match self.cells {
            Some(cells) => cells,
            None => self.cells(),
        };
        self.cells = Some(cells);
        let workloads = self.kinds.entry(deed).or_default();
        if workloads.len() >= WORKLOADS_MAX && !workloads.contains_key(&context.workload) {
            self.refused += 1;
            return;
        }
        let counts = workloads.entry(context.workload.clone()).or_default();
        counts.all.add(minutes);
        if let Some(own) = counts.programs.get_mut(&context.program) {
            own.add(minutes);
        } else if cells < CELLS_MAX && counts.programs.len() < PROGRAMS_MAX {
            counts.programs.entry(context.program).or_default().add(minutes);
            self.cells = Some(cells + 1);
        }
    }

    /// Minutes in which a kind of deed was done, and the workloads that did it.
    pub fn seen(&self, deed: Deed) -> (f64, usize) {
        let workloads = self.kinds.get(&deed);
        let minutes = workloads.into_iter().flatten().map(|(_, counts)| counts.all.minutes).sum();
        (minutes, workloads.map_or(0, BTreeMap::len))
    }

    fn cells(&self) -> usize {
        let counts = self.kinds.values().flat_map(BTreeMap::values);
        counts.map(|counts| counts.programs.len()).sum()
    }

    /// Programs that are known.
    pub fn programs(&self) -> usize {
        self.programs.values().sum::<u32>() as usize
    }

    /// Deeds that found no room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Hours watched.
    pub fn hours(&self) -> f64 {
        self.hours
    }

    fn exposure(&self, deed: Deed) -> f64 {
        if deed.class() == Class::Novelty { self.hours_frozen } else { self.hours }
    }

    /// Deeds an hour expected of contexts that never did one, all together.
    fn base(&self, deed: Deed) -> f64 {
        let prior = prior(deed);
        let contexts = self.kinds.get(&deed).map_or(0, BTreeMap::len) as f64;
        (prior.occurrences + CONTEXT_WEIGHT * contexts) / (self.exposure(deed) + prior.hours)
    }

    /// The part of a workload's rate that comes from programs that never did it.
    fn newcomers(&self, deed: Deed, counts: &Counts) -> f64 {
        let programs = counts.programs.len() as f64;
        let rate = counts.all.minutes / (self.exposure(deed) + SEEN_HOURS);
        rate * (programs - 1.0).max(0.0) / (counts.all.minutes + 1.0) / 2.0
    }

    /// Deeds an hour expected of one context. `without` are minutes of it that are to be left out:
    /// those of an hour that is judged by the others.
    pub fn per_hour(&self, deed: Deed, context: &Context, without: f64) -> f64 {
        let exposure = self.exposure(deed);
        let workloads = self.programs.len() as f64 + 1.0;
        let known = self.programs.get(&context.workload);
        let mut rate = self.base(deed) / if known.is_some() { workloads } else { 1.0 };
        if let Some(counts) = self.kinds.get(&deed).and_then(|kind| kind.get(&context.workload)) {
            let own = counts.programs.get(&context.program).map_or(0.0, |own| own.minutes);
            if own - without > 0.0 {
                return rate + (own - without) / (exposure + SEEN_HOURS);
            }
            rate += self.newcomers(deed, counts);
        }
        rate
    }

    /// How surprising a deed is, in nats: -ln of the probability that its context has one within
    /// an hour.
    pub fn surprise(&self, deed: Deed, context: &Context, without: f64) -> f64 {
        surprise(self.per_hour(deed, context, without))
    }

    /// Whether a context's workload ever did a kind.
    pub fn has_done(&self, deed: Deed, context: &Context) -> bool {
        let counts = self.kinds.get(&deed).and_then(|kind| kind.get(&context.workload));
        counts.is_some_and(|counts| counts.all.minutes > 0.0)
    }

    /// What deeds are expected to bring, by how surprising they are: single deeds, of contexts that
    /// did them before and of those that didn't.
    pub fn masses(&self, of: impl Fn(&DeedRow) -> bool) -> Vec<Mass> {
        let mut masses = Vec::new();
        let workloads = self.programs.len() as f64 + 1.0;
        for row in CATALOGUE.iter().filter(|row| of(row)) {
            let base = self.base(row.deed);
            masses.push((surprise(base / workloads), base));
            let exposure = self.exposure(row.deed) + SEEN_HOURS;
            for counts in self.kinds.get(&row.deed).into_iter().flat_map(BTreeMap::values) {
                let newcomers = self.newcomers(row.deed, counts);
                if newcomers > 0.0 {
                    masses.push((surprise(newcomers + base / workloads), newcomers));
                }
                for count in counts.programs.values() {
                    let rate = count.minutes / exposure;
                    masses.push((surprise(rate + base / workloads), rate));
                }
            }
        }
        masses
    }
}

/// -ln(1 - exp(-rate)): the surprise of one or more events where `rate` are expected.
pub fn surprise(per_hour: f64) -> f64 {
    -(-(-per_hour.max(f64::MIN_POSITIVE)).exp_m1()).ln()
}

struct Prior {
    occurrences: f64,
    hours: f64,
}

/// The catalogue's rate, worth a week of watching for what is grave by itself, and two hours for
/// what is merely new: how much of that a host brings is soon seen.
fn prior(deed: Deed) -> Prior {
    let row = deed.row();
    let hours = if row.class == Class::Intrinsic { 168.0 } else { 2.0 };
    Prior { occurrences: row.per_day / 24.0 * hours, hours }
}

impl Context {
    pub fn new(subject: &Subject, program: ProgramKey) -> Self {
        Self { workload: subject.workload.clone(), program }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(workload: &str, program: ProgramKey) -> Context {
        Context { workload: Workload::new(workload), program }
    }

    /// A host with ten services of three programs each, watched for some hours.
    fn host(hours: f64) -> Rates {
        let mut rates = Rates::default();
        rates.know((0..10).map(|at| (Workload::new(format!("s{at}")), 3)).collect());
        rates.watch(hours, true);
        rates
    }

    #[test]
    fn one_deed_while_learning_excuses_its_program_and_no_other() {
        let mut rates = host(0.2);
        let others = [context("s0", 2), context("s1", 7), context("new", 9)];
        let surprise = |rates: &Rates, of: &Context| rates.surprise(Deed::ExecMemory, of, 0.0);
        let before = others.each_ref().map(|other| surprise(&rates, other));
        rates.count(Deed::ExecMemory, &context("s0", 1), 3);
        assert!(surprise(&rates, &context("s0", 1)) < 1.0);
        for (other, before) in others.iter().zip(before) {
            let after = surprise(&rates, other);
            assert!(after > before - 2.0 && after > 5.0, "{other:?}: {after} after {before}");
        }
    }

    #[test]
    fn volume_does_not_count_and_minutes_do() {
        let (mut often, mut once) = (host(1.0), host(1.0));
        let here = context("s0", 1);
        (0..1000).for_each(|_| often.count(Deed::NewPeer, &here, 5));
        once.count(Deed::NewPeer, &here, 5);
        assert_eq!(often, once);
        (0..30).for_each(|minute| often.count(Deed::NewPeer, &here, minute));
        assert!(often.surprise(Deed::NewPeer, &here, 0.0) < 1e-3);
    }

    /// Workloads that each lived for a minute foretell others for as long as they are remembered.
    #[test]
    fn what_many_did_once_and_nobody_since_is_forgotten() {
        let mut rates = host(24.0);
        let never = |rates: &Rates| rates.per_hour(Deed::ExecDrift, &context("new", 1), 0.0);
        let before = never(&rates);
        for at in 0..1000 {
            rates.count(Deed::ExecDrift, &context(&format!("job{at}.scope"), 1), 60 * at);
        }
        assert!(never(&rates) > 10.0 * before);
        rates.watch(HALF_LIFE_HOURS, true);
        rates.watch(2.0 * HALF_LIFE_HOURS, true);
        assert!(never(&rates) < 2.0 * before);
        assert_eq!((rates.seen(Deed::ExecDrift), rates.cells()), ((0.0, 0), 0));
    }

    /// However long a deed is done again and again, what is kept of it is as much as of one, and counts as
    /// much as if each minute were counted by itself.
    #[test]
    fn many_minutes_are_counted_at_once() {
        let here = context("s0", 1);
        let (mut one, mut all) = (host(1.0), host(1.0));
        for range in [3..9, 8..20, 40..41u64] {
            let mut minutes = Minutes::of(range.start);
            range.clone().for_each(|minute| minutes.add(minute));
            range.for_each(|minute| one.count(Deed::Trace, &here, minute));
            all.count_all(Deed::Trace, &here, minutes);
        }
        assert_eq!(one.kinds, all.kinds);
        assert_eq!((all.cells, all.cells()), (Some(1), 1));
    }

    #[test]
    fn a_build_host_is_not_surprised_by_its_next_program() {
        let mut rates = host(0.5);
        for minute in 0..30 {
            rates.count(Deed::ExecWritable, &context("s0", 100 + minute), minute);
        }
        let next = rates.surprise(Deed::ExecWritable, &context("s0", 999), 0.0);
        assert!(next < 1.0, "{next}");
        let elsewhere = rates.surprise(Deed::ExecWritable, &context("s1", 999), 0.0);
        assert!(elsewhere > 8.0, "{elsewhere}");
    }

    #[test]
    fn without_itself_an_hour_is_as_surprising_as_before() {
        let mut rates = host(10.0);
        let here = context("s0", 1);
        let before = rates.surprise(Deed::Secret, &here, 0.0);
        rates.count(Deed::Secret, &here, 3);
        let after = rates.surprise(Deed::Secret, &here, 1.0);
        // That a workload does it at all still tells something.
        assert!((before - after) < 2.0 && before >= after, "{before} {after}");
    }

    /// Ever new programs in ever new workloads, as who owns a container can make them.
    #[test]
    fn what_floors_are_solved_over_is_bounded() {
        let mut rates = host(1.0);
        for at in 0..40_000u64 {
            rates.count(Deed::NewProgram, &context(&format!("s{}", at % 100), at), at);
        }
        assert_eq!(rates.cells(), CELLS_MAX);
        assert!(rates.surprise(Deed::NewProgram, &context("s7", 99_999), 0.0) < 1.0);
    }

    #[test]
    fn masses_add_up_to_what_is_expected() {
        let mut rates = host(24.0);
        (0..48).for_each(|at| rates.count(Deed::NewPeer, &context("s0", 1), at * 30));
        let sum: f64 =
            rates.masses(|row| row.class == Class::Novelty).iter().map(|(_, rate)| rate).sum();
        let prior: f64 = CATALOGUE
            .iter()
            .filter(|row| row.class == Class::Novelty)
            .map(|row| rates.base(row.deed))
            .sum();
        assert!((sum - prior - 48.0 / 25.0).abs() < 1e-9, "{sum} {prior}");
    }
}
