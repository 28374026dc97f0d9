//! A budget of memory: the flight recorder has what the rest leaves.

use super::{Said, memory};
use crate::{daemon::recorder::Recorder, exit::Failure, text::size};

/// Looked at once in so many windows: a minute.
const LOOKS: u32 = 12;
const MIB: u64 = 1 << 20;

#[derive(Debug)]
pub struct Room {
    bytes: u64,
    held: u64,
    windows: u32,
    /// It was told that too much is held.
    over: bool,
}

impl Room {
    pub fn new(bytes: u64) -> Self {
        Self { bytes, held: 0, windows: 0, over: false }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn held(&self) -> u64 {
        self.held
    }

    /// Everything is attached and opened, and nothing recorded yet.
    ///
    /// # Errors
    /// That alone is more than may be held, and the start `refuses` that. Else it is told: what was learned since
    /// the first start keeps none of a later one.
    pub fn start(&mut self, refuses: bool) -> Result<Said, Failure> {
        self.held = memory::used().unwrap_or(self.held);
        let (budget, held) = (size(self.bytes), mib(self.held));
        if self.held > self.bytes {
            self.over = true;
            let why = format!(
                "governor.memory: {budget} is less than the {held} that Hedgerow holds here with nothing recorded; \
                 ring_mib is the largest part that can be made smaller"
            );
            return if refuses { Err(Failure::Usage(why)) } else { Ok(Said::Warning(why)) };
        }
        Ok(Said::Note(format!(
            "{budget} of memory may be held; {held} are without the flight recorder"
        )))
    }

    /// Gives the recorder what is left, once a minute; what is to be said.
    pub fn hold(&mut self, recorder: &mut Recorder) -> Option<Said> {
        self.windows += 1;
        if self.windows % LOOKS != 1 {
            return None;
        }
        self.held = memory::used().unwrap_or(self.held);
        self.share(recorder)
    }

    fn share(&mut self, recorder: &mut Recorder) -> Option<Said> {
        let rest = self.held.saturating_sub(recorder.held() as u64);
        recorder.limit(usize::try_from(self.bytes.saturating_sub(rest)).unwrap_or(usize::MAX));
        let (over, was) = (rest > self.bytes, self.over);
        self.over = over;
        let (budget, rest) = (size(self.bytes), mib(rest));
        match (was, over) {
            (false, true) => Some(Said::Warning(format!(
                "{rest} of memory are held, of {budget} that may be, with nothing recorded: what was learned needs \
                 it; a restart gives back what is only kept"
            ))),
            (true, false) => {
                Some(Said::Note(format!("{rest} of memory are held: within {budget} again")))
            }
            _ => None,
        }
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB as f64)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hedgerow_event::{Actor, Epoch, Event, Origin, Signal, Subject};

    use super::*;

    fn event(tgid: u32) -> Event {
        let subject = Arc::new(Subject::host());
        let actor = Actor {
            subject,
            tgid,
            tid: tgid,
            start_boot_ns: 1,
            cgroup_id: 1,
            program_id: 1,
            slot: 0,
        };
        let origin = Origin::Signal(Signal { unseen6: 0, calls: 0 });
        Event { epoch: Epoch(1), time_boot_ns: 1, actor, origin }
    }

    #[test]
    fn the_recorder_has_what_the_rest_leaves_and_what_is_too_much_without_it_is_told_once() {
        let mut recorder = Recorder::new(8 << 20);
        (0..400_000).for_each(|at| recorder.observe(&event(1 + at % 100)));
        let recorded = recorder.held() as u64;
        assert!(recorded > 6 * MIB, "{recorded}");
        let mut room = Room::new(100 * MIB);
        room.held = 90 * MIB + recorded;
        assert_eq!(room.share(&mut recorder), None);
        assert_eq!(recorder.held() as u64, recorded, "there is room for all of it");
        room.held = 97 * MIB + recorded;
        assert_eq!(room.share(&mut recorder), None);
        assert!(recorder.held() as u64 <= 3 * MIB, "{}", recorder.held());
        let mut told = |rest: u64| {
            room.held = rest + recorder.held() as u64;
            room.share(&mut recorder)
        };
        let over = told(101 * MIB);
        assert!(
            matches!(&over, Some(Said::Warning(said)) if said.starts_with("101.0 MiB")),
            "{over:?}"
        );
        assert_eq!(told(102 * MIB), None);
        assert!(matches!(told(60 * MIB), Some(Said::Note(_))));
        assert_eq!(told(60 * MIB), None);
    }

    #[test]
    fn a_budget_that_is_less_than_what_is_held_at_the_start_is_refused_or_told() {
        assert!(Room::new(1).start(true).is_err());
        assert!(matches!(Room::new(1).start(false), Ok(Said::Warning(_))));
        assert!(matches!(Room::new(1 << 40).start(true), Ok(Said::Note(_))));
    }
}
