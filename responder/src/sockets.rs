//! Which standing sockets an entry cuts. Pure; `cut` does it.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use hedgerow_bpf::wire::deny_socket_record;

use crate::wire::unmapped;

const TCP: u16 = libc::IPPROTO_TCP as u16;
const MPTCP: u16 = libc::IPPROTO_MPTCP as u16;
const UDP: u16 = libc::IPPROTO_UDP as u16;
/// `TCP_ESTABLISHED`, which a connected UDP socket has too.
const ESTABLISHED: u8 = 1;
/// `TCP_CLOSE`: no connection yet, or none any more.
const CLOSE: u8 = 7;
/// `TCP_LISTEN`.
const LISTEN: u8 = 10;

/// Standard input, output and errors are the descriptors up to this.
const STREAMS_MAX: u32 = 2;

/// A socket that an entry denies, and one process that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub cookie: u64,
    pub tgid: u32,
    pub fd: u32,
    pub netns: u32,
    pub ipv6: bool,
    pub protocol: u16,
    pub local: (IpAddr, u16),
    pub peer: (IpAddr, u16),
    pub interface: u32,
    /// It has a peer and its protocol can be destroyed.
    pub connected: bool,
    /// It has a peer and can't be destroyed: inet_diag knows no way for MPTCP.
    pub only_dropped: bool,
}

impl Standing {
    fn is_connected(&self) -> bool {
        self.connected || self.only_dropped
    }
}

/// Sockets that one entry cuts. When full: the rest stands, its packets are dropped.
const SOCKETS_MAX: usize = 65_536;

#[derive(Debug)]
struct Candidate {
    standing: Standing,
    owner_tgid: u32,
    listing: u32,
    /// Whoever else holds it.
    sure: bool,
}

/// The sockets that an entry denies, each once, picked from a listing as it comes.
///
/// A socket that a tree shares with processes outside of it, and did not make, is left alone: it is
/// the service's listener or its client, and cutting it would stop the service. The connection that a
/// process has for its standard streams was given to it, whoever made it. What else a tree sends on a
/// socket of others the packet hook refuses.
#[derive(Debug)]
pub(crate) struct Denied {
    id: u64,
    tree: HashSet<u32>,
    found: Vec<Candidate>,
    places: HashMap<u64, usize>,
    /// There were more than [`SOCKETS_MAX`].
    pub full: bool,
}

impl Denied {
    pub fn by(id: u64) -> Self {
        let (tree, found, places) = (HashSet::new(), Vec::new(), HashMap::new());
        Self { id, tree, found, places, full: false }
    }

    pub fn take(&mut self, record: &deny_socket_record) {
        let by_tree = record.tree_id == self.id;
        if by_tree {
            self.tree.insert(record.tgid);
        }
        // A peer of many listeners is denied, not they.
        let by_id = record.id == self.id && record.state != LISTEN;
        if !by_id && !by_tree {
            return;
        }
        let standing = standing(record);
        let given = record.fd <= STREAMS_MAX && standing.is_connected();
        let sure = by_id || given;
        if let Some(place) = self.places.get(&record.cookie) {
            self.found[*place].sure |= sure;
            return;
        }
        if self.found.len() >= SOCKETS_MAX {
            self.full = true;
            return;
        }
        self.places.insert(record.cookie, self.found.len());
        let (owner_tgid, listing) = (record.owner_tgid, record.listing);
        self.found.push(Candidate { standing, owner_tgid, listing, sure });
    }

    /// What is to be cut; `is_shared` says whether somebody outside of the denied trees holds a socket
    /// that the tree did not make, by the number of the listing.
    pub fn sockets(self, is_shared: impl Fn(&Standing, u32) -> bool) -> Vec<Standing> {
        let Self { tree, found, .. } = self;
        let cut = |socket: &Candidate| {
            socket.sure
                || tree.contains(&socket.owner_tgid)
                || !is_shared(&socket.standing, socket.listing)
        };
        found.into_iter().filter(cut).map(|socket| socket.standing).collect()
    }
}

/// The process holds a socket that accepts connections.
pub(crate) fn listens(record: &deny_socket_record, tgid: u32) -> bool {
    record.tgid == tgid && record.state == LISTEN
}

fn standing(record: &deny_socket_record) -> Standing {
    let ipv6 = i32::from(record.family) == libc::AF_INET6;
    Standing {
        cookie: record.cookie,
        tgid: record.tgid,
        fd: record.fd,
        netns: record.netns,
        ipv6,
        protocol: record.protocol,
        local: (unmapped(record.local), record.local_port),
        peer: (unmapped(record.peer), record.peer_port),
        interface: record.interface,
        connected: match record.protocol {
            TCP => record.state != CLOSE && record.state != LISTEN,
            UDP => record.state == ESTABLISHED,
            _ => false,
        },
        only_dropped: record.protocol == MPTCP && record.state == ESTABLISHED,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn record(cookie: u64, tgid: u32, owner_tgid: u32, tree_id: u64) -> deny_socket_record {
        deny_socket_record {
            cookie,
            tgid,
            owner_tgid,
            tree_id,
            fd: 3,
            family: libc::AF_INET as u16,
            protocol: TCP,
            state: ESTABLISHED,
            ..Default::default()
        }
    }

    /// As the kernel does: what is not denied and doesn't listen is not told, yet known as a holder.
    fn denied(records: &[deny_socket_record], id: u64) -> Vec<Standing> {
        let mut denied = Denied::by(id);
        records.iter().for_each(|record| denied.take(record));
        denied.sockets(|standing, _| {
            records.iter().any(|other| other.cookie == standing.cookie && other.tree_id == 0)
        })
    }

    fn cookies(records: &[deny_socket_record], id: u64) -> Vec<u64> {
        denied(records, id).iter().map(|socket| socket.cookie).collect()
    }

    #[test]
    fn a_tree_loses_its_own_sockets_but_not_those_of_the_service_around_it() {
        let records = [
            record(1, 10, 10, 0), // the service's client
            record(1, 11, 10, 7), // inherited by the tree
            record(2, 11, 11, 7), // the tree's own
            record(3, 12, 11, 7), // made by the tree, held by its child
            record(4, 11, 10, 7), // made by the service, held by the tree alone
        ];
        assert_eq!(cookies(&records, 7), [2, 3, 4]);
    }

    #[test]
    fn a_connection_for_standard_streams_was_given_to_the_tree_and_a_listener_was_not() {
        let mut streams = [record(1, 10, 10, 0), record(1, 11, 10, 7)];
        streams[1].fd = 1;
        assert_eq!(cookies(&streams, 7), [1]);
        streams[1].state = LISTEN;
        assert_eq!(cookies(&streams, 7), [0u64; 0], "the service's own, as workers have it");
    }

    #[test]
    fn a_socket_handed_out_of_the_tree_is_cut_where_the_tree_made_it() {
        let records = [record(1, 11, 11, 7), record(1, 10, 11, 0)];
        assert_eq!(cookies(&records, 7), [1]);
    }

    #[test]
    fn a_trees_own_listener_is_marked_and_stands_and_each_socket_is_cut_once() {
        let mut listener = record(1, 11, 11, 7);
        listener.state = LISTEN;
        let mut by_peer = record(2, 11, 11, 0);
        by_peer.id = 7;
        assert_eq!(cookies(&[listener, by_peer, by_peer], 7), [1, 2]);
        assert!(!denied(&[listener], 7)[0].connected, "it is not destroyed");
        assert_eq!(cookies(&[listener, by_peer], 8), [0u64; 0]);
        // The service's own, which a process of the tree has inherited, and who is denied by peer.
        let (mut service, mut inherited) = (record(3, 10, 10, 0), record(3, 11, 10, 7));
        (service.state, inherited.state) = (LISTEN, LISTEN);
        assert_eq!(cookies(&[service, inherited], 7), [0u64; 0]);
        // Its maker has exited, and the tree alone holds it.
        inherited.owner_tgid = 9;
        assert_eq!(cookies(&[inherited], 7), [3]);
        (listener.id, listener.tree_id) = (7, 0);
        assert_eq!(cookies(&[listener], 7), [0u64; 0]);
        let mut multipath = record(4, 11, 11, 7);
        multipath.protocol = MPTCP;
        let multipath = &denied(&[multipath], 7)[0];
        assert!(multipath.only_dropped && !multipath.connected);
        assert!(listens(&listener, 11) && !listens(&listener, 12));
        assert!(!listens(&by_peer, 11), "it only connects");
    }

    #[test]
    fn in_doubt_a_socket_is_shared_and_what_is_surely_the_trees_is_cut_all_the_same() {
        let records = [record(1, 11, 10, 7), record(2, 11, 11, 7), record(3, 11, 10, 0)];
        let doubt = || {
            let mut denied = Denied::by(7);
            records.iter().for_each(|record| denied.take(record));
            denied
        };
        let cookies = |found: Vec<Standing>| found.iter().map(|s| s.cookie).collect::<Vec<_>>();
        assert_eq!(cookies(doubt().sockets(|_, _| true)), [2]);
        assert_eq!(cookies(doubt().sockets(|_, _| false)), [1, 2]);
    }

    #[test]
    fn what_one_entry_cuts_is_bounded() {
        let mut denied = Denied::by(7);
        for cookie in 0..SOCKETS_MAX as u64 {
            denied.take(&record(cookie, 11, 11, 7));
            denied.take(&record(cookie, 12, 11, 7));
        }
        assert!(!denied.full);
        denied.take(&record(u64::MAX, 11, 11, 7));
        assert!(denied.full);
        assert_eq!(denied.sockets(|_, _| true).len(), SOCKETS_MAX);
    }
}
