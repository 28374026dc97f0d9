//! Loading, attaching and pinning.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    io::{ErrorKind, Read},
    mem::MaybeUninit,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use hedgerow_bpf::{
    deny::{DenySkel, DenySkelBuilder, OpenDenyMaps, OpenDenySkel},
    wire,
};
use libbpf_rs::{
    Iter, Link, MapCore, MapHandle,
    skel::{OpenSkel, Skel, SkelBuilder},
};

use super::{
    Maps, attach, before, host,
    maps::{get, turn},
    pins::{LINKS, Pin, fresh_name, pinned, pins, remove},
};
use crate::{Error, hooks::Hooks, wire::Plain};

/// CPU time of a listing of sockets, past which it goes no further: who shares one large table of
/// descriptors among many processes has each of them listed.
pub(super) const LISTING_MAX: Duration = Duration::from_secs(1);

/// What is fixed at load: places in the maps and the time of a listing, which tests make small, and the
/// key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub entries: u32,
    pub peers: u32,
    pub tasks: u32,
    pub listing: Duration,
    /// Behind programs' ids, which entries and what is kept of tasks name.
    pub identity_key: [u64; 2],
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            entries: wire::DENY_ENTRIES_MAX,
            peers: wire::DENY_PEERS_MAX,
            tasks: wire::DENY_TASKS_MAX,
            listing: LISTING_MAX,
            identity_key: [0; 2],
        }
    }
}

/// The attached programs. Dropping it detaches nothing: the links are pinned.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub maps: Maps,
    /// Entries of an earlier responder were found.
    pub adopted: bool,
    /// What this kernel has of the table.
    pub hooks: Hooks,
    /// Maps of another layout didn't say who made the sockets that stood: that is their first holder.
    pub makers_lost: bool,
    list_sockets: Link,
    listing: Duration,
    /// Listings that came to no end, or weren't begun because one had not.
    cut_short: AtomicU64,
    rest: Rest,
    spread: Link,
    pub(super) notes: MapHandle,
    pub(super) directory: PathBuf,
    /// As they were left at the start.
    pub(super) pins: BTreeMap<String, Pin>,
}

/// So many times as long as a listing took that came to no end none is begun: whoever holds descriptors enough
/// would have the daemon do nothing else.
const RESTS: u64 = 9;

/// The end of the rest after a listing that came to no end, in ns since boot: others wait for whoever lists.
#[derive(Debug, Default)]
struct Rest(AtomicU64);

impl Rest {
    fn is_over(&self, boot_ns: u64) -> bool {
        boot_ns >= self.0.load(Ordering::Relaxed)
    }

    fn begin(&self, boot_ns: u64, listing: Duration) {
        let took = u64::try_from(listing.as_nanos()).unwrap_or(u64::MAX);
        self.0.store(boot_ns.saturating_add(took.saturating_mul(RESTS)), Ordering::Relaxed);
    }
}

/// Forks that go on meanwhile are entered by the fork hook: passes only catch what it was too
/// early for.
const SPREAD_PASSES_MAX: usize = 16;

impl Kernel {
    /// Loads the programs, takes over pinned maps and links where there are any, and pins the rest
    /// under `directory`, which must be on a BPF file system.
    pub fn start(directory: &Path, sizes: Sizes) -> Result<Self, Error> {
        let parent = directory.parent().unwrap_or(Path::new("/"));
        host::ensure_bpffs(parent)?;
        let adopted = check_layout(directory)?;
        let mut storage = MaybeUninit::uninit();
        let hooks = attach::available();
        let skel = load(&mut storage, adopted.then_some(directory), sizes, &hooks)?;
        let maps = Maps::new(&skel)?;
        if !adopted {
            maps.set_control(|control| control.layout = wire::DENY_LAYOUT)?;
            maps.set_armed(true)?;
            pin_maps(&skel, directory)?;
        }
        attach::attach(&skel, &directory.join(LINKS), &hooks)?;
        let enter = skel
            .progs
            .deny_enter_tasks
            .attach()
            .map_err(Error::bpf("can't attach the task iterator"))?;
        drain(&enter, None, |_| Ok(()))?;
        let list_sockets = skel
            .progs
            .deny_list_sockets
            .attach()
            .map_err(Error::bpf("can't attach the socket iterator"))?;
        let spread = skel
            .progs
            .deny_spread
            .attach()
            .map_err(Error::bpf("can't attach the task iterator"))?;
        let makers_lost = !before::carry_sockets(directory, &skel.progs.deny_carry_sockets);
        let notes = super::notes::open(directory, sizes.entries)?;
        let kernel = Self {
            maps,
            notes,
            adopted: adopted || before::aside(directory).exists(),
            hooks,
            list_sockets,
            listing: sizes.listing,
            makers_lost,
            cut_short: AtomicU64::new(0),
            rest: Rest::default(),
            spread,
            directory: directory.to_owned(),
            pins: pins(directory),
        };
        // Sockets older than the hooks get their owner.
        kernel.list_sockets(|_| {})?;
        Ok(kernel)
    }

    /// Hands over the IPv4 and IPv6 sockets of all processes that are denied or listen, one for each
    /// descriptor. False where time was up before all were looked at, or was a moment ago.
    pub fn list_sockets(
        &self,
        mut take: impl FnMut(&wire::deny_socket_record),
    ) -> Result<bool, Error> {
        if !self.rest.is_over(super::now().boot_ns) {
            self.cut_short.fetch_add(1, Ordering::Relaxed);
            return Ok(false);
        }
        let whole = drain(&self.list_sockets, Some(self.listing), |bytes| {
            let size = size_of::<wire::deny_socket_record>();
            if !bytes.len().is_multiple_of(size) {
                return Err(Error::Malformed("a socket record is cut short"));
            }
            let records = bytes.chunks_exact(size).filter_map(wire::deny_socket_record::read);
            records.for_each(|record| take(&record));
            Ok(())
        })?;
        if !whole {
            self.cut_short.fetch_add(1, Ordering::Relaxed);
            self.rest.begin(super::now().boot_ns, self.listing);
        }
        Ok(whole)
    }

    /// Listings of sockets that came to no end since the start, or weren't begun because one had not.
    pub fn cut_short(&self) -> u64 {
        self.cut_short.load(Ordering::Relaxed)
    }

    /// Enters the living members of a tree, until a pass finds no new one. Its root may have exited.
    pub fn spread(&self, tgid: u32, start_boot_ns: u64, id: u64) -> Result<(), Error> {
        self.maps.set_control(|control| {
            control.root = wire::deny_ancestor { start_boot_ns, tgid, pad: 0 };
            control.root_id = id;
        })?;
        for _ in 0..SPREAD_PASSES_MAX {
            let mut fresh = 0;
            drain(&self.spread, None, |bytes| {
                fresh += bytes.len();
                Ok(())
            })?;
            if fresh == 0 {
                break;
            }
        }
        // Their sockets are looked up anew.
        self.maps.changed()
    }

    /// Detaches everything and takes the pins away.
    pub fn remove(self) -> Result<(), Error> {
        remove_all(&self.directory)
    }
}

/// What this kernel can refuse, found by loading everything; nothing is attached.
///
/// # Errors
/// The kernel refuses what is needed everywhere.
pub(crate) fn survey() -> Result<Hooks, Error> {
    let hooks = attach::available();
    let tiny = Sizes { entries: 1, peers: 1, tasks: 1, ..Sizes::default() };
    load(&mut MaybeUninit::uninit(), None, tiny, &hooks)?;
    Ok(hooks)
}

/// Turns the kill switch off through its pin, also that of maps which an upgrade has set aside.
pub(crate) fn disarm(directory: &Path) -> Result<(), Error> {
    let aside = before::aside(directory);
    let left = aside.exists();
    if left {
        turn(&pinned(&aside, "deny_switch")?, false)?;
    }
    match pinned(directory, "deny_switch") {
        Err(Error::NotPinned { .. }) if left => Ok(()),
        switch => turn(&switch?, false),
    }
}

/// Whether there are pinned maps to take over. A set of another layout is set aside. A part of one is
/// an error: nothing empty is ever pinned over what may hold live entries.
fn check_layout(directory: &Path) -> Result<bool, Error> {
    let names = match fs::read_dir(directory) {
        Ok(list) => list.flatten().filter(|entry| entry.file_name() != LINKS).count(),
        Err(_) => return Ok(false),
    };
    if names == 0 {
        remove(directory)?;
        return Ok(false);
    }
    let control = pinned(directory, "deny_control").map_err(|error| match error {
        Error::NotPinned { path } => Error::Incomplete { path, what: "deny_control".into() },
        other => other,
    })?;
    let found = match get::<wire::deny_control>(&control, &0u32.to_ne_bytes()) {
        Ok(Some(control)) => control.layout,
        _ => 0,
    };
    let same = found == wire::DENY_LAYOUT;
    if !same {
        before::set_aside(directory)?;
    }
    Ok(same)
}

fn load<'obj>(
    storage: &'obj mut MaybeUninit<libbpf_rs::OpenObject>,
    adopt: Option<&Path>,
    sizes: Sizes,
    hooks: &Hooks,
) -> Result<DenySkel<'obj>, Error> {
    let mut open: OpenDenySkel<'obj> = DenySkelBuilder::default()
        .open(storage)
        .map_err(Error::bpf("can't open the deny programs"))?;
    attach::choose(&mut open, hooks);
    resize(&mut open.maps, sizes).map_err(Error::bpf("can't size the deny maps"))?;
    if let Some(directory) = adopt {
        reuse(&mut open, directory)?;
    }
    open.load().map_err(Error::bpf("the kernel refused the deny programs"))
}

fn resize(maps: &mut OpenDenyMaps<'_>, sizes: Sizes) -> libbpf_rs::Result<()> {
    if let Some(rodata) = maps.rodata_data.as_mut() {
        rodata.identity_key = sizes.identity_key;
        rodata.tree_share = i64::from(sizes.tasks / 2).max(1);
    }
    maps.deny_entries.set_max_entries(sizes.entries)?;
    maps.deny_hits.set_max_entries(sizes.entries)?;
    maps.deny_peers.set_max_entries(sizes.peers)?;
    maps.deny_tasks.set_max_entries(sizes.tasks)
}

fn reuse(open: &mut OpenDenySkel<'_>, directory: &Path) -> Result<(), Error> {
    let failed = |error| Error::bpf("can't take over the pinned maps")(error);
    for mut map in open.open_object_mut().maps_mut() {
        if let Some(pin) = pin_path(directory, map.name()) {
            if !pin.exists() {
                let what = map.name().to_string_lossy().into_owned();
                return Err(Error::Incomplete { path: directory.to_owned(), what });
            }
            let pinned = MapHandle::from_pinned_path(&pin).map_err(failed)?;
            map.set_max_entries(pinned.max_entries()).map_err(failed)?;
            map.reuse_pinned_map(&pin).map_err(failed)?;
        }
    }
    Ok(())
}

/// Where a map is pinned; the compiler's own maps (`.rodata`) are not.
fn pin_path(directory: &Path, name: &OsStr) -> Option<PathBuf> {
    (!name.to_string_lossy().contains('.')).then(|| directory.join(name))
}

/// Pins into a directory of another name first and renames it: a crash in between leaves no half
/// set that looks whole.
fn pin_maps(skel: &DenySkel<'_>, directory: &Path) -> Result<(), Error> {
    let fresh = fresh_name(directory);
    let failed = || Error::io(format!("can't make {}", directory.display()));
    if fresh.exists() {
        remove(&fresh)?;
    }
    fs::create_dir_all(fresh.join(LINKS)).map_err(failed())?;
    let pin = || -> libbpf_rs::Result<()> {
        for map in skel.object().maps() {
            if let Some(path) = pin_path(&fresh, map.name()) {
                MapHandle::try_from(&map)?.pin(path)?;
            }
        }
        Ok(())
    };
    pin().map_err(Error::bpf("can't pin the deny maps"))?;
    fs::rename(&fresh, directory).map_err(failed())
}

/// Takes away what is pinned under `directory`, and what an upgrade has set aside.
pub(crate) fn remove_all(directory: &Path) -> Result<(), Error> {
    remove(&before::aside(directory))?;
    remove(directory)
}

/// More than the kernel hands over at once, which is whole records.
const READ_BYTES: usize = 64 << 10;

/// Runs an iterator to its end, or until it has taken that CPU time and `false` is returned. One call of
/// the kernel looks at no more than a million objects.
pub(super) fn drain(
    link: &Link,
    within: Option<Duration>,
    mut take: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<bool, Error> {
    let mut iterator = Iter::new(link).map_err(Error::bpf("can't start an iterator"))?;
    let mut bytes = vec![0; READ_BYTES];
    let begun = host::cpu_time();
    loop {
        match iterator.read(&mut bytes) {
            Ok(0) => return Ok(true),
            Ok(size) => take(&bytes[..size])?,
            // Of a million objects there was nothing to tell.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("can't read an iterator")(error)),
        }
        if within.is_some_and(|within| host::cpu_time().saturating_sub(begun) >= within) {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_that_come_to_no_end_take_a_tenth_of_the_time() {
        let rest = Rest::default();
        assert!(rest.is_over(0), "none was cut short");
        let (mut now, mut listed) = (0, Duration::ZERO);
        // Asked again at each millisecond of a hundred seconds.
        while now < 100_000_000_000 {
            if rest.is_over(now) {
                listed += LISTING_MAX;
                now += LISTING_MAX.as_nanos() as u64;
                rest.begin(now, LISTING_MAX);
            } else {
                now += 1_000_000;
            }
        }
        assert_eq!(listed, 10 * LISTING_MAX);
        rest.begin(u64::MAX - 1, Duration::MAX);
        assert!(!rest.is_over(u64::MAX - 1), "no overflow ends it");
    }
}
