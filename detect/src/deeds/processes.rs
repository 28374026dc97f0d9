//! What is remembered of running processes, so that a call can be judged by who makes it.

use hedgerow_event::{Actor, Call, Event, Flow, FlowDirection, Origin, Protocol, Provenance};

use super::bounded::Bounded;

/// Processes remembered. Past them those of the workload that has most go that did nothing for longest:
/// who starts many that sleep takes nobody else's, nor of his own who serve.
pub const PROCESSES_MAX: usize = 16_384;

/// By its id and start a process is named for good.
type Key = (u32, u64);

/// What is known of a process. What ran before the sensor is unknown.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    pub provenance: Provenance,
    /// At its exec; `u32::MAX` where that was not seen.
    pub uid: u32,
    /// It listens for connections, or descends from a process that does, and nobody logged in.
    pub serves: bool,
    /// Hash of the directory that it last made a file of its own in; 0 for none.
    pub made_in: u64,
}

impl Default for Facts {
    fn default() -> Self {
        Self { provenance: Provenance::Unknown, uid: u32::MAX, serves: false, made_in: 0 }
    }
}

#[derive(Debug, Clone)]
pub struct Processes(Bounded<u64, Key, Facts>);

impl Default for Processes {
    fn default() -> Self {
        Self(Bounded::new(PROCESSES_MAX, |_| 0))
    }
}

impl Processes {
    pub fn of(&self, actor: &Actor) -> Facts {
        self.0.get(key(actor)).copied().unwrap_or_default()
    }

    pub fn evicted(&self) -> u64 {
        self.0.evicted
    }

    pub fn made_in(&mut self, owner: u64, actor: &Actor, directory: u64) {
        self.0.entry(owner, key(actor)).made_in = directory;
    }

    /// `owner` is whose the process is.
    pub fn observe(&mut self, owner: u64, event: &Event) {
        let actor = &event.actor;
        let known = self.0.used(key(actor)).copied();
        match &event.origin {
            Origin::Exec(exec) => {
                let before = known.unwrap_or_default();
                let serves = exec.under_listener || before.serves;
                let (provenance, uid) = (exec.provenance, exec.uid);
                let serves = serves && exec.login_uid == u32::MAX;
                self.0.insert(owner, key(actor), Facts { provenance, uid, serves, made_in: 0 });
            }
            Origin::Fork(fork) if !fork.thread => {
                if let Some(facts) = known {
                    let child = (fork.child_tgid, fork.child_start_boot_ns);
                    self.0.insert(owner, child, Facts { made_in: 0, ..facts });
                }
            }
            Origin::Exit(exit) if exit.process => self.0.remove(key(actor)),
            Origin::Call(call) if listens(call) => self.0.entry(owner, key(actor)).serves = true,
            Origin::Flow(flow) if accepted(flow) && actor.tgid != 0 => {
                self.0.entry(owner, key(actor)).serves = true;
            }
            _ => {}
        }
    }
}

fn key(actor: &Actor) -> Key {
    (actor.tgid, actor.start_boot_ns)
}

fn listens(call: &Call) -> bool {
    i64::from(call.number) == libc::SYS_listen && call.result == 0
}

fn accepted(flow: &Flow) -> bool {
    flow.direction == FlowDirection::Inbound && flow.protocol == Protocol::Tcp
}
