//! Which standing sockets an entry cuts. Pure; `cut` does it.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use hedgerow_bpf::wire::deny_socket_record;

use crate::{
    Error,
    wire::{Plain, unmapped},
};

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

/// Splits the iterator's bytes.
///
/// # Errors
/// The last record is cut short.
pub(crate) fn records(bytes: &[u8]) -> Result<Vec<deny_socket_record>, Error> {
    let size = size_of::<deny_socket_record>();
    if !bytes.len().is_multiple_of(size) {
        return Err(Error::Malformed("a socket record is cut short"));
    }
    Ok(bytes.chunks_exact(size).filter_map(deny_socket_record::read).collect())
}

/// The sockets that entry `id` denies, each once.
///
/// A socket that a tree shares with processes outside of it, and did not make, is left alone: it is
/// the service's listener or its client, and cutting it would stop the service. The connection that a
/// process has for its standard streams was given to it, whoever made it. What else a tree sends on a
/// socket of others the packet hook refuses.
pub(crate) fn denied(records: &[deny_socket_record], id: u64) -> Vec<Standing> {
    let tree: HashSet<u32> =
        records.iter().filter(|record| record.tree_id == id).map(|record| record.tgid).collect();
    let mut shared = HashMap::new();
    for record in records {
        *shared.entry(record.cookie).or_insert(false) |= !tree.contains(&record.tgid);
    }
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for record in records {
        let given = record.fd <= STREAMS_MAX && standing(record).is_connected();
        let by_tree = record.tree_id == id
            && (given
                || tree.contains(&record.owner_tgid)
                || shared.get(&record.cookie) == Some(&false));
        // A peer of many listeners is denied, not they.
        let by_id = record.id == id && record.state != LISTEN;
        if (by_id || by_tree) && seen.insert(record.cookie) {
            found.push(standing(record));
        }
    }
    found
}

/// The process holds a socket that accepts connections.
pub(crate) fn listens(records: &[deny_socket_record], tgid: u32) -> bool {
    records.iter().any(|record| record.tgid == tgid && record.state == LISTEN)
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
        assert!(listens(&[by_peer, listener], 11) && !listens(&[by_peer, listener], 12));
        assert!(!listens(&[by_peer], 11), "it only connects");
    }

    #[test]
    fn a_cut_record_is_an_error() {
        assert!(records(&[0; 87]).is_err());
        assert_eq!(records(&[0; 176]).unwrap().len(), 2);
    }
}
