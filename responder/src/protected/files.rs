//! Files known to have been run, by the workloads that ran them. Pure.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use hedgerow_event::{FileKey, Workload};

use super::name_bytes;

/// Pairs of a file and a workload. When full, [`ROOM`] of them make room and are counted.
pub(super) const FILES_MAX: usize = 65_536;
/// What all pairs take as they are written, at most: more than twice of what the most take whose names are
/// of the usual length. Full: as above.
const BYTES_MAX: usize = 24 << 20;
/// So many that a flood of files doesn't have all of them sorted each time.
const ROOM: usize = FILES_MAX / 16;
const ROOM_BYTES: usize = BYTES_MAX / 16;
/// The most that is written of a file.
const FILE_BYTES: usize = 112;

#[derive(Debug, Clone, Default)]
struct Users {
    workloads: HashSet<Workload>,
    /// By the count of uses.
    last: u64,
}

impl Users {
    fn only(&self) -> Option<&Workload> {
        self.workloads.iter().next().filter(|_| self.workloads.len() == 1)
    }

    /// What is written of it, at most.
    fn bytes(&self) -> usize {
        FILE_BYTES + self.workloads.iter().map(name_bytes).sum::<usize>()
    }
}

/// Who ran what.
#[derive(Debug, Clone, Default)]
pub(super) struct Files {
    known: HashMap<FileKey, Users>,
    pairs: usize,
    bytes: usize,
    uses: u64,
    forgotten: u64,
}

impl Files {
    /// True where that was not known.
    pub fn add(&mut self, file: FileKey, workload: &Workload) -> bool {
        self.uses += 1;
        if let Some(users) = self.known.get_mut(&file) {
            users.last = self.uses;
            if users.workloads.contains(workload) {
                return false;
            }
        }
        if self.pairs >= FILES_MAX || self.bytes >= BYTES_MAX {
            self.make_room(file);
        }
        let users = self.known.entry(file).or_default();
        users.last = self.uses;
        self.bytes += name_bytes(workload);
        self.bytes += if users.workloads.is_empty() { FILE_BYTES } else { 0 };
        users.workloads.insert(workload.clone());
        self.pairs += 1;
        true
    }

    /// No other workload has run it, as far as is known.
    pub fn is_exclusive(&self, file: FileKey, workload: &Workload) -> bool {
        let users = self.known.get(&file);
        users.is_none_or(|users| users.workloads.iter().all(|user| user == workload))
    }

    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// In the order of their last use.
    pub fn by_use(&self) -> impl Iterator<Item = (FileKey, &HashSet<Workload>)> {
        let mut files: Vec<_> = self.known.iter().collect();
        files.sort_unstable_by_key(|(_, users)| users.last);
        files.into_iter().map(|(file, users)| (*file, &users.workloads))
    }

    /// Forgets the oldest of what the workload with the most files of its own ran alone, so that a
    /// flood costs nobody else; what several ran goes last, since it would look exclusive. Not `kept`.
    fn make_room(&mut self, kept: FileKey) {
        let mut own: HashMap<&Workload, usize> = HashMap::new();
        for only in self.known.values().filter_map(Users::only) {
            *own.entry(only).or_default() += 1;
        }
        let crowd = |users: &Users| users.only().and_then(|only| own.get(only)).copied();
        let others = self.known.iter().filter(|(file, _)| **file != kept);
        let mut order: Vec<_> = others
            .map(|(file, users)| (Reverse(crowd(users).unwrap_or(0)), users.last, *file))
            .collect();
        order.sort_unstable_by_key(|(crowd, last, _)| (*crowd, *last));
        for (_, _, file) in order {
            if self.pairs + ROOM <= FILES_MAX && self.bytes + ROOM_BYTES <= BYTES_MAX {
                break;
            }
            let Some(gone) = self.known.remove(&file) else { continue };
            self.pairs -= gone.workloads.len();
            self.bytes -= gone.bytes();
            self.forgotten += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(inode: usize) -> FileKey {
        FileKey { device: 8, inode: inode as u64, generation: 1 }
    }

    #[test]
    fn a_flood_of_files_costs_who_makes_it_its_oldest_and_nobody_else() {
        let [web, db, job] = ["web", "db", "job"].map(Workload::new);
        let (shared, own) = (file(1), file(2));
        let mut files = Files::default();
        assert!(files.add(shared, &web) && files.add(shared, &db) && files.add(own, &web));
        assert!(!files.add(own, &web), "known");
        let flood = 10..10 + FILES_MAX + 2 * ROOM;
        for inode in flood.clone() {
            files.add(file(inode), &job);
            assert!(files.pairs <= FILES_MAX);
        }
        assert!(files.forgotten >= 2 * ROOM as u64);
        let newest = file(flood.end - 1);
        assert!(files.is_exclusive(newest, &job), "widening goes on");
        assert!(!files.is_exclusive(newest, &web), "the newest is known");
        assert!(!files.is_exclusive(shared, &web) && !files.is_exclusive(shared, &db));
        assert!(files.is_exclusive(own, &web) && !files.is_exclusive(own, &job));
        assert_eq!(files.by_use().last().map(|(file, _)| file), Some(newest));
        assert_eq!(files.by_use().count() + 1, files.pairs, "one has two users");
    }

    #[test]
    fn where_all_files_are_shared_the_oldest_go() {
        let [web, db] = ["web", "db"].map(Workload::new);
        let mut files = Files::default();
        for inode in 0..FILES_MAX / 2 {
            files.add(file(inode), &web);
            files.add(file(inode), &db);
        }
        assert_eq!((files.pairs, files.forgotten), (FILES_MAX, 0));
        files.add(file(0), &web);
        files.add(file(FILES_MAX), &web);
        assert_eq!(files.forgotten, (ROOM / 2) as u64);
        assert!(!files.is_exclusive(file(0), &web), "it was used again");
        assert!(files.is_exclusive(file(1), &web), "it is forgotten");
    }
}
