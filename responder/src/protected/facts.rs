//! What a host needs, as it can be kept and asked again on another one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use serde::{Deserialize, Serialize};

use super::{ProtectedSet, gather::Protected};

/// Why a prefix is protected is not kept with it.
const REASON: &str = "an address that the host needs";

/// The part of what is protected that is read from the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Prefixes of the host and of the configuration.
    pub addresses: BTreeSet<(IpAddr, u8)>,
    /// Those of other namespaces, by their inodes.
    pub namespaces: BTreeMap<u64, BTreeSet<(IpAddr, u8)>>,
    /// Sources of admin logins, with the wall time of the last one.
    pub logins: BTreeMap<IpAddr, i64>,
    /// Hedgerow's process and those above it.
    pub own: BTreeSet<u32>,
    pub own_path: Option<String>,
}

fn plain(protected: &[Protected]) -> BTreeSet<(IpAddr, u8)> {
    protected.iter().map(|(address, length, _)| (*address, *length)).collect()
}

impl ProtectedSet {
    /// What was read from the host.
    pub fn facts(&self) -> Facts {
        Facts {
            addresses: plain(&self.addresses),
            namespaces: self.namespaces.iter().map(|(at, all)| (*at, plain(all))).collect(),
            logins: self.admin_logins.iter().map(|(source, last)| (*source, *last)).collect(),
            own: self.own.iter().copied().collect(),
            own_path: self.own_path.clone(),
        }
    }

    /// Takes over what was read from a host, in place of what was read before.
    pub fn set_facts(&mut self, facts: &Facts) {
        let reasoned = |prefix: &(IpAddr, u8)| -> Protected { (prefix.0, prefix.1, REASON) };
        self.refresh(facts.addresses.iter().map(reasoned));
        let namespaces: HashMap<u64, Vec<Protected>> = facts
            .namespaces
            .iter()
            .map(|(at, all)| (*at, all.iter().map(reasoned).collect()))
            .collect();
        self.refresh_namespaces(namespaces);
        facts.logins.iter().for_each(|(source, last)| self.add_admin_login(*source, *last));
        self.set_own(facts.own.iter().copied(), facts.own_path.clone());
    }
}
