//! Puts entries into the maps and takes them out: note and hits first, then the index, then the entry that
//! makes it live; the other way round on the way out.

use std::collections::HashSet;

use hedgerow_bpf::wire;
use hedgerow_event::{FileKey, Mode, Target};

use super::{
    Kernel, Maps,
    maps::{Insert, delete, get, put, put_bytes, retain},
};
use crate::{
    Error,
    entry::Entry,
    hooks::Key,
    scope::cgroup_of,
    wire::{Plain, mapped_length, peer_key, program_key},
};

fn kind(target: &Target) -> u8 {
    let kind = match target {
        Target::Peer { .. } => wire::DENY_KIND_PEER,
        Target::TaskTree { .. } => wire::DENY_KIND_TREE,
        Target::Program { .. } => wire::DENY_KIND_PROGRAM,
        Target::Cgroup { .. } => wire::DENY_KIND_CGROUP,
        Target::User { .. } => wire::DENY_KIND_USER,
    };
    kind as u8
}

fn look_for(target: &Target) -> u32 {
    match (target, cgroup_of(target)) {
        (Target::User { .. }, _) => wire::DENY_LOOK_USERS,
        (_, None) => wire::DENY_LOOK_TREES,
        (_, Some(0)) => 0,
        (_, Some(_)) => wire::DENY_LOOK_CGROUPS,
    }
}

impl Kernel {
    /// An entry as the kernel reads it: with the verbs that its hooks refuse.
    pub(super) fn record(&self, entry: &Entry) -> wire::deny_entry {
        let plen = match entry.target {
            Target::Peer { address, prefix_length, .. } => {
                mapped_length(address, prefix_length) as u8
            }
            _ => 0,
        };
        let mode =
            if entry.mode == Mode::Enforce { wire::DENY_ENFORCE } else { wire::DENY_MONITOR };
        wire::deny_entry {
            expiry_boot_ns: entry.expiry_boot_ns,
            began_boot_ns: entry.began_boot_ns,
            verbs: self.verbs(entry),
            mode: mode as u8,
            rule: entry.rule as u8,
            plen,
            kind: kind(&entry.target),
        }
    }

    /// Makes the entry live. On `Full` nothing is left behind.
    pub fn install(&self, entry: &Entry) -> Result<Insert, Error> {
        let key = entry.id.to_ne_bytes();
        let maps = &self.maps;
        let installed = (|| {
            self.note(entry);
            let members = maps.enters_root(&entry.target)?.into();
            let hits = wire::deny_hits { members, ..wire::deny_hits::default() };
            if put(&maps.hits, &key, &hits)? == Insert::Full
                || maps.index(&entry.target, entry.id)? == Insert::Full
            {
                return Ok(Insert::Full);
            }
            put(&maps.entries, &key, &self.record(entry))
        })();
        if !matches!(installed, Ok(Insert::Done)) {
            self.uninstall(entry)?;
            return installed;
        }
        self.ask_for(entry)?;
        let Target::TaskTree { tgid, start_boot_ns } = entry.target else {
            return Ok(Insert::Done);
        };
        self.spread(tgid, start_boot_ns, entry.id)?;
        let unknown = self.process(tgid)?.is_none();
        if self.members(entry.id)? == 0 && !(unknown && is_running(tgid, start_boot_ns)) {
            self.uninstall(entry)?;
            return Ok(Insert::Nobody);
        }
        Ok(Insert::Done)
    }

    /// Living processes that are entered under a tree's entry.
    fn members(&self, id: u64) -> Result<usize, Error> {
        use libbpf_rs::MapCore;
        let mut members = 0;
        let keys: Vec<Vec<u8>> = self.maps.tasks.keys().collect();
        for key in keys {
            let task: Option<wire::deny_task> = get(&self.maps.tasks, &key)?;
            let Some(task) = task.filter(|task| task.id == id) else { continue };
            let process: Option<wire::deny_process> = get(&self.maps.processes, &key)?;
            let alive = process.is_some_and(|process| process.start_boot_ns == task.start_boot_ns);
            members += usize::from(alive);
        }
        Ok(members)
    }

    /// Who forked a process, nearest first, each with its start; also those that have exited. `None`
    /// where the process is not known.
    pub fn ancestors(&self, tgid: u32) -> Result<Option<Vec<(u32, u64)>>, Error> {
        let named = |ancestor: &&wire::deny_ancestor| ancestor.tgid != 0;
        let pair = |ancestor: &wire::deny_ancestor| (ancestor.tgid, ancestor.start_boot_ns);
        let process = self.process(tgid)?;
        Ok(process.map(|process| process.ancestors.iter().take_while(named).map(pair).collect()))
    }

    fn verbs(&self, entry: &Entry) -> u32 {
        self.hooks.verbs(Key::of(&entry.target))
    }

    /// Writes expiry and mode anew. The entry must be installed.
    pub fn refresh(&self, entry: &Entry) -> Result<(), Error> {
        self.note(entry);
        match put(&self.maps.entries, &entry.id.to_ne_bytes(), &self.record(entry))? {
            Insert::Done => {}
            _ => return Err(Error::Malformed("no room for an entry that exists")),
        }
        let is_tree = matches!(entry.target, Target::TaskTree { .. });
        let refuses = is_tree && entry.mode == Mode::Enforce;
        if refuses && self.maps.control()?.doomed_until_boot_ns > 0 {
            self.maps.set_control(|control| {
                control.doomed_until_boot_ns =
                    control.doomed_until_boot_ns.max(entry.expiry_boot_ns);
            })?;
        }
        // It may have expired meanwhile, or only counted.
        self.ask_for(entry)
    }

    /// No tree refuses any more: whom no table had room for is free as well.
    pub fn pardon(&self) -> Result<(), Error> {
        if self.maps.control()?.doomed_until_boot_ns == 0 {
            return Ok(());
        }
        self.maps.set_control(|control| control.doomed_until_boot_ns = 0)?;
        for word in 0..wire::DENY_DOOMED_WORDS {
            let key = word.to_ne_bytes();
            if get::<u64>(&self.maps.doomed, &key)?.is_some_and(|bits| bits != 0) {
                put(&self.maps.doomed, &key, &0u64)?;
            }
        }
        Ok(())
    }

    /// When an entry began and when it expires; both 0 where there is none.
    pub fn life(&self, id: u64) -> Result<(u64, u64), Error> {
        let entry: Option<wire::deny_entry> = get(&self.maps.entries, &id.to_ne_bytes())?;
        Ok(entry.map_or((0, 0), |entry| (entry.began_boot_ns, entry.expiry_boot_ns)))
    }

    /// The entry of the denied tree that a process belongs to.
    pub fn tree_of(&self, tgid: u32, start_boot_ns: u64) -> Result<Option<u64>, Error> {
        let task: Option<wire::deny_task> = get(&self.maps.tasks, &tgid.to_ne_bytes())?;
        Ok(task.filter(|task| task.start_boot_ns == start_boot_ns).map(|task| task.id))
    }

    fn process(&self, tgid: u32) -> Result<Option<wire::deny_process>, Error> {
        get(&self.maps.processes, &tgid.to_ne_bytes())
    }

    pub fn program_of(&self, tgid: u32) -> Result<Option<(u64, FileKey)>, Error> {
        Ok(self.process(tgid)?.map(|process| {
            let wire::deny_file { device, inode, generation, .. } = process.file;
            (process.program, FileKey { device, inode, generation })
        }))
    }

    pub fn start_of(&self, tgid: u32) -> Result<Option<u64>, Error> {
        Ok(self.process(tgid)?.map(|process| process.start_boot_ns))
    }

    /// Removes an entry that nobody can explain; false where it was gone. Its index matches nothing
    /// from then on.
    pub fn remove_foreign(&self, id: u64) -> Result<bool, Error> {
        let there = self.life(id)?.1 != 0;
        delete(&self.maps.entries, &id.to_ne_bytes())?;
        delete(&self.maps.hits, &id.to_ne_bytes())?;
        self.forget_note(id)?;
        Ok(there)
    }

    fn ask_for(&self, entry: &Entry) -> Result<(), Error> {
        self.maps.ask(|asked| {
            asked.verbs |= self.verbs(entry);
            asked.look |= look_for(&entry.target);
        })
    }

    /// What these refuse and let through is all that is looked up; without entries the programs
    /// return at once.
    pub fn ask<'a>(
        &self,
        entries: impl Iterator<Item = &'a Entry>,
        allowed: &[Target],
    ) -> Result<(), Error> {
        let (verbs, look) = self.asked_by(entries, allowed);
        self.maps.ask(|asked| (asked.verbs, asked.look) = (verbs, look))
    }

    pub(super) fn asked_by<'a>(
        &self,
        entries: impl Iterator<Item = &'a Entry>,
        allowed: &[Target],
    ) -> (u32, u32) {
        let mut look = 0;
        for target in allowed {
            look |= look_for(target) | wire::DENY_LOOK_ALLOWED;
        }
        entries.fold((0, look), |(verbs, look), entry| {
            (verbs | self.verbs(entry), look | look_for(&entry.target))
        })
    }

    /// Ends the entry at once and clears up behind it.
    pub fn uninstall(&self, entry: &Entry) -> Result<(), Error> {
        let key = entry.id.to_ne_bytes();
        delete(&self.maps.entries, &key)?;
        self.maps.unindex(&entry.target, entry.id)?;
        self.forget_note(entry.id)?;
        delete(&self.maps.hits, &key)
    }
}

/// Whether a process that no table has room for is still that one. `/proc` counts in hundredths of a
/// second.
fn is_running(tgid: u32, start_boot_ns: u64) -> bool {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{tgid}/stat")) else { return false };
    // The 22nd field; the second may hold anything, also parentheses.
    let field = text.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19));
    let ticks = field.and_then(|field| field.parse::<u64>().ok());
    ticks.is_some_and(|ticks| ticks.abs_diff(start_boot_ns / 10_000_000) <= 1)
}

pub(super) fn peer_bytes(target: &Target) -> Option<Vec<u8>> {
    match target {
        Target::Peer { address, prefix_length, cgroup_id, program_id } => {
            Some(peer_key(*address, *prefix_length, *cgroup_id, *program_id).bytes().to_vec())
        }
        _ => None,
    }
}

pub(super) fn user_bytes(target: &Target) -> Option<Vec<u8>> {
    match target {
        Target::User { uid } => Some(uid.to_ne_bytes().to_vec()),
        _ => None,
    }
}

pub(super) fn program_bytes(target: &Target) -> Option<Vec<u8>> {
    match target {
        Target::Program { cgroup_id, file, network, .. } => {
            Some(program_key(*cgroup_id, *file, *network).bytes().to_vec())
        }
        _ => None,
    }
}

impl Maps {
    /// Whether it is a tree whose root is entered: none that has exited and whose number another process has.
    fn enters_root(&self, target: &Target) -> Result<bool, Error> {
        let Target::TaskTree { tgid, start_boot_ns } = target else { return Ok(false) };
        let process: Option<wire::deny_process> = get(&self.processes, &tgid.to_ne_bytes())?;
        Ok(process.is_none_or(|process| process.start_boot_ns == *start_boot_ns))
    }

    pub(super) fn index(&self, target: &Target, id: u64) -> Result<Insert, Error> {
        match target {
            Target::Peer { address, prefix_length, cgroup_id, program_id } => {
                let key = peer_key(*address, *prefix_length, *cgroup_id, *program_id);
                put(&self.peers, key.bytes(), &wire::deny_peer { id, plen: key.prefixlen, pad: 0 })
            }
            Target::TaskTree { .. } if !self.enters_root(target)? => Ok(Insert::Done),
            Target::TaskTree { tgid, start_boot_ns } => {
                let value = wire::deny_task { start_boot_ns: *start_boot_ns, id };
                put(&self.tasks, &tgid.to_ne_bytes(), &value)
            }
            Target::Program { cgroup_id, file, network, .. } => {
                put(&self.programs, program_key(*cgroup_id, *file, *network).bytes(), &id)
            }
            Target::User { uid } => put(&self.users, &uid.to_ne_bytes(), &id),
            // In its scope, see `scope`.
            Target::Cgroup { .. } => Ok(Insert::Done),
        }
    }

    /// Removes what points to the entry; what points to another by now stays.
    fn unindex(&self, target: &Target, id: u64) -> Result<(), Error> {
        match target {
            Target::Peer { address, prefix_length, cgroup_id, program_id } => {
                let key = peer_key(*address, *prefix_length, *cgroup_id, *program_id);
                // A lookup finds the longest match: only the same length is this entry.
                let found: Option<wire::deny_peer> = get(&self.peers, key.bytes())?;
                if found.is_some_and(|found| found.id == id && found.plen == key.prefixlen) {
                    delete(&self.peers, key.bytes())?;
                }
                Ok(())
            }
            Target::TaskTree { .. } => self.forget_tree(id),
            Target::Program { cgroup_id, file, network, .. } => {
                let key = program_key(*cgroup_id, *file, *network);
                forget(&self.programs, key.bytes(), id)
            }
            Target::User { uid } => forget(&self.users, &uid.to_ne_bytes(), id),
            Target::Cgroup { .. } => Ok(()),
        }
    }

    fn forget_tree(&self, id: u64) -> Result<(), Error> {
        use libbpf_rs::MapCore;
        let keys: Vec<Vec<u8>> = self.tasks.keys().collect();
        for key in keys {
            let found: Option<wire::deny_task> = get(&self.tasks, &key)?;
            if found.is_some_and(|found| found.id == id) {
                delete(&self.tasks, &key)?;
            }
        }
        Ok(())
    }

    /// Lets a target through, or no longer.
    pub fn allow(&self, target: &Target, allowed: bool) -> Result<Insert, Error> {
        let set = |map, key: &[u8], value: &[u8]| {
            if allowed {
                put_bytes(map, key, value)
            } else {
                delete(map, key).map(|()| Insert::Done)
            }
        };
        match target {
            Target::Peer { address, prefix_length, cgroup_id, .. } => {
                let key = peer_key(*address, *prefix_length, *cgroup_id, 0);
                let value = wire::deny_peer { id: 0, plen: key.prefixlen, pad: 0 };
                set(&self.allow_peers, key.bytes(), value.bytes())
            }
            Target::Program { cgroup_id, file, .. } => set(
                &self.allow_programs,
                program_key(*cgroup_id, *file, false).bytes(),
                &0u64.to_ne_bytes(),
            ),
            // A cgroup in its scope.
            Target::Cgroup { .. } | Target::TaskTree { .. } | Target::User { .. } => {
                Ok(Insert::Done)
            }
        }
    }

    /// Takes out what no live entry and no allowance stands behind: leavings of a dead responder,
    /// or a foreign hand's. What is live is not touched.
    pub fn sweep(
        &self,
        live: &HashSet<u64>,
        scopes: &HashSet<u64>,
        allowed: &[Target],
    ) -> Result<(), Error> {
        let id = |bytes: &[u8]| u64::read(bytes).unwrap_or(0);
        let peer_id = |bytes: &[u8]| wire::deny_peer::read(bytes).map_or(0, |peer| peer.id);
        let task_id = |bytes: &[u8]| wire::deny_task::read(bytes).map_or(0, |task| task.id);
        retain(&self.peers, |_, value| live.contains(&peer_id(value)))?;
        retain(&self.tasks, |_, value| live.contains(&task_id(value)))?;
        retain(&self.programs, |_, value| live.contains(&id(value)))?;
        retain(&self.users, |_, value| live.contains(&id(value)))?;
        retain(&self.scopes, |key, _| scopes.contains(&id(key)))?;
        let peers: HashSet<Vec<u8>> = allowed.iter().filter_map(peer_bytes).collect();
        let programs: HashSet<Vec<u8>> = allowed.iter().filter_map(program_bytes).collect();
        retain(&self.allow_peers, |key, _| peers.contains(key))?;
        retain(&self.allow_programs, |key, _| programs.contains(key))
    }

    /// Writes what is to be looked up for a cgroup; nothing removes the key.
    pub fn set_scope(&self, cgroup_id: u64, id: u64, flags: u32) -> Result<Insert, Error> {
        let key = cgroup_id.to_ne_bytes();
        if id == 0 && flags == 0 {
            return delete(&self.scopes, &key).map(|()| Insert::Done);
        }
        put(&self.scopes, &key, &wire::deny_scope { id, flags, pad: 0 })
    }

    /// Ids of the entries that the kernel holds.
    pub fn ids(&self) -> Vec<u64> {
        use libbpf_rs::MapCore;
        let id = |key: Vec<u8>| key.try_into().ok().map(u64::from_ne_bytes);
        self.entries.keys().filter_map(id).collect()
    }

    /// What was tried, and how many packets from outside were dropped.
    pub fn hits(&self, id: u64) -> Result<(u64, u64), Error> {
        let hits: Option<wire::deny_hits> = get(&self.hits, &id.to_ne_bytes())?;
        Ok(hits.map_or((0, 0), |hits| (hits.hits, hits.inbound)))
    }
}

/// Removes what points to the entry.
fn forget(map: &libbpf_rs::MapHandle, key: &[u8], id: u64) -> Result<(), Error> {
    match get::<u64>(map, key)? {
        Some(found) if found == id => delete(map, key),
        _ => Ok(()),
    }
}
