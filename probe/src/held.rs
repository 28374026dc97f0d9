//! Events on their way out. An exec waits a moment for what is being found out of its file: whether
//! it replaced a known program, and where it comes from. What comes after it waits behind it, so
//! that order is kept.

use std::collections::VecDeque;

use hedgerow_event::{Event, Origin, Provenance};

use crate::identity::digest::{Answer, Waits, Wanted};

/// Longest that an exec waits for a digest. What takes longer is told at the path's next exec.
const WAIT_NS: u64 = 100_000_000;
/// Longest that an exec waits for its provenance alone: for a file that is nobody's it is found
/// without reading it.
const PROVENANCE_WAIT_NS: u64 = 20_000_000;
/// Events that wait. Full: nothing waits any more until they are out.
const EVENTS_MAX: usize = 65_536;

/// What is being found out of an exec's files, and what is known so far.
#[derive(Debug, Clone, Default)]
pub struct Awaited {
    pub wanted: Vec<Wanted>,
    /// Provenance of the file.
    pub image: Option<Provenance>,
    /// Of the script that it runs; `None` where it runs none.
    pub second: Option<Provenance>,
    /// The digest to tell is the script's.
    pub digest_of_second: bool,
}

impl Awaited {
    /// That of the script, unless the program that runs it isn't one to be believed itself.
    pub fn provenance(&self) -> Provenance {
        match (self.image.unwrap_or_default(), self.second) {
            (Provenance::Package | Provenance::Image, Some(second)) => second,
            (image, _) => image,
        }
    }

    fn note(&mut self, event: &mut Event, wanted: &Wanted, answer: &Answer) {
        let Origin::Exec(exec) = &mut event.origin else { return };
        exec.replaced |= answer.replaced;
        let second = matches!(wanted, Wanted::Script(..));
        if second == self.digest_of_second && answer.digest.is_some() {
            exec.digest = answer.digest;
        }
        if answer.provenance.is_some() {
            *(if second { &mut self.second } else { &mut self.image }) = answer.provenance;
        }
        exec.provenance = self.provenance();
    }
}

#[derive(Debug)]
struct Waiting {
    event: Event,
    awaited: Awaited,
    since_boot_ns: u64,
}

impl Waiting {
    /// Notes what is known by now; whether there is more to wait for.
    fn waits(
        &mut self,
        now_boot_ns: u64,
        full: bool,
        answer: &mut impl FnMut(&Wanted, bool) -> Answer,
    ) -> bool {
        let past = |wait: u64| now_boot_ns >= self.since_boot_ns.saturating_add(wait);
        let (digest_past, provenance_past) = (past(WAIT_NS), past(PROVENANCE_WAIT_NS));
        let mut wanted = std::mem::take(&mut self.awaited.wanted);
        let mut longest = Waits::Nothing;
        wanted.retain(|wanted| {
            let answer = answer(wanted, full || digest_past);
            self.awaited.note(&mut self.event, wanted, &answer);
            longest = longest.max(answer.waits);
            answer.waits != Waits::Nothing
        });
        let waits = match longest {
            Waits::Nothing => false,
            Waits::Provenance => !provenance_past,
            Waits::Digest => !digest_past,
        };
        if waits && !full {
            self.awaited.wanted = wanted;
            return true;
        }
        for wanted in wanted {
            let answer = answer(&wanted, true);
            self.awaited.note(&mut self.event, &wanted, &answer);
        }
        false
    }
}

/// Events in order, the first of which may wait.
#[derive(Debug, Default)]
pub struct Held {
    events: VecDeque<Waiting>,
}

impl Held {
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Appends an event; it waits for what is wanted of it.
    pub fn push(&mut self, event: Event, awaited: Awaited, now_boot_ns: u64) {
        self.events.push_back(Waiting { event, awaited, since_boot_ns: now_boot_ns });
    }

    /// Takes out what needn't wait any longer; `answer` is asked for each that is wanted, and told
    /// when it is for the last time.
    pub fn release(
        &mut self,
        now_boot_ns: u64,
        mut answer: impl FnMut(&Wanted, bool) -> Answer,
    ) -> Vec<Event> {
        let mut ready = Vec::with_capacity(self.events.len());
        while let Some(mut first) = self.events.pop_front() {
            let full = self.events.len() >= EVENTS_MAX;
            if first.waits(now_boot_ns, full, &mut answer) {
                self.events.push_front(first);
                break;
            }
            ready.push(first.event);
        }
        ready
    }

    /// Takes out all, with what is known by now.
    pub fn flush(&mut self, answer: impl FnMut(&Wanted, bool) -> Answer) -> Vec<Event> {
        self.release(u64::MAX, answer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use hedgerow_bpf::wire::wire_exec;
    use hedgerow_event::{Actor, Digest, Epoch, Exec, FileKey, Program, Signal, Subject, Workload};

    use super::*;
    use crate::identity::digest::Image;

    fn event(time_boot_ns: u64, origin: Origin) -> Event {
        let subject = Arc::new(Subject::new(Workload::host(), Program::new("/bin/x")));
        let actor = Actor {
            subject,
            tgid: 1,
            tid: 1,
            start_boot_ns: 1,
            cgroup_id: 1,
            program_id: 1,
            slot: 0,
        };
        Event { epoch: Epoch(1), time_boot_ns, actor, origin }
    }

    fn exec(time: u64) -> Event {
        let file = FileKey { device: 1, inode: 2, generation: 3 };
        let exec = Exec { file, ..Exec::of("/bin/x") };
        event(time, Origin::Exec(Box::new(exec)))
    }

    fn other(time: u64) -> Event {
        event(time, Origin::Signal(Signal { unseen6: 0, calls: 0 }))
    }

    fn image() -> Awaited {
        // SAFETY: a struct of integers.
        let record: wire_exec = unsafe { std::mem::zeroed() };
        let image = Image::new(&record, (Workload::host(), "/bin/x".into()));
        Awaited { wanted: vec![Wanted::Image(image)], ..Awaited::default() }
    }

    fn times(events: &[Event]) -> Vec<u64> {
        events.iter().map(|event| event.time_boot_ns).collect()
    }

    fn of(event: &Event) -> &Exec {
        let Origin::Exec(exec) = &event.origin else { panic!() };
        exec
    }

    fn soon() -> Answer {
        Answer { waits: Waits::Digest, ..Answer::default() }
    }

    fn known(digest: Digest, replaced: bool, provenance: Provenance) -> Answer {
        Answer {
            digest: Some(digest),
            replaced,
            provenance: Some(provenance),
            waits: Waits::Nothing,
        }
    }

    #[test]
    fn what_follows_an_exec_that_waits_waits_behind_it() {
        let mut held = Held::default();
        held.push(other(1), Awaited::default(), 0);
        held.push(exec(2), image(), 0);
        held.push(other(3), Awaited::default(), 0);
        assert_eq!(times(&held.release(5, |_, _| soon())), [1]);
        let digest = Digest([7; 32]);
        let ready = held.release(6, |_, _| known(digest, true, Provenance::Modified));
        assert_eq!(times(&ready), [2, 3]);
        let exec = of(&ready[0]);
        assert_eq!((exec.digest, exec.replaced), (Some(digest), true));
        assert_eq!(exec.provenance, Provenance::Modified);
        assert!(held.is_empty());
    }

    #[test]
    fn a_script_and_its_interpreter_are_both_waited_for_and_what_is_told_is_the_scripts() {
        let script = Wanted::Script((Workload::host(), Arc::from("/s")), 7);
        let run = |interpreter| {
            let mut awaited = image();
            awaited.wanted.push(script.clone());
            awaited.second = Some(Provenance::Unknown);
            awaited.digest_of_second = true;
            let (of_file, of_script) = (Digest([1; 32]), Digest([2; 32]));
            let mut held = Held::default();
            held.push(exec(1), awaited, 0);
            let first = held.release(1, |wanted, _| match wanted {
                Wanted::Image(_) => known(of_file, true, interpreter),
                Wanted::Script(..) => soon(),
            });
            assert!(first.is_empty());
            let ready = held.release(2, |wanted, _| match wanted {
                Wanted::Image(_) => panic!("it was told"),
                Wanted::Script(..) => known(of_script, false, Provenance::Package),
            });
            let exec = of(&ready[0]);
            assert_eq!((exec.digest, exec.replaced), (Some(of_script), true));
            exec.provenance
        };
        assert_eq!(run(Provenance::Package), Provenance::Package);
        // Whoever names his program `bash` could name any script to it.
        assert_eq!(run(Provenance::Unowned), Provenance::Unowned);
        assert_eq!(run(Provenance::Unknown), Provenance::Unknown);
    }

    #[test]
    fn provenance_alone_is_waited_for_shorter_and_what_is_known_in_time_is_told() {
        let waits = |_: &Wanted, _| Answer { waits: Waits::Provenance, ..Answer::default() };
        let mut held = Held::default();
        held.push(exec(1), image(), 10);
        assert!(held.release(10 + PROVENANCE_WAIT_NS - 1, waits).is_empty());
        let ready = held.release(10 + PROVENANCE_WAIT_NS, waits);
        assert_eq!(of(&ready[0]).provenance, Provenance::Unknown);
        held.push(exec(2), image(), 0);
        let early = |_: &Wanted, _| Answer {
            provenance: Some(Provenance::Unowned),
            waits: Waits::Digest,
            ..Answer::default()
        };
        assert!(held.release(WAIT_NS - 1, early).is_empty(), "its digest may still come");
        let ready = held.release(WAIT_NS, |_, last| {
            assert!(last);
            soon()
        });
        assert_eq!(of(&ready[0]).provenance, Provenance::Unowned);
    }

    #[test]
    fn nothing_waits_for_ever() {
        let mut held = Held::default();
        held.push(exec(1), image(), 10);
        assert!(held.release(10 + WAIT_NS - 1, |_, _| soon()).is_empty());
        assert_eq!(times(&held.release(10 + WAIT_NS, |_, _| soon())), [1]);
        held.push(exec(2), image(), 0);
        (0..=EVENTS_MAX as u64).for_each(|time| held.push(other(time), Awaited::default(), 0));
        assert_eq!(held.release(1, |_, _| soon()).len(), EVENTS_MAX + 2, "it is full");
        held.push(exec(3), image(), 0);
        assert_eq!(times(&held.flush(|_, _| soon())), [3]);
    }
}
