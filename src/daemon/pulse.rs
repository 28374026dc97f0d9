//! What each workload does now: its rates in the window that closed last, and how surprising it was.

use std::collections::{BTreeMap, HashMap, HashSet};

use hedgerow_detect::{EPOCH_SECONDS, Engine, WindowScore};
use hedgerow_event::{Event, Origin, Workload};

use crate::control::WorkloadNow;

/// Workloads that are counted. For one past them whoever was quiet for longest goes; where none is quiet, it
/// counts for the whole, and for how many there are.
const WORKLOADS_MAX: usize = 1024;
/// Workloads that are told, the busiest first.
pub const TOLD_MAX: usize = 128;
/// A workload that did nothing for this long is forgotten: an hour.
const QUIET_EPOCHS: u32 = 720;

#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    events: u64,
    calls: u64,
}

#[derive(Debug, Default)]
struct Beat {
    /// In the open window, and in the one that closed last.
    open: Counted,
    closed: Counted,
    surprise: Option<f64>,
    quiet_epochs: u32,
}

/// Counted by the loop as events come; one window is kept.
#[derive(Debug, Default)]
pub struct Pulse {
    beats: HashMap<Workload, Beat>,
    /// Those that found no place in the open window, as many at most, and how many in the one that closed.
    past: HashSet<Workload>,
    past_closed: usize,
    open: u64,
    closed: u64,
}

impl Pulse {
    pub fn observe(&mut self, event: &Event) {
        self.open += 1;
        let workload = &event.actor.subject.workload;
        if !self.beats.contains_key(workload) {
            if !self.has_place() {
                if self.past.len() < WORKLOADS_MAX {
                    self.past.insert(workload.clone());
                }
                return;
            }
            self.beats.insert(workload.clone(), Beat::default());
        }
        let Some(beat) = self.beats.get_mut(workload) else { return };
        beat.open.events += 1;
        if let Origin::Row(row) = &event.origin {
            beat.open.calls += row.calls;
        }
    }

    /// Makes one where it can. Who finds none is in `past`: so nobody is looked for again in this window.
    fn has_place(&mut self) -> bool {
        if self.beats.len() < WORKLOADS_MAX {
            return true;
        }
        if !self.past.is_empty() {
            return false;
        }
        let quiet =
            self.beats.iter().filter(|(_, beat)| beat.quiet_epochs > 0 && beat.open.events == 0);
        let longest = quiet.max_by_key(|(_, beat)| beat.quiet_epochs);
        let gone = longest.map(|(workload, _)| workload.clone());
        gone.is_some_and(|workload| self.beats.remove(&workload).is_some())
    }

    /// The open window is over.
    pub fn close(&mut self) {
        self.closed = std::mem::take(&mut self.open);
        self.past_closed = std::mem::take(&mut self.past).len();
        self.beats.retain(|_, beat| {
            beat.closed = std::mem::take(&mut beat.open);
            beat.quiet_epochs = if beat.closed.events > 0 { 0 } else { beat.quiet_epochs + 1 };
            beat.quiet_epochs < QUIET_EPOCHS
        });
    }

    /// The windows of an epoch that closed; the most surprising one of a workload stands for it.
    pub fn scored<'a>(&mut self, scores: impl Iterator<Item = &'a WindowScore>) {
        let mut latest: BTreeMap<&Workload, f64> = BTreeMap::new();
        for score in scores.filter(|score| score.early.is_none()) {
            let Some(nats) = score.surprise else { continue };
            let most = latest.entry(&score.subject.workload).or_insert(nats);
            *most = most.max(nats);
        }
        for (workload, nats) in latest {
            if let Some(beat) = self.beats.get_mut(workload) {
                beat.surprise = Some(nats);
            }
        }
    }

    pub fn events_per_second(&self) -> f64 {
        self.closed as f64 / EPOCH_SECONDS as f64
    }

    /// The busiest workloads, and how many more there are.
    pub fn told(&self, engine: &Engine) -> (Vec<WorkloadNow>, usize) {
        let mut all: Vec<(&Workload, &Beat)> = self.beats.iter().collect();
        all.sort_by(|(one, a), (other, b)| {
            let busy = |beat: &Beat| (beat.closed.calls, beat.closed.events);
            busy(b).cmp(&busy(a)).then_with(|| one.cmp(other))
        });
        let more = all.len().saturating_sub(TOLD_MAX) + self.past_closed;
        let rate = |count: u64| count as f64 / EPOCH_SECONDS as f64;
        let told = all.into_iter().take(TOLD_MAX).map(|(workload, beat)| WorkloadNow {
            workload: workload.clone(),
            state: engine.state_of_workload(workload),
            events_per_second: rate(beat.closed.events),
            calls_per_second: rate(beat.closed.calls),
            surprise: beat.surprise,
        });
        (told.collect(), more)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use hedgerow_detect::{Schedule, Settings};
    use hedgerow_event::{Actor, Epoch, Program, Row, RowReason, Subject};
    use hedgerow_features::Sensors;

    use super::*;

    fn row(workload: &str, calls: u64) -> Event {
        let subject = Subject::new(Workload::new(workload), Program::new("/bin/x"));
        let actor = Actor {
            subject: Arc::new(subject),
            tgid: 1,
            tid: 1,
            start_boot_ns: 0,
            cgroup_id: 7,
            program_id: 8,
            slot: 0,
        };
        let row = Row { calls, ..Row::empty(RowReason::Window) };
        Event { epoch: Epoch(1), time_boot_ns: 0, actor, origin: Origin::Row(Box::new(row)) }
    }

    fn engine() -> Engine {
        Engine::learning(Settings {
            host_id: "h".into(),
            boot_id: "b".into(),
            schedule: Schedule::of(60),
            budget_per_day: 1.0,
            seed: 1,
            sensors: Sensors::default(),
            realtime_offset_ns: 0,
        })
        .unwrap()
    }

    #[test]
    fn rates_are_of_the_window_that_closed_last_and_the_busiest_comes_first() {
        let (mut pulse, engine) = (Pulse::default(), engine());
        pulse.observe(&row("web", 100));
        pulse.observe(&row("db", 900));
        pulse.observe(&row("db", 100));
        assert!(pulse.told(&engine).0.iter().all(|one| one.calls_per_second == 0.0), "it is open");
        pulse.close();
        pulse.observe(&row("web", 50));
        let (told, more) = pulse.told(&engine);
        let names: Vec<&str> = told.iter().map(|one| one.workload.as_str()).collect();
        assert_eq!((names, more), (vec!["db", "web"], 0));
        assert_eq!((told[0].calls_per_second, told[0].events_per_second), (200.0, 0.4));
        assert_eq!(pulse.events_per_second(), 0.6);
    }

    #[test]
    fn what_is_counted_and_told_is_bounded_and_what_is_quiet_is_forgotten() {
        let (mut pulse, engine) = (Pulse::default(), engine());
        (0..WORKLOADS_MAX + 9).for_each(|number| pulse.observe(&row(&format!("w{number}"), 1)));
        pulse.close();
        assert_eq!(pulse.events_per_second(), (WORKLOADS_MAX + 9) as f64 / 5.0);
        let (told, more) = pulse.told(&engine);
        assert_eq!((told.len(), more), (TOLD_MAX, WORKLOADS_MAX + 9 - TOLD_MAX));
        (0..QUIET_EPOCHS).for_each(|_| pulse.close());
        assert!(pulse.told(&engine).0.is_empty());
    }

    #[test]
    fn who_comes_when_all_places_are_taken_takes_that_of_who_is_quiet_for_longest() {
        let (mut pulse, engine) = (Pulse::default(), engine());
        let names = |count| (0..count).map(|number| format!("w{number}"));
        names(WORKLOADS_MAX).for_each(|name| pulse.observe(&row(&name, 1)));
        pulse.close();
        for _ in 0..2 {
            names(WORKLOADS_MAX - 1).for_each(|name| pulse.observe(&row(&name, 1)));
            pulse.close();
        }
        // One more is quiet, but not for as long.
        names(WORKLOADS_MAX - 2).for_each(|name| pulse.observe(&row(&name, 1)));
        pulse.close();
        pulse.observe(&row("new", 100));
        pulse.close();
        let (told, more) = pulse.told(&engine);
        assert_eq!((told[0].workload.as_str(), told[0].calls_per_second), ("new", 20.0));
        assert_eq!(more, WORKLOADS_MAX - TOLD_MAX);
        let gone = format!("w{}", WORKLOADS_MAX - 1);
        assert!(!pulse.beats.contains_key(&Workload::new(gone)));
        assert!(pulse.beats.len() == WORKLOADS_MAX);
    }
}
