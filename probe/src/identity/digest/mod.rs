//! SHA-256 of the files that programs run, which paths changed theirs, and where they come from.
//!
//! Threads of their own find the files and read them; whoever asks never waits. The kernel's key of
//! the real inode (device, inode, generation, change time) says whether a file is the one that was
//! hashed before, so each is read once. What is opened through `/proc` is only believed where inode
//! and, unless it still runs, change time are those that the kernel saw at the exec. A file
//! that takes too long is left behind, see [`hedgerow_hostfile`].
//!
//! A path that was known by its content and is run from a file whose content can't be had (too large,
//! a server's, gone before it was found) is told as replaced, without a digest: what nobody could
//! compare is never taken for unchanged.
//!
//! A script has no key of the kernel's: at each exec a thread looks at the file of its absolute
//! path, and has it read where it is not the one that it read before. Which script is run is
//! claimed, and so is its digest; a relative path says too little.

mod finder;
mod reader;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use crossbeam_channel::{Receiver, Sender, bounded};
use hedgerow_bpf::wire::{self, wire_exec, wire_file};
use hedgerow_event::{Digest, Provenance, Workload};
use hedgerow_hostfile::Refusals;
use sha2::Digest as _;

pub use self::reader::FILE_BYTES_MAX;
use self::{
    finder::{Finder, Job},
    reader::{Read, Reader},
};
use super::provenance::{Layer, Md5, Origin, Ownership, Setting, Sources};

/// Files that wait to be found, and to be read. Full: the digest stays unknown, and is asked for at
/// the next exec.
const QUEUE: usize = 256;
/// Digests remembered by the kernel's key; a full cache is forgotten as a whole, and counted.
const FILES_MAX: usize = 8192;
/// Paths of which the digests are remembered, with the same policy.
const PATHS_MAX: usize = 16_384;
/// Digests that a path may have without being called replaced: containers of one workload may run
/// two versions of it. The oldest goes.
const VERSIONS: usize = 4;
/// Looks at scripts that are waited for; when full all are forgotten, and counted.
const LOOKS_MAX: usize = 1024;

/// The kernel's name of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentKey {
    device: u64,
    inode: u64,
    generation: u32,
    ctime_ns: u64,
}

impl From<&wire_file> for ContentKey {
    fn from(file: &wire_file) -> Self {
        let wire_file { device, inode, generation, ctime_ns, .. } = *file;
        Self { device, inode, generation, ctime_ns }
    }
}

/// What a file's content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    pub digest: Digest,
    /// By which dpkg knows it.
    pub md5: Md5,
}

/// A path as the processes of a workload see it.
pub type Place = (Workload, Arc<str>);

/// An exec whose file's digest is wanted.
#[derive(Debug, Clone)]
pub struct Image {
    pub key: ContentKey,
    pub place: Place,
    /// The process that runs it, and one that saw the same files should that be gone.
    pub tgid: u32,
    pub parent_tgid: u32,
    pub layer: Layer,
}

impl Image {
    pub fn new(exec: &wire_exec, place: Place) -> Self {
        let layer = if exec.flags & wire::WIRE_EXEC_UPPER != 0 {
            Layer::Upper
        } else if exec.flags & wire::WIRE_EXEC_LOWER != 0 {
            Layer::Lower
        } else {
            Layer::None
        };
        let (tgid, parent_tgid) = (exec.actor.tgid, exec.parent_tgid);
        Self { key: (&exec.file).into(), place, tgid, parent_tgid, layer }
    }
}

/// A script that a process was seen to be started for.
#[derive(Debug, Clone)]
pub struct Script {
    /// Workload and absolute path.
    pub place: Place,
    /// As in [`Image`].
    pub tgid: u32,
    pub parent_tgid: u32,
}

/// What an exec waits for.
#[derive(Debug, Clone)]
pub enum Wanted {
    Image(Image),
    /// A look at a script, by the number of [`Digests::script`].
    Script(Place, u64),
}

/// What is worth waiting for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Waits {
    /// It is all known, or can't be.
    #[default]
    Nothing,
    /// It is being found out where the file comes from.
    Provenance,
    /// It is being read, and may turn out to replace what was known at this path.
    Digest,
}

/// What is known of an exec's file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answer {
    pub digest: Option<Digest>,
    /// The path is known with other digests only; said once of each.
    pub replaced: bool,
    pub provenance: Option<Provenance>,
    pub waits: Waits,
}

#[derive(Debug, Clone)]
enum State {
    /// Being read for these paths.
    Asked(Vec<Place>),
    Known(Content),
    Unreadable,
}

/// A file's content, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Content(Content),
    /// Too large, or no regular file that can be read.
    Unreadable,
    /// The processes that could lead to it are gone, or its owner is refused.
    Gone,
}

/// What the threads found out.
#[derive(Debug)]
enum Outcome {
    /// How a file lies at a path, told before it is read.
    Placed(ContentKey, Arc<str>, Setting),
    Image(ContentKey, Arc<str>, Found),
    Running(Place, Digest),
    /// The same of the look at a script, and its path without links.
    ScriptPlaced(u64, Arc<str>, Origin),
    Script(Place, u64, Found),
}

/// What a look at a script has found so far.
#[derive(Debug, Default)]
struct Look {
    found: Option<Found>,
    at: Option<(Arc<str>, Origin)>,
}

/// What each path was seen to run.
#[derive(Debug)]
pub struct Digests {
    files: HashMap<ContentKey, State>,
    /// How files lie at their paths; `None` while it is found out.
    settings: HashMap<(ContentKey, Arc<str>), Option<Setting>>,
    paths: HashMap<Place, VecDeque<Digest>>,
    /// Files that could not be found, at most [`FILES_MAX`]; they are looked for again at each exec.
    gone: HashSet<ContentKey>,
    /// Looks at scripts that an exec waits for.
    looks: HashMap<u64, Look>,
    next_look: u64,
    ownership: Arc<Ownership>,
    jobs: Sender<Job>,
    outcomes: Receiver<Outcome>,
    forgotten: u64,
    refused: Arc<AtomicU64>,
    refusals: Refusals,
}

impl Digests {
    /// Starts the threads that find and read; they end with this.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start(sources: Sources) -> io::Result<Self> {
        let ownership = Ownership::start(sources)?;
        // Full: the threads wait, until the next exec takes them out.
        let (outcomes_in, outcomes) = bounded(QUEUE);
        let scripts = Arc::new(Mutex::new(HashMap::new()));
        let refused = Arc::new(AtomicU64::new(0));
        let refusals = Refusals::default();
        let (reads, work) = bounded::<Read>(QUEUE);
        let mut reader = Reader {
            files: hedgerow_hostfile::Reader::sharing("digests", refusals.clone()),
            ownership: Arc::clone(&ownership),
            outcomes: outcomes_in.clone(),
            scripts: Arc::clone(&scripts),
        };
        let named = |name: &str| std::thread::Builder::new().name(name.into());
        named("hedgerow-digest")
            .spawn(move || work.iter().for_each(|read| reader.work_on(read)))?;
        let (jobs, work) = bounded::<Job>(QUEUE);
        let mut finder = Finder {
            files: hedgerow_hostfile::Reader::sharing("programs", refusals.clone()),
            ownership: Arc::clone(&ownership),
            reads,
            outcomes: outcomes_in,
            scripts,
            refused: Arc::clone(&refused),
        };
        named("hedgerow-find").spawn(move || work.iter().for_each(|job| finder.work_on(job)))?;
        Ok(Self {
            files: HashMap::new(),
            settings: HashMap::new(),
            paths: HashMap::new(),
            gone: HashSet::new(),
            looks: HashMap::new(),
            next_look: 0,
            ownership,
            jobs,
            outcomes,
            forgotten: 0,
            refused,
            refusals,
        })
    }

    /// Times that a full cache was forgotten.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Whose files are not read, because one took too long.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Files that found a queue full.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// A program was learned with this digest, in an earlier run perhaps.
    pub fn know(&mut self, place: Place, digest: Digest) {
        if self.paths.len() >= PATHS_MAX && !self.paths.contains_key(&place) {
            self.paths.clear();
            self.forgotten += 1;
        }
        let versions = self.paths.entry(place).or_default();
        if versions.contains(&digest) {
            return;
        }
        if versions.len() >= VERSIONS {
            versions.pop_front();
        }
        versions.push_back(digest);
    }

    /// Notes what a process ran before it could be seen to exec.
    pub fn running(&mut self, tgid: u32, place: Place) {
        self.collect();
        if !self.paths.contains_key(&place) {
            self.send(Job::Running(tgid, place));
        }
    }

    fn send(&mut self, job: Job) -> bool {
        let sent = self.jobs.try_send(job).is_ok();
        if !sent {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    /// What is known of an exec's file; asks for what was not read yet.
    pub fn exec(&mut self, image: &Image) -> Answer {
        self.collect();
        let (place, path) = (&image.place, &image.place.1);
        let content = match self.files.get(&image.key) {
            Some(State::Known(content)) => Some(*content),
            _ => None,
        };
        let origin = self.origin(image);
        let comes = (content.is_none() || origin.is_none()) && self.ask(image);
        let md5 = content.map(|content| content.md5);
        let provenance = origin.and_then(|origin| self.ownership.judge(path, origin, md5));
        let waits = if comes && content.is_none() && self.paths.contains_key(place) {
            Waits::Digest
        } else if comes && provenance.is_none() {
            Waits::Provenance
        } else {
            Waits::Nothing
        };
        let digest = content.map(|content| content.digest);
        let unreadable = matches!(self.files.get(&image.key), Some(State::Unreadable));
        let replaced = match digest {
            Some(digest) => self.told(place, digest),
            None => unreadable && self.unread(image),
        };
        Answer { digest, replaced, provenance, waits }
    }

    /// Whether the path was known by its content, now that this file's can't be had; said once of
    /// each file.
    pub fn unread(&mut self, image: &Image) -> bool {
        if !self.paths.contains_key(&image.place) {
            return false;
        }
        let ContentKey { device, inode, generation, ctime_ns } = image.key;
        let mut stands_for = sha2::Sha256::new_with_prefix("unread");
        [device, inode, generation.into(), ctime_ns]
            .iter()
            .for_each(|part| stands_for.update(part.to_ne_bytes()));
        self.told(&image.place, Digest(stands_for.finalize().into()))
    }

    /// What the layer alone tells: only where the host itself has layers must it be found out whose
    /// they are.
    pub fn of_layer(&self, layer: Layer) -> Option<Provenance> {
        match layer {
            _ if self.ownership.host().layered => None,
            Layer::None => None,
            Layer::Lower => Some(Provenance::Image),
            Layer::Upper => Some(Provenance::Drift),
        }
    }

    /// How the file lies, where that is known.
    fn origin(&self, image: &Image) -> Option<Origin> {
        let layer = image.layer;
        if self.of_layer(layer).is_some() {
            return Some(Origin { layer, setting: Setting::default() });
        }
        let known = self.settings.get(&(image.key, Arc::clone(&image.place.1)));
        known.copied().flatten().map(|setting| Origin { layer, setting })
    }

    /// Whether the path was known with other digests only; it is known with this one from here on.
    fn told(&mut self, place: &Place, digest: Digest) -> bool {
        let replaced = self.paths.get(place).is_some_and(|known| !known.contains(&digest));
        self.know(place.clone(), digest);
        replaced
    }

    /// Has a script looked at; what is to be waited for.
    pub fn script(&mut self, script: Script) -> Option<Wanted> {
        let place = script.place.clone();
        let look = self.next_look;
        self.next_look += 1;
        if !self.send(Job::Script(script, look)) {
            return None;
        }
        if self.looks.len() >= LOOKS_MAX {
            self.looks.clear();
            self.forgotten += 1;
        }
        self.looks.insert(look, Look::default());
        Some(Wanted::Script(place, look))
    }

    /// What is known by now of what an exec waits for; `last`: it doesn't any longer.
    pub fn answer(&mut self, wanted: &Wanted, last: bool) -> Answer {
        let (place, number) = match wanted {
            Wanted::Image(image) => {
                let mut answer = self.exec(image);
                if last && answer.digest.is_none() && self.gone.contains(&image.key) {
                    answer.replaced |= self.unread(image);
                }
                return answer;
            }
            Wanted::Script(place, number) => (place, *number),
        };
        self.collect();
        let Some(look) = self.looks.get(&number) else { return Answer::default() };
        let content = match look.found {
            Some(Found::Content(content)) => Some(content),
            _ => None,
        };
        let (md5, at) = (content.map(|content| content.md5), look.at.as_ref());
        let provenance = at.and_then(|(path, origin)| self.ownership.judge(path, *origin, md5));
        let waits = match (look.found, provenance) {
            (Some(_), _) => Waits::Nothing,
            (None, _) if self.paths.contains_key(place) => Waits::Digest,
            (None, None) => Waits::Provenance,
            (None, Some(_)) => Waits::Nothing,
        };
        if last || waits == Waits::Nothing {
            self.looks.remove(&number);
        }
        let digest = content.map(|content| content.digest);
        let replaced = digest.is_some_and(|digest| self.told(place, digest));
        Answer { digest, replaced, provenance, waits }
    }

    /// Has the file found, and read where its content is not known; false where that can't be, or
    /// has been tried.
    fn ask(&mut self, image: &Image) -> bool {
        let at = (image.key, Arc::clone(&image.place.1));
        let placing = self.settings.get(&at);
        let content = match self.files.get_mut(&image.key) {
            Some(State::Asked(places)) => {
                if !places.contains(&image.place) && places.len() < VERSIONS {
                    places.push(image.place.clone());
                }
                if placing.is_some() {
                    return true;
                }
                false
            }
            Some(State::Known(_) | State::Unreadable) => match placing {
                Some(None) => return true,
                Some(Some(_)) => return false,
                None => false,
            },
            None => true,
        };
        if !self.send(Job::Image { image: image.clone(), content }) {
            return false;
        }
        if self.files.len() >= FILES_MAX || self.settings.len() >= FILES_MAX {
            self.files.clear();
            self.settings.clear();
            self.forgotten += 1;
        }
        self.settings.entry(at).or_insert(None);
        if content {
            self.files.insert(image.key, State::Asked(vec![image.place.clone()]));
        }
        true
    }

    /// Takes what has been found out meanwhile. A path of which nothing was known is known from
    /// here on; one that had another digest is told so at an exec.
    fn collect(&mut self) {
        while let Ok(outcome) = self.outcomes.try_recv() {
            match outcome {
                Outcome::Running(place, digest) => self.know_first(place, digest),
                Outcome::ScriptPlaced(look, path, origin) => {
                    if let Some(look) = self.looks.get_mut(&look) {
                        look.at = Some((path, origin));
                    }
                }
                Outcome::Script(place, look, found) => {
                    if let Some(look) = self.looks.get_mut(&look) {
                        look.found = Some(found);
                    } else if let Found::Content(content) = found {
                        self.know_first(place, content.digest);
                    }
                }
                Outcome::Placed(key, path, setting) => {
                    self.settings.insert((key, path), Some(setting));
                }
                Outcome::Image(key, path, found) => self.image(key, path, found),
            }
        }
    }

    fn image(&mut self, key: ContentKey, path: Arc<str>, found: Found) {
        match found {
            Found::Gone => {
                if self.gone.len() >= FILES_MAX {
                    self.gone.clear();
                }
                self.gone.insert(key);
                self.settings.remove(&(key, path));
                if let Some(State::Asked(_)) = self.files.get(&key) {
                    self.files.remove(&key);
                }
            }
            Found::Unreadable => {
                self.files.insert(key, State::Unreadable);
            }
            Found::Content(content) => {
                self.gone.remove(&key);
                let asked = self.files.insert(key, State::Known(content));
                let Some(State::Asked(places)) = asked else { return };
                for place in places {
                    self.know_first(place, content.digest);
                }
            }
        }
    }

    fn know_first(&mut self, place: Place, digest: Digest) {
        if !self.paths.contains_key(&place) {
            self.know(place, digest);
        }
    }
}

#[cfg(test)]
mod tests;
