//! What normal life has shown, kept over restarts and reboots: without it a restart of the daemon would
//! make the peers of the baseline, and files that several workloads run, deniable.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
    io::ErrorKind,
    net::IpAddr,
    path::{Path, PathBuf},
};

use hedgerow_event::{FileKey, Workload};
use serde::{Deserialize, Serialize};

use super::{ProtectedSet, SHARED_MAX, files::FILES_MAX};
use crate::{Error, standing::replace};

const VERSION: u32 = 1;
/// A file that is larger is none that [`ProtectedSet`] could have filled: its parts are bounded by what
/// they take as they are written, to 56 MiB in all.
const BYTES_MAX: u64 = 64 << 20;

/// The file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remembered {
    version: u32,
    /// Peers used while learning.
    baseline: BTreeMap<Workload, BTreeSet<IpAddr>>,
    /// Workloads that have more of them than there was room for.
    overflowed: BTreeSet<Workload>,
    /// There were more of those than there was room for.
    #[serde(default, skip_serializing_if = "is_false")]
    all_overflowed: bool,
    /// Workloads that use a private address.
    private_users: BTreeMap<IpAddr, BTreeSet<Workload>>,
    /// There were more than there was room for.
    #[serde(default, skip_serializing_if = "is_false")]
    private_overflowed: bool,
    /// Workloads that ran a file, the one that was used last at the end.
    files: Vec<(FileKey, BTreeSet<Workload>)>,
}

/// So that what was never needed is not written, and an older version reads it.
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Default for Remembered {
    fn default() -> Self {
        Self {
            version: VERSION,
            baseline: BTreeMap::new(),
            overflowed: BTreeSet::new(),
            all_overflowed: false,
            private_users: BTreeMap::new(),
            private_overflowed: false,
            files: Vec::new(),
        }
    }
}

impl Remembered {
    /// Reads the file; what was never written is empty.
    ///
    /// # Errors
    /// It can't be read, or isn't what [`Self::save`] writes.
    pub(crate) fn load(path: &Path) -> Result<Self, Error> {
        let broken = |why: String| Error::Remembered { path: path.to_owned(), why };
        match fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Ok(metadata) if metadata.len() > BYTES_MAX => {
                return Err(broken(format!("{} bytes are too many", metadata.len())));
            }
            _ => {}
        }
        let text = fs::read(path).map_err(|why| broken(why.to_string()))?;
        let read: Self = serde_json::from_slice(&text).map_err(|why| broken(why.to_string()))?;
        if read.version != VERSION {
            return Err(broken(format!("version {}, this build has {VERSION}", read.version)));
        }
        Ok(read)
    }

    /// Reads the file, and says why nothing may be denied by itself where that is so: what can't be read is
    /// set aside, and speaks as long as it lies there.
    ///
    /// # Errors
    /// It can't be set aside either.
    pub(crate) fn recall(path: &Path) -> Result<(Self, Option<String>), Error> {
        let why = match Self::load(path) {
            Ok(known) => return Ok((known, aside(path).exists().then(|| waits(path)))),
            Err(why) => why,
        };
        fs::rename(path, aside(path))
            .map_err(Error::io(format!("{why}; can't set it aside either")))?;
        Ok((Self::default(), Some(format!("{why}; {}", waits(path)))))
    }

    pub(crate) fn save(&self, path: &Path) -> Result<(), Error> {
        let failed = Error::io(format!("can't write {}", path.display()));
        match serde_json::to_vec(self) {
            Ok(text) => replace(path, &text),
            Err(why) => Err(failed(why.into())),
        }
    }
}

/// Where a file goes that can't be read.
pub(crate) fn aside(path: &Path) -> PathBuf {
    path.with_extension("bad")
}

fn waits(path: &Path) -> String {
    format!(
        "nothing is denied by itself while {} is there: put a good {} in its place and remove it, or learn \
         anew",
        aside(path).display(),
        path.display()
    )
}

impl ProtectedSet {
    /// A copy of what is worth keeping, if anything is new since the last one.
    pub(crate) fn remember(&mut self) -> Option<Remembered> {
        std::mem::take(&mut self.changed).then(|| self.remembered())
    }

    /// The last copy was not kept.
    pub(crate) fn not_kept(&mut self) {
        self.changed = true;
    }

    /// A copy of it, new or not.
    pub(crate) fn remembered(&self) -> Remembered {
        let sorted = |users: &HashSet<Workload>| users.iter().cloned().collect();
        let baseline = self.baseline.iter();
        Remembered {
            version: VERSION,
            baseline: baseline
                .map(|(workload, peers)| (workload.clone(), peers.iter().copied().collect()))
                .collect(),
            overflowed: self.overflowed.iter().cloned().collect(),
            all_overflowed: self.all_overflowed,
            private_overflowed: self.private_overflowed,
            private_users: self
                .private_users
                .iter()
                .map(|(address, users)| (*address, sorted(users)))
                .collect(),
            files: self.files.by_use().map(|(file, users)| (file, sorted(users))).collect(),
        }
    }

    /// Takes over what an earlier run had seen, within the limits of this one.
    pub(crate) fn recall(&mut self, known: Remembered) {
        for (workload, peers) in known.baseline {
            for peer in peers {
                self.learn_peer(&workload, peer);
            }
        }
        known.overflowed.iter().for_each(|workload| self.overflow(workload));
        self.all_overflowed |= known.all_overflowed;
        self.private_overflowed |= known.private_overflowed;
        for (address, users) in known.private_users.into_iter().take(SHARED_MAX) {
            for workload in users {
                self.use_peer(&workload, address);
            }
        }
        for (file, users) in known.files.into_iter().take(FILES_MAX) {
            for workload in users {
                self.use_file(file, &workload);
            }
        }
        self.changed = false;
    }

    /// What is learned anew has no baseline yet.
    pub(crate) fn forget_baseline(&mut self) {
        self.baseline.clear();
        self.baseline_size = 0;
        self.baseline_bytes = 0;
        self.overflowed.clear();
        self.overflowed_bytes = 0;
        self.all_overflowed = false;
        self.private_users.clear();
        self.private_bytes = 0;
        self.private_overflowed = false;
        self.changed = true;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_normal_life_used_is_known_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("remembered.json");
        let [web, db, job] = ["web", "db", "job"].map(Workload::new);
        let shared = FileKey { device: 8, inode: 5, generation: 1 };
        let own = FileKey { inode: 6, ..shared };
        let mut before = ProtectedSet::default();
        assert_eq!(before.remember(), None, "nothing is new");
        before.learn_peer(&web, address("192.0.2.7"));
        for workload in [&web, &db, &job] {
            before.use_peer(workload, address("10.9.9.9"));
        }
        before.use_file(own, &web);
        before.use_file(shared, &web);
        before.use_file(shared, &db);
        before.remember().unwrap().save(&path).unwrap();
        assert_eq!(before.remember(), None, "told once");
        let mut after = ProtectedSet::default();
        after.recall(Remembered::load(&path).unwrap());
        for set in [&before, &after] {
            assert_eq!(
                set.peer(&web, address("192.0.2.7"), 0).as_deref(),
                Some("a peer of the baseline")
            );
            assert!(set.peer(&db, address("192.0.2.7"), 0).is_none());
            assert!(set.peer(&db, address("10.9.9.9"), 0).is_some());
            assert!(set.is_exclusive(own, &web) && !set.is_exclusive(own, &db));
            assert!(!set.is_exclusive(shared, &web));
        }
        after.forget_baseline();
        assert!(after.peer(&web, address("192.0.2.7"), 0).is_none(), "learned anew");
        assert!(!after.is_exclusive(shared, &web));
    }

    /// The longest name of a cgroup, of what JSON makes the most of.
    fn long(number: usize) -> Workload {
        Workload::new(format!("{}{number:05}.service", "\u{1}".repeat(190)))
    }

    fn read_back(set: &ProtectedSet) -> ProtectedSet {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("remembered.json");
        set.remembered().save(&path).unwrap();
        let mut after = ProtectedSet::default();
        after.recall(Remembered::load(&path).unwrap());
        after
    }

    #[test]
    fn files_that_a_flood_of_long_names_ran_are_read_back() {
        let file = |inode| FileKey { device: 8, inode: inode as u64, generation: 1 };
        let mut set = ProtectedSet::default();
        let web = Workload::new("web");
        set.use_file(file(0), &web);
        for inode in 1..FILES_MAX {
            set.use_file(file(inode), &long(0));
        }
        let after = read_back(&set);
        assert!(!after.is_exclusive(file(0), &long(0)), "who floods forgets his own");
        assert!(!after.is_exclusive(file(FILES_MAX - 1), &web), "the newest is known");
    }

    #[test]
    fn peers_of_a_flood_of_long_names_are_read_back_and_what_found_no_room_is_no_target() {
        let mut set = ProtectedSet::default();
        let private = |number: usize| IpAddr::from([10, 0, (number >> 8) as u8, number as u8]);
        for number in 0..65_000 {
            set.learn_peer(&long(number), address("192.0.2.7"));
            set.use_peer(&long(number), private(number / 4));
        }
        for set in [&set, &read_back(&set)] {
            for number in [0, 30_000, 64_999] {
                assert!(set.peer(&long(number), address("192.0.2.7"), 0).is_some(), "{number}");
                assert!(
                    set.peer(&Workload::new("w"), private(number / 4), 0).is_some(),
                    "{number}"
                );
            }
        }
    }

    #[test]
    fn what_can_not_be_read_is_set_aside_and_speaks_while_it_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("remembered.json");
        let recalled = || Remembered::recall(&path).unwrap();
        assert_eq!(recalled(), (Remembered::default(), None));
        // Larger than any that is read.
        fs::File::create(&path).unwrap().set_len(BYTES_MAX + 1).unwrap();
        let (known, why) = recalled();
        assert_eq!(known, Remembered::default());
        assert!(why.unwrap().contains("remembered.bad"));
        assert!(!path.exists() && aside(&path).exists());
        Remembered::default().save(&path).unwrap();
        assert!(recalled().1.is_some(), "a restart doesn't make it good");
        fs::remove_file(aside(&path)).unwrap();
        assert_eq!(recalled().1, None);
    }

    #[test]
    fn what_is_torn_or_of_another_version_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("remembered.json");
        assert_eq!(Remembered::load(&path).unwrap(), Remembered::default());
        Remembered::default().save(&path).unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        for text in [&whole[..whole.len() / 2], &whole.replace(":1,", ":2,"), ""] {
            fs::write(&path, text).unwrap();
            let refused = Remembered::load(&path).unwrap_err().to_string();
            assert!(refused.contains("remembered.json"), "{refused}");
        }
    }
}
