//! Keyed hashes of the things that windows count once and baselines remember.
//!
//! The key is the model's: with a fixed one, a mimic could search a new program or path whose hash
//! collides with a known one. Hashes of one key may be compared across windows and hosts.

use std::net::IpAddr;

use hedgerow_event::{Deed, Program, Protocol, Subject, Workload};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

/// First port of Linux's default `ip_local_port_range`. Ports from here on are one item in
/// first-seen sets, because a client's own port is a new one each time.
pub const EPHEMERAL_PORT_FIRST: u16 = 32_768;

/// Items up to here are hashed in one go: a state that takes parts is large to set up, and windows ask
/// for hashes, too.
const AT_ONCE_MAX: usize = 240;

/// Hashes items with the model's key (XXH3, 64 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ItemKey(pub u64);

impl ItemKey {
    fn hash(self, kind: u8, parts: &[&[u8]]) -> u64 {
        let length = 1 + parts.iter().map(|part| 8 + part.len()).sum::<usize>();
        if length <= AT_ONCE_MAX {
            let mut bytes = [0; AT_ONCE_MAX];
            let mut at = 0;
            let mut put = |part: &[u8]| {
                bytes[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            };
            put(&[kind]);
            for part in parts {
                put(&(part.len() as u64).to_le_bytes());
                put(part);
            }
            return xxh3_64_with_seed(&bytes[..length], self.0);
        }
        self.hash_by_part(kind, parts)
    }

    /// The same of any length.
    fn hash_by_part(self, kind: u8, parts: &[&[u8]]) -> u64 {
        let mut state = Xxh3::with_seed(self.0);
        state.update(&[kind]);
        for part in parts {
            // The length first, so that ("ab", "c") and ("a", "bc") differ.
            state.update(&(part.len() as u64).to_le_bytes());
            state.update(part);
        }
        state.digest()
    }

    pub fn program(self, program: &Program) -> u64 {
        let script = program.script.as_deref().unwrap_or("");
        self.hash(0, &[program.path.as_bytes(), script.as_bytes()])
    }

    /// A (parent, child) pair of programs, in that order.
    pub fn child(self, parent: &Program, child: &Program) -> u64 {
        let (parent, child) = (self.program(parent), self.program(child));
        self.hash(1, &[&parent.to_le_bytes(), &child.to_le_bytes()])
    }

    pub fn address(self, address: IpAddr) -> u64 {
        match address {
            IpAddr::V4(v4) => self.hash(2, &[&v4.octets()]),
            IpAddr::V6(v6) => self.hash(2, &[&v6.octets()]),
        }
    }

    /// The /24 (IPv4) or /64 (IPv6) that holds the address.
    pub fn prefix(self, address: IpAddr) -> u64 {
        match address {
            IpAddr::V4(v4) => self.hash(3, &[&v4.octets()[..3]]),
            IpAddr::V6(v6) => self.hash(3, &[&v6.octets()[..8]]),
        }
    }

    /// A port as it is; see [`known_port`] for first-seen sets.
    pub fn port(self, protocol: Protocol, port: u16) -> u64 {
        self.hash(4, &[&[protocol.number()], &port.to_le_bytes()])
    }

    pub fn path(self, path: &str) -> u64 {
        self.hash(5, &[path.as_bytes()])
    }

    /// The path's first two components, see [`path_prefix`].
    pub fn path_prefix(self, path: &str) -> u64 {
        self.hash(6, &[path_prefix(path).as_bytes()])
    }

    pub fn privilege(self, program: &Program, uid_from: u32, uid_to: u32) -> u64 {
        let program = self.program(program);
        self.hash(7, &[&program.to_le_bytes(), &uid_from.to_le_bytes(), &uid_to.to_le_bytes()])
    }

    /// A deed of a program (its hash), and to, of or from what.
    pub fn deed(self, program: u64, deed: Deed, what: &str) -> u64 {
        self.hash(9, &[&program.to_le_bytes(), deed.row().name.as_bytes(), what.as_bytes()])
    }

    pub fn subject(self, subject: &Subject) -> u64 {
        let program = self.program(&subject.program);
        self.hash(10, &[subject.workload.as_str().as_bytes(), &program.to_le_bytes()])
    }

    pub fn workload(self, workload: &Workload) -> u64 {
        self.hash(11, &[workload.as_str().as_bytes()])
    }

    /// A thread (`tid` given) or process (`tid` 0) of this boot.
    pub fn task(self, tgid: u32, tid: u32, start_boot_ns: u64) -> u64 {
        self.hash(8, &[&tgid.to_le_bytes(), &tid.to_le_bytes(), &start_boot_ns.to_le_bytes()])
    }
}

/// The port under which first-seen sets remember it: ephemeral ports are all the same one.
pub fn known_port(port: u16) -> u16 {
    port.min(EPHEMERAL_PORT_FIRST)
}

/// The first two components of an absolute path (`/var/lib` of `/var/lib/x/y`); the directory
/// alone where the file lies in a top-level one (`/etc` of `/etc/passwd`). Numbered components
/// (`/proc/123`) become `#`, or each process would be a new prefix. Relative paths stand for
/// themselves up to the first slash.
pub fn path_prefix(path: &str) -> std::borrow::Cow<'_, str> {
    let Some(rest) = path.strip_prefix('/') else {
        return path.split('/').next().unwrap_or(path).into();
    };
    let mut parts = rest.split('/');
    let first = parts.next().unwrap_or("");
    let second = parts.next().unwrap_or("");
    // Only a second component with something below it is a directory.
    if parts.next().is_none() {
        return path[..=first.len()].into();
    }
    if !second.is_empty() && second.bytes().all(|byte| byte.is_ascii_digit()) {
        return format!("/{first}/#").into();
    }
    path[..first.len() + second.len() + 2].into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_prefix_is_two_directories_and_no_process_number() {
        assert_eq!(path_prefix("/var/lib/postgresql/x"), "/var/lib");
        assert_eq!(path_prefix("/etc/passwd"), "/etc");
        assert_eq!(path_prefix("/proc/1234/stat"), "/proc/#");
        assert_eq!(path_prefix("/proc/self/stat"), "/proc/self");
        assert_eq!(path_prefix("/"), "/");
        assert_eq!(path_prefix(""), "");
        assert_eq!(path_prefix("a/b/c"), "a");
        assert_eq!(path_prefix("//x"), "/");
    }

    #[test]
    fn items_have_one_hash_whatever_their_length() {
        let long = vec![b'a'; 600];
        for first in [0, 1, 9, 100, 230, 231, 232, 600] {
            for second in [0, 1, 130] {
                let parts: [&[u8]; 2] = [&long[..first], &long[..second]];
                let key = ItemKey(0x1234_5678_9abc_def0);
                for parts in [&parts[..1], &parts[..]] {
                    let (hash, by_part) = (key.hash(3, parts), key.hash_by_part(3, parts));
                    assert_eq!(hash, by_part, "{first} and {second} bytes");
                }
            }
        }
    }

    #[test]
    fn hashes_depend_on_key_kind_and_parts() {
        let (a, b) = (ItemKey(1), ItemKey(2));
        assert_ne!(a.path("/x"), b.path("/x"));
        assert_ne!(a.path("/etc"), a.path_prefix("/etc/x"));
        let (sh, pg) = (Program::new("/bin/sh"), Program::new("/usr/bin/postgres"));
        assert_ne!(a.child(&sh, &pg), a.child(&pg, &sh));
        let addresses: [IpAddr; 3] =
            ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(a.prefix(addresses[0]), a.prefix(addresses[1]));
        assert_ne!(a.address(addresses[0]), a.address(addresses[1]));
        assert_ne!(a.prefix(addresses[0]), a.prefix(addresses[2]));
        assert_eq!(known_port(443), 443);
        assert_eq!(known_port(40_000), known_port(50_000));
    }
}
