//! Findings that opened a moment ago: what led to each is written at once, and once more when what was under
//! way has arrived.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hedgerow_event::{Finding, Subject};

use super::{KEPT_NS, Past, Recorder};

/// Records take so long at most to be here, but where the machine has no time at all.
const UNDER_WAY: Duration = Duration::from_secs(1);
/// After so long nothing is kept of what led to it.
const OVER: Duration = Duration::from_nanos(KEPT_NS);

/// A finding that opened, and whose past is its past.
#[derive(Debug)]
pub struct Opened {
    pub uid: String,
    at: Instant,
    /// Of amounts none is known.
    process: Option<u32>,
    subject: Arc<Subject>,
    /// There was no room for it the last time.
    refused: bool,
}

/// What became of a past that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recording {
    Written,
    NoRoom,
    /// Nothing is kept of it.
    Gone,
}

impl Opened {
    pub fn of(finding: &Finding) -> Self {
        Self {
            uid: finding.uid.clone(),
            at: Instant::now(),
            process: finding.process.as_ref().map(|process| process.pid),
            subject: Arc::clone(&finding.subject),
            refused: false,
        }
    }

    /// Notes what became of it; whether there is no room yet.
    pub fn waits(&mut self, became: Recording) -> bool {
        let before = std::mem::replace(&mut self.refused, became == Recording::NoRoom);
        // What is gone is lost where it was to be written.
        self.refused |= before && became == Recording::Gone;
        became == Recording::NoRoom
    }

    /// Whether it waited for room to the end.
    pub fn is_lost(&self) -> bool {
        self.refused
    }

    pub fn past(&self, recorder: &mut Recorder) -> Option<Past> {
        let past = match self.process {
            Some(tgid) => recorder.of_process(tgid),
            None => recorder.of_subject(&self.subject),
        };
        past.filter(|past| past.events().next().is_some())
    }
}

/// Most of them: one more has what was written at once, and counts as lost where that found no room.
const OPENINGS_MAX: usize = 1024;

/// Those whose past is to be written once more, when half a minute has gone at the latest.
#[derive(Debug, Default)]
pub struct Openings(Vec<Opened>);

impl Openings {
    /// Gives back the one that has no room.
    pub fn add(&mut self, opened: Opened) -> Option<Opened> {
        if self.0.len() >= OPENINGS_MAX {
            return Some(opened);
        }
        self.0.push(opened);
        None
    }

    /// Has what is due written. What finds no room, as where many open at once, is due the next time, until
    /// nothing is kept of it; whose past went so.
    pub fn write(
        &mut self,
        now: Instant,
        mut write: impl FnMut(&Opened) -> Recording,
    ) -> Vec<String> {
        let mut lost = Vec::new();
        self.0.retain_mut(|opened| {
            let age = now.saturating_duration_since(opened.at);
            if age < UNDER_WAY {
                return true;
            }
            let stays = opened.waits(write(opened)) && age < OVER;
            if !stays && opened.is_lost() {
                lost.push(opened.uid.clone());
            }
            stays
        });
        lost
    }

    /// All that are left, at the end.
    pub fn take(&mut self) -> Vec<Opened> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(number: usize, at: Instant, refused: bool) -> Opened {
        let subject = Arc::new(Subject::host());
        Opened { uid: number.to_string(), at, process: None, subject, refused }
    }

    #[test]
    fn one_that_is_too_many_is_given_back() {
        let mut openings = Openings::default();
        let mut add = |number| openings.add(opened(number, Instant::now(), true));
        assert!((0..OPENINGS_MAX).all(|number| add(number).is_none()));
        assert!(add(OPENINGS_MAX).is_some_and(|one| one.is_lost()));
    }

    #[test]
    fn who_finds_no_room_is_written_later_until_nothing_is_kept_of_it() {
        let begun = Instant::now();
        let mut openings = Openings::default();
        for number in 0..7 {
            assert!(openings.add(opened(number, begun, number == 3)).is_none());
        }
        let mut written = Vec::new();
        let mut sweep = |after: Duration, room: usize, gone: &[&str]| {
            let before = written.len();
            let lost = openings.write(begun + after, |opened| {
                if gone.contains(&&*opened.uid) {
                    return Recording::Gone;
                }
                let fits = written.len() - before < room;
                written.extend(fits.then(|| opened.uid.clone()));
                if fits { Recording::Written } else { Recording::NoRoom }
            });
            (written[before..].join(" "), lost.join(" "))
        };
        let told = |written: &str, lost: &str| (written.to_owned(), lost.to_owned());
        assert_eq!(sweep(Duration::ZERO, 9, &[]), told("", ""));
        // Of the one nothing was kept at all; the other is gone since it was refused.
        assert_eq!(sweep(UNDER_WAY, 2, &["2", "3"]), told("0 1", "3"));
        assert_eq!(sweep(2 * UNDER_WAY, 1, &[]), told("4", ""));
        assert_eq!(sweep(3 * UNDER_WAY, 0, &[]), told("", ""));
        assert_eq!(sweep(4 * UNDER_WAY, 0, &["5"]), told("", "5"));
        assert_eq!(sweep(OVER, 0, &[]), told("", "6"));
        assert_eq!(sweep(OVER, 9, &[]), told("", ""));
    }
}
