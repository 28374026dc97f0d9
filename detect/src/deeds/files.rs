//! Deeds that an open tells. Its path is that of the file behind the returned descriptor, so that
//! no other thread can put another one in its place; what calls name by a claimed path is none.

use std::{collections::BTreeMap, sync::Arc};

use hedgerow_event::{Call, Deed, Event, Exec, Provenance};
use hedgerow_features::{ItemKey, place_of, process_file};
use serde::{Deserialize, Serialize};

use super::{bounded::Bounded, calls::set_id, processes::Processes};
use crate::parts;

/// Files that were run, and their directories. Past them those make room of the workload that has most
/// which it ran longest ago.
pub const RAN_MAX: usize = 16_384;
/// Of those, files written and directories renamed in lately, by workload: who has most makes room.
pub const WRITTEN_MAX: usize = 4_096;
/// So long a file that was written counts as rewritten.
const LATELY_NS: u64 = 3_600_000_000_000;
/// A file that ends so is a program, whoever runs it.
pub const SCRIPT_EXTENSIONS: &[&str] = &["cgi", "js", "jsp", "lua", "php", "pl", "py", "rb", "sh"];

/// What was run under a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ran {
    Program,
    Script,
    /// Something in it was.
    Directory,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Files {
    ran: Followed,
    refused: u64,
    #[serde(skip)]
    written: Written,
}

/// What was run, by its path. Whose it was isn't saved: after a restart all are one owner's until they
/// are run anew.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "BTreeMap<u64, Ran>", into = "BTreeMap<u64, Ran>")]
struct Followed(Bounded<u64, u64, Ran>);

impl Default for Followed {
    fn default() -> Self {
        Self(Bounded::new(RAN_MAX, |_| 0))
    }
}

impl From<BTreeMap<u64, Ran>> for Followed {
    fn from(saved: BTreeMap<u64, Ran>) -> Self {
        let mut followed = Self::default();
        saved.into_iter().for_each(|(path, ran)| followed.0.insert(0, path, ran));
        followed
    }
}

impl From<Followed> for BTreeMap<u64, Ran> {
    fn from(followed: Followed) -> Self {
        followed.0.iter().map(|(path, ran)| (path, *ran)).collect()
    }
}

/// Workload and path, and when it wrote it.
#[derive(Debug, Clone)]
struct Written(Bounded<u64, (u64, u64), u64>);

impl Default for Written {
    fn default() -> Self {
        Self(Bounded::new(WRITTEN_MAX, |_| 0))
    }
}

/// A successful open.
struct Open<'a> {
    path: &'a Arc<str>,
    flags: u64,
    mode: u64,
}

impl<'a> Open<'a> {
    /// `None` for other calls, failed ones, and paths that the kernel doesn't vouch for.
    fn of(call: &'a Call) -> Option<Self> {
        let arguments = &call.arguments;
        let (flags, mode) = match i64::from(call.number) {
            #[cfg(target_arch = "x86_64")]
            libc::SYS_open => (arguments[1], arguments[2]),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_creat => ((libc::O_CREAT | libc::O_WRONLY) as u64, arguments[1]),
            libc::SYS_openat => (arguments[2], arguments[3]),
            libc::SYS_open_by_handle_at => (arguments[2], 0),
            libc::SYS_openat2 => (call.openat2_flags(), 0),
            _ => return None,
        };
        let path = call.path.as_ref().filter(|_| call.result >= 0 && !call.claimed)?;
        let open = Self { path, flags, mode };
        (!open.has(libc::O_PATH) && path.starts_with('/')).then_some(open)
    }

    fn has(&self, flags: i32) -> bool {
        self.flags & flags as u64 == flags as u64
    }

    fn reads(&self) -> bool {
        self.flags & libc::O_ACCMODE as u64 != libc::O_WRONLY as u64 && !self.has(libc::O_DIRECTORY)
    }

    fn writes(&self) -> bool {
        self.flags & libc::O_ACCMODE as u64 != libc::O_RDONLY as u64
            || (self.has(libc::O_CREAT) && !self.has(libc::O_DIRECTORY))
    }
}

impl Files {
    /// Adds what another run taught.
    pub fn absorb(&mut self, other: Self) {
        let mut all = BTreeMap::from(std::mem::take(&mut self.ran));
        for (path, ran) in BTreeMap::from(other.ran) {
            let own = all.entry(path).or_insert(ran);
            *own = (*own).min(ran);
        }
        let over = all.len() > RAN_MAX;
        parts::keep(&mut all, RAN_MAX);
        self.ran = all.into();
        self.refused = self.refused.max(other.refused).min(1).max(u64::from(over));
    }

    /// The deeds in an open, and to what.
    pub fn observe_call(
        &mut self,
        items: ItemKey,
        event: &Event,
        call: &Call,
        processes: &mut Processes,
        done: &mut Vec<(Deed, Arc<str>)>,
    ) {
        if is_rename(call) {
            self.note_rename(items, event, processes);
        }
        if let Some(name) = new_name(call)
            && place_of(name).is_some_and(|place| place.decides)
        {
            done.push((Deed::Persistence, format!("{name}{CLAIMED}").into()));
        }
        let Some(open) = Open::of(call) else { return };
        if open.writes() {
            let path = items.path(open.path);
            self.note_write(items, event, (&open, path), processes);
            if self.is_script(open.path, path) && processes.of(&event.actor).serves {
                done.push((Deed::WroteCode, Arc::clone(open.path)));
            }
        }
        if open.has(libc::O_CREAT)
            && let Some(bit) = set_id(open.mode)
        {
            done.push((Deed::SetIdBit, format!("{bit} on {}", open.path).into()));
        }
        if let Some((process, "mem")) = process_file(open.path)
            && open.writes()
            && process != event.actor.tgid
        {
            done.push((Deed::Trace, format!("process {process} (memory)").into()));
        }
        let Some(place) = place_of(open.path) else { return };
        if place.decides && open.writes() {
            done.push((Deed::Persistence, Arc::clone(open.path)));
        }
        let own = process_file(open.path).is_some_and(|(process, _)| process == event.actor.tgid);
        if place.secret && open.reads() && !own {
            done.push((Deed::Secret, Arc::clone(open.path)));
        }
    }

    /// Follows what is run from now on, and tells whether its own workload has rewritten it.
    pub fn observe_exec(
        &mut self,
        items: ItemKey,
        event: &Event,
        exec: &Exec,
        done: &mut Vec<(Deed, Arc<str>)>,
    ) {
        let script = event.actor.subject.program.script_path();
        for (path, ran) in [(Some(&*exec.path), Ran::Program), (script, Ran::Script)] {
            let Some(path) = path.filter(|path| path.starts_with('/')) else { continue };
            if exec.replaced
                && exec.provenance != Provenance::Package
                && self.was_written(items, event, path)
            {
                done.push((Deed::ReplacedWithin, path.into()));
            }
            let owner = items.workload(&event.actor.subject.workload);
            let ran = [(path, ran), (directory(path), Ran::Directory)];
            ran.into_iter().for_each(|(path, ran)| {
                self.ran.0.insert(owner, items.path(path), ran);
            });
        }
    }

    /// Forgets which of the followed files were written.
    pub fn forget_written(&mut self) {
        self.written = Written::default();
    }

    fn note_write(
        &mut self,
        items: ItemKey,
        event: &Event,
        (open, path): (&Open<'_>, u64),
        processes: &mut Processes,
    ) {
        if self.ran.0.contains(path) {
            self.note(items, event, path);
        }
        if open.has(libc::O_CREAT | libc::O_EXCL) {
            let directory = items.path(directory(open.path));
            if self.ran.0.contains(directory) {
                let owner = items.workload(&event.actor.subject.workload);
                processes.made_in(owner, &event.actor, directory);
            }
        }
    }

    /// A file is mostly replaced by one that was made beside it and then renamed. What a rename
    /// names is claimed; that a process made a file there and renamed one is not.
    fn note_rename(&mut self, items: ItemKey, event: &Event, processes: &mut Processes) {
        let directory = processes.of(&event.actor).made_in;
        if directory != 0 {
            let owner = items.workload(&event.actor.subject.workload);
            processes.made_in(owner, &event.actor, 0);
            self.note(items, event, directory);
        }
    }

    fn note(&mut self, items: ItemKey, event: &Event, path: u64) {
        let workload = items.workload(&event.actor.subject.workload);
        self.written.0.insert(workload, (workload, path), event.time_boot_ns);
    }

    fn was_written(&self, items: ItemKey, event: &Event, path: &str) -> bool {
        let own = items.workload(&event.actor.subject.workload);
        [path, directory(path)].into_iter().any(|path| {
            let written = self.written.0.get((own, items.path(path)));
            written.is_some_and(|time| event.time_boot_ns.saturating_sub(*time) <= LATELY_NS)
        })
    }

    fn is_script(&self, path: &str, hash: u64) -> bool {
        let name = path.rsplit('/').next().unwrap_or_default();
        let extension = name.rsplit_once('.').map(|(_, extension)| extension);
        extension.is_some_and(|extension| SCRIPT_EXTENSIONS.contains(&extension))
            || self.ran.0.get(hash) == Some(&Ran::Script)
    }

    /// Files that went for others.
    pub fn refused(&self) -> u64 {
        self.refused + self.ran.0.evicted + self.written.0.evicted
    }
}

/// Behind what a deed is about, where that is claimed.
pub const CLAIMED: &str = " (claimed)";

/// What a file is called from a rename or a link on.
fn new_name(call: &Call) -> Option<&str> {
    let number = i64::from(call.number);
    let is_link = [libc::SYS_linkat, libc::SYS_symlinkat].contains(&number);
    #[cfg(target_arch = "x86_64")]
    let is_link = is_link || [libc::SYS_link, libc::SYS_symlink].contains(&number);
    let named = is_rename(call) || is_link && call.result == 0;
    call.path.as_deref().filter(|path| named && path.starts_with('/'))
}

fn is_rename(call: &Call) -> bool {
    let number = i64::from(call.number);
    #[cfg(target_arch = "x86_64")]
    if number == libc::SYS_rename {
        return call.result == 0;
    }
    (number == libc::SYS_renameat || number == libc::SYS_renameat2) && call.result == 0
}

fn directory(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}
