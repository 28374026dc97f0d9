//! What a question found of programs, left for the daemon: findings about them name it. Pure.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use hedgerow_event::{KnownVulnerability, Subject, gate};
use serde::{Deserialize, Serialize};

use crate::{
    record::{BEFORE, User},
    verdict::{Row, Verdict},
};

/// Name of the file in the state directory.
pub const FILE: &str = "vulnerable.json";
/// Of the format: another one is refused.
pub const VERSION: u32 = 1;
/// Programs, and what all of the file takes. Full: the rest is left out, and told.
pub const PROGRAMS_MAX: usize = 4096;
pub const FILE_BYTES_MAX: u64 = 4 << 20;
/// Vulnerabilities of a program, the gravest; the rest is left out.
pub const NAMED_MAX: usize = 8;
/// Of each text that a scanner wrote.
const TEXT_BYTES_MAX: usize = 128;
/// Of a program's or a workload's name: a longer one meets nobody.
const NAME_BYTES_MAX: usize = 4096;

/// A program, and what is known of the packages that it uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The workload that was asked about, where it was one: the next question of the same kind takes its place.
    pub asked: Option<String>,
    pub user: User,
    pub vulnerabilities: Vec<KnownVulnerability>,
}

/// The file.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    version: u32,
    programs: Vec<Program>,
    #[serde(skip)]
    by_user: HashMap<User, Vec<usize>>,
}

impl Known {
    /// Reads what [`Known::write`] wrote.
    ///
    /// # Errors
    /// What it isn't, in words.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut known: Self = serde_json::from_slice(bytes).map_err(|why| why.to_string())?;
        if known.version != VERSION {
            return Err(format!("its version is {}, not {VERSION}", known.version));
        }
        known.programs.truncate(PROGRAMS_MAX);
        for program in &mut known.programs {
            program.vulnerabilities.truncate(NAMED_MAX);
            program.vulnerabilities.iter_mut().for_each(bound);
        }
        for (at, program) in known.programs.iter().enumerate() {
            known.by_user.entry(program.user.clone()).or_default().push(at);
        }
        Ok(known)
    }

    /// The bytes of the file, with what a question found in the place of what the one before found; and how
    /// often a program had no room.
    ///
    /// # Errors
    /// It can't be written as JSON.
    pub fn write(self, asked: Option<&str>, found: Found) -> serde_json::Result<(Vec<u8>, usize)> {
        let others = self.programs.into_iter().filter(|one| one.asked.as_deref() != asked);
        let fresh = found.programs.into_iter().map(|(user, vulnerabilities)| Program {
            asked: asked.map(str::to_owned),
            user,
            vulnerabilities,
        });
        let mut all: Vec<Program> = fresh.chain(others).collect();
        // What containers' databases say takes no room from what is known of the host.
        all.sort_by_key(|one| (one.asked.is_some(), one.asked.as_deref() != asked));
        let (mut programs, mut left_out) = (Vec::new(), found.refused);
        // What stands around the programs.
        let mut bytes = 64;
        for program in all {
            let after = bytes + serde_json::to_vec(&program)?.len() as u64 + 1;
            if programs.len() < PROGRAMS_MAX && after <= FILE_BYTES_MAX {
                bytes = after;
                programs.push(program);
            } else {
                left_out += 1;
            }
        }
        let whole = Self { version: VERSION, programs, by_user: HashMap::new() };
        Ok((serde_json::to_vec(&whole)?, left_out))
    }

    /// What is known of the programs of these, the gravest first.
    pub fn of<'a>(&self, subjects: impl Iterator<Item = &'a Subject>) -> Vec<KnownVulnerability> {
        let mut found = Vec::new();
        for subject in subjects {
            let path = subject.program.path.to_string();
            for user in [User::of(subject), User { workload: BEFORE.into(), program: path }] {
                let programs = self.by_user.get(&user).into_iter().flatten();
                let programs = programs.map(|at| &self.programs[*at]);
                // What was asked of one workload is said of no other.
                let meant = |asked: &String| asked == subject.workload.as_str();
                let programs = programs.filter(|one| one.asked.as_ref().is_none_or(meant));
                let all = programs.flat_map(|one| &one.vulnerabilities);
                all.for_each(|one| insert(&mut found, one.clone()));
            }
        }
        found
    }
}

/// What a question finds.
#[derive(Debug)]
pub struct Found {
    now_ns: i64,
    programs: BTreeMap<User, Vec<KnownVulnerability>>,
    /// Times that a program found no room.
    refused: usize,
}

impl Found {
    pub fn new(now_ns: i64) -> Self {
        Self { now_ns, programs: BTreeMap::new(), refused: 0 }
    }

    /// Notes a row for each of its users, where it says that they have the vulnerable code.
    pub fn add(&mut self, row: &Row, users: &BTreeSet<User>) {
        if !matches!(row.verdict, Verdict::InUse | Verdict::Restart) {
            return;
        }
        let of = &row.vulnerability;
        let mut one = KnownVulnerability {
            id: of.id.clone(),
            severity: of.severity.known(),
            package: row.package.clone().unwrap_or_else(|| of.package.clone()),
            installed: row.installed.clone().unwrap_or_else(|| of.version.clone()),
            fixed: (!of.fixed.is_empty()).then(|| of.fixed.join(", ")),
            as_of_ns: self.now_ns,
        };
        bound(&mut one);
        let fits = |name: &str| name.len() <= NAME_BYTES_MAX;
        for user in users.iter().filter(|user| fits(&user.workload) && fits(&user.program)) {
            if self.programs.len() < PROGRAMS_MAX || self.programs.contains_key(user) {
                insert(self.programs.entry(user.clone()).or_default(), one.clone());
            } else {
                self.refused += 1;
            }
        }
    }
}

/// A scanner's words: without secrets, and short.
fn bound(one: &mut KnownVulnerability) {
    let texts = [&mut one.id, &mut one.package, &mut one.installed].into_iter();
    for text in texts.chain(one.fixed.as_mut()) {
        *text = gate::text(&gate::cut(text, TEXT_BYTES_MAX));
    }
}

/// Adds one to some that are in order.
fn insert(to: &mut Vec<KnownVulnerability>, one: KnownVulnerability) {
    fn key(one: &KnownVulnerability) -> impl Ord + '_ {
        (Reverse(one.severity), &one.id, &one.package)
    }
    match to.binary_search_by(|other| key(other).cmp(&key(&one))) {
        Ok(at) => to[at].as_of_ns = to[at].as_of_ns.max(one.as_of_ns),
        Err(at) => to.insert(at, one),
    }
    to.truncate(NAMED_MAX);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn one(id: usize) -> KnownVulnerability {
        KnownVulnerability {
            id: format!("{id:02}{}", "\u{1}".repeat(4096)),
            severity: None,
            package: "p".repeat(4096),
            installed: "token=hunter2hunter2".into(),
            fixed: Some("\u{1b}".repeat(4096)),
            as_of_ns: 1,
        }
    }

    #[test]
    fn what_is_written_has_room_and_is_bounded_again_where_it_is_read() {
        let mut found = Found::new(1);
        let mut vulnerabilities: Vec<KnownVulnerability> = (0..NAMED_MAX).map(one).collect();
        vulnerabilities.iter_mut().for_each(bound);
        for number in 0..PROGRAMS_MAX {
            let user = User { workload: "w".into(), program: number.to_string() };
            found.programs.insert(user, vulnerabilities.clone());
        }
        let (bytes, left_out) = Known::default().write(None, found).unwrap();
        assert!(bytes.len() as u64 <= FILE_BYTES_MAX, "{}", bytes.len());
        let known = Known::parse(&bytes).unwrap();
        assert_eq!(known.programs.len() + left_out, PROGRAMS_MAX);
        assert!(left_out > 0 && known.programs[0].vulnerabilities.len() == NAMED_MAX);
        let user = User { workload: "w".into(), program: "/a".into() };
        let vulnerabilities = (0..100).map(one).collect();
        let long = Known {
            version: VERSION,
            programs: vec![Program { asked: None, user, vulnerabilities }],
            ..Known::default()
        };
        let long = Known::parse(&serde_json::to_vec(&long).unwrap()).unwrap();
        let all = &long.programs[0].vulnerabilities;
        assert!(all.len() == NAMED_MAX && all[0].id.len() < 2 * TEXT_BYTES_MAX);
        assert!(Known::parse(b"{\"version\":2,\"programs\":[]}").is_err());
        assert!(Known::parse(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn the_gravest_are_kept_in_order_each_once() {
        let mut to = Vec::new();
        let severities =
            [None, Some(hedgerow_event::Severity::Low), Some(hedgerow_event::Severity::Critical)];
        for round in 0..2 {
            for id in 0..12 {
                insert(
                    &mut to,
                    KnownVulnerability { severity: severities[id % 3], as_of_ns: round, ..one(id) },
                );
            }
        }
        let ids: Vec<&str> = to.iter().map(|one| &one.id[..2]).collect();
        assert_eq!(ids, ["02", "05", "08", "11", "01", "04", "07", "10"]);
        assert!(to.iter().all(|one| one.as_of_ns == 1));
    }
}
