//! Which hours of the week each workload was watched in. Pure.
//!
//! Weeks have a shape: what normal life brings on Sunday night can't be known on Friday. A workload
//! is covered once each of the 168 hours of the week was watched since it was first seen.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use hedgerow_event::Workload;
use serde::{Deserialize, Serialize};

/// Hours in a week; the first begins on Thursday, 00:00 UTC, as the Unix epoch does.
pub const HOURS: u32 = 168;
/// Days since a workload was first seen before it is covered.
pub const DAYS_MIN: u32 = 7;
/// An hour counts once it was watched for so long, in seconds: half of it.
const WATCHED_S_MIN: u32 = 1800;
/// Workloads that are followed. When full, [`ROOM`] of them make room and are counted.
const WORKLOADS_MAX: usize = 4096;
/// So many that a flood of names doesn't have all of them sorted each time.
const ROOM: usize = WORKLOADS_MAX / 64;

const NS_PER_HOUR: i64 = 3_600_000_000_000;

/// What was watched, for all workloads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coverage {
    /// By hour of the week: the last hour (since the Unix epoch) that was watched there; 0 is never.
    watched: Vec<u32>,
    /// The running hour since the Unix epoch, and how much of it was watched.
    hour: u32,
    seconds: u32,
    /// Hour since the Unix epoch in which a workload was first seen.
    since: BTreeMap<Workload, u32>,
    /// Hour in which it was seen last, in this run.
    #[serde(skip)]
    last: HashMap<Workload, u32>,
    /// Workloads that made room for others, in this run.
    #[serde(skip)]
    forgotten: u64,
}

impl Default for Coverage {
    fn default() -> Self {
        Self {
            watched: vec![0; HOURS as usize],
            hour: 0,
            seconds: 0,
            since: BTreeMap::new(),
            last: HashMap::new(),
            forgotten: 0,
        }
    }
}

/// How much of a week a workload was watched for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Covered {
    /// Whole days since it was first seen.
    pub days: u32,
    /// Hours of the week that were watched since, of [`HOURS`].
    pub hours: u32,
}

impl Coverage {
    /// Adds `seconds` that were watched until now, with the workloads seen meanwhile; those that are
    /// `kept` make room for none. True once in an hour that counts: it is worth saving.
    pub fn watch<'a>(
        &mut self,
        now_wall_ns: i64,
        seconds: u32,
        workloads: impl IntoIterator<Item = &'a Workload>,
        kept: impl Fn(&Workload) -> bool,
    ) -> bool {
        let hour = hour(now_wall_ns);
        for workload in workloads {
            self.see(workload, hour, &kept);
        }
        if hour != self.hour {
            (self.hour, self.seconds) = (hour, 0);
        }
        let before = self.seconds;
        self.seconds = before.saturating_add(seconds).min(3600);
        let counts = before < WATCHED_S_MIN && self.seconds >= WATCHED_S_MIN;
        if counts && let Some(watched) = self.watched.get_mut((hour % HOURS) as usize) {
            // A clock that is set back takes nothing away.
            *watched = (*watched).max(hour);
        }
        counts
    }

    fn see(&mut self, workload: &Workload, hour: u32, kept: impl Fn(&Workload) -> bool) {
        if !self.since.contains_key(workload) {
            if self.since.len() >= WORKLOADS_MAX {
                self.make_room(hour, kept);
            }
            if self.since.len() >= WORKLOADS_MAX {
                self.forgotten += 1;
                return;
            }
            // Before a clock without a battery is set it is 1970 or so: then hours that were watched long
            // before this workload came would count as its own.
            let latest = || self.watched.iter().copied().max().unwrap_or(0);
            let since = if hour < EARLIEST { hour.max(latest()) } else { hour };
            self.since.insert(workload.clone(), since);
        }
        match self.last.get_mut(workload) {
            Some(last) => *last = hour,
            None => drop(self.last.insert(workload.clone(), hour)),
        }
    }

    /// Forgets who is younger than a week first, of those who was seen longest ago, and of those the
    /// youngest: whoever makes up names loses his own.
    fn make_room(&mut self, hour: u32, kept: impl Fn(&Workload) -> bool) {
        let others = self.since.iter().filter(|(workload, _)| !kept(workload));
        let mut order: Vec<_> = others
            .map(|(workload, since)| {
                let last = self.last.get(workload).copied().unwrap_or(0);
                let is_old = hour.saturating_sub(*since) >= HOURS;
                (is_old, last, Reverse(*since), workload.clone())
            })
            .collect();
        order.sort_unstable();
        for (.., workload) in order.into_iter().take(ROOM) {
            self.since.remove(&workload);
            self.last.remove(&workload);
            self.forgotten += 1;
        }
    }

    /// Workloads that made room for others, or found none; their week begins anew once they are seen
    /// again.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// How much of a week a workload was watched for by now; nothing of one never seen.
    pub fn of(&self, workload: &Workload, now_wall_ns: i64) -> Covered {
        let Some(since) = self.since.get(workload) else { return Covered::default() };
        let watched = self.watched.iter().filter(|hour| **hour != 0 && *hour >= since).count();
        Covered {
            days: hour(now_wall_ns).saturating_sub(*since) / 24,
            hours: u32::try_from(watched).unwrap_or(HOURS),
        }
    }

    /// Workloads seen, in order of their names.
    pub fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.since.keys()
    }

    /// What was read back can be indexed by hour.
    pub(crate) fn is_sound(&self) -> bool {
        self.watched.len() == HOURS as usize
    }
}

/// The first hour of 2024: a clock that says less is not set.
const EARLIEST: u32 = 473_352;

fn hour(wall_ns: i64) -> u32 {
    u32::try_from(wall_ns / NS_PER_HOUR).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 495_000 * NS_PER_HOUR;

    fn web() -> Workload {
        Workload::new("web.service")
    }

    /// Watches an hour in steps of a minute.
    fn watch(coverage: &mut Coverage, hour: i64, minutes: u32) -> usize {
        let step = |minute| START + hour * NS_PER_HOUR + i64::from(minute) * 60_000_000_000;
        (0..minutes).filter(|m| coverage.watch(step(*m), 60, [&web()], |_| false)).count()
    }

    fn covered(coverage: &Coverage, hours: i64) -> Covered {
        coverage.of(&web(), START + hours * NS_PER_HOUR)
    }

    /// As the policy has it.
    fn is_whole(covered: Covered) -> bool {
        crate::policy::missing(hedgerow_event::Maturity::Mature, covered).is_empty()
    }

    #[test]
    fn a_week_without_a_gap_is_covered_and_not_an_hour_less() {
        let mut coverage = Coverage::default();
        for hour in 0..167 {
            assert_eq!(watch(&mut coverage, hour, 60), 1, "worth saving once an hour");
        }
        assert_eq!(covered(&coverage, 167), Covered { days: 6, hours: 167 });
        watch(&mut coverage, 167, 60);
        assert_eq!(covered(&coverage, 167).hours, 168);
        assert!(!is_whole(covered(&coverage, 167)), "not seven days yet");
        assert!(is_whole(covered(&coverage, 168)));
    }

    #[test]
    fn a_clock_that_is_not_set_yet_makes_nobody_old() {
        let mut coverage = Coverage::default();
        for hour in 0..169 {
            watch(&mut coverage, hour, 60);
        }
        let late = Workload::new("late.service");
        coverage.watch(NS_PER_HOUR, 60, [&late], |_| false);
        let of = coverage.of(&late, START + 170 * NS_PER_HOUR);
        assert!(of.hours <= 1 && of.days == 0, "{of:?}");
        assert!(is_whole(covered(&coverage, 170)));
        // One that was ahead for an hour holds nobody back who comes once it is right again.
        let later = Workload::new("later.service");
        watch(&mut coverage, 10_000, 60);
        coverage.watch(START + 171 * NS_PER_HOUR, 60, [&later], |_| false);
        assert!(coverage.of(&later, START + 340 * NS_PER_HOUR).days >= 7);
    }

    #[test]
    fn an_hour_missed_is_made_up_a_week_later() {
        let mut coverage = Coverage::default();
        for hour in (0..168).filter(|hour| *hour != 50) {
            watch(&mut coverage, hour, 60);
        }
        assert!(!is_whole(covered(&coverage, 200)));
        // Half of it is needed.
        watch(&mut coverage, 168 + 50, 29);
        assert!(!is_whole(covered(&coverage, 219)));
        watch(&mut coverage, 168 + 50, 31);
        assert!(is_whole(covered(&coverage, 219)));
    }

    #[test]
    fn a_workload_that_came_later_has_its_own_week() {
        let mut coverage = Coverage::default();
        for hour in 0..300 {
            watch(&mut coverage, hour, 60);
        }
        let db = Workload::new("db.service");
        let now = START + 300 * NS_PER_HOUR;
        assert_eq!(coverage.of(&db, now), Covered::default());
        coverage.watch(now, 5, [&db], |_| false);
        assert_eq!(coverage.of(&db, now), Covered { days: 0, hours: 0 });
        assert!(is_whole(coverage.of(&web(), now)));
    }

    #[test]
    fn a_flood_of_names_costs_who_makes_it_and_who_comes_later_has_its_week() {
        let (ordered, db) = (Workload::new("ordered.service"), Workload::new("db.service"));
        let mut coverage = Coverage::default();
        coverage.watch(START, 5, [&web(), &ordered], |_| false);
        let begun = START + 300 * NS_PER_HOUR;
        let name = |number| Workload::new(format!("{number}"));
        for number in 0..2 * WORKLOADS_MAX {
            coverage.watch(begun, 5, [&web(), &name(number)], |one| *one == ordered);
        }
        assert!(coverage.workloads().count() <= WORKLOADS_MAX);
        assert!(coverage.forgotten() >= WORKLOADS_MAX as u64);
        let later = begun + NS_PER_HOUR;
        coverage.watch(later, 5, [&db], |_| false);
        for number in 0..WORKLOADS_MAX {
            let more = name(2 * WORKLOADS_MAX + number);
            coverage.watch(later + NS_PER_HOUR, 5, [&more, &db], |one| *one == ordered);
        }
        let days = |one| coverage.of(one, later + 10 * 24 * NS_PER_HOUR).days;
        assert_eq!([days(&db), days(&ordered), days(&web())], [10, 22, 22]);
    }
}
