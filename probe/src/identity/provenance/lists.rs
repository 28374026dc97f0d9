//! Packages of the archives that this host is set up to use: apt's lists, as far as a signed
//! release covers them. apt has checked the signature when it fetched them (but of a source that
//! is marked `trusted=yes`), so that here it is only asked whether there is one, and whether the
//! list's content is the one that was signed.

use std::{
    cmp::Ordering,
    fs::File,
    hash::BuildHasher,
    io::{self, BufRead, BufReader, Read},
};

use lz4_flex::frame::FrameDecoder;
use sha2::Digest as _;

use hedgerow_event::version;

use super::believed::{Directory, Stamp, now_ns};

/// Files below `/var/lib/apt/lists`.
const NAMES_MAX: usize = 4096;
/// Bytes of a release, and of a list that isn't compressed.
const RELEASE_BYTES_MAX: u64 = 32 << 20;
const LIST_BYTES_MAX: u64 = 1 << 30;
/// Packages of all lists together, and bytes of their version numbers.
const PACKAGES_MAX: usize = 1 << 20;
const VERSIONS_BYTES_MAX: usize = 64 << 20;
const LINE_BYTES_MAX: u64 = 1 << 20;

/// A package in a list, by the hash of its name and architecture.
#[derive(Debug, Clone, Copy)]
struct Listed {
    package: u64,
    start: u32,
    size: u32,
}

/// What the signed lists hold.
#[derive(Debug, Default)]
pub struct Lists {
    listed: Vec<Listed>,
    versions: String,
    /// A list is there.
    any: bool,
    /// A list could not be read, or not all of it: what it holds is not known.
    partly: bool,
    /// Of the directory; `None`, too, where it tells nothing: it had just changed.
    pub stamp: Option<Stamp>,
}

impl Lists {
    /// Reads the lists of a directory.
    pub fn read(directory: &Directory, hasher: &impl BuildHasher) -> Self {
        let now = now_ns();
        let stamp = directory.stamp().filter(|stamp| stamp.is_settled(now));
        let mut lists = Self { stamp, ..Self::default() };
        let Ok(names) = directory.names(NAMES_MAX) else {
            lists.partly = true;
            return lists;
        };
        let releases = releases(directory, &names);
        for name in &names {
            let Some((stem, form)) = list(name) else { continue };
            lists.any = true;
            let signed = releases.iter().find_map(|release| release.digest_of(stem));
            // What no signed release names is in no signed list.
            let Some(signed) = signed else { continue };
            let before = (lists.listed.len(), lists.versions.len());
            let content = directory.open(name).and_then(|file| lists.add(file, form, hasher));
            let differs = content.as_ref().is_ok_and(|digest| *digest != signed);
            if differs || content.is_err() {
                lists.listed.truncate(before.0);
                lists.versions.truncate(before.1);
                lists.partly |= content.is_err();
            }
        }
        lists.listed.sort_unstable_by_key(|listed| listed.package);
        lists.listed.shrink_to_fit();
        lists.versions.shrink_to_fit();
        lists
    }

    /// Packages that are listed.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.listed.len()
    }

    /// Whether a package may have come from a signed list. Of a host without lists this is not
    /// known of any, and so all may have. A list has only the newest version of a package: one
    /// that is older than the listed one has been in the list.
    pub fn may_hold(
        &self,
        hasher: &impl BuildHasher,
        name: &str,
        architecture: &str,
        installed: &str,
    ) -> bool {
        if !self.any || self.partly {
            return true;
        }
        let package = hasher.hash_one((name, architecture));
        let first = self.listed.partition_point(|listed| listed.package < package);
        let same = self.listed[first..].iter().take_while(|listed| listed.package == package);
        let mut versions = same.filter_map(|listed| {
            let start = usize::try_from(listed.start).ok()?;
            self.versions.get(start..start + usize::try_from(listed.size).ok()?)
        });
        versions.any(|listed| version::compare(installed, listed) != Ordering::Greater)
    }

    /// Adds what a list holds; the digest of its uncompressed content.
    fn add(&mut self, file: File, form: Form, hasher: &impl BuildHasher) -> io::Result<[u8; 32]> {
        let reader: Box<dyn Read> = match form {
            Form::Plain => Box::new(file),
            Form::Lz4 => Box::new(FrameDecoder::new(file)),
            Form::Other => return Err(io::ErrorKind::Unsupported.into()),
        };
        let hashed = Hashed { inner: reader.take(LIST_BYTES_MAX), sha: sha2::Sha256::new() };
        let mut reader = BufReader::with_capacity(256 << 10, hashed);
        let [mut name, mut version, mut architecture] = [const { String::new() }; 3];
        let mut line = Vec::new();
        loop {
            line.clear();
            let size = (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
            let text = line.trim_ascii_end();
            if let Some(value) = text.strip_prefix(b"Package: ") {
                name = String::from_utf8_lossy(value).into_owned();
            } else if let Some(value) = text.strip_prefix(b"Version: ") {
                version = String::from_utf8_lossy(value).into_owned();
            } else if let Some(value) = text.strip_prefix(b"Architecture: ") {
                architecture = String::from_utf8_lossy(value).into_owned();
            } else if text.is_empty() && !name.is_empty() {
                self.push(hasher.hash_one((name.as_str(), architecture.as_str())), &version)?;
                name.clear();
            }
            if size == 0 {
                break;
            }
        }
        let hashed = reader.into_inner();
        if hashed.inner.limit() == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(hashed.sha.finalize().into())
    }

    fn push(&mut self, package: u64, version: &str) -> io::Result<()> {
        let full = self.listed.len() >= PACKAGES_MAX
            || self.versions.len() + version.len() > VERSIONS_BYTES_MAX;
        let (Ok(start), Ok(size)) = (self.versions.len().try_into(), version.len().try_into())
        else {
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        if full {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.versions.push_str(version);
        self.listed.push(Listed { package, start, size });
        Ok(())
    }
}

/// Hashes what is read through it.
struct Hashed<R> {
    inner: R,
    sha: sha2::Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.inner.read(buffer)?;
        self.sha.update(&buffer[..size]);
        Ok(size)
    }
}

/// How a list is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Lz4,
    /// gz, xz, zst and whatever else apt may be set up to keep.
    Other,
}

/// The stem and form of a file that is a list of packages.
fn list(name: &str) -> Option<(&str, Form)> {
    let (start, rest) = name.rsplit_once("Packages")?;
    let form = match rest {
        "" => Form::Plain,
        ".lz4" => Form::Lz4,
        _ if rest.starts_with('.') && !rest[1..].contains(['.', '_']) => Form::Other,
        _ => return None,
    };
    Some((&name[..start.len() + "Packages".len()], form))
}

/// What a signed release says of the lists of its archive.
struct Release {
    /// Names of its lists begin with it.
    prefix: String,
    text: String,
}

impl Release {
    /// The digest of a list, by the stem of its file's name.
    fn digest_of(&self, stem: &str) -> Option<[u8; 32]> {
        let wanted = stem.strip_prefix(self.prefix.as_str())?;
        let lines = self.text.lines().skip_while(|line| *line != "SHA256:").skip(1);
        let mut own = lines.take_while(|line| line.starts_with(' '));
        own.find_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let (digest, _size, path) = (words.next()?, words.next()?, words.next()?);
            // As apt names the file of an address.
            (path.replace('/', "_") == wanted).then(|| hex(digest)).flatten()
        })
    }
}

fn hex(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(0..) {
        *byte = u8::from_str_radix(&text[2 * pair..2 * pair + 2], 16).ok()?;
    }
    Some(digest)
}

/// Releases that are signed, in themselves or beside.
fn releases(directory: &Directory, names: &[String]) -> Vec<Release> {
    let read = |name: &str| {
        let bytes = directory.read(name, RELEASE_BYTES_MAX).ok()?;
        String::from_utf8(bytes).ok()
    };
    let found = names.iter().filter_map(|name| {
        if let Some(prefix) = name.strip_suffix("InRelease") {
            let text = read(name)?;
            let signed = text.strip_prefix("-----BEGIN PGP SIGNED MESSAGE-----\n")?;
            let (signed, _) = signed.split_once("\n-----BEGIN PGP SIGNATURE-----")?;
            return Some(Release { prefix: prefix.into(), text: signed.into() });
        }
        let prefix = name.strip_suffix("Release")?;
        let signature = format!("{name}.gpg");
        names.contains(&signature).then_some(())?;
        Some(Release { prefix: prefix.into(), text: read(name)? })
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fs, hash::RandomState, io::Write, path::Path};

    use super::*;

    const PACKAGES: &str = "Package: a\nArchitecture: amd64\nVersion: 2-1\nDescription: x\n\n\
                            Package: b\nVersion: 1:3\nArchitecture: all\n";

    fn read(path: &Path) -> (Lists, RandomState) {
        // SAFETY: takes and returns plain numbers.
        let owner = unsafe { libc::geteuid() };
        let (directory, hasher) = (Directory::root(path, owner).unwrap(), RandomState::new());
        (Lists::read(&directory, &hasher), hasher)
    }

    fn release(of: &str) -> String {
        let digest = sha2::Sha256::digest(of);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: x\nSHA256:\n \
             {hex} {} main/binary-amd64/Packages\n-----BEGIN PGP SIGNATURE-----\n",
            of.len()
        )
    }

    fn lz4(text: &str) -> Vec<u8> {
        let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_package_is_in_a_signed_list_by_name_architecture_and_version() {
        for compressed in [false, true] {
            let place = tempfile::tempdir().unwrap();
            let put = |name: &str, content: &[u8]| {
                fs::write(place.path().join(name), content).unwrap();
            };
            put("h_dists_x_InRelease", release(PACKAGES).as_bytes());
            if compressed {
                put("h_dists_x_main_binary-amd64_Packages.lz4", &lz4(PACKAGES));
            } else {
                put("h_dists_x_main_binary-amd64_Packages", PACKAGES.as_bytes());
            }
            let (lists, hasher) = read(place.path());
            assert_eq!(lists.len(), 2);
            let holds =
                |name, architecture, version| lists.may_hold(&hasher, name, architecture, version);
            assert!(holds("a", "amd64", "2-1") && holds("b", "all", "1:3"));
            assert!(holds("a", "amd64", "1-9"), "it was upgraded in the list since");
            assert!(!holds("a", "amd64", "2-1+local") && !holds("a", "i386", "2-1"));
            assert!(!holds("c", "amd64", "1"));
        }
    }

    #[test]
    fn a_list_that_no_signed_release_covers_holds_nothing() {
        let place = tempfile::tempdir().unwrap();
        let put = |name: &str, content: &str| {
            fs::write(place.path().join(name), content).unwrap();
        };
        let holds = || {
            let (lists, hasher) = read(place.path());
            lists.may_hold(&hasher, "a", "amd64", "2-1")
        };
        assert!(holds(), "a host without lists");
        put("h_dists_x_main_binary-amd64_Packages", PACKAGES);
        assert!(!holds(), "no release");
        put("h_dists_x_InRelease", &release("other"));
        assert!(!holds(), "other content was signed");
        put("h_dists_x_InRelease", release(PACKAGES).trim_start_matches('-'));
        assert!(!holds(), "the release is not signed");
        put("h_dists_x_InRelease", &release(PACKAGES));
        assert!(holds());
        put("g_dists_x_InRelease", &release(PACKAGES));
        put("g_dists_x_main_binary-amd64_Packages.xz", "?");
        let (lists, hasher) = read(place.path());
        assert!(lists.may_hold(&hasher, "c", "amd64", "1"), "what is not read may hold it");
    }
}
