//! Maps of another layout that an earlier version has left. They are set aside, and refuse until what
//! they hold is in ours: an upgrade lets nothing through.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use hedgerow_bpf::wire;
use libbpf_rs::{MapCore, MapFlags, MapHandle, ProgramMut};

use super::{
    Kernel,
    load::{LISTING_MAX, drain},
    maps::{get, put, put_bytes},
    notes::{self, NOTES},
    pins::{pinned, remove},
};
use crate::{Error, entry::Entry};

/// A tree that forks all the while may come out of the last count by as many as came during it.
const COUNTS_MAX: usize = 16;

/// Where they are set aside.
pub(super) fn aside(directory: &Path) -> PathBuf {
    let mut name = directory.file_name().unwrap_or_default().to_owned();
    name.push("-before");
    directory.with_file_name(name)
}

/// Their programs go on refusing.
pub(super) fn set_aside(directory: &Path) -> Result<(), Error> {
    let to = aside(directory);
    // Of an upgrade that did not end, and older still.
    remove(&to)?;
    fs::rename(directory, &to).map_err(Error::io(format!("can't move {}", directory.display())))
}

/// Takes over what they know of sockets that stand: who made each, and which entry it is marked by. False
/// where they know other things than ours, or of too many.
pub(super) fn carry_sockets(directory: &Path, carry: &ProgramMut<'_>) -> bool {
    let Ok(left) = pinned(&aside(directory), "deny_sockets") else { return true };
    left.value_size() as usize == size_of::<wire::deny_socket>()
        && carry
            .attach_iter(left.as_fd())
            .is_ok_and(|link| drain(&link, Some(LISTING_MAX), |_| Ok(())).is_ok_and(|whole| whole))
}

impl Kernel {
    /// What the maps that were set aside say of their entries; `None` without such maps.
    pub fn left(&self) -> Result<Option<Vec<Entry>>, Error> {
        let aside = aside(&self.directory);
        if !aside.exists() {
            return Ok(None);
        }
        // Who had no notes is explained by the ledger.
        let Ok(notes) = pinned(&aside, NOTES) else { return Ok(Some(Vec::new())) };
        let values = notes.keys().filter_map(|key| notes.lookup(&key, MapFlags::ANY).ok()?);
        Ok(Some(values.filter_map(|value| notes::decode(&value)).collect()))
    }

    /// Takes over what they know of processes: who is denied as part of a tree, and who forked whom,
    /// also where the parents have exited.
    pub fn take_left_processes(&self) -> Result<(), Error> {
        let aside = aside(&self.directory);
        for (name, own) in
            [("deny_processes", &self.maps.processes), ("deny_tasks", &self.maps.tasks)]
        {
            let Ok(left) = pinned(&aside, name) else { continue };
            if left.value_size() == own.value_size() && left.key_size() == own.key_size() {
                copy(&left, own)?;
            }
        }
        Ok(())
    }

    /// Counts the processes of each tree anew: the kernel, which counts who comes and goes, saw none of those
    /// come that were taken over. Who does so meanwhile is in the next count.
    pub fn count_members(&self) -> Result<(), Error> {
        for _ in 0..COUNTS_MAX {
            let counted = self.counted()?;
            let mut was_right = true;
            for id in self.maps.ids() {
                let key = id.to_ne_bytes();
                let members = counted.get(&id).copied().unwrap_or(0);
                let hits: Option<wire::deny_hits> = get(&self.maps.hits, &key)?;
                if let Some(hits) = hits.filter(|hits| hits.members != members) {
                    put(&self.maps.hits, &key, &wire::deny_hits { members, ..hits })?;
                    was_right = false;
                }
            }
            if was_right {
                break;
            }
        }
        Ok(())
    }

    /// Processes in the table by the entry that they are in it for.
    fn counted(&self) -> Result<HashMap<u64, i64>, Error> {
        let mut members = HashMap::new();
        // A key that goes while it is the last that was told has the kernel begin again.
        let keys: HashSet<Vec<u8>> = self.maps.tasks.keys().collect();
        for key in keys {
            if let Some(task) = get::<wire::deny_task>(&self.maps.tasks, &key)? {
                *members.entry(task.id).or_default() += 1;
            }
        }
        Ok(members)
    }

    /// Whether the kill switch lets them refuse.
    pub fn is_left_armed(&self) -> bool {
        let switch = pinned(&aside(&self.directory), "deny_switch").ok();
        let word = switch
            .and_then(|switch| switch.lookup(&0u32.to_ne_bytes(), MapFlags::ANY).ok().flatten());
        word.is_none_or(|word| word.iter().any(|byte| *byte != 0))
    }

    /// Detaches what was set aside.
    pub fn drop_left(&self) -> Result<(), Error> {
        remove(&aside(&self.directory))
    }
}

/// Both tables begin with the start of the process: who is another one by now stays as he is.
fn copy(from: &MapHandle, to: &MapHandle) -> Result<(), Error> {
    const START: usize = size_of::<u64>();
    const _: () = assert!(std::mem::offset_of!(wire::deny_process, start_boot_ns) == 0);
    const _: () = assert!(std::mem::offset_of!(wire::deny_task, start_boot_ns) == 0);
    for key in from.keys() {
        let read = |map: &MapHandle| map.lookup(&key, MapFlags::ANY).ok().flatten();
        let Some(value) = read(from) else { continue };
        if read(to).is_none_or(|own| own[..START] == value[..START]) {
            put_bytes(to, &key, &value)?;
        }
    }
    Ok(())
}
