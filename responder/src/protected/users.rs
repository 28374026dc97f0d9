//! Whom an operator may refuse the network by user id: people, and nobody that the host or a container
//! stands on. Pure.

use std::collections::{HashMap, HashSet};

/// `UID_MIN` where login.defs(5) says nothing.
const LEAST: u32 = 1000;
/// What systemd gives to services with `DynamicUser=`.
const DYNAMIC: std::ops::RangeInclusive<u32> = 61_184..=65_519;
/// `nobody`, to whom all is mapped that has no id here, and the sixteen-bit form of no id.
const NOBODY: std::ops::RangeInclusive<u32> = 65_534..=65_535;
/// Names and ranges that are kept; the rest go by number.
const KEPT_MAX: usize = 65_536;

/// Who is who on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Users {
    /// The first id of a person.
    least: u32,
    names: HashMap<String, u32>,
    /// First id and how many: what people may give to containers of theirs.
    subordinate: Vec<(u32, u32)>,
    pub(super) present: Present,
}

/// Who runs something, by user id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    /// A login has begun it.
    pub logged_in: HashSet<u32>,
    pub running: HashSet<u32>,
}

/// Names and ids of passwd(5). The first line of several of one name, or of one id, is the one that counts.
pub fn named(passwd: &str) -> impl Iterator<Item = (&str, u32)> {
    let named = passwd.lines().filter_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next().filter(|name| !name.is_empty())?;
        Some((name, parts.nth(1)?.parse().ok()?))
    });
    named.take(KEPT_MAX)
}

impl Default for Users {
    fn default() -> Self {
        Self::read("", "", "", Present::default())
    }
}

impl Users {
    /// By the text of passwd(5), login.defs(5) and subuid(5).
    pub fn read(passwd: &str, login_defs: &str, subuid: &str, present: Present) -> Self {
        let least = login_defs.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("UID_MIN")).then(|| words.next()?.parse().ok()).flatten()
        });
        let ranges = subuid.lines().filter_map(|line| {
            let mut parts = line.split(':').skip(1).map(|part| part.trim().parse().ok());
            Some((parts.next()??, parts.next()??))
        });
        Self {
            least: least.unwrap_or(LEAST),
            names: named(passwd).fold(HashMap::new(), |mut names, (name, uid)| {
                names.entry(name.to_owned()).or_insert(uid);
                names
            }),
            subordinate: ranges.take(KEPT_MAX).collect(),
            present,
        }
    }

    /// The id of a name, or of a number as it stands.
    pub fn id(&self, word: &str) -> Option<u32> {
        self.names.get(word).copied().or_else(|| word.parse().ok())
    }

    /// Why a user is never refused, whatever anybody says.
    pub fn never(&self, uid: u32) -> Option<&'static str> {
        let within =
            |(first, count): &(u32, u32)| uid.checked_sub(*first).is_some_and(|n| n < *count);
        match uid {
            0 => Some("root"),
            uid if uid < self.least => Some("a user of the system"),
            uid if DYNAMIC.contains(&uid) => Some("a user of services"),
            uid if NOBODY.contains(&uid) || uid == u32::MAX => Some("nobody"),
            _ if self.subordinate.iter().any(within) => Some("a user of containers"),
            _ => None,
        }
    }

    /// Why a user is refused by force alone, where this is the login of who orders it: nobody is to lock himself
    /// out. A kernel without audit knows no logins, a console or a container's shell may have none.
    pub fn risk(&self, uid: u32, login: Option<u32>) -> Option<&'static str> {
        let is_named = || self.names.values().any(|named| *named == uid);
        if self.present.logged_in.contains(&uid) {
            Some("logged in")
        } else if login.is_none() && self.present.running.contains(&uid) {
            Some("running something, and whose login orders this is not known: it may be his")
        } else if uid > *NOBODY.end() && !is_named() {
            Some("in no line of /etc/passwd, and may be a container's")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/bash\nalice:x:1001:1001::/home/alice:/bin/sh\n\
                          alice:x:7:7::/:/bin/sh\n:x:5:5\nshort:x\n";

    #[test]
    fn only_people_can_be_refused_by_user() {
        let subuid = "alice:100000:65536\nbroken:1\n:::\nwhole:4294967295:9\n";
        let users =
            Users::read(PASSWD, "#UID_MIN 1\nUID_MIN\t\t 1001\n", subuid, Present::default());
        for uid in [0, 1, 999, 1000, 61_184, 65_519, 65_534, 65_535, 100_000, 165_535, u32::MAX] {
            assert!(users.never(uid).is_some(), "{uid}");
        }
        for uid in [1001, 60_000, 65_536, 99_999, 165_536, 1_600_000_001] {
            assert_eq!(users.never(uid), None, "{uid}");
        }
        assert_eq!(Users::default().never(999), Some("a user of the system"));
        assert_eq!(Users::default().never(1000), None);
    }

    #[test]
    fn a_user_is_named_or_numbered() {
        let users = Users::read(PASSWD, "", "", Present::default());
        assert_eq!(users.id("alice"), Some(1001));
        assert_eq!(users.id("4242"), Some(4242));
        for word in ["bob", "", "-1", "4294967296", "short"] {
            assert_eq!(users.id(word), None, "{word}");
        }
    }

    #[test]
    fn who_may_be_the_one_that_orders_it_is_refused_by_force_alone() {
        let present =
            Present { logged_in: HashSet::from([1001]), running: HashSet::from([1002, 100_000]) };
        let passwd = format!("{PASSWD}directory:x:70000:7::/:\n");
        let users = Users::read(&passwd, "", "", present);
        for login in [None, Some(1003)] {
            assert!(users.risk(1001, login).is_some(), "logged in");
            assert_eq!(users.risk(1004, login), None, "runs nothing");
            assert_eq!(users.risk(70_000, login), None, "has a name");
            assert!(users.risk(70_001, login).is_some(), "a container's, or of a directory");
        }
        assert_eq!(users.risk(1002, Some(1003)), None, "somebody else orders it");
        assert!(users.risk(1002, None).is_some(), "nobody knows who orders it");
    }
}
