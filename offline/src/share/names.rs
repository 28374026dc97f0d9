//! Names of hosts, workloads, files and users, replaced by a key.

use std::net::IpAddr;

use hedgerow_detect::{SCRIPT_EXTENSIONS, has_trade, is_program_directory};
use hedgerow_event::{Subject, Workload};
use hedgerow_features::{is_place_directory, is_shell, place_of, process_file};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::addresses;

/// Hexadecimal digits of a replaced name: two of a million names are the same with a probability of
/// one in two million.
const DIGITS: usize = 15;
/// Users that have no number of a person or a service.
const ROOT: u32 = 0;
const NOBODY_SET: u32 = u32::MAX;

/// Replaces names by their keyed hashes (HMAC-SHA-256): the same by the same wherever the key is the
/// same, and what it was nobody knows without the key.
#[derive(Clone)]
pub struct Pseudonyms {
    key: [u8; 32],
}

impl std::fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pseudonyms")
    }
}

impl Pseudonyms {
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// The keyed hash of what is of a kind.
    pub(super) fn hash(&self, kind: &str, of: &[u8]) -> [u8; 32] {
        // HMAC takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else { return [0; 32] };
        mac.update(kind.as_bytes());
        mac.update(&[0]);
        mac.update(of);
        mac.finalize().into_bytes().into()
    }

    fn token(&self, kind: &str, of: &str) -> String {
        hex(&self.hash(kind, of.as_bytes()))[..DIGITS].to_owned()
    }

    pub fn host(&self, name: &str) -> String {
        format!("h{}", self.token("host", name))
    }

    /// `host` and logins are kinds of workload, and stay; whose login it is doesn't.
    pub fn workload(&self, name: &str) -> String {
        let workload = Workload::new(name);
        if workload == Workload::host() {
            return name.to_owned();
        }
        let login = Workload::login(ROOT);
        let before = login.as_str().trim_end_matches('0');
        match name.strip_prefix(before).and_then(|user| user.parse().ok()) {
            Some(user) => Workload::login(self.user(user)).as_str().to_owned(),
            None => format!("w{}", self.token("workload", name)),
        }
    }

    /// Root, and that nobody logged in, stay.
    pub fn user(&self, user: u32) -> u32 {
        if [ROOT, NOBODY_SET].contains(&user) {
            return user;
        }
        let [a, b, c, d, ..] = self.hash("user", &user.to_le_bytes());
        // Beyond what hosts give away, and no negative number.
        u32::from_le_bytes([a, b, c, d]) >> 1 | 1 << 30
    }

    pub fn address(&self, address: &str) -> String {
        match address.parse::<IpAddr>() {
            Ok(address) => addresses::replaced(self, address).to_string(),
            // What is no address names nothing that a reader would take for one.
            Err(_) => self.token("address", address),
        }
    }

    /// Digests of packages' files are known to everybody.
    pub fn digest(&self, digest: &str) -> String {
        hex(&self.hash("digest", digest.as_bytes()))
    }

    /// A path, directory by directory. What the rule knows by name stays: programs that are
    /// excused for their trade, shells, places that an intruder wants and the directories above
    /// them; whatever is behind their names is replaced.
    pub fn path(&self, path: &str) -> String {
        if is_own(path) || has_trade(path) {
            return path.to_owned();
        }
        if let Some((process, file)) = process_file(path) {
            let known = place_of(path).is_some();
            let file = if known { file.to_owned() } else { self.parts(file) };
            return format!("/proc/{process}/{file}");
        }
        let Some(place) = place_of(path) else { return self.parts(path) };
        let name = place.name.trim_end_matches('*');
        let Some(at) = path.find(name) else { return self.parts(path) };
        let (before, behind) = (&path[..at], &path[at + name.len()..]);
        let behind = match behind.is_empty() {
            true => String::new(),
            false => self.parts(behind),
        };
        format!("{}{name}{behind}", self.parts(before))
    }

    fn parts(&self, path: &str) -> String {
        let parts: Vec<String> = path.split('/').map(|part| self.part(part)).collect();
        parts.join("/")
    }

    /// One name of a path. Numbers and hexadecimal names, of which the rule takes all for one, stay
    /// what they are: numbers themselves, the others hexadecimal.
    fn part(&self, part: &str) -> String {
        let all = |is: fn(&u8) -> bool| part.bytes().all(|byte| is(&byte));
        if matches!(part, "" | "." | ".." | "...") || all(u8::is_ascii_digit) {
            return part.to_owned();
        }
        // One of many directories, or a program that anybody has.
        if is_shell(part) || is_place_directory(part) || is_program_directory(part) {
            return part.to_owned();
        }
        let token = self.token("name", part);
        if all(u8::is_ascii_hexdigit) {
            return format!("a{token}");
        }
        let extension = part.rsplit_once('.').map(|(_, extension)| extension);
        match extension.filter(|extension| SCRIPT_EXTENSIONS.contains(extension)) {
            Some(extension) => format!("n{token}.{extension}"),
            None => format!("n{token}"),
        }
    }
}

/// A name of our own, for what has none.
fn is_own(name: &str) -> bool {
    [Subject::OTHER, Subject::KERNEL, "memfd"].contains(&name)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
