//! Events on their way out. An exec that may turn out to have replaced a known program waits a
//! moment for its file's digest, and what comes after it waits behind it, so that order is kept.

use std::collections::VecDeque;

use hedgerow_event::{Digest, Event, Origin};

use crate::identity::digest::{Answer, Wanted};

/// Longest that an exec waits for a digest. What takes longer is told at the path's next exec.
const WAIT_NS: u64 = 100_000_000;
/// Events that wait. Full: nothing waits any more until they are out.
const EVENTS_MAX: usize = 65_536;

#[derive(Debug)]
struct Waiting {
    event: Event,
    wanted: Vec<Wanted>,
    until_boot_ns: u64,
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

    /// Appends an event; it waits for the digests that are wanted.
    pub fn push(&mut self, event: Event, wanted: Vec<Wanted>, now_boot_ns: u64) {
        let until_boot_ns = now_boot_ns.saturating_add(WAIT_NS);
        self.events.push_back(Waiting { event, wanted, until_boot_ns });
    }

    /// Takes out what needn't wait any longer; `digest` is asked for each that is wanted.
    pub fn release(
        &mut self,
        now_boot_ns: u64,
        mut digest: impl FnMut(&Wanted) -> Answer,
    ) -> Vec<Event> {
        let mut ready = Vec::with_capacity(self.events.len());
        while let Some(mut first) = self.events.pop_front() {
            let Waiting { event, wanted, until_boot_ns } = &mut first;
            wanted.retain(|wanted| match digest(wanted) {
                Answer::Known { digest, replaced } => {
                    note(event, wanted, digest, replaced);
                    false
                }
                Answer::Soon => true,
                Answer::Unknown => false,
            });
            let waits = now_boot_ns < *until_boot_ns && self.events.len() < EVENTS_MAX;
            if waits && !wanted.is_empty() {
                self.events.push_front(first);
                break;
            }
            ready.push(first.event);
        }
        ready
    }

    /// Takes out all, with the digests that are known by now.
    pub fn flush(&mut self, digest: impl FnMut(&Wanted) -> Answer) -> Vec<Event> {
        self.release(u64::MAX, digest)
    }
}

/// The digest is that of the script where one is run by its absolute path, else of the file.
fn note(event: &mut Event, wanted: &Wanted, digest: Digest, replaced: bool) {
    let Origin::Exec(exec) = &mut event.origin else { return };
    exec.replaced |= replaced;
    if matches!(wanted, Wanted::Script(..)) || event.actor.subject.program.script_path().is_none() {
        exec.digest = Some(digest);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use hedgerow_bpf::wire::wire_file;
    use hedgerow_event::{
        Actor, Epoch, Exec, FileKey, Program, Provenance, Signal, Subject, Workload,
    };

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
        let exec = Exec {
            previous: None,
            file: FileKey { device: 1, inode: 2, generation: 3 },
            parent_tgid: 1,
            parent: None,
            uid_before: 0,
            uid: 0,
            login_uid: u32::MAX,
            path: "/bin/x".into(),
            arguments: "x".into(),
            digest: None,
            replaced: false,
            memory: false,
            writable: false,
            privileged: false,
            socket_io: false,
            under_listener: false,
            provenance: Provenance::Unknown,
        };
        event(time, Origin::Exec(Box::new(exec)))
    }

    fn other(time: u64) -> Event {
        event(time, Origin::Signal(Signal { unseen6: 0, calls: 0 }))
    }

    fn image() -> Vec<Wanted> {
        // SAFETY: a struct of integers.
        let file: wire_file = unsafe { std::mem::zeroed() };
        let place = (Workload::host(), "/bin/x".into());
        vec![Wanted::Image(Image { key: (&file).into(), place, tgid: 1, parent_tgid: 1 })]
    }

    fn times(events: &[Event]) -> Vec<u64> {
        events.iter().map(|event| event.time_boot_ns).collect()
    }

    #[test]
    fn what_follows_an_exec_that_waits_waits_behind_it() {
        let mut held = Held::default();
        held.push(other(1), Vec::new(), 0);
        held.push(exec(2), image(), 0);
        held.push(other(3), Vec::new(), 0);
        assert_eq!(times(&held.release(5, |_| Answer::Soon)), [1]);
        let digest = Digest([7; 32]);
        let ready = held.release(6, |_| Answer::Known { digest, replaced: true });
        assert_eq!(times(&ready), [2, 3]);
        let Origin::Exec(exec) = &ready[0].origin else { panic!() };
        assert_eq!((exec.digest, exec.replaced), (Some(digest), true));
        assert!(held.is_empty());
    }

    #[test]
    fn a_script_and_its_interpreter_are_both_waited_for_and_the_digest_is_the_scripts() {
        let place = (Workload::host(), Arc::from("/s"));
        let script = Wanted::Script(place, 7);
        let mut event = exec(1);
        let mut program = Program::new("/bin/x");
        program.script = Some("/s".into());
        event.actor.subject = Arc::new(Subject::new(Workload::host(), program));
        let (of_file, of_script) = (Digest([1; 32]), Digest([2; 32]));
        let mut held = Held::default();
        held.push(event, [image(), vec![script]].concat(), 0);
        let first = held.release(1, |wanted| match wanted {
            Wanted::Image(_) => Answer::Known { digest: of_file, replaced: true },
            Wanted::Script(..) => Answer::Soon,
        });
        assert!(first.is_empty());
        let ready = held.release(2, |wanted| match wanted {
            Wanted::Image(_) => panic!("it was told"),
            Wanted::Script(..) => Answer::Known { digest: of_script, replaced: false },
        });
        let Origin::Exec(exec) = &ready[0].origin else { panic!() };
        assert_eq!((exec.digest, exec.replaced), (Some(of_script), true));
    }

    #[test]
    fn nothing_waits_for_ever() {
        let mut held = Held::default();
        held.push(exec(1), image(), 10);
        assert!(held.release(10 + WAIT_NS - 1, |_| Answer::Soon).is_empty());
        assert_eq!(times(&held.release(10 + WAIT_NS, |_| Answer::Soon)), [1]);
        held.push(exec(2), image(), 0);
        (0..=EVENTS_MAX as u64).for_each(|time| held.push(other(time), Vec::new(), 0));
        assert_eq!(held.release(1, |_| Answer::Soon).len(), EVENTS_MAX + 2, "it is full");
        held.push(exec(3), image(), 0);
        assert_eq!(times(&held.flush(|_| Answer::Soon)), [3]);
    }
}
