//! What is known of those who use a package: whether they listen, who talked to them, and findings
//! about them.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use hedgerow_event::Use;

use super::{Evidence, NAMED_MAX, Row, Seen, Talked};
use crate::{
    Live, Place,
    record::{BEFORE, Record, Talk, User},
};

/// Adds to a row what is known of those who were `seen` using its package, and of those who have it mapped;
/// who they are.
pub fn look_at(
    row: &mut Row,
    seen: &BTreeSet<Seen>,
    talks: &Talks<'_>,
    evidence: &Evidence<'_>,
) -> BTreeSet<User> {
    look_at_readers(row, seen, evidence);
    let users = users(row, seen);
    row.talked = talked(&users, talks);
    let findings = evidence.touched.by(users.iter());
    row.findings_more = findings.len().saturating_sub(NAMED_MAX) as u64;
    row.findings = findings.into_iter().take(NAMED_MAX).cloned().collect();
    users
}

/// What interpreters have read isn't mapped. Which of their processes read it isn't recorded, so each that
/// runs the same program may be it.
fn look_at_readers(row: &mut Row, seen: &BTreeSet<Seen>, evidence: &Evidence<'_>) {
    let read: Vec<&Seen> = seen.iter().filter(|one| one.how == Use::Read).collect();
    for process in evidence.live {
        // A container's, unless it is the one that is asked about.
        if process.place == Place::Elsewhere && evidence.workload.is_none() {
            continue;
        }
        if !read.iter().any(|one| runs(&one.program, &process.program)) {
            continue;
        }
        row.listens |= process.listens;
        if row.readers.len() < NAMED_MAX {
            row.readers.push(Live { mapped: Vec::new(), ..process.clone() });
        } else {
            row.more += 1;
        }
    }
}

/// Whether a program, with its script, is run from that path.
fn runs(program: &str, path: &str) -> bool {
    let rest = program.strip_prefix(path);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// Of who only runs now, workload and script aren't known.
pub fn users(row: &Row, seen: &BTreeSet<Seen>) -> BTreeSet<User> {
    let was_seen = |live: &&Live| seen.iter().any(|one| runs(&one.program, &live.program));
    let live = row.live.iter().filter(|live| !was_seen(live));
    let live = live.map(|live| User { workload: BEFORE.into(), program: live.program.clone() });
    let seen = seen.iter().map(|Seen { workload, program, .. }| User {
        workload: workload.clone(),
        program: program.clone(),
    });
    seen.chain(live).collect()
}

/// Who was talked to, by program in its workload, and by path alone as of what ran before.
pub type Talks<'a> = HashMap<User, Vec<&'a Talk>>;

pub fn talks(record: &Record, since_ns: i64) -> Talks<'_> {
    let mut talks: Talks<'_> = HashMap::new();
    for talk in record.talked.iter().filter(|talk| talk.last_ns >= since_ns) {
        let Some(user) = record.users.get(talk.user as usize) else { continue };
        let path = user.program.split(' ').next().unwrap_or_default();
        let before = User { workload: BEFORE.into(), program: path.into() };
        for user in [user.clone(), before] {
            talks.entry(user).or_default().push(talk);
        }
    }
    talks
}

/// Who talked to any of these.
fn talked(users: &BTreeSet<User>, talks: &Talks<'_>) -> Option<Talked> {
    let mut talks: Vec<&Talk> =
        users.iter().filter_map(|user| talks.get(user)).flatten().copied().collect();
    talks.sort_by_key(|talk| talk.user);
    talks.dedup_by_key(|talk| talk.user);
    talks.sort_by_key(|talk| Reverse(talk.last_ns));
    let mut named = HashSet::new();
    let peers = talks.iter().flat_map(|talk| talk.peers.iter().rev().copied());
    let mut peers: Vec<IpAddr> = peers.filter(|peer| named.insert(*peer)).collect();
    let unnamed = peers.len().saturating_sub(NAMED_MAX) as u64;
    peers.truncate(NAMED_MAX);
    Some(Talked {
        peers,
        more: talks.iter().map(|talk| talk.more).fold(unnamed, u64::saturating_add),
        first_ns: talks.iter().map(|talk| talk.first_ns).min()?,
        last_ns: talks.first()?.last_ns,
    })
}
