#![allow(clippy::unwrap_used)]

mod amounts;
mod calls;
mod execs;
mod files;
mod sets;

use std::{net::IpAddr, sync::Arc};

use hedgerow_event::{
    Actor, Call, Contact, Deed, Exec, Exit, Flow, FlowDirection, FlowPhase, Fork, Object, Origin,
    Peer, Program, Protocol, Provenance, Subject, Workload,
};
use hedgerow_features::{Baseline, ItemKey};

use super::Deeds;
use crate::common;

pub const SECOND_NS: u64 = 1_000_000_000;

/// A host: what it was seen to do, and what it does.
pub struct Host {
    pub deeds: Deeds,
    pub baseline: Baseline,
    pub learning: bool,
    pub now_ns: u64,
    pub epoch: u32,
}

/// Who acts.
#[derive(Clone)]
pub struct Who {
    pub workload: &'static str,
    pub program: Program,
    pub tgid: u32,
}

pub fn who(program: &str, tgid: u32) -> Who {
    Who { workload: "web.service", program: Program::new(program), tgid }
}

impl Who {
    pub fn script(mut self, script: &str) -> Self {
        self.program.script = Some(script.into());
        self
    }

    pub fn of(mut self, workload: &'static str) -> Self {
        self.workload = workload;
        self
    }

    fn subject(&self) -> Arc<Subject> {
        Arc::new(Subject::new(Workload::new(self.workload), self.program.clone()))
    }
}

impl Host {
    pub fn new() -> Self {
        Self {
            deeds: Deeds::default(),
            baseline: Baseline::new(ItemKey(7), 1),
            learning: true,
            now_ns: 3600 * SECOND_NS,
            epoch: 1,
        }
    }

    /// A host that learned of `web.service` only that it runs.
    pub fn learned() -> Self {
        let mut host = Self::new();
        assert!(host.row(&who("/usr/sbin/web", 1), &[]).is_empty());
        host.end_learning();
        host
    }

    pub fn end_learning(&mut self) {
        self.baseline.freeze();
        self.learning = false;
    }

    pub fn event(&mut self, who: &Who, origin: Origin) -> Vec<(Deed, String)> {
        self.objects(who, origin)
            .iter()
            .map(|object| match object {
                Object::Did { deed, what, subject, .. } => {
                    assert_eq!(*subject, who.subject());
                    (*deed, what.to_string())
                }
                object => panic!("{object}"),
            })
            .collect()
    }

    pub fn objects(&mut self, who: &Who, origin: Origin) -> Vec<Object> {
        let mut event = common::event(&who.subject(), self.epoch, who.tgid, origin);
        event.time_boot_ns = self.now_ns;
        event.actor = Actor {
            tgid: who.tgid,
            start_boot_ns: 5,
            cgroup_id: 9,
            program_id: 1,
            slot: 0,
            ..event.actor
        };
        let objects = self.deeds.observe(&event, &self.baseline, self.learning);
        self.baseline.observe(&event);
        objects
    }

    pub fn call(&mut self, who: &Who, number: i64, arguments: &[u64]) -> Vec<(Deed, String)> {
        self.event(who, Origin::Call(Box::new(call(number, arguments, None))))
    }

    /// An open by `openat`.
    pub fn open(&mut self, who: &Who, path: &str, flags: i32) -> Vec<(Deed, String)> {
        let call = call(libc::SYS_openat, &[0, 0, flags as u64, 0o644], Some(path));
        self.event(who, Origin::Call(Box::new(call)))
    }

    pub fn exec(&mut self, who: &Who, change: impl FnOnce(&mut Exec)) -> Vec<(Deed, String)> {
        let parent = self::who("/usr/sbin/web", 100).of(who.workload).subject();
        let mut exec = Exec {
            parent_tgid: 100,
            parent: Some(parent),
            path: Arc::clone(&who.program.path),
            ..common::exec(None)
        };
        change(&mut exec);
        self.event(who, Origin::Exec(Box::new(exec)))
    }

    pub fn fork(&mut self, who: &Who, child_tgid: u32) {
        let fork =
            Fork { child_tgid, child_tid: child_tgid, child_start_boot_ns: 5, thread: false };
        assert!(self.event(who, Origin::Fork(fork)).is_empty());
    }

    pub fn exit(&mut self, who: &Who) {
        assert!(self.event(who, Origin::Exit(Exit { code: 0, process: true })).is_empty());
    }

    pub fn row(&mut self, who: &Who, calls: &[(usize, u32)]) -> Vec<(Deed, String)> {
        self.event(who, common::rows(calls))
    }

    /// Lets time pass, closing epochs on the way.
    pub fn pass(&mut self, seconds: u64) {
        self.now_ns += seconds * SECOND_NS;
        self.deeds.close(self.now_ns, self.learning);
    }

    pub fn flow(&mut self, who: &Who, flow: Flow) -> Vec<(Deed, String)> {
        self.event(who, Origin::Flow(Box::new(flow)))
    }
}

pub fn call(number: i64, arguments: &[u64], path: Option<&str>) -> Call {
    let mut registers = [0; 6];
    registers[..arguments.len()].copy_from_slice(arguments);
    Call::of(i32::try_from(number).unwrap(), registers, path)
}

/// A TCP flow to port 443 of a peer.
pub fn outbound(peer: &str, bytes_out: u64) -> Flow {
    let peer = Peer { address: peer.parse::<IpAddr>().unwrap(), port: 443 };
    let mut flow = common::flow(FlowPhase::Start, FlowDirection::Outbound, peer, bytes_out);
    flow.local.port = 40_000;
    flow
}

/// A TCP flow from a source to a local port.
pub fn inbound(source: &str, port: u16) -> Flow {
    let mut flow = outbound(source, 0);
    flow.direction = FlowDirection::Inbound;
    flow.peer.port = 50_000;
    flow.local.port = port;
    flow
}

pub fn did(deed: Deed, what: &str) -> Vec<(Deed, String)> {
    vec![(deed, what.to_owned())]
}
