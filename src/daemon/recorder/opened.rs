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
}

impl Opened {
    pub fn of(finding: &Finding) -> Self {
        Self {
            uid: finding.uid.clone(),
            at: Instant::now(),
            process: finding.process.as_ref().map(|process| process.pid),
            subject: Arc::clone(&finding.subject),
        }
    }

    pub fn past(&self, recorder: &mut Recorder) -> Option<Past> {
        let past = match self.process {
            Some(tgid) => recorder.of_process(tgid),
            None => recorder.of_subject(&self.subject),
        };
        past.filter(|past| past.events().next().is_some())
    }
}

/// Those whose past is to be written once more: as many as may be told in half a minute.
#[derive(Debug, Default)]
pub struct Openings(Vec<Opened>);

impl Openings {
    pub fn add(&mut self, opened: Opened) {
        self.0.push(opened);
    }

    /// Has what is due written. What finds no room, as where many open at once, is due the next time, until
    /// nothing is kept of it; whose past went so.
    pub fn write(&mut self, now: Instant, mut write: impl FnMut(&Opened) -> bool) -> Vec<String> {
        let mut lost = Vec::new();
        self.0.retain(|opened| {
            let age = now.saturating_duration_since(opened.at);
            if age < UNDER_WAY {
                return true;
            }
            let waits = !write(opened);
            if waits && age >= OVER {
                lost.push(opened.uid.clone());
            }
            waits && age < OVER
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

    #[test]
    fn who_finds_no_room_is_written_later_until_nothing_is_kept_of_it() {
        let begun = Instant::now();
        let mut openings = Openings::default();
        for number in 0..6 {
            openings.add(Opened {
                uid: number.to_string(),
                at: begun,
                process: None,
                subject: Arc::new(Subject::host()),
            });
        }
        let mut written = Vec::new();
        let mut sweep = |after: Duration, room: usize| {
            let before = written.len();
            let lost = openings.write(begun + after, |opened| {
                let fits = written.len() - before < room;
                written.extend(fits.then(|| opened.uid.clone()));
                fits
            });
            (written[before..].join(" "), lost.join(" "))
        };
        let told = |written: &str, lost: &str| (written.to_owned(), lost.to_owned());
        assert_eq!(sweep(Duration::ZERO, 9), told("", ""));
        assert_eq!(sweep(UNDER_WAY, 4), told("0 1 2 3", ""));
        assert_eq!(sweep(2 * UNDER_WAY, 1), told("4", ""));
        assert_eq!(sweep(OVER, 0), told("", "5"));
        assert_eq!(sweep(OVER, 9), told("", ""));
    }
}
