//! By which names the peers of a finding were asked for. Claimed, so it is put beside a finding that is
//! made, and decides nothing.

use std::{net::IpAddr, num::NonZeroUsize, sync::Arc};

use hedgerow_event::{
    ClaimedName, Contact, Event, FlowDirection, FlowPhase, Object, Origin, Subject, gate,
};
use lru::LruCache;

/// Addresses called lately whose network namespace is remembered. Full: the one called longest ago goes,
/// and its name is not told.
const CALLED_MAX: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// In which network namespace a program called an address: names are of one.
#[derive(Debug)]
pub struct Called {
    namespaces: LruCache<(Arc<Subject>, IpAddr), u32>,
}

impl Default for Called {
    fn default() -> Self {
        Self { namespaces: LruCache::new(CALLED_MAX) }
    }
}

impl Called {
    pub fn observe(&mut self, event: &Event) {
        if let Origin::Flow(flow) = &event.origin
            && flow.direction == FlowDirection::Outbound
            && matches!(flow.phase, FlowPhase::Start | FlowPhase::Failed)
            && flow.has_peer()
        {
            let who = (Arc::clone(&event.actor.subject), flow.peer.address);
            self.namespaces.put(who, flow.netns);
        }
    }

    /// The names of a finding's peers that were called, by what `name_of` knows of a namespace.
    pub fn names(
        &mut self,
        objects: &[Object],
        name_of: impl Fn(u32, IpAddr) -> Option<Arc<str>>,
    ) -> Vec<ClaimedName> {
        let mut names: Vec<ClaimedName> = Vec::new();
        for object in objects {
            let Some(Contact { address, .. }) = object.contact() else { continue };
            let who = (Arc::clone(object.subject()), address);
            let netns = self.namespaces.get(&who).copied();
            let Some(name) = netns.and_then(|netns| name_of(netns, address)) else { continue };
            let claimed = ClaimedName { address, name: gate::text(&name) };
            if !names.contains(&claimed) {
                names.push(claimed);
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hedgerow_event::{Actor, Epoch, Flow, Peer, Program, Workload};

    use super::*;

    fn subject(workload: &str) -> Arc<Subject> {
        Arc::new(Subject::new(Workload::new(workload), Program::new("/bin/x")))
    }

    fn peer() -> Peer {
        Peer { address: IpAddr::from([192, 0, 2, 1]), port: 443 }
    }

    fn calls(workload: &str, netns: u32) -> Event {
        let actor = Actor {
            subject: subject(workload),
            tgid: 1,
            tid: 1,
            start_boot_ns: 1,
            cgroup_id: 1,
            program_id: 1,
            slot: 0,
        };
        let flow = Flow { netns, ..Flow::start(FlowDirection::Outbound, peer(), peer()) };
        Event { epoch: Epoch(1), time_boot_ns: 1, actor, origin: Origin::Flow(flow.into()) }
    }

    #[test]
    fn a_peer_has_the_name_of_the_namespace_that_it_was_called_from() {
        let mut called = Called::default();
        called.observe(&calls("a", 1));
        called.observe(&calls("b", 2));
        let new = |workload: &str| Object::NewPeer {
            subject: subject(workload),
            peer: peer(),
            protocol: None,
        };
        let known = |netns, _| (netns == 1).then(|| "c2.example".into());
        let claimed = ClaimedName { address: peer().address, name: "c2.example".into() };
        assert_eq!(called.names(&[new("a"), new("a")], known), [claimed]);
        assert!(called.names(&[new("b"), new("c")], known).is_empty());
    }
}
