//! SHA-256 of the files that programs run, and which paths changed theirs.
//!
//! A thread of its own reads the files; whoever asks never waits. The kernel's key of the real
//! inode (device, inode, generation, change time) says whether a file is the one that was hashed
//! before, so each is read once. What is opened through `/proc` is only believed where inode and,
//! unless it still runs, change time are those that the kernel saw at the exec. A file that takes
//! too long is left behind, see [`hedgerow_hostfile`].
//!
//! A script has no key of the kernel's: at each exec the thread looks at the file of its absolute
//! path, and reads it where it is not the one that it read before. Which script is run is claimed,
//! and so is its digest; a relative path says too little.

mod reader;

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::Arc,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use hedgerow_bpf::wire::wire_file;
use hedgerow_event::{Digest, Workload};
use hedgerow_hostfile::Refusals;

pub use self::reader::FILE_BYTES_MAX;
use self::reader::{Found, Job, Outcome, Reader};

/// Files that wait to be read. Full: the digest stays unknown, and is asked for at the next exec.
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

/// What is known of an exec's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Known {
        digest: Digest,
        /// The path is known with other digests only; said once of each.
        replaced: bool,
    },
    /// It is being read, and may turn out to replace what was known at this path.
    Soon,
    /// It can't be read, is too large, or is being read where nothing was known.
    Unknown,
}

#[derive(Debug, Clone)]
enum State {
    /// Being read for these paths.
    Asked(Vec<Place>),
    Known(Digest),
    Unreadable,
}

/// What each path was seen to run.
#[derive(Debug)]
pub struct Digests {
    files: HashMap<ContentKey, State>,
    paths: HashMap<Place, VecDeque<Digest>>,
    /// Looks at scripts that an exec waits for, with what was found.
    looks: HashMap<u64, Option<Found>>,
    next_look: u64,
    jobs: Sender<Job>,
    outcomes: Receiver<Outcome>,
    forgotten: u64,
    refused: u64,
    refusals: Refusals,
}

impl Digests {
    /// Starts the thread that reads; it ends with this.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start() -> io::Result<Self> {
        let (jobs, work) = bounded::<Job>(QUEUE);
        // Full: the thread waits, until the next exec takes them out.
        let (done, outcomes) = bounded(QUEUE);
        let mut reader = Reader::new();
        let refusals = reader.refusals();
        std::thread::Builder::new().name("hedgerow-digest".into()).spawn(move || {
            for job in work {
                let Some(outcome) = reader.work_on(job) else { continue };
                if done.send(outcome).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self {
            files: HashMap::new(),
            paths: HashMap::new(),
            looks: HashMap::new(),
            next_look: 0,
            jobs,
            outcomes,
            forgotten: 0,
            refused: 0,
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

    /// Files that found the queue full.
    pub fn refused(&self) -> u64 {
        self.refused
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
        if !self.paths.contains_key(&place)
            && self.jobs.try_send(Job::Running(tgid, place)).is_err()
        {
            self.refused += 1;
        }
    }

    /// The digest of an exec's file; asks for it where it was not read yet.
    pub fn exec(&mut self, image: &Image) -> Answer {
        self.collect();
        if let Some(State::Known(digest)) = self.files.get(&image.key) {
            let digest = *digest;
            return self.told(&image.place, digest);
        }
        if !self.ask(image) {
            return Answer::Unknown;
        }
        if self.paths.contains_key(&image.place) { Answer::Soon } else { Answer::Unknown }
    }

    fn told(&mut self, place: &Place, digest: Digest) -> Answer {
        let replaced = self.paths.get(place).is_some_and(|known| !known.contains(&digest));
        self.know(place.clone(), digest);
        Answer::Known { digest, replaced }
    }

    /// Has a script looked at; what is to be waited for where it may turn out to be replaced.
    pub fn script(&mut self, script: Script) -> Option<Wanted> {
        let place = script.place.clone();
        let look = self.next_look;
        self.next_look += 1;
        if self.jobs.try_send(Job::Script(script, look)).is_err() {
            self.refused += 1;
            return None;
        }
        if !self.paths.contains_key(&place) {
            return None;
        }
        // Nobody came back for them.
        if self.looks.len() >= LOOKS_MAX {
            self.looks.clear();
            self.forgotten += 1;
        }
        self.looks.insert(look, None);
        Some(Wanted::Script(place, look))
    }

    /// What is known by now of what an exec waits for.
    pub fn answer(&mut self, wanted: &Wanted) -> Answer {
        let (place, look) = match wanted {
            Wanted::Image(image) => return self.exec(image),
            Wanted::Script(place, look) => (place, look),
        };
        self.collect();
        match self.looks.get(look) {
            Some(None) => Answer::Soon,
            Some(Some(Found::Digest(digest))) => {
                let digest = *digest;
                self.looks.remove(look);
                self.told(place, digest)
            }
            Some(Some(Found::Unreadable | Found::Gone)) | None => {
                self.looks.remove(look);
                Answer::Unknown
            }
        }
    }

    /// Has the file read; false where that can't be.
    fn ask(&mut self, image: &Image) -> bool {
        match self.files.get_mut(&image.key) {
            Some(State::Asked(places)) => {
                if !places.contains(&image.place) && places.len() < VERSIONS {
                    places.push(image.place.clone());
                }
                return true;
            }
            Some(_) => return false,
            None => {}
        }
        if self.jobs.try_send(Job::Image(image.clone())).is_err() {
            self.refused += 1;
            return false;
        }
        if self.files.len() >= FILES_MAX {
            self.files.clear();
            self.forgotten += 1;
        }
        self.files.insert(image.key, State::Asked(vec![image.place.clone()]));
        true
    }

    /// Takes what has been read meanwhile. A path of which nothing was known is known from here
    /// on; one that had another digest is told so at an exec.
    fn collect(&mut self) {
        while let Ok(outcome) = self.outcomes.try_recv() {
            match outcome {
                Outcome::Running(place, digest) => {
                    if !self.paths.contains_key(&place) {
                        self.know(place, digest);
                    }
                }
                Outcome::Script(place, look, found) => {
                    if let Some(waited) = self.looks.get_mut(&look) {
                        *waited = Some(found);
                    } else if let Found::Digest(digest) = found
                        && !self.paths.contains_key(&place)
                    {
                        self.know(place, digest);
                    }
                }
                Outcome::Image(key, Found::Gone) => {
                    self.files.remove(&key);
                }
                Outcome::Image(key, Found::Unreadable) => {
                    self.files.insert(key, State::Unreadable);
                }
                Outcome::Image(key, Found::Digest(digest)) => {
                    let asked = self.files.insert(key, State::Known(digest));
                    let Some(State::Asked(places)) = asked else { continue };
                    for place in places {
                        if !self.paths.contains_key(&place) {
                            self.know(place, digest);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        fs,
        os::unix::fs::MetadataExt,
        path::Path,
        time::{Duration, Instant},
    };

    use sha2::Digest as _;

    use super::{reader::ctime_ns, *};

    fn key(path: &Path) -> ContentKey {
        let metadata = fs::metadata(path).unwrap();
        ContentKey {
            device: metadata.dev(),
            inode: metadata.ino(),
            generation: 0,
            ctime_ns: ctime_ns(&metadata),
        }
    }

    /// As if this process' child had run the file, and were gone.
    pub fn image(path: &Path) -> Image {
        let place = (Workload::host(), path.to_str().unwrap().into());
        Image { key: key(path), place, tgid: u32::MAX, parent_tgid: std::process::id() }
    }

    #[track_caller]
    fn answer(digests: &mut Digests, image: &Image) -> (Digest, bool) {
        let start = Instant::now();
        loop {
            if let Answer::Known { digest, replaced } = digests.exec(image) {
                return (digest, replaced);
            }
            assert!(start.elapsed() < Duration::from_secs(20), "no digest");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn sha(text: &str) -> Digest {
        Digest(sha2::Sha256::digest(text).into())
    }

    #[test]
    fn a_path_is_replaced_once_by_other_content_and_not_by_a_copy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        let put = |text: &str| {
            let fresh = directory.path().join("fresh");
            fs::write(&fresh, text).unwrap();
            fs::rename(&fresh, &path).unwrap();
        };
        let mut digests = Digests::start().unwrap();
        put("one");
        assert_eq!(digests.exec(&image(&path)), Answer::Unknown, "nothing was known");
        assert_eq!(answer(&mut digests, &image(&path)), (sha("one"), false));
        put("one");
        assert_eq!(digests.exec(&image(&path)), Answer::Soon, "another file, maybe the same");
        assert_eq!(answer(&mut digests, &image(&path)), (sha("one"), false));
        put("two");
        assert_eq!(answer(&mut digests, &image(&path)), (sha("two"), true));
        assert_eq!(answer(&mut digests, &image(&path)), (sha("two"), false), "said once");
        put("one");
        assert_eq!(answer(&mut digests, &image(&path)), (sha("one"), false), "both are known");
    }

    #[test]
    fn a_script_is_replaced_once_by_other_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("script");
        let mut digests = Digests::start().unwrap();
        let mut look = || {
            let start = Instant::now();
            let mut wanted = None;
            loop {
                assert!(start.elapsed() < Duration::from_secs(20), "it is never known");
                let answer = wanted.as_ref().map(|wanted| digests.answer(wanted));
                match answer {
                    Some(Answer::Known { digest, replaced }) => return (digest, replaced),
                    Some(Answer::Soon) => {}
                    Some(Answer::Unknown) | None => {
                        digests.collect();
                        wanted = digests.script(Script {
                            place: (Workload::host(), path.to_str().unwrap().into()),
                            tgid: u32::MAX,
                            parent_tgid: std::process::id(),
                        });
                    }
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        fs::write(&path, "one").unwrap();
        assert_eq!(look(), (sha("one"), false));
        fs::write(&path, "other").unwrap();
        assert_eq!(look(), (sha("other"), true));
        assert_eq!(look(), (sha("other"), false), "said once");
    }

    #[test]
    fn what_was_learned_before_is_known() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "evil").unwrap();
        let image = image(file.path());
        let mut digests = Digests::start().unwrap();
        digests.know(image.place.clone(), sha("good"));
        assert_eq!(answer(&mut digests, &image), (sha("evil"), true));
    }

    #[test]
    fn a_program_that_removed_its_file_is_read_while_it_runs() {
        let directory = tempfile::tempdir().unwrap();
        // Its name says what it is where it is busybox.
        let path = directory.path().join("sleep");
        fs::copy("/bin/sleep", &path).unwrap();
        let mut child = std::process::Command::new(&path).arg("60").spawn().unwrap();
        let image = Image { tgid: child.id(), ..image(&path) };
        let content = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let mut digests = Digests::start().unwrap();
        let told = answer(&mut digests, &image);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(told, (Digest(sha2::Sha256::digest(content).into()), false));
    }

    #[test]
    fn caches_and_the_queue_stay_bounded() {
        let mut digests = Digests::start().unwrap();
        for number in 0..(PATHS_MAX + 10) as u64 {
            let path: Arc<str> = format!("/{number}").into();
            digests.know((Workload::host(), path.clone()), sha("x"));
            let key = ContentKey { device: 1, inode: number, generation: 0, ctime_ns: 1 };
            let place = (Workload::host(), path);
            digests.exec(&Image { key, place, tgid: u32::MAX, parent_tgid: u32::MAX });
        }
        assert!(digests.paths.len() <= PATHS_MAX && digests.files.len() <= FILES_MAX);
        assert!(digests.forgotten() > 0);
        let place = (Workload::host(), Arc::from("/v"));
        (0..100u8).for_each(|byte| digests.know(place.clone(), sha(&byte.to_string())));
        assert_eq!(digests.paths[&place].len(), VERSIONS);
    }
}
