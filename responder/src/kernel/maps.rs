//! Typed access to the deny maps.

use hedgerow_bpf::{deny::DenySkel, wire};
use libbpf_rs::{ErrorKind, MapCore, MapFlags, MapHandle};

use crate::{Error, wire::Plain};

/// Handles of all deny maps; they stay valid after the object that made them is gone.
#[derive(Debug)]
pub(crate) struct Maps {
    pub switch: MapHandle,
    pub asked: MapHandle,
    pub control: MapHandle,
    pub entries: MapHandle,
    pub hits: MapHandle,
    pub peers: MapHandle,
    pub allow_peers: MapHandle,
    pub tasks: MapHandle,
    pub doomed: MapHandle,
    pub programs: MapHandle,
    pub users: MapHandle,
    pub allow_programs: MapHandle,
    pub scopes: MapHandle,
    pub processes: MapHandle,
    pub sockets: MapHandle,
}

/// What an insertion met.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Insert {
    Done,
    Full,
    /// The process of a task tree has exited, and nothing that it forked is left.
    Nobody,
}

impl Maps {
    pub fn new(skel: &DenySkel<'_>) -> Result<Self, Error> {
        let maps = &skel.maps;
        let handle = |map: &libbpf_rs::MapMut<'_>| {
            MapHandle::try_from(map).map_err(Error::bpf("can't keep a deny map"))
        };
        Ok(Self {
            switch: handle(&maps.deny_switch)?,
            asked: handle(&maps.deny_asked)?,
            control: handle(&maps.deny_control)?,
            entries: handle(&maps.deny_entries)?,
            hits: handle(&maps.deny_hits)?,
            peers: handle(&maps.deny_peers)?,
            allow_peers: handle(&maps.allow_peers)?,
            tasks: handle(&maps.deny_tasks)?,
            doomed: handle(&maps.deny_doomed)?,
            programs: handle(&maps.deny_programs)?,
            users: handle(&maps.deny_users)?,
            allow_programs: handle(&maps.allow_programs)?,
            scopes: handle(&maps.deny_scopes)?,
            processes: handle(&maps.deny_processes)?,
            sockets: handle(&maps.deny_sockets)?,
        })
    }

    /// Whether the kill switch lets entries refuse anything.
    pub fn is_armed(&self) -> Result<bool, Error> {
        let word = self.switch.lookup(&0u32.to_ne_bytes(), MapFlags::ANY);
        let word = word.map_err(Error::bpf("can't read the kill switch"))?;
        Ok(word.ok_or(Error::Malformed("no kill switch"))?.iter().any(|byte| *byte != 0))
    }

    pub fn set_armed(&self, armed: bool) -> Result<(), Error> {
        turn(&self.switch, armed)
    }

    pub fn asked(&self) -> Result<wire::deny_asked, Error> {
        get(&self.asked, &0u32.to_ne_bytes())?.ok_or(Error::Malformed("no word of what is asked"))
    }

    /// What was written holds from here on also for packets of sockets that passed before: each is
    /// looked up anew.
    pub fn changed(&self) -> Result<(), Error> {
        self.ask(|_| {})
    }

    /// Also changes what is looked up at all, and where.
    pub fn ask(&self, change: impl FnOnce(&mut wire::deny_asked)) -> Result<(), Error> {
        let mut asked = self.asked()?;
        change(&mut asked);
        asked.generation = asked.generation.wrapping_add(1).max(1);
        match put(&self.asked, &0u32.to_ne_bytes(), &asked)? {
            Insert::Done => Ok(()),
            _ => Err(Error::Malformed("no room for the word of what is asked")),
        }
    }

    pub fn control(&self) -> Result<wire::deny_control, Error> {
        get(&self.control, &0u32.to_ne_bytes())?.ok_or(Error::Malformed("no control word"))
    }

    /// Changes the control word. The doomed and unknown counters belong to the kernel: an increment
    /// between the read and the write is lost, a denial is not.
    pub fn set_control(&self, change: impl FnOnce(&mut wire::deny_control)) -> Result<(), Error> {
        let mut control = self.control()?;
        change(&mut control);
        match put(&self.control, &0u32.to_ne_bytes(), &control)? {
            Insert::Done => Ok(()),
            _ => Err(Error::Malformed("no room for the control word")),
        }
    }
}

/// Turns the kill switch: one word, written whole.
pub(crate) fn turn(switch: &MapHandle, armed: bool) -> Result<(), Error> {
    match put_bytes(switch, &0u32.to_ne_bytes(), &u32::from(armed).to_ne_bytes())? {
        Insert::Done => Ok(()),
        _ => Err(Error::Malformed("no room for the kill switch")),
    }
}

pub(crate) fn get<V: Plain>(map: &MapHandle, key: &[u8]) -> Result<Option<V>, Error> {
    let value = map.lookup(key, MapFlags::ANY).map_err(Error::bpf("can't read a deny map"))?;
    value
        .map(|bytes| V::read(&bytes).ok_or(Error::Malformed("a deny map's value is short")))
        .transpose()
}

/// Writes a value; a full map is an answer, not an error.
pub(crate) fn put<V: Plain>(map: &MapHandle, key: &[u8], value: &V) -> Result<Insert, Error> {
    put_bytes(map, key, value.bytes())
}

pub(crate) fn put_bytes(map: &MapHandle, key: &[u8], value: &[u8]) -> Result<Insert, Error> {
    match map.update(key, value, MapFlags::ANY) {
        Ok(()) => Ok(Insert::Done),
        Err(error) if is_full(&error) => Ok(Insert::Full),
        Err(error) => Err(Error::bpf("can't write a deny map")(error)),
    }
}

/// E2BIG from hash maps, ENOSPC from tries.
fn is_full(error: &libbpf_rs::Error) -> bool {
    error.kind() == ErrorKind::TooBig
        || std::error::Error::source(error)
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .is_some_and(|source| source.raw_os_error() == Some(libc::ENOSPC))
        || error.to_string().contains("os error 28")
}

/// Removes a key; one that isn't there is fine.
pub(crate) fn delete(map: &MapHandle, key: &[u8]) -> Result<(), Error> {
    match map.delete(key) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::bpf("can't remove from a deny map")(error)),
    }
}

/// Removes every key for which `keep` says no.
pub(crate) fn retain(map: &MapHandle, keep: impl Fn(&[u8], &[u8]) -> bool) -> Result<(), Error> {
    let keys: Vec<Vec<u8>> = map.keys().collect();
    for key in keys {
        let value = map.lookup(&key, MapFlags::ANY).map_err(Error::bpf("can't read a deny map"))?;
        if value.is_some_and(|value| !keep(&key, &value)) {
            delete(map, &key)?;
        }
    }
    Ok(())
}
