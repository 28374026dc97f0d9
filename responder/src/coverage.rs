//! Which hours of the week each workload was watched in. Pure.
//!
//! Weeks have a shape: what normal life brings on Sunday night can't be known on Friday. A workload
//! is covered once each of the 168 hours of the week was watched since it was first seen.

use std::collections::BTreeMap;

use hedgerow_event::Workload;
use serde::{Deserialize, Serialize};

/// Hours in a week; the first begins on Thursday, 00:00 UTC, as the Unix epoch does.
pub const HOURS: u32 = 168;
/// Days since a workload was first seen before it is covered.
pub const DAYS_MIN: u32 = 7;
/// An hour counts once it was watched for so long, in seconds: half of it.
const WATCHED_S_MIN: u32 = 1800;
/// Workloads that are followed. When full, further ones are never covered.
const WORKLOADS_MAX: usize = 4096;

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
}

impl Default for Coverage {
    fn default() -> Self {
        Self { watched: vec![0; HOURS as usize], hour: 0, seconds: 0, since: BTreeMap::new() }
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
    /// Adds `seconds` that were watched until now, with the workloads seen meanwhile. True once in
    /// an hour that counts: it is worth saving.
    pub fn watch<'a>(
        &mut self,
        now_wall_ns: i64,
        seconds: u32,
        workloads: impl IntoIterator<Item = &'a Workload>,
    ) -> bool {
        let hour = hour(now_wall_ns);
        for workload in workloads {
            if !self.since.contains_key(workload) && self.since.len() < WORKLOADS_MAX {
                self.since.insert(workload.clone(), hour);
            }
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
        (0..minutes).filter(|m| coverage.watch(step(*m), 60, [&web()])).count()
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
        coverage.watch(now, 5, [&db]);
        assert_eq!(coverage.of(&db, now), Covered { days: 0, hours: 0 });
        assert!(is_whole(coverage.of(&web(), now)));
    }

    #[test]
    fn what_is_followed_is_bounded() {
        let mut coverage = Coverage::default();
        for number in 0..WORKLOADS_MAX + 1 {
            coverage.watch(START, 5, [&Workload::new(format!("{number}"))]);
        }
        assert_eq!(coverage.workloads().count(), WORKLOADS_MAX);
    }
}
