//! What was used, and when it was watched: the table that the daemon keeps and writes, and that the
//! command reads. Pure.

use std::{collections::HashMap, net::IpAddr};

use hedgerow_event::{Subject, Use, gate};
use serde::{Deserialize, Serialize};

/// Name of the file in the state directory.
pub const FILE: &str = "used.json";
/// Of the format: what another daemon wrote is begun anew.
pub const VERSION: u32 = 1;
/// Files in the table. Full: what comes is counted as refused, and `not seen` is said no more.
pub const FILES_MAX: usize = 65_536;
/// Programs in workloads. Full: one more is counted with its file, without a name.
pub const USERS_MAX: usize = 16_384;
/// Longest path: what the kernel tells (256 bytes), each byte of it written as a replacement. A longer
/// one is counted.
pub const PATH_BYTES_MAX: usize = 1024;
/// What all files and users take as they are written. Full: as [`FILES_MAX`] and [`USERS_MAX`] say. It
/// is half as much again as the most files take whose paths are of the usual length.
pub const BYTES_MAX: usize = 48 << 20;
/// Largest file: all of that, and what stands around it.
pub const FILE_BYTES_MAX: u64 = BYTES_MAX as u64 + (128 << 10);
/// The most that a file takes beside its path, and a user beside its names.
const ENTRY_BYTES: usize = 336;
const USER_BYTES: usize = 32;
/// Programs named with a file; the rest is a number.
pub const BY_MAX: usize = 8;
/// Peers named with a program, the latest; a new one takes the place of the one that was heard longest ago.
pub const PEERS_MAX: usize = 8;
/// The most that a program's peers take.
const TALK_BYTES: usize = 512;
/// Times of watching, and gaps. Full: the oldest two become one, which is longer.
pub const SPANS_MAX: usize = 256;

/// Workload of those that ran before the start: it isn't asked for, and may be any.
pub const BEFORE: &str = "(before the start)";

/// A program in a workload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    pub workload: String,
    pub program: String,
}

impl User {
    pub fn of(subject: &Subject) -> Self {
        let Subject { workload, program } = subject;
        Self { workload: workload.as_str().into(), program: program.to_string() }
    }
}

/// What names a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    pub path: String,
    /// The kernel's number, of the file system that holds the data.
    pub device: u64,
    pub inode: u64,
    /// The process was in another mount namespace than the host's, where the path is meant.
    pub elsewhere: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    #[serde(flatten)]
    pub key: Key,
    /// By whom and how; indices into [`Record::users`].
    pub by: Vec<(u32, Use)>,
    /// Times that it was used by one for whom there was no room.
    pub more: u64,
    pub first_ns: i64,
    pub last_ns: i64,
}

/// Who talked to a program: began a flow to it from another host, as the kernel saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Talk {
    /// Index into [`Record::users`].
    pub user: u32,
    /// Heard longest ago first. An address of a datagram may be forged.
    pub peers: Vec<IpAddr>,
    /// Times that one made room for another.
    pub more: u64,
    pub first_ns: i64,
    pub last_ns: i64,
}

/// A time, UTC, in which it was watched, or in which something was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    pub from_ns: i64,
    pub to_ns: i64,
}

/// The table as it is on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub version: u32,
    /// When it was watched, oldest first.
    pub watched: Vec<Span>,
    /// When records were lost meanwhile.
    pub gaps: Vec<Span>,
    /// Uses of files that found no room.
    pub refused: u64,
    /// Uses of files whose path is longer than [`PATH_BYTES_MAX`].
    #[serde(default)]
    pub too_long: u64,
    pub users: Vec<User>,
    pub files: Vec<Entry>,
    #[serde(default)]
    pub talked: Vec<Talk>,
    /// Times that somebody talked to a program for which there was no room.
    #[serde(default)]
    pub talks_refused: u64,
}

impl Record {
    /// Reads what [`Table::write`] wrote.
    ///
    /// # Errors
    /// What it isn't, in words.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let record: Self = serde_json::from_slice(bytes).map_err(|why| why.to_string())?;
        if record.version != VERSION {
            return Err(format!("its version is {}, not {VERSION}", record.version));
        }
        let users = record.users.len();
        let unknown = |entry: &Entry| entry.by.iter().any(|(user, _)| *user as usize >= users);
        if record.files.iter().any(unknown) {
            return Err("a file has a user that it doesn't name".into());
        }
        if record.talked.iter().any(|talk| talk.user as usize >= users) {
            return Err("somebody talked to a user that it doesn't name".into());
        }
        Ok(record)
    }
}

/// Adds a span behind the others.
fn push(spans: &mut Vec<Span>, span: Span) {
    spans.push(span);
    if spans.len() > SPANS_MAX {
        let oldest = spans.remove(0);
        spans[0].from_ns = oldest.from_ns;
    }
}

fn entry_bytes(key: &Key) -> usize {
    ENTRY_BYTES + gate::json_bytes(&key.path)
}

fn user_bytes(user: &User) -> usize {
    USER_BYTES + gate::json_bytes(&user.workload) + gate::json_bytes(&user.program)
}

/// The table as it grows.
#[derive(Debug, Default)]
pub struct Table {
    record: Record,
    /// What files and users take, of [`BYTES_MAX`].
    bytes: usize,
    files: HashMap<Key, usize>,
    users: HashMap<User, u32>,
    talked: HashMap<u32, usize>,
}

impl Table {
    /// Goes on with what an earlier run wrote, from `now_ns` on.
    pub fn begin(before: Record, now_ns: i64) -> Self {
        let mut record = Record { version: VERSION, ..before };
        record.users.truncate(USERS_MAX);
        let mut bytes: usize = record.users.iter().map(user_bytes).sum();
        // Of what another version wrote; what this one wrote has room.
        let fits = |entry: &&Entry| {
            let after = bytes + entry_bytes(&entry.key);
            let fits = after <= BYTES_MAX && entry.key.path.len() <= PATH_BYTES_MAX;
            bytes = if fits { after } else { bytes };
            fits
        };
        let fitting = record.files.iter().take(FILES_MAX).take_while(fits).count();
        record.refused += (record.files.len() - fitting) as u64;
        record.files.truncate(fitting);
        let talks = record.talked.len().min((BYTES_MAX - bytes.min(BYTES_MAX)) / TALK_BYTES);
        record.talks_refused += (record.talked.len() - talks) as u64;
        record.talked.truncate(talks);
        record.talked.iter_mut().for_each(|talk| talk.peers.truncate(PEERS_MAX));
        bytes += talks * TALK_BYTES;
        push(&mut record.watched, Span { from_ns: now_ns, to_ns: now_ns });
        let files = record.files.iter().enumerate().map(|(at, one)| (one.key.clone(), at));
        let users = record.users.iter().zip(0..).map(|(user, at)| (user.clone(), at));
        let talked = record.talked.iter().enumerate().map(|(at, talk)| (talk.user, at));
        Self {
            files: files.collect(),
            users: users.collect(),
            talked: talked.collect(),
            bytes,
            record,
        }
    }

    /// Notes a use.
    pub fn used(&mut self, key: Key, how: Use, user: User, now_ns: i64) {
        if key.path.len() > PATH_BYTES_MAX {
            self.record.too_long += 1;
            return;
        }
        let user = self.user(user);
        let at = match self.files.get(&key).copied() {
            Some(at) => at,
            None if self.record.files.len() >= FILES_MAX || !self.takes(entry_bytes(&key)) => {
                self.record.refused += 1;
                return;
            }
            None => {
                let at = self.record.files.len();
                self.files.insert(key.clone(), at);
                let entry =
                    Entry { key, by: Vec::new(), more: 0, first_ns: now_ns, last_ns: now_ns };
                self.record.files.push(entry);
                at
            }
        };
        let entry = &mut self.record.files[at];
        entry.last_ns = entry.last_ns.max(now_ns);
        match user {
            Some(user) if entry.by.contains(&(user, how)) => {}
            Some(user) if entry.by.len() < BY_MAX => entry.by.push((user, how)),
            _ => entry.more += 1,
        }
    }

    /// Notes that somebody talked to a program.
    pub fn talked(&mut self, user: User, peer: IpAddr, now_ns: i64) {
        let Some(at) = self.talk(user, now_ns) else {
            self.talks_refused(1);
            return;
        };
        let talk = &mut self.record.talked[at];
        talk.last_ns = talk.last_ns.max(now_ns);
        match talk.peers.iter().position(|known| *known == peer) {
            Some(known) => drop(talk.peers.remove(known)),
            None if talk.peers.len() >= PEERS_MAX => {
                talk.peers.remove(0);
                talk.more += 1;
            }
            None => {}
        }
        talk.peers.push(peer);
    }

    /// Notes that somebody talked, and nobody knows any more to whom.
    pub fn talks_refused(&mut self, times: u64) {
        self.record.talks_refused += times;
    }

    fn talk(&mut self, user: User, now_ns: i64) -> Option<usize> {
        let user = self.user(user)?;
        if let Some(at) = self.talked.get(&user) {
            return Some(*at);
        }
        if !self.takes(TALK_BYTES) {
            return None;
        }
        let at = self.record.talked.len();
        let (first_ns, last_ns) = (now_ns, now_ns);
        self.record.talked.push(Talk { user, peers: Vec::new(), more: 0, first_ns, last_ns });
        self.talked.insert(user, at);
        Some(at)
    }

    fn user(&mut self, user: User) -> Option<u32> {
        if let Some(at) = self.users.get(&user) {
            return Some(*at);
        }
        let at = u32::try_from(self.record.users.len()).ok()?;
        if self.record.users.len() >= USERS_MAX || !self.takes(user_bytes(&user)) {
            return None;
        }
        self.record.users.push(user.clone());
        self.users.insert(user, at);
        Some(at)
    }

    /// Takes room where there is as much.
    fn takes(&mut self, bytes: usize) -> bool {
        let after = self.bytes + bytes;
        let fits = after <= BYTES_MAX;
        self.bytes = if fits { after } else { self.bytes };
        fits
    }

    /// It was watched up to now; `lost` says that not everything came since the last call.
    pub fn watched(&mut self, now_ns: i64, lost: bool) {
        let Some(last) = self.record.watched.last_mut() else { return };
        let since = last.to_ns;
        last.to_ns = last.to_ns.max(now_ns);
        if !lost {
            return;
        }
        match self.record.gaps.last_mut().filter(|gap| gap.to_ns >= since) {
            Some(gap) => gap.to_ns = now_ns,
            None => push(&mut self.record.gaps, Span { from_ns: since, to_ns: now_ns }),
        }
    }

    /// Uses that found no room.
    pub fn refused(&self) -> u64 {
        self.record.refused
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// It can't be written as JSON.
    pub fn write(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&self.record)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(path: &str) -> Key {
        Key { path: path.into(), device: 1, inode: 2, elsewhere: false }
    }

    fn user(program: &str) -> User {
        User { workload: "w".into(), program: program.into() }
    }

    #[test]
    fn a_file_keeps_first_last_and_some_of_its_users_over_a_restart() {
        let mut table = Table::begin(Record::default(), 10);
        for (at, program) in (11..).zip(["/a", "/a", "/b"]) {
            table.used(key("/lib/x.so"), Use::Mapped, user(program), at);
        }
        table.watched(20, false);
        let read = Record::parse(&table.write().unwrap()).unwrap();
        let mut table = Table::begin(read, 30);
        for program in 0..20 {
            table.used(key("/lib/x.so"), Use::Mapped, user(&format!("/{program}")), 31);
        }
        table.watched(40, true);
        table.watched(50, true);
        table.watched(60, false);
        let record = Record::parse(&table.write().unwrap()).unwrap();
        let entry = &record.files[0];
        assert_eq!((entry.first_ns, entry.last_ns), (11, 31));
        assert_eq!((entry.by.len(), entry.more), (BY_MAX, 14));
        let span = |from_ns, to_ns| Span { from_ns, to_ns };
        assert_eq!(record.watched, [span(10, 20), span(30, 60)]);
        assert_eq!(record.gaps, [span(30, 50)]);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let mut table = Table::begin(Record::default(), 0);
        for file in 0..FILES_MAX + 3 {
            table.used(key(&file.to_string()), Use::Ran, user("/a"), 1);
        }
        assert_eq!(table.refused(), 3);
        for _ in 0..2 * SPANS_MAX {
            push(&mut table.record.gaps, Span { from_ns: 1, to_ns: 2 });
        }
        assert_eq!(table.record.gaps.len(), SPANS_MAX);
    }

    #[test]
    fn long_paths_of_control_bytes_fill_the_table_before_the_memory_and_it_is_read_again() {
        let mut table = Table::begin(Record::default(), 0);
        let hostile = |number: usize| format!("/{number:06}{}", "\u{1}".repeat(PATH_BYTES_MAX - 7));
        let mut most = 0;
        while table.refused() == 0 {
            let user = user(&hostile(most));
            let key = Key { device: u64::MAX, inode: u64::MAX, ..key(&hostile(most)) };
            table.used(key.clone(), Use::Mapped, user, i64::MIN);
            for other in 0..2 * BY_MAX {
                table.used(key.clone(), Use::Mapped, self::user(&other.to_string()), i64::MIN);
            }
            most += 1;
        }
        assert!(most < FILES_MAX / 8, "{most}");
        let bytes = table.write().unwrap();
        assert!(bytes.len() as u64 <= FILE_BYTES_MAX, "{}", bytes.len());
        assert!(table.bytes <= BYTES_MAX);
        let again = Table::begin(Record::parse(&bytes).unwrap(), 0);
        assert_eq!(
            (again.record.files.len(), again.bytes),
            (table.record.files.len(), table.bytes)
        );
        let refused = again.refused();
        let mut again = again;
        again.used(key(&"x".repeat(PATH_BYTES_MAX + 1)), Use::Ran, user("/a"), 1);
        assert_eq!((again.record.too_long, again.refused()), (1, refused));
        // What another version had room for goes, and is counted.
        let mut large = again.record.clone();
        large.files.push(Entry { key: key(&hostile(FILES_MAX)), ..large.files[0].clone() });
        assert_eq!(Table::begin(large, 0).refused(), refused + 1);
    }

    #[test]
    fn a_file_and_a_user_take_no_more_than_is_counted_for_them() {
        let mut table = Table::begin(Record::default(), 0);
        let before = table.write().unwrap().len();
        let odd = "/\"\\\u{1}\n\u{7f}é";
        let key = Key { path: odd.into(), device: u64::MAX, inode: u64::MAX, elsewhere: false };
        for number in 0..BY_MAX {
            let workload = format!("{odd}{number}");
            let user = User { workload, program: odd.into() };
            table.used(key.clone(), Use::Mapped, user, i64::MIN);
        }
        for (user, _) in &mut table.record.files[0].by {
            *user = USERS_MAX as u32 - 1;
        }
        table.record.files[0].more = u64::MAX;
        assert!(table.write().unwrap().len() - before <= table.bytes);
    }

    #[test]
    fn the_latest_peers_of_a_program_are_kept_over_a_restart_and_all_others_counted() {
        let peer = |last: u16| IpAddr::from([0xfd00, 1, 2, 3, 4, 5, 0xffff, 0xf000 + last]);
        let mut table = Table::begin(Record::default(), 0);
        table.used(key("/a"), Use::Ran, user("/a"), 1);
        let before = table.write().unwrap().len();
        for last in 0..10 {
            table.talked(user("/a"), peer(last), i64::MIN);
        }
        table.talked(user("/a"), peer(2), i64::MIN);
        table.record.talked[0].more = u64::MAX;
        table.record.talked[0].user = USERS_MAX as u32 - 1;
        assert!(table.write().unwrap().len() - before <= TALK_BYTES);
        table.record.talked[0].more = 2;
        table.record.talked[0].user = 0;
        let mut table = Table::begin(Record::parse(&table.write().unwrap()).unwrap(), 2);
        table.talked(user("/a"), peer(10), 5);
        let talk = &table.record.talked[0];
        assert_eq!((talk.more, talk.first_ns, talk.last_ns), (3, i64::MIN, 5));
        assert_eq!(talk.peers, [4, 5, 6, 7, 8, 9, 2, 10].map(peer));
        table.bytes = BYTES_MAX;
        table.talked(user("/b"), peer(1), 6);
        assert_eq!((table.record.talked.len(), table.record.talks_refused), (1, 1));
        let text = String::from_utf8(table.write().unwrap()).unwrap();
        let foreign = text.replace("\"talked\":[{\"user\":0", "\"talked\":[{\"user\":7");
        assert!(Record::parse(foreign.as_bytes()).is_err());
        // As a daemon wrote it that told nothing of this.
        let (old, _) = text.split_once(",\"talked\"").unwrap();
        let old = Record::parse(format!("{old}}}").as_bytes()).unwrap();
        assert_eq!((old.talked.len(), old.talks_refused, old.files.len()), (0, 0, 1));
    }

    #[test]
    fn what_is_torn_or_foreign_is_refused() {
        let mut table = Table::begin(Record::default(), 0);
        table.used(key("/a"), Use::Ran, user("/a"), 1);
        let whole = table.write().unwrap();
        for length in 0..whole.len() {
            assert!(Record::parse(&whole[..length]).is_err());
        }
        let text = String::from_utf8(whole).unwrap();
        assert!(Record::parse(text.replace("\"version\":1", "\"version\":2").as_bytes()).is_err());
        assert!(Record::parse(text.replace("[[0,", "[[7,").as_bytes()).is_err());
    }
}
