//! `hedgerow doctor` and `support` find out what the kernel takes by loading probes, which from anybody else would be a
//! deed: root's own program says so beforehand.

use std::{fs, os::unix::fs::MetadataExt};

use hedgerow_event::{Event, Origin};
use hedgerow_responder::{By, now};

use super::Daemon;
use crate::control::Probing as Answer;

/// A probe takes less, also on a busy machine.
const SECONDS: u64 = 30;

/// Who loads probes, and until when: the one that asked last.
#[derive(Debug, Default)]
pub struct Probing(Option<(u32, u64)>);

impl Probing {
    /// Takes what it loads out of a batch. That programs are loaded is all that is left out: what it does else, and
    /// whatever changes in our own programs and maps, is seen as of anybody.
    pub fn leave_out(&mut self, events: &mut Vec<Event>) {
        let Some((tgid, until_boot_ns)) = self.0 else { return };
        let loads = |event: &Event| {
            let Origin::Call(call) = &event.origin else { return false };
            event.actor.tgid == tgid
                && event.time_boot_ns <= until_boot_ns
                && i64::from(call.number) == libc::SYS_bpf
                && !call.compat
        };
        events.retain(|event| !loads(event));
        if now().boot_ns > until_boot_ns + SECONDS * 1_000_000_000 {
            self.0 = None;
        }
    }
}

impl Daemon {
    /// Only of the program that the daemon itself is.
    pub(super) fn expect_probes(&mut self, by: By) -> Result<Answer, String> {
        let file = |process: &str| {
            let told = fs::metadata(format!("/proc/{process}/exe"));
            told.map(|told| (told.dev(), told.ino())).map_err(|why| why.to_string())
        };
        if file(&by.pid.to_string())? != file("self")? {
            return Err("it is another program than the daemon's".to_owned());
        }
        self.probing.0 = Some((by.pid, now().boot_ns + SECONDS * 1_000_000_000));
        Ok(Answer { seconds: SECONDS })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hedgerow_event::{Actor, Call, Epoch, Subject};

    use super::*;

    fn call(tgid: u32, number: i64, time_boot_ns: u64) -> Event {
        let actor = Actor {
            subject: Arc::new(Subject::host()),
            tgid,
            tid: tgid,
            start_boot_ns: 0,
            cgroup_id: 1,
            program_id: 1,
            slot: 0,
        };
        let call = Call {
            number: number as i32,
            class: 0,
            compat: false,
            result: 0,
            arguments: [0; 6],
            path: None,
            claimed: false,
        };
        Event { epoch: Epoch(1), time_boot_ns, actor, origin: Origin::Call(Box::new(call)) }
    }

    #[test]
    fn what_it_loads_is_left_out_for_a_while_and_nothing_else() {
        let end = now().boot_ns + 1_000_000_000;
        let mut probing = Probing(Some((7, end)));
        let mut events = vec![
            call(7, libc::SYS_bpf, end),
            call(7, libc::SYS_bpf, end + 1),
            call(7, libc::SYS_mount, end),
            call(8, libc::SYS_bpf, end),
        ];
        let kept = events[1..].to_vec();
        probing.leave_out(&mut events);
        assert_eq!(events, kept);
    }
}
