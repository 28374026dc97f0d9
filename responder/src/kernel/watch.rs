//! Whether pins, links and maps are still as the responder left them.

use std::collections::{HashMap, HashSet};

use hedgerow_bpf::wire;
use hedgerow_event::{Tampering, Target};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use super::{
    Kernel,
    install::{peer_bytes, program_bytes, user_bytes},
    maps::{delete, get},
    pins::{Pin, pins},
};
use crate::{Error, entry::Entry, hooks::HOOKS, wire::Plain};

fn compare(was: &Pin, now: Option<&Pin>) -> Option<&'static str> {
    match (was, now) {
        (was, Some(now)) if was == now => None,
        (_, None) => Some("no longer pinned: it ends with whoever holds it"),
        (Pin::Link { cgroup_id, .. }, Some(Pin::Link { cgroup_id: 0, .. })) if *cgroup_id != 0 => {
            Some("detached")
        }
        _ => Some("another one is in its place"),
    }
}

impl Kernel {
    /// The attached programs as they were pinned, with the kernel's id of each.
    pub fn programs(&self) -> Vec<(&'static str, u32)> {
        let attached = HOOKS.iter().filter_map(|hook| match self.pins.get(hook.name)? {
            Pin::Link { program, .. } => Some((hook.program, *program)),
            Pin::Map { .. } | Pin::Other => None,
        });
        attached.collect()
    }

    /// What somebody else did to the pins and links.
    pub fn pins_tampered(&self) -> Vec<Tampering> {
        let now = pins(&self.directory);
        if now.is_empty() && !self.pins.is_empty() {
            return vec![Tampering::new("the deny programs and maps", "no longer pinned")];
        }
        let told = self.pins.iter().filter_map(|(name, was)| {
            let how = compare(was, now.get(name))?;
            let what = if matches!(was, Pin::Map { .. }) { "map" } else { "deny program" };
            Some(Tampering::new(format!("{what} {name}"), how))
        });
        told.collect()
    }

    /// What somebody else wrote into the maps, where `entries`, `allowed` and `scopes` (cgroup, id,
    /// flags) are all that was. Trees are left out: the kernel itself enters children.
    pub fn maps_tampered(
        &self,
        entries: &[&Entry],
        allowed: &[Target],
        scopes: &HashSet<(u64, u64, u32)>,
    ) -> Result<Vec<Tampering>, Error> {
        let live: HashSet<u64> = entries.iter().map(|entry| entry.id).collect();
        let mut tampered = Vec::new();
        let mut tell = |name: &str, how: &str| {
            tampered.push(Tampering::new(format!("map {name}"), how));
        };
        if self.maps.ids().iter().any(|id| !live.contains(id)) {
            tell("deny_entries", "it has an entry that no ledger line explains");
        }
        for entry in entries {
            let found: Option<wire::deny_entry> = get(&self.maps.entries, &entry.id.to_ne_bytes())?;
            match found {
                None => tell("deny_entries", "an entry was taken out"),
                Some(found) if found.bytes() != self.record(entry).bytes() => {
                    tell("deny_entries", "an entry was changed");
                }
                Some(_) => {}
            }
        }
        for (name, how) in self.mend_indexes(entries)? {
            tell(name, how);
        }
        let allowed_peers: HashSet<Vec<u8>> = allowed.iter().filter_map(peer_bytes).collect();
        let allowed_programs: HashSet<Vec<u8>> = allowed.iter().filter_map(program_bytes).collect();
        for (name, map, keys) in [
            ("allow_peers", &self.maps.allow_peers, &allowed_peers),
            ("allow_programs", &self.maps.allow_programs, &allowed_programs),
        ] {
            let found: HashSet<Vec<u8>> = map.keys().collect();
            if !found.is_subset(keys) {
                tell(name, "it lets something through that no ledger line explains");
            }
            if !keys.is_subset(&found) {
                tell(name, "an allowance was taken out");
            }
        }
        let asked = self.maps.asked()?;
        if (asked.verbs, asked.look) != self.asked_by(entries.iter().copied(), allowed) {
            tell("deny_asked", "what is looked up at all was changed");
        }
        if self.scopes()? != *scopes {
            tell("deny_scopes", "what is looked up for a cgroup was changed");
        }
        tampered.dedup();
        Ok(tampered)
    }

    /// Puts back by what entries are found, so that who changes it again is seen again; what was changed.
    fn mend_indexes(&self, entries: &[&Entry]) -> Result<Vec<(&'static str, &'static str)>, Error> {
        type KeyOf = fn(&Target) -> Option<Vec<u8>>;
        let mut changed = Vec::new();
        for (name, map, key_of) in [
            ("deny_peers", &self.maps.peers, peer_bytes as KeyOf),
            ("deny_programs", &self.maps.programs, program_bytes),
            ("deny_users", &self.maps.users, user_bytes),
        ] {
            let expected =
                entries.iter().filter_map(|entry| Some((key_of(&entry.target)?, *entry)));
            let (expected, found) = (expected.collect::<HashMap<_, _>>(), ids_by_key(map)?);
            let mut foreign = found.keys().filter(|key| !expected.contains_key(*key)).peekable();
            if foreign.peek().is_some() {
                changed.push((name, "it refuses somebody whom no ledger line explains"));
            }
            let mended = foreign.try_for_each(|key| delete(map, key));
            let is_gone = |(key, entry): &(&Vec<u8>, &&Entry)| found.get(*key) != Some(&entry.id);
            let mut gone = expected.iter().filter(is_gone).peekable();
            if gone.peek().is_some() {
                changed.push((name, "whom an entry refuses was taken out or changed"));
            }
            // Where a foreign hand has filled the map it is told again until there is room.
            let mended = mended.and_then(|()| {
                gone.try_for_each(|(_, entry)| self.maps.index(&entry.target, entry.id).map(drop))
            });
            if mended.is_err() {
                changed.push((name, "it can't be put back"));
            }
        }
        if !changed.is_empty() && self.maps.changed().is_err() {
            changed.push(("deny_asked", "it can't be put back"));
        }
        Ok(changed)
    }

    fn scopes(&self) -> Result<HashSet<(u64, u64, u32)>, Error> {
        let mut found = HashSet::new();
        let keys: Vec<Vec<u8>> = self.maps.scopes.keys().collect();
        for key in keys {
            let scope: Option<wire::deny_scope> = get(&self.maps.scopes, &key)?;
            if let (Some(scope), Some(cgroup_id)) = (scope, u64::read(&key)) {
                found.insert((cgroup_id, scope.id, scope.flags));
            }
        }
        Ok(found)
    }
}

/// Of a map by whose keys entries are found: each begins its value with the entry's id.
fn ids_by_key(map: &MapHandle) -> Result<HashMap<Vec<u8>, u64>, Error> {
    let mut found = HashMap::new();
    for key in map.keys() {
        let value = map.lookup(&key, MapFlags::ANY).map_err(Error::bpf("can't read a deny map"))?;
        if let Some(id) = value.and_then(|value| u64::read(&value)) {
            found.insert(key, id);
        }
    }
    Ok(found)
}
